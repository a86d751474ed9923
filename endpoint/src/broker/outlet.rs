//! What the broker needs from whatever carries its packets.

use bytes::Bytes;
use fleetwire_codec::{PacketId, Properties, QoS, ReasonCode, TopicName};

/// Carries the broker's packets to its clients. None of these calls may call the broker.
pub trait Outlet<K> {
    /// Sends a PUBLISH now, or says why not. It borrows everything and keeps nothing.
    ///
    /// # Errors
    /// [`SendError`].
    fn publish(&mut self, to: K, message: Outgoing<'_>) -> Result<(), SendError>;

    /// Answers a SUBSCRIBE, one code for each of its filters.
    fn suback(&mut self, to: K, packet_id: PacketId, codes: &[u8]);

    /// Answers an UNSUBSCRIBE, one code for each of its filters; 3.1.1 leaves them out.
    fn unsuback(&mut self, to: K, packet_id: PacketId, codes: &[u8]);

    /// Ends a connection: 5.0 with DISCONNECT and this reason, 3.1.1 without a word. The broker has forgotten it already.
    fn disconnect(&mut self, to: K, reason: ReasonCode);
}

/// Why a PUBLISH was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// There is no room now: the message waits until [`Broker::handle_writable`](crate::broker::Broker::handle_writable).
    Full,
    /// The client does not take packets of that size, v5 `[MQTT-3.1.2-24]`: the message is dropped and counted.
    TooLarge,
    /// The connection is ending or cannot take such a message: it is dropped and counted.
    Gone,
}

/// A message on its way to one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The topic that it was published to.
    pub topic: TopicName<'a>,
    /// The payload.
    pub payload: &'a [u8],
    /// The lower of what it was published with and what the subscription was granted.
    pub qos: QoS,
    /// RETAIN as the subscriber has to see it, v5 section 3.3.1.3.
    pub retain: bool,
    /// The publisher's properties in the publisher's order.
    pub properties: Properties<'a>,
}

/// A message as a publisher sent it.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The topic.
    pub topic: TopicName<'a>,
    /// The payload.
    pub payload: &'a [u8],
    /// The quality of service.
    pub qos: QoS,
    /// Whether it replaces the topic's retained message.
    pub retain: bool,
    /// The properties, forwarded unaltered.
    pub properties: Properties<'a>,
    /// Keeps the payload beyond this call; asked at most once, and only if the message has to wait or to be retained.
    pub keep: &'a dyn Fn() -> Bytes,
}
