/* A load of clients on one thread, that counts what is lost, repeated or out of order.
 *
 * fanout  client 0 publishes to a room of all; at most W publications are not yet delivered to all
 * rate    client 0 publishes R a second to a room of all, whatever comes back
 * echo    each client publishes to its room; at most W of its publications are not yet acknowledged
 * storm   the first clients live as with rate, first alone, then while all others connect at once
 * idle    clients are there and say nothing
 * connect clients connect, nothing more
 * churn   clients connect and leave again, in each of the ways there are
 *
 * Each message's text begins with "publisher.number.", by which receivers judge what they get. With --marks each
 * phase is announced as a line on stdout and begins when a line comes on stdin, so that the caller can read the
 * server's clocks between two phases, when nothing is on its way. The last line of stdout is a JSON object. The exit
 * status is 0 when all was well, 1 when anything was lost, repeated, disordered, refused, cut or late, 2 for wrong use.
 */

#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char *const fault_names[] = {"refused", "cut", "garbled"};

struct target target;

struct options options;
struct client *clients;
uint32_t opened, settled;
bool publishing, measured;
uint64_t published, completed, limit;
struct latencies latencies;

static uint64_t deadline, last_event;
static uint32_t receivers;       /* of what client 0 publishes */

/* Publications of client 0, by number modulo RING. */
static struct { uint64_t due; uint32_t delivered; } ring[RING];

/* When each client's acknowledgements in waiting were asked for: options.window cells for each. */
static uint64_t *asked;

static uint64_t deliveries, repeated, disordered, misdirected, faults[FAULTS];
static bool late;
static char first_fault[200];

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static double cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void on_fault(struct client *client, enum fault kind, const char *detail, size_t size) {
    faults[kind]++;
    if (first_fault[0] == 0) {
        int head = snprintf(first_fault, sizeof first_fault, "client %u in stage %d: ", client->index, client->stage);
        for (size_t i = 0, at = (size_t)head; i < size && at + 1 < sizeof first_fault; i++, at++)
            first_fault[at] = detail[i] < ' ' || detail[i] > '~' || strchr("\"\\", detail[i]) ? '\'' : detail[i];
    }
    if (client->stage != READY) settled++;
}

void on_ready(struct client *client) {
    settled++;
    if (options.scenario == CHURN) churn_ready(client);
}

void publish(struct client *client, uint64_t due) {
    char text[MAX_TEXT + 40];
    int mark = snprintf(text, sizeof text, "%u.%llu.", client->index, (unsigned long long)client->sent);
    memset(text + mark, 'x', sizeof text - (size_t)mark);
    if (options.scenario == ECHO) {
        asked[(size_t)client->index * options.window + client->last_ack % options.window] = due;
    } else {
        ring[published % RING].delivered = 0;
        ring[published % RING].due = due;
    }
    client->sent++;
    published++;
    client_publish(client, text, options.text);
}

void on_message(struct client *client, uint32_t publisher, uint64_t number) {
    if (options.scenario == ECHO ? publisher != client->index : publisher != 0 || number >= published) {
        misdirected++;
        return;
    }
    enum arrival arrival = order_note(&client->order, number);
    deliveries++;
    if (arrival == REPEATED) {
        repeated++;
        return;
    }
    client->received++;
    if (arrival == DISORDERED) disordered++;
    if (options.scenario == ECHO) {
        /* where nothing is acknowledged, the message itself says that it went round */
        if (!client_acknowledges(client)) on_acknowledged(client, (uint32_t)number);
        return;
    }
    if (measured) latencies_note(&latencies, now() - ring[number % RING].due);
    if (++ring[number % RING].delivered == receivers) completed++;
}

void on_acknowledged(struct client *client, uint32_t ack) {
    if (options.scenario != ECHO) return;
    if (measured) latencies_note(&latencies, now() - asked[(size_t)client->index * options.window + ack % options.window]);
    completed++;
    if (publishing && published < limit) publish(client, now());
}

