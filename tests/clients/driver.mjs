// Many sockets of the official socket.io-client in one Node process: commands as JSON lines on stdin,
// reports as JSON lines on stdout (see sockets.mjs). Ends when stdin ends.
import { createInterface } from "node:readline";

import { io } from "socket.io-client";

import { Sockets } from "./sockets.mjs";

const sockets = new Sockets(io, (report) => process.stdout.write(`${JSON.stringify(report)}\n`));

createInterface({ input: process.stdin })
  .on("line", (line) => sockets.command(JSON.parse(line)))
  .on("close", () => process.exit(0));
