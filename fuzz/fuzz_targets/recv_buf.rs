//! See `fleetwire_fuzz::recv_buf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::recv_buf(input));
