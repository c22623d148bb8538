// What the metrics page says, sampled while this page is open: rates and quantiles without a Prometheus.
import { text } from "./api.js";

const KEEP = 150;
const EVERY_MS = 2_000;

/** Prometheus text to { name: [{ labels, value }] }. */
export function parse(page) {
  const series = {};
  for (const line of page.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
    (series[found[1]] ??= []).push({ labels, value: Number(found[3]) });
  }
  return series;
}

const total = (series, name, wanted = {}) =>
  (series[name] ?? [])
    .filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value))
    .reduce((sum, { value }) => sum + value, 0);

/** Buckets of a histogram, cumulative, over all other labels. */
function buckets(series, name, wanted) {
  const found = new Map();
  for (const { labels, value } of series[`${name}_bucket`] ?? []) {
    if (!Object.entries(wanted).every(([key, each]) => labels[key] === each)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    found.set(bound, (found.get(bound) ?? 0) + value);
  }
  return [...found].sort(([a], [b]) => a - b);
}

/** The quantile of what came between two samples, within its bucket by proportion, as Prometheus does it. */
export function quantile(q, before, after) {
  const earlier = new Map(before);
  const grown = after.map(([bound, value]) => [bound, value - (earlier.get(bound) ?? 0)]);
  const all = grown.at(-1)?.[1] ?? 0;
  if (all <= 0) return NaN;
  let [low, below] = [0, 0];
  for (const [bound, value] of grown) {
    if (value >= q * all) return bound === Infinity ? low : low + ((bound - low) * (q * all - below)) / (value - below || 1);
    [low, below] = [bound, value];
  }
  return NaN;
}

function sample(series) {
  return {
    at: Date.now(),
    accepted: total(series, "windlass_readings_accepted_total"),
    settled: total(series, "windlass_readings_settled_total"),
    rejected: total(series, "windlass_readings_rejected_total"),
    connections: total(series, "windlass_connections"),
    unsettled: total(series, "windlass_unsettled_readings"),
    ack: buckets(series, "windlass_ack_seconds", {}),
    mined: buckets(series, "windlass_confirmation_seconds", { stage: "mined" }),
    final: buckets(series, "windlass_confirmation_seconds", { stage: "final" }),
  };
}

/** Samples now and again; `told(samples)` after each. Returns what stops it. */
export function watch(samples, told) {
  let timer;
  const look = async () => {
    try {
      samples.push(sample(parse(await text("metrics"))));
      if (samples.length > KEEP) samples.shift();
      told(samples);
    } catch {
      // The next look tells; the health badge says what is wrong meanwhile.
    }
    timer = setTimeout(look, EVERY_MS);
  };
  look();
  return () => clearTimeout(timer);
}
