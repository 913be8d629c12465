// Engine.IO 4 (github.com/socketio/engine.io-protocol), over a WebSocket or by long-polling.
//
// A carrier hands the bodies of messages to `message`, text or ArrayBuffer, and what went wrong to
// `broken(code, reason)`. It answers pings, and breaks when none comes.

const SEPARATOR = "\x1e";
const [OPEN, CLOSE, PING, PONG, MESSAGE] = ["0", "1", "2", "3", "4"];

class Carrier {
  constructor(address, { opened, message, broken, wire }) {
    this.address = address;
    this.handlers = { opened, message, broken, wire };
    this.closed = false;
    this.watch = 0;
  }

  // One packet, text or binary.
  packet(data) {
    if (this.closed) return;
    this.handlers.wire("in", data);
    if (typeof data !== "string") {
      this.handlers.message(data);
      return;
    }
    const [type, body] = [data[0], data.slice(1)];
    if (type === OPEN) this.begin(JSON.parse(body));
    else if (type === PING) this.pinged();
    else if (type === MESSAGE) this.handlers.message(body);
    else if (type === CLOSE) this.end(0, "closed by the service");
  }

  begin(handshake) {
    this.patience = handshake.pingInterval + handshake.pingTimeout;
    this.sid = handshake.sid;
    this.attend();
    this.handlers.opened();
  }

  pinged() {
    this.attend();
    this.write(PONG);
  }

  attend() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.end(0, "no ping came"), this.patience);
  }

  // Send the body of a message.
  send(text) {
    this.write(MESSAGE + text);
  }

  write(packet) {
    if (this.closed) return;
    this.handlers.wire("out", packet);
    this.transmit(packet);
  }

  end(code, reason) {
    if (this.closed) return;
    this.close();
    this.handlers.broken(code, reason);
  }

  // Say nothing and hear nothing any more.
  close() {
    this.closed = true;
    clearTimeout(this.watch);
    this.release();
  }
}

export class WebSocketCarrier extends Carrier {
  constructor(address, handlers) {
    super(address, handlers);
    this.socket = new WebSocket(`${address.replace(/^http/, "ws")}?EIO=4&transport=websocket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.packet(data);
    this.socket.onclose = ({ code, reason }) => this.end(code, reason);
  }

  transmit(packet) {
    this.socket.send(packet);
  }

  release() {
    this.socket.close();
  }
}

export class PollingCarrier extends Carrier {
  constructor(address, handlers) {
    super(address, handlers);
    this.aborting = new AbortController();
    this.queue = [];
    this.posting = false;
    this.poll();
  }

  url() {
    const sid = this.sid ? `&sid=${encodeURIComponent(this.sid)}` : "";
    return `${this.address}?EIO=4&transport=polling${sid}`;
  }

  async fetch(options) {
    const answer = await fetch(this.url(), { ...options, cache: "no-store", signal: this.aborting.signal });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    return text;
  }

  async poll() {
    try {
      while (!this.closed) {
        const payload = await this.fetch({ method: "GET" });
        for (const packet of payload.split(SEPARATOR)) this.packet(packet[0] === "b" ? bytes(packet) : packet);
      }
    } catch (error) {
      this.end(0, error.message);
    }
  }

  transmit(packet) {
    this.queue.push(packet);
    if (!this.posting) this.post();
  }

  async post() {
    this.posting = true;
    try {
      while (this.queue.length && !this.closed) {
        const body = this.queue.splice(0).join(SEPARATOR);
        await this.fetch({ method: "POST", body, headers: { "Content-Type": "text/plain;charset=UTF-8" } });
      }
    } catch (error) {
      this.end(0, error.message);
    }
    this.posting = false;
  }

  release() {
    this.aborting.abort();
  }
}

// A binary packet of a polling payload: "b" and base64.
function bytes(packet) {
  return Uint8Array.from(atob(packet.slice(1)), (letter) => letter.charCodeAt(0)).buffer;
}
