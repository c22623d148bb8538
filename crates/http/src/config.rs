//! Where the HTTP surface listens.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Loopback by default: the surface has no login, and its listings are the operator's.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// The `[http]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN }
    }
}

impl Config {
    /// Everything that is wrong, in words; empty when it can be used.
    pub fn validate(&self) -> Vec<String> {
        let ip = self.listen.ip();
        let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_multicast() || broadcast {
            return vec![format!("http.listen {} is no address of a machine", self.listen)];
        }
        Vec::new()
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
            assert_eq!(Config { listen: listen.parse().unwrap() }.validate().len(), 1, "{listen}");
        }
    }
}
