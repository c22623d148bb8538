// Recomputes tests/vectors/*.json with public libraries alone (ethers, @openzeppelin/merkle-tree, @noble/curves) and
// compares. `--write` stores what was computed: only for a change of the format that a decision record explains.
//
// Nothing of Windlass is used here, so that a mistake in our code cannot hide in the vectors.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../contracts/package.json", import.meta.url));
const { AbiCoder, Signature, SigningKey, TypedDataEncoder, concat, dataSlice, hexlify, keccak256, recoverAddress, toBeHex, toUtf8Bytes } =
  require("ethers");
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");
const { p256 } = require("@noble/curves/p256");

const VECTORS = new URL("../vectors/", import.meta.url);
const TREE_SIZES = [1, 2, 3, 5, 8];
const LEAF_TAG = keccak256(toUtf8Bytes("windlass.reading.v1"));
const LEAF_TYPES = ["bytes32", "bytes32", "uint32", "uint64", "uint64", "bytes32"];
const ZERO = `0x${"00".repeat(32)}`;
const SECP256K1_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const U32_MAX = 0xffffffff;
const U64_MAX = (2n ** 64n - 1n).toString();

// The address of the first contract that anvil's first account deploys.
const DOMAIN = {
  name: "Windlass",
  version: "1",
  chainId: 31337,
  verifyingContract: "0x5FbDB2315678afecb367f032d93F642f64180aa3",
};
const READING = {
  Reading: [
    { name: "device", type: "bytes32" },
    { name: "epoch", type: "uint32" },
    { name: "sequence", type: "uint64" },
    { name: "observedAt", type: "uint64" },
    { name: "payload", type: "bytes" },
  ],
};
const RUN = {
  Run: [
    { name: "device", type: "bytes32" },
    { name: "epoch", type: "uint32" },
    { name: "firstSequence", type: "uint64" },
    { name: "count", type: "uint32" },
    { name: "readingsHash", type: "bytes32" },
  ],
};

// Keys that everybody knows: for tests only.
const SECRETS = {
  "dock-7": { kind: "secp256k1", secret: keccak256(toUtf8Bytes("windlass test key: dock-7")) },
  "gate-2": { kind: "p256", secret: keccak256(toUtf8Bytes("windlass test key: gate-2")) },
};

const text = (value) => hexlify(toUtf8Bytes(value));
const deviceOf = (id) => keccak256(toUtf8Bytes(id));

function devices() {
  return Object.entries(SECRETS).map(([deviceId, { kind, secret }]) => ({
    deviceId,
    device: deviceOf(deviceId),
    kind,
    secret,
    key: kind === "secp256k1" ? address(secret) : hexlify(p256.getPublicKey(secret.slice(2), false).slice(1)),
  }));
}

function address(secret) {
  const point = new SigningKey(secret).publicKey;
  return `0x${keccak256(`0x${point.slice(4)}`).slice(-40)}`;
}

function sign(deviceId, digest) {
  const { kind, secret } = SECRETS[deviceId];
  if (kind === "secp256k1") return new SigningKey(secret).sign(digest).compactSerialized;
  return hexlify(p256.sign(digest.slice(2), secret.slice(2), { lowS: true, prehash: false }).toCompactRawBytes());
}

function reading(deviceId, epoch, sequence, observedAt, payload, signed = true) {
  const value = { device: deviceOf(deviceId), epoch, sequence, observedAt, payload };
  const digest = TypedDataEncoder.hash(DOMAIN, READING, value);
  return {
    deviceId,
    ...value,
    structHash: TypedDataEncoder.hashStruct("Reading", READING, value),
    digest,
    ...(signed && { signature: sign(deviceId, digest) }),
  };
}

function run(deviceId, epoch, firstSequence, count, readings, signed = true) {
  const value = { device: deviceOf(deviceId), epoch, firstSequence, count, readingsHash: keccak256(readings) };
  const digest = TypedDataEncoder.hash(DOMAIN, RUN, value);
  return {
    deviceId,
    ...value,
    readings,
    structHash: TypedDataEncoder.hashStruct("Run", RUN, value),
    digest,
    ...(signed && { signature: sign(deviceId, digest) }),
  };
}

