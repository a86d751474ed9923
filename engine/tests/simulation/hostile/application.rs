//! An application that calls any verb on any link at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fleetwire_codec::{
    Carrier, Properties, PropertiesBuf, Property, QoS, ReasonCode, SubscriptionOptions, TopicFilter,
    TopicName,
};
use fleetwire_engine::{
    AckTicket, At, Dial, DialError, DropReason, Event, Handler, LinkId, Outbox, Plan, Publish, PublishError,
    Shard, VerbError, WillForm,
};

use super::WITNESS;
use crate::seeds::{self, Tally};

/// Links that it still names long after they are gone.
const KNOWN_MAX: usize = 30;
/// Client links that it keeps open.
const LINKS: usize = 4;

pub(super) struct Application {
    /// As a client.
    plan: Option<Plan>,
    random: fastrand::Rng,
    known: Vec<LinkId>,
    tickets: Vec<AckTicket>,
    kept: Vec<Bytes>,
    /// Publishes that have not ended, by token.
    pending: BTreeMap<u64, LinkId>,
    next_token: u64,
    calm: Arc<AtomicBool>,
    tally: Tally,
}

impl Application {
    pub(super) fn new(plan: Option<Plan>, random: &mut fastrand::Rng, calm: &Arc<AtomicBool>) -> Self {
        Self {
            plan,
            random: fastrand::Rng::with_seed(random.u64(..)),
            known: Vec::new(),
            tickets: Vec::new(),
            kept: Vec::new(),
            pending: BTreeMap::new(),
            next_token: 1,
            calm: Arc::clone(calm),
            tally: Tally::default(),
        }
    }

    /// Everything has ended.
    pub(super) fn settle(&self, tally: &mut Tally) {
        assert!(self.pending.is_empty(), "never completed: {:?}", self.pending);
        tally.merge(&self.tally);
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn know(&mut self, link: LinkId) {
        if self.known.len() == KNOWN_MAX {
            self.known.remove(self.random.usize(0..KNOWN_MAX));
        }
        self.known.push(link);
    }

    fn open(&mut self, out: &mut Outbox<'_>) {
        let plan = self.plan.as_ref().expect("it is a client");
        let link = out.open(plan, self.random.u64(..)).unwrap();
        out.every(link, out.now(), Duration::from_millis(100)).unwrap();
        self.know(link);
    }

    fn note<T>(&mut self, answer: Result<T, VerbError>) {
        let Err(error) = answer else { return };
        self.tally.hit(match error {
            VerbError::Full => "Full",
            VerbError::Offline => "Offline",
            VerbError::TooLarge => "TooLarge",
            VerbError::NoSuchLink => "NoSuchLink",
            VerbError::Invalid => "Invalid",
            VerbError::Stale => "Stale",
            VerbError::NotHeld => "NotHeld",
            _ => "another error",
        });
    }

    fn publish(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        let len = [0, 10, 1000, 20_000, 70_000, 65_535][self.random.usize(0..6)];
        let (long, payload) = ("t".repeat(len.clamp(1, 65_535)), vec![7; len]);
        let topic = match self.random.u8(0..10) {
            0 => long.as_str(),
            _ => "topic",
        };
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.random.usize(0..3)];
        let properties = [
            Property::UserProperty(("a", "b")),
            Property::MessageExpiryInterval(0),
            Property::SubscriptionIdentifier(1),
            Property::SubscriptionIdentifier(268_435_455),
            Property::TopicAlias(1),
        ];
        let properties =
            PropertiesBuf::of(Carrier::Publish, &properties[..self.random.usize(0..=5)]).unwrap();
        let publish = Publish::new(TopicName::new(topic).unwrap(), &payload)
            .qos(qos)
            .retain(self.random.bool())
            .aliased(self.random.bool())
            .properties(properties.as_properties())
            .token(self.next_token);
        match out.publish(link, publish) {
            Ok(packet_id) => {
                assert_eq!(packet_id.is_some(), qos != QoS::AtMostOnce);
                if packet_id.is_some() {
                    self.pending.insert(self.next_token, link);
                    self.next_token += 1;
                }
            }
            Err(PublishError::Full) => self.tally.hit("Full"),
            Err(PublishError::TooLarge) => self.tally.hit("TooLarge"),
            Err(PublishError::Offline) => self.tally.hit("Offline"),
            Err(_) => {}
        }
    }

