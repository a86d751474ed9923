//! A server that keeps its acknowledgements back, and what that must not lead to.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{Packet, QoS, TopicName, Version};
use fleetwire_engine::sim::{Peer, PeerIo, Sim, SimPeer};
use fleetwire_engine::{
    At, Backoff, ConnectForm, Engine, Event, Handler, Limits, Outbox, Plan, Publish, PublishError, Shard, Way,
};

use crate::scene::assert_nothing_held;

const SECOND: Duration = Duration::from_secs(1);

/// Speaks 3.1.1, keeps the session, and acknowledges only if it is told to.
#[derive(Default)]
struct Keeper {
    acknowledges: bool,
    input: BTreeMap<u32, Vec<u8>>,
    connects: u32,
    received: u32,
}

impl Peer for Keeper {
    fn on_accepted(&mut self, connection: u32, _: &mut PeerIo) {
        self.input.insert(connection, Vec::new());
    }

    fn on_bytes(&mut self, connection: u32, bytes: &[u8], io: &mut PeerIo) {
        let Some(mut input) = self.input.remove(&connection) else {
            return;
        };
        input.extend_from_slice(bytes);
        let mut at = 0;
        while let Ok(Split::Complete(frame)) = frame::split(&input[at..], 1 << 20) {
            let len = frame.len();
            match Packet::decode(frame, Version::V311).unwrap() {
                Packet::Connect(_) => {
                    // v3.1.1 section 3.2: session present from the second on.
                    io.send(connection, &[0x20, 2, u8::from(self.connects > 0), 0]);
                    self.connects += 1;
                }
                Packet::Publish(publish) => {
                    self.received += 1;
                    if let Some(packet_id) = publish.packet_id.filter(|_| self.acknowledges) {
                        let [high, low] = packet_id.value().to_be_bytes();
                        io.send(connection, &[0x40, 2, high, low]);
                    }
                }
                _ => {}
            }
            at += len;
        }
        input.drain(..at);
        self.input.insert(connection, input);
    }

    fn on_closed(&mut self, connection: u32, _: &mut PeerIo) {
        self.input.remove(&connection);
    }
}

fn keeper(sim: &mut Sim) -> (SimPeer<Keeper>, Plan) {
    let keeper = sim.serve("10.0.0.1:1883".parse().unwrap(), Keeper::default());
    let mut way = Way::tcp("10.0.0.1", 1883);
    way.resolve().unwrap();
    let plan = Plan::new(way).backoff(Backoff::new(SECOND, SECOND));
    (keeper.unwrap(), plan)
}

/// After `close` nothing is told any more but the end: no `AcksLate`, though it falls due in the same moment.
#[test]
fn no_acknowledgement_is_late_after_the_close() {
    struct Hasty {
        plan: Plan,
        late: u32,
        late_after_close: u32,
        closed: bool,
        dropped: u32,
    }
    impl Handler for Hasty {
        fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
            let mut form = ConnectForm::new("hasty");
            form.version = Version::V311;
            out.open_with(&self.plan, 0, form).unwrap();
        }
        fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
            match event {
                Event::Connected(_) => {
                    let publish = Publish::new(TopicName::new("a").unwrap(), b"").qos(QoS::AtLeastOnce);
                    out.publish(at.link, publish).unwrap();
                    // At the second moment at which it is late.
                    out.every(at.link, at.now + 2 * SECOND, 3600 * SECOND).unwrap();
                }
                Event::AcksLate(_) => {
                    self.late += 1;
                    self.late_after_close += u32::from(self.closed);
                }
                Event::Due(_) => {
                    self.closed = true;
                    out.close(at.link);
                }
                Event::Dropped(_) => self.dropped += 1,
                _ => {}
            }
        }
    }
    let mut sim = Sim::new(1);
    let (_keeper, plan) = keeper(&mut sim);
    let mut hasty = Some(Hasty {
        plan,
        late: 0,
        late_after_close: 0,
        closed: false,
        dropped: 0,
    });
    let builder = Engine::builder().limits(Limits::default().ack_timeout(SECOND));
    let engine = sim.start(builder, |_| hasty.take().unwrap()).unwrap();
    sim.run_for(10 * SECOND).unwrap();
    engine.with_handler(0, |hasty| {
        let seen = (hasty.late, hasty.late_after_close, hasty.closed, hasty.dropped);
        assert_eq!(seen, (1, 0, true, 1));
    });
}

/// How often it finds no room before it gives up.
const FULL: u32 = 3;

/// Publishes until copies of them hold all the memory that they may, then waits.
struct Hoarder {
    plan: Plan,
    len: usize,
    accepted: u32,
    acked: u32,
    full: u32,
    connected: u32,
}

impl Handler for Hoarder {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let mut form = ConnectForm::new("hoarder");
        form.version = Version::V311;
        form.clean_start = false;
        out.open_with(&self.plan, 0, form).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                self.connected += 1;
                if self.connected == 1 {
                    out.every(at.link, at.now, SECOND / 10).unwrap();
                }
            }
            // It goes on when what was sent is out of the way, so that copies alone are what is in use.
            Event::Due(_) if self.full < FULL => {
                // The first takes most to send again, and goes first.
                let len = if self.accepted == 0 { 16_000 } else { self.len };
                let payload = vec![0; len];
                let publish = Publish::new(TopicName::new("a").unwrap(), &payload).qos(QoS::AtLeastOnce);
                match out.publish(at.link, publish) {
                    Ok(_) => self.accepted += 1,
                    Err(PublishError::Full) => self.full += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            Event::Acked(_) => self.acked += 1,
            Event::Dropped(dropped) => panic!("{dropped:?}"),
            _ => {}
        }
    }
}

/// Copies that wait for acknowledgements leave memory for the connection that brings those back.
#[test]
fn a_peer_comes_back_though_copies_wait_for_it() {
    for len in [10, 3000, 16_000] {
        let mut sim = Sim::new(1);
        let (keeper, plan) = keeper(&mut sim);
        let mut hoarder = Some(Hoarder {
            plan,
            len,
            accepted: 0,
            acked: 0,
            full: 0,
            connected: 0,
        });
        let limits = Limits::default()
            .buffer_bytes_max(Limits::BUFFER_BYTES_MIN)
            .in_flight_max(u16::MAX);
        let builder = Engine::builder().limits(limits);
        let engine = sim.start(builder, |_| hoarder.take().unwrap()).unwrap();
        let is_full = || engine.with_handler(0, |hoarder| hoarder.full == FULL) == Some(true);
        assert!(sim.run_until(100 * SECOND, is_full).unwrap());
        let held = engine.stats().buffer_bytes;
        keeper.with(|keeper, io| {
            keeper.acknowledges = true;
            for connection in std::mem::take(&mut keeper.input).into_keys() {
                io.abort(connection);
            }
        });
        let is_empty = || {
            engine.with_handler(0, |hoarder| {
                hoarder.connected == 2 && hoarder.acked == hoarder.accepted
            }) == Some(true)
        };
        let came_back = sim.run_until(100 * SECOND, is_empty).unwrap();
        engine.with_handler(0, |hoarder| {
            let seen = (hoarder.connected, hoarder.accepted, hoarder.acked);
            assert!(came_back, "{len} bytes each, {held} held: {seen:?}");
        });
        let again = keeper.with(|keeper, _| keeper.received).unwrap();
        engine.with_handler(0, |hoarder| assert_eq!(again, 2 * hoarder.accepted));
        engine.begin_shutdown(SECOND);
        assert!(sim.run_until(10 * SECOND, || engine.has_ended()).unwrap());
        assert_nothing_held(&engine.stats());
    }
}
