//! See `fleetwire_fuzz::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::packet(input));
