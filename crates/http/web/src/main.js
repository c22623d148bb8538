// The page: which part is shown, the health badge, and the token where one is asked for.
import "./style.css";
import { Refusal, get, listen, token } from "./api.js";
import { h } from "./dom.js";
import { now } from "./views/now.js";
import { batches, device, devices, quarantine, readings } from "./views/lists.js";
import { reading } from "./views/reading.js";
import { verifyFile } from "./views/verify.js";

const ROUTES = [
  [/^\/$/, now], [/^\/devices$/, devices], [/^\/device\/([^/]+)$/, device], [/^\/readings$/, readings],
  [/^\/reading\/([^/]+)\/(\d+)$/, reading], [/^\/batches$/, batches], [/^\/quarantine$/, quarantine], [/^\/verify$/, verifyFile],
];
const content = document.getElementById("content");
const badge = document.getElementById("health");
const listeners = new Set();
let status = { explorer: null, reasons: [], role: "read" };
let leave = () => {};
let shown = 0;

/** What every part of the page has: the status, live events until it is left, and what explains an address. */
const site = {
  status: () => status,
  onEvent(heard) {
    listeners.add(heard);
    return () => listeners.delete(heard);
  },
  explore(kind, value) {
    const link = status.explorer && `${status.explorer}/${kind}/${value}`;
    return link ? h("a", { href: link, rel: "noreferrer external", target: "_blank" }, "in the block explorer") : null;
  },
};

function health(reasons, connected = true) {
  badge.className = `badge ${connected ? (reasons.length === 0 ? "good" : "bad") : "lost"}`;
  badge.textContent = connected ? (reasons.length === 0 ? "all well" : reasons.map(({ code }) => code).join(", ")) : "no connection";
  badge.title = reasons.map(({ detail }) => detail).join("\n");
}

function askToken(why) {
  const input = h("input", { type: "password", name: "token", autocomplete: "off", required: true, "aria-label": "Token" });
  const form = h("form", { class: "token", onsubmit: (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    start();
  } }, h("h1", {}, "A token is needed"), h("p", {}, why), input, h("button", {}, "Use it"),
  h("p", { class: "hint" }, "It is one of [[http.tokens]] in the gateway's config, kept in this tab only."));
  content.replaceChildren(form);
  input.focus();
}

async function show() {
  leave();
  leave = () => {};
  const path = decodeURI(location.hash.slice(1)) || "/";
  const turn = ++shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${path}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const [pattern, view] of ROUTES) {
    const found = pattern.exec(path);
    if (!found) continue;
    try {
      const [element, left] = await view(site, ...found.slice(1).map(decodeURIComponent));
      if (turn !== shown) {
        left?.();
        return;
      }
      leave = left ?? leave;
      content.replaceChildren(element);
      document.title = `${element.querySelector("h1")?.textContent ?? "Windlass"} – Windlass`;
    } catch (error) {
      if (turn === shown) failed(error);
    }
    return;
  }
  content.replaceChildren(h("h1", {}, "No such page"), h("p", {}, h("a", { href: "#/" }, "What is happening now")));
}

function failed(error) {
  if (error instanceof Refusal && error.status === 401) return askToken(error.message);
  content.replaceChildren(h("h1", {}, "That did not work"), h("p", { role: "alert" }, error.message),
    h("p", {}, h("button", { onclick: show }, "Try again")));
}

let listening = new AbortController();

async function start() {
  listening.abort();
  listening = new AbortController();
  try {
    status = await get("status");
  } catch (error) {
    health([], false);
    return failed(error);
  }
  health(status.reasons);
  const { version, chain_id: chain, contract } = status;
  document.getElementById("about").replaceChildren(`Windlass ${version} · chain ${chain} · contract ${contract ?? "not deployed yet"} · `,
    h("a", { href: "api/v1/openapi.json" }, "API"), " · ", h("a", { href: "metrics" }, "metrics"));
  listen(listening.signal, (event) => {
    if (event.event === "connected") health(status.reasons);
    if (event.event === "health") {
      status.reasons = event.reasons;
      health(event.reasons);
    }
    for (const heard of listeners) heard(event);
  }, () => health([], false));
  await show();
}

addEventListener("hashchange", () => {
  show();
  content.focus({ preventScroll: true });
  scrollTo(0, 0);
});
start();
