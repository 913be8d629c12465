// Series: what each node told over the last minutes, and what follows from two of its answers.
import { SPAN } from "./chart.js";

export class Series {
  constructor() {
    this.nodes = new Map(); // node -> {last, at, points: {name: [[time, value], …]}}
  }

  // Take what `GET /v1/nodes` answered, at `now` (milliseconds).
  take(nodes, now) {
    for (const told of nodes) {
      const entry = this.nodes.get(told.node) ?? { points: {} };
      this.nodes.set(told.node, entry);
      const values = { connections: told.connections.open, memory: told.memory.resident };
      if (entry.last) Object.assign(values, rates(entry.last, told, (now - entry.at) / 1000));
      for (const [name, value] of Object.entries(values)) this.add(entry, name, now, value);
      entry.last = told;
      entry.at = now;
    }
    for (const [node, { at }] of this.nodes) if (now - at > SPAN) this.nodes.delete(node);
  }

  add(entry, name, now, value) {
    const points = (entry.points[name] ??= []);
    points.push([now, value]);
    while (now - points[0][0] > SPAN) points.shift();
  }

  // One line for each node.
  lines(name) {
    return [...this.nodes].map(([node, { points }]) => ({ name: node.slice(0, 6), points: points[name] ?? [] }));
  }

  // The newest values of a name, of nodes that answered just now.
  newest(name, now) {
    return [...this.nodes.values()]
      .filter(({ at }) => now - at < 10000)
      .map(({ points }) => points[name]?.at(-1)?.[1])
      .filter((value) => value !== undefined);
  }
}

// Per second, and how long deliveries took, in milliseconds, between two answers.
export function rates(before, after, seconds) {
  const rate = (name) => Math.max(0, after[name] - before[name]) / seconds;
  const found = { received: rate("received"), sent: rate("sent"), cpu: rate("cpuSeconds") * 100 };
  found.messages = found.received + found.sent;
  const p50 = quantile(before.latency, after.latency, 0.5);
  if (p50 !== null) {
    found.p50 = p50;
    found.p95 = quantile(before.latency, after.latency, 0.95);
  }
  return found;
}

// The bound under which this share of what was delivered meanwhile was; null where nothing was.
export function quantile(before, after, share) {
  const counts = Object.entries(after)
    .map(([bound, count]) => [Number(bound === "+Inf" ? Infinity : bound), count - (before[bound] ?? 0)])
    .sort(([one], [other]) => one - other);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  let below = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= share * all) {
      if (bound === Infinity) return below[0] * 1000;
      const within = count === below[1] ? 1 : (share * all - below[1]) / (count - below[1]);
      return (below[0] + (bound - below[0]) * within) * 1000;
    }
    below = [bound, count];
  }
  return null;
}

