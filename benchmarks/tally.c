#include "tally.h"

enum arrival order_note(struct order *order, uint64_t number) {
    if (number >= order->next) {
        uint64_t step = number - order->next + 1;
        order->seen = step >= 64 ? 1 : order->seen << step | 1;
        order->next = number + 1;
        return ARRIVED;
    }
    uint64_t behind = order->next - 1 - number;
    if (behind >= 64 || order->seen >> behind & 1) return REPEATED;
    order->seen |= (uint64_t)1 << behind;
    return DISORDERED;
}

static unsigned cell_of(uint64_t ns) {
    if (ns < LATENCY_STEPS) return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - LATENCY_STEP_BITS;
    return shift * LATENCY_STEPS + (unsigned)(ns >> shift);
}

static uint64_t end_of(unsigned cell) {
    if (cell < LATENCY_STEPS) return cell;
    unsigned shift = cell / LATENCY_STEPS - 1;
    uint64_t mantissa = cell - shift * LATENCY_STEPS;
    return ((mantissa + 1) << shift) - 1;
}

void latencies_note(struct latencies *latencies, uint64_t ns) {
    latencies->cells[cell_of(ns)]++;
    latencies->count++;
    if (ns > latencies->max) latencies->max = ns;
}

uint64_t latencies_share(const struct latencies *latencies, double share) {
    uint64_t wanted = (uint64_t)((double)latencies->count * share + 0.999999);
    uint64_t counted = 0;
    if (wanted == 0) wanted = 1;
    for (unsigned cell = 0; cell < LATENCY_CELLS; cell++) {
        counted += latencies->cells[cell];
        if (counted >= wanted && counted > 0) {
            uint64_t end = end_of(cell);
            return end < latencies->max ? end : latencies->max;
        }
    }
    return latencies->max;
}
