//! Our devices against its server role.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleetwire_codec::QoS;
use fleetwire_engine::Engine;
use fleetwire_engine::sim::{Peer, PeerIo};
use mqtt_protocol_core::mqtt::connection::{Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};
use mqtt_protocol_core::mqtt::{Connection, Version, common::Cursor, role};

use super::IN_FLIGHT_MAX;
use crate::devices::Devices;
use crate::ledger::Stream;
use crate::scene::{Scene, draw_plan, limits};
use crate::seeds::{self, Tally};
use crate::two_engines::command;

/// Without these a run would prove little.
const RARE: &[&str] = &[
    "connection_lost",
    "foreign: QoS 1 acknowledged",
    "foreign: QoS 2 acknowledged",
    "foreign: disconnect",
    "foreign: keep-alive over",
    "foreign: taken over",
    "half_closes",
    "keep_alive_timeout",
    "link replaced",
    "resets",
    "short_reads",
    "subscription answered",
];

/// How often it looks at its timers and publishes.
const TICK: Duration = Duration::from_millis(500);
/// How long CONNECT may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn foreign_server() {
    seeds::run("foreign_server", 100, RARE, scenario);
}

struct Guest {
    mqtt: Connection<role::Server>,
    version: Version,
    device: Option<u32>,
    /// When its keep-alive is over, or its time to say CONNECT.
    silent_at: Option<Instant>,
    in_flight: BTreeMap<u16, (Stream, u64)>,
}

struct Foreign {
    random: fastrand::Rng,
    guests: BTreeMap<u32, Guest>,
    scene: Scene,
    tally: Tally,
}

impl Peer for Foreign {
    fn on_accepted(&mut self, connection: u32, io: &mut PeerIo) {
        let mut mqtt = Connection::<role::Server>::new(Version::Undetermined);
        mqtt.set_auto_pub_response(true);
        mqtt.set_auto_ping_response(true);
        let guest = Guest {
            mqtt,
            version: Version::Undetermined,
            device: None,
            silent_at: Some(io.now() + CONNECT_TIMEOUT),
            in_flight: BTreeMap::new(),
        };
        self.guests.insert(connection, guest);
        if self.guests.len() == 1 {
            io.wake_at(Some(io.now() + TICK));
        }
    }

    fn on_bytes(&mut self, connection: u32, bytes: &[u8], io: &mut PeerIo) {
        let mut cursor = Cursor::new(bytes);
        while (cursor.position() as usize) < bytes.len() {
            let Some(guest) = self.guests.get_mut(&connection) else {
                return;
            };
            let events = guest.mqtt.recv(&mut cursor);
            self.handle(connection, events, io);
        }
    }

    fn on_closed(&mut self, connection: u32, _io: &mut PeerIo) {
        self.guests.remove(&connection);
    }

    fn on_timer(&mut self, io: &mut PeerIo) {
        for connection in self.guests.keys().copied().collect::<Vec<_>>() {
            self.tick(connection, io);
        }
        if !self.guests.is_empty() {
            io.wake_at(Some(io.now() + TICK));
        }
    }
}

impl Foreign {
    /// What guests still wait for, and guests that are missing or too many.
    fn unrest(&self) -> Vec<String> {
        let waits = self
            .guests
            .iter()
            .filter(|(_, guest)| !guest.in_flight.is_empty());
        let mut unrest: Vec<String> = waits
            .map(|(connection, guest)| format!("connection {connection}: {:?}", guest.in_flight))
            .collect();
        let devices = self.scene.habits.devices as usize;
        if self.guests.len() != devices {
            unrest.push(format!("{} guests for {devices} devices", self.guests.len()));
        }
        unrest
    }

