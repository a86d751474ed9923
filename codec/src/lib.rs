//! MQTT 3.1.1 and 5.0, parsed in place.
//!
//! ```text
//!  bytes ──▶ frame::split ──▶ Frame<'_> ──▶ Packet::decode ──▶ Packet<'_>     borrowed from the bytes
//!                └▶ Partial: so many bytes are missing               │
//!  bytes ◀── encode ◀────────────────────────────────────────────────┘        into the caller's buffer
//! ```
//!
//! One packet model serves both versions. Decoding has three outcomes: a whole packet, a partial one, which is a value
//! and no error, and a malformed one, whose error knows the clause that it violates and the Reason Code that answers
//! it. Everything that a single packet can get wrong is checked at decode; behind it the types say so, and
//! what they lend cannot fail. Decoding and encoding allocate nothing.
//!
//! The crate also holds the pooled buffers that the bytes lie in; see [`buffer`]. It knows no socket, no clock and no
//! session: which packet may come when is not its matter.
//!
//! ```
//! use fleetwire_codec::frame::{self, Split};
//! use fleetwire_codec::{Packet, Publish, TopicName, Version};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let topic = TopicName::new("plant/7/temperature")?;
//! let mut out = [0; 64];
//! let len = Publish::new(topic, b"21.5").encode(Version::V5, &mut out)?;
//!
//! let Split::Complete(frame) = frame::split(&out[..len], 1024)? else { unreachable!("it is whole") };
//! let Packet::Publish(publish) = Packet::decode(frame, Version::V5)? else { unreachable!("it is a PUBLISH") };
//! assert_eq!(publish.topic, "plant/7/temperature");
//! assert_eq!(publish.payload, b"21.5");
//! # Ok(())
//! # }
//! ```
// Network bytes reach all of this crate.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]

#[allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "its cursors are asserted invariants"
)]
pub mod buffer;
pub mod frame;

mod text;
mod wire;

mod error;
pub use error::DecodeError;

mod encode;
pub use encode::EncodeError;

mod types;
pub use types::{PacketId, PacketType, QoS, Version};

mod reason;
pub use reason::ReasonCode;

mod topic;
pub use topic::{TopicError, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

mod property;
pub use property::{Carrier, Property};

mod properties;
pub use properties::{Properties, PropertiesBuf, PropertyIter};

mod filters;
pub use filters::{
    FilterIter, Filters, FiltersBuf, RetainHandling, SubscriptionOptions, UnsubscribeFilterIter,
    UnsubscribeFilters, UnsubscribeFiltersBuf,
};

mod packet;
pub use frame::Frame;
pub use packet::Packet;
pub use wire::REMAINING_LEN_MAX;

mod connect;
pub use connect::{Connect, Will};

mod connack;
pub use connack::Connack;

mod publish;
pub use publish::Publish;

mod ack;
pub use ack::{Puback, Pubcomp, Pubrec, Pubrel};

mod subscribe;
pub use subscribe::{Suback, Subscribe};

mod unsubscribe;
pub use unsubscribe::{Unsuback, Unsubscribe};

mod disconnect;
pub use disconnect::{Auth, Disconnect};

#[cfg(test)]
mod testing;
