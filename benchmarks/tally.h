/* What was received: losses, repeats and order faults of one numbered stream; and latencies. */

#ifndef TALLY_H
#define TALLY_H

#include <stdint.h>

/* The newest number of a stream, and which of the 64 up to it have come. */
struct order {
    uint64_t next;
    uint64_t seen;
};

enum arrival { ARRIVED, REPEATED, DISORDERED };

/* Note that `number` (counted from 0) has come. A number that came too late is DISORDERED once, then
 * REPEATED; one more than 64 behind is taken for a repeat. */
enum arrival order_note(struct order *order, uint64_t number);

/* Cells per power of two; below it each nanosecond has its own. */
#define LATENCY_STEP_BITS 7
#define LATENCY_STEPS (1u << LATENCY_STEP_BITS)
#define LATENCY_CELLS (LATENCY_STEPS * (64 - LATENCY_STEP_BITS + 1))

/* Latencies in nanoseconds, kept in cells that are at most 1/128 of their value wide. */
struct latencies {
    uint64_t cells[LATENCY_CELLS];
    uint64_t count;
    uint64_t max;
};

void latencies_note(struct latencies *latencies, uint64_t ns);

/* The value, in nanoseconds, that `share` (0 to 1) of the latencies don't exceed; 0 if there are none. */
uint64_t latencies_share(const struct latencies *latencies, double share);

#endif