    fn tick(&mut self, connection: u32, io: &mut PeerIo) {
        let calm = self.scene.is_calm();
        let Some(guest) = self.guests.get_mut(&connection) else {
            return;
        };
        if guest.silent_at.is_some_and(|at| at <= io.now()) {
            // The machine knows of keep-alives, and not of connections that never say CONNECT.
            if guest.device.is_some() {
                self.tally.hit("foreign: keep-alive over");
                let events = guest.mqtt.notify_timer_fired(TimerKind::PingreqRecv);
                self.handle(connection, events, io);
            }
            return self.leave(connection, io);
        }
        if calm || guest.device.is_none() {
            return;
        }
        match self.random.u8(0..100) {
            0 => {
                self.tally.hit("foreign: abort");
                self.guests.remove(&connection);
                io.abort(connection);
            }
            1 if guest.version == Version::V5_0 => {
                self.tally.hit("foreign: disconnect");
                let disconnect = v5_0::Disconnect::builder().build().unwrap();
                let events = guest.mqtt.send(disconnect.into());
                self.handle(connection, events, io);
                self.leave(connection, io);
            }
            2 => self.leave(connection, io),
            3..40 => self.publish(connection, io),
            _ => {}
        }
    }

    /// Closes when everything is sent.
    fn leave(&mut self, connection: u32, io: &mut PeerIo) {
        self.guests.remove(&connection);
        io.close(connection);
    }

    fn publish(&mut self, connection: u32, io: &mut PeerIo) {
        for _ in 0..self.random.usize(1..4) {
            let Some(guest) = self.guests.get_mut(&connection) else {
                return;
            };
            let Some(device) = guest.device.filter(|_| guest.in_flight.len() < IN_FLIGHT_MAX) else {
                return;
            };
            let stream = super::draw(&mut self.random, device, self.scene.habits.qos_max);
            let (topic, seq, payload) = self
                .scene
                .down
                .lock()
                .unwrap()
                .send(stream, self.random.usize(0..3000));
            let packet_id = match stream.qos {
                QoS::AtMostOnce => None,
                _ => Some(guest.mqtt.acquire_packet_id().unwrap()),
            };
            if let Some(packet_id) = packet_id {
                guest.in_flight.insert(packet_id, (stream, seq));
            }
            let packet = super::publish(guest.version, topic, stream.qos, packet_id, payload);
            let events = guest.mqtt.send(packet);
            self.handle(connection, events, io);
        }
    }

    fn send(&mut self, connection: u32, packet: impl Into<Packet>, io: &mut PeerIo) {
        if let Some(guest) = self.guests.get_mut(&connection) {
            let events = guest.mqtt.send(packet.into());
            self.handle(connection, events, io);
        }
    }

