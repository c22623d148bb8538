//! Who may ask, and how often: tokens with roles, the guard against pages of other sites, the rate limit.

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use actix_web::{
    Error, FromRequest, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
    web::Data,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{Config, Role, answer::Refusal};

/// A burst is so many seconds' worth of requests.
const BURST_SECONDS: u32 = 4;
/// Addresses that are remembered; beyond it those that have rested are forgotten.
const REMEMBERED: usize = 4_096;

/// Knows the tokens and counts the requests.
pub(crate) struct Access {
    tokens: Vec<([u8; 32], Role)>,
    loopback: bool,
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl Access {
    pub(crate) fn new(config: &Config) -> Self {
        let quota = |rate: NonZeroU32| {
            Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1)))
        };
        Self {
            // A token that is not readable admits nobody; `validate` has told.
            tokens: config.tokens.iter().filter_map(|token| Some((token.hash()?, token.role))).collect(),
            loopback: config.is_loopback(),
            limiter: NonZeroU32::new(config.requests_per_second).map(|rate| RateLimiter::keyed(quota(rate))),
        }
    }

    /// What the request may, or why nothing.
    fn role(&self, request: &HttpRequest) -> Result<Role, Refusal> {
        if self.tokens.is_empty() {
            return self.open(request).map(|()| Role::Read);
        }
        let presented = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Refusal::unauthorized("a token is needed: Authorization: Bearer …"))?;
        let hash: [u8; 32] = Sha256::digest(presented.trim().as_bytes()).into();
        // All are compared, so that the time says nothing of which one it is.
        let mut role = None;
        for (known, its) in &self.tokens {
            if Choice::into(known.ct_eq(&hash)) {
                role = Some(*its);
            }
        }
        role.ok_or_else(|| Refusal::unauthorized("this token is not known"))
    }

    /// Without tokens: programs on this machine may ask. A page of another site whose name was made to lead here shows
    /// itself by that name.
    fn open(&self, request: &HttpRequest) -> Result<(), Refusal> {
        if !self.loopback {
            return Err(Refusal::unauthorized(
                "the API needs [[http.tokens]] in the config, unless http.listen is loopback",
            ));
        }
        let Some(host) = request.headers().get(header::HOST) else { return Ok(()) };
        let name = host.to_str().unwrap_or_default();
        // The colon before the port, not one of an IPv6 address.
        let name = name.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(name, |(name, _)| name);
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        if name == "localhost" || literal.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        Err(Refusal::forbidden("without tokens the API answers to localhost and addresses only, not to other names"))
    }

    fn admits(&self, address: IpAddr) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        if limiter.len() > REMEMBERED {
            limiter.retain_recent();
        }
        limiter.check_key(&network(address)).is_ok()
    }
}

/// An IPv6 host has a network of 64 bits to itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Somebody who may see.
pub(crate) struct Reader(pub(crate) Role);

/// Somebody who may give orders.
pub(crate) struct Operator;

fn role(request: &HttpRequest) -> Result<Role, Refusal> {
    match request.app_data::<Data<Access>>() {
        Some(access) => access.role(request),
        None => Err(Refusal::forbidden("nobody may ask")),
    }
}

impl FromRequest for Reader {
    type Error = Refusal;
    type Future = Ready<Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(role(request).map(Self))
    }
}

impl FromRequest for Operator {
    type Error = Refusal;
    type Future = Ready<Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let needed = || Refusal::forbidden("orders need a token with the role \"operate\"");
        ready(role(request).and_then(|role| if role == Role::Operate { Ok(Self) } else { Err(needed()) }))
    }
}

/// Answers 429 to an address that asks too often.
pub(crate) async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let admitted = match (request.app_data::<Data<Access>>(), request.peer_addr()) {
        (Some(access), Some(peer)) => access.admits(peer.ip()),
        _ => true,
    };
    if admitted { next.call(request).await } else { Err(Refusal::too_many_requests().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_admitted_again_after_others_asked_and_bursts_end() {
        let access = Access::new(&Config { requests_per_second: 1, ..Config::default() });
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let admitted = (0..20).filter(|_| access.admits(one)).count();
        assert_eq!(admitted, BURST_SECONDS as usize);
        assert!(access.admits(other));
        assert!(Access::new(&Config { requests_per_second: 0, ..Config::default() }).admits(one));
    }

    #[test]
    fn hosts_of_one_ipv6_network_share_their_limit() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
    }
}
