// A verifier of Windlass proof files that shares no code with Windlass: docs/proofs.md, public libraries, and nothing else.
// It runs in Node (verify.mjs is the command) and in browsers (the gateway's page has it).
//
//   verify(bytes, { blockHash, registrationHash })   answers what was checked and what is left to trust, or throws Refused
//
// The reasons are those of docs/proofs.md.
import { p256 } from "@noble/curves/p256";
import {
  AbiCoder, Interface, Signature, Transaction, TypedDataEncoder, concat, dataLength, decodeRlp, encodeRlp, getAddress,
  getBytes, hexlify, id, keccak256, recoverAddress, toBeHex, toUtf8Bytes, toUtf8String, zeroPadValue,
} from "ethers";

const MAX_BYTES = 1 << 20;
const MAX_DEPTH = 8;
const U32 = (1n << 32n) - 1n;
const U64 = (1n << 64n) - 1n;
const SECP256K1_HALF = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;

const CONTRACT = new Interface([
  "event Anchored(address indexed submitter, uint64 indexed batch, bytes32 indexed root, uint32 count, uint64 logSize, bytes32 logRoot, bytes32 head)",
  "event Recorded(bytes32 indexed device, uint32 epoch, uint64 firstSequence, uint32 count, bytes readings)",
  "event Skipped(bytes32 indexed device, uint32 epoch, uint64 firstSequence, uint32 count, uint8 reason)",
  "event Registered(bytes32 indexed device, uint32 indexed epoch, uint8 kind, bytes key)",
  "function record((bytes32 device, uint32 epoch, uint64 firstSequence, uint32 count, bytes readings, bytes signature)[] runs)",
  "function recordSigned((bytes32 device, uint32 epoch, uint64 sequence, uint64 observedAt, bytes payload, bytes signature)[] readings)",
  "function set(uint256 value)",
]);
const READING = {
  Reading: [
    { name: "device", type: "bytes32" }, { name: "epoch", type: "uint32" }, { name: "sequence", type: "uint64" },
    { name: "observedAt", type: "uint64" }, { name: "payload", type: "bytes" },
  ],
};
const RUN = {
  Run: [
    { name: "device", type: "bytes32" }, { name: "epoch", type: "uint32" }, { name: "firstSequence", type: "uint64" },
    { name: "count", type: "uint32" }, { name: "readingsHash", type: "bytes32" },
  ],
};

export class Refused extends Error {
  constructor(reason, detail) {
    super(detail);
    this.reason = reason;
  }
}

const refuse = (reason, detail) => { throw new Refused(reason, detail); };
const same = (what, stated, found) => { if (stated !== found) refuse("differs", `${what} in the file differs from what is on chain`); };
/** Runs a library's decoder; whatever it throws is a refusal. */
const read = (reason, detail, decode) => {
  try {
    return decode();
  } catch (error) {
    if (error instanceof Refused) throw error;
    return refuse(reason, detail);
  }
};

// ---------------------------------------------------------------------------------------------------- strict JSON

/** JSON with whole numbers as BigInt; duplicate keys, fractions, booleans and deep nesting are refused. */
function parseJson(text) {
  let at = 0;
  const bad = (what) => refuse("malformed", `not a proof file: ${what} at ${at}`);
  const space = () => { while (" \t\n\r".includes(text[at] ?? "x")) at++; };
  const string = () => {
    const end = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
    end.lastIndex = at;
    const found = end.exec(text) ?? bad("a string");
    at = end.lastIndex;
    return JSON.parse(found[0]);
  };
  const value = (depth) => {
    if (depth > MAX_DEPTH) bad("too deep");
    space();
    if (text[at] === '"') return string();
    if (text[at] === "{" || text[at] === "[") {
      const list = text[at] === "[";
      const close = list ? "]" : "}";
      const out = list ? [] : Object.create(null);
      at++;
      space();
      if (text[at] === close) { at++; return out; }
      for (;;) {
        if (list) out.push(value(depth + 1));
        else {
          space();
          if (text[at] !== '"') bad("a key");
          const key = string();
          space();
          if (text[at++] !== ":") bad("a colon");
          if (key in out) bad(`the key ${key.slice(0, 40)} twice`);
          out[key] = value(depth + 1);
        }
        space();
        const next = text[at++];
        if (next === close) return out;
        if (next !== ",") bad("a comma");
      }
    }
    if (text.startsWith("null", at)) { at += 4; return null; }
    const number = /(?:0|[1-9][0-9]*)(?![0-9.eE])/y;
    number.lastIndex = at;
    const found = number.exec(text) ?? bad("a value");
    at = number.lastIndex;
    return BigInt(found[0]);
  };
  const out = value(0);
  space();
  if (at !== text.length) bad("something behind the end");
  return out;
}

