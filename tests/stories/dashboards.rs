//! Each query of each dashboard and each rule is asked of a real Prometheus that watched a gateway through load and
//! faults: it parses, and it shows something when there is something to show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use windlass_tests::{
    Client, Fault, Load, Pool, Prometheus, Protocol, SECRET, Seen, SigningDevice, Site, Strace, assert_consistent,
    free_ports, rpc, stubborn, until,
};

const GWEI: u64 = 1_000_000_000;
const SUBMITTER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const QUOTA_EXCEEDED: u8 = 0x97;
/// A gauge must stand so long that a scrape finds it.
const SEEN_BY_ALL: Duration = Duration::from_millis(2_500);

/// What stays empty or zero: a part of the expressions, and what would fill them. An expression that is found here and
/// shows a number fails the story, and so does an entry that fits no expression.
const QUIET: [(&str, &str); 6] = [
    ("windlass_router_strays_total", "a fault of the router's own; nothing that a client sends makes one"),
    (
        "windlass_router_restarts_total",
        "the router ends or hangs by a fault of its own; crates/broker tests the canary",
    ),
    ("windlass_router_up == 0", "as above"),
    ("windlass_unsettled_age_seconds > 120", "the chain would have to stand still for two minutes"),
    ("windlass_lane_oldest_unconfirmed_seconds > 180", "three minutes without inclusion"),
    ("windlass_journal_disk_free_bytes < ", "a disk that is nearly full"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn dashboards() -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), serde_json::from_slice(&fs::read(path).unwrap()).unwrap())).collect()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Where it is, and the expression: of every panel of every dashboard.
fn panel_queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in list(&dashboard["panels"]).iter().filter(|p| p["type"] != "row") {
            for target in list(&panel["targets"]) {
                found.push((format!("{file}, {:?}", text(&panel["title"])), text(&target["expr"]).to_owned()));
            }
        }
    }
    found
}

#[test]
fn panels_have_units_legends_and_words_and_links_lead_somewhere() {
    let all = dashboards();
    let uids: BTreeSet<&str> = all.iter().map(|(_, d)| text(&d["uid"])).collect();
    assert_eq!(
        uids.into_iter().collect::<Vec<_>>(),
        ["windlass-chain", "windlass-devices", "windlass-journal", "windlass-overview"]
    );
    for (file, dashboard) in &all {
        let links = list(&dashboard["links"]);
        assert!(links.iter().any(|l| l["type"] == "dashboards" && l["tags"] == dashboard["tags"]), "{file}");
        for link in links.iter().filter(|l| l["type"] == "link") {
            let page = text(&link["url"]).strip_prefix("https://windlass.example/docs/").unwrap();
            assert!(root().join("docs").join(page).is_file(), "{file}: {page}");
        }
        let panels = list(&dashboard["panels"]);
        assert!(
            panels[0]["type"] == "row" && panels[1..9].iter().all(|p| p["type"] == "stat"),
            "{file}: numbers first"
        );
        let mut taken = BTreeSet::new();
        for panel in panels {
            let at = format!("{file}, {}", panel["title"]);
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for cell in (place("x")..place("x") + place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
                assert!(cell.0 < 24 && taken.insert((cell.0, cell.1 + place("y"))), "{at} lies over another");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(&panel["description"]).is_empty(), "{at}");
            let targets = list(&panel["targets"]);
            assert!(panel["type"] == "stat" || targets.iter().all(|t| t["legendFormat"] != ""), "{at}");
            let has_unit = panel["fieldConfig"]["defaults"]["unit"].is_string();
            assert!(has_unit || panel["type"] == "state-timeline", "{at}");
        }
    }
}

/// Names of series in an expression, each with its matchers; `None` where it has none.
fn selectors(expression: &str) -> Vec<(&str, Option<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        let length = rest[start..].find(|c| !is_name(c)).unwrap_or(rest.len() - start);
        let (name, after) = rest[start..].split_at(length);
        let ours = ["windlass_", "windlass:", "process_"].iter().any(|p| name.starts_with(p));
        if ours || ["up", "ALERTS"].contains(&name) {
            found.push((name, after.strip_prefix('{').map(|m| m.split('}').next().unwrap())));
        }
        rest = match (after.strip_prefix('{'), after.find('}')) {
            (Some(_), Some(end)) => &after[end..],
            _ => after,
        };
    }
    found
}

