//! How long a client keeps a session for a server that does not come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleetwire_codec::{
    Carrier, Connack, Packet, PropertiesBuf, Property, QoS, ReasonCode, TopicName, Version,
};
use fleetwire_engine::sim::{Peer, PeerIo, Sim, SimEngine, SimPeer};
use fleetwire_engine::{
    At, Backoff, Dial, DialError, DropReason, Engine, Event, Handler, Outbox, Plan, Publish, Shard, Way,
};

use crate::scene::assert_nothing_held;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MESSAGES: u64 = 4;
/// Of an attempt.
const TIMEOUT: Duration = Duration::from_secs(7);

/// What a server does with connections.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Answers,
    /// It takes them, and says nothing.
    Mute,
    /// It breaks them.
    Away,
}

/// Answers CONNECT if it is in the mood, and acknowledges nothing.
struct Server {
    version: Version,
    mood: Mood,
    session_present: bool,
    /// The Session Expiry Interval of its CONNACK.
    expiry_secs: Option<u32>,
    /// Connections, and whether their CONNECT has come.
    open: BTreeMap<u32, bool>,
    publishes: u64,
    /// Clean Start of each CONNECT.
    clean_starts: Vec<bool>,
}

impl Server {
    fn leave(&mut self, io: &mut PeerIo) {
        self.mood = Mood::Away;
        for connection in std::mem::take(&mut self.open).into_keys() {
            io.abort(connection);
        }
    }

    fn come_back(&mut self, session_present: bool) {
        self.mood = Mood::Answers;
        self.session_present = session_present;
    }
}

impl Peer for Server {
    fn on_accepted(&mut self, connection: u32, io: &mut PeerIo) {
        if self.mood == Mood::Away {
            return io.abort(connection);
        }
        self.open.insert(connection, false);
    }

    fn on_bytes(&mut self, connection: u32, bytes: &[u8], io: &mut PeerIo) {
        // Nothing is cut in a network without faults.
        self.publishes += bytes.windows(7).filter(|part| part == b"\x00\x05topic").count() as u64;
        let connected = self.open.get_mut(&connection).expect("it is open");
        if self.mood == Mood::Mute || std::mem::replace(connected, true) {
            return;
        }
        let clean_start = bytes[9] & 2 != 0;
        self.clean_starts.push(clean_start);
        let expiry: Vec<_> = self
            .expiry_secs
            .map(Property::SessionExpiryInterval)
            .into_iter()
            .collect();
        let properties = PropertiesBuf::of(Carrier::Connack, &expiry).unwrap();
        let connack = Packet::Connack(Connack {
            session_present: self.session_present && !clean_start,
            code: 0,
            properties: properties.as_properties(),
        });
        let mut bytes = [0; 32];
        let len = connack.encode(self.version, &mut bytes).unwrap();
        io.send(connection, &bytes[..len]);
    }

    fn on_closed(&mut self, connection: u32, _: &mut PeerIo) {
        self.open.remove(&connection);
    }
}

/// Publishes at its first connection, and notes what becomes of it.
struct Device {
    plan: Plan,
    version: Version,
    /// The Session Expiry Interval of its CONNECT, and of the DISCONNECT that it says after a second.
    expiry_secs: u32,
    leaves_with: Option<u32>,
    dials_with_session: Vec<bool>,
    ended_at: Option<Instant>,
    dropped: Vec<(u64, DropReason, Instant)>,
}

impl Handler for Device {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open(&self.plan, 0).unwrap();
    }

    fn on_dial(&mut self, _: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        self.dials_with_session.push(dial.has_session());
        dial.client_id("a")
            .version(self.version)
            .keep_alive(Duration::ZERO)
            .clean_start(false)
            .session_expiry(Duration::from_secs(self.expiry_secs.into()));
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) if at.epoch == 1 => {
                for token in 0..MESSAGES {
                    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][token as usize % 2];
                    let publish = Publish::new(TopicName::new("topic").unwrap(), &[7; 100]);
                    out.publish(at.link, publish.qos(qos).token(token)).unwrap();
                }
                if self.leaves_with.is_some() {
                    out.every(at.link, at.now + SECOND, HOUR).unwrap();
                }
            }
            Event::Due(_) => {
                let Some(secs) = self.leaves_with.take() else {
                    return;
                };
                let expiry =
                    PropertiesBuf::of(Carrier::Disconnect, &[Property::SessionExpiryInterval(secs)]).unwrap();
                let reason = ReasonCode::NORMAL_DISCONNECTION;
                out.disconnect(at.link, reason, expiry.as_properties());
            }
            Event::Disconnected(_) => self.ended_at = Some(at.now),
            Event::Dropped(dropped) => self.dropped.push((dropped.token, dropped.why, at.now)),
            _ => {}
        }
    }
}

