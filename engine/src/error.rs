//! Why verbs are refused.

use std::fmt;

use fleetwire_codec::EncodeError;
use fleetwire_codec::buffer::SendError;

/// Why a link could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// `Limits::links_max` links of the shard exist.
    TooManyLinks,
    /// The engine is shutting down.
    ShuttingDown,
    /// Too many commands wait for the shard (handles only).
    Full,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyLinks => "the shard has as many links as its limits allow",
            Self::ShuttingDown => "the engine is shutting down",
            Self::Full => "too many commands wait for the shard",
        })
    }
}

impl std::error::Error for OpenError {}

/// Why a verb could not be carried out; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerbError {
    /// The output bound of the connection or the buffer bound of the shard is reached; `Writable` follows.
    Full,
    /// The link is not connected.
    Offline,
    /// The packet is larger than the output bound, than the peer accepts, or than MQTT can carry.
    TooLarge,
    /// The link is gone.
    NoSuchLink,
    /// The server's CONNACK forbids it: its Wildcard Subscription, Subscription Identifier or Shared Subscription Available
    /// (v5 sections 3.2.2.3.11 to 3.2.2.3.13). Or a Subscription Identifier in 3.1.1, which has none.
    Refused,
    /// An argument that no packet can carry, or a verb that has no meaning in this state.
    Invalid,
    /// The connection that the message of this ticket came on is over, or about to end: the message comes again if the
    /// session is kept.
    Stale,
    /// This acknowledgement was given before; or its session was [taken](crate::Outbox::take_session).
    NotHeld,
}

impl fmt::Display for VerbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room for more output; the event Writable says when there is",
            Self::Offline => "the link is not connected",
            Self::TooLarge => "the packet is larger than the output bound or than the peer accepts",
            Self::NoSuchLink => "there is no such link any more",
            Self::Refused => "the server does not offer it",
            Self::Invalid => "the arguments or the state of the link do not allow this",
            Self::Stale => {
                "the connection that the message came on is over; acknowledge it when it comes again"
            }
            Self::NotHeld => "the acknowledgement was given before; a ticket serves once",
        })
    }
}

impl std::error::Error for VerbError {}

impl From<SendError> for VerbError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLarge => Self::TooLarge,
            // Another bound of this side, whatever it is called: it passes.
            _ => Self::Full,
        }
    }
}

impl From<EncodeError> for VerbError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge => Self::TooLarge,
            _ => Self::Invalid,
        }
    }
}

/// Why a publish was not accepted; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The output bound, the buffer bound or the in-flight window is reached; `Writable` follows.
    Full,
    /// The link is not connected.
    Offline,
    /// The packet is larger than the output bound, than the peer accepts, or than MQTT can carry.
    TooLarge,
    /// The peer's CONNACK forbids it: its Maximum QoS or Retain Available (v5 [MQTT-3.2.2-11], [MQTT-3.2.2-14]).
    Refused,
    /// The link is gone.
    NoSuchLink,
    /// A field that no PUBLISH can carry, or that the engine sets itself: a Topic Alias among the properties. Of a client also a
    /// Subscription Identifier (v5 `[MQTT-3.3.4-6]`).
    Invalid,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => {
                f.write_str("the server does not accept this quality of service or retained messages")
            }
            Self::Full => VerbError::Full.fmt(f),
            Self::Offline => VerbError::Offline.fmt(f),
            Self::TooLarge => VerbError::TooLarge.fmt(f),
            Self::NoSuchLink => VerbError::NoSuchLink.fmt(f),
            Self::Invalid => VerbError::Invalid.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<VerbError> for PublishError {
    fn from(error: VerbError) -> Self {
        match error {
            VerbError::Full => Self::Full,
            VerbError::Offline => Self::Offline,
            VerbError::TooLarge => Self::TooLarge,
            VerbError::NoSuchLink => Self::NoSuchLink,
            VerbError::Refused => Self::Refused,
            // No publish meets the latter two.
            VerbError::Invalid | VerbError::Stale | VerbError::NotHeld => Self::Invalid,
        }
    }
}
