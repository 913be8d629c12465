// Chart: lines over the last minutes, one for each node, as SVG of our own.

const NAMESPACE = "http://www.w3.org/2000/svg";
const [HEIGHT, LEFT, BOTTOM] = [152, 58, 18];
export const SPAN = 300000; // milliseconds shown
const LEAST = 20000;
export const SERIES = 6; // colours; further nodes share the last

function draw(tag, attributes, text) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

export class Chart {
  constructor(title, format) {
    this.format = format;
    this.title = title;
    this.figure = document.createElement("figure");
    this.figure.className = "card";
    this.caption = document.createElement("figcaption");
    this.svg = draw("svg", { role: "img" });
    this.figure.append(this.caption, this.svg);
  }

  // `lines`: [{name, points: [[time, value], …]}].
  show(lines, now) {
    const most = ceiling(Math.max(0, ...lines.flatMap(({ points }) => points.map(([, value]) => value))));
    const width = this.svg.clientWidth || 600;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    // at first less than all of it, so that there is something to see
    const first = Math.min(now, ...lines.flatMap(({ points }) => points.slice(0, 1).map(([time]) => time)));
    const span = Math.min(SPAN, Math.max(LEAST, now - first));
    const x = (time) => LEFT + (1 - (now - time) / span) * (width - LEFT);
    const y = (value) => 6 + (1 - value / most) * (HEIGHT - BOTTOM - 6);
    const parts = [0, 0.5, 1].flatMap((share) => [
      draw("line", { class: "grid", x1: LEFT, x2: width, y1: y(most * share), y2: y(most * share) }),
      draw("text", { x: LEFT - 8, y: y(most * share) + 4, "text-anchor": "end" }, this.format(most * share)),
    ]);
    parts.push(draw("text", { x: LEFT, y: HEIGHT - 2 }, ago(span)));
    parts.push(draw("text", { x: width, y: HEIGHT - 2, "text-anchor": "end" }, "now"));
    lines.forEach(({ points }, index) => {
      const shown = points.filter(([time]) => now - time <= SPAN);
      const d = shown.map(([time, value], at) => `${at ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
      parts.push(draw("path", { class: `series-${Math.min(index, SERIES - 1)}`, d: d.join("") }));
    });
    this.svg.replaceChildren(...parts);
    this.tell(lines);
  }

  tell(lines) {
    const title = document.createElement("h2");
    title.textContent = this.title;
    const legends = lines.map(({ name, points }, index) => {
      const legend = document.createElement("span");
      legend.className = `legend series-${Math.min(index, SERIES - 1)}`;
      const text = document.createElement("span");
      text.textContent = `${name} ${points.length ? this.format(points.at(-1)[1]) : ""}`;
      legend.append(text);
      return legend;
    });
    this.caption.replaceChildren(title, ...legends);
    const said = legends.map((legend) => legend.textContent).join(", ");
    this.svg.setAttribute("aria-label", `${this.title} over the last 5 minutes. Now: ${said}`);
  }
}

const ago = (span) => (span < 60000 ? `${Math.round(span / 1000)} s ago` : `${Math.round(span / 60000)} min ago`);

// A round number at or above it, so that the scale seldom jumps.
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}
