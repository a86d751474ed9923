//! The server side: accepts, refuses, delays, takes over, and sends every device messages of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleetwire_codec::{Connect, Properties, QoS, ReasonCode};
use fleetwire_engine::{At, Event, Handler, LinkId, Outbox, PublishError, SessionState, VerbError};

use super::ledger::Stream;
use super::scene::Scene;
use super::seeds::{self, Tally};

#[derive(Debug)]
struct Guest {
    device: Option<u32>,
    client_id: String,
    /// CONNECT is to be answered then, with that keep-alive.
    answer: Option<(Instant, u16)>,
    up: bool,
    paused: bool,
    full: bool,
}

/// See the module.
pub(crate) struct Server {
    scene: Scene,
    random: fastrand::Rng,
    guests: BTreeMap<LinkId, Guest>,
    /// Sessions without a connection, by client identifier.
    sessions: BTreeMap<String, SessionState>,
    at_end: bool,
    pub(crate) tally: Tally,
}

impl Server {
    pub(crate) fn new(scene: &Scene, seed: u64) -> Self {
        Self {
            scene: scene.clone(),
            random: fastrand::Rng::with_seed(seed),
            guests: BTreeMap::new(),
            sessions: BTreeMap::new(),
            at_end: false,
            tally: Tally::default(),
        }
    }

    fn sometimes(&mut self, chance: f64) -> bool {
        !self.scene.is_calm() && self.random.f64() < chance
    }

    /// Sessions without a connection are thrown away, and no more are kept: their messages lie in the shard's buffers.
    pub(crate) fn forget_sessions(&mut self) {
        self.at_end = true;
        for session in std::mem::take(&mut self.sessions).into_keys() {
            self.scene.down.lock().unwrap().forget(&session);
        }
    }

    /// What guests still wait for, and guests that are missing or too many.
    pub(crate) fn unrest(&mut self) -> Vec<String> {
        let waits = self
            .guests
            .iter()
            .filter(|(_, guest)| !guest.up || guest.full || guest.paused);
        let mut unrest: Vec<String> = waits.map(|(link, guest)| format!("{link}: {guest:?}")).collect();
        let devices = self.scene.habits.devices as usize;
        if self.guests.len() != devices {
            unrest.push(format!("{} guests for {devices} devices", self.guests.len()));
        }
        unrest
    }