    /// Any verb, on any link that it has ever known.
    fn meddle(&mut self, out: &mut Outbox<'_>) {
        if self.known.is_empty() {
            return;
        }
        let link = self.known[self.random.usize(0..self.known.len())];
        let filter = TopicFilter::new("a/+/#").unwrap();
        let reason = [
            ReasonCode::Success,
            ReasonCode::ServerBusy,
            ReasonCode::GrantedQoS1,
            ReasonCode::ContinueAuthentication,
            ReasonCode::SessionTakenOver,
        ][self.random.usize(0..5)];
        let wrong = PropertiesBuf::of(Carrier::Publish, &[Property::TopicAlias(7)]).unwrap();
        let properties = [Properties::EMPTY, wrong.as_properties()][self.random.usize(0..2)];
        let id = fleetwire_codec::PacketId::new(self.random.u16(1..20)).unwrap();
        let count = self.random.usize(0..3);
        match self.random.u8(0..26) {
            0..8 => self.publish(link, out),
            8 if self.random.bool() => {
                let identified =
                    PropertiesBuf::of(Carrier::Subscribe, &[Property::SubscriptionIdentifier(1)]).unwrap();
                let properties = [properties, identified.as_properties()][self.random.usize(0..2)];
                let options = SubscriptionOptions {
                    no_local: self.random.bool(),
                    ..SubscriptionOptions::new(QoS::ExactlyOnce)
                };
                let shared = TopicFilter::new("$share/a/+/#").unwrap();
                let filters = [(filter, options), (shared, options)];
                let answer = out.subscribe_with(link, &filters[..count], properties);
                self.note(answer);
            }
            8 => {
                let filters = [(filter, QoS::ExactlyOnce); 3];
                let answer = out.subscribe(link, &filters[..count]);
                self.note(answer);
            }
            9 => {
                let answer = out.unsubscribe(link, &[filter; 3][..count]);
                self.note(answer);
            }
            10 => {
                let answer = out.accept(link, self.random.bool(), properties, self.random.u16(0..3));
                self.note(answer);
            }
            11 => {
                if let Some(state) = out.take_session(link) {
                    // What was taken has no other end, and the link cannot have it back.
                    self.tally.hit("a session is thrown away");
                    self.pending.retain(|_, of| *of != link);
                    assert!(out.accept_session(link, Some(state), properties, 1).is_err());
                }
                let answer = out.accept_session(link, None, properties, 1);
                self.note(answer.map_err(|(error, _)| error));
            }
            12 if self.random.u8(0..4) == 0 => out.refuse(link, reason),
            13 => {
                let answer = out.auth(link, reason, properties);
                self.note(answer);
            }
            14 => {
                let codes = [0, 0x80, 0xff];
                let answer = out.suback(link, id, &codes[..count]);
                self.note(answer);
                let answer = out.unsuback(link, id, &codes[..count]);
                self.note(answer);
            }
            15 => {
                let (first, period) = [
                    (out.now(), Duration::ZERO),
                    (out.now(), Duration::MAX),
                    (out.phase(Duration::MAX), Duration::from_nanos(1)),
                    (out.phase(Duration::from_secs(1)), Duration::from_millis(300)),
                ][self.random.usize(0..4)];
                let answer = out.every(link, first, period);
                self.note(answer);
            }
            16 => out.cancel_schedule(link),
            17 if self.random.u8(0..4) == 0 => out.close(link),
            18 if self.random.u8(0..4) == 0 => {
                let secs = [0, 1, u32::MAX][self.random.usize(0..3)];
                let expiry =
                    PropertiesBuf::of(Carrier::Disconnect, &[Property::SessionExpiryInterval(secs)]).unwrap();
                let properties = [properties, expiry.as_properties()][self.random.usize(0..2)];
                for _ in 0..=count {
                    out.disconnect(link, reason, properties);
                }
            }
            19 if self.random.u8(0..4) == 0 => out.abort(link),
            20 => out.pause_reading(link),
            21 | 22 => out.resume_reading(link),
            23 => out.set_token(link, self.random.u64(..)),
            _ if !self.tickets.is_empty() => {
                let ticket = self.tickets[self.random.usize(0..self.tickets.len())];
                let answer = out.ack_with(ticket, reason);
                self.note(answer);
            }
            _ => {}
        }
    }

