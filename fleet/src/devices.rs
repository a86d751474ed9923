//! The devices of one thread: what they do when they are connected, due, answered or cut off.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fleetwire_codec::{QoS, Suback, TopicFilter, TopicNameBuf};
use fleetwire_engine::{
    Ack, At, Connected, Dial, DialError, Disconnected, Due, Event, Failure, Handler, Outbox, Plan, Publish,
    PublishError, Shard, Stage,
};

use crate::failures::{Met, Occurrence};
use crate::identities::Identities;
use crate::overload::LagWatch;
use crate::payload::Payload;
use crate::progress::{Board, Standing};
use crate::refusals::Refused;
use crate::scenario::Scenario;
use crate::tally::Tally;
use crate::window::Window;

/// What all threads of a run share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) plan: Plan,
    pub(crate) identities: Identities,
    pub(crate) window: Window,
    /// The wall clock at the window's origin.
    pub(crate) started: SystemTime,
    /// One per thread.
    pub(crate) boards: Vec<Board>,
}

/// The devices of one thread.
#[derive(Debug)]
pub(crate) struct Devices {
    run: Arc<Run>,
    shard: usize,
    devices: Vec<Device>,
    tally: Tally,
    payload: Payload,
    lag: LagWatch,
    /// The topic that all devices publish to, if it is one.
    topic: Option<TopicNameBuf>,
}

/// One device, by its link's token.
#[derive(Debug)]
struct Device {
    /// Which one of the run.
    place: u32,
    decided: bool,
    was_connected: bool,
    failed_before: bool,
    given_up: bool,
    /// Slots that are accounted for.
    slots: u64,
    first_slot: Option<Instant>,
    /// Its own topic, where each has one.
    topic: Option<TopicNameBuf>,
    met_failures: Met,
    met_disconnects: Met,
}

impl Devices {
    pub(crate) fn new(run: &Arc<Run>, shard: Shard) -> Self {
        let scenario = &run.scenario;
        let origin = run.window.origin();
        let topic = (!scenario.topic.varies())
            .then(|| topic_of(scenario, 0))
            .flatten();
        Self {
            shard: shard.index,
            devices: shard
                .share_of(scenario.devices as usize)
                .map(|place| Device::new(scenario, place, topic.is_none()))
                .collect(),
            tally: Tally::new(),
            payload: Payload::new(scenario.payload_size, scenario.seed, origin, run.started),
            lag: LagWatch::new(),
            topic,
            run: Arc::clone(run),
        }
    }

    /// What became of the devices, once the engine has stopped.
    pub(crate) fn into_tally(mut self) -> Tally {
        if let Some(period) = self.run.scenario.period {
            for device in &self.devices {
                // Slots that this thread did not come to before the end.
                let slots = device
                    .first_slot
                    .map_or(0, |first| self.run.window.slots(first, period));
                let rest = slots.saturating_sub(device.slots);
                self.tally.scheduled += rest;
                self.tally.missed.generator += rest;
            }
        }
        self.tally.overload = self.lag.finish();
        self.tally
    }

    fn connected(&mut self, at: At, connected: &Connected<'_>, out: &mut Outbox<'_>) {
        let Some(device) = self.devices.get_mut(at.token as usize) else {
            return;
        };
        self.tally.up += 1;
        self.tally.decided += u64::from(!std::mem::replace(&mut device.decided, true));
        if device.was_connected {
            self.tally.reconnects += 1;
        } else {
            device.was_connected = true;
            self.tally.connected += 1;
            let (alpn, version) = match connected.tls {
                Some(tls) => (tls.alpn_text(), tls.version.to_string()),
                None => ("none".to_owned(), "none".to_owned()),
            };
            *self.tally.alpn.entry(alpn).or_default() += 1;
            *self.tally.tls_version.entry(version).or_default() += 1;
            if self.run.window.ramps_at(at.now) {
                self.tally.last_connected_in_ramp = Some(at.now);
            }
            if !device.failed_before && self.run.window.ramps_at(at.now) {
                self.tally
                    .connect_latency
                    .record(at.now.saturating_duration_since(connected.scheduled));
            }
            if let Some(period) = self.run.scenario.period {
                let first = at.now + phase(self.run.scenario.seed, device.place, period);
                if out.every(at.link, first, period).is_ok() {
                    device.first_slot = Some(first);
                }
            }
        }
        let place = device.place as usize;
        self.subscribe(at, place, out);
    }

