use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetwire_codec::{
    Carrier, Connect, FiltersBuf, PacketId, Properties, PropertiesBuf, Property, QoS, ReasonCode,
    RetainHandling, Subscribe, SubscriptionOptions, TopicFilter, TopicName, Unsubscribe,
    UnsubscribeFiltersBuf, Version, Will,
};

use super::*;

mod connecting;
mod delivering;
mod retaining;
mod subscribing;

/// A broker, its outlet, and a clock that stands still unless moved.
struct Bench {
    broker: Broker<u32>,
    outlet: Recorder,
    now: Instant,
}

/// What went out, in order, and how much room each connection has.
#[derive(Default)]
struct Recorder {
    sent: Vec<(u32, Sent)>,
    /// Messages that the connection still takes; one that is not here takes all.
    room: HashMap<u32, usize>,
    packet_len_max: HashMap<u32, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    Publish {
        topic: String,
        payload: String,
        qos: u8,
        retain: bool,
        properties: Vec<u8>,
    },
    Suback(Vec<u8>),
    Unsuback(Vec<u8>),
    Disconnect(ReasonCode),
}

impl Outlet<u32> for Recorder {
    fn publish(&mut self, to: u32, message: Outgoing<'_>) -> Result<(), SendError> {
        if self
            .packet_len_max
            .get(&to)
            .is_some_and(|max| message.payload.len() > *max)
        {
            return Err(SendError::TooLarge);
        }
        if let Some(room) = self.room.get_mut(&to) {
            *room = room.checked_sub(1).ok_or(SendError::Full)?;
        }
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        self.sent.push((
            to,
            Sent::Publish {
                topic: message.topic.to_string(),
                payload,
                qos: message.qos.bits(),
                retain: message.retain,
                properties: message.properties.as_bytes().to_vec(),
            },
        ));
        Ok(())
    }

    fn suback(&mut self, to: u32, packet_id: PacketId, codes: &[u8]) {
        assert_eq!(packet_id, PACKET_ID);
        self.sent.push((to, Sent::Suback(codes.to_vec())));
    }

    fn unsuback(&mut self, to: u32, packet_id: PacketId, codes: &[u8]) {
        assert_eq!(packet_id, PACKET_ID);
        self.sent.push((to, Sent::Unsuback(codes.to_vec())));
    }

    fn disconnect(&mut self, to: u32, reason: ReasonCode) {
        self.sent.push((to, Sent::Disconnect(reason)));
    }
}

/// A message to publish.
#[derive(Clone, Copy)]
struct Post<'a> {
    topic: &'a str,
    payload: &'a str,
    qos: QoS,
    retain: bool,
    properties: Properties<'a>,
}

fn post<'a>(topic: &'a str, payload: &'a str) -> Post<'a> {
    Post {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::EMPTY,
    }
}

