//! A local endpoint that behaves like AWS IoT Core's port 443, for tests and simulations of device fleets.
//!
//! One TLS port serves two ALPN names (RFC 7301), and the name decides how a client has to show who it is:
//!
//! | ALPN of the ClientHello | CertificateRequest | who may connect |
//! |---|---|---|
//! | `x-amzn-mqtt-ca` | yes | the owner of a certificate of the endpoint's CA, with whatever user name |
//! | `mqtt` | no | a configured user, by name and password; without users nobody (0x86) |
//! | only others | | nobody: alert 120 `no_application_protocol` |
//! | none | no | nobody: the connection is closed after the handshake |
//!
//! Server names (SNI) may have a certificate of their own, as AWS's custom domains do ([`EndpointBuilder::domain`]).
//!
//! A port without TLS can be opened beside it. There users count if some are configured; otherwise it is open to all.
//!
//! ```
//! use std::time::Duration;
//!
//! use fleetwire_endpoint::Endpoint;
//! use fleetwire_endpoint::pki::KeyType;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = Endpoint::builder().user("ada", "secret").start()?;
//! let device = endpoint.issue_device("device-0", KeyType::P256, None)?;
//! println!("connect to {} with ALPN x-amzn-mqtt-ca", endpoint.addr());
//! println!("trust {}", endpoint.ca_pem());
//! println!("be {} {}", device.cert_pem, device.key_pem);
//!
//! let counts = endpoint.shutdown(Duration::from_secs(5));
//! assert_eq!(counts.broker.connects, 0);
//! # Ok(())
//! # }
//! ```
//!
//! The parts:
//!
//! - [`Endpoint`] is the whole, on a thread of its own: listeners, TLS, engine, broker.
//! - [`pki`] makes the certificates, in memory or in a folder.
//! - [`broker`] is the broker alone, without sockets, threads and clock.
//!
//! # What it does
//!
//! MQTT 3.1.1 and 5.0 with QoS 0 and 1, and QoS 2 where it is asked for, subscriptions with `+` and `#`, No Local, Retain As
//! Published and Retain Handling, retained messages with their expiry, wills, the take-over of client ids, client ids assigned
//! to those who bring none.
//! The properties of a 5.0 PUBLISH go on unaltered, but for a Message Expiry Interval that waiting has shortened. Messages
//! of one publisher to one topic reach each subscriber in their order.
//!
//! CONNACK announces to 5.0 clients: Maximum QoS 1, Receive Maximum 100, the Maximum Packet Size, Topic Alias Maximum 8, no
//! Subscription Identifiers, no shared subscriptions.
//!
//! # Where it departs from the specification
//!
//! - A session ends with its connection. Who asks for a longer one is told Session Expiry Interval 0 in 5.0; in 3.1.1 a
//!   client without Clean Session gets Session Present 0 each time (v3.1.1 `[MQTT-3.1.2-4]`). A Will Delay Interval is cut
//!   short by that end, as v5 section 3.1.3.2.2 has it.
//! - QoS 2 is refused, unless [`EndpointBuilder::qos_max`] allows it: a PUBLISH ends the connection with 0x9B, a will is answered with CONNACK 0x9B, a subscription is
//!   granted QoS 1. 3.1.1 has no words for the first two and sees the connection end, or return code 3.
//! - A `$share` filter is refused with SUBACK 0x9E (3.1.1: 0x80), where v5 section 3.2.2.3.13 asks for DISCONNECT.
//! - A subscriber that a QoS 1 message finds no room for is disconnected with 0x97; see [`broker::BrokerLimits`].
//!
//! # What AWS IoT Core does and this does not yet
//!
//! Certificates with states, policies, custom authorizers, quotas, life-cycle events and the other `$aws` topics,
//! persistent sessions, shared subscriptions, MQTT over WebSocket, HTTPS. Nor does it copy AWS's own departures:
//! here `a/#` matches `a`, and retained messages go to wildcard subscriptions too, as the specification has it.
#![forbid(unsafe_code)]

pub mod broker;
pub mod pki;

mod counts;
pub use counts::Counts;

mod endpoint;
pub use endpoint::{Endpoint, EndpointBuilder, EndpointError};

mod front;
mod users;
