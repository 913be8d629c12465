// Person: one user's side of the try-out page: a link to the service, and the panel that shows it.
import { PlainLink } from "./clients/plain.js";
import { SocketIOLink } from "./clients/socketio.js";
import { WampLink } from "./clients/wamp.js";
import { append, clock, duration, make, prepend } from "./dom.js";

export const PROTOCOLS = {
  "socketio-websocket": ["Socket.IO", SocketIOLink, { transport: "websocket" }],
  "socketio-polling": ["Socket.IO, polling", SocketIOLink, { transport: "polling" }],
  wamp: ["WAMP", WampLink, {}],
  plain: ["Plain JSON", PlainLink, {}],
};

const STATES = {
  off: "not connected",
  connecting: "connecting …",
  connected: "connected",
  cut: "network cut",
  waiting: "lost; coming back …",
};
const TYPING_AGAIN = 2000; // the service lets typing end after 3 s
// Told by what the panel shows anyway.
const QUIET = new Set(["room:message", "room:typing", "system:position"]);

export class Person {
  // `served`: what the service says of itself (see try.js); `token`: an async function;
  // `heard(person, name, payload, recovered)` is called with all that comes.
  constructor(user, { served, token, heard, protocol }) {
    Object.assign(this, { user, served, token, heard });
    this.members = new Map();
    this.typists = new Map();
    this.room = null;
    this.seen = new Set();
    this.missed = 0;
    this.typedAt = 0;
    this.build(protocol);
    this.renew();
  }

  build(protocol) {
    const panel = document.getElementById("person").content.cloneNode(true).firstElementChild;
    const find = (selector) => panel.querySelector(selector);
    this.panel = panel;
    panel.id = this.user;
    this.parts = Object.fromEntries(
      ["avatar", "state", "connect", "protocol", "presence", "network", "members", "chat", "typing", "events", "wire"]
        .map((name) => [name, find(`.${name}`)]),
    );
    const title = find("h2");
    title.textContent = this.user;
    title.id = `${this.user}-title`;
    panel.setAttribute("aria-labelledby", title.id);
    this.parts.avatar.textContent = this.user[0].toUpperCase();
    this.parts.roomForm = find(".room");
    this.parts.sayForm = find(".say");
    for (const [value, [label]] of Object.entries(PROTOCOLS)) {
      this.parts.protocol.append(make("option", { value, selected: value === protocol }, label));
    }
    this.listen();
  }

