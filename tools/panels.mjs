#!/usr/bin/env node
// Draws a dashboard as one SVG picture, from what a Prometheus recorded over a time. No Grafana and no packages needed.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const USAGE = `usage: node tools/panels.mjs [options]
  --prometheus URL    [http://127.0.0.1:9090]
  --dashboard NAME    overview, devices, chain or journal [overview]
  --from TIME         unix seconds, or how long ago: 90s, 15m, 1h [15m]
  --to TIME           the same [0s]
  --instance REGEX    [.*]
  --settlement REGEX  [.*]
  --output FILE       [docs/pictures/DASHBOARD.svg]`;

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const WIDTH = 1200, CELL = WIDTH / 24, UNIT = 30, GAP = 8, POINTS = 180;
const INK = '#24292e', FAINT = '#6a737d', GRID = '#e4e7ea', PAPER = '#f4f5f5';
const LINES = ['#1f77b4', '#e8820c', '#2e9e4f', '#d1373b', '#8a63d2', '#0f9a9a', '#b0578d', '#7a6a53', '#4c5cc5', '#96a300'];
const NAMED = { green: '#2e9e4f', orange: '#e8820c', red: '#d1373b' };

function fail(text, code) {
  console.error(text);
  process.exit(code);
}

function options() {
  const text = (value) => ({ type: 'string', default: value });
  try {
    const { values } = parseArgs({ options: {
      prometheus: text('http://127.0.0.1:9090'), dashboard: text('overview'), from: text('15m'), to: text('0s'),
      instance: text('.*'), settlement: text('.*'), output: { type: 'string' },
    } });
    return { ...values, from: time(values.from), to: time(values.to), output: values.output ?? join(ROOT, `docs/pictures/${values.dashboard}.svg`) };
  } catch (error) {
    return fail(`${error.message}\n${USAGE}`, 64);
  }
}

function time(text) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text) ?? [];
  if (number === undefined) throw new Error(`${text} is no time`);
  return unit ? Date.now() / 1000 - number * { s: 1, m: 60, h: 3600, d: 86400 }[unit] : Number(number);
}

// Every series of a query over the time: its labels and its points.
async function ask({ prometheus, from, to, instance, settlement }, query, step) {
  const values = { instance, settlement, __rate_interval: `${Math.max(10, Math.ceil(2 * step))}s`, __range: `${Math.ceil(to - from)}s` };
  const expression = Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`$${name}`, value), query);
  const body = new URLSearchParams({ query: expression, start: from, end: to, step });
  const answer = await (await fetch(new URL('/api/v1/query_range', prometheus), { method: 'POST', body })).json();
  if (answer.status !== 'success') throw new Error(`${answer.error}: ${expression}`);
  return answer.data.result.map(({ metric, values: points }) => ({
    labels: metric, points: points.map(([at, value]) => [at, Number(value)]).filter(([, value]) => Number.isFinite(value)),
  })).filter(({ points }) => points.length);
}

const legend = (format, labels) => format.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '').trim();

async function load(asked, panel, step) {
  const found = [];
  for (const target of panel.targets ?? []) {
    for (const series of await ask(asked, target.expr, step)) found.push({ ...series, name: legend(target.legendFormat, series.labels) });
  }
  return found;
}

const digits = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)).replace(/\.0+$|(\.\d*[1-9])0+$/, '$1');
const scaled = (value, steps) => {
  const [limit, name] = steps.find(([limit]) => Math.abs(value) >= limit) ?? steps.at(-1);
  return `${digits(value / limit)}${name}`;
};
function shown(value, unit = 'none') {
  if (value === 0 && unit !== 'cps') return '0';
  if (unit === 's') return scaled(value, [[86400, ' d'], [3600, ' h'], [60, ' min'], [1, ' s'], [1e-3, ' ms'], [1e-6, ' µs']]);
  if (unit === 'bytes') return scaled(value, [[2 ** 30, ' GiB'], [2 ** 20, ' MiB'], [2 ** 10, ' KiB'], [1, ' B']]);
  if (unit === 'percentunit') return `${digits(value * 100)} %`;
  const number = value === 0 ? '0' : Math.abs(value) < 1000 ? digits(value) : scaled(value, [[1e9, ' G'], [1e6, ' M'], [1e3, ' k']]);
  return number + (unit === 'cps' ? '/s' : unit === 'h' ? ' h' : unit.startsWith('suffix:') ? unit.slice(7) : '');
}

const escape = (text) => String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
const words = (x, y, text, { size = 11, fill = INK, anchor = 'start', weight = 400 } = {}) =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" fill="${fill}" text-anchor="${anchor}" font-weight="${weight}">${escape(text)}</text>`;
const box = (x, y, w, h, fill, rest = '') => `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${w.toFixed(1)}" height="${h.toFixed(1)}" fill="${fill}" ${rest}/>`;

// A line, broken where nothing was recorded for more than two steps.
function path(points, X, Y, step) {
  return points.map(([at, value], i) => `${i === 0 || at - points[i - 1][0] > 2.5 * step ? 'M' : 'L'}${X(at).toFixed(1)} ${Y(value).toFixed(1)}`).join('');
}

// Round numbers from 0 on that reach `top`.
function ticks(top, base) {
  const rough = top / 4, power = base ** Math.floor(Math.log(rough) / Math.log(base));
  const step = (base === 2 ? [1, 2] : [1, 2, 2.5, 5, 10]).map((n) => n * power).find((n) => n >= rough * (1 - 1e-9));
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, i) => i * step);
}

