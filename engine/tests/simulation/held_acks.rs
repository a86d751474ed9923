//! Both sides acknowledge by hand, late and in any order, over a session that outlives its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleetwire_codec::{Carrier, PropertiesBuf, Property, QoS, TopicName};
use fleetwire_engine::sim::{Faults, Sim};
use fleetwire_engine::{
    AckTicket, At, Dial, DialError, Engine, Event, Handler, LinkId, Outbox, Plan, Publish, PublishError,
    SessionState, Shard, Slug, VerbError,
};

use super::scene;
use super::seeds::{self, Tally};

const RARE: &[&str] = &[
    "Stale",
    "acknowledged later",
    "came again",
    "connection_lost",
    "not held, behind held ones",
    "session present",
    "windows full",
];

const QOS: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn held_acks() {
    seeds::run("held_acks", 150, RARE, scenario);
}

/// What one side says and hears. Message n has token n; its quality of service is that of n % 2.
struct Side {
    random: fastrand::Rng,
    messages: u64,
    sent: u64,
    /// By token: how often it was acknowledged, here as a sender and there as a receiver.
    ended: Vec<u32>,
    taken: Vec<u32>,
    delivered: Vec<u32>,
    ended_last: [Option<u64>; 2],
    held: Vec<(AckTicket, u64)>,
    calm: Arc<AtomicBool>,
    tally: Tally,
}

impl Side {
    fn new(random: &mut fastrand::Rng, messages: u64, calm: &Arc<AtomicBool>) -> Self {
        let none = || vec![0; messages as usize];
        Self {
            random: fastrand::Rng::with_seed(random.u64(..)),
            messages,
            sent: 0,
            ended: none(),
            taken: none(),
            delivered: none(),
            ended_last: [None; 2],
            held: Vec::new(),
            calm: Arc::clone(calm),
            tally: Tally::default(),
        }
    }