// ------------------------------------------------------------------------------------------------------- the form

const hex = (length) => (value, name) => {
  if (typeof value !== "string" || !/^0x([0-9a-fA-F]{2})*$/.test(value)) refuse("malformed", `${name} is not hex`);
  if (length !== undefined && dataLength(value) !== length) refuse("malformed", `${name} has not ${length} bytes`);
  if (value !== value.toLowerCase()) refuse("not_canonical", `${name} is not in lower case`);
};
const uint = (max) => (value, name) => {
  if (typeof value !== "bigint" || value > max) refuse("malformed", `${name} is not a number of its size`);
};
const text = (value, name) => { if (typeof value !== "string") refuse("malformed", `${name} is not text`); };
const deviceId = (value, name) => {
  if (typeof value !== "string" || !/^[A-Za-z0-9_-]{1,64}$/.test(value)) refuse("malformed", `${name} is no device id`);
};
const only = (literal) => (value, name) => { if (value !== literal) refuse("malformed", `${name} is not ${literal}`); };
const decimal = (value, name) => {
  if (typeof value !== "string" || !/^(0|[1-9][0-9]{0,77})$/.test(value)) refuse("differs", `${name} is no decimal number`);
};
const list = (of) => (value, name) => {
  if (!Array.isArray(value)) refuse("malformed", `${name} is not a list`);
  value.forEach((item, i) => of(item, `${name}[${i}]`));
};
const key = (value, name) => {
  if (typeof value === "string" && value.length === 42) hex(20)(value, name);
  else hex(64)(value, name);
};
const object = (fields, optional = {}) => (value, name) => {
  if (value === null || typeof value !== "object" || Array.isArray(value)) refuse("malformed", `${name} is no object`);
  for (const field of Object.keys(value)) {
    if (!(field in fields) && !(field in optional)) refuse("malformed", `${name} has an unknown key ${field.slice(0, 40)}`);
  }
  for (const [field, check] of Object.entries(fields)) {
    if (!(field in value)) refuse("malformed", `${name} has no ${field}`);
    check(value[field], `${name}.${field}`);
  }
  for (const [field, check] of Object.entries(optional)) {
    if (!(field in value)) continue;
    if (value[field] === null) refuse("not_canonical", `${name}.${field} is null in place of absent`);
    check(value[field], `${name}.${field}`);
  }
};

