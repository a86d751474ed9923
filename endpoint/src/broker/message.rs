use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetwire_codec::{Carrier, Properties, PropertiesBuf, Property, QoS, TopicName, TopicNameBuf, Will};

use crate::broker::outlet::{Incoming, Outgoing};

/// A message that outlives the call that brought it: it waits for a subscriber, is retained, or is a will. All who hold
/// it share one.
#[derive(Debug)]
pub(crate) struct Message {
    topic: TopicNameBuf,
    payload: Bytes,
    properties: PropertiesBuf,
    /// What it was published with.
    pub(crate) qos: QoS,
    /// What it was published with.
    pub(crate) retain: bool,
    kept_at: Instant,
}

impl Message {
    pub(crate) fn keep(incoming: &Incoming<'_>, now: Instant) -> Self {
        Self {
            topic: incoming.topic.into(),
            payload: (incoming.keep)(),
            properties: copied(incoming.properties),
            qos: incoming.qos,
            retain: incoming.retain,
            kept_at: now,
        }
    }

    /// The payload is copied: it belongs to the CONNECT.
    pub(crate) fn will(will: &Will<'_>, now: Instant) -> Self {
        Self {
            topic: will.topic.into(),
            payload: Bytes::copy_from_slice(will.payload),
            properties: copied(will.properties),
            qos: will.qos,
            retain: will.retain,
            kept_at: now,
        }
    }

    pub(crate) fn topic(&self) -> TopicName<'_> {
        self.topic.as_topic_name()
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(crate) fn properties(&self) -> Properties<'_> {
        self.properties.as_properties()
    }

    /// The message as of a later time: a will is published long after it was made.
    pub(crate) fn published_at(mut self, now: Instant) -> Self {
        self.kept_at = now;
        self
    }

    /// What it counts for in the bounds: its bytes and about what the structures around them take.
    pub(crate) fn cost(&self) -> usize {
        OVERHEAD + self.topic.len() + self.payload.len() + self.properties().as_bytes().len()
    }

    /// Whether its Message Expiry Interval has passed, v5 `[MQTT-3.3.2-5]`.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        let expiry = self.properties().message_expiry_interval();
        expiry.is_some_and(|secs| self.waited(now) >= Duration::from_secs(secs.into()))
    }

    /// Lends the message as it goes to one subscriber. Its Message Expiry Interval is less by the time that it has waited,
    /// v5 `[MQTT-3.3.2-6]`; everything else is as it came.
    pub(crate) fn lend<R>(
        &self,
        now: Instant,
        qos: QoS,
        retain: bool,
        send: impl FnOnce(Outgoing<'_>) -> R,
    ) -> R {
        let waited_secs = u32::try_from(self.waited(now).as_secs()).unwrap_or(u32::MAX);
        let aged;
        let properties = if waited_secs > 0 && self.properties().message_expiry_interval().is_some() {
            aged = copy(self.properties().iter().map(|property| match property {
                Property::MessageExpiryInterval(secs) => {
                    Property::MessageExpiryInterval(secs.saturating_sub(waited_secs))
                }
                other => other,
            }));
            aged.as_properties()
        } else {
            self.properties()
        };
        send(Outgoing {
            topic: self.topic(),
            payload: &self.payload,
            qos,
            retain,
            properties,
        })
    }

    fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.kept_at)
    }
}

/// The properties that a server forwards: those of PUBLISH without the ones that belong to one connection only.
pub(crate) fn copied(properties: Properties<'_>) -> PropertiesBuf {
    copy(properties.iter().filter(|property| {
        !matches!(
            property,
            Property::TopicAlias(_) | Property::SubscriptionIdentifier(_) | Property::WillDelayInterval(_)
        )
    }))
}

fn copy<'a>(properties: impl Iterator<Item = Property<'a>>) -> PropertiesBuf {
    let mut copy = PropertiesBuf::new(Carrier::Publish);
    for property in properties {
        // Cannot fail: it was checked in a PUBLISH, or in a will, which allows the same ones.
        let _ = copy.push(property);
    }
    copy
}

/// About the size of a message and of its place in a queue or map.
const OVERHEAD: usize = 256;
