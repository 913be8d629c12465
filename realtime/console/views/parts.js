// What several views are made of.
import { make } from "../dom.js";

export const number = (value) => Math.round(value).toLocaleString("en");

export const decimal = (value) => (value && value < 10 ? value.toFixed(1) : number(value));

export const bytes = (value) =>
  value < 1e3 ? `${number(value)} B` : value < 1e6 ? `${number(value / 1e3)} KB` : value < 1e9 ? `${decimal(value / 1e6)} MB` : `${decimal(value / 1e9)} GB`;

export function span(seconds) {
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

export const since = (time) => span(Math.max(0, (Date.now() - time) / 1000));

export const when = (time) => new Date(time).toLocaleString();

export const link = (text, ...parts) => make("a", { href: `#${parts.map(encodeURIComponent).join("/")}` }, text);

// `columns`: [[title, cell of a row], …]; cells are texts or elements.
export function table(caption, columns, rows, note = "") {
  const title = make("caption", {}, caption, note && make("small", {}, note));
  const head = make("tr", {}, ...columns.map(([name]) => make("th", { scope: "col" }, name)));
  const body = rows.map((row) =>
    make("tr", {}, ...columns.map(([name, cell]) => make("td", { "data-label": name }, make("span", {}, cell(row) ?? "")))),
  );
  const shown = make("table", {}, title, make("thead", {}, head), make("tbody", {}, ...body));
  return rows.length ? shown : make("div", {}, make("h2", {}, caption), make("p", { class: "empty" }, "Nothing to show."));
}

export function facts(pairs) {
  const items = pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value ?? "–")]);
  return make("dl", { class: "facts" }, ...items);
}

export const field = (label, control) => make("label", {}, make("span", {}, label), control);

export function choice(name, options, chosen) {
  const made = options.map(([value, text]) => make("option", { value, selected: value === chosen }, text));
  return make("select", { name }, ...made);
}

// Ask before something that can't be taken back.
export function confirmed(title, text, yes) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
