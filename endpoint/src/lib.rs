//! A local endpoint.

pub mod pki;