/// Each series of a panel is narrowed by the variables, as far as it has their labels.
fn check_variables(prometheus: &Prometheus) {
    let mut with_settlement = 0;
    for (at, query) in panel_queries() {
        let selectors = selectors(&query);
        assert!(!selectors.is_empty(), "{at}: {query}");
        for (name, matchers) in selectors {
            let matchers = matchers.unwrap_or_else(|| panic!("{at}: {name} is not narrowed"));
            assert!(matchers.contains("instance=~\"$instance\""), "{at}: {name}{{{matchers}}}");
            let labels = prometheus.get("labels", &[("match[]", name)]).unwrap();
            let has = list(&labels).iter().any(|label| label == "settlement");
            assert_eq!(matchers.contains("settlement=~\"$settlement\""), has, "{at}: {name}{{{matchers}}}");
            with_settlement += usize::from(has);
        }
    }
    assert!(with_settlement > 10);
}

/// An expression to ask for.
struct Asked {
    at: String,
    expression: String,
    /// Of an alert: it is about what it gives, zero or not.
    alerts: bool,
}

impl Asked {
    fn shows(&self, seen: Seen) -> bool {
        seen == Seen::Numbers || self.alerts && seen == Seen::Zeros
    }
}

/// Every expression, with what stands for the variables.
fn expressions(prometheus: &Prometheus) -> Vec<Asked> {
    let put_in = |query: &str| {
        let query = query.replace("$instance", &prometheus.instance).replace("$settlement", "anchor|batch|direct");
        let query = query.replace("$__rate_interval", "10s").replace("$__range", "2m");
        assert!(!query.contains('$'), "{query}");
        query
    };
    let panel = |(at, query): (String, String)| Asked { at, expression: put_in(&query), alerts: false };
    let mut all: Vec<_> = panel_queries().into_iter().map(panel).collect();
    let rules = prometheus.get("rules", &[]).unwrap();
    for rule in list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"])) {
        assert_eq!(rule["health"], "ok", "{rule}");
        let (at, alerts) = (format!("rule {}", rule["name"]), rule["type"] == "alerting");
        all.push(Asked { at, expression: text(&rule["query"]).to_owned(), alerts });
    }
    all
}

fn judge(prometheus: &Prometheus) {
    let all = expressions(prometheus);
    let mut wrong = Vec::new();
    for asked in &all {
        let Asked { at, expression, .. } = asked;
        let quiet = QUIET.iter().any(|(part, _)| expression.contains(part));
        match prometheus.seen(expression) {
            Err(error) => wrong.push(format!("{at}: {error}\n    {expression}")),
            Ok(seen) if asked.shows(seen) && quiet => {
                wrong.push(format!("{at} shows something, and is in QUIET\n    {expression}"));
            }
            Ok(seen) if !asked.shows(seen) && !quiet => wrong.push(format!("{at}: {seen:?}\n    {expression}")),
            Ok(_) => {}
        }
    }
    let fits = |part: &str| all.iter().any(|asked| asked.expression.contains(part));
    wrong.extend(QUIET.iter().filter(|(part, _)| !fits(part)).map(|(part, _)| format!("QUIET: nothing has {part:?}")));
    assert!(wrong.is_empty(), "of {} expressions:\n{}", all.len(), wrong.join("\n"));
}

/// A site that a story can hurt: its node and its signer behind a pool, its limits low.
fn site() -> (Site, Pool, SigningDevice) {
    let mut signing = SigningDevice::p256("s-1", 7);
    let mut site = Site::new(&[
        ("d-1", "anchor", "digits"),
        ("d-2", "batch", "digits"),
        ("d-3", "direct", "digits"),
        ("b-1", "anchor", "digits"),
        ("s-1", "batch", "signed"),
    ]);
    let [port] = free_ports();
    site.block_seconds = 0.5;
    site.edit_config("key = { custodial = 4 }", &signing.spec());
    site.edit_config(&format!("127.0.0.1:{}\"]", site.rpc), &format!("127.0.0.1:{port}\"]"));
    // Deep enough for a reorg that takes back what is not final.
    site.edit_config("confirmations = 2", "confirmations = 6\npoll_interval = \"50ms\"");
    let signer = format!("signer = \"http://127.0.0.1:{port}\"\naddress = \"{SUBMITTER}\"");
    site.edit_config("private_key_file = \"submitter.key\"", &signer);
    let limits = "[broker.limits]\nfailures_per_device = 3\nreadings_per_second = 20\nreadings_burst = 20\n\
                  session_messages = 10\n[telemetry]\notlp = \"http://127.0.0.1:1\"\n[journal]\nmax_unsettled = 200\n[device]\nmailbox = 1\nidle_after = \"2s\"\n[keys]";
    site.edit_config("[keys]", limits);
    site.start_node();
    let pool = Pool::start(port, site.rpc);
    site.deploy();
    signing.learn(&site);
    site.start();
    site.until_ready();
    (site, pool, signing)
}

