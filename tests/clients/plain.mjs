// Clients of plain JSON by the WebSocket that there is, in Node or in a page, driven by the commands of
// sockets.mjs and telling what happens to them by the same reports. A program of a few lines, as the
// documentation has it. After a cut it comes back and takes its session up.
import { Commanded } from "./commanded.mjs";

export class Plain extends Commanded {
  open({ id, url, options }) {
    const state = { id, url, options, calls: new Map(), number: 0, over: false };
    this.byId.set(id, state);
    this.dial(state);
  }

  dial(state) {
    const tell = (report, more) => this.report({ id: state.id, report, ...more });
    const protocols = state.options.protocols ?? ["realtime.v1.json"];
    const socket = new this.library(state.url, protocols);
    state.socket = socket;
    socket.onopen = () => {
      const { session, position } = state;
      const taken = session === undefined ? {} : { session, position };
      this.send(state, "auth:login", { token: state.options.token, ...taken }, (answer) => {
        if (!answer.ok) tell("connect_error", { message: answer.error.message, data: answer.error });
      });
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.id !== undefined) {
        const { id, ...answer } = message;
        state.calls.get(id)?.(answer);
        state.calls.delete(id);
        return;
      }
      if (message.offset !== undefined) state.position = message.offset;
      if (message.event === "system:connected") {
        state.session = message.data.session;
        tell("connect", { sid: message.data.connectionId, recovered: message.data.recovered });
      }
      tell("event", { event: message.event, args: [message.data] });
      if (message.receipt !== undefined) this.send(state, "ack", { id: message.receipt });
    };
    socket.onclose = ({ code, reason }) => {
      const active = !state.over && code < 4500;
      tell("disconnect", { reason: "closed", code, text: reason, active });
      if (active) setTimeout(() => this.dial(state), 20);
    };
    socket.onerror = () => {};
  }

  send(state, event, data, answered) {
    const message = { event, data };
    if (answered) {
      message.id = state.number += 1;
      state.calls.set(message.id, answered);
    }
    state.socket.send(JSON.stringify(message));
  }

  emit(state, { id, event, args, ack }) {
    const wanted = ack !== undefined && ack !== null;
    const told = (answer) => this.report({ id, report: "ack", ack, args: [answer] });
    this.send(state, event, args[0], wanted ? told : undefined);
  }

  flow(state, { id, rooms, count }) {
    const refused = [];
    let answered = 0;
    for (let n = 0; n < count; n += 1) {
      this.send(state, "room:message", { roomId: rooms[n % rooms.length], data: { n } }, (answer) => {
        if (!answer.ok) refused.push(answer.error);
        answered += 1;
        if (answered === count) this.report({ id, report: "flowed", refused });
      });
    }
  }

  cut(state, { how }) {
    if (how === "rude" && state.socket.terminate) state.socket.terminate();
    else state.socket.close(3999);
  }

  forge(state, { session, position }) {
    state.session = session ?? state.session;
    state.position = position ?? state.position;
  }

  disconnect(state) {
    state.over = true;
    state.socket.close();
  }
}
