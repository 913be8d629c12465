// The try-out page: alice and bob side by side, and a service that publishes.
//
// The address that the server prints ends in #key=…, which stays in the browser: by it the page gets tokens
// of its two people, and may publish. It is no API key, and good in development mode only.
import { duration, make, prepend } from "./dom.js";
import { Person } from "./person.js";

const KEY = new URLSearchParams(location.hash.slice(1)).get("key") ?? "";

let bookings = 1000;
const booking = (userId) => () => ({ userId, bookingId: ++bookings, seats: ["B7", "B8"] });
const PRESETS = [
  ["A booking of alice is confirmed", "booking:confirmed", booking("alice")],
  ["A booking of bob is confirmed", "booking:confirmed", booking("bob")],
  ["A payment of bob fails", "payment:failed", () => ({ userId: "bob", bookingId: ++bookings, reason: "card declined" })],
  ["A notification for alice", "notification:new", () => ({ userId: "alice", title: "Doors open at 19:00" })],
  ["Tickets of event 42 are sold", "ticket:sold", () => ({ eventId: 42, left: 120 - (++bookings % 100) })],
  ["An announcement to everyone", "system:announcement", () => ({ message: `Announcement ${++bookings}` })],
];

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    cache: "no-store",
    headers: { Authorization: `Bearer ${KEY}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error((told.error ?? told).message);
  return told;
}

function fault(text) {
  const shown = document.getElementById("fault");
  shown.textContent = text;
  shown.hidden = false;
}

class Publisher {
  constructor(people) {
    this.people = people;
    this.recent = [];
    this.form = document.getElementById("publish");
    const { preset } = this.form;
    PRESETS.forEach(([label], index) => preset.append(make("option", { value: index }, label)));
    preset.addEventListener("change", () => this.fill());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.publish();
    });
    this.fill();
  }

  fill() {
    const [, channel, data] = PRESETS[Number(this.form.preset.value)];
    this.form.channel.value = channel;
    this.form.data.value = JSON.stringify(data(), null, 2);
  }

  async publish() {
    const told = document.getElementById("published");
    let data;
    try {
      data = JSON.parse(this.form.data.value);
    } catch (error) {
      told.textContent = `The data is no JSON: ${error.message}`;
      return;
    }
    const entry = { data, at: performance.now(), got: new Map(), audience: null };
    this.recent = [entry, ...this.recent.slice(0, 19)];
    try {
      entry.audience = (await post("publish", { channel: this.form.channel.value.trim(), data })).audience;
    } catch (error) {
      this.recent = this.recent.filter((one) => one !== entry);
      told.textContent = error.message;
      return;
    }
    told.textContent = "";
    this.list(entry, this.form.channel.value.trim());
    this.fill();
  }

  list(entry, channel) {
    document.getElementById("nothing").hidden = true;
    entry.rows = new Map(this.people.map((person) => [person.user, make("li", {})]));
    prepend(
      document.getElementById("deliveries"),
      make("li", {}, make("code", {}, channel), make("ul", {}, ...entry.rows.values())),
      20,
    );
    this.show(entry);
  }

  // What came to a person: which of the recent publications was it?
  heard(person, payload, recovered) {
    const entry = this.recent.findLast(
      ({ data, got }) =>
        !got.has(person.user) &&
        Object.entries(data).every(([name, value]) => JSON.stringify(payload[name]) === JSON.stringify(value)),
    );
    if (!entry) return;
    entry.got.set(person.user, { after: performance.now() - entry.at, recovered });
    if (entry.rows) this.show(entry);
  }

  show({ audience, got, rows }) {
    for (const person of this.people) {
      const row = rows.get(person.user);
      const came = got.get(person.user);
      const meant = audience.everyone || audience.users.includes(person.user) || audience.rooms.includes(person.room);
      row.className = came ? "got" : meant ? "due" : "none";
      row.textContent = `${person.user}: ${came ? arrival(came) : meant ? "not yet" : "not for them"}`;
    }
  }
}

const arrival = ({ after, recovered }) => (recovered ? `recovered after ${duration(after)}` : `got it after ${duration(after)}`);

async function start() {
  if (!KEY) {
    fault("The address of this page ends in #key=…: take the whole of what the server printed when it started.");
    return;
  }
  let about;
  try {
    about = await post("about", {});
  } catch (error) {
    fault(`${error.message}. Take the address that the server printed when it started.`);
    return;
  }
  if (!about.originAllowed) {
    fault(`Pages of ${location.origin} may not connect: add it to WS_ALLOWED_ORIGINS, and start the server again.`);
  }
  const served = { base: location.origin, path: about.path, directPath: about.directPath, realm: about.realm };
  let publisher;
  const people = ["alice", "bob"].map(
    (user) =>
      new Person(user, {
        served,
        token: async () => (await post("token", { user })).token,
        heard: (person, name, payload, recovered) => publisher?.heard(person, payload, recovered),
        protocol: user === "alice" ? "socketio-websocket" : "plain",
      }),
  );
  document.getElementById("people").append(...people.map((person) => person.panel));
  publisher = new Publisher(people);
  for (const person of people) person.link.connect();
}

start();
