//! What each fuzz target does with its input. libFuzzer calls it from `targets/`; on stable the broker's own tests
//! replay the corpus with it (`crates/broker/src/fuzz.rs` includes this file), so it says `super` and never `crate`.
//!
//! A target returns for every input, or panics with what is wrong.

pub mod claims;
pub mod hall;
pub mod oracle;
pub mod packets;
pub mod payload;

use hall::{Ending, Plan, Talk};
use packets::{Taker, Version};

/// Longer inputs are cut: what they could reach, shorter ones reach too, and the oracle stays exact below
/// 256 unreleased QoS 2 publishes.
pub const MOST_BYTES: usize = 2_048;

/// Bytes at a fresh connection. All at once or one by one, they mean the same.
pub fn before_connect(input: &[u8]) {
    let stream = cut(input);
    let whole = Talk::run(&Plan { stream, chunk: MOST_BYTES, ending: Ending::Close });
    oracle::check(stream, &whole, Taker::WIDE);
    let bytewise = Talk::run(&Plan { stream, chunk: 1, ending: Ending::Close });
    oracle::check(stream, &bytewise, Taker::WIDE);
    oracle::same(&whole, &bytewise);
}

/// The first byte says who connects and how, the others follow the CONNECT.
///
/// | bits | meaning |
/// |---|---|
/// | 0 | MQTT 3.1.1, or 5 |
/// | 1 | the device `a`, or the user `desk` |
/// | 2 | the session is kept (device) |
/// | 3, 4 | all at once, in pieces of 1, 7 or 64 bytes |
/// | 5 | with a will (device) |
/// | 6 | the last connection takes one message at a time, of 60 bytes at most (MQTT 5) |
/// | 7 | ends with another connection that takes over, or the client closes (device) |
pub fn after_connect(input: &[u8]) {
    let (setup, rest) = input.split_first().map_or((0, input), |(setup, rest)| (*setup, rest));
    let bit = |n: u8| setup >> n & 1 == 1;
    let version = if bit(0) { Version::V5 } else { Version::V3 };
    let user = bit(1);
    let taken_over = bit(7) && !user;
    let connect = |kept, narrow| packets::Connect {
        version,
        id: if user { "desk" } else { "a" },
        kept: kept && !user,
        will: bit(5) && !user,
        narrow: narrow && version == Version::V5,
    };
    let first = connect(bit(2), bit(6) && !taken_over);
    let newer = connect(true, bit(6));
    let mut stream = first.bytes();
    stream.extend(cut(rest));
    let newer_bytes = newer.bytes();
    let plan = Plan {
        stream: &stream,
        chunk: [MOST_BYTES, 1, 7, 64][usize::from(setup >> 3 & 3)],
        ending: if taken_over { Ending::TakeOver(&newer_bytes) } else { Ending::Close },
    };
    let talk = Talk::run(&plan);
    oracle::check(&stream, &talk, first.taker());
    oracle::check_newer(newer, &talk);
}

/// A payload of every format, and a packed run.
pub fn payload(input: &[u8]) {
    payload::check_formats(cut(input));
    payload::check_packing(cut(input));
}

fn cut(input: &[u8]) -> &[u8] {
    &input[..input.len().min(MOST_BYTES)]
}
