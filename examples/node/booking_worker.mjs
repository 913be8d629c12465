// A worker of the booking queue over gRPC; see ../README.rst.
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const {
  REALTIME_GRPC: TARGET = "127.0.0.1:50051",
  REALTIME_KEY: KEY = "",
  WORKER: NAME = "booking-1",
  STATE = "booking-worker.json",
  PROTO = fileURLToPath(new URL("../../proto", import.meta.url)),
} = process.env;
const PLACES = Number(process.env.PLACES ?? 2);
const TURN_SECONDS = Number(process.env.TURN_SECONDS ?? 300);
// Positions that go in one message, at most.
const BATCH = 1000;

// Numbers of 64 bits come as texts.
const definition = loader.loadSync("realtime/v1/realtime.proto", { includeDirs: [PROTO], longs: String, oneofs: true });
const { Realtime } = grpc.loadPackageDefinition(definition).realtime.v1;

// A line for people. Tokens are not for them.
const tell = (what, more) => console.log(JSON.stringify({ what, ...more }));

// event -> user -> the id of their joining, the first who joined first
let waiting = {};
// event -> proceed -> whose turn it is, with which token, until when (ms)
const turns = existsSync(STATE) ? JSON.parse(readFileSync(STATE, "utf8")) : {};
let stream = null;
// whether something was refused that can be done a moment later
let unsaid = false;

function save() {
  writeFileSync(`${STATE}.new`, JSON.stringify(turns), { mode: 0o600 });
  renameSync(`${STATE}.new`, STATE);
}

function sayProceed(eventId, proceedId) {
  const { user: userId, token, expires: expiresAt } = turns[eventId][proceedId];
  stream?.write({ ref: proceedId, proceed: { eventId, userId, token, expiresAt, proceedId } });
}

// What was said before is not done twice.
function sayTurns() {
  unsaid = false;
  for (const [eventId, current] of Object.entries(turns)) {
    for (const proceedId of Object.keys(current)) sayProceed(eventId, proceedId);
  }
}

// Let as many proceed as there is room for, and tell the others where they stand.
function goOn(eventId) {
  const queue = (waiting[eventId] ??= new Map());
  const current = (turns[eventId] ??= {});
  for (const [user, id] of queue) {
    if (Object.keys(current).length >= PLACES) break;
    queue.delete(user);
    const expires = Math.floor(Date.now() + TURN_SECONDS * 1000);
    current[id] = { user, token: randomBytes(24).toString("base64url"), expires };
    // written down before it is said
    save();
    sayProceed(eventId, id);
  }
  const standing = [...queue.keys()].map((userId, n) => ({ userId, position: n + 1, total: queue.size }));
  for (let at = 0; at < standing.length; at += BATCH) {
    stream?.write({ positions: { eventId, positions: standing.slice(at, at + BATCH) } });
  }
}

// Something has happened in a queue.
function changed({ id, kind, eventId, userId, proceedId, state }) {
  tell(kind, { id, event: eventId, user: userId, state });
  const queue = (waiting[eventId] ??= new Map());
  if (kind === "joined") queue.set(userId, id);
  else if (kind === "left") queue.delete(userId);
  else if (state !== "acknowledged") {
    // Nobody has used the turn: it is the next one's.
    delete turns[eventId]?.[proceedId];
    save();
  }
  goOn(eventId);
  stream.write({ acknowledge: { ids: [id] } });
}

// What became of what was said.
function answered({ ref, response, proceed, error }) {
  if (response === "error") {
    tell("refused", error);
    if (error.code === "broker.unavailable") {
      unsaid = true;
      return;
    }
  }
  if (response === "proceed") tell("proceed", { id: proceed.proceedId, state: proceed.state });
  const over = response === "error" || ["not_waiting", "expired", "declined", "removed"].includes(proceed?.state);
  if (!over) return;
  for (const [eventId, current] of Object.entries(turns)) {
    if (current[ref]) {
      delete current[ref];
      save();
      goOn(eventId);
    }
  }
}

// What was not done for a moment's trouble is said again; a turn that is over makes room.
setInterval(() => {
  if (unsaid) {
    sayTurns();
    Object.keys(waiting).forEach(goOn);
  }
  for (const [eventId, current] of Object.entries(turns)) {
    const over = Object.keys(current).filter((id) => current[id].expires <= Date.now());
    for (const id of over) delete current[id];
    if (over.length) {
      save();
      goOn(eventId);
    }
  }
}, 1000);

const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${KEY}`);
let pause = 100;

function work() {
  const began = Date.now();
  // A connection that is gone without a word is noticed by pings.
  const alive = { "grpc.keepalive_time_ms": 10_000, "grpc.keepalive_timeout_ms": 5_000 };
  const client = new Realtime(TARGET, grpc.credentials.createInsecure(), alive);
  stream = client.Queue(metadata);
  stream.on("data", (told) => (told.response === "change" ? changed(told.change) : answered(told)));
  // "status" comes last, whatever it was that ended the stream
  stream.on("error", () => {});
  stream.on("status", ({ code, details }) => {
    stream = null;
    client.close();
    tell("ended", { status: grpc.status[code], why: details });
    if (code === grpc.status.UNAUTHENTICATED || code === grpc.status.PERMISSION_DENIED) process.exit(1);
    pause = Date.now() - began > 10_000 ? 100 : Math.min(2 * pause, 5000);
    setTimeout(work, pause);
  });
  waiting = {};
  stream.write({ open: { worker: NAME, replay: true } });
  sayTurns();
}

work();
