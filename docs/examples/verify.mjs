// Verifies a Windlass proof file without Windlass:
//
//   node verify.mjs FILE [--block-hash 0x…] [--registration-hash 0x…] [--rpc URL] [--json]
//
// Exit codes: 0 verified, 1 refused, 2 pending. What is checked, and how: verifier.mjs.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Refused, verify } from "./verifier.mjs";

async function main() {
  const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      "block-hash": { type: "string" }, "registration-hash": { type: "string" }, rpc: { type: "string" }, json: { type: "boolean" },
    },
  });
  const [name] = positionals;
  const answer = { verified: true };
  try {
    const trusted = { blockHash: options["block-hash"], registrationHash: options["registration-hash"] };
    const found = verify(readFileSync(name), trusted);
    if (options.rpc) {
      const body = { jsonrpc: "2.0", id: 1, method: "eth_getBlockByNumber", params: [`0x${found.block.toString(16)}`, false] };
      const reply = await fetch(options.rpc, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
      const { result } = await reply.json();
      if (result?.hash !== found.blockHash) throw new Refused("node", `the node has another block at height ${found.block}, or none`);
      found.checked.push("the node has this block on its canonical chain");
      found.trusts[0] = "the node that you asked, for which chain is canonical";
    }
    Object.assign(answer, { settlement: found.settlement, block_hash: found.blockHash, checked: found.checked, trusts: found.trusts });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    Object.assign(answer, { verified: false, reason: error.reason, detail: error.message });
  }
  if (options.json) console.log(JSON.stringify(answer));
  else if (answer.verified) {
    console.log(`${name}: VERIFIED`);
    for (const sentence of answer.checked) console.log(`  checked   ${sentence}`);
    for (const sentence of answer.trusts) console.log(`  you trust ${sentence}`);
  } else console.log(`${name}: ${answer.reason === "pending" ? "PENDING" : "REFUSED"}. ${answer.detail}`);
  process.exitCode = answer.verified ? 0 : answer.reason === "pending" ? 2 : 1;
}

await main();
