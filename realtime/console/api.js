// The HTTP API, asked with the key that was typed in. The key is in this module's memory and nowhere else.

let key = "";

export class Refused extends Error {
  constructor(status, { code, message }) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function unlock(typed) {
  key = typed;
}

export function lock() {
  key = "";
}

const headers = () => ({ Authorization: `Bearer ${key}` });

// The path of some parts, each of which may hold anything.
export const path = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

export async function ask(address, query = {}, options = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  // beside the page, wherever a proxy has put both
  const answer = await fetch(`..${address}${search}`, {
    cache: "no-store",
    ...options,
    headers: { ...headers(), ...options.headers },
  });
  const told = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, told.error ?? told);
  return told;
}

export const publish = (body) =>
  ask("/v1/publish", {}, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

export const kick = (user) => ask(path("users", user, "connections"), {}, { method: "DELETE" });

// The events of one connection as Server-Sent Events, by fetch: an EventSource could send no key. It begins
// again, after the last event, until the connection has ended or `signal` says so.
export async function follow(connection, node, signal, heard) {
  let after = 0;
  for (;;) {
    const query = new URLSearchParams({ node, after });
    const answer = await fetch(`..${path("connections", connection, "events")}?${query}`, {
      cache: "no-store",
      headers: headers(),
      signal,
    });
    if (!answer.ok) {
      const told = await answer.json();
      throw new Refused(answer.status, told.error ?? told);
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
        if (fields.event === "end") return;
        if (!fields.data) continue;
        const seen = JSON.parse(fields.data);
        after = seen.number;
        heard(seen);
      }
    }
  }
}
