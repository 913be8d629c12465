#define _GNU_SOURCE
#include "bare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void ready(struct client *client) {
    client->stage = READY;
    on_ready(client);
}

void bare_begin(struct client *client) {
    char hello[224];
    if (client->protocol == BARE) {
        ready(client);
        return;
    }
    int size = snprintf(hello, sizeof hello,
                        "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\nSUB %s-%u 1\r\nPING\r\n",
                        target.room, client->room);
    client->stage = JOINING;
    client_put(client, true, hello, (size_t)size);
}

void bare_publish(struct client *client, const char *text, size_t size) {
    char packet[8192];
    if (client->protocol == BARE) {
        client_put(client, false, text, size);
        return;
    }
    int head = snprintf(packet, sizeof packet, "PUB %s-%u %zu\r\n", target.room, client->room, size);
    memcpy(packet + head, text, size);
    memcpy(packet + head + size, "\r\n", 2);
    client_put(client, true, packet, (size_t)head + size + 2);
}

static bool begins(const char *line, size_t size, const char *with) {
    return size >= strlen(with) && memcmp(line, with, strlen(with)) == 0;
}

/* The bytes of what stands at the beginning of the stream; 0 if it is not whole. */
static size_t take(struct client *client, const char *at, size_t size) {
    const char *end = memmem(at, size, "\r\n", 2);
    if (end == NULL) return 0;
    size_t line = (size_t)(end - at) + 2;
    if (begins(at, line, "MSG ")) {
        const char *last = memrchr(at, ' ', line);
        size_t text = strtoul(last + 1, NULL, 10);
        if (size < line + text + 2) return 0;
        client_text(client, at + line, at + line, text);
        return line + text + 2;
    }
    if (begins(at, line, "PING")) {
        client_put(client, true, "PONG\r\n", 6);
    } else if (begins(at, line, "PONG") && client->stage == JOINING) {
        ready(client);
    } else if (begins(at, line, "-ERR")) {
        on_fault(client, REFUSED, at, line);
        client_close(client);
    }
    return line;
}

void bare_message(struct client *client, const char *payload, size_t size) {
    size_t used = 0, step = 1;
    if (client->protocol == BARE) {
        client_text(client, payload, payload, size);
        return;
    }
    if (client->part.size > 0) {
        bytes_add(&client->part, payload, size);
        payload = client->part.at, size = client->part.size;
    }
    while (step > 0 && used < size && client->stage != CLOSED) {
        step = take(client, payload + used, size - used);
        used += step;
    }
    if (client->stage == CLOSED) return;
    if (used == size) {
        bytes_drop(&client->part);
    } else if (payload == client->part.at) {
        memmove(client->part.at, client->part.at + used, size - used);
        client->part.size = size - used;
    } else {
        bytes_add(&client->part, payload + used, size - used);
    }
}
