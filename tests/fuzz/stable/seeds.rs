//! The corpus, in words: each file's name and how its bytes come about. Files that libFuzzer found lie beside them.

use crate::fuzz::targets::packets::{
    Connect,
    Version::{self, V3, V5},
    acknowledge, framed, publish, subscribe, text, unsubscribe,
};

/// Target, file name, bytes.
pub struct Seed(pub &'static str, pub &'static str, pub Vec<u8>);

const OWN: &[u8] = b"devices/a/readings";
const RECEIPTS: &[u8] = b"devices/a/receipts";
const ERRORS: &[u8] = b"devices/a/errors";

/// The first byte of `after_connect`: see its documentation.
const USER: u8 = 2;
const KEPT: u8 = 4;
const BYTEWISE: u8 = 1 << 3;
const SEVENS: u8 = 2 << 3;
const WILL: u8 = 1 << 5;
const NARROW: u8 = 1 << 6;
const TAKEN_OVER: u8 = 1 << 7;

pub fn all() -> Vec<Seed> {
    [before_connect(), no_connect(), conversations(), sessions(), killers(), broken(), codes(), runs()].concat_all()
}

trait ConcatAll {
    fn concat_all(self) -> Vec<Seed>;
}

impl<const N: usize> ConcatAll for [Vec<Seed>; N] {
    fn concat_all(self) -> Vec<Seed> {
        self.into_iter().flatten().collect()
    }
}

fn connect(version: Version, id: &'static str) -> Connect {
    Connect { version, id, kept: false, will: false, narrow: false }
}

/// A CONNECT by hand: what comes after the protocol level.
fn bare(level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut body = text(b"MQTT");
    body.extend([level, flags, 0, 0]);
    body.extend(rest.concat());
    framed(0x10, &body)
}

fn id(bytes: &[u8]) -> Vec<u8> {
    text(bytes)
}

fn before_connect() -> Vec<Seed> {
    let accepted = |version, topic: &[u8]| {
        let reading = publish(version, 0x32, topic, Some(1), &[], b"4006381333931");
        [connect(version, "a").bytes(), reading, vec![0xC0, 0]].concat()
    };
    let will = |topic: &[u8], flags: u8| {
        bare(4, 0xC6 | flags, &[&id(b"a"), &text(topic), &text(b"x"), &id(b"a"), &text(b"secret of a")])
    };
    let scanner = [bare(4, 2, &[&id(b"5446078")]), publish(V3, 0x30, b"5446078", None, &[], b"42"), vec![0xE0, 0]];
    let seed = |name, bytes| Seed("before_connect", name, bytes);
    vec![
        seed("device-3.1.1", accepted(V3, OWN)),
        seed("device-5", accepted(V5, OWN)),
        seed("device-own-topic", accepted(V5, b"old/a")),
        seed("device-foreign-topic", accepted(V5, b"devices/b/readings")),
        seed("device-with-will", Connect { will: true, kept: true, ..connect(V5, "a") }.bytes()),
        seed("user", [connect(V5, "desk").bytes(), subscribe(V5, 1, b"devices/+/receipts", 1)].concat()),
        seed("article-scanner", scanner.concat()),
        seed("will-multi-byte-first-character", will("é/x".as_bytes(), 0)),
        seed("will-foreign", will(b"devices/b/status", 0)),
        seed("will-qos-2", will(b"devices/a/status", 0x10)),
        seed("will-qos-3", will(b"devices/a/status", 0x18)),
        seed("will-retained", will(b"devices/a/status", 0x20)),
        seed("will-flags-without-will", bare(4, 0b0011_1010, &[&id(b"5446078")])),
        seed("client-id-with-wildcards", bare(4, 2, &[&id(b"a/+#$")])),
        seed("client-id-nul", bare(4, 2, &[&id(b"a\0")])),
        seed("client-id-empty", bare(4, 2, &[&id(b"")])),
        seed("client-id-of-another", bare(4, 0xC2, &[&id(b"b"), &id(b"a"), &text(b"secret of a")])),
        seed("wrong-secret", bare(5, 0xC2, &[&[0], &id(b"a"), &id(b"a"), &text(b"wrong")])),
        seed("reserved-flag", bare(4, 3, &[&id(b"5446078")])),
        seed("level-3", bare(3, 2, &[&id(b"a")])),
        seed("level-6", bare(6, 2, &[&id(b"a")])),
        seed("level-bridge", bare(0x84, 2, &[&id(b"a")])),
        seed("mqisdp", framed(0x10, &[&text(b"MQIsdp")[..], &[3, 2, 0, 0], &id(b"a")].concat())),
        seed("enhanced-authentication", bare(5, 2, &[&[4, 0x15, 0, 1, b'x'], &id(b"a")])),
        seed("receive-maximum-0", bare(5, 2, &[&[3, 0x21, 0, 0], &id(b"a")])),
        seed("maximum-packet-0", bare(5, 2, &[&[5, 0x27, 0, 0, 0, 0], &id(b"a")])),
        seed("property-twice", bare(5, 2, &[&[6, 0x21, 0, 9, 0x21, 0, 9], &id(b"a")])),
        seed("two-connects", connect(V5, "a").bytes().repeat(2)),
    ]
}