fn connect(site: &Site, id: &str) -> Client {
    let (client, code) = Client::connect(site.mqtt, Protocol::V5, id, Some((id, SECRET)));
    assert_eq!(code, Some(0), "{id}");
    client
}

/// A device that sends many at once, and knows which were acknowledged.
struct Burst<'a> {
    site: &'a Site,
    sent: u16,
    acknowledged: Vec<(String, String)>,
}

impl Burst<'_> {
    fn send(&mut self, count: u16) {
        let mut client = connect(self.site, "b-1");
        let numbers: Vec<u16> = (self.sent + 1..=self.sent + count).collect();
        self.sent += count;
        for n in &numbers {
            client.publish("devices/b-1/readings", n.to_string().as_bytes(), 1, *n, false);
        }
        for n in numbers {
            match client.puback(n) {
                Some(0) => self.acknowledged.push(("b-1".to_owned(), n.to_string())),
                Some(QUOTA_EXCEEDED) => {}
                other => panic!("{other:?}"),
            }
        }
        client.disconnect();
    }
}

/// Wrong secrets, bad payloads, foreign topics, too much at once, receipts that nobody takes.
fn bad_devices(burst: &mut Burst<'_>) {
    let site = burst.site;
    for _ in 0..5 {
        let (_, code) = Client::connect(site.mqtt, Protocol::V5, "ghost", Some(("ghost", "wrong")));
        assert_ne!(code, Some(0));
    }
    let mut first = connect(site, "b-1");
    assert_eq!(first.publish_and_wait("devices/b-1/readings", b"12ab", 1, false), Some(0x99));
    assert_eq!(first.publish_and_wait("devices/d-1/readings", b"1", 2, false), Some(0x87));
    let mut second = connect(site, "b-1");
    assert_eq!(first.read().map(|(first, body)| (first, body[0])), Some((0xE0, 0x8E)), "taken over");
    assert_eq!(second.subscribe("devices/b-1/receipts"), Some(1));
    for n in 60_000..60_012 {
        let payload = n.to_string();
        assert_eq!(second.publish_and_wait("devices/b-1/readings", payload.as_bytes(), n, false), Some(0));
        burst.acknowledged.push(("b-1".to_owned(), payload));
    }
    until("receipts are dropped", || (site.metric("windlass_receipts_dropped_total") > 0.0).then_some(()));
    drop(second);
    burst.send(60);
    until("some are refused", || {
        (site.metric("windlass_readings_throttled_total{action=\"refused\"}") > 0.0).then_some(())
    });
}

fn bad_config(site: &Site) {
    site.edit_config("format = \"digits\"", "format = \"digitz\"");
    until("the file cannot be used", || (site.metric("windlass_config_stale") == 1.0).then_some(()));
    thread::sleep(SEEN_BY_ALL);
    site.edit_config("format = \"digitz\"", "format = \"digits\"");
    until("it can", || (site.metric("windlass_config_stale") == 0.0).then_some(()));
}

/// Sets the base fee of the next block.
fn market(site: &Site, gwei: u64) {
    rpc(site.rpc, "anvil_setNextBlockBaseFeePerGas", json!([format!("{:#x}", gwei * GWEI)])).unwrap();
}

/// A signer that refuses, sends without an answer, and a market beyond `max_fee`.
fn bad_chain(site: &Site, pool: &Pool) {
    let counted = |series: &str| {
        until(series, || (site.metric(series) > 0.0).then_some(()));
    };
    pool.fail("eth_signTransaction", [Fault::Refused("the key is locked"); 2]);
    counted("windlass_signer_failures_total{reason=\"refused\"}");
    pool.fail("eth_sendRawTransaction", [Fault::ReplyLost; 3]);
    counted("windlass_unknown_sends_total");
    for (series, gwei) in [("windlass_replacements_total", 60), ("windlass_fee_capped", 400)] {
        until(series, || {
            market(site, gwei);
            thread::sleep(Duration::from_millis(200));
            (site.metric(series) > 0.0).then_some(())
        });
    }
    // From 400 gwei an empty block takes an eighth: still beyond `max_fee` by then.
    thread::sleep(SEEN_BY_ALL);
    market(site, 1);
}

fn mining(site: &Site, seconds: u64) {
    rpc(site.rpc, "evm_setIntervalMining", json!([seconds])).unwrap();
}

