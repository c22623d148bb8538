//! A submitter's key: in this process, or behind a signer on another machine.
//!
//! A remote signer is given the whole transaction (`eth_signTransaction`: web3signer, clef, a node's own accounts) and is not
//! trusted with it: what comes back must be that very transaction, signed by the account.

use std::time::Duration;

use alloy::{
    consensus::{SignableTransaction, Signed, TxEip1559},
    eips::eip2718::Decodable2718,
    primitives::{Address, Bytes, TxKind},
    rpc::client::RpcClient,
    signers::{SignerSync, local::PrivateKeySigner},
    transports::http::Http,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Error, metrics, node::http_client};

/// The HTTP client gives up so much later: the signer's own bound has the better words.
const GRACE: Duration = Duration::from_secs(1);

/// Signs for a submitter's account.
#[derive(Clone)]
pub enum SubmitterKey {
    /// The key is here.
    Local(PrivateKeySigner),
    /// Somebody else has it.
    Remote(RemoteSigner),
}

/// A signer that is asked over JSON-RPC.
#[derive(Clone)]
pub struct RemoteSigner {
    client: RpcClient,
    url: String,
    account: Address,
    patience: Duration,
}

impl std::fmt::Debug for SubmitterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(key) => write!(f, "Local({})", key.address()),
            Self::Remote(signer) => signer.fmt(f),
        }
    }
}

impl std::fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({}, {})", self.account, self.url)
    }
}

impl From<PrivateKeySigner> for SubmitterKey {
    fn from(key: PrivateKeySigner) -> Self {
        Self::Local(key)
    }
}

impl SubmitterKey {
    /// The account.
    pub fn address(&self) -> Address {
        match self {
            Self::Local(key) => key.address(),
            Self::Remote(signer) => signer.account,
        }
    }

    /// Signs the transaction.
    pub(crate) async fn sign(&self, transaction: TxEip1559) -> Result<Signed<TxEip1559>, Error> {
        match self {
            Self::Local(key) => {
                let signature = key.sign_hash_sync(&transaction.signature_hash());
                Ok(transaction.into_signed(signature.map_err(|e| Error::Signing(e.to_string()))?))
            }
            Self::Remote(signer) => signer.sign(&transaction).await,
        }
    }
}

impl RemoteSigner {
    /// A signer at `url` for this account; an answer may take `patience`.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Client`].
    pub fn new(url: &str, account: Address, patience: Duration) -> Result<Self, Error> {
        let parsed = url.parse().map_err(|_| Error::Url(url.to_owned()))?;
        let client = RpcClient::new(Http::with_client(http_client(patience + GRACE)?, parsed), true);
        Ok(Self { client, url: url.to_owned(), account, patience })
    }

    async fn sign(&self, wanted: &TxEip1559) -> Result<Signed<TxEip1559>, Error> {
        let fault = |reason, text: String| {
            metrics::signer_failure(reason);
            Error::Signer { account: self.account, text }
        };
        let asked = self.client.request::<_, Value>("eth_signTransaction", (self.question(wanted),));
        let answer = match timeout(self.patience, asked).await {
            Err(_) => return Err(fault("unreachable", format!("{} gave no answer in {:?}", self.url, self.patience))),
            Ok(Err(error)) => {
                let refused = error.as_error_resp().map(|e| e.message.to_string());
                let reason = if refused.is_some() { "refused" } else { "unreachable" };
                return Err(fault(reason, format!("{}: {}", self.url, refused.unwrap_or_else(|| error.to_string()))));
            }
            Ok(Ok(answer)) => answer,
        };
        // geth answers with an object, web3signer and anvil with the bytes.
        let raw = answer.get("raw").unwrap_or(&answer).as_str().and_then(|text| text.parse::<Bytes>().ok());
        let signed = raw.and_then(|raw| Signed::<TxEip1559>::decode_2718_exact(&raw).ok());
        let Some(signed) = signed else {
            return Err(fault("wrong", format!("{} answered with no EIP-1559 transaction", self.url)));
        };
        if signed.tx() != wanted {
            return Err(fault("wrong", format!("{} signed another transaction than it was asked for", self.url)));
        }
        match signed.recover_signer() {
            Ok(signer) if signer == self.account => Ok(signed),
            Ok(signer) => Err(fault("wrong", format!("{} signed as {signer}", self.url))),
            Err(_) => Err(fault("wrong", format!("{} gave no valid signature", self.url))),
        }
    }

    fn question(&self, wanted: &TxEip1559) -> Value {
        let mut question = json!({
            "type": "0x2",
            "from": self.account,
            "chainId": format!("{:#x}", wanted.chain_id),
            "nonce": format!("{:#x}", wanted.nonce),
            "gas": format!("{:#x}", wanted.gas_limit),
            "maxFeePerGas": format!("{:#x}", wanted.max_fee_per_gas),
            "maxPriorityFeePerGas": format!("{:#x}", wanted.max_priority_fee_per_gas),
            "value": wanted.value,
            "data": wanted.input,
            "accessList": [],
        });
        if let (TxKind::Call(to), Some(fields)) = (wanted.to, question.as_object_mut()) {
            fields.insert("to".into(), json!(to));
        }
        question
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        eips::eip2718::Encodable2718,
        primitives::{B256, U256, hex},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn key() -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap()
    }

