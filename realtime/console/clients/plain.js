// Plain JSON over a WebSocket, subprotocol realtime.v1.json: see docs/plain.rst.
import { Link, socket } from "./link.js";

export class PlainLink extends Link {
  // `options` also: directPath.
  forget() {
    this.session = undefined;
    this.position = undefined;
  }

  dial(token, current) {
    const login = { token, session: this.session, position: this.position };
    this.replaying = this.session !== undefined;
    this.socket = socket(this, this.options.base + this.options.directPath, "realtime.v1.json", current, {
      opened: () => this.send({ event: "auth:login", data: login }),
      message: (data) => this.message(JSON.parse(data)),
    });
  }

  hangup() {
    this.socket?.close();
    this.socket = null;
  }

  goodbye() {
    if (this.state === "connected") this.send({ event: "auth:logout" });
  }

  transmit(event, data, id) {
    this.send({ event, data, id });
  }

  send(message) {
    const text = JSON.stringify(message);
    this.wire("out", text);
    this.socket.send(text);
  }

  message({ event, data, id, offset, receipt, ...answer }) {
    if (event === undefined) {
      this.answered(id, answer);
      return;
    }
    if (offset) this.position = offset;
    if (receipt) this.send({ event: "ack", data: { id: receipt } });
    if (event === "system:error" && this.state === "connecting") {
      this.refused(data);
      return;
    }
    const connected = event === "system:connected";
    if (connected) {
      this.session = data.session;
      this.replaying = false;
    }
    this.happened(event, data, this.replaying);
    if (connected) this.welcomed(data);
  }
}
