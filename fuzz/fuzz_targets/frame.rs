//! See `fleetwire_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::frame(input));
