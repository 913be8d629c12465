/* What the load is told on its command line. */

#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "client.h"

#define MAX_CLIENTS 20000
#define MAX_TEXT 4096

enum scenario { FANOUT, RATE, STORM, ECHO, IDLE, CONNECT, CHURN, SCENARIOS };
extern const char *const scenario_names[];

struct options {
    enum scenario scenario;
    uint16_t port;
    uint16_t publisher_port;   /* of client 0, which publishes; the others' unless it is given */
    const char *path;
    const char *room;          /* what rooms are called, before their number */
    enum protocol protocol;    /* of all clients; but the service's first, which publishes, speaks Socket.IO */
    const char *tokens;        /* file with one token a line */
    uint32_t connections;
    uint32_t first;            /* how many of them connect before the measured ones; live ones in a storm */
    uint32_t in_flight;        /* how many may be connecting at a time */
    uint32_t room_size;
    uint32_t rooms;            /* others than those of the load, which the clients join in turns */
    double offered;            /* connections a second */
    uint32_t step;             /* cycles of a churn between two marks */
    uint32_t text;             /* bytes */
    uint32_t window;
    double rate;               /* publications a second */
    double warm, seconds, deadline;
    double patience;           /* seconds without any arrival after which what is missing is lost */
    uint64_t count;            /* publications */
    bool marks;
};

/* Exits with 2 and a line on stderr if they are wrong. */
struct options read_options(int argc, char **argv);

/* The lines of a file, `count` of them, repeated from its beginning where it has fewer. */
const char **read_tokens(const char *file, uint32_t count);

#endif
