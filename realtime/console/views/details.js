// Details: one room, one user, one connection; and publishing.
import { ask, follow, kick, path, publish } from "../api.js";
import { append, clock, make, prepend } from "../dom.js";
import { connectionTable, spoken } from "./lists.js";
import { confirmed, facts, field, link, number, since, table, when } from "./parts.js";

const STATUS = { online: "good", away: "warn", busy: "bad" };
const presence = (status) => make("span", { class: `status ${STATUS[status] ?? ""}` }, status);

// Links between rooms and users, spaced.
const listed = (items) => items.flatMap((item, at) => (at ? [", ", item] : [item]));
const several = (items) => (items.length ? make("span", {}, ...listed(items)) : "–");

class Detail {
  constructor(app, place, ...named) {
    this.app = app;
    this.named = named;
    this.place = place;
    this.body = make("div", { class: "stack" });
    place.append(make("div", { class: "title" }, make("h2", {}, this.title()), ...this.buttons()), this.body);
    this.load();
  }

  buttons() {
    return [];
  }

  again() {
    return make("button", { type: "button", onclick: () => this.load() }, "Refresh");
  }

  refresh() {}

  close() {}

  async load() {
    const shown = await this.app.guard(() => this.content());
    if (shown) this.body.replaceChildren(...shown);
  }

  kicking(user) {
    const onclick = async () => {
      const text = `All connections of ${user}, on all nodes, end now. They do not come back by themselves.`;
      if (!(await confirmed(`Disconnect ${user}?`, text, "Disconnect"))) return;
      const told = await this.app.guard(() => kick(user));
      if (told) {
        const ended = told.disconnected === 1 ? "1 connection was" : `${number(told.disconnected)} connections were`;
        this.app.tell(`${ended} ended: ${user}.`);
        this.load();
      }
    };
    return make("button", { type: "button", class: "danger", onclick }, `Disconnect ${user}`);
  }
}

export class Room extends Detail {
  title() {
    return `Room ${this.named[0]}`;
  }

  buttons() {
    return [link("Publish to it", "publish", `room:${this.named[0]}:announcement`), this.again()];
  }

  async content() {
    const [room] = this.named;
    const [{ members }, { messages }] = await Promise.all([
      ask(path("rooms", room, "members")),
      ask(path("rooms", room, "history")),
    ]);
    const present = table(
      "Presence",
      [
        ["User", ({ userId }) => link(userId, "user", userId)],
        ["Status", ({ status, text }) => make("span", {}, presence(status), text ? ` ${text}` : "")],
        ["Connections", ({ metas }) => number(metas.length)],
      ],
      members,
      number(members.length),
    );
    const history = table(
      "History",
      [
        ["When", ({ timestamp }) => when(timestamp)],
        ["User", ({ userId }) => (userId ? link(userId, "user", userId) : "–")],
        ["Message", ({ text, data }) => text ?? make("code", {}, JSON.stringify(data))],
        ["Offset", ({ offset }) => number(offset)],
      ],
      messages.toReversed(),
      "newest first",
    );
    return [make("div", { class: "split" }, make("section", { class: "card" }, present), make("section", { class: "card" }, history))];
  }
}

export class User extends Detail {
  title() {
    return `User ${this.named[0]}`;
  }

  buttons() {
    return [this.again(), this.kicking(this.named[0])];
  }

  async content() {
    const [user] = this.named;
    const [told, ...answers] = await Promise.all([
      ask(path("users", user, "presence")),
      ...this.app.nodes.map(async ({ node }) => {
        const { connections } = await ask("/v1/connections", { user, node });
        return connections.map((one) => ({ ...one, node }));
      }),
    ]);
    const shown = facts([
      ["Presence", make("span", {}, presence(told.status), told.text ? ` ${told.text}` : "")],
      ["Connections", number(told.metas.length)],
    ]);
    return [
      make("section", { class: "card" }, make("h2", {}, "Presence"), shown),
      make("section", { class: "card" }, connectionTable(answers.flat())),
    ];
  }
}

export class OneConnection extends Detail {
  title() {
    return `Connection ${this.named[1].slice(0, 8)}`;
  }

  buttons() {
    return [this.again()];
  }