    fn subscribe(&mut self, at: At, place: usize, out: &mut Outbox<'_>) {
        let scenario = &self.run.scenario;
        let Some(filter) = &scenario.subscribe else { return };
        let filter = scenario.render(filter, place);
        let subscribed = TopicFilter::new(&filter)
            .is_ok_and(|filter| out.subscribe(at.link, &[(filter, scenario.qos)]).is_ok());
        if !subscribed {
            let index = scenario.index(place);
            self.tally
                .subscribe_refusals
                .record(Refused::NotSent, index, at.now);
        }
    }

    fn subscribed(&mut self, at: At, suback: &Suback<'_>) {
        let Some(device) = self.devices.get(at.token as usize) else {
            return;
        };
        let index = self.run.scenario.index(device.place as usize);
        for code in suback.codes {
            if *code >= 0x80 {
                let refused = Refused::Code(*code);
                self.tally.subscribe_refusals.record(refused, index, at.now);
            } else {
                self.tally.subscribed += 1;
            }
        }
    }

    fn failed(&mut self, at: At, failure: &Failure) {
        let Some(device) = self.devices.get_mut(at.token as usize) else {
            return;
        };
        if self.run.window.is_closing() || !self.run.window.may_dial() {
            // The attempt was cut short by the end of the run.
            return;
        }
        self.tally.decided += u64::from(!std::mem::replace(&mut device.decided, true));
        device.failed_before = true;
        self.tally.given_up += give_up(device, failure.retry_in);
        let occurrence = Occurrence {
            slug: failure.slug.as_str(),
            index: self.run.scenario.index(device.place as usize),
            at: at.now,
            stage: failure.stage.as_str(),
            text: &failure.text,
            reason: failure.reason,
        };
        self.tally.failures.record(occurrence, &mut device.met_failures);
    }

    fn disconnected(&mut self, at: At, disconnected: &Disconnected) {
        let Some(device) = self.devices.get_mut(at.token as usize) else {
            return;
        };
        self.tally.up = self.tally.up.saturating_sub(1);
        if self.run.window.is_closing() {
            return;
        }
        self.tally.disconnects += 1;
        self.tally.given_up += give_up(device, disconnected.retry_in);
        let occurrence = Occurrence {
            slug: disconnected.slug.as_str(),
            index: self.run.scenario.index(device.place as usize),
            at: at.now,
            stage: Stage::Up.as_str(),
            text: &disconnected.text,
            reason: disconnected.reason.map(|reason| reason.value()),
        };
        self.tally
            .disconnect_causes
            .record(occurrence, &mut device.met_disconnects);
    }

    fn due(&mut self, at: At, due: Due, out: &mut Outbox<'_>) {
        let Some(device) = self.devices.get_mut(at.token as usize) else {
            return;
        };
        let window = &self.run.window;
        if !window.publishes_at(due.intended) {
            // Slots before it that were passed over are accounted for at the end.
            out.cancel_schedule(at.link);
            return;
        }
        let passed_over = due.seq.saturating_sub(device.slots);
        device.slots = due.seq + 1;
        self.tally.scheduled += passed_over + 1;
        if due.missed > 0 {
            self.tally.missed.generator += due.missed;
            if window.holds_at(due.intended) {
                self.lag.missed(at.now, due.missed);
            }
        }
        let Some(topic) = device.topic.as_ref().or(self.topic.as_ref()) else {
            self.tally.missed.forbidden += 1;
            return;
        };
        let scenario = &self.run.scenario;
        let payload = self
            .payload
            .of(scenario.index(device.place as usize), due.seq, due.intended);
        let publish = Publish::new(topic.as_topic_name(), payload)
            .qos(scenario.qos)
            .intended(due.intended);
        match out.publish(at.link, publish) {
            Ok(_) => {
                self.tally.published += 1;
                if scenario.qos == QoS::AtMostOnce && window.holds_at(due.intended) {
                    self.lag
                        .record(at.now, at.now.saturating_duration_since(due.intended), None);
                }
            }
            Err(PublishError::Offline | PublishError::NoSuchLink) => self.tally.missed.offline += 1,
            Err(PublishError::Full) => self.tally.missed.window += 1,
            Err(_) => self.tally.missed.forbidden += 1,
        }
    }

    fn acknowledged(&mut self, at: At, ack: Ack) {
        if self.run.window.holds_at(ack.intended) {
            self.tally
                .ack_latency
                .record(at.now.saturating_duration_since(ack.intended));
            let lag = ack.sent.saturating_duration_since(ack.intended);
            self.lag
                .record(at.now, lag, Some(at.now.saturating_duration_since(ack.sent)));
        }
    }
}

