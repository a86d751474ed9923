//! See `fleetwire_fuzz::tls_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::tls_session(input));