fn no_connect() -> Vec<Seed> {
    let seed = |name, bytes: &[u8]| Seed("before_connect", name, bytes.to_vec());
    let whole = connect(V5, "a").bytes();
    vec![
        seed("nothing", b""),
        seed("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        seed("tls-hello", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]),
        seed("ping-first", &[0xC0, 0]),
        seed("publish-first", &publish(V3, 0x30, OWN, None, &[], b"1")),
        seed("connack-first", &[0x20, 2, 0, 0]),
        seed("truncated", &whole[..whole.len() - 3]),
        seed("only-a-first-byte", &[0x10]),
        seed("remaining-length-too-long", &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        seed("remaining-length-unfinished", &[0x10, 0x80]),
        seed("remaining-length-huge", &[0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4]),
        seed("connect-flag-bits", &[0x11, 2, 0, 4]),
        seed("connect-empty", &[0x10, 0]),
    ]
}

fn after(name: &'static str, setup: u8, packets: &[Vec<u8>]) -> Seed {
    let packets: Vec<u8> = packets.concat();
    Seed("after_connect", name, [&[setup][..], &packets].concat())
}

/// In 3.1.1 as setup bit 0 says otherwise in 5.
fn bits(version: Version) -> u8 {
    u8::from(version == V5)
}

fn conversations() -> Vec<Seed> {
    let reading = |version, first, id, payload: &[u8]| publish(version, first, OWN, id, &[], payload);
    let verdicts = |version| -> Vec<Vec<u8>> {
        let one = |(at, payload): (usize, &[u8; 2])| reading(version, 0x32, Some(at as u16 + 1), payload);
        [b"10", b"r1", b"u2", b"c3", b"d4", b"f5", b"l6", b"17"].into_iter().enumerate().map(one).collect()
    };
    let exactly = |version| {
        vec![
            reading(version, 0x34, Some(7), b"1"),
            reading(version, 0x3C, Some(7), b"1"),
            acknowledge(0x62, 7),
            acknowledge(0x62, 7),
            reading(version, 0x34, Some(7), b"r"),
            reading(version, 0x34, Some(8), b"u"),
            acknowledge(0x62, 8),
        ]
    };
    let alias = |alias, topic: &[u8]| publish(V5, 0x32, topic, Some(1), &[0x23, 0, alias], b"1");
    vec![
        after("nothing", 0, &[]),
        after("readings-3.1.1", 0, &[reading(V3, 0x30, None, b"1"), reading(V3, 0x32, Some(1), b"2")]),
        after("readings-5", bits(V5), &[reading(V5, 0x30, None, b"1"), reading(V5, 0x32, Some(1), b"2")]),
        after("every-verdict-3.1.1", 0, &verdicts(V3)),
        after("every-verdict-5", bits(V5) | BYTEWISE, &verdicts(V5)),
        after("exactly-once-3.1.1", SEVENS, &exactly(V3)),
        after("exactly-once-5", bits(V5), &exactly(V5)),
        after("duplicate-qos-2", 0, &[reading(V3, 0x3C, Some(1), b"1"), reading(V3, 0x3C, Some(1), b"1")]),
        after("alias-defined-and-used", bits(V5), &[alias(1, OWN), alias(1, b""), alias(8, b"old/a"), alias(8, b"")]),
        after("alias-0", bits(V5), &[alias(0, OWN)]),
        after("alias-9", bits(V5), &[alias(9, OWN)]),
        after("alias-undefined", bits(V5), &[alias(2, b"")]),
        after("foreign-topic-3.1.1", 0, &[publish(V3, 0x32, b"devices/b/readings", Some(1), &[], b"1")]),
        after("foreign-topic-5", bits(V5), &[publish(V5, 0x34, b"$SYS/x", Some(1), &[], b"1"), vec![0xC0, 0]]),
        after("retained", bits(V5), &[reading(V5, 0x33, Some(1), b"1")]),
        after("user-publishes", bits(V5) | USER, &[reading(V5, 0x32, Some(1), b"1")]),
        after("ping-and-disconnect", 0, &[vec![0xC0, 0], vec![0xE0, 0], vec![0xC0, 0]]),
        after("disconnect-with-will", bits(V5) | WILL, &[vec![0xE0, 1, 4]]),
        after("disconnect-with-expiry", bits(V5) | KEPT, &[vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]]),
        after("disconnect-raises-expiry", bits(V5), &[vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]]),
    ]
}