    fn handle(&mut self, connection: u32, events: Vec<Event>, io: &mut PeerIo) {
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    io.send(connection, &packet.to_continuous_buffer());
                }
                Event::NotifyPacketReceived(packet) => self.received(connection, packet, io),
                Event::NotifyPacketIdReleased(packet_id) => {
                    let guest = self.guests.get_mut(&connection);
                    let sent = guest.and_then(|guest| guest.in_flight.remove(&packet_id));
                    if let Some((stream, seq)) = sent {
                        self.scene.down.lock().unwrap().assert_received(stream, seq);
                        self.tally.hit(match stream.qos {
                            QoS::ExactlyOnce => "foreign: QoS 2 acknowledged",
                            _ => "foreign: QoS 1 acknowledged",
                        });
                    }
                }
                Event::RequestTimerReset { kind, duration_ms } => {
                    if let Some(guest) = self.guests.get_mut(&connection)
                        && kind == TimerKind::PingreqRecv
                    {
                        guest.silent_at = Some(io.now() + Duration::from_millis(duration_ms));
                    }
                }
                Event::RequestTimerCancel(_) => {
                    if let Some(guest) = self.guests.get_mut(&connection) {
                        guest.silent_at = None;
                    }
                }
                Event::NotifyError(error) => panic!("connection {connection}: {error:?}"),
                Event::RequestClose => self.leave(connection, io),
            }
        }
    }

    fn received(&mut self, connection: u32, packet: Packet, io: &mut PeerIo) {
        let stream = super::take(&mut self.scene.up.lock().unwrap(), &packet);
        if let Some(stream) = stream {
            let guest = self.guests.get(&connection).expect("a guest");
            assert_eq!(guest.device, Some(stream.device), "somebody else's message");
        }
        match packet {
            Packet::V5_0Connect(connect) => {
                self.welcome(connection, connect.client_id(), Version::V5_0, io);
                let connack = v5_0::Connack::builder()
                    .session_present(false)
                    .reason_code(ConnectReasonCode::Success);
                self.send(connection, connack.build().unwrap(), io);
            }
            Packet::V3_1_1Connect(connect) => {
                self.welcome(connection, connect.client_id(), Version::V3_1_1, io);
                let connack = v3_1_1::Connack::builder()
                    .session_present(false)
                    .return_code(ConnectReturnCode::Accepted);
                self.send(connection, connack.build().unwrap(), io);
            }
            Packet::V5_0Subscribe(subscribe) => {
                let suback = v5_0::Suback::builder()
                    .packet_id(subscribe.packet_id())
                    .reason_codes(vec![SubackReasonCode::GrantedQos1]);
                self.send(connection, suback.build().unwrap(), io);
            }
            Packet::V3_1_1Subscribe(subscribe) => {
                let suback = v3_1_1::Suback::builder()
                    .packet_id(subscribe.packet_id())
                    .return_codes(vec![SubackReturnCode::SuccessMaximumQos1]);
                self.send(connection, suback.build().unwrap(), io);
            }
            Packet::V5_0Unsubscribe(unsubscribe) => {
                let unsuback = v5_0::Unsuback::builder()
                    .packet_id(unsubscribe.packet_id())
                    .reason_codes(vec![UnsubackReasonCode::Success]);
                self.send(connection, unsuback.build().unwrap(), io);
            }
            Packet::V3_1_1Unsubscribe(unsubscribe) => {
                let unsuback = v3_1_1::Unsuback::builder().packet_id(unsubscribe.packet_id());
                self.send(connection, unsuback.build().unwrap(), io);
            }
            Packet::V5_0Disconnect(_) | Packet::V3_1_1Disconnect(_) => self.leave(connection, io),
            _ => {}
        }
    }

    /// v5 [MQTT-3.1.4-3]: the newer connection takes the session over.
    fn welcome(&mut self, connection: u32, client_id: &str, version: Version, io: &mut PeerIo) {
        let device = client_id
            .split_once('.')
            .and_then(|(device, _)| device.parse().ok());
        let device = device.expect("a client id of ours");
        let older = self.guests.iter().find(|(_, guest)| guest.device == Some(device));
        if let Some(older) = older.map(|(older, _)| *older) {
            self.tally.hit("foreign: taken over");
            self.leave(older, io);
        }
        if let Some(guest) = self.guests.get_mut(&connection) {
            guest.version = version;
            guest.device = Some(device);
        }
    }
}

fn scenario(seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let (scene, mut sim) = Scene::new(&mut random);
    // It keeps no sessions.
    for ledger in [&scene.up, &scene.down] {
        ledger.lock().unwrap().redelivers = false;
    }
    let foreign = Foreign {
        random: fastrand::Rng::with_seed(random.u64(..)),
        guests: BTreeMap::new(),
        scene: scene.clone(),
        tally: Tally::default(),
    };
    let foreign = sim.serve("10.0.0.1:1883".parse().unwrap(), foreign).unwrap();
    let plan = draw_plan(&mut random, None);
    let builder = Engine::builder().limits(limits(&mut random)).seed(random.u64(..));
    let mut handler = Some(Devices::new(&scene, plan, random.u64(..)));
    let client = sim
        .start(builder, |_| handler.take().expect("there is one shard"))
        .unwrap();

    let mut tally = Tally::default();
    scene.storm(&mut sim, &mut random, |random| {
        command(&client, random, &scene.up, &mut tally)
    });
    let unrest = || {
        let mut unrest = client.with_handler(0, Devices::unrest).unwrap_or_default();
        unrest.extend(foreign.with(|foreign, _| foreign.unrest()).unwrap_or_default());
        unrest
    };
    if !scene.calm_down(&mut sim, &mut random, unrest) {
        tally.hit("shut down in bad weather");
    }
    scene.shut_down(&mut sim, &client);
    scene.settle(&mut sim, &[client.stats()], &mut tally);
    client.with_handler(0, |devices| tally.merge(&devices.tally));
    foreign.with(|foreign, _| tally.merge(&foreign.tally));
    tally
}
