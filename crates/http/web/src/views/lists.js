// Listings, a page at a time.
import { get, order, page } from "../api.js";
import { count, deviceLink, h, line, readingLink, short, state, table, time } from "../dom.js";
import { batchColumns } from "./now.js";

const ROWS = 100;

/** A table that reads on when asked, and says when there is no more. */
async function listing(title, columns, path, empty, extra = []) {
  const first = await page(`${path}${path.includes("?") ? "&" : "?"}limit=${ROWS}`);
  const section = table(title, columns, first.rows, empty);
  let next = first.next;
  const more = h("button", { class: "more", hidden: !next, onclick: async () => {
    more.disabled = true;
    const further = await page(next).finally(() => (more.disabled = false));
    next = further.next;
    more.hidden = !next;
    section.querySelector("tbody").append(...further.rows.map((row) => line(columns, row)));
  } }, `${ROWS} more`);
  return h("div", {}, h("h1", {}, title), extra, section, h("p", {}, more));
}

const DEVICES = [
  ["Device", (row) => deviceLink(row.device)],
  ["Readings", (row) => count(row.last_sequence), "number"],
  ["Last received", (row) => row.last_received_at && time(row.last_received_at)],
  ["Format", (row) => row.format],
  ["Settlement", (row) => row.settlement],
  ["On chain", (row) => (row.revoked ? "revoked" : row.registered ? "registered" : row.key ? "waiting" : "not needed")],
  ["Key", (row) => row.key && short(row.key)],
];

const READINGS = [
  ["Reading", (row) => readingLink(row.device, row.sequence)],
  ["Payload", (row) => h("code", {}, row.payload)],
  ["Observed", (row) => time(row.observed_at)],
  ["State", (row) => state(row.state)],
  ["Settlement", (row) => row.settlement],
  ["Block", (row) => row.block && count(row.block), "number"],
];

export const devices = async () => [await listing("Devices", DEVICES, "devices", "No devices. Add one: windlass device add ID")];

export const readings = async () =>
  [await listing("Readings", [["Device", (row) => deviceLink(row.device)], ...READINGS], "readings?order=newest", "No readings yet.")];

export const batches = async (site) =>
  [await listing("Batches", batchColumns(site), "batches?order=newest", "No batches yet.")];

export async function device(site, id) {
  const row = await get(`devices/${encodeURIComponent(id)}`);
  const facts = h("dl", { class: "facts" }, [
    ["format", row.format], ["settlement", row.settlement], ["key generation", String(row.epoch)],
    ["key", row.key && h("code", {}, row.key)], ["kind of key", row.kind], ["on chain", row.revoked ? "revoked" : row.registered ? "registered" : "not registered"],
    ["own contract", row.barcode && h("code", {}, row.barcode)], ["readings", count(row.last_sequence)],
  ].map(([name, value]) => value && h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  const history = await listing(id, READINGS, `readings?order=newest&device=${encodeURIComponent(id)}`, "It has sent nothing yet.", [facts]);
  return [history];
}

export async function quarantine(site) {
  const operates = site.status().role === "operate";
  const act = (label, row, path, method) => h("button", { onclick: async ({ target }) => {
    const [button, result] = [target, target.closest("td")];
    button.disabled = true;
    try {
      result.replaceChildren((await order(path, method)).done);
    } catch (error) {
      result.append(h("span", { role: "alert", class: "refused" }, error.message));
      button.disabled = false;
    }
  }, "aria-label": `${label} row ${row.id}` }, label);
  const columns = [
    ["Row", (row) => count(row.id), "number"],
    ["Device", (row) => row.device && deviceLink(row.device)],
    ["Reason", (row) => row.reason],
    ["Payload", (row) => h("code", { class: "clip" }, row.payload)],
    ["Topic", (row) => h("code", {}, row.topic)],
    ["Received", (row) => time(row.received_at)],
    ...(operates ? [["", (row) => h("span", { class: "acts" },
      act("Retry", row, `quarantine/${row.id}/retry`, "POST"), act("Drop", row, `quarantine/${row.id}`, "DELETE"))]] : []),
  ];
  return [await listing("Quarantine", columns, "quarantine?order=newest", "Nothing was refused.")];
}
