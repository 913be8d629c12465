// The peer: ws on Node as it comes. The path names a room; a message goes to all in it, framed once for each.
//
// No tokens, checks or acknowledgements.
"use strict";

const { createServer } = require("node:http");
const { WebSocketServer } = require("ws");

const http = createServer();
const rooms = new Map();

new WebSocketServer({ server: http }).on("connection", (socket, request) => {
  const members = rooms.get(request.url) ?? new Set();
  rooms.set(request.url, members.add(socket));
  socket.on("message", (data, isBinary) => {
    for (const member of members) member.send(data, { binary: isBinary });
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    members.delete(socket);
    if (members.size === 0) rooms.delete(request.url);
  });
});

http.listen(Number(process.env.PORT), "127.0.0.1", 4096);
