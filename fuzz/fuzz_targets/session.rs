//! See `fleetwire_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::session(input));
