//! Every bound of an engine, in one place.

use std::time::Duration;

use fleetwire_codec::buffer::HOT_BLOCK_LEN;
use fleetwire_tls::Scratch;

/// What a queue between threads may be asked to hold: its memory is taken when it is made.
pub(crate) const QUEUE_LEN_MAX: usize = 1 << 18;

/// The bounds of an engine. All are settings; what happens when one is reached stands at each. Counts of 0 are taken
/// as 1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Links of one shard. Past it `open` answers [`OpenError::TooManyLinks`](crate::OpenError::TooManyLinks) and
    /// listeners stop accepting until a link is gone.
    pub links_max: usize,
    /// Connection attempts of one shard between TCP SYN and CONNACK, and as many accepted connections between their
    /// first byte and CONNACK. Further attempts wait; accepted connections wait unread, and listeners stop accepting.
    /// Accepted connections that say nothing count against `links_max` alone, so that they keep nobody out.
    pub handshakes_max: usize,
    /// Bytes of one MQTT packet that is accepted. A larger one closes the connection (v5 reason 0x95).
    pub packet_len_max: usize,
    /// Bytes of output that one connection may have waiting. Past it a verb answers `Full`. At most half of what
    /// `buffer_bytes_max` leaves beside the receive block counts, so that what is not too large finds room one day.
    pub output_bytes_max: usize,
    /// QoS 1 and 2 publishes of one connection without their last acknowledgement; the peer's Receive Maximum may lower it.
    /// Past it `publish` answers `Full`.
    pub in_flight_max: u16,
    /// Bytes of all buffers of one shard, at least [`BUFFER_BYTES_MIN`](Self::BUFFER_BYTES_MIN); partial packets may
    /// hold half of them, and copies of publishes that are kept to be sent again half of what is not the receive block's,
    /// so that a lost peer's messages leave memory for its return. Past it verbs answer `Full`, and a connection whose partial packet finds no buffer is closed
    /// as [`Slug::OVERLOADED`](crate::Slug::OVERLOADED).
    pub buffer_bytes_max: usize,
    /// Bytes of one shard's blocks that the application keeps by [`Message::retain`](crate::Message::retain)
    /// without a copy. Past it payloads are copied.
    pub retained_bytes_max: usize,
    /// TLS keys of one shard that stay expanded, about 620 bytes each; a busy connection has two. Past it a key is
    /// expanded again for its next record, which takes some 150 ns.
    pub tls_keys_max: usize,
    /// Commands of [`EngineHandle`](crate::EngineHandle) that wait for one shard, at most 262,144, for the room is made at
    /// the start. Past it they answer `Full`.
    pub commands_max: usize,
    /// How long a publish may be unacknowledged before [`Event::AcksLate`](crate::Event::AcksLate) says so.
    pub ack_timeout: Duration,
    /// How long a PINGRESP may take (at most the keep-alive itself).
    pub pingresp_timeout: Duration,
    /// Server role: how long it may take from accept to the application's answer to CONNECT.
    pub accept_timeout: Duration,
    /// How long a closing connection may take to take its last bytes and to close in turn.
    pub linger_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links_max: 1 << 20,
            handshakes_max: 256,
            packet_len_max: 256 * 1024,
            output_bytes_max: 1024 * 1024,
            in_flight_max: 100,
            buffer_bytes_max: 1024 * 1024 * 1024,
            retained_bytes_max: 64 * 1024 * 1024,
            tls_keys_max: Scratch::KEYS_MAX,
            commands_max: 16 * 1024,
            ack_timeout: Duration::from_secs(10),
            pingresp_timeout: Duration::from_secs(30),
            accept_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The least that `buffer_bytes_max` may be: a receive block, and as much for all output and all partial packets.
    pub const BUFFER_BYTES_MIN: usize = 2 * HOT_BLOCK_LEN;

    /// With a bound of nothing an engine could do nothing: each is at least one. And output that no memory could hold
    /// is too large rather than `Full` for ever.
    pub(crate) fn workable(mut self) -> Self {
        self.links_max = self.links_max.max(1);
        self.handshakes_max = self.handshakes_max.max(1);
        self.in_flight_max = self.in_flight_max.max(1);
        self.commands_max = self.commands_max.clamp(1, QUEUE_LEN_MAX);
        let output_memory = self.buffer_bytes_max.saturating_sub(HOT_BLOCK_LEN) / 2;
        self.output_bytes_max = self.output_bytes_max.min(output_memory);
        self
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl Limits {
            $(
                #[doc = concat!("Sets `", stringify!($name), "`.")]
                #[must_use]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    links_max: usize,
    handshakes_max: usize,
    packet_len_max: usize,
    output_bytes_max: usize,
    in_flight_max: u16,
    buffer_bytes_max: usize,
    retained_bytes_max: usize,
    tls_keys_max: usize,
    commands_max: usize,
    ack_timeout: Duration,
    pingresp_timeout: Duration,
    accept_timeout: Duration,
    linger_timeout: Duration,
}
