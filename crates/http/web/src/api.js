// The gateway's API: one place that knows the token, and what a refusal looks like.

const KEY = "windlass-token";

export class Refusal extends Error {
  constructor(status, body) {
    super(body.detail ?? `HTTP ${status}`);
    this.status = status;
    this.error = body.error;
  }
}

/** For this tab only, and gone with it. */
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

async function send(path, options = {}) {
  const headers = { ...(token.get() ? { authorization: `Bearer ${token.get()}` } : {}), ...options.headers };
  const answer = await fetch(path, { ...options, headers });
  if (!answer.ok) throw new Refusal(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export const get = async (path) => (await send(`api/v1/${path}`)).json();
export const text = async (path) => (await send(path)).text();
export const order = async (path, method = "POST") => (await send(`api/v1/${path}`, { method })).json();

/** Rows, and the path of those that follow. */
export async function page(path) {
  const answer = await send(path.startsWith("/") ? path.slice(1) : `api/v1/${path}`);
  const next = /<([^>]*)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
  return { rows: await answer.json(), next };
}

export const bytes = async (path) => new Uint8Array(await (await send(`api/v1/${path}`)).arrayBuffer());

/** Calls `heard(event)` for each live event until the signal; comes back after a break. */
export async function listen(signal, heard, lost) {
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 15_000)) {
    try {
      const answer = await send("api/v1/events", { signal });
      const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      heard({ event: "connected" });
      for (let rest = ""; ;) {
        const { value, done } = await lines.read();
        if (done) break;
        pause = 500;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const data = event.split("\n").find((each) => each.startsWith("data: "));
          if (data) heard(JSON.parse(data.slice(6)));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      lost(error);
      if (error.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
