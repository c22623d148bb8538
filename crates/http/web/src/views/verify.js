// A proof file is checked here, in the browser.
import { h } from "../dom.js";

const sentences = (title, list) => [h("h3", {}, title), h("ul", {}, list.map((sentence) => h("li", {}, sentence)))];

/** The form that checks these bytes against a block hash. `told` is the hash that the gateway names, as a hint only. */
export function checker(bytes, name, told) {
  const hash = h("input", { name: "hash", placeholder: "0x…", size: 68, spellcheck: "false", autocomplete: "off", pattern: "0x[0-9a-f]{64}", id: "hash" });
  const result = h("div", { "aria-live": "polite" });
  const check = async (event) => {
    event?.preventDefault();
    // The libraries are only loaded where something is checked.
    const { Refused, verify } = await import("#verifier");
    const blockHash = hash.value.trim().toLowerCase() || undefined;
    try {
      const found = verify(bytes, { blockHash });
      result.replaceChildren(h("div", { class: `verdict ${blockHash ? "verified" : "consistent"}` },
        h("p", { class: "word" }, blockHash ? "Verified against your block hash" : "Consistent: now give a block hash that you trust"),
        ...sentences("Checked", found.checked), ...sentences("You trust", found.trusts)));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      result.replaceChildren(h("div", { class: "verdict refused" },
        h("p", { class: "word" }, error.reason === "pending" ? "Pending" : `Refused: ${error.reason}`), h("p", {}, error.message)));
    }
  };
  const address = URL.createObjectURL(new Blob([bytes], { type: "application/json" }));
  const form = h("form", { class: "check", onsubmit: check },
    h("label", { for: "hash" }, "Hash of the block, from a source that you trust"), hash, h("button", {}, "Check"),
    told && h("p", { class: "hint" }, "The gateway says ", h("code", {}, told), ". Believe it only when another source says the same."),
    h("p", {}, h("a", { href: address, download: name }, `Save ${name}`)));
  check();
  return h("div", {}, form, result);
}

export async function verifyFile() {
  const place = h("div", {});
  const take = async (file) => file && place.replaceChildren(checker(new Uint8Array(await file.arrayBuffer()), file.name));
  const input = h("input", { type: "file", id: "file", accept: ".json,application/json", onchange: () => take(input.files[0]) });
  const element = h("div", {
    class: "drop",
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => {
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    },
  }, h("h1", {}, "Check a proof"),
  h("p", {}, "A .windlass.json file is checked in this browser. It is sent nowhere, and the gateway is not asked."),
  h("p", {}, h("label", { for: "file" }, "Proof file "), input), place);
  return [element];
}
