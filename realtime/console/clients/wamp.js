// WAMP v2 by JSON (wamp-proto.org): one subscription to all that comes, calls for all that is sent.
// See docs/wamp.rst for topics, procedures and how a session is taken up.
import { Link, socket } from "./link.js";

const [HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE, GOODBYE, ERROR] = [1, 2, 3, 4, 5, 6, 8];
const [SUBSCRIBE, SUBSCRIBED, EVENT, CALL, RESULT] = [32, 33, 36, 48, 50];
const NOT_LOGGED = 2 ** 52; // publication ids from here on have no place in the sequence

export class WampLink extends Link {
  // `options` also: directPath, realm.
  forget() {
    this.session = undefined;
    this.position = undefined;
  }

  dial(token, current) {
    const extra = this.session ? { session: this.session, position: this.position } : {};
    const details = {
      roles: { subscriber: { features: { pattern_based_subscription: true } }, publisher: {}, caller: {} },
      authmethods: ["ticket"],
      authid: "anyone",
      authextra: extra,
    };
    this.token = token;
    this.until = 0;
    this.socket = socket(this, this.options.base + this.options.directPath, "wamp.2.json", current, {
      opened: () => this.send([HELLO, this.options.realm, details]),
      message: (data) => this.message(JSON.parse(data)),
    });
  }

  hangup() {
    this.socket?.close();
    this.socket = null;
  }

  goodbye() {
    if (this.state === "connected") this.send([GOODBYE, {}, "wamp.close.normal"]);
  }

  transmit(event, data, number) {
    this.send([CALL, number, {}, event.replace(":", "."), [], data]);
  }

  send(message) {
    const text = JSON.stringify(message);
    this.wire("out", text);
    this.socket.send(text);
  }

  message([type, ...rest]) {
    if (type === EVENT) this.event(rest);
    else if (type === RESULT) this.answered(rest[0], { ok: true, ...rest[3] });
    else if (type === ERROR) this.answered(rest[1], { ok: false, error: rest[5] ?? { code: rest[3], message: "" } });
    else if (type === CHALLENGE) this.send([AUTHENTICATE, this.token, {}]);
    else if (type === WELCOME) this.joined(rest[1].authextra);
    else if (type === SUBSCRIBED) this.welcomed(this.joining);
    else if (type === ABORT || type === GOODBYE) {
      this.refused({ code: rest[1], message: rest[0].message ?? "the service ended the session" });
    }
  }

  joined(extra) {
    this.session = extra.session;
    this.place(extra.position);
    this.until = extra.recovered ? this.numberOf(extra.position) : 0;
    this.joining = extra;
    this.send([SUBSCRIBE, ++this.number, { match: "prefix" }, ""]);
    this.happened("system:connected", extra);
  }

  event([, publication, details, args = [], payload]) {
    const logged = publication < NOT_LOGGED;
    if (logged) this.position = `${this.line}:${publication}`;
    if (details.receipt) this.send([CALL, ++this.number, {}, "ack", [], { id: publication }]);
    const name = eventOf(details.topic);
    const body = payload ?? args[0] ?? {};
    if (name === "system:position" && body.position) this.place(body.position);
    this.happened(name, body, logged && publication <= this.until);
  }

  place(position) {
    this.position = position;
    this.line = position.slice(0, position.lastIndexOf(":"));
  }

  numberOf(position) {
    return Number(position.slice(position.lastIndexOf(":") + 1));
  }
}

// The event of a topic: room.lobby.message is room:message, user.alice.notification.new notification:new.
export function eventOf(topic) {
  const [kind, ...parts] = topic.split(".");
  if (["room", "event", "user"].includes(kind) && parts.length > 1) {
    const rest = parts.slice(1);
    return kind === "user" && rest.length > 1 ? rest.join(":") : [kind, ...rest].join(":");
  }
  return [kind, ...parts].join(":");
}
