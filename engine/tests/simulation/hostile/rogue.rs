//! A peer that keeps to no rule: samples in any order, cut, changed, byte by byte, by the thousand; reads nothing, ends
//! in any way.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{Packet, QoS, Version};
use fleetwire_engine::sim::{Peer, PeerIo};

use crate::samples::{Sample, samples};
use crate::seeds::Tally;

/// Connections that one which dials has at a time.
const CONNECTIONS: usize = 8;
const TICK: Duration = Duration::from_millis(20);

pub(super) struct Rogue {
    random: fastrand::Rng,
    samples: Vec<Sample>,
    dials: Option<SocketAddr>,
    connections: BTreeMap<u32, Connection>,
    /// Connections that it has dialled, and that have ended.
    dialled: usize,
    ended: usize,
    calm: Arc<AtomicBool>,
    pub(super) tally: Tally,
}

struct Connection {
    /// Of most of what it sends.
    version: Version,
    /// It acknowledges what comes, and does nothing else.
    gentle: bool,
    /// What it still sends byte by byte.
    dribble: VecDeque<u8>,
}

impl Rogue {
    /// One that dials, or one that is dialled.
    pub(super) fn new(dials: Option<SocketAddr>, random: &mut fastrand::Rng, calm: &Arc<AtomicBool>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(random.u64(..)),
            samples: samples(),
            dials,
            connections: BTreeMap::new(),
            dialled: 0,
            ended: 0,
            calm: Arc::clone(calm),
            tally: Tally::default(),
        }
    }

    /// A sample with that in its name.
    fn sample(&mut self, connection: u32, kind: &str) -> Vec<u8> {
        let version = self.connections.get(&connection).map(|of| of.version);
        let version = version.filter(|_| self.random.u8(0..10) > 0);
        let fit: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| version.is_none_or(|version| sample.version == version))
            .filter(|sample| sample.name.contains(kind))
            .collect();
        fit[self.random.usize(0..fit.len())].bytes.clone()
    }

    /// What makes the other side listen, most of the time.
    fn begin(&mut self, connection: u32, io: &mut PeerIo) {
        let fresh = Connection {
            version: [Version::V311, Version::V5][self.random.usize(0..2)],
            gentle: self.random.u8(0..3) == 0,
            dribble: VecDeque::new(),
        };
        self.connections.insert(connection, fresh);
        if self.random.u8(0..5) > 0 {
            let greeting = match self.dials {
                Some(_) => self.sample(connection, "_connect_"),
                None => self.sample(connection, "_connack_"),
            };
            io.send(connection, &greeting);
        }
    }

    fn act(&mut self, connection: u32, io: &mut PeerIo) {
        match self.random.u8(0..40) {
            0..8 => {
                let sample = self.sample(connection, "");
                io.send(connection, &sample);
            }
            8 => {
                let mut sample = self.sample(connection, "");
                for _ in 0..self.random.usize(1..4) {
                    let index = self.random.usize(0..sample.len());
                    sample[index] = self.random.u8(..);
                }
                io.send(connection, &sample);
            }
            9 => {
                let sample = self.sample(connection, "");
                io.send(connection, &sample[..self.random.usize(0..sample.len())]);
            }
            10 => {
                let len = self.random.usize(5..200);
                let mut garbage: Vec<u8> = (0..len).map(|_| self.random.u8(..)).collect();
                // The header of a record of TLS's handshake (RFC 8446 section 5.1), of up to 255 bytes.
                if self.random.bool() {
                    garbage[..4].copy_from_slice(&[0x16, 3, 1, 0]);
                }
                io.send(connection, &garbage);
            }
            // A packet of 256 MiB is announced (v5 section 1.5.5).
            11 => io.send(connection, &[0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a']),
            12 => {
                self.tally.hit("rogue: dribbles");
                let sample = self.sample(connection, "");
                if let Some(of) = self.connections.get_mut(&connection) {
                    of.dribble.extend(sample);
                }
            }
            13 => {
                self.tally.hit("rogue: floods");
                let sample = self.sample(connection, "");
                for _ in 0..self.random.usize(50..1000) {
                    io.send(connection, &sample);
                }
            }
            14 => {
                // Many at QoS 2, none of which it releases: PUBLISH "a" in 3.1.1, and in 5.0 without properties.
                for packet_id in 1..self.random.u16(2..300) {
                    let [high, low] = packet_id.to_be_bytes();
                    io.send(connection, &[0x34, 6, 0, 1, b'a', high, low, 0]);
                }
            }
            15..20 => {
                // Every acknowledgement of what may be in flight.
                let first = [0x40, 0x50, 0x62, 0x70, 0x90, 0xb0][self.random.usize(0..6)];
                for packet_id in 1..self.random.u8(2..20) {
                    match first {
                        0x90 => io.send(connection, &[first, 4, 0, packet_id, 0, 0]),
                        // Not authorized, where it can be said.
                        0x40 | 0x50 if self.random.bool() => {
                            io.send(connection, &[first, 3, 0, packet_id, 0x87])
                        }
                        _ => io.send(connection, &[first, 2, 0, packet_id]),
                    }
                }
            }
            20 => {
                self.tally.hit("rogue: reads nothing");
                io.set_reading(connection, false);
            }
            21 => io.set_reading(connection, true),
            22 => {
                self.tally.hit("rogue: half-closes");
                io.shutdown_write(connection);
            }
            23 => self.leave(connection, io),
            24 => {
                self.connections.remove(&connection);
                self.ended += 1;
                io.abort(connection);
            }
            25 => {
                // The longest topic: PUBLISH at QoS 0, remaining length 65,538 and so 82 80 04.
                io.send(connection, &[0x30, 0x82, 0x80, 0x04, 0xff, 0xff]);
                io.send(connection, &[b't'; 65_535]);
                io.send(connection, &[0]);
            }
            _ => {}
        }
    }

    /// Acknowledges, or refuses, what lies whole in `bytes`.
    fn acknowledge(&mut self, connection: u32, version: Version, bytes: &[u8], io: &mut PeerIo) {
        let mut rest = bytes;
        while let Ok(Split::Complete(frame)) = frame::split(rest, usize::MAX) {
            rest = &rest[frame.len()..];
            let (first, packet_id) = match Packet::decode(frame, version) {
                Ok(Packet::Publish(publish)) => match publish.packet_id {
                    Some(packet_id) if publish.qos == QoS::AtLeastOnce => (0x40, packet_id),
                    Some(packet_id) => (0x50, packet_id),
                    None => continue,
                },
                Ok(Packet::Pubrec(pubrec)) => (0x62, pubrec.packet_id),
                Ok(Packet::Pubrel(pubrel)) => (0x70, pubrel.packet_id),
                _ => continue,
            };
            let [high, low] = packet_id.value().to_be_bytes();
            // Not authorized, where it can be said.
            if version == Version::V5 && matches!(first, 0x40 | 0x50) && self.random.u8(0..4) == 0 {
                io.send(connection, &[first, 3, high, low, 0x87]);
            } else {
                io.send(connection, &[first, 2, high, low]);
            }
        }
    }

    fn leave(&mut self, connection: u32, io: &mut PeerIo) {
        self.connections.remove(&connection);
        self.ended += 1;
        io.close(connection);
    }
}

impl Peer for Rogue {
    fn on_accepted(&mut self, connection: u32, io: &mut PeerIo) {
        self.begin(connection, io);
    }

    fn on_connected(&mut self, connection: u32, io: &mut PeerIo) {
        self.begin(connection, io);
    }

    fn on_bytes(&mut self, connection: u32, bytes: &[u8], io: &mut PeerIo) {
        match self.connections.get(&connection) {
            Some(of) if of.gentle => {
                let version = of.version;
                self.acknowledge(connection, version, bytes, io);
            }
            Some(_) if self.random.u8(0..50) == 0 => io.send(connection, bytes),
            _ => {}
        }
    }

    fn on_closed(&mut self, connection: u32, _: &mut PeerIo) {
        self.connections.remove(&connection);
        self.ended += 1;
    }

    fn on_timer(&mut self, io: &mut PeerIo) {
        let calm = self.calm.load(Ordering::Relaxed);
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            if calm {
                self.leave(connection, io);
                continue;
            }
            let dribble = self.connections.get_mut(&connection);
            if let Some(byte) = dribble.and_then(|of| of.dribble.pop_front()) {
                io.send(connection, &[byte]);
                continue;
            }
            if self.connections.get(&connection).is_some_and(|of| !of.gentle) {
                self.act(connection, io);
            }
        }
        if let Some(address) = self.dials.filter(|_| !calm)
            && self.dialled < CONNECTIONS + self.ended
        {
            self.dialled += 1;
            io.dial(address);
        }
        io.wake_at(Some(io.now() + TICK));
    }
}
