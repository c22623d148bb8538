//! Where the HTTP surface listens, who may ask, and how often.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Loopback by default: without tokens the API answers only there.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);
/// Requests a second from one address: a page asks for a handful.
const DEFAULT_RATE: u32 = 50;
/// Tokens at most: each request is compared with all of them.
const MAX_TOKENS: usize = 64;

/// The `[http]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// API requests a second from one address, with bursts of four seconds' worth; 0 is no limit.
    pub requests_per_second: u32,
    /// Where people look up blocks and transactions: `…/tx/0x…` and `…/block/17` are put behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explorer: Option<String>,
    /// Who may ask the API. Without any it answers requests from this machine only, and changes nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// A token that may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is: for people, and the log.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// `sha256:` and 64 hex digits: the hash of the token's text.
    pub token: String,
}

/// What a token may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything.
    #[default]
    Read,
    /// See everything, and give orders.
    Operate,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN, requests_per_second: DEFAULT_RATE, explorer: None, tokens: Vec::new() }
    }
}

impl Token {
    /// The hash that the config states.
    pub(crate) fn hash(&self) -> Option<[u8; 32]> {
        let hex = self.token.strip_prefix("sha256:")?.as_bytes();
        let mut hash = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            let [high, low] = pair else { return None };
            *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
        }
        Some(hash)
    }
}

impl Config {
    /// Everything that is wrong, in words; empty when it can be used.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let ip = self.listen.ip();
        if ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
            problems.push(format!("http.listen {} is no address of a machine", self.listen));
        }
        if let Some(explorer) = &self.explorer
            && !(explorer.starts_with("https://") || explorer.starts_with("http://"))
        {
            problems.push(format!("http.explorer {explorer:?} is no http or https URL"));
        }
        if self.tokens.len() > MAX_TOKENS {
            problems.push(format!("http.tokens has {}, at most {MAX_TOKENS} are taken", self.tokens.len()));
        }
        for (index, token) in self.tokens.iter().enumerate() {
            if token.hash().is_none() {
                let name = &token.name;
                problems.push(format!("http.tokens {name:?}: token is \"sha256:\" and 64 hex digits"));
            }
            if token.name.is_empty() || self.tokens.iter().take(index).any(|other| other.name == token.name) {
                problems.push(format!("http.tokens: the name {:?} is empty or there twice", token.name));
            }
        }
        problems
    }

    /// Whether nobody but a program on this machine can ask.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn the_default_is_loopback_and_an_unknown_key_is_refused() {
        let config: Config = from_value(json!({})).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:9477");
        assert_eq!(config.validate(), Vec::<String>::new());
        assert!(from_value::<Config>(json!({"port": 1})).is_err());
    }

    #[test]
    fn an_address_nobody_can_have_is_a_problem() {
        for listen in ["224.0.0.1:80", "[ff02::1]:80", "255.255.255.255:80"] {
            assert_eq!(Config { listen: listen.parse().unwrap(), ..Config::default() }.validate().len(), 1, "{listen}");
        }
    }

    #[test]
    fn a_token_is_a_hash_with_a_name_of_its_own() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        let token = |name: &str, token: &str| json!({"name": name, "role": "read", "token": token});
        let problems = |tokens| from_value::<Config>(json!({"tokens": tokens})).unwrap().validate().len();
        assert_eq!(problems(json!([token("a", &hash), token("b", &hash)])), 0);
        assert_eq!(problems(json!([token("a", &hash), token("a", &hash)])), 1);
        assert_eq!(problems(json!([token("", &hash)])), 1);
        for wrong in ["secret", "sha256:00", &hash.replace("0a", "0g")] {
            assert_eq!(problems(json!([token("a", wrong)])), 1, "{wrong}");
        }
        assert_eq!(from_value::<Token>(token("a", &hash)).unwrap().hash(), Some([10; 32]));
        assert!(from_value::<Token>(json!({"name": "a", "role": "root", "token": hash})).is_err());
    }
}
