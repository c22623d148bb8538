//! What one address, one device or one name may do in a time: failures and bans, connects, takeovers, readings.
//!
//! Rules with the clock passed in. Every table is bounded: by the devices that are configured, or by [`TRACKED`].

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{Limits, metrics};

/// Failures are counted over this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses, and names, whose failures are remembered. A flood of more takes turns in the oldest windows.
const TRACKED: usize = 65_536;
/// So many failures in the window are answered at once: people mistype.
const FREE_FAILURES: u32 = 3;
/// The refusal after those waits so long, twice as long after the next, and so on.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest wait of a refusal, well inside what clients wait for a CONNACK.
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// A device may take its own session over so often at once: it lost its link and came back.
const TAKEOVERS: f64 = 5.0;
/// After that two sources are fighting over one id, and a takeover is had back in this time.
const TAKEOVER_EVERY: Duration = Duration::from_secs(10);
/// How long the next one waits; the connection that it would end goes on meanwhile.
const TAKEOVER_DELAY: Duration = Duration::from_secs(2);

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    /// After too many failures.
    Banned,
    /// The device connects more often than it may.
    TooOften,
}

/// The memory of what happened.
#[derive(Debug)]
pub(crate) struct Guard {
    per_device: Rule,
    per_address: Rule,
    connects_per_minute: f64,
    readings: Option<Rate>,
    connections_per_address: u32,
    names: Mutex<HashMap<String, Failures>>,
    addresses: Mutex<HashMap<IpAddr, Failures>>,
    /// Where a device last got in: the ban of its id, which anybody can cause, does not hold there.
    homes: Mutex<HashMap<String, IpAddr>>,
    connects: Mutex<HashMap<String, Bucket>>,
    takeovers: Mutex<HashMap<String, Bucket>>,
    quotas: Mutex<HashMap<String, Quota>>,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// When failures end in a ban; never with 0.
#[derive(Debug, Clone, Copy)]
struct Rule {
    most: u32,
    ban: Duration,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
    banned_until: Option<Instant>,
}

impl Failures {
    fn is_banned(&self, now: Instant) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    fn is_over(&self, now: Instant) -> bool {
        !self.is_banned(now) && now.saturating_duration_since(self.since) >= WINDOW
    }
}

/// So many in a second, with so many saved up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, at: now }
    }

    /// Takes a token, or says when there will be one.
    fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / rate.per_second))
    }

    fn is_full(&self, rate: Rate, now: Instant) -> bool {
        now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second + self.tokens >= rate.burst
    }
}

/// One device's readings. It outlives connections, or a device would get a new burst by coming again.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    rate: Rate,
    bucket: Arc<Mutex<Bucket>>,
}

impl Quota {
    /// Room for one reading, or how long until there is.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        lock(&self.bucket).take(self.rate, now)
    }
}

