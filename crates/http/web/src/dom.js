// Elements, and how values are written.

/** An element: h("a", { href, class, onclick, "aria-label" }, child, …). Text is always text. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const count = (value) => number.format(value);
export const time = (ms) => h("time", { datetime: new Date(ms).toISOString() }, clock.format(ms));
export const short = (hash) => h("code", { title: hash }, hash.length > 18 ? `${hash.slice(0, 10)}…${hash.slice(-6)}` : hash);
export const state = (name) => h("span", { class: `state ${name}` }, name);

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  return value < 100 ? `${value.toFixed(2)} s` : `${count(Math.round(value))} s`;
}

/** A link to a device or a reading on this page. */
export const deviceLink = (device) => h("a", { href: `#/device/${encodeURIComponent(device)}` }, device);
export const readingLink = (device, sequence) =>
  h("a", { href: `#/reading/${encodeURIComponent(device)}/${sequence}` }, `#${sequence}`);

/** A table with a caption for screen readers; `columns` are [heading, row => cell, class]. */
export function table(caption, columns, rows, empty) {
  const body = h("tbody", {}, rows.map((row) => line(columns, row)));
  const whole = h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(([heading, , kind]) => h("th", { scope: "col", class: kind }, heading)))), body),
    rows.length === 0 && h("p", { class: "empty" }, empty));
  return whole;
}

export function line(columns, row) {
  return h("tr", {}, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(row) ?? "–")));
}