function clock(x, y, w, { from, to }) {
  const every = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 10800, 21600, 86400].find((s) => (to - from) / s <= w / 70) ?? 86400;
  const marks = [];
  for (let at = Math.ceil(from / every) * every; at <= to; at += every) {
    marks.push(words(x + (at - from) / (to - from) * w, y, new Date(at * 1000).toISOString().slice(11, every < 60 ? 19 : 16), { size: 9, fill: FAINT, anchor: 'middle' }));
  }
  return marks.join('');
}

function drawStat(panel, series, { x, y, w, h }, asked, step) {
  const { unit, thresholds, mappings = [], decimals } = panel.fieldConfig.defaults;
  const points = series[0]?.points ?? [];
  const last = points.at(-1)?.[1];
  const mapped = mappings[0]?.options[String(last)];
  const level = thresholds.steps.filter(({ value }) => value === null || last >= value).at(-1)?.color;
  const color = last === undefined ? FAINT : NAMED[mapped?.color ?? level] ?? INK;
  const top = Math.max(...points.map(([, value]) => value), 0) || 1;
  const X = (at) => x + 8 + (at - asked.from) / (asked.to - asked.from) * (w - 16);
  const Y = (value) => y + h - 8 - value / top * 28;
  const course = points.length > 1 ? `<path d="${path(points, X, Y, step)}" fill="none" stroke="${color}" stroke-opacity="0.45" stroke-width="1.5"/>` : '';
  return words(x + 8, y + 18, panel.title, { fill: FAINT }) + course
    + words(x + w / 2, y + 60, last === undefined ? '–' : mapped?.text ?? shown(decimals === undefined ? last : Number(last.toFixed(decimals)), unit), { size: 24, fill: color, anchor: 'middle', weight: 600 });
}

function drawLines(panel, series, { x, y, w, h }, asked, step) {
  const { unit } = panel.fieldConfig.defaults;
  const keys = Math.min(series.length, 6);
  const left = x + 60, right = x + w - 12, up = y + 30, down = y + h - 30 - keys * 14;
  const log = panel.fieldConfig.defaults.custom.scaleDistribution?.type === 'log';
  const all = series.flatMap(({ points }) => points.map(([, value]) => value)).filter((value) => !log || value > 0);
  const top = Math.max(...all, 0) || 1;
  const decades = (low, high) => Array.from({ length: Math.max(2, high - low + 1) }, (_, i) => 10 ** (low + i));
  const marks = log ? decades(Math.floor(Math.log10(Math.min(...all, top))), Math.ceil(Math.log10(top))) : ticks(top, unit === 'bytes' ? 2 : 10);
  const f = (value) => (log ? Math.log10(Math.max(value, marks[0])) : value);
  const X = (at) => left + (at - asked.from) / (asked.to - asked.from) * (right - left);
  const Y = (value) => down - (f(value) - f(marks[0])) / (f(marks.at(-1)) - f(marks[0])) * (down - up);
  const grid = marks.map((value) => `<path d="M${left} ${Y(value).toFixed(1)}H${right}" stroke="${GRID}"/>` + words(left - 6, Y(value) + 3, shown(value, unit), { size: 9, fill: FAINT, anchor: 'end' }));
  const drawn = series.map(({ points }, i) => `<path d="${path(points, X, Y, step)}" fill="none" stroke="${LINES[i % LINES.length]}" stroke-width="1.6" stroke-linejoin="round"/>`);
  const key = series.slice(0, keys).map(({ name, points }, i) => {
    const at = down + 30 + i * 14;
    const most = Math.max(...points.map(([, value]) => value));
    return box(left, at - 5, 12, 3, LINES[i % LINES.length]) + words(left + 18, at, name, { size: 10 })
      + words(right, at, (w < 320 ? '' : `last ${shown(points.at(-1)[1], unit)}, `) + `max ${shown(most, unit)}`, { size: 10, fill: FAINT, anchor: 'end' });
  });
  const none = series.length ? '' : words((left + right) / 2, (up + down) / 2, 'nothing in this time', { fill: FAINT, anchor: 'middle' });
  return words(x + 8, y + 18, panel.title, { weight: 600 }) + grid.join('') + clock(left, down + 14, right - left, asked) + drawn.join('') + key.join('') + none;
}