/// Counts a connection of its address for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    guard: Arc<Guard>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.guard.open);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Self {
        let per_second = f64::from(limits.readings_per_second);
        let rate = Rate { per_second, burst: f64::from(limits.readings_burst).max(1.0) };
        Self {
            per_device: Rule { most: limits.failures_per_device, ban: limits.ban_time },
            per_address: Rule { most: limits.failures_per_address, ban: limits.ban_time },
            connects_per_minute: f64::from(limits.connects_per_minute),
            readings: (limits.readings_per_second > 0).then_some(rate),
            connections_per_address: limits.connections_per_address,
            names: Mutex::default(),
            addresses: Mutex::default(),
            homes: Mutex::default(),
            connects: Mutex::default(),
            takeovers: Mutex::default(),
            quotas: Mutex::default(),
            open: Mutex::default(),
        }
    }

    /// A place for a connection from `address`; `None` when it has its share.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        let count = open.entry(address).or_default();
        if self.connections_per_address > 0 && *count >= self.connections_per_address {
            return None;
        }
        *count += 1;
        Some(Place { guard: self.clone(), address })
    }

    /// Whether somebody who says to be `name` may try at all.
    pub(crate) fn check(&self, name: &str, address: IpAddr, now: Instant) -> Result<(), Barred> {
        let barred = lock(&self.addresses).get(&address).is_some_and(|f| f.is_banned(now))
            || (lock(&self.names).get(name).is_some_and(|f| f.is_banned(now))
                && lock(&self.homes).get(name) != Some(&address));
        if barred { Err(Barred::Banned) } else { Ok(()) }
    }

    /// Somebody failed to be `name`. Returns how long the refusal is to wait.
    pub(crate) fn failed(&self, name: &str, address: IpAddr, now: Instant) -> Duration {
        let (of_name, banned_name) = count(&mut lock(&self.names), name.to_owned(), self.per_device, now);
        let (of_address, banned_address) = count(&mut lock(&self.addresses), address, self.per_address, now);
        if banned_name {
            metrics::banned("device");
            tracing::warn!(name, "banned for a while: too many failures");
        }
        if banned_address {
            metrics::banned("address");
            tracing::warn!(%address, "banned for a while: too many failures");
        }
        delay(of_name.max(of_address))
    }

    /// A device proved who it is. Counts it against its connect rate.
    pub(crate) fn entered(&self, device: &str, address: IpAddr, now: Instant) -> Result<(), Barred> {
        if self.per_device.most > 0 {
            lock(&self.homes).insert(device.to_owned(), address);
        }
        if self.connects_per_minute < 1.0 {
            return Ok(());
        }
        let rate = Rate { per_second: self.connects_per_minute / 60.0, burst: self.connects_per_minute };
        let mut connects = lock(&self.connects);
        let bucket = connects.entry(device.to_owned()).or_insert_with(|| Bucket::new(rate, now));
        bucket.take(rate, now).map_err(|_| Barred::TooOften)
    }

    /// A live session of `device` is about to be taken over. Returns how long that is to wait.
    pub(crate) fn takeover(&self, device: &str, now: Instant) -> Duration {
        let mut takeovers = lock(&self.takeovers);
        let bucket = takeovers.entry(device.to_owned()).or_insert_with(|| Bucket::new(TAKEOVER_RATE, now));
        let slowed = bucket.take(TAKEOVER_RATE, now).is_err();
        metrics::taken_over(slowed);
        if !slowed {
            return Duration::ZERO;
        }
        tracing::warn!(device, "two sources connect as this device and take its session from each other");
        TAKEOVER_DELAY
    }

    /// The device's share of readings; `None` without a limit.
    pub(crate) fn quota(&self, device: &str, now: Instant) -> Option<Quota> {
        let rate = self.readings?;
        let fresh = || Quota { rate, bucket: Arc::new(Mutex::new(Bucket::new(rate, now))) };
        Some(lock(&self.quotas).entry(device.to_owned()).or_insert_with(fresh).clone())
    }

    /// Forgets what has no effect any more.
    pub(crate) fn sweep(&self, now: Instant) {
        lock(&self.names).retain(|_, f| !f.is_over(now));
        lock(&self.addresses).retain(|_, f| !f.is_over(now));
        lock(&self.takeovers).retain(|_, b| !b.is_full(TAKEOVER_RATE, now));
        lock(&self.quotas).retain(|_, q| Arc::strong_count(&q.bucket) > 1 || !lock(&q.bucket).is_full(q.rate, now));
        let per_minute = self.connects_per_minute;
        let rate = Rate { per_second: per_minute / 60.0, burst: per_minute };
        lock(&self.connects).retain(|_, b| !b.is_full(rate, now));
    }
}

const TAKEOVER_RATE: Rate = Rate { per_second: 1.0 / TAKEOVER_EVERY.as_secs() as f64, burst: TAKEOVERS };

/// Counts a failure; returns how many there were in the window, and whether this one brought a ban.
fn count<K: Hash + Eq>(table: &mut HashMap<K, Failures>, key: K, rule: Rule, now: Instant) -> (u32, bool) {
    if table.len() >= TRACKED && !table.contains_key(&key) {
        table.retain(|_, f| !f.is_over(now));
        if table.len() >= TRACKED {
            // Not remembered, but slowed like the rest.
            return (FREE_FAILURES + 1, false);
        }
    }
    let fresh = || Failures { since: now, count: 0, banned_until: None };
    let failures = table.entry(key).or_insert_with(fresh);
    if failures.is_over(now) {
        *failures = fresh();
    }
    failures.count = failures.count.saturating_add(1);
    let bans = rule.most > 0 && failures.count >= rule.most && !failures.is_banned(now);
    if bans {
        failures.banned_until = Some(now + rule.ban);
        failures.count = 0;
    }
    (failures.count, bans)
}

fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES + 1) {
        None => Duration::ZERO,
        Some(over) => FIRST_DELAY.saturating_mul(1 << over.min(10)).min(LONGEST_DELAY),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    const SECOND: Duration = Duration::from_secs(1);

    fn guard(limits: Limits) -> (Arc<Guard>, Instant) {
        (Arc::new(Guard::new(&limits)), Instant::now())
    }

    #[test]
    fn without_limits_nobody_is_banned_and_refusals_only_slow_down() {
        let (guard, now) = guard(Limits::default());
        let delays: Vec<u128> = (0..10).map(|_| guard.failed("a", AWAY, now).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(guard.check("a", AWAY, now), Ok(()));
        assert_eq!(guard.failed("a", AWAY, now + WINDOW), Duration::ZERO, "a new minute");
        assert!(guard.quota("a", now).is_none());
        assert_eq!((0..1000).map(|_| guard.entered("a", HOME, now)).find(Result::is_err), None);
    }

    #[test]
    fn an_id_is_banned_for_a_while_but_not_where_its_device_is_at_home() {
        let ban_time = Duration::from_secs(300);
        let (guard, now) = guard(Limits { failures_per_device: 5, ban_time, ..Limits::default() });
        guard.entered("a", HOME, now).unwrap();
        for _ in 0..4 {
            guard.failed("a", AWAY, now);
        }
        assert_eq!(guard.check("a", AWAY, now), Ok(()));
        guard.failed("a", AWAY, now);
        assert_eq!(guard.check("a", AWAY, now), Err(Barred::Banned));
        assert_eq!(guard.check("a", HOME, now), Ok(()));
        assert_eq!(guard.check("b", AWAY, now), Ok(()));
        guard.sweep(now + 299 * SECOND);
        assert_eq!(guard.check("a", AWAY, now + 299 * SECOND), Err(Barred::Banned));
        assert_eq!(guard.check("a", AWAY, now + 300 * SECOND), Ok(()));
        guard.sweep(now + 300 * SECOND);
        assert!(lock(&guard.names).is_empty());
    }

    #[test]
    fn an_address_is_banned_whatever_names_it_tries() {
        let (guard, now) = guard(Limits { failures_per_address: 20, ..Limits::default() });
        for n in 0..20 {
            assert_eq!(guard.check("a", AWAY, now), Ok(()));
            guard.failed(&format!("guess-{n}"), AWAY, now);
        }
        assert_eq!(guard.check("a", AWAY, now), Err(Barred::Banned));
        assert_eq!(guard.check("a", HOME, now), Ok(()));
    }

    #[test]
    fn a_device_that_connects_too_often_is_turned_away_until_the_minute_allows_it() {
        let (guard, now) = guard(Limits { connects_per_minute: 15, ..Limits::default() });
        let entered = (0..20).filter(|_| guard.entered("a", HOME, now).is_ok()).count();
        assert_eq!(entered, 15);
        assert_eq!(guard.entered("b", HOME, now), Ok(()));
        assert_eq!(guard.entered("a", HOME, now + 4 * SECOND), Ok(()));
        assert_eq!(guard.entered("a", HOME, now + 4 * SECOND), Err(Barred::TooOften));
    }

    #[test]
    fn two_sources_of_one_id_are_slowed_and_a_lost_link_is_not() {
        let (guard, now) = guard(Limits::default());
        let slowed = (0..8).filter(|_| !guard.takeover("a", now).is_zero()).count();
        assert_eq!(slowed, 3);
        assert_eq!(guard.takeover("b", now), Duration::ZERO);
        assert_eq!(guard.takeover("a", now + TAKEOVER_EVERY), Duration::ZERO);
        guard.sweep(now + 10 * TAKEOVER_EVERY);
        assert!(lock(&guard.takeovers).is_empty());
    }

    #[test]
    fn readings_have_a_rate_and_a_burst_that_a_new_connection_does_not_renew() {
        let limits = Limits { readings_per_second: 10, readings_burst: 50, ..Limits::default() };
        let (guard, now) = guard(limits);
        let quota = guard.quota("a", now).unwrap();
        assert_eq!((0..60).filter(|_| quota.take(now).is_ok()).count(), 50);
        drop(quota);
        guard.sweep(now);
        let quota = guard.quota("a", now).unwrap();
        assert_eq!(quota.take(now), Err(Duration::from_millis(100)));
        assert_eq!((0..60).filter(|_| quota.take(now + SECOND).is_ok()).count(), 10);
    }

    #[test]
    fn an_address_has_its_share_of_connections_and_gets_it_back() {
        let (guard, _) = guard(Limits { connections_per_address: 2, ..Limits::default() });
        let places = (guard.open(HOME).unwrap(), guard.open(HOME).unwrap());
        assert!(guard.open(HOME).is_none() && guard.open(AWAY).is_some());
        drop(places);
        assert!(guard.open(HOME).is_some());
        assert!(lock(&guard.open).is_empty());
    }

    #[test]
    fn a_flood_of_names_is_not_remembered_without_end() {
        let (guard, now) = guard(Limits::default());
        for n in 0..TRACKED + 10 {
            guard.failed(&n.to_string(), AWAY, now);
        }
        assert_eq!(lock(&guard.names).len(), TRACKED);
        guard.failed("later", AWAY, now + WINDOW);
        assert_eq!(lock(&guard.names).len(), 1);
    }
}
