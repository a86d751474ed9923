//! Events as owned values.

use std::time::Instant;

use bytes::Bytes;
use fleetwire_codec::{Carrier, PacketId, Properties, PropertiesBuf, Publish, QoS, TopicNameBuf, Version};

use crate::publish::lend_properties;
use crate::{Ack, AckTicket, AcksLate, At, Disconnected, Dropped, Event, Failure, Message, Rejected};

/// An event with where and when it happened.
#[derive(Clone, Debug)]
pub struct OwnedEvent {
    /// Where and when.
    pub at: At,
    /// What.
    pub kind: OwnedKind,
}

/// [`Event`], owned; without those of the server role and of schedules.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OwnedKind {
    /// See [`Event::Connected`].
    Connected {
        /// The protocol version.
        version: Version,
        /// The server has kept the session.
        session_present: bool,
        /// When the attempt was due.
        scheduled: Instant,
        /// The ALPN name that was negotiated.
        alpn: Option<Box<[u8]>>,
        /// The CONNACK's properties; empty in 3.1.1.
        properties: PropertiesBuf,
    },
    /// See [`Event::Failed`].
    Failed(Failure),
    /// See [`Event::Acked`].
    Acked(Ack),
    /// See [`Event::Refused`].
    Refused(Ack),
    /// See [`Event::Dropped`].
    Dropped(Dropped),
    /// See [`Event::AcksLate`].
    AcksLate(AcksLate),
    /// See [`Event::Subscribed`].
    Subscribed {
        /// The SUBSCRIBE's identifier.
        packet_id: PacketId,
        /// One code for each filter, as on the wire.
        codes: Vec<u8>,
        /// The SUBACK's properties; empty in 3.1.1.
        properties: PropertiesBuf,
    },
    /// See [`Event::Unsubscribed`].
    Unsubscribed {
        /// The UNSUBSCRIBE's identifier.
        packet_id: PacketId,
        /// One code for each filter, as on the wire; none in 3.1.1.
        codes: Vec<u8>,
        /// The UNSUBACK's properties; empty in 3.1.1.
        properties: PropertiesBuf,
    },
    /// See [`Event::Message`].
    Message(OwnedMessage),
    /// See [`Event::Rejected`].
    Rejected(Rejected),
    /// See [`Event::Writable`].
    Writable,
    /// See [`Event::Disconnected`].
    Disconnected(Disconnected),
}

/// A received message. The payload still lies in the block that it was received into, unless it was small.
///
/// It has all that a handler sees of a message: [`publish`](Self::publish) lends it as the packet that it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OwnedMessage {
    /// The topic, also of a message that came with a Topic Alias in its stead.
    pub topic: TopicNameBuf,
    /// The payload.
    pub payload: Bytes,
    /// At which quality of service it came.
    pub qos: QoS,
    /// Whether it is a retained one.
    pub retain: bool,
    /// Whether it may be a second delivery.
    pub dup: bool,
    /// The identifier that it had on the wire; none at QoS 0.
    pub packet_id: Option<PacketId>,
    /// What acknowledges it, if that is the application's to do: see
    /// [`start_channel_holding_acks`](crate::EngineBuilder::start_channel_holding_acks).
    pub ticket: Option<AckTicket>,
    /// In a box, because few messages have any, and many may wait.
    properties: Option<Box<PropertiesBuf>>,
}

impl OwnedMessage {
    fn new(message: &Message<'_>, ticket: Option<AckTicket>) -> Self {
        Self {
            topic: message.topic.into(),
            payload: message.retain(),
            qos: message.qos,
            retain: message.retain,
            dup: message.dup,
            packet_id: message.packet_id,
            ticket,
            properties: (!message.properties.is_empty())
                .then(|| Box::new(copied(Carrier::Publish, message.properties))),
        }
    }

    /// The PUBLISH's properties, its Subscription Identifiers and User Properties among them; empty in 3.1.1.
    pub fn properties(&self) -> Properties<'_> {
        lend_properties(self.properties.as_deref())
    }

    /// The packet, as [`Message::publish`] shows it to a handler.
    pub fn publish(&self) -> Publish<'_> {
        Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.as_topic_name(),
            packet_id: self.packet_id,
            properties: self.properties(),
            payload: &self.payload,
        }
    }
}

pub(super) fn owned(event: Event<'_>, ticket: Option<AckTicket>) -> Option<OwnedKind> {
    Some(match event {
        Event::Connected(connected) => OwnedKind::Connected {
            version: connected.version,
            session_present: connected.session_present,
            scheduled: connected.scheduled,
            alpn: connected.tls.and_then(|tls| tls.alpn.clone()),
            properties: copied(Carrier::Connack, connected.properties),
        },
        Event::Failed(failure) => OwnedKind::Failed(failure),
        Event::Acked(ack) => OwnedKind::Acked(ack),
        Event::Refused(ack) => OwnedKind::Refused(ack),
        Event::Dropped(dropped) => OwnedKind::Dropped(dropped),
        Event::AcksLate(late) => OwnedKind::AcksLate(late),
        Event::Subscribed(suback) => OwnedKind::Subscribed {
            packet_id: suback.packet_id,
            codes: suback.codes.to_vec(),
            properties: copied(Carrier::Suback, suback.properties),
        },
        Event::Unsubscribed(unsuback) => OwnedKind::Unsubscribed {
            packet_id: unsuback.packet_id,
            codes: unsuback.codes.to_vec(),
            properties: copied(Carrier::Unsuback, unsuback.properties),
        },
        Event::Message(message) => OwnedKind::Message(OwnedMessage::new(&message, ticket)),
        Event::Rejected(rejected) => OwnedKind::Rejected(rejected),
        Event::Writable => OwnedKind::Writable,
        Event::Disconnected(disconnected) => OwnedKind::Disconnected(disconnected),
        // Schedules and the server role are for handlers.
        _ => return None,
    })
}

/// They were checked when they came in that packet.
fn copied(carrier: Carrier, properties: Properties<'_>) -> PropertiesBuf {
    PropertiesBuf::copy_of(carrier, properties).unwrap_or_else(|_| PropertiesBuf::new(carrier))
}
