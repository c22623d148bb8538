// The web page in a real browser (Debian's Chromium), as a person sees it. Told by tests/stories/page.rs, in the
// environment: URL of the gateway, TOKEN that operates, NODE of the chain, PICTURES where to put screenshots.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { chromium } from "../../crates/http/web/node_modules/playwright-core/index.mjs";

const { URL: url, TOKEN: token, NODE: node, PICTURES: pictures, MODE: mode = "visit" } = process.env;
const axe = readFileSync(new globalThis.URL("../../crates/http/web/node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const complaints = [];

/** A page whose complaints and requests to others are remembered. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  // Chromium's own check of scripts stands in the way of the one that axe brings; the policy itself is tested in Rust.
  await context.addInitScript(axe);
  const page = await context.newPage();
  page.on("console", (message) => {
    // A refused request that a step provokes is logged by the browser itself.
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) complaints.push(`asked ${request.url()}`);
  });
  return page;
}

async function enter(page) {
  await page.goto(url);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByRole("heading", { name: "Now", exact: true }).waitFor();
}

async function accessible(page, where) {
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html).join(" ")}`), [], `axe on ${where}`);
}

async function picture(page, name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: name === "proof" });
}

const heading = (page, name) => page.getByRole("heading", { name, level: 1 });

async function whatIsHappening(page) {
  const accepted = page.locator(".tile", { hasText: "readings accepted" }).locator("dd");
  await accepted.waitFor();
  const number = async () => Number((await accepted.innerText()).replaceAll(",", ""));
  const before = await number();
  await page.waitForFunction((b) => {
    const text = [...document.querySelectorAll(".tile")].find((t) => t.textContent.includes("readings accepted"))?.querySelector("dd")?.textContent;
    return Number(text?.replaceAll(",", "")) > b;
  }, before, { timeout: 20_000 });
  const first = page.locator("table").first().locator("tbody tr").first();
  const newest = await first.innerText();
  await page.waitForFunction((old) => document.querySelector("tbody tr")?.innerText !== old, newest, { timeout: 20_000 });
  assert.equal(await page.locator("figure svg").count(), 2, "two charts");
  await page.waitForFunction(() => [...document.querySelectorAll("figure")].every((f) => /L/.test(f.querySelector("path").getAttribute("d"))), null, { timeout: 30_000 });
  assert.equal(await page.locator("#health").innerText(), "all well");
}

async function figures(page) {
  const shown = await page.evaluate(() => ({
    paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
    bytes: performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
      .filter((e) => !e.name.includes("/api/") && !e.name.endsWith("/metrics")).reduce((sum, e) => sum + e.transferSize, 0),
  }));
  console.log(`first contentful paint ${Math.round(shown.paint)} ms, ${shown.bytes} bytes transferred for the page itself`);
  assert.ok(shown.bytes < 300 * 1024);
}

async function aReadingsLife(page) {
  await page.getByRole("link", { name: "Devices" }).click();
  await heading(page, "Devices").waitFor();
  await page.getByRole("link", { name: "a-1", exact: true }).click();
  await heading(page, "a-1").waitFor();
  await picture(page, "device");
  await page.goto(`${url}#/reading/a-1/1`);
  await heading(page, "Reading 1 of a-1").waitFor();
  assert.equal(await page.locator(".life li.done").count(), 5, "observed, accepted, batch, block, final");
  assert.match(await page.locator(".life").innerText(), /root\s+0x[0-9a-f]{64}/);
  await page.getByRole("button", { name: "Load the proof and check it here" }).click();
  await page.getByText("Consistent: now give a block hash").waitFor();

  const { reading } = await (await fetch(`${url}api/v1/readings/a-1/1`, { headers: { authorization: `Bearer ${token}` } })).json();
  const asked = { jsonrpc: "2.0", id: 1, method: "eth_getBlockByNumber", params: [`0x${reading.block.toString(16)}`, false] };
  const answer = await fetch(node, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
  const { hash } = (await answer.json()).result;
  await page.getByLabel(/Hash of the block/).fill(`0x${"00".repeat(32)}`);
  await page.getByRole("button", { name: "Check", exact: true }).click();
  await page.getByText("Refused: other_block").waitFor();
  await page.getByLabel(/Hash of the block/).fill(hash);
  await page.keyboard.press("Enter");
  await page.getByText("Verified against your block hash").waitFor();
  await picture(page, "proof");
  await accessible(page, "a reading with its proof");

  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: /^Save a-1-1/ }).click();
  return readFileSync(await (await download).path());
}

async function aFile(page, proof) {
  await page.getByRole("link", { name: "Check a proof" }).click();
  const give = (buffer) => page.getByLabel("Proof file").setInputFiles({ name: "a.windlass.json", mimeType: "application/json", buffer });
  await give(proof);
  await page.getByText("Consistent: now give a block hash").waitFor();
  await give(Buffer.from(proof.toString().replace('"sequence":1', '"sequence":2')));
  await page.getByText("Refused: merkle_path").waitFor();
  await give(Buffer.from("no proof"));
  await page.getByText("Refused: malformed").waitFor();
  await accessible(page, "the check of a file");
}

async function orders(page) {
  await page.getByRole("link", { name: "Quarantine" }).click();
  const row = page.locator("tbody tr").first();
  await row.getByRole("button", { name: /^Retry/ }).click();
  await row.getByText(/refused again/).waitFor();
  await row.getByRole("button", { name: /^Drop/ }).click();
  await row.getByText(/is dropped/).waitFor();
}

async function byKeyboard(page) {
  await page.goto(`${url}#/`);
  await page.reload();
  await heading(page, "Now").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Devices");
  await page.keyboard.press("Enter");
  await heading(page, "Devices").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "content", "the focus goes to what is new");
}

async function onAPhone() {
  const page = await open({ viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  await enter(page);
  await page.locator(".tile").first().waitFor();
  for (const route of ["", "devices", "device/a-1", "readings", "reading/a-1/1", "batches", "quarantine", "verify"]) {
    await page.goto(`${url}#/${route}`);
    await page.waitForTimeout(300);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wide, 0, `#/${route} is wider than a phone by ${wide}`);
    await accessible(page, `#/${route}, dark, on a phone`);
  }
  await page.goto(`${url}#/`);
  await page.locator("figure").first().waitFor();
  await page.waitForTimeout(5_000);
  await picture(page, "phone");
}

async function visit() {
  const page = await open();
  await page.goto(url);
  await page.getByLabel("Token").fill("a guess");
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByText("this token is not known").waitFor();
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Use it" }).click();
  await heading(page, "Now").waitFor();
  await whatIsHappening(page);
  await figures(page);
  await page.waitForTimeout(pictures ? 40_000 : 0);
  await picture(page, "now");
  await accessible(page, "what is happening now");
  const proof = await aReadingsLife(page);
  await aFile(page, proof);
  for (const route of ["devices", "readings", "batches", "quarantine"]) {
    await page.goto(`${url}#/${route}`);
    await heading(page, new RegExp(route, "i")).waitFor();
    await accessible(page, `#/${route}`);
  }
  await orders(page);
  await byKeyboard(page);
  await onAPhone();
}

/** Ten thousand devices: the first page, and each further one. */
async function crowd() {
  const page = await open();
  await page.goto(`${url}#/devices`);
  await heading(page, "Devices").waitFor();
  const took = [];
  for (let pages = 1; pages < 100; pages += 1) {
    assert.equal(await page.locator("tbody tr").count(), 100 * pages);
    took.push(await page.evaluate(async (wanted) => {
      const began = performance.now();
      document.querySelector("button.more").click();
      while (document.querySelectorAll("tbody tr").length < wanted) await new Promise(requestAnimationFrame);
      return performance.now() - began;
    }, 100 * (pages + 1)));
  }
  assert.equal(await page.locator("tbody tr").count(), 10_000);
  assert.equal(await page.locator("button.more").isHidden(), true, "there is no more");
  took.sort((a, b) => a - b);
  console.log(`10,000 devices in pages of 100: median ${Math.round(took[50])} ms, longest ${Math.round(took.at(-1))} ms until a further page is shown`);
}

try {
  await { visit, crowd }[mode]();
  assert.deepEqual(complaints, [], "the console is silent and nobody else is asked");
} catch (error) {
  const page = browser.contexts().at(-1)?.pages().at(-1);
  if (page) {
    writeFileSync("/tmp/windlass-page.png", await page.screenshot().catch(() => Buffer.alloc(0)));
    console.error(await page.locator("body").innerText().catch(() => ""), complaints);
  }
  throw error;
} finally {
  await browser.close();
}
console.log(`the page holds (${mode})`);
