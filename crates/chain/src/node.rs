//! The nodes: reads fail over, a send goes to all, and every answer is one of three kinds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::{
    eips::BlockNumberOrTag,
    network::primitives::HeaderResponse,
    primitives::{Address, B256, Bytes, U256, hex},
    rpc::{
        client::RpcClient,
        json_rpc::{RpcRecv, RpcSend},
        types::{Block, FeeHistory, Filter, Log, TransactionReceipt},
    },
    transports::{RpcError, TransportErrorKind, http::Http},
};
use futures::{future::join_all, stream::FuturesUnordered, stream::StreamExt};
use tokio::time::timeout;

use crate::{
    Config, Error,
    errors::{self, Outcome},
    metrics,
    nonce::{Counts, Votes},
};

/// The preferred node may be so many blocks behind another one before that one is preferred.
const LAG_BLOCKS: u64 = 1;
/// Between two looks at how far a node is that is not preferred.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a node that failed is not preferred for being ahead.
const REST: Duration = Duration::from_secs(10);
/// How long other nodes' opinions are waited for.
const SECOND_OPINION: Duration = Duration::from_secs(3);
/// How many blocks of fee history an offer rests on.
const FEE_HISTORY_BLOCKS: u64 = 5;

/// A block as the follower needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockId {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its parent's hash.
    pub parent: B256,
}

/// A client for JSON-RPC over HTTP and HTTPS, whose requests take no longer than this.
pub(crate) fn http_client(patience: Duration) -> Result<reqwest::Client, Error> {
    // Harmless when somebody was first: the provider is per process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().timeout(patience).pool_idle_timeout(Duration::from_secs(30));
    builder.build().map_err(|e| Error::Client(e.to_string()))
}

/// One node.
#[derive(Debug)]
struct Node {
    client: RpcClient,
    /// Its newest block, as far as is known.
    head: AtomicU64,
    /// It is being asked for its newest block.
    probed: AtomicBool,
}

/// Several nodes of one chain.
#[derive(Debug)]
pub struct Nodes {
    clients: Vec<Arc<Node>>,
    /// The node that answered the last read.
    preferred: AtomicUsize,
}