/// What a session's end depends on.
#[derive(Clone, Copy, Debug)]
struct Case {
    version: Version,
    connect_secs: u32,
    connack_secs: Option<u32>,
    disconnect_secs: Option<u32>,
    backoff: Duration,
}

const CASE: Case = Case {
    version: Version::V5,
    connect_secs: 30,
    connack_secs: None,
    disconnect_secs: None,
    backoff: SECOND,
};

type Scene = (Sim, SimPeer<Server>, SimEngine<Device>);

/// A device that has published, and whose server has left.
fn left(case: Case) -> Scene {
    let mut sim = Sim::new(11);
    let server = Server {
        version: case.version,
        mood: Mood::Answers,
        session_present: false,
        expiry_secs: case.connack_secs,
        open: BTreeMap::new(),
        publishes: 0,
        clean_starts: Vec::new(),
    };
    let server = sim.serve("10.0.0.1:1883".parse().unwrap(), server).unwrap();
    let mut way = Way::tcp("10.0.0.1", 1883);
    way.resolve().unwrap();
    let plan = Plan::new(way)
        .connect_timeout(TIMEOUT)
        .backoff(Backoff::new(case.backoff, case.backoff));
    let mut device = Some(Device {
        plan,
        version: case.version,
        expiry_secs: case.connect_secs,
        leaves_with: case.disconnect_secs,
        dials_with_session: Vec::new(),
        ended_at: None,
        dropped: Vec::new(),
    });
    let device = sim.start(Engine::builder(), |_| device.take().unwrap()).unwrap();
    sim.run_for(SECOND / 2).unwrap();
    assert_eq!(server.with(|server, _| server.publishes), Some(MESSAGES));
    if case.disconnect_secs.is_some() {
        // It leaves by itself, and does not find the server again.
        server.with(|server, _| server.mood = Mood::Away).unwrap();
        sim.run_for(SECOND).unwrap();
    } else {
        server.with(Server::leave).unwrap();
        sim.run_for(SECOND / 100).unwrap();
    }
    assert!(
        device
            .with_handler(0, |device| device.ended_at.is_some())
            .unwrap()
    );
    (sim, server, device)
}

fn dropped(device: &SimEngine<Device>) -> Vec<(u64, DropReason, Instant)> {
    device.with_handler(0, |device| device.dropped.clone()).unwrap()
}

fn ended_at(device: &SimEngine<Device>) -> Instant {
    device.with_handler(0, |device| device.ended_at).unwrap().unwrap()
}