const BLOCK = object({ hash: hex(32), number: uint(U64), header: hex() });
const EVENT = object({ transaction: uint(U64), log: uint(U32), receipt: list(hex()) });
const READING_FIELDS = object({ device: deviceId, epoch: uint(U32), sequence: uint(U64), observed_at: uint(U64), payload: text });
const REGISTERED = object({ event: EVENT, block: BLOCK });
const FORMS = {
  anchor: object(
    {
      windlass_proof: only(1n), settlement: only("anchor"), chain_id: uint(U64), contract: hex(20), reading: READING_FIELDS,
      merkle_path: list(hex(32)),
      anchored: object({
        submitter: hex(20), batch: uint(U64), root: hex(32), count: uint(U32), log_size: uint(U64), log_root: hex(32), head: hex(32),
      }),
      event: EVENT, block: BLOCK,
    },
    { signed: object({ signer: key, signature: hex() }), registered: REGISTERED },
  ),
  batch: object(
    {
      windlass_proof: only(1n), settlement: only("batch"), contract: hex(20), reading: READING_FIELDS,
      recorded: object({ first_sequence: uint(U64), count: uint(U32) }), event: EVENT, block: BLOCK,
    },
    {
      signed: object({ chain_id: uint(U64), signer: key, signature: hex(), transaction: hex(32), nodes: list(hex()) }),
      registered: REGISTERED,
    },
  ),
  direct: object({
    windlass_proof: only(1n), settlement: only("direct"), chain_id: uint(U64), contract: hex(20), value: decimal, signer: hex(20),
    nonce: uint(U64), transaction: object({ index: uint(U64), hash: hex(32), nodes: list(hex()) }), receipt: list(hex()), block: BLOCK,
  }),
  pending: object({
    windlass_proof: only(1n), state: only("pending"), settlement: text, reading: READING_FIELDS,
  }),
};

