/* A client of /ws: plain JSON, or WAMP by one of its serializers; as much as receiving needs. */

#ifndef DIRECT_H
#define DIRECT_H

#include "client.h"

/* The subprotocol that is asked for. */
const char *direct_subprotocol(enum protocol protocol);

/* The WebSocket is open: log in. */
void direct_begin(struct client *client);

/* A message has come. */
void direct_message(struct client *client, const char *payload, size_t size);

#endif