impl Nodes {
    /// Clients for every URL in the config. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Url`] for what is not a URL, [`Error::Client`] when the TLS set-up fails.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let http = http_client(config.request_timeout)?;
        let clients = config
            .rpc
            .iter()
            .map(|url| {
                let parsed = url.parse().map_err(|_| Error::Url(url.clone()))?;
                let client = RpcClient::new(Http::with_client(http.clone(), parsed), true);
                Ok(Arc::new(Node { client, head: AtomicU64::new(0), probed: AtomicBool::new(false) }))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if clients.is_empty() {
            return Err(Error::Url(String::new()));
        }
        Ok(Self { clients, preferred: AtomicUsize::new(0) })
    }

    /// Asks one node after the other, beginning with the one that answered last.
    async fn read<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, Error> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.clients.len();
        let mut last = None;
        for offset in 0..count {
            let index = (first + offset) % count;
            let Some(node) = self.clients.get(index) else { continue };
            match node.ask(method, params.clone()).await {
                Ok(value) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) => {
                    if !is_unsupported(&error) {
                        node.rest();
                    }
                    last = Some(error);
                }
            }
        }
        // One node that has the method is enough; when none has it, there is another way to ask.
        if last.as_ref().is_some_and(is_unsupported) {
            return Err(Error::Unsupported { method });
        }
        Err(Error::Node { method, text: last.map_or_else(String::new, |e| short(&e)) })
    }

    /// Sends signed bytes to every node. One acceptance is enough; a rejection counts only when nobody accepted
    /// and every node answered.
    pub async fn send(&self, raw: &Bytes) -> Outcome {
        let hex = hex::encode_prefixed(raw);
        let send = |node: &Arc<Node>| {
            let (node, hex) = (Arc::clone(node), hex.clone());
            // In a task: a node that hangs still gets the bytes when nobody waits for its answer any more.
            tokio::spawn(async move {
                let started = Instant::now();
                let answer = node.client.request::<_, B256>("eth_sendRawTransaction", (hex,)).await;
                let outcome = match answer {
                    Ok(_) => Outcome::Accepted,
                    Err(RpcError::ErrorResp(payload)) => errors::read(&payload.message),
                    Err(other) => Outcome::Unknown(short(&other)),
                };
                metrics::rpc("eth_sendRawTransaction", outcome.label(), started.elapsed());
                outcome
            })
        };
        let mut answers: FuturesUnordered<_> = self.clients.iter().map(send).collect();
        let mut verdict = None;
        while let Some(answer) = answers.next().await {
            let outcome = answer.unwrap_or_else(|e| Outcome::Unknown(e.to_string()));
            if outcome == Outcome::Accepted {
                return outcome;
            }
            verdict = Some(match verdict {
                None => outcome,
                Some(earlier) => merge(earlier, outcome),
            });
        }
        verdict.unwrap_or_else(|| Outcome::Unknown("no node".into()))
    }

    /// The chain's id.
    pub async fn chain_id(&self) -> Result<u64, Error> {
        let id: U256 = self.read("eth_chainId", ()).await?;
        u64::try_from(id).map_err(|_| Error::Answer("eth_chainId"))
    }

    /// The newest block. A preferred node that falls behind another one is preferred no longer.
    pub async fn latest(&self) -> Result<BlockId, Error> {
        let latest = self.newest_of_preferred().await?;
        let preferred = self.preferred.load(Ordering::Relaxed);
        for (index, node) in self.clients.iter().enumerate() {
            if index == preferred {
                node.head.store(latest.number, Ordering::Relaxed);
            } else {
                node.probe();
            }
        }
        let furthest = self.clients.iter().enumerate().max_by_key(|(_, node)| node.head.load(Ordering::Relaxed));
        match furthest {
            Some((index, node)) if node.head.load(Ordering::Relaxed) > latest.number + LAG_BLOCKS => {
                self.preferred.store(index, Ordering::Relaxed);
                self.newest_of_preferred().await
            }
            _ => Ok(latest),
        }
    }

    /// Whether a node has said lately that it has blocks above this one.
    pub(crate) fn knows_a_longer_chain(&self, number: u64) -> bool {
        self.clients.iter().any(|node| node.head.load(Ordering::Relaxed) > number)
    }

    async fn newest_of_preferred(&self) -> Result<BlockId, Error> {
        self.block_at(BlockNumberOrTag::Latest).await?.ok_or(Error::Answer("eth_getBlockByNumber"))
    }

    /// The block at a height or tag, `None` where the node has none.
    pub async fn block_at(&self, at: BlockNumberOrTag) -> Result<Option<BlockId>, Error> {
        let block: Option<Block<B256>> = self.read("eth_getBlockByNumber", (at, false)).await?;
        Ok(block.map(|b| BlockId { number: b.header.number, hash: b.header.hash(), parent: b.header.parent_hash }))
    }

    /// A whole block with its transactions, by hash: what a proof is made of.
    pub async fn full_block(&self, hash: B256) -> Result<Option<Block>, Error> {
        self.read("eth_getBlockByHash", (hash, true)).await
    }

    /// All receipts of the block with this hash.
    pub async fn receipts(&self, hash: B256) -> Result<Vec<TransactionReceipt>, Error> {
        let asked = self.read::<_, Option<Vec<TransactionReceipt>>>("eth_getBlockReceipts", (hash,)).await;
        match asked {
            Err(Error::Unsupported { .. }) => self.receipts_one_by_one(hash).await,
            other => other?.ok_or(Error::Answer("eth_getBlockReceipts")),
        }
    }

    /// The same from nodes that have no method for it.
    async fn receipts_one_by_one(&self, hash: B256) -> Result<Vec<TransactionReceipt>, Error> {
        let block: Option<Block<B256>> = self.read("eth_getBlockByHash", (hash, false)).await?;
        let block = block.ok_or(Error::Answer("eth_getBlockByHash"))?;
        let mut receipts = Vec::new();
        for tx in block.transactions.as_hashes().unwrap_or_default() {
            let receipt = self.receipt(*tx).await?.filter(|r| r.block_hash == Some(hash));
            receipts.push(receipt.ok_or(Error::Answer("eth_getTransactionReceipt"))?);
        }
        Ok(receipts)
    }

    /// The receipt of one transaction, `None` while it is not included.
    pub async fn receipt(&self, tx: B256) -> Result<Option<TransactionReceipt>, Error> {
        self.read("eth_getTransactionReceipt", (tx,)).await
    }

    /// The account's next nonce on the canonical chain.
    pub async fn nonce(&self, account: Address) -> Result<u64, Error> {
        let nonce: U256 = self.read("eth_getTransactionCount", (account, BlockNumberOrTag::Latest)).await?;
        u64::try_from(nonce).map_err(|_| Error::Answer("eth_getTransactionCount"))
    }

    /// The account's next nonce on the canonical chain, as each node that answers says it.
    pub(crate) async fn nonces(&self, account: Address) -> Result<Counts, Error> {
        let method = "eth_getTransactionCount";
        let asked = self
            .clients
            .iter()
            .map(|node| timeout(SECOND_OPINION, node.ask::<_, U256>(method, (account, BlockNumberOrTag::Latest))));
        let mut counts: Option<Counts> = None;
        let mut last = "no answer in time".to_owned();
        for answer in join_all(asked).await.into_iter().flatten() {
            match answer {
                Ok(nonce) => {
                    let nonce = u64::try_from(nonce).map_err(|_| Error::Answer(method))?;
                    let known = counts.unwrap_or(Counts { low: nonce, high: nonce });
                    counts = Some(Counts { low: known.low.min(nonce), high: known.high.max(nonce) });
                }
                Err(error) => last = short(&error),
            }
        }
        counts.ok_or(Error::Node { method, text: last })
    }

    /// Asks every node whether the nonce is used at this height, and not by one of these transactions.
    pub(crate) async fn used_elsewhere(&self, account: Address, nonce: u64, height: u64, ours: &[B256]) -> Votes {
        let ask = async |node: &Arc<Node>| -> Option<bool> {
            let at = BlockNumberOrTag::Number(height);
            let count: U256 = node.ask("eth_getTransactionCount", (account, at)).await.ok()?;
            if count <= U256::from(nonce) {
                return Some(false);
            }
            for tx in ours {
                let receipt: Option<TransactionReceipt> = node.ask("eth_getTransactionReceipt", (*tx,)).await.ok()?;
                if receipt.is_some() {
                    return Some(false);
                }
            }
            Some(true)
        };
        let mut votes = Votes { nodes: self.clients.len(), ..Votes::default() };
        for answer in join_all(self.clients.iter().map(|node| timeout(SECOND_OPINION, ask(node)))).await {
            match answer.ok().flatten() {
                Some(true) => votes.used += 1,
                Some(false) => votes.against += 1,
                None => {}
            }
        }
        votes
    }

    /// The account's balance, wei.
    pub async fn balance(&self, account: Address) -> Result<U256, Error> {
        self.read("eth_getBalance", (account, BlockNumberOrTag::Latest)).await
    }

    /// The code at an address, empty where there is none.
    pub async fn code(&self, address: Address) -> Result<Bytes, Error> {
        self.read("eth_getCode", (address, BlockNumberOrTag::Latest)).await
    }

    /// A read-only contract call.
    pub async fn call(&self, to: Address, data: Bytes) -> Result<Bytes, Error> {
        let request = serde_json::json!({ "to": to, "input": data });
        self.read("eth_call", (request, BlockNumberOrTag::Latest)).await
    }

    /// Logs that match a filter.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, Error> {
        self.read("eth_getLogs", (filter.clone(),)).await
    }

    /// The next block's base fee and the recent median tip, wei.
    pub async fn market(&self) -> Result<(u64, u64), Error> {
        let history: FeeHistory =
            self.read("eth_feeHistory", (U256::from(FEE_HISTORY_BLOCKS), BlockNumberOrTag::Latest, [50.0f64])).await?;
        let base = history.base_fee_per_gas.last().copied().unwrap_or(0);
        let mut tips: Vec<u128> =
            history.reward.unwrap_or_default().iter().filter_map(|r| r.first().copied()).collect();
        tips.sort_unstable();
        let tip = tips.get(tips.len() / 2).copied().unwrap_or(0);
        Ok((u64::try_from(base).unwrap_or(u64::MAX), u64::try_from(tip).unwrap_or(u64::MAX)))
    }
}