function drawStates(panel, series, { x, y, w, h }, asked, step) {
  const left = x + 190, right = x + w - 12, up = y + 30, down = y + h - 24;
  const colors = panel.fieldConfig.defaults.mappings[0].options;
  const height = Math.min(28, (down - up) / Math.max(1, series.length));
  const X = (at) => left + (at - asked.from) / (asked.to - asked.from) * (right - left);
  const bands = series.map(({ name, points }, i) => {
    const at = up + i * height;
    const runs = [];
    for (const [time, value] of points) {
      const run = runs.at(-1);
      if (run && run.value === value && time - run.to <= 2.5 * step) run.to = time;
      else runs.push({ value, from: time, to: time });
    }
    return words(left - 8, at + height / 2 + 4, name, { size: 10, anchor: 'end' }) + runs.map((run) => {
      const until = Math.min(asked.to, run.to + step);
      return box(X(run.from), at + 3, Math.max(1, X(until) - X(run.from)), height - 6, NAMED[colors[String(run.value)]?.color] ?? FAINT, 'fill-opacity="0.75"');
    }).join('');
  });
  const none = series.length ? '' : words((left + right) / 2, (up + down) / 2, 'none in this time', { fill: FAINT, anchor: 'middle' });
  return words(x + 8, y + 18, panel.title, { weight: 600 }) + bands.join('') + clock(left, down + 16, right - left, asked) + none;
}

const DRAW = { stat: drawStat, timeseries: drawLines, 'state-timeline': drawStates };

async function main() {
  const asked = options();
  if (!(asked.from < asked.to)) fail(`--from is not before --to\n${USAGE}`, 64);
  const dashboard = JSON.parse(readFileSync(join(ROOT, `grafana/dashboards/windlass-${asked.dashboard}.json`)));
  const step = Math.max(1, Math.round((asked.to - asked.from) / POINTS));
  const parts = [];
  let bottom = 0, filled = 0;
  for (const panel of dashboard.panels) {
    const { x, y, w, h } = panel.gridPos;
    const at = { x: x * CELL + GAP / 2, y: 44 + y * UNIT + GAP / 2, w: w * CELL - GAP, h: h * UNIT - GAP };
    bottom = Math.max(bottom, at.y + at.h);
    if (panel.type === 'row') {
      parts.push(words(at.x + 4, at.y + 17, panel.title, { size: 13, weight: 600 }));
      continue;
    }
    const series = await load(asked, panel, step);
    filled += series.length;
    parts.push(box(at.x, at.y, at.w, at.h, '#ffffff', `rx="3" stroke="${GRID}"`), DRAW[panel.type](panel, series, at, asked, step));
  }
  if (filled === 0) fail(`${asked.prometheus} has nothing of this time`, 1);
  const height = Math.ceil(bottom + GAP);
  const day = (at) => new Date(at * 1000).toISOString().slice(0, 19).replace('T', ' ');
  writeFileSync(asked.output, [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="Helvetica, Arial, sans-serif">`,
    `<title>${escape(dashboard.title)}</title>`, box(0, 0, WIDTH, height, PAPER),
    words(8, 28, dashboard.title, { size: 18, weight: 600 }), words(WIDTH - 8, 28, `${day(asked.from)} to ${day(asked.to)} UTC`, { fill: FAINT, anchor: 'end' }),
    ...parts, '</svg>', '',
  ].join('\n'));
  console.log(asked.output);
}

await main().catch((error) => fail(`${error.message}${error.cause ? `: ${error.cause.message}` : ''}`, 1));
