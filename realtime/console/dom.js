// Elements from data. Text goes in as text: nothing that came over the network is ever parsed as HTML.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Add at the end of a list that scrolls and keeps at most `most`; it stays at its end if it was there.
export function append(list, item, most = 200) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.childElementCount > most) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

// Add at the start of a list that keeps at most `most`.
export function prepend(list, item, most = 100) {
  list.prepend(item);
  while (list.childElementCount > most) list.lastElementChild.remove();
}

export const clock = (milliseconds = Date.now()) => new Date(milliseconds).toLocaleTimeString();

export const duration = (milliseconds) =>
  milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
