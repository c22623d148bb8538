//! A node in front of anvil: keeps the rules of geth's pool that anvil does not, and fails in the ways that nodes fail.
//!
//! It knows the transactions that went through it, so it is the only way to anvil for whoever is under test.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use alloy::{
    consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::Decodable2718,
    primitives::{Address, B256, hex},
};
use serde_json::{Value, json};

use crate::web;

/// geth's `AccountSlots`: executable transactions of one account.
const ACCOUNT_SLOTS: usize = 16;
/// geth's `AccountQueue`: transactions of one account behind a gap.
const ACCOUNT_QUEUE: usize = 64;
/// geth's `PriceBump`, per cent, on both fields. reth refuses exactly that, so more is asked here.
const PRICE_BUMP: u128 = 10;
/// geth's `MinTip`, wei.
const MIN_TIP: u128 = 1;

/// How long a node hangs.
const LONGER_THAN_ANYBODY_WAITS: Duration = Duration::from_secs(60);

/// What happens to a request instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The node does what it was asked; its answer never comes.
    ReplyLost,
    /// The request never reaches the node.
    RequestLost,
    /// Refused with this text, and not done.
    Refused(&'static str),
    /// 429: too many requests.
    RateLimited,
    /// 502 from something between.
    BadGateway,
    /// The node does what it was asked, and then says nothing for longer than anybody waits.
    Hangs,
}

/// Where a request is held, so that whoever sent it can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has been sent and the node has not seen it.
    Before,
    /// The node has done it and the answer is not out.
    After,
    /// It has been answered.
    Answered,
}

/// A request to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Any of this method.
    Method(&'static str),
    /// A transaction at a nonce that another one has already been sent at.
    Replacement,
    /// The receipts of a block that has a transaction which went through here.
    Receipts,
}

#[derive(Debug, Default)]
struct State {
    /// What is in the pool, by account and nonce.
    pending: HashMap<Address, BTreeMap<u64, Pooled>>,
    /// Every hash that ever went through.
    seen: Vec<B256>,
    /// What was last sent at each nonce, taken or not.
    sent: HashMap<(Address, u64), B256>,
    faults: HashMap<&'static str, VecDeque<Fault>>,
    trap: Option<(Of, Moment)>,
    /// Answers to `eth_getTransactionCount` are this much off.
    nonce_lie: i64,
    /// `latest` is this many blocks old.
    lag: u64,
    refused: HashMap<&'static str, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Pooled {
    hash: B256,
    max_fee: u128,
    tip: u128,
}

/// The node.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    port: u16,
    backend: u16,
    state: Mutex<State>,
    /// A request has run into the trap.
    sprung: AtomicBool,
    ended: AtomicBool,
    requests: AtomicUsize,
}

struct Request {
    method: String,
    params: Value,
    id: Value,
}

