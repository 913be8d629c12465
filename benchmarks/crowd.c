/* Crowds of clients: thousands that connect at once, and such as come and go. */

#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>

/* Rooms that a churn's clients join, in turns. */
#define CHURN_ROOMS 1000
/* Cycles from one source address: a port is not free again at once. */
#define CYCLES_PER_SOURCE 10000
#define FIRST_SOURCE 0x7f000101u

static uint64_t begun;

/* Offer the connections that are due by now; true once all are in. */
static bool offer(void) {
    uint64_t passed = now() - begun;
    double due = options.first + (double)passed / 1e9 * options.offered;
    while (opened < options.connections && opened < due) client_open(&clients[opened++]);
    return settled == options.connections;
}

bool storm(double *quiet_p99_ms, double *seconds) {
    limit = UINT64_MAX;
    if (!flow_rate(now() + (uint64_t)(options.warm * 1e9), NULL) || !drain()) return false;
    measured = true;
    if (!flow_rate(now() + (uint64_t)(options.seconds * 1e9), NULL) || !drain()) return false;
    *quiet_p99_ms = (double)latencies_share(&latencies, 0.99) / 1e6;
    memset(&latencies, 0, sizeof latencies);
    begun = now();
    if (!flow_rate(UINT64_MAX, offer)) return false;
    *seconds = (double)(now() - begun) / 1e9;
    bool well = drain();
    measured = false;
    return well && settled == options.connections;
}

static struct client **absent;   /* those that may come again */
static uint32_t absent_count;
static uint64_t started, ended;

/* Let a client come as another user in another room, and leave in another way than the one before. */
static void begin_cycle(void) {
    struct client *client = absent[--absent_count];
    struct client fresh = {.index = client->index, .token = client->token, .protocol = client->protocol};
    *client = fresh;
    client->token = clients[started % options.connections].token;
    client->room = (uint32_t)(started % CHURN_ROOMS);
    client->source = FIRST_SOURCE + (uint32_t)(started / CYCLES_PER_SOURCE << 8);
    client->hasty = started % 8 == 0;
    client->sent = started;
    started++;
    client_open(client);
}

void churn_ready(struct client *client) {
    client_leave(client, (enum leave)(client->sent / 2 % LEAVES));
    absent[absent_count++] = client;
    ended++;
}

bool churn(void) {
    uint64_t noted = 0;
    absent = calloc(options.connections, sizeof *absent);
    if (absent == NULL) abort();
    for (uint32_t i = 0; i < options.connections; i++) absent[absent_count++] = &clients[i];
    begun = now();
    mark("churn");
    while (ended < options.count) {
        double due = (double)(now() - begun) / 1e9 * options.offered;
        while (started < options.count && absent_count > 0 && started - ended < options.in_flight && started < due)
            begin_cycle();
        if (!turn(5)) return false;
        if (ended - noted >= options.step) noted += options.step, mark("cycled");
    }
    mark("churned");
    return true;
}
