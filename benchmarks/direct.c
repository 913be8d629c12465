#define _GNU_SOURCE
#include "direct.h"

#include <stdio.h>
#include <string.h>

enum { HELLO = 1, WELCOME = 2, CHALLENGE = 4, AUTHENTICATE = 5, SUBSCRIBE = 32, SUBSCRIBED = 33, EVENT = 36 };

const char *direct_subprotocol(enum protocol protocol) {
    switch (protocol) {
    case WAMP: return "wamp.2.json";
    case CBOR: return "wamp.2.cbor";
    case MSGPACK: return "wamp.2.msgpack";
    default: return "realtime.v1.json";
    }
}

/* A message of a binary serializer, written piece by piece. */
struct writer {
    char at[9000];
    size_t size;
    bool cbor;
};

static void byte(struct writer *writer, int value) {
    writer->at[writer->size++] = (char)value;
}

static void array(struct writer *writer, int items) {
    byte(writer, (writer->cbor ? 0x80 : 0x90) + items);
}

static void map(struct writer *writer, int pairs) {
    byte(writer, (writer->cbor ? 0xa0 : 0x80) + pairs);
}

static void number(struct writer *writer, int value) {
    if (writer->cbor && value > 23) byte(writer, 0x18);
    byte(writer, value);
}

static void text(struct writer *writer, const char *text) {
    size_t size = strlen(text);
    byte(writer, writer->cbor ? 0x79 : 0xda);
    byte(writer, (int)(size >> 8));
    byte(writer, (int)size);
    memcpy(writer->at + writer->size, text, size);
    writer->size += size;
}

static void send_binary(struct client *client, int type, const char *topic) {
    struct writer writer = {.cbor = client->protocol == CBOR};
    array(&writer, type == SUBSCRIBE ? 4 : 3);
    number(&writer, type);
    if (type == HELLO) {
        text(&writer, "realtime");
        map(&writer, 2);
        text(&writer, "roles");
        map(&writer, 1);
        text(&writer, "subscriber");
        map(&writer, 0);
        text(&writer, "authmethods");
        array(&writer, 1);
        text(&writer, "ticket");
    } else if (type == AUTHENTICATE) {
        text(&writer, client->token);
        map(&writer, 0);
    } else {
        number(&writer, 1);
        map(&writer, 0);
        text(&writer, topic);
    }
    client_put(client, true, writer.at, writer.size);
}

static void send_step(struct client *client, int type) {
    char json[9000], topic[128];
    snprintf(topic, sizeof topic, "room.%s-%u.message", target.room, client->room);
    if (client->protocol == CBOR || client->protocol == MSGPACK) {
        send_binary(client, type, topic);
        return;
    }
    int size = type == HELLO ? snprintf(json, sizeof json,
                                        "[1,\"realtime\",{\"roles\":{\"subscriber\":{}},\"authmethods\":[\"ticket\"]}]")
               : type == AUTHENTICATE ? snprintf(json, sizeof json, "[5,\"%s\",{}]", client->token)
                                      : snprintf(json, sizeof json, "[32,1,{},\"%s\"]", topic);
    client_put(client, false, json, (size_t)size);
}

void direct_begin(struct client *client) {
    char json[9000];
    client->stage = AUTHENTICATING;
    if (client->protocol != PLAIN) {
        send_step(client, HELLO);
        return;
    }
    int size = snprintf(json, sizeof json, "{\"event\":\"auth:login\",\"data\":{\"token\":\"%s\"},\"id\":1}",
                        client->token);
    client_put(client, false, json, (size_t)size);
}

/* Where the text of a message begins; NULL if it has none. */
static const char *text_of(struct client *client, const char *payload, size_t size) {
    const char *key = client->protocol == CBOR ? "\x64text" : client->protocol == MSGPACK ? "\xa4text" : "\"text\":\"";
    const char *found = memmem(payload, size, key, strlen(key));
    if (found == NULL) return NULL;
    found += strlen(key);
    if (client->protocol != CBOR && client->protocol != MSGPACK) return found;
    unsigned char head = (unsigned char)*found;
    if (head == 0x78 || head == 0xd9) return found + 2;
    if (head == 0x79 || head == 0xda) return found + 3;
    return found + 1;
}

static void take_message(struct client *client, const char *payload, size_t size) {
    client_text(client, text_of(client, payload, size), payload, size);
}

static void refused(struct client *client, const char *payload, size_t size) {
    on_fault(client, REFUSED, payload, size);
    client_close(client);
}

static bool begins(const char *payload, size_t size, const char *with) {
    return size >= strlen(with) && memcmp(payload, with, strlen(with)) == 0;
}

static void plain(struct client *client, const char *payload, size_t size) {
    char json[192];
    if (begins(payload, size, "{\"event\":\"room:message\",")) {
        take_message(client, payload, size);
    } else if (begins(payload, size, "{\"id\":1,\"ok\":true")) {
        client->stage = JOINING;
        int length = snprintf(json, sizeof json, "{\"event\":\"room:join\",\"data\":{\"roomId\":\"%s-%u\"},\"id\":2}",
                              target.room, client->room);
        client_put(client, false, json, (size_t)length);
    } else if (begins(payload, size, "{\"id\":2,\"ok\":true")) {
        client->stage = READY;
        on_ready(client);
    } else if (!begins(payload, size, "{\"event\":") || begins(payload, size, "{\"event\":\"system:error\"")) {
        refused(client, payload, size);
    }
}

/* The type of a WAMP message; 0 if it is none. */
static int type_of(struct client *client, const char *payload, size_t size) {
    if (size < 3) return 0;
    if (client->protocol == WAMP) {
        int type = 0;
        for (size_t at = 1; at < size && payload[at] >= '0' && payload[at] <= '9'; at++)
            type = type * 10 + (payload[at] - '0');
        return type;
    }
    return client->protocol == CBOR && payload[1] == 0x18 ? (unsigned char)payload[2] : (unsigned char)payload[1];
}

void direct_message(struct client *client, const char *payload, size_t size) {
    if (client->protocol == PLAIN) {
        plain(client, payload, size);
        return;
    }
    switch (type_of(client, payload, size)) {
    case CHALLENGE: send_step(client, AUTHENTICATE); break;
    case WELCOME:
        client->stage = JOINING;
        send_step(client, SUBSCRIBE);
        break;
    case SUBSCRIBED:
        client->stage = READY;
        on_ready(client);
        break;
    case EVENT: take_message(client, payload, size); break;
    default: refused(client, payload, size);
    }
}