// v5 sections 3.1.2.11.2, 3.2.2.3.2 and 3.14.2.2.2.
#[test]
fn a_session_ends_on_the_client_when_its_time_is_over() {
    for (case, secs) in [
        (CASE, 30),
        // The next attempt comes later than that.
        (
            Case {
                backoff: 1000 * HOUR,
                ..CASE
            },
            30,
        ),
        (
            Case {
                connack_secs: Some(90),
                ..CASE
            },
            90,
        ),
        (
            Case {
                connack_secs: Some(7),
                backoff: 1000 * HOUR,
                ..CASE
            },
            7,
        ),
        (
            Case {
                disconnect_secs: Some(5),
                connack_secs: Some(90),
                ..CASE
            },
            5,
        ),
        (
            Case {
                disconnect_secs: Some(3600),
                ..CASE
            },
            3600,
        ),
    ] {
        let (mut sim, server, device) = left(case);
        assert_eq!(dropped(&device), [], "{case:?}");
        let stats = device.stats();
        assert_eq!(stats.in_flight, MESSAGES, "{case:?}");
        assert!(stats.buffer_bytes > 65_536, "{case:?}: no copies to send again");
        sim.run_until(2 * HOUR, || !dropped(&device).is_empty()).unwrap();
        // All of it is one pass.
        let tokens: Vec<_> = dropped(&device)
            .iter()
            .map(|(token, why, _)| (*token, *why))
            .collect();
        let expected: Vec<_> = (0..MESSAGES)
            .map(|token| (token, DropReason::SessionExpired))
            .collect();
        assert_eq!(tokens, expected, "{case:?}");
        let after = dropped(&device)[0].2 - ended_at(&device);
        let due = Duration::from_secs(secs);
        // An attempt that is under way is waited for, and this network refuses at once.
        assert!(after >= due && after < due + SECOND, "{case:?}: {after:?}");
        let stats = device.stats();
        assert_eq!((stats.in_flight, stats.buffer_bytes), (0, 65_536), "{case:?}");
        // The next attempt has nothing to offer, and nothing is told a second time.
        let dials = device
            .with_handler(0, |device| device.dials_with_session.len())
            .unwrap();
        // The server may have kept its half, in which there are identifiers that the new one uses for other messages: v5
        // section 3.1.2.4.
        server.with(|server, _| server.come_back(true)).unwrap();
        let again = || device.with_handler(0, |device| device.dials_with_session.len()) > Some(dials);
        assert!(sim.run_until(2000 * HOUR, again).unwrap(), "{case:?}");
        sim.run_for(SECOND).unwrap();
        let offered = device.with_handler(0, |device| device.dials_with_session.last().copied());
        assert_eq!(offered, Some(Some(false)), "{case:?}");
        assert_eq!(dropped(&device).len() as u64, MESSAGES, "{case:?}");
        assert_eq!(
            server.with(|server, _| server.publishes),
            Some(MESSAGES),
            "{case:?}"
        );
        let clean_starts = || server.with(|server, _| server.clean_starts.clone()).unwrap();
        assert_eq!(clean_starts(), [false, true], "{case:?}");
        if case.backoff == SECOND {
            // Only the first connection: the next one comes in time, and goes on.
            server.with(Server::leave).unwrap();
            server.with(|server, _| server.come_back(true)).unwrap();
            sim.run_for(2 * SECOND).unwrap();
            assert_eq!(clean_starts(), [false, true, false], "{case:?}");
        }
        device.begin_shutdown(Duration::ZERO);
        assert!(sim.run_until(100 * SECOND, || device.has_ended()).unwrap());
        assert_nothing_held(&device.stats());
    }
}

// v5 section 3.1.2.11.2: 0xFFFFFFFF is no interval; v3.1.1 section 3.1.2.4 has none.
#[test]
fn a_session_without_an_end_waits_for_ever() {
    for case in [
        Case {
            connect_secs: u32::MAX,
            backoff: HOUR,
            ..CASE
        },
        Case {
            connack_secs: Some(u32::MAX),
            backoff: HOUR,
            ..CASE
        },
        Case {
            version: Version::V311,
            backoff: HOUR,
            ..CASE
        },
    ] {
        let (mut sim, server, device) = left(case);
        sim.run_for(1000 * HOUR).unwrap();
        assert_eq!(dropped(&device), [], "{case:?}");
        server.with(|server, _| server.come_back(true)).unwrap();
        sim.run_for(2 * HOUR).unwrap();
        let publishes = server.with(|server, _| server.publishes);
        assert_eq!(publishes, Some(2 * MESSAGES), "{case:?}");
    }
}

#[test]
fn a_session_that_is_resumed_in_time_counts_from_its_next_end() {
    let (mut sim, server, device) = left(CASE);
    sim.run_for(20 * SECOND).unwrap();
    server.with(|server, _| server.come_back(true)).unwrap();
    sim.run_for(20 * SECOND).unwrap();
    assert_eq!(server.with(|server, _| server.publishes), Some(2 * MESSAGES));
    // Long after the time that counted from the first end.
    sim.run_for(HOUR).unwrap();
    assert_eq!(dropped(&device), []);
    server.with(Server::leave).unwrap();
    sim.run_for(29 * SECOND).unwrap();
    assert_eq!(dropped(&device), []);
    sim.run_for(2 * SECOND).unwrap();
    let expired = dropped(&device)
        .iter()
        .filter(|(_, why, _)| *why == DropReason::SessionExpired)
        .count();
    assert_eq!(expired as u64, MESSAGES);
}

/// An attempt whose CONNECT is not answered does not put the end off by more than itself.
#[test]
fn attempts_without_an_answer_do_not_keep_a_session() {
    let (mut sim, server, device) = left(CASE);
    server.with(|server, _| server.mood = Mood::Mute).unwrap();
    sim.run_for(40 * SECOND).unwrap();
    let (_, why, at) = dropped(&device)[0];
    assert_eq!(why, DropReason::SessionExpired);
    let after = at - ended_at(&device);
    assert!(after > 30 * SECOND && after <= 30 * SECOND + TIMEOUT, "{after:?}");
}
