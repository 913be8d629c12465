// Tables: rooms, users, connections. What is typed in as a filter is asked for when it is sent.
import { ask } from "../api.js";
import { make } from "../dom.js";
import { bytes, choice, field, link, number, since, table } from "./parts.js";

const PROTOCOLS = { socketio: "Socket.IO", wamp: "WAMP", plain: "Plain JSON" };
export const spoken = (protocol) => PROTOCOLS[protocol] ?? protocol;
const PAGE = 100;

class List {
  constructor(app, place) {
    this.app = app;
    this.form = make("form", { class: "card filters" }, ...this.fields(), make("button", { class: "primary" }, "Show"));
    this.rows = make("section", { class: "card stack", "aria-live": "polite" });
    place.append(make("h2", { class: "unseen" }, this.title()), this.form, this.rows);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.goes()) this.load();
    });
    this.load();
  }

  // Whether what was typed in leads elsewhere.
  goes() {
    return false;
  }

  asked() {
    return Object.fromEntries([...new FormData(this.form)].map(([name, value]) => [name, value.trim()]));
  }

  async load(after, before = []) {
    const page = await this.app.guard(() => this.page(this.asked(), after));
    if (!page) return;
    const rows = [...before, ...page.rows];
    this.rows.replaceChildren(this.show(rows, page));
    if (page.next) {
      const more = make("button", { type: "button", onclick: () => this.load(page.next, rows) }, "More");
      this.rows.append(make("div", {}, more));
    }
  }

  nodeField() {
    const nodes = this.app.nodes.map(({ node }) => [node, node.slice(0, 6)]);
    return field("Node", choice("node", [["", "all"], ...nodes], ""));
  }

  // One page of each node that is meant: of several, only the first page.
  async ofNodes(what, { node, ...query }, after) {
    const nodes = node ? [node] : this.app.nodes.map((one) => one.node);
    const answers = await Promise.all(
      nodes.map(async (one) => ({ node: one, ...(await ask(`/v1/${what}`, { ...query, node: one, after, limit: PAGE })) })),
    );
    const rows = answers.flatMap((answer) => answer[what].map((row) => ({ ...row, node: answer.node })));
    return {
      rows,
      total: answers.reduce((sum, { total }) => sum + total, 0),
      next: answers.length === 1 ? answers[0].next : null,
      cut: answers.length > 1 && answers.some(({ next }) => next),
    };
  }

  refresh() {}

  close() {}
}

const counted = (rows, { cut }) => (cut ? `the first ${PAGE} of each node; choose one for more` : number(rows.length));

export class Rooms extends List {
  title() {
    return "Rooms";
  }

  fields() {
    return [field("Room id", make("input", { name: "room", placeholder: "event:42", autocomplete: "off" }))];
  }

  goes() {
    const { room } = this.asked();
    if (room) location.hash = `#room/${encodeURIComponent(room)}`;
    return Boolean(room);
  }

  async page(_, after) {
    const { rooms, next } = await ask("/v1/rooms", { after, limit: PAGE });
    return { rows: rooms, next };
  }

  show(rows, page) {
    return table(
      "Rooms of all nodes",
      [
        ["Room", ({ roomId }) => link(roomId, "room", roomId)],
        ["Users", ({ users }) => number(users)],
      ],
      rows,
      counted(rows, page),
    );
  }
}

export class Users extends List {
  title() {
    return "Users";
  }

  fields() {
    return [field("User id", make("input", { name: "user", placeholder: "alice", autocomplete: "off" })), this.nodeField()];
  }

  goes() {
    const { user } = this.asked();
    if (user) location.hash = `#user/${encodeURIComponent(user)}`;
    return Boolean(user);
  }

  page({ node }, after) {
    return this.ofNodes("users", { node }, after);
  }

  show(rows, page) {
    return table(
      "Users",
      [
        ["User", ({ userId }) => link(userId, "user", userId)],
        ["Node", ({ node }) => make("code", {}, node.slice(0, 6))],
        ["Connections", ({ connections }) => number(connections)],
      ],
      rows,
      counted(rows, page),
    );
  }
}

export class Connections extends List {
  title() {
    return "Connections";
  }

  fields() {
    const any = ["", "any"];
    return [
      this.nodeField(),
      field("User id", make("input", { name: "user", autocomplete: "off" })),
      field("Room id", make("input", { name: "room", autocomplete: "off" })),
      field("Protocol", choice("protocol", [any, ...Object.entries(PROTOCOLS)], "")),
      field("Transport", choice("transport", [any, ["websocket", "WebSocket"], ["polling", "long-polling"]], "")),
    ];
  }

  page(query, after) {
    return this.ofNodes("connections", query, after);
  }

  show(rows, page) {
    return connectionTable(rows, counted(rows, page));
  }
}

export const connectionTable = (rows, note = "") =>
  table(
    "Connections",
    [
      ["Connection", ({ connectionId, node }) => link(connectionId.slice(0, 8), "connection", node, connectionId)],
      ["User", ({ userId }) => link(userId, "user", userId)],
      ["Node", ({ node }) => make("code", {}, node.slice(0, 6))],
      ["Protocol", ({ protocol }) => spoken(protocol)],
      ["Transport", ({ transport }) => transport],
      ["Address", ({ address }) => address],
      ["Open for", (row) => since(row.since)],
      ["Rooms", ({ rooms }) => number(rooms)],
      ["Queued", ({ queueBytes }) => bytes(queueBytes)],
    ],
    rows,
    note,
  );
