//! What a handler is told. Events borrow: what is to be kept is copied or [retained](Message::retain).

use std::cell::Cell;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::{Disconnected, Failure, LinkId, PublishError, TlsInfo, VerbError};
use bytes::Bytes;
use fleetwire_codec::buffer::Block;
use fleetwire_codec::{
    Auth, Connect, PacketId, Properties, Publish, QoS, ReasonCode, Suback, Subscribe, Unsuback, Unsubscribe,
    Version,
};

/// Something happened on a link.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Client role: the CONNACK accepted the connection.
    Connected(Connected<'a>),
    /// Client role: an attempt ended before its CONNACK, or with one that refuses. Server role: a connection ended in
    /// its TLS handshake, before `Accepted`.
    Failed(Failure),
    /// A publish was acknowledged: PUBACK at QoS 1, PUBCOMP at QoS 2.
    Acked(Ack),
    /// A publish was acknowledged with a reason code of 0x80 or more, by PUBACK or PUBREC: it is not delivered.
    Refused(Ack),
    /// A publish will never be acknowledged. Each accepted publish above QoS 0 ends in exactly one of `Acked`,
    /// `Refused` and `Dropped`.
    Dropped(Dropped),
    /// The oldest unacknowledged publish is older than `Limits::ack_timeout`; told once per such period. Nothing is
    /// resent on a live connection (v5 section 4.4); counts begin again when a session is resumed.
    AcksLate(AcksLate),
    /// Client role: SUBACK.
    Subscribed(Suback<'a>),
    /// Client role: UNSUBACK.
    Unsubscribed(Unsuback<'a>),
    /// A slot of [`Outbox::every`](crate::Outbox::every); it comes also while the link is offline.
    Due(Due),
    /// Server role: a connection is there, with TLS if the listener has it; nothing of MQTT has been read.
    Accepted(Accepted<'a>),
    /// Server role: CONNECT, with the client's will and all its properties. To be answered with `accept` or `refuse`, now or
    /// within `Limits::accept_timeout`; reading pauses meanwhile. What of it is needed later, the will among it, is the
    /// application's to keep.
    Connect(Connect<'a>),
    /// Server role: SUBSCRIBE, to be answered with `suback`.
    Subscribe(Subscribe<'a>),
    /// Server role: UNSUBSCRIBE, to be answered with `unsuback`.
    Unsubscribe(Unsubscribe<'a>),
    /// A PUBLISH has arrived. Its PUBACK or PUBREC is sent after the handler has returned, unless the handler takes it
    /// over with [`Outbox::hold_ack`](crate::Outbox::hold_ack). One at QoS 2 that comes again while it is not released is
    /// acknowledged without this event.
    Message(Message<'a>),
    /// AUTH, a step of an authentication whose method CONNECT has named (v5 section 4.12). To be answered with
    /// [`Outbox::auth`](crate::Outbox::auth), or by a server with `accept` or `refuse`. Data that needs no answer, of a
    /// CONNACK, is in its properties.
    Auth(Auth<'a>),
    /// A command of an [`EngineHandle`](crate::EngineHandle) could not be carried out.
    Rejected(Rejected),
    /// After a verb answered `Full`: there is room again.
    Writable,
    /// A connection that was up, for a server since `Accepted`, has ended. A server link is gone after this; a client
    /// link stays until it is closed.
    Disconnected(Disconnected),
}

/// See [`Event::Connected`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected<'a> {
    /// The server has kept session state (v5 [MQTT-3.2.2-2]).
    pub session_present: bool,
    /// The protocol version of the connection.
    pub version: Version,
    /// The CONNACK's properties; empty in 3.1.1.
    pub properties: Properties<'a>,
    /// What the TLS handshake agreed on.
    pub tls: Option<&'a TlsInfo>,
    /// When this attempt was due: its slot in the connect rate, or the end of its backoff.
    pub scheduled: Instant,
    /// The address that answered.
    pub peer: SocketAddr,
}

/// See [`Event::Accepted`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<'a> {
    /// The client's address.
    pub peer: SocketAddr,
    /// What the TLS handshake agreed on.
    pub tls: Option<&'a TlsInfo>,
    /// Which listener, in the order in which they were given to the builder.
    pub listener: usize,
}

/// See [`Event::Acked`] and [`Event::Refused`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ack {
    /// The publish's token.
    pub token: u64,
    /// The identifier it had on the wire.
    pub packet_id: PacketId,
    /// The publish's intended time.
    pub intended: Instant,
    /// When it was sent, the last time.
    pub sent: Instant,
    /// The reason code of the PUBACK, PUBREC or PUBCOMP; success in 3.1.1. A PUBCOMP may say 0x92: the receiver has
    /// forgotten the exchange, which it may once it has the message.
    pub reason: ReasonCode,
}

/// See [`Event::Dropped`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Dropped {
    /// The publish's token.
    pub token: u64,
    /// The publish's intended time.
    pub intended: Instant,
    /// Why.
    pub why: DropReason,
}

/// Why an accepted publish was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The connection ended first, and the session with it.
    ConnectionLost,
    /// The session was to be resumed, and the server has not kept it, or the link has taken another name.
    SessionLost,
    /// The session was to be resumed, and no connection came within its Session Expiry Interval: that of CONNECT, or of the
    /// server's CONNACK, or of the link's last DISCONNECT (v5 sections 3.1.2.11.2, 3.2.2.3.2, 3.14.2.2.2).
    SessionExpired,
    /// The application closed the link or shut the engine down.
    Closed,
    /// A publish command of an [`EngineHandle`](crate::EngineHandle) was not accepted by the link, or a publish that was to
    /// be sent again in a resumed session by the server: its limits are others now.
    NotAccepted(PublishError),
}

/// See [`Event::Rejected`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rejected {
    /// Which verb.
    pub verb: &'static str,
    /// Why.
    pub error: VerbError,
}

/// See [`Event::AcksLate`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AcksLate {
    /// Age of the oldest unacknowledged publish.
    pub oldest: Duration,
    /// How many are unacknowledged.
    pub in_flight: usize,
}

/// See [`Event::Due`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Due {
    /// The slot's number, from 0.
    pub seq: u64,
    /// The slot's time: first + seq * period. It never moves.
    pub intended: Instant,
    /// How many slots before this one were passed over because the shard came a whole period late.
    pub missed: u64,
}

