//! See `fleetwire_fuzz::send_buf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::send_buf(input));
