//! Its client role against our server, which also serves `two_engines`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fleetwire_codec::QoS;
use fleetwire_engine::Engine;
use fleetwire_engine::sim::{Peer, PeerIo};
use mqtt_protocol_core::mqtt::connection::{Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{
    GenericPacketTrait, Packet, Property, Qos, ReceiveMaximum, SessionExpiryInterval, SubEntry, SubOpts,
    v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode};
use mqtt_protocol_core::mqtt::{Connection, Version, common::Cursor, role};

use super::IN_FLIGHT_MAX;
use crate::ledger::Stream;
use crate::scene::{Habits, Scene, limits};
use crate::seeds::{self, Tally};
use crate::server::Server;

/// Without these a run would prove little.
const RARE: &[&str] = &[
    "foreign: QoS 1 acknowledged",
    "foreign: QoS 2 acknowledged",
    "foreign: disconnect",
    "foreign: no CONNACK",
    "foreign: no PINGRESP",
    "foreign: refused",
    "foreign: replaced",
    "foreign: session present",
    "foreign: subscription answered",
    "foreign: told to leave",
    "half_closes",
    "received again",
    "resets",
    "server publish: Full",
    "server: answers later",
    "server: connection_lost",
    "server: keep_alive_timeout",
    "short_reads",
    "shut down in bad weather",
    "taken over",
];

/// How often they look at their timers.
const TICK: Duration = Duration::from_millis(100);
/// How long a connection and a CONNACK may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PINGRESP_TIMEOUT_MS: u64 = 2000;

#[test]
fn foreign_clients() {
    seeds::run("foreign_clients", 150, RARE, scenario);
}

struct Visitor {
    device: u32,
    /// How many sessions came before this one.
    generation: u32,
    version: Version,
    receive_max: u16,
    mqtt: Connection<role::Client>,
    connection: Option<u32>,
    up: bool,
    /// When it dials, or gives the attempt up that is under way.
    act_at: Instant,
    publish_at: Instant,
    ping_at: Option<Instant>,
    pingresp_until: Option<Instant>,
    in_flight: BTreeMap<u16, (Stream, u64)>,
    subscribing: u32,
}

impl Visitor {
    /// A session of its own.
    fn renew(&mut self) {
        self.generation += 1;
        self.in_flight.clear();
        self.mqtt = machine(self.version);
    }
}

fn machine(version: Version) -> Connection<role::Client> {
    let mut mqtt = Connection::<role::Client>::new(version);
    mqtt.set_auto_pub_response(true);
    mqtt.set_auto_ping_response(true);
    mqtt.set_pingresp_recv_timeout(PINGRESP_TIMEOUT_MS);
    mqtt
}

struct Visitors {
    random: fastrand::Rng,
    habits: Habits,
    address: SocketAddr,
    visitors: Vec<Visitor>,
    scene: Scene,
    /// Nobody comes any more.
    at_end: bool,
    tally: Tally,
}

impl Peer for Visitors {
    fn on_accepted(&mut self, _: u32, _: &mut PeerIo) {}

    fn on_connected(&mut self, connection: u32, io: &mut PeerIo) {
        let Some(index) = self.index(connection) else {
            return;
        };
        let visitor = &mut self.visitors[index];
        let keeps = self.habits.keeps_sessions;
        let client_id = format!("{}.{}", visitor.device, visitor.generation);
        let keep_alive = self.habits.keep_alive.as_secs() as u16;
        let packet: Packet = if visitor.version == Version::V5_0 {
            let mut properties: Vec<Property> =
                vec![ReceiveMaximum::new(visitor.receive_max).unwrap().into()];
            if keeps {
                properties.push(SessionExpiryInterval::new(3600).unwrap().into());
            }
            let connect = v5_0::Connect::builder().client_id(client_id).unwrap();
            let connect = connect
                .clean_start(!keeps)
                .keep_alive(keep_alive)
                .props(properties);
            connect.build().unwrap().into()
        } else {
            let connect = v3_1_1::Connect::builder().client_id(client_id).unwrap();
            let connect = connect.clean_session(!keeps).keep_alive(keep_alive);
            connect.build().unwrap().into()
        };
        let events = visitor.mqtt.send(packet);
        self.handle(index, events, io);
    }

    fn on_bytes(&mut self, connection: u32, bytes: &[u8], io: &mut PeerIo) {
        let mut cursor = Cursor::new(bytes);
        while (cursor.position() as usize) < bytes.len() {
            let Some(index) = self.index(connection) else {
                return;
            };
            let visitor = &mut self.visitors[index];
            let events = visitor.mqtt.recv(&mut cursor);
            self.handle(index, events, io);
        }
    }

    fn on_closed(&mut self, connection: u32, io: &mut PeerIo) {
        if let Some(index) = self.index(connection) {
            self.ended(index, io);
        }
    }

    fn on_timer(&mut self, io: &mut PeerIo) {
        for index in 0..self.visitors.len() {
            self.tick(index, io);
        }
        io.wake_at(Some(io.now() + TICK));
    }
}

impl Visitors {
    fn new(scene: &Scene, random: &mut fastrand::Rng, address: SocketAddr, now: Instant) -> Self {
        let visitor = |device| {
            let version = [Version::V5_0, Version::V3_1_1][device as usize % 2];
            Visitor {
                device,
                generation: 0,
                version,
                receive_max: random.u16(1..30),
                mqtt: machine(version),
                connection: None,
                up: false,
                act_at: now,
                publish_at: now,
                ping_at: None,
                pingresp_until: None,
                in_flight: BTreeMap::new(),
                subscribing: 0,
            }
        };
        let visitors = (0..scene.habits.devices).map(visitor).collect();
        Self {
            visitors,
            random: fastrand::Rng::with_seed(random.u64(..)),
            habits: scene.habits.clone(),
            address,
            scene: scene.clone(),
            at_end: false,
            tally: Tally::default(),
        }
    }

    fn index(&self, connection: u32) -> Option<usize> {
        let is = |visitor: &Visitor| visitor.connection == Some(connection);
        self.visitors.iter().position(is)
    }

    /// What they still wait for; empty when all is well.
    fn unrest(&self) -> Vec<String> {
        let waits = self
            .visitors
            .iter()
            .filter(|visitor| !visitor.up || !visitor.in_flight.is_empty() || visitor.subscribing > 0);
        waits
            .map(|visitor| {
                format!(
                    "device {}: up {}, {:?}",
                    visitor.device, visitor.up, visitor.in_flight
                )
            })
            .collect()
    }

    fn tick(&mut self, index: usize, io: &mut PeerIo) {
        let now = io.now();
        let calm = self.scene.is_calm();
        let visitor = &mut self.visitors[index];
        let Some(connection) = visitor.connection else {
            if visitor.act_at <= now && !self.at_end {
                visitor.connection = Some(io.dial(self.address));
                visitor.act_at = now + CONNECT_TIMEOUT;
            }
            return;
        };
        if !visitor.up {
            if visitor.act_at <= now {
                self.tally.hit("foreign: no CONNACK");
                self.leave(index, io);
            }
            return;
        }
        if visitor.pingresp_until.is_some_and(|at| at <= now) {
            // The machine would say so with 0x8D, which table 3-10 of 5.0 keeps for servers.
            self.tally.hit("foreign: no PINGRESP");
            return self.leave(index, io);
        }
        if visitor.ping_at.take_if(|at| *at <= now).is_some() {
            let events = visitor.mqtt.notify_timer_fired(TimerKind::PingreqSend);
            self.handle(index, events, io);
        }
        let visitor = &mut self.visitors[index];
        if calm || visitor.connection != Some(connection) || visitor.publish_at > now {
            return;
        }
        visitor.publish_at = now + self.habits.period;
        self.publish(index, io);
        if self.random.f64() < self.habits.mischief {
            self.misbehave(index, io);
        }
    }

    fn misbehave(&mut self, index: usize, io: &mut PeerIo) {
        let visitor = &mut self.visitors[index];
        let Some(connection) = visitor.connection else {
            return;
        };
        let v5 = visitor.version == Version::V5_0;
        match self.random.u8(0..6) {
            0 => {
                self.tally.hit("foreign: abort");
                io.abort(connection);
                self.ended(index, io);
            }
            1 => {
                self.tally.hit("foreign: disconnect");
                let events = if v5 {
                    visitor
                        .mqtt
                        .send(v5_0::Disconnect::builder().build().unwrap().into())
                } else {
                    visitor
                        .mqtt
                        .send(v3_1_1::Disconnect::builder().build().unwrap().into())
                };
                self.handle(index, events, io);
                self.leave(index, io);
            }
            2 => self.leave(index, io),
            3 => {
                self.tally.hit("foreign: replaced");
                self.leave(index, io);
                self.visitors[index].renew();
            }
            4 => {
                let packet_id = visitor.mqtt.acquire_packet_id().unwrap();
                let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
                let entries = vec![SubEntry::new("some/+/filter/#", options).unwrap()];
                visitor.subscribing += 1;
                let events = if v5 {
                    let subscribe = v5_0::Subscribe::builder().packet_id(packet_id).entries(entries);
                    visitor.mqtt.send(subscribe.build().unwrap().into())
                } else {
                    let subscribe = v3_1_1::Subscribe::builder().packet_id(packet_id).entries(entries);
                    visitor.mqtt.send(subscribe.build().unwrap().into())
                };
                self.handle(index, events, io);
            }
            _ => {
                let packet_id = visitor.mqtt.acquire_packet_id().unwrap();
                let entries = ["some/+/filter/#"];
                visitor.subscribing += 1;
                let events = if v5 {
                    let unsubscribe = v5_0::Unsubscribe::builder()
                        .packet_id(packet_id)
                        .entries(entries)
                        .unwrap();
                    visitor.mqtt.send(unsubscribe.build().unwrap().into())
                } else {
                    let unsubscribe = v3_1_1::Unsubscribe::builder()
                        .packet_id(packet_id)
                        .entries(entries)
                        .unwrap();
                    visitor.mqtt.send(unsubscribe.build().unwrap().into())
                };
                self.handle(index, events, io);
            }
        }
    }

    fn publish(&mut self, index: usize, io: &mut PeerIo) {
        for _ in 0..self.random.usize(1..4) {
            let visitor = &mut self.visitors[index];
            if !visitor.up || visitor.in_flight.len() >= IN_FLIGHT_MAX {
                return;
            }
            let stream = super::draw(&mut self.random, visitor.device, self.habits.qos_max);
            let len = self.random.usize(0..=self.habits.payload_max);
            let (topic, seq, payload) = self.scene.up.lock().unwrap().send(stream, len);
            let packet_id = match stream.qos {
                QoS::AtMostOnce => None,
                _ => Some(visitor.mqtt.acquire_packet_id().unwrap()),
            };
            if let Some(packet_id) = packet_id {
                visitor.in_flight.insert(packet_id, (stream, seq));
            }
            let packet = super::publish(visitor.version, topic, stream.qos, packet_id, payload);
            let events = visitor.mqtt.send(packet);
            self.handle(index, events, io);
        }
    }

    /// Closes when everything is sent.
    fn leave(&mut self, index: usize, io: &mut PeerIo) {
        if let Some(connection) = self.visitors[index].connection {
            io.close(connection);
            self.ended(index, io);
        }
    }

    fn ended(&mut self, index: usize, io: &PeerIo) {
        let wait = Duration::from_millis(self.random.u64(0..1000));
        let visitor = &mut self.visitors[index];
        // The machine would join what is left of a packet with the next connection's bytes, so another one goes on.
        let before = std::mem::replace(&mut visitor.mqtt, machine(visitor.version));
        if self.habits.keeps_sessions {
            visitor.mqtt.restore_packets(before.get_stored_packets());
            let handled = before.get_qos2_publish_handled();
            visitor.mqtt.restore_qos2_publish_handled(handled);
        } else {
            visitor.in_flight.clear();
        }
        visitor.connection = None;
        visitor.up = false;
        visitor.ping_at = None;
        visitor.pingresp_until = None;
        visitor.subscribing = 0;
        visitor.act_at = io.now() + wait;
    }

    fn handle(&mut self, index: usize, events: Vec<Event>, io: &mut PeerIo) {
        let connection = self.visitors[index].connection;
        for event in events {
            let visitor = &mut self.visitors[index];
            let Some(connection) = connection.filter(|_| visitor.connection == connection) else {
                return;
            };
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    io.send(connection, &packet.to_continuous_buffer());
                }
                Event::NotifyPacketReceived(packet) => self.received(index, &packet, io),
                Event::NotifyPacketIdReleased(packet_id) => {
                    if let Some((stream, seq)) = visitor.in_flight.remove(&packet_id) {
                        self.scene.up.lock().unwrap().assert_received(stream, seq);
                        self.tally.hit(match stream.qos {
                            QoS::ExactlyOnce => "foreign: QoS 2 acknowledged",
                            _ => "foreign: QoS 1 acknowledged",
                        });
                    }
                }
                Event::RequestTimerReset { kind, duration_ms } => {
                    let at = io.now() + Duration::from_millis(duration_ms);
                    match kind {
                        TimerKind::PingreqSend => visitor.ping_at = Some(at),
                        // Each PINGREQ would put it off, and with a short keep-alive for ever.
                        TimerKind::PingrespRecv => _ = visitor.pingresp_until.get_or_insert(at),
                        TimerKind::PingreqRecv => panic!("a server's timer"),
                    }
                }
                Event::RequestTimerCancel(TimerKind::PingreqSend) => visitor.ping_at = None,
                Event::RequestTimerCancel(_) => visitor.pingresp_until = None,
                Event::NotifyError(error) => panic!("device {}: {error:?}", visitor.device),
                Event::RequestClose => self.leave(index, io),
            }
        }
    }

    fn received(&mut self, index: usize, packet: &Packet, io: &mut PeerIo) {
        let device = self.visitors[index].device;
        let stream = super::take(&mut self.scene.down.lock().unwrap(), packet);
        if let Some(stream) = stream {
            assert_eq!(stream.device, device, "somebody else's message");
        }
        match packet {
            Packet::V5_0Connack(connack) => {
                let accepted = connack.reason_code() == ConnectReasonCode::Success;
                self.answered(index, accepted, connack.session_present(), io);
            }
            Packet::V3_1_1Connack(connack) => {
                let accepted = connack.return_code() == ConnectReturnCode::Accepted;
                self.answered(index, accepted, connack.session_present(), io);
            }
            Packet::V5_0Suback(_)
            | Packet::V3_1_1Suback(_)
            | Packet::V5_0Unsuback(_)
            | Packet::V3_1_1Unsuback(_) => {
                self.tally.hit("foreign: subscription answered");
                self.visitors[index].subscribing -= 1;
            }
            Packet::V5_0Disconnect(_) => {
                self.tally.hit("foreign: told to leave");
                self.leave(index, io);
            }
            _ => {}
        }
    }

    fn answered(&mut self, index: usize, accepted: bool, session_present: bool, io: &mut PeerIo) {
        if !accepted {
            self.tally.hit("foreign: refused");
            return self.leave(index, io);
        }
        let visitor = &mut self.visitors[index];
        visitor.up = true;
        if session_present {
            self.tally.hit("foreign: session present");
        } else {
            // It has forgotten them.
            visitor.in_flight.clear();
        }
    }
}

