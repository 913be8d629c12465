/* What peers speak that don't know Socket.IO: bare texts (ws, limit), or NATS. Nothing is acknowledged. */

#ifndef BARE_H
#define BARE_H

#include "client.h"

/* The WebSocket is open. */
void bare_begin(struct client *client);

/* A message has come; with NATS, a piece of the stream. */
void bare_message(struct client *client, const char *payload, size_t size);

void bare_publish(struct client *client, const char *text, size_t size);

#endif