impl Handler for Devices {
    fn on_start(&mut self, shard: Shard, out: &mut Outbox<'_>) {
        for (token, device) in (0..).zip(&mut self.devices) {
            if let Err(error) = out.open(&self.run.plan, token) {
                self.tally.decided += 1;
                self.tally.given_up += 1;
                (device.decided, device.given_up) = (true, true);
                let occurrence = Occurrence {
                    slug: "overloaded",
                    index: self.run.scenario.index(device.place as usize),
                    at: out.now(),
                    stage: Stage::Dial.as_str(),
                    text: &error.to_string(),
                    reason: None,
                };
                self.tally.failures.record(occurrence, &mut device.met_failures);
            }
        }
        debug_assert_eq!(shard.index, self.shard);
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        if !self.run.window.may_dial() {
            return Err(DialError::new("the run is ending"));
        }
        let device = self
            .devices
            .get(at.token as usize)
            .ok_or_else(|| DialError::new("no such device"))?;
        let (scenario, place) = (&self.run.scenario, device.place as usize);
        dial.version(scenario.version)
            .client_id(&scenario.client_id(place))
            .keep_alive(Duration::from_secs(scenario.keep_alive_secs.into()));
        if let Some(username) = &scenario.username {
            dial.username(&scenario.render(username, place));
        }
        if let Some(password) = &scenario.password {
            dial.password(password.as_bytes());
        }
        if let Some(identity) = self.run.identities.of(place) {
            dial.identity(identity);
        }
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Due(due) => self.due(at, due, out),
            Event::Acked(ack) => {
                self.tally.acknowledged += 1;
                self.acknowledged(at, ack);
            }
            Event::Refused(ack) => {
                self.tally.refused += 1;
                self.acknowledged(at, ack);
            }
            Event::Dropped(dropped) => {
                self.tally.dropped += 1;
                if self.run.window.holds_at(dropped.intended) {
                    self.tally
                        .ack_latency
                        .record_lost(at.now.saturating_duration_since(dropped.intended));
                }
            }
            Event::Message(_) => self.tally.received += 1,
            Event::Connected(connected) => self.connected(at, &connected, out),
            Event::Failed(failure) => self.failed(at, &failure),
            Event::Disconnected(disconnected) => self.disconnected(at, &disconnected),
            Event::Subscribed(suback) => self.subscribed(at, &suback),
            Event::AcksLate(_) => self.tally.acks_late += 1,
            _ => {}
        }
    }

    fn on_turn(&mut self, _now: Instant, _out: &mut Outbox<'_>) {
        let tally = &self.tally;
        let standing = Standing {
            decided: tally.decided,
            connected: tally.connected,
            up: tally.up,
            given_up: tally.given_up,
            published: tally.published,
            settled: tally.settled(),
            acknowledged: tally.acknowledged,
            received: tally.received,
        };
        if let Some(board) = self.run.boards.get(self.shard) {
            board.post(standing);
        }
    }
}

impl Device {
    fn new(scenario: &Scenario, place: usize, own_topic: bool) -> Self {
        Self {
            place: place as u32,
            decided: false,
            was_connected: false,
            failed_before: false,
            given_up: false,
            slots: 0,
            first_slot: None,
            topic: own_topic.then(|| topic_of(scenario, place)).flatten(),
            met_failures: Met::default(),
            met_disconnects: Met::default(),
        }
    }
}

/// `None` cannot happen: the scenario has checked the shortest and the longest topic.
fn topic_of(scenario: &Scenario, place: usize) -> Option<TopicNameBuf> {
    TopicNameBuf::new(scenario.render(&scenario.topic, place)).ok()
}

/// Whether the device just gave up, as a number to add.
fn give_up(device: &mut Device, retry_in: Option<Duration>) -> u64 {
    let gives_up = retry_in.is_none() && !device.given_up;
    device.given_up |= gives_up;
    u64::from(gives_up)
}

/// Where in its period a device publishes: uniform, and the same in each run with this seed, on any thread.
fn phase(seed: u64, place: u32, period: Duration) -> Duration {
    /// The odd number nearest to 2^64 / golden ratio spreads neighbouring devices over all seeds.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = fastrand::Rng::with_seed(seed ^ u64::from(place).wrapping_add(1).wrapping_mul(SPREAD));
    period.mul_f64(random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_spread_over_the_period_and_repeat() {
        let period = Duration::from_secs(1);
        let phases: Vec<Duration> = (0..10_000).map(|place| phase(7, place, period)).collect();
        let mut tenths = [0; 10];
        for phase in &phases {
            assert!(*phase < period);
            tenths[(phase.as_secs_f64() * 10.0) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|tenth| (850..1150).contains(tenth)),
            "{tenths:?}"
        );
        assert_eq!(phases[17], phase(7, 17, period));
        assert_ne!(phases[17], phase(8, 17, period));
    }
}
