//! See `fleetwire_fuzz::tls_hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleetwire_fuzz::tls_hello(input));