/// The contract is another one for the block in which a transaction of the gateway is included.
fn revert(burst: &mut Burst<'_>) {
    let site = burst.site;
    let contract = site.contract();
    let code = rpc(site.rpc, "eth_getCode", json!([contract, "latest"])).unwrap();
    mining(site, 0);
    burst.send(1);
    until("a settlement is open", || {
        let last = site.rows(&["attempts"]).pop()?;
        (last["kind"] == "settle" && last["state"] == "sent").then_some(())
    });
    rpc(site.rpc, "anvil_setCode", json!([contract, "0x5f5ffd"])).unwrap();
    rpc(site.rpc, "evm_mine", json!([])).unwrap();
    rpc(site.rpc, "anvil_setCode", json!([contract, code])).unwrap();
    mining(site, 1);
    let reverted = "windlass_transactions_total{outcome=\"reverted\"}";
    until("it reverts", || (site.metric(reverted) > 0.0).then_some(()));
}

fn reorg(burst: &mut Burst<'_>) {
    let site = burst.site;
    burst.send(3);
    until("they are mined", || (site.metric("windlass_unsettled_readings") == 0.0).then_some(()));
    let before = site.metric("windlass_readings_requeued_total");
    rpc(site.rpc, "anvil_reorg", json!([4, []])).unwrap();
    until("they are back", || (site.metric("windlass_readings_requeued_total") > before).then_some(()));
}

fn poor(site: &Site) {
    let balance = |wei: u128| rpc(site.rpc, "anvil_setBalance", json!([SUBMITTER, format!("{wei:#x}")])).unwrap();
    balance(40_000_000_000_000_000);
    until("it is poor", || (site.metric("windlass_lane_balance_ether") < 0.05).then_some(()));
    thread::sleep(SEEN_BY_ALL);
    balance(1_000 * 1_000_000_000_000_000_000);
}

/// The disk fails, then the node is away until no more readings are taken.
fn away(site: &mut Site, burst_sent: u16, acknowledged: &mut Vec<(String, String)>) {
    let fault = Strace::failing(site.gateway.as_ref().unwrap().id(), "fdatasync,fsync", "EIO");
    let mut burst = Burst { site, sent: burst_sent, acknowledged: Vec::new() };
    until("commits fail", || {
        burst.send(1);
        (site.metric("windlass_journal_commit_failures_total") > 0.0).then_some(())
    });
    drop(fault);
    let (sent, kept) = (burst.sent, burst.acknowledged);
    acknowledged.extend(kept);
    site.until_ready();
    site.stop_node();
    site.until_unready("no_node");
    let mut burst = Burst { site, sent, acknowledged: Vec::new() };
    until("no more are taken", || {
        burst.send(20);
        thread::sleep(Duration::from_millis(500));
        (site.metric("windlass_journal_refused_total{reason=\"unsettled\"}") > 0.0).then_some(())
    });
    let kept = burst.acknowledged;
    acknowledged.extend(kept);
    site.start_node();
    site.until_ready();
}

#[test]
fn every_panel_and_every_rule_shows_what_happens() {
    let (mut site, pool, signing) = site();
    let [absent] = free_ports();
    let prometheus = Prometheus::start(&site, absent);
    let mut listener = TcpStream::connect(("127.0.0.1", site.http)).unwrap();
    listener.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut burst = Burst { site: &site, sent: 0, acknowledged: Vec::new() };
    // First, while there are few commits that are not slow.
    let slow = Strace::slow(site.gateway.as_ref().unwrap().id(), "fdatasync,fsync", Duration::from_millis(700));
    until("mailboxes are full", || {
        burst.send(20);
        (site.metric("windlass_mailbox_full_total") > 600.0).then_some(())
    });
    drop(slow);

    let stop = AtomicBool::new(false);
    let port = site.mqtt;
    let mut acknowledged: Vec<_> = thread::scope(|scope| {
        let load = Load(&stop);
        let devices: Vec<_> = [("d-1", 100), ("d-2", 200), ("d-3", 400)]
            .map(|(id, pause)| (id, Duration::from_millis(pause), &stop))
            .map(|(id, pause, stop)| scope.spawn(move || stubborn(port, id, pause, stop)))
            .into_iter()
            .collect();
        bad_devices(&mut burst);
        bad_config(&site);
        assert_eq!(
            connect(&site, "s-1").publish_and_wait("devices/s-1/readings", &signing.envelope(1, "signed"), 1, false),
            Some(0)
        );
        bad_chain(&site, &pool);
        drop(load);
        devices.into_iter().flat_map(|device| device.join().unwrap()).collect()
    });
    acknowledged.push(("s-1".to_owned(), "signed".to_owned()));
    site.until_final(acknowledged.len() + burst.acknowledged.len());
    revert(&mut burst);
    reorg(&mut burst);
    poor(&site);
    site.until_final(acknowledged.len() + burst.acknowledged.len());
    let sent = burst.sent;
    acknowledged.append(&mut burst.acknowledged);
    away(&mut site, sent, &mut acknowledged);
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);

    check_variables(&prometheus);
    judge(&prometheus);
}
