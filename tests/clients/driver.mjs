// Many clients in one Node process: commands as JSON lines on stdin, reports as JSON lines on stdout.
// The option `client` of "open" says which it is: socket.io-client (sockets.mjs) unless it is "wamp" for
// autobahn-js (wamp.mjs) or "plain" for a bare WebSocket (plain.mjs). Ends when stdin ends.
import "./quiet.mjs";

import { createInterface } from "node:readline";

import autobahn from "autobahn";
import { io } from "socket.io-client";
import WebSocket from "ws";

import { Plain } from "./plain.mjs";
import { Sockets } from "./sockets.mjs";
import { Wamp } from "./wamp.mjs";

// autobahn-js takes the WebSocket that browsers and newer versions of Node bring.
globalThis.WebSocket ??= class extends WebSocket {
  constructor(...args) {
    super(...args);
    this.on("error", () => {}); // onclose follows; only Node would end of it
  }
};

const report = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);
const kinds = {
  socketio: new Sockets(io, report),
  wamp: new Wamp(autobahn, report),
  plain: new Plain(WebSocket, report),
};
const kindOf = new Map();

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    if (command.do === "open") kindOf.set(command.id, kinds[command.options.client ?? "socketio"]);
    kindOf.get(command.id).command(command);
  })
  .on("close", () => process.exit(0));