function eip712() {
  return {
    domain: DOMAIN,
    domainSeparator: TypedDataEncoder.hashDomain(DOMAIN),
    readingType: TypedDataEncoder.from(READING).encodeType("Reading"),
    runType: TypedDataEncoder.from(RUN).encodeType("Run"),
    devices: devices(),
    readings: [
      reading("dock-7", 1, "1", "1735689600000", text("4006381333931")),
      reading("dock-7", 1, "2", "1735689600250", text("0012345678905")),
      reading("gate-2", 1, "1", "1735689600300", text("00012345")),
      reading("dock-7", 1, "3", "1735689600250", text("4006381333931")),
      reading("gate-2", 1, "2", "1735689601000", text("Kühlraum 3")),
      reading("dock-7", 1, "4", "1735689602000", "0x00"),
      reading("gate-2", 1, "3", "1735689603000", hexlify(new Uint8Array(256).map((_, index) => index))),
      reading("dock-7", 1, "5", "1735689604000", text("9".repeat(77))),
    ],
    runs: [
      run("dock-7", 1, "1", 3, "0x01aabbcc"),
      run("dock-7", 1, "4", 2, concat(["0x01", hexlify(new Uint8Array(1200).map((_, index) => index & 0xff))])),
      run("gate-2", 1, "1", 3, "0x0100"),
    ],
    // At the ends of the types: digests only, since no contract would record them.
    edges: {
      readings: [
        reading("dock-7", 0, "0", "0", "0x", false),
        reading("5446078", U32_MAX, U64_MAX, U64_MAX, "0x", false),
        reading("dock-7", 1, "9007199254740993", "9007199254740993", text("1"), false),
      ],
      runs: [run("dock-7", 0, "0", 0, "0x", false), run("5446078", U32_MAX, U64_MAX, U32_MAX, "0x01", false)],
    },
  };
}

function merkle({ readings }) {
  const values = readings.map(({ device, epoch, sequence, observedAt, digest }) => [
    LEAF_TAG,
    device,
    epoch,
    sequence,
    observedAt,
    digest,
  ]);
  const leaf = (value) => StandardMerkleTree.of([value], LEAF_TYPES).root;
  return {
    leafTypes: LEAF_TYPES,
    leafTag: LEAF_TAG,
    leaves: readings.map(({ deviceId, device, epoch, sequence, observedAt, digest }, index) => ({
      deviceId,
      device,
      epoch,
      sequence,
      observedAt,
      digest,
      leaf: leaf(values[index]),
    })),
    trees: TREE_SIZES.map((count) => tree(values.slice(0, count))),
  };
}

function tree(values) {
  const built = StandardMerkleTree.of(values, LEAF_TYPES);
  const proofs = values.map((value, index) => {
    const proof = built.getProof(index);
    if (!StandardMerkleTree.verify(built.root, LEAF_TYPES, value, proof)) throw new Error("the library disagrees with itself");
    return proof;
  });
  return { count: values.length, root: built.root, proofs };
}

function heads({ trees }) {
  const dock = deviceOf("dock-7");
  const gate = deviceOf("gate-2");
  const root = (count) => trees.find((built) => built.count === count).root;
  const steps = [
    { batch: "1", root: root(1), count: 1, logSize: "0", logRoot: ZERO, ranges: [] },
    {
      batch: "2",
      root: root(5),
      count: 5,
      logSize: "6",
      logRoot: keccak256(text("log root 6")),
      ranges: [
        { device: dock, first: "1", last: "3" },
        { device: gate, first: "1", last: "2" },
      ],
    },
    {
      batch: "3",
      root: root(8),
      count: 8,
      logSize: "14",
      logRoot: keccak256(text("log root 14")),
      ranges: [{ device: dock, first: "4", last: "4" }],
    },
    { batch: U64_MAX, root: toBeHex(1, 32), count: U32_MAX, logSize: U64_MAX, logRoot: toBeHex(2, 32), ranges: [] },
  ];
  let previousHead = ZERO;
  return {
    anchors: steps.map((step) => {
      const linked = link(previousHead, step);
      previousHead = linked.head;
      return linked;
    }),
  };
}

function link(previousHead, { batch, root, count, logSize, logRoot, ranges }) {
  const coder = AbiCoder.defaultAbiCoder();
  const rangesHash =
    ranges.length === 0
      ? ZERO
      : keccak256(
          coder.encode(
            ["tuple(bytes32,uint64,uint64)[]"],
            [ranges.map(({ device, first, last }) => [device, first, last])],
          ),
        );
  const head = keccak256(
    coder.encode(
      ["bytes32", "uint64", "bytes32", "uint32", "uint64", "bytes32", "bytes32"],
      [previousHead, batch, root, count, logSize, logRoot, rangesHash],
    ),
  );
  return { previousHead, batch, root, count, logSize, logRoot, ranges, rangesHash, head };
}

