// Sockets of the official socket.io-client, driven by commands and telling all that happens to them
// as reports. Runs unchanged in Node and in a page: whoever loads it gives it `io` and `report`.
//
// Bytes travel as {"$bytes": base64} in commands and reports.
//
// Commands {do, id, ...}, where id names the socket:
//   open    {url, options}          options are those of io(); the socket gets a connection of its own
//   emit    {event, args, ack?}     with ack, the acknowledgement is reported under that number
//   flow    {rooms, count, every, size}  send `count` room:message {roomId, data: {n}}, n counting up, the
//                                   rooms in turn, `size` of them each `every` milliseconds
//   auth    {auth}                  what the next (re)connect presents
//   cut     {how}                   end the transport: "polite" closes it, "rude" destroys the socket
//   connect, disconnect             the client's own
//   query   {call}                  answered by the report "answer" with the same call
//
// Reports {id, report, ...}:
//   connect {sid, recovered, transport}, connect_error {message, data, active}, upgrade {transport},
//   disconnect {reason, code, text, active}, event {event, args}, ack {ack, args},
//   answer {call, value}, flowed {refused}, fault {message}

import { Commanded } from "./commanded.mjs";

const isBytes = (value) =>
  value instanceof ArrayBuffer || ArrayBuffer.isView(value);

function toBase64(value) {
  const bytes =
    value instanceof ArrayBuffer
      ? new Uint8Array(value)
      : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function map(value, leaf) {
  const mapped = leaf(value);
  if (mapped !== undefined) return mapped;
  if (Array.isArray(value)) return value.map((item) => map(item, leaf));
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, map(item, leaf)]),
    );
  }
  return value;
}

const pack = (value) =>
  map(value, (leaf) => (isBytes(leaf) ? { $bytes: toBase64(leaf) } : undefined));

const unpack = (value) =>
  map(value, (leaf) =>
    leaf !== null && typeof leaf === "object" && typeof leaf.$bytes === "string"
      ? fromBase64(leaf.$bytes)
      : undefined,
  );

export class Sockets extends Commanded {
  open({ id, url, options }) {
    const socket = this.library(url, { forceNew: true, ...options });
    const tell = (report, more) => this.report({ id, report, ...more });
    this.byId.set(id, socket);
    const transport = () => socket.io.engine?.transport?.name;
    const watch = () =>
      socket.io.engine.on("upgrade", (upgraded) => tell("upgrade", { transport: upgraded.name }));
    socket.io.on("open", watch);
    socket.on("connect", () =>
      tell("connect", { sid: socket.id, recovered: socket.recovered, transport: transport() }),
    );
    socket.on("connect_error", (error) =>
      tell("connect_error", {
        message: error.message,
        data: error.data ?? null,
        active: socket.active,
      }),
    );
    socket.on("disconnect", (reason, details) =>
      tell("disconnect", {
        reason,
        code: details?.context?.code ?? null,
        text: details?.context?.reason ?? null,
        active: socket.active,
      }),
    );
    socket.onAny((event, ...args) => {
      const answer = typeof args.at(-1) === "function" ? args.pop() : null;
      tell("event", { event, args: pack(args) });
      if (answer) answer({ ok: true });
    });
  }

  emit(socket, { id, event, args, ack }) {
    const sent = unpack(args);
    if (ack !== undefined && ack !== null) {
      sent.push((...answer) => this.report({ id, report: "ack", ack, args: pack(answer) }));
    }
    socket.emit(event, ...sent);
  }

  flow(socket, { id, rooms, count, every, size }) {
    let sent = 0;
    let answered = 0;
    const refused = [];
    const taken = (answer) => {
      if (!answer.ok) refused.push(answer.error);
      answered += 1;
      if (answered === count) this.report({ id, report: "flowed", refused });
    };
    const started = Date.now();
    const timer = setInterval(() => {
      const due = Math.min(count, size * Math.floor((Date.now() - started) / every));
      for (; sent < due; sent += 1) {
        socket.emit("room:message", { roomId: rooms[sent % rooms.length], data: { n: sent } }, taken);
      }
      if (sent === count) clearInterval(timer);
    }, every);
  }

  auth(socket, { auth }) {
    socket.auth = auth;
  }

  cut(socket, { how }) {
    const engine = socket.io.engine;
    if (how === "polite") engine.close();
    else if (engine.transport.ws?.terminate) engine.transport.ws.terminate();
    else throw new Error(`no rude cut for ${engine.transport.name} here: cut it in a proxy`);
  }

  connect(socket) {
    socket.connect();
  }

  disconnect(socket) {
    socket.disconnect();
  }

  query(socket, { id, call }) {
    this.report({
      id,
      report: "answer",
      call,
      value: {
        sid: socket.id ?? null,
        connected: socket.connected,
        active: socket.active,
        recovered: socket.recovered,
        transport: socket.io.engine?.transport?.name ?? null,
        session: socket._pid ?? null,
        offset: socket._lastOffset ?? null,
      },
    });
  }
}
