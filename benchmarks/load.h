/* What the parts of a load share: its clients, what they have seen so far, and the loop that turns. */

#ifndef LOAD_H
#define LOAD_H

#include "client.h"
#include "options.h"

#define SECOND 1000000000ull

extern struct options options;
extern struct client *clients;
extern uint32_t opened, settled; /* clients begun; clients ready or failed */

/* Publications begun; those that have come to all, or were acknowledged; how many there may be. */
extern uint64_t published, completed, limit;
extern bool publishing;          /* whether an acknowledgement brings forth another publication */
extern struct latencies latencies;
extern bool measured;            /* whether latencies are noted */

uint64_t now(void);

/* One turn of the loop; false once nothing can come of the run any more. */
bool turn(int wait_ms);

/* Announce a phase, and wait for leave to begin it. */
void mark(const char *name);

/* Publish a client's next message, which should have left when it was `due`. */
void publish(struct client *client, uint64_t due);

/* Publish for some seconds or up to a number of publications in all, then until all has come. */
bool flow(double seconds, uint64_t count);

/* Publish at a rate until `end`, or until `offer`, which is asked in each turn, says that it is done. */
bool flow_rate(uint64_t end, bool (*offer)(void));

/* Wait until nothing is on its way, or patience ends. */
bool drain(void);

/* What `churn` does with a client that is ready; `storm` and `churn` are whole phases. */
void churn_ready(struct client *client);
bool churn(void);
bool storm(double *quiet_p99_ms, double *seconds);

/* How many publications of client 0 may be on their way; a power of two. */
#define RING 65536

#endif