    fn wanted() -> TxEip1559 {
        TxEip1559 {
            chain_id: 31337,
            nonce: 5,
            gas_limit: 50_000,
            max_fee_per_gas: 100,
            max_priority_fee_per_gas: 10,
            to: TxKind::Call(Address::repeat_byte(3)),
            value: U256::from(9),
            access_list: Default::default(),
            input: Bytes::from_static(b"abc"),
        }
    }

    /// A signer that has a real key, reads what it is asked, and answers in some way.
    async fn signer(answer: impl Fn(&Value, TxEip1559) -> Option<(u16, Value)> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let body = loop {
                    let mut part = [0; 4_096];
                    let read = stream.read(&mut part).await.unwrap();
                    bytes.extend(&part[..read]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if let Some((_, body)) = text.split_once("\r\n\r\n")
                        && let Ok(body) = serde_json::from_str::<Value>(body)
                    {
                        break body;
                    }
                    assert!(read > 0);
                };
                let asked = &body["params"][0];
                let number = |name: &str| {
                    u64::from_str_radix(asked[name].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
                };
                let transaction = TxEip1559 {
                    chain_id: number("chainId"),
                    nonce: number("nonce"),
                    gas_limit: number("gas"),
                    max_fee_per_gas: number("maxFeePerGas").into(),
                    max_priority_fee_per_gas: number("maxPriorityFeePerGas").into(),
                    to: asked["to"].as_str().map_or(TxKind::Create, |to| TxKind::Call(to.parse().unwrap())),
                    value: asked["value"].as_str().unwrap().parse().unwrap(),
                    access_list: Default::default(),
                    input: asked["data"].as_str().unwrap().parse().unwrap(),
                };
                let Some((status, result)) = answer(asked, transaction) else {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                    return;
                };
                let mut reply = json!({ "jsonrpc": "2.0", "id": body["id"] });
                reply.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
                let reply = reply.to_string();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", reply.len());
                stream.write_all((head + &reply).as_bytes()).await.unwrap();
            }
        });
        url
    }

    fn signed(key: &PrivateKeySigner, transaction: TxEip1559) -> Value {
        let signature = key.sign_hash_sync(&transaction.signature_hash()).unwrap();
        json!(hex::encode_prefixed(transaction.into_signed(signature).encoded_2718()))
    }

    async fn asked(url: &str, patience_ms: u64) -> Result<Signed<TxEip1559>, String> {
        let remote = RemoteSigner::new(url, key().address(), Duration::from_millis(patience_ms)).unwrap();
        SubmitterKey::Remote(remote).sign(wanted()).await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn what_a_signer_gives_is_what_the_key_here_would_give() {
        let here = SubmitterKey::from(key()).sign(wanted()).await.unwrap();
        let plain = signer(|_, tx| Some((200, json!({ "result": signed(&key(), tx) })))).await;
        assert_eq!(asked(&plain, 5_000).await, Ok(here.clone()));
        let as_geth = signer(|_, tx| Some((200, json!({ "result": { "raw": signed(&key(), tx), "tx": {} } })))).await;
        assert_eq!(asked(&as_geth, 5_000).await, Ok(here));
    }

    #[tokio::test]
    async fn what_it_signs_otherwise_is_refused() {
        let other_nonce =
            signer(|_, tx| Some((200, json!({ "result": signed(&key(), TxEip1559 { nonce: 6, ..tx }) }))));
        assert!(asked(&other_nonce.await, 5_000).await.unwrap_err().contains("another transaction"));
        let greedy = signer(|_, tx| {
            let to = TxKind::Call(Address::repeat_byte(0xee));
            Some((200, json!({ "result": signed(&key(), TxEip1559 { to, ..tx }) })))
        });
        assert!(asked(&greedy.await, 5_000).await.unwrap_err().contains("another transaction"));
        let stranger = PrivateKeySigner::from_bytes(&B256::repeat_byte(8)).unwrap();
        let name = stranger.address().to_string();
        let foreign = signer(move |_, tx| Some((200, json!({ "result": signed(&stranger, tx) }))));
        assert!(asked(&foreign.await, 5_000).await.unwrap_err().contains(&name));
        let nonsense = signer(|_, _| Some((200, json!({ "result": "0x02c0" }))));
        assert!(asked(&nonsense.await, 5_000).await.unwrap_err().contains("no EIP-1559"));
    }

    #[tokio::test]
    async fn one_that_refuses_fails_or_hangs_is_told_apart_and_not_waited_for() {
        let refuses = signer(|_, _| Some((200, json!({ "error": { "code": -32000, "message": "locked" } }))));
        assert!(asked(&refuses.await, 5_000).await.unwrap_err().contains("locked"));
        let fails = signer(|_, _| Some((500, json!({}))));
        assert!(asked(&fails.await, 5_000).await.is_err());
        let hangs = signer(|_, _| None);
        assert!(asked(&hangs.await, 50).await.unwrap_err().contains("no answer in 50ms"));
        assert!(asked("http://127.0.0.1:9", 5_000).await.is_err());
    }
}
