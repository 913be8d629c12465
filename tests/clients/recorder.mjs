// Many sockets of the official socket.io-client in one Node process, that note what happens to them as
// short rows. Commands as JSON lines on stdin, reports as JSON lines on stdout. Ends when stdin ends.
//
// Messages under test carry in their payload (in `data` of a room:message) `c`, the name of the series
// that they belong to, and `n`, their number in it.
//
// Commands {do, id, ...}, where id names the socket:
//   open    {url, options, rooms}   rooms are joined at every system:connected that is not a recovery,
//                                   as a front end does that has to build its page anew
//   join    {rooms}                 join more rooms, now and ever after
//   leave   {rooms}
//   flow    {series, rooms, count, every, size, again}
//                                   send `count` room:message with data {c: series:room, n}, n counting up
//                                   in each series, `size` of them each `every` milliseconds; with `again`
//                                   a temporary refusal is repeated after its retryAfter, under the same
//                                   clientMessageId
//   call    {event, args, call}     emit, and report the acknowledgement under that number
//   cut     {}                      destroy the socket; the client comes back by itself
//   stop    {}                      disconnect for good
//
// Reports: rows {rows}, answer {id, call, value}, fault {id, message}. A row is [id, kind, ...]:
//   e, event, series, n, offset     an event under test; offset is the one for recovery, or null
//   o, event, payload, offset       any other event
//   c, recovered, sid               connected, as the client says
//   s, recovered, offset, connectionId  system:connected
//   p, offset                       system:position
//   d, reason, code                 disconnected
//   x, message, code                connect_error
//   l, room                         room:leave acknowledged
//   j, room, ok, members            room:join acknowledged (members as a list of user ids; else the code)
//   a, series, n, outcome, tries    room:message acknowledged: "ok", or the code of the refusal, or
//                                   "nothing" if no acknowledgement came
//   r, code                         system:error
import { createInterface } from "node:readline";

import { io } from "socket.io-client";

const say = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);
const recorders = new Map();
let rows = [];

const ROWS = 1000;

function row(...values) {
  if (rows.length === 0) setTimeout(flush, 10);
  rows.push(values);
}

function flush() {
  const full = rows;
  rows = [];
  // A report is one line, and lines have a bound.
  for (let at = 0; at < full.length; at += ROWS) say({ report: "rows", rows: full.slice(at, at + ROWS) });
}

// No log may have it (tests/clients/service.py looks).
const PAYLOAD = "not-for-any-log";

// How long an acknowledgement may take: past the service's own time-outs.
const PATIENCE = 15000;

class Recorder {
  constructor(id, url, options, rooms) {
    this.id = id;
    this.rooms = new Set(rooms);
    this.numbers = new Map();
    this.socket = io(url, { forceNew: true, ...options });
    this.socket.on("connect", () => row(id, "c", this.socket.recovered, this.socket.id));
    this.socket.on("disconnect", (reason, details) =>
      row(id, "d", reason, details?.context?.code ?? null),
    );
    this.socket.on("connect_error", (error) =>
      row(id, "x", error.message, error.data?.code ?? null),
    );
    this.socket.onAny((event, payload, offset) => this.note(event, payload, offset ?? null));
  }

  note(event, payload, offset) {
    const marked = event === "room:message" ? (payload.data ?? payload) : payload;
    if (marked?.c !== undefined) row(this.id, "e", event, marked.c, marked.n, offset);
    else if (event === "system:connected") {
      row(this.id, "s", payload.recovered, offset, payload.connectionId);
      if (!payload.recovered) this.enter([...this.rooms]);
    } else if (event === "system:position") row(this.id, "p", offset);
    else if (event === "system:error") row(this.id, "r", payload.code);
    else row(this.id, "o", event, payload, offset);
  }

  enter(joining) {
    for (const roomId of joining) {
      this.socket.timeout(PATIENCE).emit("room:join", { roomId }, (late, answer) => {
        if (late) row(this.id, "j", roomId, false, "nothing");
        else if (answer.ok) row(this.id, "j", roomId, true, answer.members.map((one) => one.userId));
        else {
          row(this.id, "j", roomId, false, answer.error.code);
          const wait = answer.error.retryAfter;
          if (wait) setTimeout(() => this.rooms.has(roomId) && this.enter([roomId]), wait);
        }
      });
    }
  }

  join({ rooms: more }) {
    for (const room of more) this.rooms.add(room);
    this.enter(more);
  }

  leave({ rooms: fewer }) {
    for (const roomId of fewer) {
      this.rooms.delete(roomId);
      this.socket.emit("room:leave", { roomId }, () => row(this.id, "l", roomId));
    }
  }

  flow({ series, rooms: into, count, every, size, again }) {
    const started = Date.now();
    let sent = 0;
    const timer = setInterval(() => {
      const due = Math.min(count, size * Math.floor((Date.now() - started) / every));
      for (; sent < due; sent += 1) {
        const roomId = into[sent % into.length];
        const c = `${series}:${roomId}`;
        const n = this.numbers.get(c) ?? 0;
        this.numbers.set(c, n + 1);
        this.send(c, roomId, n, again, 1);
      }
      if (sent === count) clearInterval(timer);
    }, every);
  }

  send(c, roomId, n, again, tries) {
    const message = { roomId, clientMessageId: `${c} ${n}`, data: { c, n, note: PAYLOAD } };
    this.socket.timeout(PATIENCE).emit("room:message", message, (late, answer) => {
      const outcome = late ? "nothing" : answer.ok ? "ok" : answer.error.code;
      if (again && outcome !== "ok" && (late || answer.error.retryAfter)) {
        setTimeout(() => this.send(c, roomId, n, again, tries + 1), answer?.error?.retryAfter ?? 0);
      } else row(this.id, "a", c, n, outcome, tries);
    });
  }

  call({ event, args, call }) {
    this.socket.emit(event, ...args, (value) => say({ id: this.id, report: "answer", call, value }));
  }

  cut() {
    this.socket.io.engine.transport.ws.terminate();
  }

  stop() {
    this.socket.disconnect();
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    const { id, url, options } = command;
    try {
      if (command.do === "open") recorders.set(id, new Recorder(id, url, options, command.rooms));
      else recorders.get(id)[command.do](command);
    } catch (error) {
      say({ id, report: "fault", message: `${command.do}: ${error.stack}` });
    }
  })
  .on("close", () => process.exit(0));