fn sessions() -> Vec<Seed> {
    let hears = |version| {
        let reading = |id: u16, payload: &[u8]| publish(version, 0x32, OWN, Some(id), &[], payload);
        let all: [Vec<u8>; 8] = [
            subscribe(version, 1, RECEIPTS, 1),
            subscribe(version, 2, ERRORS, 0),
            reading(3, b"1"),
            reading(4, b"r"),
            acknowledge(0x40, 1),
            reading(5, b"l"),
            unsubscribe(version, 6, RECEIPTS),
            reading(7, b"2"),
        ];
        all
    };
    let waits = |version| {
        let reading = |id: u16| publish(version, 0x32, OWN, Some(id), &[], b"1");
        [subscribe(version, 1, RECEIPTS, 1), reading(2), reading(3), reading(4)]
    };
    let many: Vec<u8> = {
        let filters = (0..9).map(|n| [text(format!("devices/a/{n}/#").as_bytes()), vec![1]].concat());
        framed(0x82, &[vec![0, 1, 0], filters.collect::<Vec<_>>().concat()].concat())
    };
    vec![
        after("hears-receipts-3.1.1", KEPT, &hears(V3)),
        after("hears-receipts-5", bits(V5) | KEPT, &hears(V5)),
        after("messages-come-again-3.1.1", KEPT | TAKEN_OVER, &waits(V3)),
        after("messages-come-again-5", bits(V5) | KEPT | TAKEN_OVER, &waits(V5)),
        after("messages-wait-for-a-narrow-client", bits(V5) | KEPT | NARROW, &waits(V5)),
        after("messages-come-again-to-a-narrow-client", bits(V5) | KEPT | NARROW | TAKEN_OVER, &waits(V5)),
        after("taken-over-without-expiry", bits(V5) | TAKEN_OVER, &waits(V5)),
        after("user-wildcards", USER, &[subscribe(V3, 1, b"devices/+/receipts", 1), subscribe(V3, 2, b"#", 0)]),
        after("user-too-many-filters", bits(V5) | USER, &[many]),
    ]
}

