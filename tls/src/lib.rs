//! TLS for fleets of devices: handshakes with ALPN, an identity per device, records in the caller's buffers.
//!
//! The crate does no input or output and knows no MQTT. A [`TlsSession`] is a state machine: the caller hands it the
//! bytes that arrived and sends the bytes that it appends.
//!
//! ```text
//! received bytes ─▶ TlsSession::open ─▶ Opened::{Handshake, Established, Data, Closed, ...}
//!                         └─▶ out: bytes to send (handshake flights, alerts)
//! plaintext ─────▶ TlsSession::seal ─▶ a record in the same block
//! ```
//!
//! rustls 0.23 with aws-lc-rs does the handshake. The record layer stands behind a small trait; rustls's own is its
//! implementation here. No type of rustls appears in the public interface.
//!
//! What it decides by itself:
//!
//! - A client checks that the server selected one of the ALPN names that were offered, before any application byte.
//! - A server chooses its configuration by the ALPN names of the ClientHello ([`ServerConfigBuilder`]), so that only
//!   the names that need one ask for a client certificate.
//! - Session resumption is off on both sides, and so is early data.
//! - Nothing is sealed after a fatal alert or a close_notify, and an end of the stream without close_notify is truncation.
#![forbid(unsafe_code)]

mod client_config;
mod client_hello;
mod connection;
mod diagnosis;
mod error;
mod hello;
mod identity;
mod records;
mod roots;
mod server_config;
mod session;
mod verifier;
mod x509;

#[cfg(test)]
mod tests;

pub use client_config::{ClientConfig, ClientConfigBuilder, ServerName, Versions};
pub use client_hello::{AlpnNames, ClientHello, Peek};
pub use error::{ConfigError, Reason, TlsError};
pub use identity::{Identity, IdentityError};
pub use records::{Framing, Opened, RECORD_LEN_MAX, Scratch};
pub use roots::Roots;
pub use server_config::{Absent, ClientAuth, ServerConfig, ServerConfigBuilder};
pub use session::{HANDSHAKE_LEN_MAX, HandshakeInfo, Stage, TlsSession, TlsVersion};