/** Signatures that no verifier may take for the reading's, and paths that lead no reading to their root. */
function hostile(typed, trees) {
  const signatures = typed.devices.flatMap(({ deviceId, kind, key }) => {
    const [first, second] = typed.readings.filter((r) => r.deviceId === deviceId);
    const { structHash, digest, signature, ...value } = first;
    const elsewhere = (domain, changes = {}) => sign(deviceId, TypedDataEncoder.hash({ ...DOMAIN, ...domain }, READING, fields({ ...value, ...changes })));
    const [r, s] = [dataSlice(signature, 0, 32), dataSlice(signature, 32)];
    return Object.entries({
      "high s": kind === "p256" ? concat([r, toBeHex(P256_ORDER - BigInt(s), 32)]) : turned(signature),
      "of another reading": second.signature,
      "for another chain": elsewhere({ chainId: 1 }),
      "for another contract": elsewhere({ verifyingContract: "0x0000000000000000000000000000000000000001" }),
      "for another device": elsewhere({}, { device: deviceOf("dock-8") }),
      "for another epoch": elsewhere({}, { epoch: 2 }),
      "for another time": elsewhere({}, { observedAt: "1" }),
      "for another payload": elsewhere({}, { payload: text("1") }),
      "r is 0": concat([ZERO, s]),
      "s is 0": concat([r, ZERO]),
      "r is all ones": concat([`0x${"ff".repeat(32)}`, s]),
      "one byte short": dataSlice(signature, 0, 63),
      "two bytes long": concat([signature, "0x0000"]),
      empty: "0x",
    }).map(([name, bytes]) => {
      if (takes(kind, key, digest, bytes)) throw new Error(`${deviceId}: a public library takes the signature ${name}`);
      return { name, ...value, signature: bytes };
    });
  });
  return { signatures, paths: paths(trees) };
}

const fields = ({ device, epoch, sequence, observedAt, payload }) => ({ device, epoch, sequence, observedAt, payload });

/** The other signature of the pair, with its parity behind it: the short form has no room for a high s. */
function turned(compact) {
  const { r, s, yParity } = Signature.from(compact);
  return concat([r, toBeHex(SECP256K1_ORDER - BigInt(s), 32), toBeHex(27 + (1 - yParity))]);
}

function takes(kind, key, digest, signature) {
  try {
    if (kind === "p256") return p256.verify(signature.slice(2), digest.slice(2), `04${key.slice(2)}`, { lowS: true, prehash: false });
    return recoverAddress(digest, Signature.from(signature)).toLowerCase() === key;
  } catch {
    return false;
  }
}

/** `reading` is the number of the reading in eip712.json; absent where the leaf is none. */
function paths({ leaves, trees }) {
  const tree = trees.find((built) => built.count === 5);
  const { root, count, proofs } = tree;
  const leaf = (i) => leaves[i].leaf;
  const long = proofs.findIndex((proof) => proof.length === 3);
  const short = proofs.findIndex((proof) => proof.length === 2);
  const pair = (a, b) => keccak256(a < b ? concat([a, b]) : concat([b, a]));
  const inner = pair(leaf(long), proofs[long][0]);
  const of = (name, i, proof, changes = {}) => ({ name, root, count, reading: i, leaf: leaf(i), proof, ...changes });
  return [
    of("first sibling missing", long, proofs[long].slice(1)),
    of("last sibling missing", long, proofs[long].slice(0, -1)),
    of("a sibling twice", long, [proofs[long][0], ...proofs[long]]),
    of("swapped siblings", long, [proofs[long][1], proofs[long][0], proofs[long][2]]),
    of("another leaf's path", long, proofs[short]),
    of("a zero sibling", long, [ZERO, ...proofs[long].slice(1)]),
    of("a count that the path does not fit: too small", long, proofs[long], { count: 2 }),
    of("a count that the path does not fit: too large", short, proofs[short], { count: 64 }),
    of("no count", long, proofs[long], { count: 0 }),
    of("a reading that is not in the tree", 6, proofs[long]),
    { name: "an inner node as leaf", root, count: 2, leaf: inner, proof: proofs[long].slice(1) },
    { name: "the root as leaf", root, count, leaf: root, proof: [] },
    { name: "a zero leaf", root, count, leaf: ZERO, proof: proofs[long] },
  ];
}

function compute() {
  const typed = eip712();
  const trees = merkle(typed);
  return { "eip712.json": typed, "merkle.json": trees, "heads.json": heads(trees), "hostile.json": hostile(typed, trees) };
}

function main(args) {
  const write = args.length === 1 && args[0] === "--write";
  if (args.length > 0 && !write) {
    console.error("usage: vectors.mjs [--write]");
    return 64;
  }
  let differing = 0;
  for (const [name, value] of Object.entries(compute())) {
    const rendered = `${JSON.stringify(value, null, 2)}\n`;
    const file = new URL(name, VECTORS);
    if (write) {
      mkdirSync(VECTORS, { recursive: true });
      writeFileSync(file, rendered);
    } else if (readFileSync(file, "utf8") !== rendered) {
      console.error(`tests/vectors/${name}: not what the public libraries compute`);
      differing += 1;
    } else {
      console.log(`tests/vectors/${name}: ok`);
    }
  }
  return differing === 0 ? 0 : 1;
}

process.exitCode = main(process.argv.slice(2));
