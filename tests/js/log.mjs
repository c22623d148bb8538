// Checks an exported log with nothing but node's own SHA-256: every tile hashes to the one above it, every entry to its
// leaf, and all of them to the checkpoint's root, which must be the one that was given.
//
// node log.mjs DIRECTORY SIZE ROOT

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const [directory, size, root] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const fail = (text) => {
  console.error(text);
  process.exit(1);
};

// The files of one level: name, and how many items it has.
function files(kind, count) {
  const names = [];
  for (let index = 0; index * 256 < count; index++) {
    const groups = [];
    for (let rest = index; groups.length === 0 || rest > 0; rest = Math.floor(rest / 1000)) {
      groups.unshift((groups.length === 0 ? "" : "x") + String(rest % 1000).padStart(3, "0"));
    }
    const width = Math.min(256, count - index * 256);
    names.push([`${directory}/tile/${kind}/${groups.join("/")}${width < 256 ? `.p/${width}` : ""}`, width]);
  }
  return names;
}

const items = (bytes, length) =>
  Array.from({ length: bytes.length / length }, (_, i) => bytes.subarray(i * length, (i + 1) * length));

// The definition of RFC 6962, section 2.1, over hashes of leaves.
function mth(hashes) {
  if (hashes.length === 1) return hashes[0];
  let k = 1;
  while (k * 2 < hashes.length) k *= 2;
  return sha256(Buffer.from([1]), mth(hashes.slice(0, k)), mth(hashes.slice(k)));
}

const leaves = files("entries", size).flatMap(([name, width]) => {
  const entries = items(readFileSync(name), 34);
  if (entries.length !== width) fail(`${name}: ${entries.length} entries`);
  return entries.map((entry) => {
    if (entry.readUInt16BE() !== 32) fail(`${name}: an entry is not 32 bytes`);
    return sha256(Buffer.from([0]), entry.subarray(2));
  });
});
for (let level = 0, hashes = leaves; hashes.length > 0; level++) {
  for (const [i, [name, width]] of files(level, hashes.length).entries()) {
    const expected = Buffer.concat(hashes.slice(i * 256, i * 256 + width));
    if (!readFileSync(name).equals(expected)) fail(`${name}: other hashes than those below it`);
  }
  hashes = Array.from({ length: Math.floor(hashes.length / 256) }, (_, i) => mth(hashes.slice(i * 256, i * 256 + 256)));
}
const computed = mth(leaves);
const [, stated, base64] = readFileSync(`${directory}/checkpoint`, "utf8").split("\n");
if (Number(stated) !== size) fail(`the checkpoint has ${stated} readings`);
if (!Buffer.from(base64, "base64").equals(computed)) fail("the checkpoint has another root");
if (`0x${computed.toString("hex")}` !== root) fail(`the tiles give 0x${computed.toString("hex")}`);
console.log(`${size} readings, root ${root}`);