/** The file's object, whose form is right; nothing of it is proved. */
export function parse(bytes) {
  if (bytes.length > MAX_BYTES) refuse("too_large", `the file has ${bytes.length} bytes`);
  const source = read("malformed", "not UTF-8", () => new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  const file = parseJson(source);
  if (file === null || typeof file !== "object" || Array.isArray(file)) refuse("malformed", "not an object");
  if (typeof file.windlass_proof !== "bigint") refuse("malformed", "windlass_proof is missing");
  if (file.windlass_proof !== 1n) refuse("version", `version ${file.windlass_proof} is not known`);
  if (!["anchor", "batch", "direct"].includes(file.settlement)) refuse("malformed", "no settlement");
  FORMS["state" in file ? "pending" : file.settlement](file, "the file");
  return file;
}

// ----------------------------------------------------------------------------------------------- blocks and tries

/** The header behind a stated hash, which must be the trusted one where there is one. */
function seal(block, trusted) {
  const computed = keccak256(block.header);
  if (computed !== block.hash) refuse("block_hash", `the header hashes to ${computed}`);
  if (trusted && trusted.toLowerCase() !== computed) refuse("other_block", `the proof is of block ${computed}`);
  const fields = read("header", "the header is not RLP", () => decodeRlp(block.header));
  const lengths = { 0: 32, 1: 32, 2: 20, 3: 32, 4: 32, 5: 32, 6: 256, 13: 32, 14: 8 };
  const good = Array.isArray(fields) && fields.length >= 15 && fields.length <= 21 && fields.every((f) => typeof f === "string") &&
    Object.entries(lengths).every(([i, length]) => dataLength(fields[i]) === length) && encodeRlp(fields) === block.header;
  if (!good) refuse("header", "the header is no block header");
  const number = BigInt(fields[8] === "0x" ? 0 : fields[8]);
  same("the block number", block.number, number);
  return { hash: computed, number, transactionsRoot: fields[4], receiptsRoot: fields[5], time: BigInt(fields[11] === "0x" ? 0 : fields[11]) };
}

const nibblesOf = (data) => [...data.slice(2)].map((digit) => parseInt(digit, 16));

/** The item at an index of a receipts or transactions trie: the nodes must be the exact path to it. */
function itemAt(root, index, nodes, reason) {
  const wrong = (what) => refuse(reason, `the trie path is wrong: ${what}`);
  let rest = nibblesOf(encodeRlp(index === 0n ? "0x" : toBeHex(index)));
  let expected = root;
  for (let i = 0; i < nodes.length; i++) {
    if (keccak256(nodes[i]) !== expected) wrong("a node does not hash to what its parent names");
    const node = read(reason, "a trie node is malformed", () => decodeRlp(nodes[i]));
    if (!Array.isArray(node) || encodeRlp(node) !== nodes[i]) wrong("a node is malformed");
    if (node.length === 17) {
      if (rest.length === 0) wrong("it ends in a branch");
      expected = node[rest.shift()];
    } else if (node.length === 2 && typeof node[0] === "string") {
      const path = nibblesOf(node[0]);
      const flag = path.shift();
      if (flag === undefined || flag > 3) wrong("a node is malformed");
      if (flag % 2 === 0 && path.shift() !== 0) wrong("a node is malformed");
      if (path.length > rest.length || path.some((nibble, n) => nibble !== rest[n])) wrong("it leads elsewhere");
      rest = rest.slice(path.length);
      if (flag >= 2) {
        if (rest.length !== 0) wrong("it leads elsewhere");
        if (i !== nodes.length - 1) wrong("it goes on behind the item");
        return typeof node[1] === "string" ? node[1] : wrong("a node is malformed");
      }
      expected = node[1];
    } else wrong("a node is malformed");
    if (typeof expected !== "string" || dataLength(expected) !== 32) wrong("it leads elsewhere");
  }
  return wrong("it ends before the item");
}

/** Status and logs of the receipt at an index. */
function receiptAt(block, index, nodes) {
  const bytes = itemAt(block.receiptsRoot, index, nodes, "receipt_path");
  return read("receipt", "the receipt is malformed or of an unknown type", () => {
    const type = parseInt(bytes.slice(2, 4), 16);
    if (type < 0xc0 && (type < 1 || type > 4)) throw new Error("type");
    const [status, , , logs, ...more] = decodeRlp(type < 0xc0 ? `0x${bytes.slice(4)}` : bytes);
    if (more.length || !["0x", "0x01"].includes(status)) throw new Error("fields");
    return { success: status === "0x01", logs: logs.map(([address, topics, data]) => ({ address, topics, data })) };
  });
}

/** The event of the contract at the stated place, and all logs of its transaction. */
function eventAt(block, proof, contract, name) {
  const { logs } = receiptAt(block, proof.transaction, proof.receipt);
  const log = logs[Number(proof.log)];
  const detail = `the log at the stated index is not the contract's ${name} event`;
  if (!log || log.address !== contract) refuse("event", detail);
  const fragment = CONTRACT.getEvent(name);
  const event = read("event", detail, () => {
    if (log.topics[0] !== fragment.topicHash) throw new Error("topic");
    const decoded = CONTRACT.decodeEventLog(fragment, log.data, log.topics);
    const again = CONTRACT.encodeEventLog(fragment, [...decoded]);
    if (again.data !== log.data || again.topics.join() !== log.topics.join()) throw new Error("encoding");
    return decoded;
  });
  return { event, logs };
}

function transactionAt(block, index, nodes) {
  const bytes = itemAt(block.transactionsRoot, index, nodes, "transaction_path");
  const transaction = read("transaction", "the transaction is malformed or wrongly signed", () => {
    const decoded = Transaction.from(bytes);
    if (!decoded.from) throw new Error("signature");
    return decoded;
  });
  return { hash: keccak256(bytes), transaction };
}

// ------------------------------------------------------------------------------------------------------- readings

const control = /[\u0000-\u001f\u007f-\u009f]/;

/** The bytes behind a payload's one spelling. */
function payloadOf(spelled) {
  const wrong = () => refuse("payload", "the payload is not in its one spelling");
  if (!spelled.startsWith("0x")) return control.test(spelled) ? wrong() : hexlify(toUtf8Bytes(spelled));
  if (!/^0x([0-9a-f]{2})+$/.test(spelled)) return wrong();
  let plain = null;
  try { plain = toUtf8String(spelled); } catch { return spelled; }
  return plain.startsWith("0x") || control.test(plain) ? spelled : wrong();
}

const readingOf = (fields) => ({
  device: id(fields.device), epoch: fields.epoch, sequence: fields.sequence, observedAt: fields.observed_at,
  payload: payloadOf(fields.payload),
});
const domain = (chainId, contract) => ({ name: "Windlass", version: "1", chainId, verifyingContract: getAddress(contract) });
const digestOf = (reading, chainId, contract) => TypedDataEncoder.hash(domain(chainId, contract), READING, reading);
const described = (file) => `the reading: device ${file.reading.device}, epoch ${file.reading.epoch}, sequence ${file.reading.sequence}, ` +
  `observed at ${file.reading.observed_at} (unix ms), payload ${file.reading.payload}`;

function leafOf(reading, digest) {
  const words = [id("windlass.reading.v1"), reading.device, reading.epoch, reading.sequence, reading.observedAt, digest];
  return keccak256(keccak256(AbiCoder.defaultAbiCoder().encode(["bytes32", "bytes32", "uint32", "uint64", "uint64", "bytes32"], words)));
}

/** Whether the path leads from the leaf to the root of a tree of so many leaves: neither shortened nor from within. */
function pathFits(root, leaf, path, count) {
  if (count === 0n) return false;
  const shortest = count.toString(2).length - 1;
  const longest = shortest + ((count & (count - 1n)) === 0n ? 0 : 1);
  if (path.length < shortest || path.length > longest) return false;
  return path.reduce((node, sibling) => keccak256(node < sibling ? concat([node, sibling]) : concat([sibling, node])), leaf) === root;
}

/** Whether a key signed a digest, in the one form of a signature: 64 bytes, low s. `long` also takes r, s, v. */
function isSigned(signer, digest, signature, long = false) {
  try {
    if (dataLength(signer) === 64) {
      const point = getBytes(concat(["0x04", signer]));
      return dataLength(signature) === 64 && p256.verify(getBytes(signature), getBytes(digest), point, { lowS: true, prehash: false });
    }
    if (dataLength(signature) !== 64 && !(long && dataLength(signature) === 65)) return false;
    const parsed = Signature.from(signature);
    if (BigInt(parsed.s) > SECP256K1_HALF) return false;
    return recoverAddress(digest, parsed).toLowerCase() === signer;
  } catch {
    return false;
  }
}

/** The readings of a packed run: version 1 is the gateway's, version 2 one reading that its device signed. */
function unpack(bytes, count) {
  const data = getBytes(bytes);
  let at = 1;
  const wrong = () => refuse("packing", "the recorded run cannot be read");
  const take = (n) => (at + n <= data.length ? data.slice(at, (at += n)) : wrong());
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(take(1)[0]);
      if (shift > 63n || (shift === 63n && (byte & 0x7fn) > 1n) || (shift > 0n && byte === 0n)) wrong();
      value |= (byte & 0x7fn) << shift;
      if (byte < 0x80n) return value;
    }
  };
  if (data[0] === 2 && count === 1n) {
    if (data.length < 9) wrong();
    return [{ observedAt: BigInt(hexlify(data.slice(1, 9))), payload: hexlify(data.slice(9)) }];
  }
  if (data[0] !== 1) wrong();
  let observedAt = varint();
  const readings = [];
  for (let i = 0n; i < count; i++) {
    const head = varint();
    const length = Number(head >> 1n);
    let payload;
    if (head & 1n) {
      if (length === 0 || length > 77) wrong();
      const width = dataLength(toBeHex(10n ** BigInt(length) - 1n));
      const digits = BigInt(hexlify(take(width))).toString();
      if (digits.length > length) wrong();
      payload = hexlify(toUtf8Bytes(digits.padStart(length, "0")));
    } else payload = hexlify(take(length));
    if (i > 0n) {
      const zigzag = varint();
      observedAt = (observedAt + ((zigzag >> 1n) ^ -(zigzag & 1n))) & U64;
    }
    readings.push({ observedAt, payload });
  }
  if (at !== data.length) wrong();
  return readings;
}

