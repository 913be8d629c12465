#define _GNU_SOURCE
#include "client.h"
#include "bare.h"
#include "direct.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The sample key of RFC 6455 section 1.3, so that the answer is known without SHA-1. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#define MESSAGE "[\"room:message\","
#define TEXT_FIELD "\"text\":\""

enum { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

/* All clients read into one buffer: what stays of it afterwards, a part of a frame, is rare. */
static char shared[16 << 20];

void bytes_add(struct bytes *bytes, const void *from, size_t size) {
    if (bytes->size + size > bytes->room) {
        bytes->room = (bytes->size + size) * 2;
        bytes->at = realloc(bytes->at, bytes->room);
        if (bytes->at == NULL) abort();
    }
    memcpy(bytes->at + bytes->size, from, size);
    bytes->size += size;
}

void bytes_drop(struct bytes *bytes) {
    free(bytes->at);
    *bytes = (struct bytes){0};
}

static void fault(struct client *client, enum fault kind, const char *detail) {
    on_fault(client, kind, detail, strlen(detail));
}

void client_close(struct client *client) {
    if (client->stage == CLOSED) return;
    close(client->fd);
    client->stage = CLOSED;
    bytes_drop(&client->in);
    bytes_drop(&client->out);
    bytes_drop(&client->part);
}

static void cut(struct client *client, enum fault kind, const char *detail) {
    fault(client, kind, detail);
    client_close(client);
}

static void watch(struct client *client, int how, bool write) {
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = client};
    client->wants_write = write;
    if (epoll_ctl(target.epoll, how, client->fd, &event) < 0) cut(client, CUT, strerror(errno));
}

static uint16_t port_of(const struct client *client) {
    return client->index == 0 ? target.publisher_port : target.port;
}

void client_open(struct client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port_of(client))};
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->stage = CONNECTING;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
        client->stage = CLOSED;
        fault(client, CUT, strerror(errno));
        return;
    }
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (client->source != 0) {
        struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(client->source)};
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(client->fd, (struct sockaddr *)&source, sizeof source) < 0) {
            cut(client, CUT, strerror(errno));
            return;
        }
    }
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        cut(client, CUT, strerror(errno));
        return;
    }
    watch(client, EPOLL_CTL_ADD, true);
}

void client_flush(struct client *client) {
    size_t done = 0;
    if (client->stage == CLOSED || client->out.size == 0) return;
    while (done < client->out.size) {
        ssize_t n = send(client->fd, client->out.at + done, client->out.size - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            cut(client, CUT, strerror(errno));
            return;
        }
        done += (size_t)n;
    }
    client->out.size -= done;
    if (client->out.size > 0)
        memmove(client->out.at, client->out.at + done, client->out.size);
    else if (client->stage != READY)
        bytes_drop(&client->out);
    if (client->wants_write != (client->out.size > 0)) watch(client, EPOLL_CTL_MOD, client->out.size > 0);
}

/* One masked frame (RFC 6455 section 5.3) behind what waits. */
static void put_frame(struct client *client, int opcode, const char *payload, size_t size) {
    static uint32_t mask = 0x9e3779b9;
    unsigned char head[14] = {(unsigned char)(0x80 | opcode)};
    size_t length = 2;
    if (size < 126) {
        head[1] = (unsigned char)(0x80 | size);
    } else {
        head[1] = 0x80 | 126;
        head[2] = (unsigned char)(size >> 8);
        head[3] = (unsigned char)size;
        length = 4;
    }
    mask ^= mask << 13, mask ^= mask >> 17, mask ^= mask << 5;
    memcpy(head + length, &mask, 4);
    bytes_add(&client->out, head, length + 4);
    bytes_add(&client->out, payload, size);
    char *masked = client->out.at + client->out.size - size;
    for (size_t i = 0; i < size; i++) masked[i] ^= (char)head[length + i % 4];
}

void client_emit(struct client *client, const char *body, size_t size) {
    char packet[8192];
    int head = snprintf(packet, sizeof packet, "42%u", client->last_ack++);
    if (client->stage == CLOSED) return;
    memcpy(packet + head, body, size);
    put_frame(client, OP_TEXT, packet, (size_t)head + size);
}

void client_put(struct client *client, bool binary, const char *payload, size_t size) {
    if (client->stage != CLOSED) put_frame(client, binary ? OP_BINARY : OP_TEXT, payload, size);
}