fn scenario(seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let (scene, mut sim) = Scene::new(&mut random);
    let address = "10.0.0.1:1883".parse().unwrap();
    let builder = Engine::builder()
        .limits(limits(&mut random))
        .seed(random.u64(..))
        .listen(sim.listener(address), None, 0);
    let mut handler = Some(Server::new(&scene, random.u64(..)));
    let server = sim
        .start(builder, |_| handler.take().expect("there is one shard"))
        .unwrap();
    let visitors = Visitors::new(&scene, &mut random, address, sim.now());
    let visitors = sim.join(visitors).unwrap();
    visitors.with(|_, io| io.wake_at(Some(io.now())));

    let mut tally = Tally::default();
    scene.storm(&mut sim, &mut random, |_| {});
    let unrest = || {
        let mut unrest = server.with_handler(0, Server::unrest).unwrap_or_default();
        unrest.extend(visitors.with(|visitors, _| visitors.unrest()).unwrap_or_default());
        unrest
    };
    if !scene.calm_down(&mut sim, &mut random, unrest) {
        tally.hit("shut down in bad weather");
    }
    server.with_handler(0, Server::forget_sessions);
    scene.shut_down(&mut sim, &server);
    visitors.with(|visitors, io| {
        visitors.at_end = true;
        for index in 0..visitors.visitors.len() {
            visitors.leave(index, io);
        }
    });
    scene.settle(&mut sim, &[server.stats()], &mut tally);
    server.with_handler(0, |server| tally.merge(&server.tally));
    visitors.with(|visitors, _| tally.merge(&visitors.tally));
    tally
}
