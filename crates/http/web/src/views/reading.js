// A reading's whole life, and its proof.
import { bytes, get } from "../api.js";
import { count, deviceLink, h, state, time } from "../dom.js";
import { checker } from "./verify.js";

function step(name, at, ...what) {
  return h("li", { class: at ? "done" : "open" }, h("h3", {}, name), at ? h("p", {}, time(at)) : h("p", {}, "not yet"), what);
}

export async function reading(site, device, sequence) {
  const life = await get(`readings/${encodeURIComponent(device)}/${sequence}`);
  const { reading: row, batch, transaction, signature } = life;
  const element = h("div", {},
    h("h1", {}, `Reading ${sequence} of ${device}`),
    h("p", {}, h("code", { class: "payload" }, row.payload), " ", state(row.state)),
    h("p", {}, "From ", deviceLink(device), `, key generation ${row.epoch}, settled by ${row.settlement}.`),
    h("ol", { class: "life" },
      step("Observed", row.observed_at, h("p", {}, "by the device, or received where it sends no time")),
      step("Accepted", row.received_at, h("p", {}, "on disk before the device heard so"), signature && h("p", {}, "signed by the device: ", h("code", {}, signature))),
      step("In a batch", batch?.created_at, batch && h("p", {}, `batch ${count(batch.batch)}, ${batch.count === 1 ? "one reading" : `${count(batch.count)} readings`}`),
        batch?.root && h("p", {}, "root ", h("code", {}, batch.root))),
      step("In a block", transaction?.success && transaction.mined_at,
        transaction?.block && h("p", {}, `block ${count(transaction.block)} `, site.explore("block", transaction.block)),
        transaction?.tx && h("p", {}, h("code", {}, transaction.tx), " ", site.explore("tx", transaction.tx)),
        transaction && transaction.attempts > 1 && h("p", {}, `after ${transaction.attempts} attempts`)),
      step("Final", transaction?.success && transaction.final_at, h("p", {}, "the block can no longer change"))));
  const path = `proofs/${encodeURIComponent(device)}/${sequence}`;
  const place = h("div", {}, h("button", { onclick: async () => {
    try {
      place.replaceChildren(checker(await bytes(path), `${device}-${sequence}.windlass.json`, batch?.block_hash));
    } catch (error) {
      place.append(h("p", { role: "alert", class: "refused" }, error.message));
    }
  } }, "Load the proof and check it here"));
  element.append(h("section", {}, h("h2", {}, "Proof"),
    h("p", {}, "The check runs in this browser, by public libraries that share no code with the gateway. What you trust is the block hash: take it from a source of your own ",
      batch?.block ? [". It is in block ", count(batch.block), " ", site.explore("block", batch.block)] : null), place));
  return [element];
}