static void socketio_publish(struct client *client, const char *text, size_t size) {
    char body[8192];
    int head = snprintf(body, sizeof body, "[\"room:message\",{\"roomId\":\"%s-%u\",\"text\":\"", target.room,
                        client->room);
    memcpy(body + head, text, size);
    memcpy(body + head + size, "\"}]", 3);
    client_emit(client, body, (size_t)head + size + 3);
}

bool client_acknowledges(const struct client *client) {
    return client->protocol < BARE;
}

void client_publish(struct client *client, const char *text, size_t size) {
    if (client_acknowledges(client)) {
        socketio_publish(client, text, size);
        return;
    }
    client->last_ack++;
    client->acknowledged++;
    bare_publish(client, text, size);
}

void client_leave(struct client *client, enum leave how) {
    struct linger abort = {.l_onoff = 1};
    if (client->stage == CLOSED) return;
    if (how == BY_CLOSE) put_frame(client, OP_CLOSE, "\x03\xe8", 2);
    if (how == BY_PACKET) put_frame(client, OP_TEXT, "41", 2);
    client_flush(client);
    if (how == BY_RESET) setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    client_close(client);
}

static void upgrade(struct client *client) {
    char request[1024], subprotocol[64] = "", path[256];
    if (client->protocol == SOCKETIO)
        snprintf(path, sizeof path, "%s?EIO=4&transport=websocket", target.path);
    else if (!client_acknowledges(client))
        snprintf(path, sizeof path, "/%s-%u", target.room, client->room);
    else {
        snprintf(path, sizeof path, "/ws");
        snprintf(subprotocol, sizeof subprotocol, "Sec-WebSocket-Protocol: %s\r\n",
                 direct_subprotocol(client->protocol));
    }
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\n%s"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        path, port_of(client), subprotocol);
    client->stage = UPGRADING;
    bytes_add(&client->out, request, (size_t)size);
}

static void authenticate(struct client *client) {
    char packet[8192];
    int size = snprintf(packet, sizeof packet, "40{\"token\":\"%s\"}", client->token);
    client->stage = AUTHENTICATING;
    put_frame(client, OP_TEXT, packet, (size_t)size);
}

static void join(struct client *client) {
    char body[128];
    int size = snprintf(body, sizeof body, "[\"room:join\",{\"roomId\":\"%s-%u\"}]", target.room,
                        client->room);
    client->stage = JOINING;
    client_emit(client, body, (size_t)size);
    client->joining = 1;
    for (uint32_t room = client->index; room < target.rooms; room += target.connections, client->joining++) {
        size = snprintf(body, sizeof body, "[\"room:join\",{\"roomId\":\"other-%u\"}]", room);
        client_emit(client, body, (size_t)size);
    }
    if (client->hasty) on_ready(client);
}

static void message(struct client *client, const char *packet, size_t size) {
    const char *text = memmem(packet, size, TEXT_FIELD, sizeof TEXT_FIELD - 1);
    client_text(client, text == NULL ? NULL : text + sizeof TEXT_FIELD - 1, packet, size);
}

void client_text(struct client *client, const char *text, const char *packet, size_t size) {
    const char *end = packet + size;
    uint64_t part[2] = {0};
    for (int i = 0; text != NULL && i < 2; i++) {
        const char *digit = text;
        while (digit < end && *digit >= '0' && *digit <= '9') part[i] = part[i] * 10 + (uint64_t)(*digit++ - '0');
        text = digit > text && digit < end && *digit == '.' ? digit + 1 : NULL;
    }
    if (text == NULL) {
        on_fault(client, GARBLED, packet, size);
        return;
    }
    on_message(client, (uint32_t)part[0], part[1]);
}

static void acknowledged(struct client *client, const char *packet, size_t size) {
    uint32_t ack = 0;
    size_t at = 0;
    while (at < size && packet[at] >= '0' && packet[at] <= '9') ack = ack * 10 + (uint32_t)(packet[at++] - '0');
    if (memmem(packet + at, size - at, "\"ok\":true", 9) == NULL) {
        on_fault(client, REFUSED, packet + at, size - at);
        if (client->stage == JOINING) client_close(client);
    } else if (client->stage == JOINING) {
        if (--client->joining > 0) return;
        client->stage = READY;
        on_ready(client);
    } else {
        client->acknowledged++;
        on_acknowledged(client, ack);
    }
}

