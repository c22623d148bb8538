// A device that signs its readings, in JavaScript: keys of either kind, numbering that survives a crash, MQTT 5 over any
// transport.
//
//   node device.mjs --new secp256k1|p256 --state device.json
//       makes a key, and prints the line for the gateway's config
//   node device.mjs --state device.json --broker mqtt://host:1883 --device ID --secret-file FILE \
//       --chain-id 31337 --contract 0x… CODE…
//       publishes each code, and prints its number and the gateway's answer
//
// The state file holds the private key, the epoch, the next number and the reading in hand. A reading is written there
// with its number and signature before it is sent, and stays until it is acknowledged: after a crash the same bytes go out
// again, and the gateway takes them for what they are.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { p256 } from "@noble/curves/p256";
import { SigningKey, TypedDataEncoder, computeAddress, getBytes, hexlify, id, randomBytes, toUtf8Bytes } from "ethers";
import mqtt from "mqtt";

const READING = {
  Reading: [
    { name: "device", type: "bytes32" },
    { name: "epoch", type: "uint32" },
    { name: "sequence", type: "uint64" },
    { name: "observedAt", type: "uint64" },
    { name: "payload", type: "bytes" },
  ],
};

const { values: options, positionals: codes } = parseArgs({
  allowPositionals: true,
  options: {
    new: { type: "string" },
    state: { type: "string" },
    broker: { type: "string" },
    device: { type: "string" },
    "secret-file": { type: "string" },
    "chain-id": { type: "string" },
    contract: { type: "string" },
  },
});

function save(state) {
  writeFileSync(`${options.state}.part`, JSON.stringify(state, null, 2) + "\n", { mode: 0o600, flush: true });
  renameSync(`${options.state}.part`, options.state);
}

/** The public half, as the config has it. */
function publicKey({ kind, key }) {
  if (kind === "secp256k1") return computeAddress(key).toLowerCase();
  return hexlify(p256.getPublicKey(getBytes(key), false).slice(1));
}

function sign({ kind, key }, digest) {
  if (kind === "secp256k1") return new SigningKey(key).sign(digest).compactSerialized;
  return hexlify(p256.sign(getBytes(digest), getBytes(key), { lowS: true }).toCompactRawBytes());
}

function create(kind) {
  if (kind !== "secp256k1" && kind !== "p256") throw new Error(`--new is secp256k1 or p256, not ${kind}`);
  const key = kind === "p256" ? hexlify(p256.utils.randomPrivateKey()) : hexlify(randomBytes(32));
  const state = { kind, key, epoch: 1, next: 1, inHand: null };
  writeFileSync(options.state, JSON.stringify(state, null, 2) + "\n", { mode: 0o600, flag: "wx" });
  console.log(`key = { ${kind} = "${publicKey(state)}" }`);
}

/** Numbers, dates and signs a code; it is the reading in hand from now on. */
function take(state, code) {
  const domain = { name: "Windlass", version: "1", chainId: options["chain-id"], verifyingContract: options.contract };
  const { epoch, next: sequence } = state;
  const at = Date.now();
  const reading = { device: id(options.device), epoch, sequence, observedAt: at, payload: toUtf8Bytes(code) };
  const signature = sign(state, TypedDataEncoder.hash(domain, READING, reading));
  state.inHand = { epoch, sequence, at, payload: code, signature };
  save(state);
}

/** Publishes the reading in hand; a refusal is told and not sent again. */
async function settle(client, state) {
  const topic = `devices/${options.device}/readings`;
  const answer = await new Promise((resolve) => {
    client.publish(topic, JSON.stringify(state.inHand), { qos: 1 }, (error, packet) => resolve(error ?? packet));
  });
  const refused = answer instanceof Error || (answer?.reasonCode ?? 0) >= 0x80;
  console.log(`${state.inHand.sequence} ${state.inHand.payload} ${refused ? `refused: ${answer.message ?? answer.reasonCode}` : "acknowledged"}`);
  if (refused) return false;
  state.next = state.inHand.sequence + 1;
  state.inHand = null;
  save(state);
  return true;
}

async function run() {
  if (options.new) return create(options.new);
  const state = JSON.parse(readFileSync(options.state, "utf8"));
  const waiting = [...codes];
  if (!state.inHand && waiting.length) take(state, waiting.shift());
  const login = {
    protocolVersion: 5,
    clientId: options.device,
    username: options.device,
    password: readFileSync(options["secret-file"], "utf8").trim(),
    reconnectPeriod: 0,
  };
  const client = await mqtt.connectAsync(options.broker, login, false);
  try {
    while (state.inHand) {
      if (!(await settle(client, state))) {
        process.exitCode = 1;
        break;
      }
      if (waiting.length) take(state, waiting.shift());
    }
  } finally {
    await client.endAsync();
  }
}

await run();