/// A received PUBLISH, borrowed from the block that the network was read into. It derefs to the packet: topic, payload, QoS,
/// RETAIN, DUP, packet identifier and properties, of a client with the
/// [Subscription Identifiers](Properties::subscription_identifiers) of its subscriptions that match.
#[derive(Debug)]
pub struct Message<'a> {
    publish: Publish<'a>,
    block: &'a Block,
    link: LinkId,
    taken: &'a Taken,
}

/// What the application has taken over of a message.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Nobody but the application will acknowledge it.
    pub(crate) held: Cell<bool>,
    /// Its payload was kept.
    pub(crate) kept: Cell<bool>,
}

impl Taken {
    /// Nothing, of a message at that QoS: at QoS 0 there is no acknowledgement.
    pub(crate) fn new(qos: QoS) -> Self {
        Self {
            held: Cell::new(qos == QoS::AtMostOnce),
            kept: Cell::new(false),
        }
    }
}

impl<'a> Message<'a> {
    pub(crate) fn new(publish: Publish<'a>, block: &'a Block, link: LinkId, taken: &'a Taken) -> Self {
        Self {
            publish,
            block,
            link,
            taken,
        }
    }

    pub(crate) fn link(&self) -> LinkId {
        self.link
    }

    /// Takes its acknowledgement over; false if there is none, or if that was done before.
    pub(crate) fn hold(&self) -> bool {
        !self.taken.held.replace(true)
    }

    /// The packet, for as long as the event lasts.
    pub fn publish(&self) -> &Publish<'a> {
        &self.publish
    }

    /// Keeps the payload beyond the event, without copying it: the bytes stay in the block that they were received
    /// into. Past `Limits::retained_bytes_max`, and for small payloads in big blocks, it is copied instead.
    pub fn retain(&self) -> Bytes {
        self.taken.kept.set(true);
        self.block.keep(self.publish.payload)
    }
}

impl<'a> Deref for Message<'a> {
    type Target = Publish<'a>;

    fn deref(&self) -> &Publish<'a> {
        &self.publish
    }
}