/* A Socket.IO packet, its Engine.IO type cut off. */
static void socketio(struct client *client, const char *packet, size_t size) {
    if (size == 0) return;
    if (packet[0] == '2') {
        size_t prefix = sizeof MESSAGE - 1;
        /* Events that nobody asked for, such as room:user_joined, are of no interest. */
        if (size > prefix && memcmp(packet + 1, MESSAGE, prefix) == 0) message(client, packet, size);
    } else if (packet[0] == '3') {
        acknowledged(client, packet + 1, size - 1);
    } else if (packet[0] == '0' && client->stage == AUTHENTICATING) {
        join(client);
    } else if (packet[0] == '1' || packet[0] == '4') {
        on_fault(client, packet[0] == '1' ? CUT : REFUSED, packet, size);
        client_close(client);
    }
}

static void engineio(struct client *client, const char *packet, size_t size) {
    if (size == 0) return;
    if (packet[0] == '4')
        socketio(client, packet + 1, size - 1);
    else if (packet[0] == '2')
        put_frame(client, OP_TEXT, "3", 1);
    else if (packet[0] == '0' && client->stage == OPENING)
        authenticate(client);
    else if (packet[0] == '1')
        cut(client, CUT, "closed by Engine.IO");
}

static void closed_by_peer(struct client *client, const char *payload, size_t size) {
    char detail[160];
    int code = size >= 2 ? (unsigned char)payload[0] << 8 | (unsigned char)payload[1] : 0;
    int reason = size > 2 ? (int)size - 2 : 0;
    snprintf(detail, sizeof detail, "closed with %d %.*s", code, reason, payload + (size > 2 ? 2 : 0));
    cut(client, CUT, detail);
}

/* The bytes of the frame at the beginning of `at`, handled; 0 if it is not whole. */
static size_t take_frame(struct client *client, const char *at, size_t size) {
    const unsigned char *head = (const unsigned char *)at;
    size_t length = 2;
    uint64_t payload;
    if (size < 2) return 0;
    payload = head[1];
    if (payload >= 126) {
        length = payload == 126 ? 4 : 10;
        payload = 0;
        if (size < length) return 0;
        for (size_t i = 2; i < length; i++) payload = payload << 8 | head[i];
    }
    if ((head[0] & 0xf0) != 0x80 || head[1] & 0x80 || payload > sizeof shared - 64) {
        cut(client, GARBLED, "a frame that is masked, fragmented, compressed or too long");
        return 0;
    }
    if (size - length < payload) return 0;
    int opcode = head[0] & 15;
    bool message = opcode == OP_TEXT || opcode == OP_BINARY;
    if (message && !client_acknowledges(client))
        bare_message(client, at + length, payload);
    else if (message && client->protocol != SOCKETIO)
        direct_message(client, at + length, payload);
    else if (opcode == OP_TEXT)
        engineio(client, at + length, payload);
    else if (opcode == OP_PING)
        put_frame(client, OP_PONG, at + length, payload);
    else if (opcode == OP_CLOSE)
        closed_by_peer(client, at + length, payload);
    else if (opcode != OP_PONG)
        cut(client, GARBLED, "a frame of an unexpected kind");
    return length + payload;
}

/* The bytes of the answer to the upgrade; 0 if it is not whole. */
static size_t take_answer(struct client *client, const char *at, size_t size) {
    const char *end = memmem(at, size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    size_t length = (size_t)(end - at) + 4;
    if (memcmp(at, "HTTP/1.1 101", 12) != 0 || memmem(at, length, ACCEPT, sizeof ACCEPT - 1) == NULL) {
        on_fault(client, REFUSED, at, length);
        client_close(client);
        return 0;
    }
    client->stage = OPENING;
    if (!client_acknowledges(client))
        bare_begin(client);
    else if (client->protocol != SOCKETIO)
        direct_begin(client);
    return length;
}

static void readable(struct client *client) {
    size_t size = client->in.size, used = 0, step = 1;
    if (size > 0) memcpy(shared, client->in.at, size);
    ssize_t n = recv(client->fd, shared + size, sizeof shared - size, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        cut(client, CUT, n < 0 ? strerror(errno) : "the connection was closed");
        return;
    }
    size += (size_t)n;
    while (step > 0 && used < size && client->stage != CLOSED) {
        if (client->stage == UPGRADING)
            step = take_answer(client, shared + used, size - used);
        else
            step = take_frame(client, shared + used, size - used);
        used += step;
    }
    if (client->stage == CLOSED) return;
    client->in.size = 0;
    if (used < size)
        bytes_add(&client->in, shared + used, size - used);
    else
        bytes_drop(&client->in);
}

void client_turn(struct client *client, uint32_t events) {
    if (client->stage == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) {
            cut(client, CUT, strerror(error));
            return;
        }
        upgrade(client);
    } else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        readable(client);
    }
    /* What was answered in this turn leaves in one write, as it does from a busy client. */
    client_flush(client);
}
