//! A local endpoint.

pub mod broker;
pub mod pki;
