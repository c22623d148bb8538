#!/usr/bin/env node
// Builds the page and writes what the program embeds: dist/*.gz and dist/files.rs. With --check it writes nothing and
// fails when dist/ is not what the sources make.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { build } from "vite";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const KINDS = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8" };
/** What a visit may transfer, all parts of the page together. */
const MOST_BYTES = 300 * 1024;

await build({ root: here("."), configFile: here("vite.config.js"), logLevel: "warn" });
const files = readdirSync(here("build")).sort().map((name) => {
  const bytes = readFileSync(here(`build/${name}`));
  return { name, bytes, kind: KINDS[name.split(".").pop()], packed: gzipSync(bytes, { level: 9 }) };
});
const unknown = files.filter(({ kind }) => !kind);
if (unknown.length > 0) throw new Error(`no media type for ${unknown.map(({ name }) => name)}`);
const entry = ({ name, bytes, kind }) => `    File {
        path: "/${name === "index.html" ? "" : name}",
        kind: "${kind}",
        packed: include_bytes!("${name}.gz"),
        tag: "\\"${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}\\"",
    },
`;
const listing = `// Written by pack.mjs.\nconst FILES: &[File] = &[\n${files.map(entry).join("")}];\n`;
const transferred = files.reduce((sum, { packed }) => sum + packed.length, 0);
if (transferred > MOST_BYTES) throw new Error(`${transferred} bytes, at most ${MOST_BYTES}`);

if (process.argv.includes("--check")) {
  const wrong = files.filter(({ name, bytes }) => {
    const packed = here(`dist/${name}.gz`);
    // Not the packed bytes: another zlib packs otherwise.
    return !existsSync(packed) || !gunzipSync(readFileSync(packed)).equals(bytes);
  }).map(({ name }) => name);
  if (readFileSync(here("dist/files.rs"), "utf8") !== listing) wrong.push("files.rs");
  if (wrong.length > 0) {
    console.error(`crates/http/web/dist is not what the sources make: ${wrong.join(", ")}; run make page`);
    process.exit(1);
  }
} else {
  rmSync(here("dist"), { recursive: true, force: true });
  mkdirSync(here("dist"));
  for (const { name, packed } of files) writeFileSync(here(`dist/${name}.gz`), packed);
  writeFileSync(here("dist/files.rs"), listing);
}
console.log(`the page: ${files.length} files, ${transferred} bytes as transferred`);