    fn publish(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        while self.sent < self.messages {
            let text = self.sent.to_string();
            let publish = Publish::new(TopicName::new("t").unwrap(), text.as_bytes())
                .qos(QOS[self.sent as usize % 2])
                .token(self.sent);
            match out.publish(link, publish) {
                Ok(_) => self.sent += 1,
                Err(PublishError::Full) => return self.tally.hit("windows full"),
                Err(PublishError::Offline) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn handle(&mut self, at: At, event: &Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Message(message) => {
                let number: u64 = std::str::from_utf8(message.payload).unwrap().parse().unwrap();
                let index = number as usize;
                assert_eq!(message.qos, QOS[index % 2]);
                self.delivered[index] += 1;
                if self.delivered[index] > 1 {
                    self.tally.hit("came again");
                }
                // At QoS 2 what was acknowledged does not come again, whatever became of the acknowledgement.
                assert!(
                    message.qos == QoS::AtLeastOnce || self.taken[index] == 0,
                    "{number}"
                );
                if self.random.u8(0..4) == 0 {
                    self.taken[index] += 1;
                    if self.held.iter().any(|(ticket, _)| ticket.epoch() == at.epoch) {
                        self.tally.hit("not held, behind held ones");
                    }
                } else {
                    self.held.push((out.hold_ack(message).unwrap(), number));
                }
            }
            Event::Acked(ack) => {
                self.ended[ack.token as usize] += 1;
                // v5 and v3.1.1 [MQTT-4.6.0-2] to [MQTT-4.6.0-4]: both ends kept the order.
                let last = &mut self.ended_last[ack.token as usize % 2];
                assert!(last.is_none_or(|last| last < ack.token), "{last:?} {}", ack.token);
                *last = Some(ack.token);
                self.publish(at.link, out);
            }
            Event::Writable => self.publish(at.link, out),
            Event::Dropped(dropped) => panic!("{dropped:?}"),
            Event::Failed(failure) => assert_ne!(failure.slug, Slug::PROTOCOL_VIOLATION, "{failure:?}"),
            Event::Disconnected(end) => {
                assert_ne!(end.slug, Slug::PROTOCOL_VIOLATION, "{end:?}");
                if end.slug == Slug::CONNECTION_LOST {
                    self.tally.hit("connection_lost");
                }
            }
            _ => {}
        }
    }

    /// Gives some of what is held, in any order.
    fn acknowledge(&mut self, out: &mut Outbox<'_>) {
        let calm = self.calm.load(Ordering::Relaxed);
        while !self.held.is_empty() && (calm || self.random.bool()) {
            let (ticket, number) = self.held.swap_remove(self.random.usize(0..self.held.len()));
            match out.ack(ticket) {
                Ok(()) => {
                    self.taken[number as usize] += 1;
                    self.tally.hit("acknowledged later");
                    assert_eq!(out.ack(ticket), Err(VerbError::NotHeld));
                }
                Err(VerbError::Stale | VerbError::NoSuchLink) => self.tally.hit("Stale"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.ended.iter().all(|times| *times == 1)
    }

    /// What the other side has acknowledged was taken there.
    fn assert_taken(&self, other: &Self) {
        for (number, times) in other.ended.iter().enumerate() {
            assert!(*times <= 1, "{number} ended {times} times");
            let taken = self.taken[number];
            assert!(
                taken >= *times && (number % 2 == 0 || taken <= 1),
                "{number} was taken {taken} times, and ended {times} times"
            );
        }
    }
}

struct Device {
    plan: Plan,
    receive_max: u16,
    keep_alive: Duration,
    side: Side,
}

fn receive_max(carrier: Carrier, max: u16) -> PropertiesBuf {
    PropertiesBuf::of(carrier, &[Property::ReceiveMaximum(max)]).unwrap()
}

impl Handler for Device {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let link = out.open(&self.plan, 0).unwrap();
        // So that something happens though nothing arrives.
        out.every(link, out.now(), Duration::from_millis(300)).unwrap();
    }

    fn on_dial(&mut self, _: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        dial.client_id("a")
            .keep_alive(self.keep_alive)
            .clean_start(false)
            .session_expiry(Duration::MAX)
            .properties(&receive_max(Carrier::Connect, self.receive_max));
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        self.side.handle(at, &event, out);
        match event {
            Event::Connected(connected) => {
                if connected.session_present {
                    self.side.tally.hit("session present");
                }
                self.side.publish(at.link, out);
            }
            Event::Due(_) => self.side.acknowledge(out),
            _ => {}
        }
    }
}

struct Server {
    receive_max: u16,
    link: Option<LinkId>,
    state: Option<SessionState>,
    side: Side,
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        self.side.handle(at, &event, out);
        match event {
            Event::Connect(connect) => {
                // Its last connection may not have ended yet for this side.
                if let Some(old) = self.link.take() {
                    self.state = out.take_session(old).or_else(|| self.state.take());
                    out.abort(old);
                }
                let properties = receive_max(Carrier::Connack, self.receive_max);
                let state = self.state.take();
                let accepted = out.accept_session(
                    at.link,
                    state,
                    properties.as_properties(),
                    connect.keep_alive_secs,
                );
                match accepted {
                    Ok(()) => {
                        self.link = Some(at.link);
                        out.every(at.link, at.now, Duration::from_millis(300)).unwrap();
                        self.side.publish(at.link, out);
                    }
                    Err((_, state)) => self.state = state,
                }
            }
            Event::Due(_) => self.side.acknowledge(out),
            Event::Disconnected(_) if self.link == Some(at.link) => {
                self.state = out.take_session(at.link);
                self.link = None;
            }
            _ => {}
        }
    }

    fn on_turn(&mut self, _: Instant, out: &mut Outbox<'_>) {
        if self.side.random.u8(0..8) == 0 {
            self.side.acknowledge(out);
        }
    }
}

fn scenario(seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sim = Sim::new(random.u64(..));
    let calm = Arc::new(AtomicBool::new(false));
    let address = "10.0.0.1:1883".parse().unwrap();
    let messages = random.u64(1..200);
    let mut server = Some(Server {
        receive_max: random.u16(1..20),
        link: None,
        state: None,
        side: Side::new(&mut random, messages, &calm),
    });
    let builder = Engine::builder()
        .limits(scene::limits(&mut random))
        .seed(random.u64(..))
        .listen(sim.listener(address), None, 0);
    let server = sim
        .start(builder, |_| server.take().expect("there is one shard"))
        .unwrap();
    let mut device = Some(Device {
        plan: scene::draw_plan(&mut random, None),
        receive_max: random.u16(1..20),
        keep_alive: Duration::from_secs(random.u64(1..10)),
        side: Side::new(&mut random, messages, &calm),
    });
    let builder = Engine::builder()
        .limits(scene::limits(&mut random))
        .seed(random.u64(..));
    let client = sim
        .start(builder, |_| device.take().expect("there is one shard"))
        .unwrap();
    sim.set_faults(scene::faults(&mut random));
    let wait = Duration::from_millis(random.u64(1000..60_000));
    sim.run_for(wait).unwrap();
    sim.set_faults(Faults::none());
    calm.store(true, Ordering::Relaxed);
    let at_rest = sim
        .run_until(Duration::from_secs(600), || {
            client.with_handler(0, |device| device.side.is_done()) == Some(true)
                && server.with_handler(0, |server| server.side.is_done()) == Some(true)
        })
        .unwrap();
    let mut tally = Tally::default();
    client.with_handler(0, |device| {
        server.with_handler(0, |server| {
            device.side.assert_taken(&server.side);
            server.side.assert_taken(&device.side);
            tally.merge(&device.side.tally);
            tally.merge(&server.side.tally);
            assert!(at_rest, "{:?}\n{:?}", device.side.ended, server.side.ended);
        })
    });
    tally
}
