/* The limit of the machine: a WebSocket server that does nothing but hand messages on, on one thread with epoll.
 *
 *     limit PORT loop|batch
 *
 * The path names a room; a message of a client goes to all in its room, itself too. loop: one send for each receiver
 * and message. batch: one send for each receiver and turn of the loop, however many messages came in it. No checks,
 * no tokens, no limits, and no SHA-1: it knows the answer to one key, that of RFC 6455 section 1.3.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOMS 20000
#define HEAD 2048
#define EVENTS 1024

static const char answer[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct bytes {
    char *at;
    size_t size, room;
};

struct client {
    int fd;
    bool open;                 /* the WebSocket is */
    bool blocked;              /* epoll watches for room to write */
    struct room *room;
    uint32_t place;            /* in its room */
    struct bytes in, out;
};

struct room {
    struct client **members;
    uint32_t count, space;
    struct bytes turn;         /* what has come in this turn */
    bool dirty;
};

static struct room rooms[ROOMS];
static struct room *dirty[EVENTS];
static uint32_t dirty_count;
static bool batching;
static int epoll;
static char shared[1 << 20];

static void add(struct bytes *bytes, const void *from, size_t size) {
    if (bytes->size + size > bytes->room) {
        bytes->room = (bytes->size + size) * 2;
        bytes->at = realloc(bytes->at, bytes->room);
        if (bytes->at == NULL) abort();
    }
    memcpy(bytes->at + bytes->size, from, size);
    bytes->size += size;
}

static void watch(struct client *client, bool write) {
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = client};
    client->blocked = write;
    epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

static void give(struct client *client, const char *at, size_t size) {
    if (client->out.size == 0) {
        ssize_t sent = send(client->fd, at, size, MSG_NOSIGNAL);
        if (sent == (ssize_t)size) return;
        if (sent < 0 && errno != EAGAIN) return; /* epoll tells of its end */
        at += sent > 0 ? sent : 0, size -= (size_t)(sent > 0 ? sent : 0);
    }
    add(&client->out, at, size);
    if (!client->blocked) watch(client, true);
}

static void writable(struct client *client) {
    ssize_t sent = send(client->fd, client->out.at, client->out.size, MSG_NOSIGNAL);
    if (sent <= 0) return;
    client->out.size -= (size_t)sent;
    memmove(client->out.at, client->out.at + sent, client->out.size);
    if (client->out.size == 0) watch(client, false);
}

static void enter(struct client *client, struct room *room) {
    if (room->count == room->space) {
        room->space = room->space * 2 + 1;
        room->members = realloc(room->members, room->space * sizeof *room->members);
        if (room->members == NULL) abort();
    }
    client->room = room;
    client->place = room->count;
    room->members[room->count++] = client;
}

static void leave(struct client *client) {
    struct room *room = client->room;
    if (room != NULL) {
        room->members[client->place] = room->members[--room->count];
        room->members[client->place]->place = client->place;
    }
    close(client->fd);
    free(client->in.at);
    free(client->out.at);
    client->fd = -1; /* events of this turn may still name it */
}

static void tell(struct room *room, const char *at, size_t size) {
    for (uint32_t i = 0; i < room->count; i++) give(room->members[i], at, size);
}

static void hand_on(struct room *room, const char *payload, size_t size) {
    static char frame[HEAD + 70000];
    size_t head = 2;
    frame[0] = (char)0x81;
    if (size < 126) {
        frame[1] = (char)size;
    } else {
        frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)size;
        head = 4;
    }
    memcpy(frame + head, payload, size);
    if (!batching) {
        tell(room, frame, head + size);
        return;
    }
    add(&room->turn, frame, head + size);
    if (!room->dirty) room->dirty = true, dirty[dirty_count++] = room;
}

/* The bytes of the frame at the beginning of `at`; 0 if it is not whole, or ends the connection. */
static size_t take_frame(struct client *client, char *at, size_t size) {
    const unsigned char *head = (const unsigned char *)at;
    size_t length = 2, payload;
    if (size < 6) return 0;
    payload = head[1] & 127;
    if (payload == 126) {
        length = 4;
        payload = (size_t)head[2] << 8 | head[3];
    }
    if (payload == 127 || size < length + 4 + payload) return 0;
    char *text = at + length + 4;
    for (size_t i = 0; i < payload; i++) text[i] ^= at[length + i % 4];
    if ((head[0] & 15) == 1) hand_on(client->room, text, payload);
    return length + 4 + payload;
}

static size_t take_request(struct client *client, char *at, size_t size) {
    char *end = memmem(at, size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    unsigned long number = 0;
    char *dash = memchr(at, '-', (size_t)(end - at));
    if (dash != NULL) number = strtoul(dash + 1, NULL, 10);
    enter(client, &rooms[number % ROOMS]);
    client->open = true;
    give(client, answer, sizeof answer - 1);
    return (size_t)(end - at) + 4;
}

static void readable(struct client *client) {
    size_t size = client->in.size, used = 0, step = 1;
    if (size > 0) memcpy(shared, client->in.at, size);
    ssize_t n = recv(client->fd, shared + size, sizeof shared - size, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        leave(client);
        return;
    }
    size += (size_t)n;
    while (step > 0 && used < size) {
        step = client->open ? take_frame(client, shared + used, size - used)
                            : take_request(client, shared + used, size - used);
        used += step;
    }
    client->in.size = 0;
    if (used < size) add(&client->in, shared + used, size - used);
}

static void welcome(int listener) {
    for (;;) {
        int yes = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        struct client *client = calloc(1, sizeof *client);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (client == NULL) abort();
        client->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static void flush(void) {
    for (uint32_t i = 0; i < dirty_count; i++) {
        tell(dirty[i], dirty[i]->turn.at, dirty[i]->turn.size);
        dirty[i]->turn.size = 0;
        dirty[i]->dirty = false;
    }
    dirty_count = 0;
}

static int listen_on(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        perror("limit");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS], accepting = {.events = EPOLLIN};
    if (argc != 3 || (strcmp(argv[2], "loop") != 0 && strcmp(argv[2], "batch") != 0)) {
        fprintf(stderr, "limit PORT loop|batch\n");
        return 2;
    }
    batching = strcmp(argv[2], "batch") == 0;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(argv[1]);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct client *client = events[i].data.ptr;
            if (client == NULL) {
                welcome(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT) writable(client);
            if (client->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(client);
        }
        flush();
    }
}
