// The peer: Socket.IO on Node, doing the part of the service's job that the load asks for.
//
// It does less than the service: no recovery, log, history, presence, limits or metrics; recovery it has with
// ADAPTER=streams. With ADAPTER (redis, streams) it is one of many nodes over REDIS_URL.
"use strict";

const { createServer } = require("node:http");
const { randomUUID } = require("node:crypto");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");

const ROOM = /^[A-Za-z0-9_-]+(:[A-Za-z0-9_-]+)*$/;
const secret = process.env.JWT_SECRET;
const http = createServer();
const recovery = process.env.ADAPTER === "streams" ? { connectionStateRecovery: {} } : {};
const io = new Server(http, { maxHttpBufferSize: 1_000_000, ...recovery });
const offsets = new Map();

function refusal(code, message) {
  return { ok: false, error: { code, message } };
}

function validRoom(roomId) {
  return typeof roomId === "string" && roomId.length <= 128 && ROOM.test(roomId);
}

io.use((socket, next) => {
  jwt.verify(socket.handshake.auth.token, secret, { algorithms: ["HS256"] }, (error, claims) => {
    if (error || typeof claims.sub !== "string") {
      next(new Error("auth.token_invalid"));
      return;
    }
    socket.data.userId = claims.sub;
    socket.data.expiresAt = claims.exp * 1000;
    socket.data.roles = claims.roles ?? [];
    next();
  });
});

io.on("connection", (socket) => {
  const { userId, expiresAt, roles } = socket.data;
  socket.join([`user:${userId}`, ...roles.map((role) => `role:${role}`)]);
  socket.emit("system:connected", {
    userId, connectionId: socket.id, timestamp: Date.now(), expiresAt, recovered: false,
  });

  socket.on("room:join", (data, ack) => {
    const roomId = data?.roomId;
    if (!validRoom(roomId)) {
      ack?.(refusal("room.invalid_id", "the room id is not valid"));
      return;
    }
    socket.join(roomId);
    if (!process.env.QUIET) socket.to(roomId).emit("room:user_joined", { roomId, userId, timestamp: Date.now() });
    ack?.({ ok: true, roomId });
  });

  socket.on("room:message", (data, ack) => {
    const { roomId, text } = data ?? {};
    if (!validRoom(roomId) || typeof text !== "string") {
      ack?.(refusal("message.invalid", "the message is not valid"));
      return;
    }
    if (!socket.rooms.has(roomId)) {
      ack?.(refusal("room.not_joined", "join the room first"));
      return;
    }
    const id = randomUUID();
    const timestamp = Date.now();
    const offset = (offsets.get(roomId) ?? 0) + 1;
    offsets.set(roomId, offset);
    io.to(roomId).emit("room:message", { roomId, id, userId, text, timestamp, offset });
    ack?.({ ok: true, id, offset, timestamp });
  });
});

async function adapt() {
  const { createClient } = require("redis");
  const client = createClient({ url: process.env.REDIS_URL });
  await client.connect();
  if (process.env.ADAPTER === "streams") {
    io.adapter(require("@socket.io/redis-streams-adapter").createAdapter(client));
    return;
  }
  const subscriber = client.duplicate();
  await subscriber.connect();
  io.adapter(require("@socket.io/redis-adapter").createAdapter(client, subscriber));
}

(process.env.ADAPTER ? adapt() : Promise.resolve()).then(
  () => http.listen(Number(process.env.PORT), "127.0.0.1", 4096),
);