/// What ends rumqttd's router, its listener or its codec.
fn killers() -> Vec<Seed> {
    let topic = |topic: &[u8]| publish(V5, 0x30, topic, None, &[], b"1");
    let filter = |filter: &[u8]| [subscribe(V5, 1, filter, 1), vec![0xC0, 0]];
    let v5 = bits(V5);
    vec![
        after("topic-multi-byte-first-character", v5, &[topic("é".as_bytes())]),
        after("topic-multi-byte-qos-2", 0, &[publish(V3, 0x34, "😀/x".as_bytes(), Some(1), &[], b"1")]),
        after("topic-nul", v5, &[topic(b"devices/a\0/readings")]),
        after("topic-wildcard", v5, &[topic(b"devices/+/readings")]),
        after("topic-hash", 0, &[publish(V3, 0x30, b"devices/#", None, &[], b"1")]),
        after("topic-empty", v5, &[topic(b"")]),
        after("topic-not-utf8", v5, &[topic(b"devices/\xFF/readings")]),
        after(
            "publish-with-properties",
            v5,
            &[publish(V5, 0x32, OWN, Some(1), &[1, 1, 0x26, 0, 1, b'k', 0, 1, b'v'], b"1")],
        ),
        after("share-subscription", v5 | KEPT, &filter(b"$share/g/devices/a/receipts")),
        after("share-subscription-user", USER, &[subscribe(V3, 1, b"$share/g/devices/+/receipts", 1)]),
        after("filter-a-hash-b", v5 | USER, &filter(b"a#b")),
        after("filter-hash-in-the-middle", v5 | USER, &filter(b"devices/#/receipts")),
        after("filter-multi-byte", v5 | USER, &filter("é/#".as_bytes())),
        after("filter-nul", v5, &filter(b"devices/a/receipts\0")),
        after("filter-empty", v5, &filter(b"")),
        after("client-sends-connack", v5, &[vec![0x20, 3, 0, 0, 0]]),
        after("client-sends-unsuback", v5, &[vec![0xB0, 4, 0, 1, 0, 0]]),
        after("client-sends-suback", 0, &[vec![0x90, 3, 0, 1, 0]]),
        after("client-sends-pingresp", 0, &[vec![0xD0, 0]]),
        after("second-connect", v5, &[connect(V5, "a").bytes()]),
        after(
            "pubrel-first-in-first-out",
            0,
            &[
                publish(V3, 0x34, OWN, Some(1), &[], b"1"),
                publish(V3, 0x34, OWN, Some(2), &[], b"2"),
                acknowledge(0x62, 2),
                acknowledge(0x62, 1),
            ],
        ),
        after("unsubscribe-unknown", v5, &[unsubscribe(V5, 1, b"devices/a/receipts")]),
    ]
}

/// Bytes that break the standard.
fn broken() -> Vec<Seed> {
    let v5 = bits(V5);
    let whole = publish(V5, 0x32, OWN, Some(1), &[], b"12345");
    let both = [&[1, 0][..], &whole].concat();
    vec![
        after("type-0", v5, &[vec![0, 0]]),
        after("type-15-auth", v5, &[vec![0xF0, 0]]),
        after("type-15-in-3.1.1", 0, &[vec![0xF0, 0]]),
        after("flags-ping", v5, &[vec![0xC1, 0]]),
        after("flags-subscribe", v5, &[[&[0x80][..], &subscribe(V5, 1, RECEIPTS, 1)[1..]].concat()]),
        after("flags-pubrel", 0, &[vec![0x60, 2, 0, 1]]),
        after("qos-3", v5, &[publish(V5, 0x36, OWN, Some(1), &[], b"1")]),
        after("subscribe-qos-3", v5, &[subscribe(V5, 1, RECEIPTS, 3)]),
        after("subscribe-reserved-options", 0, &[subscribe(V3, 1, RECEIPTS, 0xFC)]),
        after("subscribe-numbered", v5, &[framed(0x82, &[&[0, 1, 2, 0x0B, 1][..], &text(RECEIPTS), &[1]].concat())]),
        after("subscribe-without-filter", v5, &[vec![0x82, 3, 0, 1, 0]]),
        after("duplicate-qos-0", v5, &[publish(V5, 0x38, OWN, None, &[], b"1")]),
        after("packet-id-0-publish", v5, &[publish(V5, 0x32, OWN, Some(0), &[], b"1")]),
        after("packet-id-0-subscribe", 0, &[subscribe(V3, 0, RECEIPTS, 1)]),
        after("packet-id-0-pubrel", 0, &[acknowledge(0x62, 0)]),
        after("puback-of-nothing", v5, &[acknowledge(0x40, 1)]),
        after("pubrec-from-the-client", v5, &[acknowledge(0x50, 1)]),
        after("pubcomp-from-the-client", 0, &[acknowledge(0x70, 1)]),
        after("truncated-publish", v5, &[whole[..whole.len() - 2].to_vec()]),
        after("truncated-topic", 0, &[framed(0x30, &[0, 200, b'd'])]),
        after("remaining-length-overlong", v5, &[vec![0xC0, 0x80, 0x80, 0x80, 0x80, 1]]),
        after("remaining-length-padded", v5, &[vec![0xC0, 0x80, 0]]),
        after("remaining-length-huge", v5 | SEVENS, &[vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1]]),
        after("ping-with-body", 0, &[vec![0xC0, 1, 0]]),
        after("property-length-beyond-packet", v5, &[framed(0x32, &[&text(OWN)[..], &both[..2], &[0x7F]].concat())]),
        after("property-length-missing", v5, &[framed(0x32, &[&text(OWN)[..], &[0, 7]].concat())]),
        after("property-unknown", v5, &[publish(V5, 0x32, OWN, Some(1), &[0x7E, 0], b"1")]),
        after("property-alias-twice", v5, &[publish(V5, 0x32, OWN, Some(1), &[0x23, 0, 1, 0x23, 0, 1], b"1")]),
        after("zeros", v5, &[vec![0; 64]]),
        after("ones", 0, &[vec![0xFF; 64]]),
    ]
}

