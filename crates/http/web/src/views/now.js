// What is happening now.
import { page } from "../api.js";
import { chart } from "../chart.js";
import { count, deviceLink, h, line, readingLink, seconds, short, state, table, time } from "../dom.js";
import { quantile, watch } from "../metrics.js";

const SHOWN = 20;
/** Quantiles are over so many samples. */
const SPAN = 15;
const samples = [];

const READINGS = [
  ["Received", (row) => time(row.received_at)],
  ["Device", (row) => deviceLink(row.device)],
  ["Reading", (row) => readingLink(row.device, row.sequence)],
  ["Payload", (row) => h("code", {}, row.payload)],
  ["State", (row) => state(row.state)],
];

export function batchColumns(site) {
  return [
    ["Batch", (row) => count(row.batch), "number"],
    ["Settlement", (row) => row.settlement],
    ["Readings", (row) => count(row.count), "number"],
    ["State", (row) => state(row.state)],
    ["Block", (row) => row.block && count(row.block), "number"],
    ["Gas", (row) => row.gas_used && count(row.gas_used), "number"],
    ["Transaction", (row) => row.tx && h("span", {}, short(row.tx), " ", site.explore("tx", row.tx))],
    ["Built", (row) => time(row.created_at)],
  ];
}

function rate(taken, key) {
  return taken.slice(1).map((each, i) => [each.at, (Math.max(0, each[key] - taken[i][key]) / (each.at - taken[i].at)) * 1000]);
}

const quantiles = (taken, key, q) =>
  taken.slice(1).map((each, i) => [each.at, quantile(q, taken[Math.max(0, i + 1 - SPAN)][key], each[key])]);

function figures(taken) {
  const last = taken.at(-1);
  const whole = (value) => (Number.isFinite(value) ? `${count(Math.round(value * 10) / 10)}` : "–");
  const tile = (name, value) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value));
  const newest = (points) => points.findLast(([, value]) => Number.isFinite(value))?.[1] ?? NaN;
  return [
    h("dl", { class: "tiles" },
      tile("readings accepted", count(last.accepted)),
      tile("a second", whole(newest(rate(taken, "accepted")))),
      tile("not mined yet", count(last.unsettled)),
      tile("refused", count(last.rejected)),
      tile("connections", count(last.connections)),
      tile("ack p99", seconds(newest(quantiles(taken, "ack", 0.99))))),
    h("div", { class: "charts" },
      chart("Readings a second", [
        { name: "accepted", kind: "one", points: rate(taken, "accepted") },
        { name: "mined", kind: "two", points: rate(taken, "settled") },
      ], whole),
      chart("From received to confirmed", [
        { name: "mined, half", kind: "one", points: quantiles(taken, "mined", 0.5) },
        { name: "mined, 99 of 100", kind: "two", points: quantiles(taken, "mined", 0.99) },
        { name: "final, half", kind: "three", points: quantiles(taken, "final", 0.5) },
      ], seconds)),
  ];
}

export async function now(site) {
  const [readings, batches] = await Promise.all([
    page(`readings?order=newest&limit=${SHOWN}`), page(`batches?order=newest&limit=${SHOWN}`),
  ]);
  const columns = batchColumns(site);
  const live = h("div", {});
  const newest = table("The newest readings", READINGS, readings.rows, "No readings yet. A device publishes on devices/ID/readings.");
  const built = table("The newest batches", columns, batches.rows, "No batches yet.");
  const place = new Map();
  const key = (row) => `${row.device}/${row.sequence}`;
  const rows = [...readings.rows];
  const blocks = new Map(batches.rows.map((row) => [row.batch, row]));
  const refill = (section, what, shown) => {
    section.querySelector("tbody").replaceChildren(...shown.map((row) => line(what, row)));
    if (shown.length > 0) section.querySelector(".empty")?.remove();
  };
  const stopListening = site.onEvent((event) => {
    if (event.event === "readings") {
      rows.unshift(...event.rows.toReversed());
      rows.splice(SHOWN);
      refill(newest, READINGS, rows);
    }
    if (event.event === "batches") {
      for (const row of event.rows) blocks.set(row.batch, row);
      for (const id of [...blocks.keys()].sort((a, b) => b - a).slice(SHOWN)) blocks.delete(id);
      refill(built, columns, [...blocks.values()].sort((a, b) => b.batch - a.batch));
      for (const row of rows) row.state = blocks.get(row.batch)?.state ?? row.state;
      refresh();
    }
  });
  // A reading's batch is known only after it was accepted: the newest are asked for again, seldom.
  let asked = 0;
  const refresh = async () => {
    if (Date.now() - asked < 1_000) return;
    asked = Date.now();
    const again = await page(`readings?order=newest&limit=${SHOWN}`).catch(() => null);
    if (!again) return;
    place.clear();
    for (const row of again.rows) place.set(key(row), row);
    rows.splice(0, rows.length, ...rows.map((row) => place.get(key(row)) ?? row));
    refill(newest, READINGS, rows);
  };
  const stopWatching = watch(samples, (taken) => live.replaceChildren(...figures(taken)));
  const element = h("div", {}, h("h1", {}, "Now"), live, newest, built);
  return [element, () => {
    stopListening();
    stopWatching();
  }];
}