  listen() {
    const { connect, protocol, presence, network, roomForm, sayForm } = this.parts;
    connect.addEventListener("click", () => (this.link.state === "off" ? this.link.connect() : this.link.disconnect()));
    protocol.addEventListener("change", () => this.change());
    presence.addEventListener("change", () => this.ask("user:presence", { status: presence.value }));
    network.addEventListener("change", () => (network.checked ? this.link.mend() : this.link.cut()));
    roomForm.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.room === null) this.join(roomForm.room.value.trim());
      else this.part();
    });
    sayForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    sayForm.text.addEventListener("input", () => this.type());
  }

  // A link of the protocol that is chosen.
  renew() {
    const [, Chosen, more] = PROTOCOLS[this.parts.protocol.value];
    const link = new Chosen({
      ...this.served,
      ...more,
      token: this.token,
      state: (state, detail) => link === this.link && this.changed(state, detail),
      event: (name, payload, { recovered }) => this.happened(name, payload, recovered),
      wire: (direction, text) => this.wire(direction, text),
    });
    this.link = link;
    this.changed("off", "");
  }

  // Another protocol is another client: the session before ends, a new one begins.
  change() {
    const wasOff = this.link.state === "off";
    if (!wasOff) this.link.disconnect();
    this.renew();
    if (!wasOff) this.link.connect();
  }

  async ask(event, data) {
    const answer = await this.link.request(event, data);
    if (!answer.ok) this.note(`${event} refused: ${answer.error.code}, ${answer.error.message}`, "bad");
    return answer;
  }

  async join(room) {
    const answer = await this.ask("room:join", { roomId: room });
    if (!answer.ok) return;
    const anew = this.room !== room;
    this.room = room;
    if (anew) {
      this.parts.chat.replaceChildren();
      this.seen.clear();
    }
    this.members = new Map(answer.members.map((member) => [member.userId, member.status]));
    for (const message of answer.history) this.message(message, false);
    this.showRoom();
  }

  async part() {
    const answer = await this.ask("room:leave", { roomId: this.room });
    if (answer.ok) this.left();
  }

  left() {
    this.room = null;
    this.members.clear();
    this.showRoom();
  }

  async say() {
    const input = this.parts.sayForm.text;
    const text = input.value;
    if (!text.trim()) return;
    const answer = await this.ask("room:message", { roomId: this.room ?? this.wanted(), text });
    if (!answer.ok) return;
    input.value = "";
    this.typedAt = 0;
    this.link.request("user:typing", { roomId: this.room, typing: false });
  }

  type() {
    if (this.room === null || Date.now() - this.typedAt < TYPING_AGAIN) return;
    this.typedAt = Date.now();
    this.link.request("user:typing", { roomId: this.room, typing: true });
  }

  wanted() {
    return this.parts.roomForm.room.value.trim();
  }

  // -- what the link tells

  changed(state, detail) {
    const { state: shown, connect, network, presence, roomForm, sayForm } = this.parts;
    const recovered = state === "connected" && detail === "recovered";
    this.panel.dataset.state = state;
    shown.textContent = STATES[state] + (detail && state !== "connected" ? ` (${detail})` : "");
    connect.textContent = state === "off" ? "Connect" : "Disconnect";
    network.disabled = state === "off";
    if (state !== "cut") network.checked = true;
    presence.disabled = state !== "connected";
    for (const control of [...roomForm.elements, ...sayForm.elements]) control.disabled = state !== "connected";
    if (state === "cut" || state === "waiting") this.away ??= performance.now();
    if (state === "cut") this.note("network cut: what others do now is kept by the service");
    if (state === "off") {
      this.away = undefined;
      this.left();
    }
    if (state === "connected") this.back(recovered);
    this.showRoom();
  }

  back(recovered) {
    if (this.away !== undefined) {
      const gone = duration(performance.now() - this.away);
      if (recovered) this.recovered(gone);
      else this.note(`back after ${gone}, as a new session`, "bad");
    }
    this.away = undefined;
    this.missed = 0;
    if (recovered) return;
    this.parts.presence.value = "online";
    this.join(this.wanted());
  }

  // What was missed comes before or right after this: it is counted as it comes.
  recovered(gone) {
    const count = make("strong", {}, String(this.missed));
    this.counting = { count, missed: this.missed };
    this.note(make("span", {}, `back after ${gone}, session recovered; missed and delivered: `, count), "good");
  }

  happened(name, payload, recovered) {
    if (recovered) this.count();
    if (name === "room:message") this.message(payload, recovered);
    else if (name === "room:typing") this.typing(payload);
    else this.presence(name, payload);
    if (!QUIET.has(name)) this.event(name, payload, recovered);
    this.heard(this, name, payload, recovered);
  }

  count() {
    if (this.link.state !== "connected") this.missed += 1;
    else if (this.counting) this.counting.count.textContent = String((this.counting.missed += 1));
  }

  presence(name, { userId, roomId, status }) {
    if (name === "room:user_joined" && roomId === this.room) this.members.set(userId, "online");
    else if (name === "room:user_left" && roomId === this.room) this.members.delete(userId);
    else if (name === "room:left" && roomId === this.room) this.left();
    else if (/^user:(online|offline|status_change)$/.test(name)) {
      if (!this.members.has(userId)) return;
      this.members.set(userId, name === "user:offline" ? "offline" : (status ?? "online"));
    } else return;
    this.showRoom();
  }

  message({ roomId, id, userId, text, data, timestamp }, recovered) {
    if (roomId !== this.room && this.room !== null) return;
    if (this.seen.has(id)) return;
    this.seen.add(id);
    const item = make(
      "div",
      { class: userId === this.user ? "own" : "other" },
      make("span", { class: "who" }, `${userId} `, make("time", {}, clock(timestamp))),
      make("span", { class: "text" }, text ?? JSON.stringify(data)),
    );
    if (recovered) item.firstChild.append(" ", badge("recovered"));
    append(this.parts.chat, item);
    if (this.typists.has(userId)) this.typing({ userId, typing: false, roomId });
  }

  typing({ userId, typing, roomId }) {
    if (roomId !== this.room) return;
    if (typing) this.typists.set(userId, true);
    else this.typists.delete(userId);
    const names = [...this.typists.keys()];
    this.parts.typing.textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "type" : "types"} …` : "";
  }

  // -- what is shown

  event(name, payload, recovered) {
    const { session, ...shown } = payload; // a session is a secret
    prepend(
      this.parts.events,
      make(
        "li",
        {},
        make("span", { class: "head" }, make("code", {}, name), recovered ? badge("recovered") : "", make("time", {}, clock())),
        make("code", { class: "body" }, JSON.stringify(shown)),
      ),
    );
  }

  note(what, kind = "") {
    prepend(this.parts.events, make("li", { class: `told ${kind}` }, what, make("time", {}, clock())));
  }

  wire(direction, text) {
    const shown = text
      .replaceAll(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, "(token)")
      .replaceAll(/("(?:pid|session)":")[^"]+/g, "$1(secret)");
    const way = direction === "in" ? "from the service" : "to the service";
    append(
      this.parts.wire,
      make("li", { class: direction }, make("span", { class: "unseen" }, `${way}: `), make("code", {}, shown.slice(0, 2000))),
    );
  }

  showRoom() {
    const { members, roomForm, typing } = this.parts;
    const joined = this.room !== null;
    roomForm.querySelector("button").textContent = joined ? "Leave" : "Join";
    roomForm.room.readOnly = joined;
    if (!joined) {
      this.typists.clear();
      typing.textContent = "";
    }
    members.replaceChildren(
      ...[...this.members].sort().map(([user, status]) =>
        make("li", { "data-status": status }, make("span", { class: "dot", "aria-hidden": "true" }), `${user}, ${status}`),
      ),
    );
    if (!joined) members.append(make("li", { class: "empty" }, "in no room"));
  }
}

export const badge = (text) => make("span", { class: "badge" }, text);
