// The overview: how the nodes do, now and over the last minutes.
import { Chart } from "../chart.js";
import { make } from "../dom.js";
import { bytes, decimal, number, span, table } from "./parts.js";

const TILES = {
  connections: "Connections",
  users: "Users on nodes",
  received: "Messages in / s",
  sent: "Messages out / s",
  p50: "Latency, median",
  p95: "Latency, 95 %",
  memory: "Memory",
  cpu: "Processor",
};
const milliseconds = (value) => `${decimal(value)} ms`;
const STATUS = { healthy: "good", degraded: "warn", unhealthy: "bad" };
const CHARTS = [
  ["Connections", number, "connections"],
  ["Messages per second, in and out", decimal, "messages"],
  ["Latency, 95 %", milliseconds, "p95"],
  ["Memory", bytes, "memory"],
];

export class Overview {
  constructor(app, place) {
    this.app = app;
    this.values = {};
    const tiles = Object.entries(TILES).map(([name, title]) => {
      this.values[name] = make("dd", { "data-tile": name }, "–");
      return make("div", { class: "card tile" }, make("dt", {}, title), this.values[name]);
    });
    this.charts = CHARTS.map(([title, format, name]) => [new Chart(title, format), name]);
    this.nodes = make("section", { class: "card", id: "nodes" });
    place.append(
      make("h2", { class: "unseen" }, "Overview"),
      make("dl", { class: "tiles" }, ...tiles),
      make("div", { class: "charts" }, ...this.charts.map(([chart]) => chart.figure)),
      this.nodes,
    );
    this.refresh();
  }

  // The app has new figures.
  refresh() {
    const { series, nodes, now } = this.app;
    const sum = (name) => series.newest(name, now).reduce((one, other) => one + other, 0);
    const most = (name) => Math.max(...series.newest(name, now));
    const shown = {
      connections: number(sum("connections")),
      users: number(nodes.reduce((all, { users }) => all + users, 0)),
      received: decimal(sum("received")),
      sent: decimal(sum("sent")),
      p50: latency(most("p50")),
      p95: latency(most("p95")),
      memory: bytes(sum("memory")),
      cpu: `${decimal(sum("cpu"))} %`,
    };
    for (const [name, text] of Object.entries(shown)) this.values[name].textContent = text;
    for (const [chart, name] of this.charts) chart.show(series.lines(name), now);
    this.nodes.replaceChildren(this.table(nodes));
  }

  table(nodes) {
    return table(
      "Nodes",
      [
        ["Node", ({ node }) => make("code", {}, node.slice(0, 6))],
        ["Status", ({ status, causes }) => make("span", { class: `status ${STATUS[status]}` }, [status, ...causes].join(", "))],
        ["Up for", ({ uptime }) => span(uptime)],
        ["Connections", ({ connections: { open, limit } }) => `${number(open)} of ${number(limit)}`],
        ["Users", ({ users }) => number(users)],
        ["Rooms", ({ rooms }) => number(rooms)],
        ["Memory", ({ memory }) => bytes(memory.resident)],
        ["Lag", ({ reactor }) => milliseconds(reactor.lag)],
        ["Queued", ({ queueBytes }) => bytes(queueBytes)],
        ["Refused", ({ refused }) => number(refused)],
        ["Version", ({ version }) => version],
      ],
      nodes,
    );
  }

  close() {}
}

const latency = (value) => (Number.isFinite(value) ? milliseconds(value) : "–");
