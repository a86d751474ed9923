//! A message on its way out.

use std::time::Instant;

use bytes::Bytes;
use fleetwire_codec::{Properties, PropertiesBuf, QoS, TopicName, TopicNameBuf};

use crate::clock::Moment;

/// A message to publish, borrowed: it is encoded within the call.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    pub(crate) topic: TopicName<'a>,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Properties<'a>,
    pub(crate) token: u64,
    pub(crate) intended: Option<Instant>,
    pub(crate) aliased: bool,
}

impl<'a> Publish<'a> {
    /// A message at QoS 0, not retained, without properties, with token 0.
    pub fn new(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Self {
            topic,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::EMPTY,
            token: 0,
            intended: None,
            aliased: false,
        }
    }

    /// The quality of service.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether the server is to keep it for later subscribers.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// MQTT 5.0 properties; left out on a 3.1.1 connection. A server says with one or several Subscription Identifiers which of
    /// the client's subscriptions the message matches (v5 section 3.3.4); of a client they are
    /// [`Invalid`](crate::PublishError::Invalid).
    #[must_use]
    pub fn properties(mut self, properties: Properties<'a>) -> Self {
        self.properties = properties;
        self
    }

    /// Sends the topic as a Topic Alias if the peer takes them (v5 section 3.3.2.3.4): whole the first time, as two bytes from
    /// then on. The first 8 topics of a connection get one. Without aliases in `properties`, which are the engine's.
    #[must_use]
    pub fn aliased(mut self, aliased: bool) -> Self {
        self.aliased = aliased;
        self
    }

    /// Comes back with the publish's completion.
    #[must_use]
    pub fn token(mut self, token: u64) -> Self {
        self.token = token;
        self
    }

    /// When the message was meant to be sent; comes back with its completion, so that latency counts from there.
    /// Without it, it is the moment of the call.
    #[must_use]
    pub fn intended(mut self, intended: Instant) -> Self {
        self.intended = Some(intended);
        self
    }
}

/// A message to publish from another thread: all that a [`Publish`] can say, owned.
#[derive(Clone, Debug)]
pub struct OwnedPublish {
    /// Where to.
    pub topic: TopicNameBuf,
    /// What.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: QoS,
    /// Whether the server is to keep it for later subscribers.
    pub retain: bool,
    /// Comes back with the publish's completion.
    pub token: u64,
    /// See [`Publish::aliased`].
    pub aliased: bool,
    /// In a box, because few messages have any, and many may wait.
    properties: Option<Box<PropertiesBuf>>,
    intended: Option<Moment>,
}

impl OwnedPublish {
    /// A message at QoS 0, not retained, without properties, with token 0.
    pub fn new(topic: TopicNameBuf, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            token: 0,
            aliased: false,
            properties: None,
            intended: None,
        }
    }

    /// The quality of service.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether the server is to keep it for later subscribers.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// MQTT 5.0 properties; left out on a 3.1.1 connection.
    #[must_use]
    pub fn properties(mut self, properties: PropertiesBuf) -> Self {
        self.properties = Some(Box::new(properties));
        self
    }

    /// As [`Publish::aliased`].
    #[must_use]
    pub fn aliased(mut self, aliased: bool) -> Self {
        self.aliased = aliased;
        self
    }

    /// Comes back with the publish's completion.
    #[must_use]
    pub fn token(mut self, token: u64) -> Self {
        self.token = token;
        self
    }

    /// When the message was meant to be sent; comes back with its completion, so that latency counts from there.
    /// Without it, it is the moment at which the shard takes the command.
    #[must_use]
    pub fn intended(mut self, intended: Instant) -> Self {
        self.intended = Some(intended.into());
        self
    }

    /// The same message, borrowed.
    pub fn as_publish(&self) -> Publish<'_> {
        Publish {
            topic: self.topic.as_topic_name(),
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: lend_properties(self.properties.as_deref()),
            token: self.token,
            intended: self.intended.map(Moment::instant),
            aliased: self.aliased,
        }
    }
}

/// What a packet carries whose properties are optional.
pub(crate) fn lend_properties(properties: Option<&PropertiesBuf>) -> Properties<'_> {
    properties.map_or(Properties::EMPTY, PropertiesBuf::as_properties)
}
