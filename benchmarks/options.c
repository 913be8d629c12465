#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOKEN 7900

const char *const scenario_names[] = {"fanout", "rate", "storm", "echo", "idle", "connect", "churn"};

static const char *const protocol_names[] = {"socketio", "plain", "wamp", "cbor", "msgpack", "mix", "bare",
                                             "nats"};

enum name { NAME_SCENARIO = 1, NAME_PROTOCOL, PORT, PUBLISHER_PORT, PATH, ROOM, TOKENS, CONNECTIONS, FIRST, IN_FLIGHT,
            ROOM_SIZE, ROOMS, OFFERED, STEP, TEXT, WINDOW, NAME_RATE, WARM, SECONDS, DEADLINE, PATIENCE, COUNT, MARKS };

static const struct option names[] = {
    {"scenario", required_argument, NULL, NAME_SCENARIO},
    {"protocol", required_argument, NULL, NAME_PROTOCOL},
    {"port", required_argument, NULL, PORT},
    {"publisher-port", required_argument, NULL, PUBLISHER_PORT},
    {"path", required_argument, NULL, PATH},
    {"room", required_argument, NULL, ROOM},
    {"tokens", required_argument, NULL, TOKENS},
    {"connections", required_argument, NULL, CONNECTIONS},
    {"first", required_argument, NULL, FIRST},
    {"in-flight", required_argument, NULL, IN_FLIGHT},
    {"room-size", required_argument, NULL, ROOM_SIZE},
    {"rooms", required_argument, NULL, ROOMS},
    {"offered", required_argument, NULL, OFFERED},
    {"step", required_argument, NULL, STEP},
    {"text", required_argument, NULL, TEXT},
    {"window", required_argument, NULL, WINDOW},
    {"rate", required_argument, NULL, NAME_RATE},
    {"warm", required_argument, NULL, WARM},
    {"seconds", required_argument, NULL, SECONDS},
    {"deadline", required_argument, NULL, DEADLINE},
    {"patience", required_argument, NULL, PATIENCE},
    {"count", required_argument, NULL, COUNT},
    {"marks", no_argument, NULL, MARKS},
    {0},
};

static void refuse(const char *what, const char *why) {
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(2);
}

static double number(const char *name, double least, double most) {
    char *end;
    char why[80];
    double value = strtod(optarg, &end);
    if (end == optarg || *end != 0 || !(value >= least && value <= most)) {
        snprintf(why, sizeof why, "takes a number from %g to %g", least, most);
        refuse(name, why);
    }
    return value;
}

static enum scenario scenario(void) {
    for (int i = 0; i < SCENARIOS; i++)
        if (strcmp(optarg, scenario_names[i]) == 0) return (enum scenario)i;
    refuse("scenario", "is fanout, rate, storm, echo, idle, connect or churn");
    return SCENARIOS;
}

static enum protocol protocol(void) {
    for (int i = 0; i < PROTOCOLS; i++)
        if (strcmp(optarg, protocol_names[i]) == 0) return (enum protocol)i;
    refuse("protocol", "is socketio, plain, wamp, cbor, msgpack, mix, bare or nats");
    return PROTOCOLS;
}

static void take(struct options *options, enum name option, const char *name) {
    switch (option) {
    case NAME_SCENARIO: options->scenario = scenario(); break;
    case NAME_PROTOCOL: options->protocol = protocol(); break;
    case PATH: options->path = optarg; break;
    case ROOM: options->room = optarg; break;
    case TOKENS: options->tokens = optarg; break;
    case MARKS: options->marks = true; break;
    case PORT: options->port = (uint16_t)number(name, 1, 65535); break;
    case PUBLISHER_PORT: options->publisher_port = (uint16_t)number(name, 1, 65535); break;
    case CONNECTIONS: options->connections = (uint32_t)number(name, 1, MAX_CLIENTS); break;
    case FIRST: options->first = (uint32_t)number(name, 0, MAX_CLIENTS); break;
    case IN_FLIGHT: options->in_flight = (uint32_t)number(name, 1, 1000); break;
    case ROOM_SIZE: options->room_size = (uint32_t)number(name, 1, MAX_CLIENTS); break;
    case ROOMS: options->rooms = (uint32_t)number(name, 0, 1000000); break;
    case OFFERED: options->offered = number(name, 1, 1e6); break;
    case STEP: options->step = (uint32_t)number(name, 1, 1e9); break;
    case TEXT: options->text = (uint32_t)number(name, 32, MAX_TEXT); break;
    case WINDOW: options->window = (uint32_t)number(name, 1, 1000); break;
    case NAME_RATE: options->rate = number(name, 0.1, 100000); break;
    case WARM: options->warm = number(name, 0, 60); break;
    case SECONDS: options->seconds = number(name, 0, 3600); break;
    case DEADLINE: options->deadline = number(name, 1, 7200); break;
    case PATIENCE: options->patience = number(name, 0.1, 600); break;
    case COUNT: options->count = (uint64_t)number(name, 1, 1e9); break;
    }
}

struct options read_options(int argc, char **argv) {
    struct options options = {.scenario = SCENARIOS, .path = "/socket.io/", .room = "bench", .connections = 100, .in_flight = 32,
                              .text = 60, .window = 2, .rate = 10, .warm = 0.5, .seconds = 1, .deadline = 300,
                              .patience = 10, .count = UINT64_MAX, .offered = 10000, .step = 1000};
    int option, index = 0;
    while ((option = getopt_long(argc, argv, "", names, &index)) != -1) {
        if (option == '?') exit(2);
        take(&options, (enum name)option, names[index].name);
    }
    if (optind < argc) refuse(argv[optind], "is not an option");
    if (options.scenario == SCENARIOS) refuse("scenario", "is missing");
    if (options.port == 0) refuse("port", "is missing");
    if (options.publisher_port == 0) options.publisher_port = options.port;
    if (options.tokens == NULL) refuse("tokens", "is missing");
    if (strlen(options.path) > 200) refuse("path", "is too long");
    if (strlen(options.room) > 40) refuse("room", "is too long");
    if (options.first > options.connections) options.first = options.connections;
    if (options.scenario == STORM && options.first < 2) refuse("first", "a storm wants live clients");
    if (options.scenario <= RATE) options.room_size = options.connections;
    if (options.room_size == 0) options.room_size = 1;
    return options;
}

const char **read_tokens(const char *file, uint32_t count) {
    const char **tokens = calloc(count, sizeof *tokens);
    FILE *lines = fopen(file, "r");
    uint32_t read = 0;
    if (lines == NULL) refuse(file, strerror(errno));
    if (tokens == NULL) refuse("connections", "no memory for so many");
    while (read < count) {
        char *line = NULL;
        size_t room = 0;
        ssize_t size = getline(&line, &room, lines);
        if (size < 0) break;
        while (size > 0 && strchr("\r\n", line[size - 1])) line[--size] = 0;
        if (size == 0 || size > MAX_TOKEN) refuse(file, "a line is empty or too long for a token");
        tokens[read++] = line;
    }
    fclose(lines);
    if (read == 0) refuse(file, "holds no token");
    for (uint32_t i = read; i < count; i++) tokens[i] = tokens[i - read];
    return tokens;
}