static bool overdue(void) {
    if (now() < deadline) return false;
    late = true;
    return true;
}

bool turn(int wait_ms) {
    struct epoll_event events[1024];
    int n = epoll_wait(target.epoll, events, 1024, wait_ms);
    if (n > 0) last_event = now();
    for (int i = 0; i < n; i++)
        /* NULL stands for the timer of `rate`, which only has to wake the loop. */
        if (events[i].data.ptr != NULL) client_turn(events[i].data.ptr, events[i].events);
    return faults[REFUSED] + faults[CUT] + faults[GARBLED] == 0 && !overdue();
}

static bool listen_for(double seconds) {
    uint64_t end = now() + (uint64_t)(seconds * 1e9);
    bool well = true;
    while (well && now() < end) well = turn(10);
    return well;
}

void mark(const char *name) {
    char line[16];
    if (!options.marks) return;
    printf("%s\n", name);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL) exit(2);
}

static bool connect_up_to(uint32_t count) {
    bool well = true;
    while (well && settled < count) {
        while (opened < count && opened - settled < options.in_flight) client_open(&clients[opened++]);
        well = turn(100);
    }
    return well;
}

/* Members are told of one another; what is still on its way of that is no part of the next phase. With thousands of
 * connections their pings keep it from ever being quiet. */
static bool settle(void) {
    uint64_t begun = now();
    bool well = true;
    last_event = begun;
    while (well && now() - last_event < SECOND * 3 / 10 && now() - begun < 3 * SECOND) well = turn(20);
    return well;
}

/* How many messages a client should have received. */
static uint64_t due_to(const struct client *client) {
    if (options.scenario == ECHO) return client->sent;
    return client->index < receivers ? published : 0;
}

static bool all_received(void) {
    for (uint32_t i = 0; i < options.connections; i++)
        if (clients[i].received < due_to(&clients[i])) return false;
    return true;
}

static bool all_acknowledged(void) {
    for (uint32_t i = 0; i < options.connections; i++)
        if (clients[i].acknowledged < clients[i].sent) return false;
    return true;
}

bool drain(void) {
    uint64_t seen = 0, since = now();
    publishing = false;
    while (!all_acknowledged() || !all_received()) {
        if (!turn(20)) return false;
        if (deliveries + completed != seen) seen = deliveries + completed, since = now();
        if (now() - since > (uint64_t)(options.patience * 1e9)) return false;
    }
    return true;
}

struct figures {
    uint64_t publications, deliveries;
    double seconds, busy;
    double quiet_p99_ms;       /* of the live clients, before the storm */
};

static bool measure(struct figures *figures) {
    if (!flow(options.warm, UINT64_MAX)) return false;
    mark("measure");
    uint64_t begun = now(), before[2] = {published, deliveries};
    double used = cpu();
    measured = true;
    bool well = flow(options.seconds, options.count);
    measured = false;
    figures->publications = published - before[0];
    figures->deliveries = deliveries - before[1];
    figures->seconds = (double)(now() - begun) / 1e9;
    figures->busy = (cpu() - used) / figures->seconds;
    if (well) mark("measured");
    /* A repeat may follow long after the first. */
    return well && listen_for(0.2);
}

static uint64_t lost(void) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < options.connections; i++) {
        uint64_t due = due_to(&clients[i]);
        if (due > clients[i].received) sum += due - clients[i].received;
    }
    return sum;
}

