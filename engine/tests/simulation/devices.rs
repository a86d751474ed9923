//! The client side: devices that publish, break off, come back and change their minds.

use std::time::{Duration, Instant};

use fleetwire_codec::{Properties, QoS, ReasonCode, TopicFilter, Version};
use fleetwire_engine::{
    At, Dial, DialError, DropReason, Event, Handler, LinkId, Outbox, Plan, PublishError, Shard, VerbError,
};

use super::ledger::Stream;
use super::scene::Scene;
use super::seeds::{self, Tally};

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) link: LinkId,
    /// How many links came before this one; each has a session, and so a client identifier, of its own.
    generation: u32,
    pub(crate) up: bool,
    /// A verb answered `Full` then, and `Writable` has not come.
    full_since: Option<Instant>,
    subscribing: usize,
    paused: bool,
}

/// See the module.
pub(crate) struct Devices {
    scene: Scene,
    plan: Plan,
    random: fastrand::Rng,
    pub(crate) devices: Vec<Device>,
    pub(crate) tally: Tally,
}

impl Devices {
    pub(crate) fn new(scene: &Scene, plan: Plan, seed: u64) -> Self {
        Self {
            scene: scene.clone(),
            plan,
            random: fastrand::Rng::with_seed(seed),
            devices: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// What the devices still wait for; empty when all is well.
    pub(crate) fn unrest(&mut self) -> Vec<String> {
        let waits = self.devices.iter().enumerate().filter(|(_, device)| {
            !device.up || device.full_since.is_some() || device.subscribing > 0 || device.paused
        });
        waits
            .map(|(index, device)| format!("{index}: {device:?}"))
            .collect()
    }

    fn open(&mut self, index: usize, out: &mut Outbox<'_>) {
        let Ok(link) = out.open(&self.plan, index as u64) else {
            assert!(out.open(&self.plan, 0).is_err(), "it is refused for good");
            return;
        };
        let first = out.now() + self.scene.habits.period.mul_f64(self.random.f64());
        out.every(link, first, self.scene.habits.period).unwrap();
        let generation = self.devices.get(index).map_or(0, |device| device.generation + 1);
        let device = Device {
            link,
            generation,
            up: false,
            full_since: None,
            subscribing: 0,
            paused: false,
        };
        match self.devices.get_mut(index) {
            Some(place) => *place = device,
            None => self.devices.push(device),
        }
    }

    /// The link is closed, and another one takes its place.
    fn replace(&mut self, index: usize, out: &mut Outbox<'_>) {
        out.close(self.devices[index].link);
        self.tally.hit("link replaced");
        self.open(index, out);
    }

    fn publish(&mut self, index: usize, out: &mut Outbox<'_>) {
        for _ in 0..self.random.usize(1..=4) {
            let qos = match self.random.u8(0..=self.scene.habits.qos_max as u8) {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let stream = Stream {
                device: index as u32,
                topic: self.random.u8(0..3),
                qos,
            };
            let len = match self.random.u8(0..10) {
                0 => self.scene.habits.payload_max,
                1 | 2 => self.random.usize(0..=self.scene.habits.payload_max),
                _ => self.random.usize(0..100),
            };
            let link = self.devices[index].link;
            let published = self
                .scene
                .up
                .lock()
                .unwrap()
                .publish(out, link, &link.to_string(), stream, len);
            self.verb(index, published, out);
        }
    }

    fn verb(&mut self, index: usize, result: Result<(), PublishError>, out: &Outbox<'_>) {
        let device = &mut self.devices[index];
        match result {
            Ok(()) => {}
            Err(PublishError::Full) => {
                self.tally.hit("publish: Full");
                device.full_since.get_or_insert_with(|| out.now());
            }
            Err(PublishError::Offline) => self.tally.hit("publish: Offline"),
            Err(PublishError::TooLarge) => self.tally.hit("publish: TooLarge"),
            Err(error) => panic!("publish: {error:?}"),
        }
    }

    fn misbehave(&mut self, index: usize, out: &mut Outbox<'_>) {
        let link = self.devices[index].link;
        match self.random.u8(0..7) {
            0 => {
                self.tally.hit("device: abort");
                out.abort(link);
            }
            1 => {
                self.tally.hit("device: disconnect");
                out.disconnect(link, ReasonCode::NORMAL_DISCONNECTION, Properties::EMPTY);
            }
            2 => self.replace(index, out),
            3 | 4 => {
                self.tally.hit("device: pause");
                self.devices[index].paused = true;
                out.pause_reading(link);
            }
            5 => {
                let filter = TopicFilter::new("some/+/filter/#").unwrap();
                match out.subscribe(link, &[(filter, QoS::AtLeastOnce)]) {
                    Ok(_) => self.devices[index].subscribing += 1,
                    Err(VerbError::Full) => {
                        self.devices[index].full_since.get_or_insert_with(|| out.now());
                    }
                    Err(VerbError::Offline) => {}
                    Err(error) => panic!("subscribe: {error:?}"),
                }
            }
            _ => {
                let filter = TopicFilter::new("some/+/filter/#").unwrap();
                match out.unsubscribe(link, &[filter]) {
                    Ok(_) => self.devices[index].subscribing += 1,
                    Err(VerbError::Full) => {
                        self.devices[index].full_since.get_or_insert_with(|| out.now());
                    }
                    Err(VerbError::Offline) => {}
                    Err(error) => panic!("unsubscribe: {error:?}"),
                }
            }
        }
    }

    fn ended(&mut self, index: usize, gave_up: bool, out: &mut Outbox<'_>) {
        let device = &mut self.devices[index];
        device.up = false;
        device.full_since = None;
        device.subscribing = 0;
        if gave_up {
            self.replace(index, out);
        }
    }
}

impl Handler for Devices {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        for index in 0..self.scene.habits.devices as usize {
            self.open(index, out);
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        if !self.scene.is_calm() && self.random.f64() < 0.02 {
            self.tally.hit("dial refused");
            return Err(DialError::new("not today"));
        }
        let version = if at.token.is_multiple_of(2) {
            Version::V5
        } else {
            Version::V311
        };
        let generation = self.devices[at.token as usize].generation;
        dial.client_id(&format!("{}.{generation}", at.token))
            .version(version)
            .keep_alive(self.scene.habits.keep_alive);
        if self.scene.habits.keeps_sessions {
            // Some sessions expire before their server is back.
            let expiry_secs = [1, 10, 3600][at.token as usize % 3];
            dial.clean_start(false)
                .session_expiry(Duration::from_secs(expiry_secs));
        }
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if seeds::is_replay() && !matches!(event, Event::Message(_) | Event::Acked(_) | Event::Due(_)) {
            println!("device {} {}: {event:?}", at.link, at.epoch);
        }
        // Completions count whatever has become of their link.
        match &event {
            Event::Acked(ack) => return self.scene.up.lock().unwrap().acked(&at.link.to_string(), ack),
            Event::Refused(ack) => return self.scene.up.lock().unwrap().refused(ack),
            Event::Dropped(dropped) => {
                match dropped.why {
                    DropReason::NotAccepted(_) => self.tally.hit("command dropped"),
                    DropReason::SessionExpired => self.tally.hit("session expired"),
                    _ => {}
                }
                return self.scene.up.lock().unwrap().dropped(dropped.token);
            }
            _ => {}
        }
        let index = at.token as usize;
        // The last words of a link that was replaced.
        if self
            .devices
            .get(index)
            .is_none_or(|device| device.link != at.link)
        {
            assert!(
                matches!(
                    event,
                    Event::Disconnected(_) | Event::Failed(_) | Event::Rejected(_)
                ),
                "{at:?}: {event:?} of a link that was closed"
            );
            return;
        }
        match event {
            Event::Connected(connected) => {
                if connected.session_present {
                    self.tally.hit("session present");
                }
                assert!(!self.devices[index].up, "connected twice");
                self.devices[index].up = true;
                self.tally.hit("device connected");
            }
            Event::Due(due) => {
                assert!(due.intended <= at.now);
                self.tally.add("slots missed", due.missed);
                if self.devices[index].paused && (self.scene.is_calm() || self.random.u8(0..3) == 0) {
                    self.devices[index].paused = false;
                    out.resume_reading(at.link);
                }
                // Whoever keeps payloads keeps blocks, and without blocks nothing is read.
                for ledger in [&self.scene.up, &self.scene.down] {
                    ledger.lock().unwrap().let_go(self.random.usize(0..16));
                }
                if self.scene.is_calm() {
                    return;
                }
                self.publish(index, out);
                if self.random.f64() < self.scene.habits.mischief {
                    self.misbehave(index, out);
                }
            }
            Event::Message(message) => {
                assert!(self.devices[index].up);
                let keep = !self.scene.is_calm() && self.random.u8(0..4) == 0;
                let mut down = self.scene.down.lock().unwrap();
                let stream = down.receive(&message, keep);
                down.let_go(self.random.usize(0..16));
                assert_eq!(stream.device as usize, index, "somebody else's message");
            }
            Event::Writable => {
                // It may have been a command that found no room.
                let full = self.devices[index].full_since.take();
                self.tally.add("Writable", u64::from(full.is_some()));
            }
            Event::Subscribed(_) | Event::Unsubscribed(_) => {
                self.tally.hit("subscription answered");
                self.devices[index].subscribing -= 1;
            }
            Event::AcksLate(late) => {
                assert!(late.in_flight > 0);
                self.tally.hit("acknowledgements late");
            }
            Event::Failed(failure) => {
                assert!(!self.devices[index].up, "a failed attempt of a link that is up");
                self.tally.hit(failure.slug.as_str());
                self.ended(index, failure.retry_in.is_none(), out);
            }
            Event::Disconnected(end) => {
                assert!(self.devices[index].up, "a disconnect of a link that was not up");
                self.tally.hit(end.slug.as_str());
                self.ended(index, end.retry_in.is_none(), out);
            }
            Event::Rejected(rejected) => panic!("{rejected:?}"),
            _ => {}
        }
    }
}
