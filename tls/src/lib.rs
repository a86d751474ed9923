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
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use fleetwire_tls::{ClientConfigBuilder, Identity, Opened, Roots, Scratch, ServerName, TlsSession};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfigBuilder::new()
//!     .roots(Roots::system()?)
//!     .alpn(vec![b"x-amzn-mqtt-ca".to_vec()])
//!     .build()?;
//! let device = Identity::from_files("device-0.crt".as_ref(), "device-0.key".as_ref())?;
//! let mut session = TlsSession::client(&config, &ServerName::parse("broker.example")?, Some(&device))?;
//! let mut stream = std::net::TcpStream::connect("broker.example:443")?;
//! let (mut scratch, mut received, mut out) = (Scratch::new(), Vec::new(), Vec::new());
//! session.start(&mut out)?;
//! stream.write_all(&out)?;
//! loop {
//!     let mut block = [0; 4096];
//!     let length = stream.read(&mut block)?;
//!     if length == 0 {
//!         return Ok(session.eof()?);
//!     }
//!     received.extend_from_slice(&block[..length]);
//!     loop {
//!         out.clear();
//!         let opened = session.open(&mut scratch, &mut received, &mut out);
//!         // Also when it failed: that is the alert, which tells the peer why.
//!         stream.write_all(&out)?;
//!         let consumed = match opened? {
//!             Opened::NeedMore => break,
//!             Opened::Established { consumed } => {
//!                 println!("{:?}", session.info());
//!                 // A record is made where its plaintext lies, in the room that is left around it.
//!                 let (plain, framing) = (b"hello", session.framing());
//!                 let mut block = vec![0; framing.head + plain.len() + framing.tail];
//!                 let place = framing.head..framing.head + plain.len();
//!                 block[place.clone()].copy_from_slice(plain);
//!                 let record = session.seal(&mut scratch, &mut block, place)?;
//!                 stream.write_all(&block[record])?;
//!                 consumed
//!             }
//!             Opened::Data { consumed, plain } => {
//!                 println!("{:?}", &received[plain]);
//!                 consumed
//!             }
//!             Opened::Handshake { consumed } | Opened::Nothing { consumed } => consumed,
//!             Opened::Closed { .. } => {
//!                 out.clear();
//!                 session.close_notify(&mut out);
//!                 return Ok(stream.write_all(&out)?);
//!             }
//!         };
//!         received.drain(..consumed);
//!     }
//! }
//! # }
//! ```
//!
//! A server begins with [`TlsSession::server`] and waits; [`ServerConfigBuilder`] has examples of its configuration.
//!
//! rustls 0.23 with aws-lc-rs does the handshake. Then the records are this crate's own affair, unless a configuration
//! chooses rustls's ([`RecordLayer`]): they are opened and sealed where they lie, and a session at rest is its keys,
//! less than 512 bytes in all. What keys are expanded to for use is shared by the sessions of a thread and bounded
//! ([`Scratch`]). No type of rustls appears in the public interface.
//!
//! What it decides by itself:
//!
//! - A client checks that the server selected one of the ALPN names that were offered, before any application byte.
//! - A server chooses its configuration by the server name and the ALPN names of the ClientHello
//!   ([`ServerConfigBuilder`]), so that a domain has its own certificate, and only the names that need one ask for a
//!   client certificate.
//! - Session resumption is off on both sides, and so is early data. A client can resume its own sessions if it is told to
//!   ([`ClientConfigBuilder::resumption`]).
//! - Keys that have protected as many records as they may are replaced (TLS 1.3), or the session ends (TLS 1.2).
//! - Nothing is sealed after a fatal alert or a close_notify, and an end of the stream without close_notify is truncation.
#![forbid(unsafe_code)]

mod client_config;
mod client_hello;
mod config_error;
mod connection;
mod crypto;
mod diagnosis;
mod error;
mod files;
mod handshake;
mod hello;
mod identity;
mod info;
mod key_block;
mod key_log;
mod provider;
mod reader;
mod records;
mod resumption;
mod roots;
mod secrets;
mod server_config;
mod session;
mod settings;
mod verifier;
mod x509;

#[cfg(test)]
mod tests;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/TLS.md")]
struct Page;

pub use client_config::{ClientConfig, ClientConfigBuilder, ServerName};
pub use client_hello::{AlpnNames, ClientHello, Peek};
pub use config_error::{ConfigError, IdentityError};
pub use error::{Reason, TlsError};
pub use identity::Identity;
pub use info::{HandshakeInfo, TlsVersion};
pub use key_log::KeyLogFile;
pub use provider::KeyExchangeGroup;
pub use records::{Framing, Opened, RECORD_LEN_MAX, RecordLayer, Scratch};
pub use roots::Roots;
pub use server_config::{ClientAuth, Fallback, ServerConfig, ServerConfigBuilder, VerifiedClient};
pub use session::{HANDSHAKE_LEN_MAX, Stage, TlsSession};
pub use settings::Versions;