static int report(bool well, const struct figures *figures) {
    uint64_t gone = lost();
    uint32_t ready = 0;
    bool clean = well && gone + repeated + disordered + misdirected == 0;
    for (uint32_t i = 0; i < options.connections; i++) ready += clients[i].stage == READY;
    printf("{\"scenario\": \"%s\", \"clean\": %s, \"connections\": %u, \"text\": %u, \"publications\": %llu, "
           "\"deliveries\": %llu, \"seconds\": %.6f, \"busy\": %.3f, \"quiet_p99_ms\": %.3f, ",
           scenario_names[options.scenario], clean ? "true" : "false", ready, options.text,
           (unsigned long long)figures->publications, (unsigned long long)figures->deliveries, figures->seconds,
           figures->busy, figures->quiet_p99_ms);
    printf("\"lost\": %llu, \"repeated\": %llu, \"disordered\": %llu, \"misdirected\": %llu, \"late\": %s, ",
           (unsigned long long)gone, (unsigned long long)repeated, (unsigned long long)disordered,
           (unsigned long long)misdirected, late ? "true" : "false");
    for (int i = 0; i < FAULTS; i++) printf("\"%s\": %llu, ", fault_names[i], (unsigned long long)faults[i]);
    printf("\"fault\": \"%s\", \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n", first_fault,
           (double)latencies_share(&latencies, 0.5) / 1e6, (double)latencies_share(&latencies, 0.99) / 1e6,
           (double)latencies.max / 1e6);
    return clean ? 0 : 1;
}

static bool run_storm(struct figures *figures) {
    if (!connect_up_to(options.first) || !settle()) return false;
    mark("connect");
    if (!storm(&figures->quiet_p99_ms, &figures->seconds) || !settle()) return false;
    figures->publications = published;
    figures->deliveries = deliveries;
    mark("connected");
    return listen_for(0.2);
}

static bool run(struct figures *figures) {
    if (options.scenario == STORM) return run_storm(figures);
    if (options.scenario == CHURN) {
        figures->publications = options.count;
        return churn();
    }
    if (!connect_up_to(options.first) || !settle()) return false;
    mark("connect");
    uint64_t begun = now();
    double used = cpu();
    if (!connect_up_to(options.connections)) return false;
    figures->seconds = (double)(now() - begun) / 1e9;
    figures->busy = (cpu() - used) / figures->seconds;
    if (!settle()) return false;
    mark("connected");
    if (options.scenario == CONNECT) return true;
    if (options.scenario != IDLE) return measure(figures);
    bool well = listen_for(options.seconds);
    mark("held");
    return well;
}

static void allow_descriptors(void) {
    struct rlimit files;
    rlim_t wanted = options.connections + 64;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur >= wanted) return;
    files.rlim_cur = wanted;
    if (files.rlim_max < wanted) files.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
        fprintf(stderr, "load: %u connections need as many open files: %s\n", options.connections, strerror(errno));
        exit(2);
    }
}

int main(int argc, char **argv) {
    struct figures figures = {0};
    options = read_options(argc, argv);
    allow_descriptors();
    target = (struct target){.epoll = epoll_create1(EPOLL_CLOEXEC), .port = options.port,
                             .publisher_port = options.publisher_port, .path = options.path, .room = options.room,
                             .connections = options.connections, .rooms = options.rooms};
    const char **tokens = read_tokens(options.tokens, options.connections);
    clients = calloc(options.connections, sizeof *clients);
    asked = calloc(options.scenario == ECHO ? (size_t)options.connections * options.window : 1, sizeof *asked);
    if (target.epoll < 0 || clients == NULL || asked == NULL) {
        perror("load");
        return 2;
    }
    receivers = options.scenario == STORM ? options.first : options.connections;
    for (uint32_t i = 0; i < options.connections; i++) {
        bool live = options.scenario == STORM && i < options.first;
        clients[i].index = i;
        clients[i].token = tokens[i];
        clients[i].room = live ? 0 : i / options.room_size + (options.scenario == STORM);
        clients[i].protocol = options.protocol == MIX ? (enum protocol)(i % MIX) : options.protocol;
    }
    if (client_acknowledges(&clients[0])) clients[0].protocol = SOCKETIO;
    deadline = now() + (uint64_t)(options.deadline * 1e9);
    return report(run(&figures), &figures);
}
