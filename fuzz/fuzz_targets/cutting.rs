//! See `fleetwire_fuzz::cutting`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::cutting(input));
