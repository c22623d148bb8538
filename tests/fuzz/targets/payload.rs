//! Arbitrary bytes as the payload of every format, and as a packed run.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| windlass_fuzz::payload(input));