fn codes() -> Vec<Seed> {
    let seed = |name, bytes: &[u8]| Seed("payload", name, bytes.to_vec());
    vec![
        seed("empty", b""),
        seed("white-space", b" \r\n\t"),
        seed("digits", b" 00420\r\n"),
        seed("digits-77", &[b'9'; 77]),
        seed("digits-78", &[b'9'; 78]),
        seed("digits-arabic", "١٢٣".as_bytes()),
        seed("digits-underscore", b"1_000"),
        seed("gtin-13", b"4006381333931"),
        seed("gtin-8", b"96385074"),
        seed("gtin-wrong-check-digit", b"4006381333932"),
        seed("gs1-brackets", b"(01)09506000134352(10)ABC123"),
        seed("gs1-symbology", b"]C1010950600013435210ABC123"),
        seed("gs1-separator", b"]d2\x1d0109506000134352"),
        seed("gs1-bare", b"010950600013435217261231"),
        seed("gs1-cut", b"]C10109506"),
        seed("digital-link", b"https://id.gs1.org/01/09506000134352/10/ABC?17=261231"),
        seed("digital-link-cut", b"http://x/01"),
        seed("text", "Kiste 7, Größe L 😀".as_bytes()),
        seed("text-nul", b"a\0b"),
        seed("text-not-utf8", b"a\xC3("),
        seed("text-256", &[b'x'; 256]),
        seed("text-257", &[b'x'; 257]),
        seed("json", br#"{"code":"A1","at":1700000000123,"id":"m1"}"#),
        seed("json-rfc3339", br#"{"code":"A1","at":"2023-11-14T22:13:20.5+01:00"}"#),
        seed("json-before-1970", br#"{"code":"A1","at":"1969-12-31T23:59:59Z"}"#),
        seed("json-after-9999", br#"{"code":"A1","at":253402300800000}"#),
        seed("json-leap-second", br#"{"code":"A1","at":"2016-12-31T23:59:60Z"}"#),
        seed("json-unknown-key", br#"{"code":"A1","x":1}"#),
        seed("json-key-twice", br#"{"code":"A1","code":"B2"}"#),
        seed("json-array", br#"["A1",5,"m1"]"#),
        seed("json-escapes", br#"{"code":"\u0041\ud83d\ude00","id":null}"#),
        seed("json-deep", &[b'['; 200]),
        seed("json-number-huge", br#"{"code":"A1","at":1e400}"#),
    ]
}

fn runs() -> Vec<Seed> {
    let seed = |name, bytes: &[u8]| Seed("payload", name, bytes.to_vec());
    vec![
        seed("run-of-two", &[1, 0xAC, 2, 7, 0, 7, 4, b'a', b'b', 1]),
        seed("run-number-too-large", &[1, 0, 7, 3, 0xE8]),
        seed("run-varint-padded", &[1, 0x80, 0, 2, b'a']),
        seed("run-varint-overlong", &[1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]),
        seed("run-length-huge", &[1, 0, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        seed("run-digits-not-packed", &[1, 0, 4, b'4', b'2']),
        seed("single", &[2, 0, 0, 1, 0x8B, 0xCF, 0xE5, 0x68, 0, b'4', b'2']),
        seed("single-cut", &[2, 0, 0, 1]),
        seed("lines", b"4006381333931\n0042\n\nbox 7\n9\n"),
    ]
}