// --------------------------------------------------------------------------------------------------- settlements

function anchor(file, block) {
  const { event } = eventAt(block, file.event, file.contract, "Anchored");
  const stated = file.anchored;
  const found = [event.submitter.toLowerCase(), event.batch, event.root, event.count, event.logSize, event.logRoot, event.head];
  const told = [stated.submitter, stated.batch, stated.root, stated.count, stated.log_size, stated.log_root, stated.head];
  found.forEach((value, i) => same("an anchored value", told[i], value));
  const reading = readingOf(file.reading);
  const digest = digestOf(reading, file.chain_id, file.contract);
  const leaf = leafOf(reading, digest);
  if (!pathFits(event.root, leaf, file.merkle_path, event.count)) {
    refuse("merkle_path", "the Merkle path does not lead from this reading to the anchored root");
  }
  const checked = [
    described(file), `its leaf for chain ${file.chain_id} and contract ${file.contract} is ${leaf}`,
    `the leaf is one of ${event.count} under root ${event.root}`, `${file.contract} emitted Anchored with that root`,
  ];
  const trusts = [`that ${file.contract} is the Windlass contract and its submitters are honest gateways`];
  if (file.signed) {
    if (!isSigned(file.signed.signer, digest, file.signed.signature)) {
      refuse("differs", "the device's signature in the file is not over this reading");
    }
    checked.push(`the device's key ${file.signed.signer} signed exactly this reading`);
  } else trusts.push("the gateway, that the device sent this payload, at that time, under that sequence");
  return { checked, trusts, signer: file.signed?.signer };
}

