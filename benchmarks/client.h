/* One client over a WebSocket, without blocking; as much as a load needs. Socket.IO 5 over Engine.IO 4 is spoken
 * here, the service's other protocols in direct.c, what peers speak in bare.c. */

#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tally.h"

enum stage { CLOSED, CONNECTING, UPGRADING, OPENING, AUTHENTICATING, JOINING, READY };

/* MIX: each receiver the next one of those before it. */
enum protocol { SOCKETIO, PLAIN, WAMP, CBOR, MSGPACK, MIX, BARE, NATS, PROTOCOLS };

/* How a client takes its leave: by a close frame, by a packet of Socket.IO, or by TCP's FIN or RST alone. */
enum leave { BY_CLOSE, BY_PACKET, BY_FIN, BY_RESET, LEAVES };

struct bytes {
    char *at;
    size_t size;
    size_t room;
};

struct client {
    int fd;
    enum stage stage;
    enum protocol protocol;
    uint32_t index;
    uint32_t room;             /* joins the room of this number */
    uint32_t source;           /* address it connects from; 0 for any */
    uint32_t joining;          /* rooms that it has asked to join */
    bool hasty;                /* is ready once it has asked to join */
    uint32_t last_ack;         /* id of the newest event that asked for an acknowledgement; 0 joins */
    uint32_t acknowledged;     /* acknowledgements of events that have come */
    uint64_t sent;             /* messages published */
    uint64_t received;         /* distinct messages received */
    bool wants_write;          /* whether epoll watches for room to write */
    struct order order;
    struct bytes in;           /* the beginning of a frame whose rest has not come */
    struct bytes part;         /* the beginning of a message of NATS whose rest has not come */
    struct bytes out;          /* what the socket has not taken */
    const char *token;
};

/* What all clients share. */
struct target {
    int epoll;
    uint16_t port;
    uint16_t publisher_port;   /* where client 0 connects */
    const char *path;
    const char *room;          /* what its rooms are called: room-0, room-1… */
    uint32_t connections;
    uint32_t rooms;            /* other-0, other-1…, which the clients join in turns */
};

extern struct target target;

/* Begin to connect; `stage` tells how far it is. */
void client_open(struct client *client);

/* epoll says that something can be done. */
void client_turn(struct client *client, uint32_t events);

/* Send an event with an acknowledgement of the next id, after what waits; `client_flush` hands it to the socket.
 * `body` is the event's JSON array. */
void client_emit(struct client *client, const char *body, size_t size);

/* Put a whole message behind what waits, text or binary. */
void client_put(struct client *client, bool binary, const char *payload, size_t size);

/* Publish a text to the client's room, behind what waits. */
void client_publish(struct client *client, const char *text, size_t size);

/* Whether what it publishes is acknowledged. */
bool client_acknowledges(const struct client *client);

/* A room's message has come: its text, by which it is judged, or NULL; and all of it. */
void client_text(struct client *client, const char *text, const char *whole, size_t size);

void client_flush(struct client *client);

void client_close(struct client *client);

void client_leave(struct client *client, enum leave how);

void bytes_add(struct bytes *bytes, const void *from, size_t size);
void bytes_drop(struct bytes *bytes);

/* What the load does about it; all are called from client_turn. */
void on_ready(struct client *client);
void on_message(struct client *client, uint32_t publisher, uint64_t number);
void on_acknowledged(struct client *client, uint32_t ack);

/* Something that makes the run a failed one: `kind` is counted, the first `detail` is kept. */
enum fault { REFUSED, CUT, GARBLED, FAULTS };
void on_fault(struct client *client, enum fault kind, const char *detail, size_t size);

#endif
