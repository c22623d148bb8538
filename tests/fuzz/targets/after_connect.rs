//! Arbitrary bytes after a CONNECT that is accepted.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| windlass_fuzz::after_connect(input));