impl Post<'_> {
    fn at_most_once(self) -> Self {
        Self {
            qos: QoS::AtMostOnce,
            ..self
        }
    }

    fn retained(self) -> Self {
        Self { retain: true, ..self }
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(BrokerLimits::default())
    }

    fn with(limits: BrokerLimits) -> Self {
        Self {
            broker: Broker::new(limits, 7),
            outlet: Recorder::default(),
            now: Instant::now(),
        }
    }

    fn connect(&mut self, key: u32, connect: Connect<'_>) -> Result<Welcome, ReasonCode> {
        self.broker
            .handle_connect(self.now, key, &connect, &mut self.outlet)
    }

    /// Connects clients of 5.0 with these keys, named `client-KEY`.
    fn connect_all(&mut self, keys: impl IntoIterator<Item = u32>) {
        for key in keys {
            let id = format!("client-{key}");
            self.connect(key, hello(&id)).unwrap();
        }
    }

    /// Subscribes and returns the codes of SUBACK.
    fn subscribe_with(&mut self, key: u32, filters: &[(&str, SubscriptionOptions)]) -> Vec<u8> {
        let mut list = FiltersBuf::new();
        for (filter, options) in filters {
            list.push(TopicFilter::new(filter).unwrap(), *options).unwrap();
        }
        let subscribe = Subscribe {
            packet_id: PACKET_ID,
            properties: Properties::EMPTY,
            filters: list.as_filters(),
        };
        let before = self.outlet.sent.len();
        self.broker
            .handle_subscribe(self.now, key, &subscribe, &mut self.outlet);
        // SUBACK comes first, retained messages behind it.
        let (to, Sent::Suback(codes)) = self.outlet.sent.remove(before) else {
            panic!("no SUBACK")
        };
        assert_eq!(to, key);
        codes
    }

    fn subscribe(&mut self, key: u32, filter: &str) {
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        assert_eq!(self.subscribe_with(key, &[(filter, options)]), [1]);
    }

    fn unsubscribe(&mut self, key: u32, filters: &[&str]) {
        let mut list = UnsubscribeFiltersBuf::new();
        for filter in filters {
            list.push(TopicFilter::new(filter).unwrap()).unwrap();
        }
        let unsubscribe = Unsubscribe {
            packet_id: PACKET_ID,
            properties: Properties::EMPTY,
            filters: list.as_filters(),
        };
        self.broker
            .handle_unsubscribe(key, &unsubscribe, &mut self.outlet);
    }

    /// Publishes and returns how often the payload had to be kept.
    fn publish(&mut self, key: u32, post: Post<'_>) -> u32 {
        let kept = Cell::new(0);
        let incoming = Incoming {
            topic: TopicName::new(post.topic).unwrap(),
            payload: post.payload.as_bytes(),
            qos: post.qos,
            retain: post.retain,
            properties: post.properties,
            keep: &|| {
                kept.set(kept.get() + 1);
                Bytes::copy_from_slice(post.payload.as_bytes())
            },
        };
        self.broker
            .handle_publish(self.now, key, &incoming, &mut self.outlet);
        kept.get()
    }

    fn disconnected(&mut self, key: u32, clean: bool) {
        self.broker
            .handle_disconnected(self.now, key, clean, &mut self.outlet);
    }

    fn writable(&mut self, key: u32, room: usize) {
        self.outlet.room.insert(key, room);
        self.broker.handle_writable(self.now, key, &mut self.outlet);
    }

    /// What went out since the last call.
    fn sent(&mut self) -> Vec<(u32, Sent)> {
        std::mem::take(&mut self.outlet.sent)
    }

    /// The payloads that went to a connection since the last call of this or [`sent`](Self::sent).
    fn payloads(&mut self, key: u32) -> Vec<String> {
        let sent = self.sent().into_iter();
        sent.filter(|(to, _)| *to == key)
            .filter_map(|(_, sent)| match sent {
                Sent::Publish { payload, .. } => Some(payload),
                _ => None,
            })
            .collect()
    }

    fn counts(&self) -> BrokerCounts {
        self.broker.counts()
    }
}

/// A CONNECT of 5.0 that asks for nothing.
fn hello(client_id: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_secs: 60,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

fn will<'a>(topic: &'a str, payload: &'a str) -> Will<'a> {
    Will {
        topic: TopicName::new(topic).unwrap(),
        payload: payload.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::EMPTY,
    }
}

/// A PUBLISH as it should have gone out, without properties.
fn publish(to: u32, topic: &str, payload: &str, qos: u8, retain: bool) -> (u32, Sent) {
    let (topic, payload) = (topic.to_owned(), payload.to_owned());
    (
        to,
        Sent::Publish {
            topic,
            payload,
            qos,
            retain,
            properties: Vec::new(),
        },
    )
}

fn properties(carrier: Carrier, list: &[Property<'_>]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new(carrier);
    for property in list {
        properties.push(*property).unwrap();
    }
    properties
}

const PACKET_ID: PacketId = PacketId::MIN;