  async content() {
    const [node, id] = this.named;
    const told = await ask(path("connections", id), { node });
    this.stream ??= this.live();
    const shown = facts([
      ["User", link(told.userId, "user", told.userId)],
      ["Id", make("code", {}, told.connectionId)],
      ["Node", make("code", {}, node)],
      ["Speaks", `${spoken(told.protocol)}, ${told.transport}`],
      ["Address", told.address],
      ["Origin", told.origin],
      ["Open for", since(told.since)],
      ["Last event", `${told.quietSeconds} s ago${told.idle ? ", idle" : ""}`],
      ["Token ends", told.expiresAt && when(told.expiresAt)],
      ["Roles", told.roles.join(", ") || "–"],
      ["Rooms", several(told.roomIds.map((room) => link(room, "room", room)))],
      ["Muted", [...told.mutedEvents, ...told.mutedRooms].join(", ") || "–"],
      ["Queued", `${number(told.queueBytes)} bytes${told.owesPong ? "; owes a pong" : ""}`],
    ]);
    const known = make("section", { class: "card" }, make("h2", {}, "What is known"), shown);
    known.append(make("div", { class: "actions" }, this.kicking(told.userId)));
    return [make("div", { class: "split" }, known, this.stream)];
  }

  live() {
    const [node, id] = this.named;
    const state = make("p", { class: "note", role: "status" }, "Waiting for events …");
    const list = make("ol", { class: "stream", tabindex: "0", "aria-label": "Events of this connection" });
    this.aborting = new AbortController();
    follow(id, node, this.aborting.signal, (seen) => {
      state.textContent = "Live. What lets somebody in is not shown.";
      append(list, entry(seen), 500);
    })
      .then(() => (state.textContent = "The connection has ended."))
      .catch((error) => {
        if (error.name !== "AbortError") state.textContent = `The stream ended: ${error.message}`;
      });
    return make("section", { class: "card", id: "live" }, make("h2", {}, "Live events"), state, list);
  }

  close() {
    this.aborting?.abort();
  }
}

// How the protocols name the event of a frame: an array's first item, a field, the topic of an EVENT.
const NAMED = /^\d*\["([^"]+)"|"(?:event|topic)":"([^"]+)"/;

function entry({ time, way, event, text }) {
  const name = event || NAMED.exec(text)?.slice(1).find(Boolean);
  return make(
    "li",
    { class: way },
    make("span", { class: "way" }, way === "in" ? "client" : "service"),
    make("time", {}, clock(time)),
    name ? make("strong", {}, name) : "",
    make("code", {}, text),
  );
}

export class Publish {
  constructor(app, place, channel = "") {
    this.app = app;
    this.channel = make("input", { name: "channel", required: true, value: channel, placeholder: "booking:confirmed", autocomplete: "off", spellcheck: "false" });
    this.data = make("textarea", { name: "data", rows: 8, spellcheck: "false" });
    this.data.value = channel ? "{}" : '{\n  "userId": "alice",\n  "bookingId": 42\n}';
    this.id = make("input", { name: "messageId", autocomplete: "off" });
    this.fault = make("p", { class: "note", role: "status" });
    this.sent = make("ol", { class: "stack", id: "sent", "aria-live": "polite" });
    const form = make(
      "form",
      { class: "card stack", id: "publish" },
      make("h2", {}, "Publish"),
      field("Channel", this.channel),
      field("Data, a JSON object", this.data),
      field("Message id: a repetition under the same is not delivered (may be empty)", this.id),
      make("div", {}, make("button", { class: "primary" }, "Publish …")),
      this.fault,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.publish();
    });
    place.append(make("div", { class: "split" }, form, make("section", { class: "card stack" }, make("h2", {}, "Published from here"), this.sent)));
  }

  async publish() {
    const channel = this.channel.value.trim();
    let data;
    try {
      data = JSON.parse(this.data.value);
    } catch (error) {
      this.fault.textContent = `The data is no JSON: ${error.message}`;
      return;
    }
    this.fault.textContent = "";
    const text = `To real users, now: ${JSON.stringify(data).slice(0, 300)}`;
    if (!(await confirmed(`Publish to ${channel}?`, text, "Publish"))) return;
    const messageId = this.id.value.trim() || undefined;
    const told = await this.app.guard(() => publish({ channel, data, messageId }));
    if (told) prepend(this.sent, make("li", {}, make("code", {}, channel), ` ${clock()}: `, ...addressed(told)), 50);
  }

  refresh() {}

  close() {}
}

function addressed({ audience: { everyone, users, rooms }, repeated }) {
  if (repeated) return ["known by its message id; nothing was delivered now"];
  if (everyone) return ["to everyone"];
  const to = [
    ...users.map((user) => link(`user ${user}`, "user", user)),
    ...rooms.map((room) => link(`room ${room}`, "room", room)),
  ];
  return ["to ", ...listed(to)];
}