/** Which item of the call a log answers: each emits one Recorded or one Skipped, in order. */
function placeOf(logs, index, contract) {
  const answers = [CONTRACT.getEvent("Recorded").topicHash, CONTRACT.getEvent("Skipped").topicHash];
  return logs.slice(0, index).filter((log) => log.address === contract && answers.includes(log.topics[0])).length;
}

function submission(file, block, event, logs) {
  const { signed } = file;
  const { hash, transaction } = transactionAt(block, file.event.transaction, signed.nodes);
  same("the transaction hash", signed.transaction, hash);
  same("the chain id", signed.chain_id, transaction.chainId);
  same("the called contract", file.contract, transaction.to?.toLowerCase());
  const single = event.readings.startsWith("0x02");
  const call = single ? "recordSigned" : "record";
  const detail = `the transaction is not a call of ${call}`;
  const place = placeOf(logs, Number(file.event.log), file.contract);
  const item = read("call", detail, () => {
    if (transaction.data.slice(0, 10) !== CONTRACT.getFunction(call).selector) throw new Error("selector");
    const found = CONTRACT.decodeFunctionData(call, transaction.data)[0][place];
    return found ?? refuse("call", detail);
  });
  const [first, count] = single ? [item.sequence, 1n] : [item.firstSequence, item.count];
  const told = [event.device, event.epoch, event.firstSequence, event.count];
  [item.device, item.epoch, first, count].forEach((value, i) => same("the submitted run", value, told[i]));
  same("the run's signature", signed.signature, item.signature);
  if (single) {
    const packed = concat(["0x02", zeroPadValue(toBeHex(item.observedAt), 8), item.payload]);
    same("the submitted reading", packed, event.readings);
    return digestOf(item.toObject(), signed.chain_id, file.contract);
  }
  same("the submitted run", item.readings, event.readings);
  const run = { ...item.toObject(), readingsHash: keccak256(item.readings) };
  return TypedDataEncoder.hash(domain(signed.chain_id, file.contract), RUN, run);
}