    fn connect(&mut self, at: At, connect: &Connect<'_>, out: &mut Outbox<'_>) {
        let (client_id, keep_alive_secs) = (connect.client_id, connect.keep_alive_secs);
        let (device, _) = client_id.split_once('.').expect("a client id of ours");
        let device = device.parse().expect("a client id of ours");
        // v5 [MQTT-3.1.4-3]: the newer connection takes the session over.
        let older: Vec<LinkId> = self
            .guests
            .iter()
            .filter(|(_, guest)| guest.device == Some(device))
            .map(|(link, _)| *link)
            .collect();
        for link in older {
            self.tally.hit("taken over");
            self.keep_session(link, out);
            out.disconnect(link, ReasonCode::SessionTakenOver, Properties::EMPTY);
            if let Some(guest) = self.guests.get_mut(&link) {
                guest.device = None;
                guest.answer = None;
            }
        }
        // Sessions of the device's earlier links are of no use to anybody; nor is one that is to begin anew.
        let device_of = |client_id: &str| {
            client_id
                .split_once('.')
                .and_then(|(device, _)| device.parse().ok())
        };
        let forgotten =
            |of: &String| device_of(of) == Some(device) && (of != client_id || connect.clean_start);
        for gone in self
            .sessions
            .keys()
            .filter(|of| forgotten(of))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.sessions.remove(&gone);
            self.scene.down.lock().unwrap().forget(&gone);
        }
        let delay = match self.random.u8(0..4) {
            0 if !self.scene.is_calm() => Duration::from_millis(self.random.u64(0..2000)),
            _ => Duration::ZERO,
        };
        let refuse = self.sometimes(0.03);
        let Some(guest) = self.guests.get_mut(&at.link) else {
            panic!("CONNECT before Accepted");
        };
        guest.device = Some(device);
        client_id.clone_into(&mut guest.client_id);
        if refuse {
            self.tally.hit("server: refuse");
            let reason =
                [ReasonCode::ServerBusy, ReasonCode::ConnectionRateExceeded][self.random.usize(0..2)];
            return out.refuse(at.link, reason);
        }
        if delay.is_zero() {
            self.accept(at.link, keep_alive_secs, out);
        } else {
            self.tally.hit("server: answers later");
            guest.answer = Some((at.now + delay, keep_alive_secs));
            out.every(at.link, at.now + delay, Duration::from_secs(3600))
                .unwrap();
        }
    }

    /// The connection's session is kept for the next one.
    fn keep_session(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        if let Some(guest) = self.guests.get(&link)
            && guest.device.is_some()
            && !self.at_end
            && let Some(state) = out.take_session(link)
        {
            self.sessions.insert(guest.client_id.clone(), state);
        }
    }

    fn accept(&mut self, link: LinkId, keep_alive_secs: u16, out: &mut Outbox<'_>) {
        let Some(guest) = self.guests.get_mut(&link) else {
            return;
        };
        let accepted = if self.scene.habits.keeps_sessions {
            let state = self.sessions.remove(&guest.client_id);
            out.accept_session(link, state, Properties::EMPTY, keep_alive_secs)
                .map_err(|(error, state)| {
                    self.sessions
                        .extend(state.map(|state| (guest.client_id.clone(), state)));
                    error
                })
        } else {
            out.accept(link, false, Properties::EMPTY, keep_alive_secs)
        };
        match accepted {
            Ok(()) => {
                guest.up = true;
                let period = Duration::from_millis(self.random.u64(200..3000));
                out.every(link, out.now() + period, period).unwrap();
            }
            // Without room for a CONNACK there is none; the time-out of the opening says so in the end.
            Err(error) => {
                self.tally.hit("server: no CONNACK");
                assert!(matches!(error, VerbError::Full), "accept: {error:?}");
                out.abort(link);
            }
        }
    }

    /// An answer without room is owed, so the connection has to end.
    fn answered(&mut self, at: At, answer: Result<(), VerbError>, out: &mut Outbox<'_>) {
        if answer.is_err() {
            self.tally.hit("server: no answer");
            out.disconnect(at.link, ReasonCode::QuotaExceeded, Properties::EMPTY);
        }
    }

    fn publish(&mut self, at: At, out: &mut Outbox<'_>) {
        let Some(guest) = self.guests.get(&at.link) else {
            return;
        };
        let (Some(device), session) = (guest.device, guest.client_id.clone()) else {
            return;
        };
        for _ in 0..self.random.usize(1..=5) {
            let qos = match self.random.u8(0..=self.scene.habits.qos_max as u8) {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let stream = Stream {
                device,
                topic: self.random.u8(0..3),
                qos,
            };
            let len = match self.random.u8(0..10) {
                0 => self.scene.habits.payload_max,
                1 | 2 => self.random.usize(0..=self.scene.habits.payload_max),
                _ => self.random.usize(0..100),
            };
            match self
                .scene
                .down
                .lock()
                .unwrap()
                .publish(out, at.link, &session, stream, len)
            {
                Ok(()) | Err(PublishError::TooLarge | PublishError::Offline) => {}
                Err(PublishError::Full) => {
                    self.tally.hit("server publish: Full");
                    if let Some(guest) = self.guests.get_mut(&at.link) {
                        guest.full = true;
                    }
                }
                Err(error) => panic!("publish: {error:?}"),
            }
        }
    }

    fn due(&mut self, at: At, out: &mut Outbox<'_>) {
        let Some(guest) = self.guests.get_mut(&at.link) else {
            panic!("Due of nobody");
        };
        if let Some((_, keep_alive_secs)) = guest.answer.take() {
            return self.accept(at.link, keep_alive_secs, out);
        }
        if guest.paused && (self.scene.is_calm() || self.random.bool()) {
            guest.paused = false;
            out.resume_reading(at.link);
        }
        if self.scene.is_calm() {
            return;
        }
        self.publish(at, out);
        if self.sometimes(self.scene.habits.mischief) {
            match self.random.u8(0..4) {
                0 => out.abort(at.link),
                1 => out.disconnect(at.link, ReasonCode::ServerBusy, Properties::EMPTY),
                2 => out.close(at.link),
                _ => {
                    out.pause_reading(at.link);
                    self.tally.hit("server: pause");
                    if let Some(guest) = self.guests.get_mut(&at.link) {
                        guest.paused = true;
                    }
                }
            }
        }
    }
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if seeds::is_replay() && !matches!(event, Event::Message(_) | Event::Acked(_) | Event::Due(_)) {
            println!("server {} {}: {event:?}", at.link, at.epoch);
        }
        match event {
            Event::Accepted(_) => {
                let guest = Guest {
                    device: None,
                    client_id: String::new(),
                    answer: None,
                    up: false,
                    paused: false,
                    full: false,
                };
                assert!(self.guests.insert(at.link, guest).is_none(), "accepted twice");
            }
            Event::Connect(connect) => self.connect(at, &connect, out),
            Event::Message(message) => {
                assert!(self.guests.get(&at.link).is_some_and(|guest| guest.up));
                let keep = self.sometimes(0.25);
                let mut up = self.scene.up.lock().unwrap();
                up.receive(&message, keep);
                up.let_go(self.random.usize(0..16));
            }
            Event::Subscribe(subscribe) => {
                let codes: Vec<u8> = subscribe.filters.iter().map(|_| 1).collect();
                let answered = out.suback(at.link, subscribe.packet_id, &codes);
                self.answered(at, answered, out);
            }
            Event::Unsubscribe(unsubscribe) => {
                let answered = out.unsuback(at.link, unsubscribe.packet_id, &[0]);
                self.answered(at, answered, out);
            }
            Event::Acked(ack) => {
                let session = &self.guests[&at.link].client_id;
                self.scene.down.lock().unwrap().acked(session, &ack);
            }
            Event::Refused(ack) => self.scene.down.lock().unwrap().refused(&ack),
            Event::Dropped(dropped) => self.scene.down.lock().unwrap().dropped(dropped.token),
            Event::Due(_) => self.due(at, out),
            Event::Writable => {
                let guest = self.guests.get_mut(&at.link).expect("a guest");
                guest.full = false;
            }
            Event::Disconnected(end) => {
                self.tally.hit(match end.slug.as_str() {
                    "keep_alive_timeout" => "server: keep_alive_timeout",
                    "connect_timeout" => "server: connect_timeout",
                    "connection_lost" => "server: connection_lost",
                    "overloaded" => "server: overloaded",
                    "protocol_violation" => panic!("{end:?}"),
                    _ => "server: ended otherwise",
                });
                self.keep_session(at.link, out);
                assert!(self.guests.remove(&at.link).is_some(), "ended twice");
            }
            Event::Failed(_) => self.tally.hit("server: failed"),
            _ => {}
        }
    }
}