enum Reply {
    Result(Value),
    Error(i64, String),
    Status(&'static str),
    Nothing,
}

impl Pool {
    /// Listens on `port` in front of the anvil on `backend`.
    pub fn start(port: u16, backend: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let inner = Arc::new(Inner {
            port,
            backend,
            state: Mutex::default(),
            sprung: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        });
        let pool = Self { inner };
        let served = pool.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.inner.ended.load(Ordering::Relaxed) {
                    return;
                }
                let pool = served.clone();
                thread::spawn(move || pool.serve(stream));
            }
        });
        pool
    }

    /// The next requests of `method` fail in this way, one each.
    pub fn fail(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(method).or_default().extend(faults);
    }

    /// No more faults.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.nonce_lie = 0;
        state.lag = 0;
    }

    /// Holds the first request of this kind at this moment; see [`Pool::sprung`].
    pub fn trap(&self, of: Of, moment: Moment) {
        self.inner.sprung.store(false, Ordering::SeqCst);
        self.state().trap = Some((of, moment));
    }

    /// Whether a request has run into the trap. It stays there until its sender is gone.
    pub fn sprung(&self) -> bool {
        self.inner.sprung.load(Ordering::SeqCst)
    }

    /// Nothing is held from now on.
    pub fn disarm(&self) {
        self.state().trap = None;
        self.inner.sprung.store(false, Ordering::SeqCst);
    }

    /// Lies about every account's nonce.
    pub fn lie_about_nonces(&self, by: i64) {
        self.state().nonce_lie = by;
    }

    /// Stays so many blocks behind.
    pub fn lag(&self, blocks: u64) {
        self.state().lag = blocks;
    }

    /// How often a rule of the pool refused a transaction, by rule.
    pub fn refused(&self, rule: &str) -> usize {
        self.state().refused.get(rule).copied().unwrap_or(0)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.inner.requests.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let body = read_body(&mut reader)?;
            self.inner.requests.fetch_add(1, Ordering::Relaxed);
            let call: Value = serde_json::from_slice(&body).ok()?;
            let request = Request {
                method: call["method"].as_str()?.to_owned(),
                params: call["params"].clone(),
                id: call["id"].clone(),
            };
            let trap = self.takes(&request);
            if trap == Some(Moment::Before) {
                return self.hold(&stream);
            }
            let reply = self.answer(&request);
            if trap == Some(Moment::After) {
                return self.hold(&stream);
            }
            let (status, text) = match reply {
                Reply::Nothing => return None,
                Reply::Status(status) => (status, String::new()),
                Reply::Result(result) => {
                    ("200 OK", json!({ "jsonrpc": "2.0", "id": request.id, "result": result }).to_string())
                }
                Reply::Error(code, message) => {
                    let error = json!({ "code": code, "message": message });
                    ("200 OK", json!({ "jsonrpc": "2.0", "id": request.id, "error": error }).to_string())
                }
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all((head + &text).as_bytes()).ok()?;
            if trap == Some(Moment::Answered) {
                return self.hold(&stream);
            }
        }
    }

    /// Says that the trap is sprung, and waits until the other side is gone.
    fn hold(&self, mut stream: &TcpStream) -> Option<()> {
        self.inner.sprung.store(true, Ordering::SeqCst);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        let mut rest = [0; 1_024];
        while stream.read(&mut rest).is_ok_and(|n| n > 0) {}
        None
    }

    fn takes(&self, request: &Request) -> Option<Moment> {
        let mut state = self.state();
        let hit = self.is_trapped(&state, request);
        if request.method == "eth_sendRawTransaction"
            && let Some((account, tx)) = transaction(&request.params)
        {
            state.sent.insert((account, tx.nonce()), *tx.tx_hash());
        }
        if hit.is_some() {
            state.trap = None;
        }
        hit
    }

    fn is_trapped(&self, state: &State, request: &Request) -> Option<Moment> {
        let (of, moment) = state.trap?;
        let hit = match of {
            Of::Method(method) => request.method == method,
            Of::Replacement => {
                request.method == "eth_sendRawTransaction"
                    && transaction(&request.params).is_some_and(|(account, tx)| {
                        state.sent.get(&(account, tx.nonce())).is_some_and(|sent| sent != tx.tx_hash())
                    })
            }
            Of::Receipts => {
                request.method == "eth_getBlockReceipts"
                    && web::rpc(self.inner.backend, &request.method, request.params.clone()).is_some_and(|receipts| {
                        let hash = |r: &Value| r["transactionHash"].as_str().and_then(|h| h.parse::<B256>().ok());
                        let hashes = receipts.as_array().into_iter().flatten().filter_map(hash);
                        hashes.into_iter().any(|h| state.seen.contains(&h))
                    })
            }
        };
        hit.then_some(moment)
    }

    fn answer(&self, request: &Request) -> Reply {
        let fault = self.state().faults.get_mut(request.method.as_str()).and_then(VecDeque::pop_front);
        match fault {
            Some(Fault::RequestLost) => return Reply::Nothing,
            Some(Fault::Refused(text)) => return Reply::Error(-32_000, text.into()),
            Some(Fault::RateLimited) => return Reply::Status("429 Too Many Requests"),
            Some(Fault::BadGateway) => return Reply::Status("502 Bad Gateway"),
            Some(Fault::ReplyLost | Fault::Hangs) | None => {}
        }
        let reply = match request.method.as_str() {
            "eth_sendRawTransaction" => self.admit(&request.params),
            "eth_getTransactionCount" => self.nonce(request),
            "eth_getBlockByNumber" => self.block(request),
            _ => self.forward(&request.method, &request.params),
        };
        match fault {
            Some(Fault::ReplyLost) => Reply::Nothing,
            Some(Fault::Hangs) => {
                thread::sleep(LONGER_THAN_ANYBODY_WAITS);
                Reply::Nothing
            }
            _ => reply,
        }
    }

    fn nonce(&self, request: &Request) -> Reply {
        let lie = self.state().nonce_lie;
        match self.forward(&request.method, &request.params) {
            Reply::Result(count) if lie != 0 => {
                let honest = i64::try_from(quantity(&count)).unwrap_or(0);
                Reply::Result(json!(format!("{:#x}", (honest + lie).max(0))))
            }
            other => other,
        }
    }

    fn block(&self, request: &Request) -> Reply {
        let lag = self.state().lag;
        if lag == 0 || request.params[0] != "latest" {
            return self.forward(&request.method, &request.params);
        }
        let Some(head) = web::rpc(self.inner.backend, "eth_blockNumber", json!([])) else { return Reply::Nothing };
        let number = format!("{:#x}", quantity(&head).saturating_sub(lag));
        self.forward(&request.method, &json!([number, request.params[1]]))
    }

    fn forward(&self, method: &str, params: &Value) -> Reply {
        match web::call(self.inner.backend, method, params.clone()) {
            None => Reply::Nothing,
            Some(answer) => match answer.get("error") {
                Some(error) => {
                    let message = error["message"].as_str().unwrap_or_default().to_owned();
                    Reply::Error(error["code"].as_i64().unwrap_or(-32_000), message)
                }
                None => Reply::Result(answer["result"].clone()),
            },
        }
    }

    /// The rules that geth's pool has and anvil's has not, then anvil.
    fn admit(&self, params: &Value) -> Reply {
        let Some((account, tx)) = transaction(params) else { return self.forward("eth_sendRawTransaction", params) };
        let latest = web::rpc(self.inner.backend, "eth_getTransactionCount", json!([account, "latest"]));
        let Some(next) = latest.map(|n| quantity(&n)) else { return Reply::Nothing };
        let nonce = tx.nonce();
        let offer = Pooled {
            hash: *tx.tx_hash(),
            max_fee: tx.max_fee_per_gas(),
            tip: tx.max_priority_fee_per_gas().unwrap_or_default(),
        };
        // geth takes the transactions of blocks that a reorg removed back into its pool; anvil forgets them and others.
        let there = web::rpc(self.inner.backend, "eth_getTransactionByHash", json!([offer.hash]));
        let forgotten = there.is_some_and(|tx| tx.is_null());
        let mut state = self.state();
        let refusal = {
            let mine = state.pending.entry(account).or_default();
            mine.retain(|nonce, pooled| *nonce >= next && !(forgotten && pooled.hash == offer.hash));
            refusal(mine, next, nonce, offer)
        };
        if let Some((rule, text)) = refusal {
            *state.refused.entry(rule).or_default() += 1;
            return Reply::Error(-32_000, text);
        }
        drop(state);
        let reply = self.forward("eth_sendRawTransaction", params);
        // anvil had it from elsewhere; this pool has it now.
        let there = match &reply {
            Reply::Result(_) => true,
            Reply::Error(_, text) => text.contains("already imported"),
            _ => false,
        };
        if there {
            let mut state = self.state();
            state.pending.entry(account).or_default().insert(nonce, offer);
            state.seen.push(offer.hash);
        }
        reply
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Which rule refuses the transaction, and geth's words for it.
fn refusal(mine: &BTreeMap<u64, Pooled>, next: u64, nonce: u64, offer: Pooled) -> Option<(&'static str, String)> {
    if mine.get(&nonce).is_some_and(|p| p.hash == offer.hash) {
        return Some(("already known", "already known".into()));
    }
    if nonce < next {
        return Some(("nonce too low", format!("nonce too low: next nonce {next}, tx nonce {nonce}")));
    }
    if offer.tip < MIN_TIP {
        let text = format!("transaction underpriced: gas tip cap {}, minimum needed {MIN_TIP}", offer.tip);
        return Some(("underpriced", text));
    }
    if let Some(old) = mine.get(&nonce) {
        let enough = |old: u128, new: u128| new * 100 > old * (100 + PRICE_BUMP);
        let replaces = enough(old.max_fee, offer.max_fee) && enough(old.tip, offer.tip);
        return (!replaces).then(|| ("replacement", "replacement transaction underpriced".into()));
    }
    let executable = (next..).take_while(|n| mine.contains_key(n)).count() as u64;
    if nonce == next + executable {
        let full = executable as usize >= ACCOUNT_SLOTS;
        return full.then(|| ("slots", format!("account limit exceeded: pooled {executable} txs")));
    }
    let queued = mine.len().saturating_sub(executable as usize);
    (queued >= ACCOUNT_QUEUE).then(|| ("queue", format!("account limit exceeded: queued {queued} txs")))
}

fn transaction(params: &Value) -> Option<(Address, TxEnvelope)> {
    let raw = hex::decode(params[0].as_str()?).ok()?;
    let tx = TxEnvelope::decode_2718(&mut raw.as_slice()).ok()?;
    Some((tx.recover_signer().ok()?, tx))
}

fn quantity(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap_or("0x0").trim_start_matches("0x"), 16).unwrap_or(0)
}