impl Node {
    /// One request, counted.
    async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, RpcError<TransportErrorKind>> {
        let started = Instant::now();
        let answer = self.client.request::<P, R>(method, params).await;
        metrics::rpc(method, if answer.is_ok() { "ok" } else { "error" }, started.elapsed());
        answer
    }

    /// It has failed: how far it is counts for nothing for a while.
    fn rest(self: &Arc<Self>) {
        self.head.store(0, Ordering::Relaxed);
        if self.probed.swap(true, Ordering::Relaxed) {
            return;
        }
        let node = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(REST).await;
            node.probed.store(false, Ordering::Relaxed);
        });
    }

    /// Asks for the newest block's number, beside everything else and not too often.
    fn probe(self: &Arc<Self>) {
        if self.probed.swap(true, Ordering::Relaxed) {
            return;
        }
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let asked = timeout(PROBE_INTERVAL, node.ask::<_, U256>("eth_blockNumber", ())).await;
            let head = asked.ok().and_then(Result::ok).and_then(|number| u64::try_from(number).ok());
            // A node that does not answer is not ahead of anybody.
            node.head.store(head.unwrap_or(0), Ordering::Relaxed);
            tokio::time::sleep(PROBE_INTERVAL).await;
            node.probed.store(false, Ordering::Relaxed);
        });
    }
}

