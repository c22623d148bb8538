//! Arbitrary bytes at a fresh connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| windlass_fuzz::before_connect(input));
