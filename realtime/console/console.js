// The console: asks for the key, shows the view that the address names, and keeps the figures of all nodes.
import { ask, lock, unlock } from "./api.js";
import { Series } from "./series.js";
import { OneConnection, Publish, Room, User } from "./views/details.js";
import { Connections, Rooms, Users } from "./views/lists.js";
import { Overview } from "./views/overview.js";

const EVERY = 2000; // milliseconds between two questions for figures
const VIEWS = {
  overview: [Overview, "overview"],
  rooms: [Rooms, "rooms"],
  room: [Room, "rooms"],
  users: [Users, "users"],
  user: [User, "users"],
  connections: [Connections, "connections"],
  connection: [OneConnection, "connections"],
  publish: [Publish, "publish"],
};

class App {
  constructor() {
    this.parts = Object.fromEntries(["fault", "done", "login", "lock", "nav", "view", "main"].map((id) => [id, document.getElementById(id)]));
    this.parts.login.addEventListener("submit", (event) => {
      event.preventDefault();
      this.open(this.parts.login.key.value);
    });
    this.parts.lock.addEventListener("click", () => this.close());
    addEventListener("hashchange", () => this.nodes && this.show(true));
  }

  async open(key) {
    unlock(key);
    this.fault("");
    this.series = new Series();
    if (!(await this.poll())) return;
    this.parts.login.key.value = "";
    this.shown(true);
    this.show();
  }

  close() {
    lock();
    clearTimeout(this.next);
    this.view?.close();
    this.view = null;
    this.nodes = null;
    this.parts.view.replaceChildren();
    this.shown(false);
    this.parts.login.key.focus();
  }

  shown(open) {
    this.parts.login.hidden = open;
    for (const part of ["lock", "nav", "view"]) this.parts[part].hidden = !open;
  }

  // Ask for the figures, now and again and again; whether there was an answer.
  async poll() {
    clearTimeout(this.next);
    const told = await this.guard(() => ask("/v1/nodes"));
    if (told) {
      if (this.away) this.fault("");
      this.now = performance.now();
      this.nodes = told.nodes;
      this.series.take(told.nodes, this.now);
      this.view?.refresh();
    }
    this.away = !told;
    if (this.nodes) this.next = setTimeout(() => this.poll(), EVERY);
    return Boolean(told);
  }

  // Do what may fail; why it did is told.
  async guard(work) {
    try {
      return await work();
    } catch (error) {
      if (error.status === 401) this.close();
      this.fault(error.status === 401 ? "This is no API key of this service." : error.message);
      return null;
    }
  }

  fault(text) {
    this.parts.fault.textContent = text;
    this.parts.fault.hidden = !text;
  }

  // What was done.
  tell(text) {
    this.fault("");
    this.parts.done.textContent = text;
  }

  // Show what the address names; `moved`: for somebody who came from another view.
  show(moved = false) {
    const [name, ...named] = location.hash.slice(1).split("/").map(decodeURIComponent);
    const [View, tab] = VIEWS[name] ?? VIEWS.overview;
    this.view?.close();
    this.parts.view.replaceChildren();
    this.tell("");
    for (const link of this.parts.nav.children) {
      if (link.hash === `#${tab}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.view = new View(this, this.parts.view, ...named);
    document.title = `${this.parts.view.querySelector("h2").textContent} · realtime`;
    if (moved) this.parts.main.focus();
  }
}

new App();