/// The body of the next HTTP request on the connection.
fn read_body(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(hash: u8, max_fee: u128, tip: u128) -> Pooled {
        Pooled { hash: B256::repeat_byte(hash), max_fee, tip }
    }

    fn rule(mine: &BTreeMap<u64, Pooled>, next: u64, nonce: u64, offer: Pooled) -> Option<&'static str> {
        refusal(mine, next, nonce, offer).map(|(rule, _)| rule)
    }

    #[test]
    fn the_rules_are_those_of_geths_pool() {
        let mut mine = BTreeMap::from([(5, pooled(1, 1_000, 100))]);
        assert_eq!(rule(&mine, 5, 5, pooled(1, 1_000, 100)), Some("already known"));
        assert_eq!(rule(&mine, 5, 4, pooled(2, 1_000, 100)), Some("nonce too low"));
        assert_eq!(rule(&mine, 5, 6, pooled(2, 1_000, 0)), Some("underpriced"));
        // Exactly ten per cent is too little, and so is more on one field alone.
        assert_eq!(rule(&mine, 5, 5, pooled(2, 1_100, 110)), Some("replacement"));
        assert_eq!(rule(&mine, 5, 5, pooled(2, 2_000, 100)), Some("replacement"));
        assert_eq!(rule(&mine, 5, 5, pooled(2, 1_125, 113)), None);
        mine.extend((6..21).map(|n| (n, pooled(3, 1, 1))));
        assert_eq!(rule(&mine, 5, 21, pooled(2, 1_000, 100)), Some("slots"));
        assert_eq!(rule(&mine, 5, 30, pooled(2, 1_000, 100)), None);
        mine.extend((30..94).map(|n| (n, pooled(4, 1, 1))));
        assert_eq!(rule(&mine, 5, 100, pooled(2, 1_000, 100)), Some("queue"));
    }
}