function batch(file, block) {
  const { event, logs } = eventAt(block, file.event, file.contract, "Recorded");
  same("a recorded value", file.recorded.first_sequence, event.firstSequence);
  same("a recorded value", file.recorded.count, event.count);
  const reading = readingOf(file.reading);
  same("the device", reading.device, event.device);
  same("the epoch", reading.epoch, event.epoch);
  const recorded = unpack(event.readings, event.count)[Number(reading.sequence - event.firstSequence)];
  if (recorded?.observedAt !== reading.observedAt || recorded?.payload !== reading.payload) same("the reading", 0, 1);
  const checked = [
    described(file), `${file.contract} recorded it in a run of ${event.count} from sequence ${event.firstSequence}`,
  ];
  const trusts = [`that ${file.contract} is the Windlass contract, which records only runs that the device's registered key signed`];
  if (!file.signed) {
    trusts.push("which chain it is: without the signature the file binds no chain id");
    return { checked, trusts };
  }
  const digest = submission(file, block, event, logs);
  if (!isSigned(file.signed.signer, digest, file.signed.signature, true)) {
    refuse("differs", "the run's signer in the file differs from what is on chain");
  }
  checked.push(`the signature in transaction ${file.signed.transaction} is by key ${file.signed.signer} for chain ${file.signed.chain_id}`);
  return { checked, trusts, signer: file.signed.signer };
}

function direct(file, block) {
  const { hash, transaction } = transactionAt(block, file.transaction.index, file.transaction.nodes);
  same("the transaction hash", file.transaction.hash, hash);
  if (transaction.chainId === 0n) refuse("unbound", "the transaction is not bound to a chain id");
  same("the chain id", file.chain_id, transaction.chainId);
  same("the called contract", file.contract, transaction.to?.toLowerCase());
  same("the signer", file.signer, transaction.from.toLowerCase());
  same("the nonce", file.nonce, BigInt(transaction.nonce));
  const value = read("call", "the transaction is not a call of set(uint256)", () => {
    const [found] = CONTRACT.decodeFunctionData("set", transaction.data);
    if (CONTRACT.encodeFunctionData("set", [found]) !== transaction.data) throw new Error("encoding");
    return found;
  });
  same("the value", file.value, value.toString());
  if (!receiptAt(block, file.transaction.index, file.receipt).success) refuse("failed", "the transaction failed on chain");
  return {
    checked: [`account ${file.signer} called set(${file.value}) of ${file.contract} with nonce ${file.nonce}, and it succeeded`],
    trusts: [`that ${file.contract} is the device's Barcode contract and ${file.signer} its account`,
      "the gateway, for the reading's sequence, time and leading zeros: they are not on chain"],
  };
}

function registration(file, outcome, trusted) {
  if (!outcome.signer) refuse("no_signer", "the file has a registration but no signature");
  const block = seal(file.registered.block, trusted);
  const { event } = eventAt(block, file.registered.event, file.contract, "Registered");
  same("the registered device", id(file.reading.device), event.device);
  same("the registered epoch", file.reading.epoch, event.epoch);
  same("the registered key", outcome.signer, event.key);
  outcome.checked.push(`${file.contract} registered ${outcome.signer} as the key of ${file.reading.device} for epoch ${file.reading.epoch}, in block ${block.number} ${block.hash}`);
  outcome.trusts.push(trusted ? "whoever gave the hash of the registration's block" : `that block ${block.hash} is in the chain too: no trusted hash of it was given`);
}

/** Verifies the bytes of a proof file; throws `Refused` with its reason. */
export function verify(bytes, { blockHash, registrationHash } = {}) {
  const file = parse(bytes);
  if (file.state === "pending") refuse("pending", "the reading is not on chain yet, so nothing is proved");
  const block = seal(file.block, blockHash);
  const outcome = { anchor, batch, direct }[file.settlement](file, block);
  outcome.checked.push(`the header hashes to ${block.hash} (block ${block.number}, time ${block.time})`);
  if (file.registered) registration(file, outcome, registrationHash);
  else {
    if (registrationHash) refuse("no_registration", "the file shows no registration of a key");
    if (outcome.signer) outcome.trusts.push(`that ${outcome.signer} is the device's registered key`);
  }
  outcome.trusts.unshift(blockHash ? "whoever gave the block hash" : `that block ${block.hash} is in the chain: no trusted block hash was given, and a made-up block would pass`);
  return { settlement: file.settlement, block: block.number, blockHash: block.hash, ...outcome };
}