/// Joins the answers of two nodes to the same bytes.
fn merge(a: Outcome, b: Outcome) -> Outcome {
    match (a, b) {
        (Outcome::Accepted, _) | (_, Outcome::Accepted) => Outcome::Accepted,
        (Outcome::Unknown(text), _) | (_, Outcome::Unknown(text)) => Outcome::Unknown(text),
        (rejected, _) => rejected,
    }
}

/// JSON-RPC's "method not found", and EIP-1474's "method not supported".
const NO_SUCH_METHOD: [i64; 2] = [-32_601, -32_004];

fn is_unsupported(error: &RpcError<TransportErrorKind>) -> bool {
    matches!(error, RpcError::ErrorResp(payload) if NO_SUCH_METHOD.contains(&payload.code))
}

/// An RPC error in a line, without a URL that may hold a key.
fn short(error: &RpcError<TransportErrorKind>) -> String {
    let text = match error {
        RpcError::ErrorResp(payload) => payload.message.to_string(),
        RpcError::Transport(TransportErrorKind::HttpError(http)) => format!("HTTP status {}", http.status),
        RpcError::Transport(_) => "no connection or no answer in time".into(),
        RpcError::NullResp => "empty answer".into(),
        _ => "the answer could not be read".into(),
    };
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Rejection;

    #[test]
    fn a_rejection_counts_only_when_no_node_accepted_and_all_answered() {
        let rejected = || Outcome::Rejected(Rejection::Underpriced);
        let unknown = || Outcome::Unknown("time-out".into());
        assert_eq!(merge(rejected(), Outcome::Accepted), Outcome::Accepted);
        assert_eq!(merge(unknown(), Outcome::Accepted), Outcome::Accepted);
        assert_eq!(merge(rejected(), unknown()), unknown());
        assert_eq!(merge(rejected(), rejected()), rejected());
    }
}