    fn complete(&mut self, token: u64) {
        assert!(
            self.pending.remove(&token).is_some(),
            "a completion of {token}, which is not pending"
        );
    }
}

fn will(topic: TopicName<'_>, carrier: Carrier, property: Property<'_>) -> WillForm {
    WillForm::new(topic, &[0; 65_535]).properties(PropertiesBuf::of(carrier, &[property]).unwrap())
}

impl Handler for Application {
    fn on_dial(&mut self, _: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        if self.random.u8(0..20) == 0 {
            return Err(DialError::new("not today"));
        }
        let version = [fleetwire_codec::Version::V311, fleetwire_codec::Version::V5][self.random.usize(0..2)];
        let keep_alive = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX][self.random.usize(0..3)];
        let expiry = [Duration::ZERO, Duration::from_secs(1), Duration::MAX][self.random.usize(0..3)];
        dial.client_id("application")
            .version(version)
            .keep_alive(keep_alive)
            .clean_start(self.random.bool())
            .session_expiry(expiry);
        let topic = TopicName::new("will").unwrap();
        match self.random.u8(0..20) {
            0 => dial.will(topic, b"", QoS::ExactlyOnce, true),
            // Of a will, of something else, and with a topic that stands for none.
            1 => dial.will_form(will(topic, Carrier::Will, Property::WillDelayInterval(u32::MAX))),
            2 => dial.will_form(will(topic, Carrier::Connack, Property::ServerKeepAlive(0))),
            3 => dial.will_form(WillForm::new(TopicName::ALIASED, &[0; 65_536])),
            _ => dial,
        };
        Ok(())
    }

    fn on_turn(&mut self, _: std::time::Instant, out: &mut Outbox<'_>) {
        if self.is_calm() {
            return;
        }
        if self.plan.is_some() && (self.known.len() < LINKS || self.random.u8(0..50) == 0) {
            self.open(out);
        }
        if self.random.u8(0..3) == 0 {
            self.meddle(out);
        }
        if self.random.u8(0..20) == 0 {
            self.kept.clear();
        }
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if seeds::is_replay() {
            println!("{} {}: {event:?}", at.link, at.epoch);
        }
        match &event {
            Event::Acked(ack) => {
                self.tally.hit("Acked");
                self.complete(ack.token);
            }
            Event::Refused(ack) => {
                self.tally.hit("Refused");
                self.complete(ack.token);
            }
            Event::Dropped(dropped) => {
                self.tally.hit("Dropped");
                if dropped.why == DropReason::SessionExpired {
                    self.tally.hit("session expired");
                }
                self.complete(dropped.token);
            }
            Event::Connect(connect) if connect.client_id == WITNESS => {
                return out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
            }
            Event::Connect(connect) => {
                self.know(at.link);
                if self.random.u8(0..4) > 0 {
                    let answer =
                        out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs.min(2));
                    self.note(answer);
                    let _ = out.every(at.link, at.now, Duration::from_millis(100));
                }
            }
            Event::Message(message) => {
                self.tally.hit("Message");
                if self.known.contains(&at.link) {
                    match self.random.u8(0..4) {
                        0 => self.tickets.extend(out.hold_ack(message)),
                        1 if !self.is_calm() => self.kept.push(message.retain()),
                        _ => {}
                    }
                }
            }
            Event::Subscribe(subscribe) => {
                let codes: Vec<u8> = subscribe.filters.iter().map(|_| 1).collect();
                let answer = out.suback(at.link, subscribe.packet_id, &codes);
                self.note(answer);
            }
            Event::Failed(failure) => self.tally.hit(failure.slug.as_str()),
            Event::Disconnected(end) => self.tally.hit(end.slug.as_str()),
            _ => {}
        }
        if self.tickets.len() > 100 {
            self.tickets.drain(..50);
        }
        if !self.is_calm() && self.random.bool() {
            self.meddle(out);
        }
        if self.is_calm() {
            self.kept.clear();
        }
    }

    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        if self.plan.is_some() {
            self.open(out);
        }
    }
}
