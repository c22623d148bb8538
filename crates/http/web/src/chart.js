// A line chart in SVG: one time axis, one value axis, a line for each series, its newest value in the legend.
import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [560, 180, 52, 22, 8];

function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

/** `series`: [{ name, kind, points: [[ms, value]] }]; `write` writes a value. */
export function chart(title, series, write) {
  const points = series.flatMap((each) => each.points).filter(([, value]) => Number.isFinite(value));
  const legend = h("ul", { class: "legend" }, series.map(({ name, kind, points: own }) =>
    h("li", { class: kind }, `${name} `, h("b", {}, write(own.findLast(([, value]) => Number.isFinite(value))?.[1] ?? NaN)))));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": describe(title, series, write) });
  const until = Math.max(...points.map(([at]) => at));
  const from = Math.min(...points.map(([at]) => at), until - 60_000);
  const top = ceiling(Math.max(...points.map(([, value]) => value), 0));
  const x = (at) => LEFT + ((at - from) / (until - from)) * (WIDTH - LEFT - 4);
  const y = (value) => TOP + (1 - value / (top || 1)) * (HEIGHT - TOP - BOTTOM);
  for (const part of [0, 0.5, 1]) {
    const height = y(top * part);
    picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: height, y2: height }),
      svg("text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" }, write(top * part)));
  }
  if (points.length > 0) {
    picture.append(svg("text", { x: LEFT, y: HEIGHT - 6 }, `${Math.round((until - from) / 1000)} s ago`),
      svg("text", { x: WIDTH, y: HEIGHT - 6, "text-anchor": "end" }, "now"));
  }
  for (const { kind, points: own } of series) {
    let pen = "M";
    const path = own.map(([at, value]) => {
      if (!Number.isFinite(value)) {
        pen = "M";
        return "";
      }
      const step = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return step;
    });
    picture.append(svg("path", { class: kind, d: path.join("") }));
  }
  return h("figure", {}, h("figcaption", {}, title), picture, legend);
}

const describe = (title, series, write) =>
  `${title}. ${series.map(({ name, points }) => `${name}: ${write(points.findLast(([, v]) => Number.isFinite(v))?.[1] ?? NaN)}`).join(", ")}`;
