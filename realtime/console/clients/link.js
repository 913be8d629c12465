// Link: one client's session on the service, whatever its protocol: states, answers, coming back.
//
// A protocol extends it and says how to dial, how to hang up, and how to send an event.

const FIRST_WAIT = 250; // milliseconds before the first attempt to come back
const LONGEST_WAIT = 5000;
const ANSWER_WITHIN = 10000;
const FINAL_CLOSE = 4500; // from this close code on, the service says not to come back

const lost = (event) => ({
  ok: false,
  error: { code: "link.lost", message: "the link went before the answer came", event },
});

// States: "off", "connecting", "connected", "cut" (the network is away), "waiting" (for the next attempt).
export class Link {
  // `options`: base (http address of the service), token (an async function), and the handlers
  // state(name, detail), event(name, payload, {recovered}), wire(direction, text).
  constructor(options) {
    this.options = options;
    this.state = "off";
    this.me = null; // the payload of system:connected
    this.waits = new Map();
    this.number = 0;
    this.attempts = 0;
    this.generation = 0;
    this.retry = 0;
  }

  connect() {
    if (this.state !== "off") return;
    this.forget();
    this.open();
  }

  // End the session for good.
  disconnect() {
    this.goodbye();
    this.leave("off", "you left");
    this.forget();
  }

  // Take the network away. A page can't pull the cable: the transport is closed, without a word of the
  // protocol, and nothing comes through until mend().
  cut() {
    if (this.state === "off" || this.state === "cut") return;
    this.leave("cut", "the network is away");
  }

  // Give the network back.
  mend() {
    if (this.state === "cut") this.open();
  }

  // Send an event; its acknowledgement, {ok, …}. Never rejects.
  request(event, data = {}) {
    if (this.state !== "connected") return Promise.resolve(lost(event));
    const number = ++this.number;
    return new Promise((resolve) => {
      const late = setTimeout(() => this.answered(number, lost(event)), ANSWER_WITHIN);
      this.waits.set(number, { event, resolve, late });
      this.transmit(event, data, number);
    });
  }

  // -- for protocols

  // Called when dialled: whether what is dialled for is still wanted.
  open() {
    const generation = ++this.generation;
    this.become("connecting");
    const current = () => generation === this.generation;
    this.options
      .token()
      .then((token) => {
        if (current()) this.dial(token, current);
      })
      .catch((error) => {
        if (current()) this.refused({ code: "page.no_token", message: error.message });
      });
  }

  answered(number, answer) {
    const waiting = this.waits.get(number);
    if (!waiting) return;
    this.waits.delete(number);
    clearTimeout(waiting.late);
    waiting.resolve(answer);
  }

  welcomed(me) {
    this.me = me;
    this.attempts = 0;
    this.become("connected", me.recovered ? "recovered" : "fresh");
  }

  happened(name, payload, recovered = false) {
    this.options.event(name, payload, { recovered });
  }

  wire(direction, data) {
    this.options.wire(direction, typeof data === "string" ? data : `(binary, ${data.byteLength} bytes)`);
  }

  // The transport is gone, by itself or by the service.
  broken(code, reason) {
    if (code >= FINAL_CLOSE) {
      this.refused({ code: reason || String(code), message: `closed with ${code}` });
      return;
    }
    this.leave("waiting", reason || (code ? `closed with ${code}` : "the link went"));
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.attempts++);
    this.retry = setTimeout(() => this.open(), wait * (0.75 + Math.random() / 2));
  }

  // The service does not want this client.
  refused(error) {
    this.leave("off", `${error.code}: ${error.message}`);
    this.forget();
  }

  leave(state, detail) {
    this.generation++;
    clearTimeout(this.retry);
    this.hangup();
    for (const [number, { event }] of [...this.waits]) this.answered(number, lost(event));
    this.become(state, detail);
  }

  become(state, detail = "") {
    this.state = state;
    this.options.state(state, detail);
  }

  // -- what protocols have: forget() what a session is taken up by; dial(token, current); hangup();
  // goodbye(), as is said before leaving for good; transmit(event, data, number).
}

// A WebSocket whose events are heard only while they are wanted.
export function socket(link, address, protocols, current, { opened = () => {}, message }) {
  const made = new WebSocket(address.replace(/^http/, "ws"), protocols);
  made.binaryType = "arraybuffer";
  made.onopen = () => current() && opened();
  made.onmessage = ({ data }) => {
    if (!current()) return;
    link.wire("in", data);
    message(data);
  };
  made.onclose = ({ code, reason }) => current() && link.broken(code, reason);
  return made;
}
