// The frozen proof files, checked without any code of Windlass: the verifier of docs/examples gives each the frozen verdict,
// and the published schema agrees about their form.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Refused, verify } from "../../docs/examples/verifier.mjs";

const Ajv = createRequire(new URL("../../docs/examples/", import.meta.url))("ajv/dist/2020.js").default;
const json = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const hasForm = new Ajv({ strict: true }).compile(json("../../docs/proof.schema.json"));
// Refusals that are about the form alone.
const FORM = ["malformed", "not_canonical", "version"];
// JSON.parse, on which the schema stands, takes these for something else: it forgets the first of two keys, reads 1e0 as
// 1, and keeps no more than 53 bits.
const BLIND = ["duplicate key", "exponent"];

let wrong = 0;
const complain = (text) => { wrong++; console.error(text); };
const vectors = json("../vectors/proofs.json");
for (const { name, file, block, registration, verdict } of vectors) {
  let found = "verified";
  try {
    verify(Buffer.from(file, "utf8"), { blockHash: block ?? undefined, registrationHash: registration ?? undefined });
  } catch (error) {
    found = error instanceof Refused ? error.reason : `${error.stack}`;
  }
  if (found !== verdict) complain(`${name}: ${found}, not ${verdict}`);
  let formed = false;
  try { formed = hasForm(JSON.parse(file)); } catch { /* no JSON has no form */ }
  if (["verified", "pending"].includes(verdict) && !formed) complain(`${name}: the schema refuses it: ${JSON.stringify(hasForm.errors)}`);
  if (FORM.includes(verdict) && formed && !BLIND.includes(name)) complain(`${name}: ${verdict}, and the schema takes it`);
}
console.log(`${vectors.length} proof files: ${wrong === 0 ? "every verdict and every form as frozen" : `${wrong} differ`}`);
process.exitCode = wrong === 0 ? 0 : 1;
