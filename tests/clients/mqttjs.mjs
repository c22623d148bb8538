// MQTT.js as a device, driven from the command line. README.md says what the acts do.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import mqtt from "mqtt";

const PATIENCE_MS = 60_000;

const text = { type: "string" };
const { values: args, positionals } = parseArgs({
  options: { url: text, protocol: text, id: text, secret: text, ca: text, cert: text, key: text },
  allowPositionals: true,
});
const [act, ...rest] = positionals;
const five = args.protocol === "5";

function fail(why) {
  console.error(`${args.id}: ${why}`);
  process.exit(1);
}

/** Opens a connection; `keep` asks for a session that outlives it. */
function open(keep) {
  const file = (name) => (args[name] ? readFileSync(args[name]) : undefined);
  const client = mqtt.connect(args.url, {
    clientId: args.id,
    protocolVersion: Number(args.protocol),
    username: args.secret && args.id,
    password: args.secret,
    ca: file("ca"),
    cert: file("cert"),
    key: file("key"),
    clean: !keep,
    properties: five ? { sessionExpiryInterval: keep ? 3600 : 0 } : undefined,
    will: keep ? { topic: `devices/${args.id}/status`, payload: "gone", qos: 1, retain: false } : undefined,
    reconnectPeriod: 0,
    connectTimeout: PATIENCE_MS,
  });
  const heard = new Set();
  let check = () => {};
  client.on("message", (_topic, payload) => {
    const receipt = JSON.parse(payload);
    heard.add(`${receipt.payload} ${receipt.state}`);
    check();
  });
  const connected = new Promise((resolve, reject) => {
    client.once("connect", resolve);
    client.on("error", reject);
  });
  const closed = new Promise((resolve) => client.once("close", () => resolve("closed: the connection was lost")));
  /** What came of a publish, in a line. */
  const publish = (qos, topic, payload) =>
    Promise.race([
      client.publishAsync(topic, payload, { qos }).then(
        () => "acknowledged",
        (error) => `refused: ${error.message}`,
      ),
      closed,
    ]);
  /** Waits until every one of these receipts was heard. */
  const hear = async (wanted) => {
    const all = new Promise((resolve) => {
      check = () => wanted.every((one) => heard.has(one)) && resolve("heard");
      check();
    });
    const outcome = await Promise.race([all, closed]);
    if (outcome !== "heard") fail(`receipts: ${outcome}; heard ${[...heard]}`);
  };
  setTimeout(() => fail(`not done within ${PATIENCE_MS} ms; heard ${[...heard]}`), PATIENCE_MS).unref();
  return { client, connected, publish, hear };
}

const acts = {
  async offer() {
    const { client, connected, publish } = open(false);
    try {
      await connected;
    } catch (error) {
      console.log(`refused: ${error.message}`);
      return;
    }
    for (const one of rest) {
      const [qos, topic, payload] = one.split(":");
      const outcome = await publish(Number(qos), topic, payload);
      console.log(outcome);
      if (outcome.startsWith("closed")) return;
    }
    await client.endAsync();
  },

  async publish() {
    const { client, connected, publish, hear } = open(true);
    await connected;
    const [granted] = await client.subscribeAsync(`devices/${args.id}/receipts`, { qos: 1 });
    if (granted.qos !== 1) fail(`SUBACK: ${granted.qos}`);
    for (const [qos, code] of rest.entries()) {
      const outcome = await publish(qos, `devices/${args.id}/readings`, code);
      if (outcome !== "acknowledged") fail(`${code} with QoS ${qos}: ${outcome}`);
    }
    await hear(rest.map((code) => `${code} accepted`));
    await client.endAsync();
  },

  async listen() {
    const { connected, hear } = open(true);
    const connack = await connected;
    if (!connack.sessionPresent) fail("the session was not kept");
    await hear(rest.flatMap((code) => [`${code} mined`, `${code} final`]));
    // No DISCONNECT: the broker sends the will.
    process.exit(0);
  },
};

await acts[act]().catch((error) => fail(error.message));
