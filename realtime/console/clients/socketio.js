// Socket.IO 5 (github.com/socketio/socket.io-protocol) in the main namespace, with connection state
// recovery: `pid` from CONNECT, and the last text argument of events as the offset.
import { PollingCarrier, WebSocketCarrier } from "./engine.js";
import { Link } from "./link.js";

const PACKET = /^([0-6])(?:(\d+)-)?(\d+)?([^]*)$/;
const [CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK] = [..."0123456"];

export class SocketIOLink extends Link {
  // `options` also: path, transport ("websocket" or "polling").
  forget() {
    this.pid = undefined;
    this.offset = undefined;
  }

  dial(token, current) {
    const Carrier = this.options.transport === "polling" ? PollingCarrier : WebSocketCarrier;
    const auth = { token, pid: this.pid, offset: this.offset };
    this.replaying = this.pid !== undefined;
    this.waiting = null;
    this.carrier = new Carrier(`${this.options.base}${this.options.path}/`, {
      opened: () => current() && this.carrier.send(CONNECT + JSON.stringify(auth)),
      message: (data) => current() && this.message(data),
      broken: (code, reason) => current() && this.broken(code, reason),
      wire: (direction, data) => this.wire(direction, data),
    });
  }

  hangup() {
    this.carrier?.close();
    this.carrier = null;
  }

  goodbye() {
    if (this.state === "connected") this.carrier.send(DISCONNECT);
  }

  transmit(event, data, number) {
    this.carrier.send(`${EVENT}${number}${JSON.stringify([event, data])}`);
  }

  message(data) {
    if (typeof data !== "string") {
      this.attached(data);
      return;
    }
    const [, type, attachments, number, body] = PACKET.exec(data);
    const packet = { type, number: number && Number(number), body: body ? JSON.parse(body) : undefined };
    if (Number(attachments)) this.waiting = { packet, sizes: [], missing: Number(attachments) };
    else this.take(packet);
  }

  // This page shows no binary: where it was, its size is.
  attached(data) {
    if (!this.waiting) return;
    const { packet, sizes } = this.waiting;
    sizes.push(data.byteLength);
    if (sizes.length < this.waiting.missing) return;
    this.waiting = null;
    const shown = JSON.stringify(packet.body, (_, value) =>
      value?._placeholder ? { $binary: `${sizes[value.num]} bytes` } : value,
    );
    this.take({ ...packet, body: JSON.parse(shown) });
  }

  take({ type, number, body }) {
    if (type === CONNECT) this.pid = body.pid;
    else if (type === EVENT || type === BINARY_EVENT) this.event(body, number);
    else if (type === ACK || type === BINARY_ACK) this.answered(number, body[0]);
    else if (type === CONNECT_ERROR) this.refused({ code: body.data?.code ?? "refused", message: body.message });
    else if (type === DISCONNECT) this.refused({ code: "disconnected", message: "the service ended the session" });
  }

  event([name, payload, ...more], number) {
    if (number !== undefined) this.carrier.send(`${ACK}${number}[]`);
    const last = more.at(-1);
    if (typeof last === "string") this.offset = last;
    const connected = name === "system:connected";
    if (connected) this.replaying = false;
    this.happened(name, payload, this.replaying);
    if (connected) this.welcomed(payload);
  }
}
