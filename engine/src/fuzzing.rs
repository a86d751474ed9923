//! Lists of operations on a client's and a server's session machine, with a model beside them: for the fuzz target
//! `session`.
//!
//! The two machines speak with each other in encoded packets that are delivered, held up, or lost with their connection as
//! the input says, and acknowledge at once or when the input says. While nobody else speaks: no machine ever finds a
//! violation, every publish comes to exactly one end, what ends acknowledged was acknowledged by its receiver, and nothing
//! at QoS 2 was so twice. Input may also put in packets of its own; from then on only what must always hold is asked.

mod side;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fleetwire_codec::buffer::{Pool, PoolLimits};
use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{
    Carrier, Connack, Connect, Packet, PropertiesBuf, Property, Puback, Pubrec, Pubrel, QoS, ReasonCode,
    TopicName, Version,
};

use self::side::{End, Input, Side, encode};
use crate::session::{Again, Entry, Expired, Kept, Kind, Meaning, Session, State};
use crate::{Limits, Publish};

/// Carries out the operations that the bytes stand for.
///
/// # Panics
/// Where a promise of the sessions is broken.
pub fn session(input: &[u8]) {
    let mut input = Input(input);
    let mut world = World::new(&mut input);
    world.connect();
    while !input.0.is_empty() {
        world.step(&mut input);
    }
    world.finish();
}

struct World {
    version: Version,
    keeps: bool,
    receive_max: u16,
    clean_start: bool,
    now: Instant,
    limits: Limits,
    pool: Pool,
    client: Side,
    server: Side,
    /// Input has put in a packet of its own.
    hostile: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Server,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let how = input.byte();
        let now = Instant::now();
        let side = || Side {
            session: Session::server(now),
            state: None,
            out: VecDeque::new(),
            ends: BTreeMap::new(),
            next_token: 0,
            held: Vec::new(),
        };
        Self {
            version: if how & 1 == 0 { Version::V5 } else { Version::V311 },
            keeps: how & 2 == 0,
            receive_max: u16::from(how >> 2 & 7) + 1,
            clean_start: false,
            now,
            limits: Limits::default().in_flight_max(6),
            pool: Pool::new(PoolLimits::default()),
            client: side(),
            server: side(),
            hostile: false,
        }
    }

    fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        let who = if operation & 1 == 0 {
            Who::Client
        } else {
            Who::Server
        };
        match operation >> 1 & 7 {
            0 | 1 => self.publish(who, input.byte()),
            2..=4 => {
                self.deliver_to(who, operation & 0b1_0000 != 0);
                // One of those that are held, if there are so many.
                self.decide(who, usize::from(operation >> 5));
            }
            5 => self.wait(who, u64::from(input.byte())),
            6 => {
                let how = input.byte();
                self.clean_start = how & 1 == 1;
                if how & 2 == 2 {
                    // The server has lost what it kept.
                    self.disconnect();
                    self.lose(Who::Server);
                }
                self.connect();
            }
            _ => {
                let len = usize::from(input.byte());
                self.inject(who, input.bytes(len));
            }
        }
        self.send_again(Who::Client);
        self.send_again(Who::Server);
    }

    /// Ends the connection that there is, and makes another, up to its CONNACK.
    fn connect(&mut self) {
        self.disconnect();
        let mut asked = PropertiesBuf::new(Carrier::Connect);
        let mut told = PropertiesBuf::new(Carrier::Connack);
        if self.version == Version::V5 {
            let expiry = Property::SessionExpiryInterval(u32::from(self.keeps) * 60);
            asked.push(expiry).expect("it is allowed");
            for list in [&mut asked, &mut told] {
                let max = Property::ReceiveMaximum(self.receive_max);
                list.push(max).expect("it is allowed");
            }
        }
        let connect = Connect {
            version: self.version,
            clean_start: self.clean_start || !self.keeps,
            keep_alive_secs: 9,
            client_id: "a",
            will: None,
            username: None,
            password: None,
            properties: asked.as_properties(),
        };
        self.client.session = Session::client(&connect, self.client.state.take(), self.now);
        self.server.session = Session::server(self.now);
        let met = self
            .server
            .session
            .handle(self.now, Packet::Connect(connect), &self.limits);
        assert!(matches!(met, Ok(Meaning::Connect(_))), "{met:?}");
        if connect.clean_start {
            self.lose(Who::Server);
        }
        let state = self.server.state.take();
        let connack = Connack::accepted(state.is_some()).with_properties(told.as_properties());
        // In 3.1.1 a clean session ends with its connection, v3.1.1 [MQTT-3.1.2-6].
        if self.keeps && (self.version == Version::V5 || !connect.clean_start) {
            let properties = told.as_properties();
            self.server.session.accepted_to_keep(state, &properties, 9);
        } else {
            self.server.session.accepted(&told.as_properties(), 9);
        }
        let met = self
            .client
            .session
            .handle(self.now, Packet::Connack(connack), &self.limits);
        assert!(matches!(met, Ok(Meaning::Connack(_))), "{met:?}");
        while let Some(entry) = self.client.session.pop_lost() {
            self.client.end(&entry);
        }
    }

    /// What is on its way is lost; what was begun goes on or ends.
    fn disconnect(&mut self) {
        let now = self.now;
        for who in [Who::Client, Who::Server] {
            let side = self.side(who);
            side.out.clear();
            side.held.clear();
            if let Some(state) = side.session.suspend(now) {
                side.state = Some(state);
            }
            while let Some(entry) = side.session.pop_dropped() {
                side.end(&entry);
            }
            side.session = Session::server(now);
        }
    }

    /// The state between two connections is gone.
    fn lose(&mut self, who: Who) {
        let side = self.side(who);
        if let Some(mut state) = side.state.take() {
            while let Some(entry) = state.pop_dropped() {
                side.end(&entry);
            }
        }
    }

    fn publish(&mut self, who: Who, how: u8) {
        let (now, version) = (self.now, self.version);
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(how % 3)];
        let pool = &mut self.pool;
        let side = match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        };
        let token = side.next_token;
        let text = token.to_string();
        let publish = Publish::new(TopicName::new("t").expect("it is one"), text.as_bytes()).qos(qos);
        let Ok(mut packet) = side.session.prepare_publish(&publish) else {
            return;
        };
        if qos != QoS::AtMostOnce {
            let entry = Entry {
                kind: Kind::of(qos),
                token,
                intended: now,
                sent: now,
                kept: None,
                waits: false,
            };
            packet.packet_id = side.session.begin(entry);
            assert!(packet.packet_id.is_some(), "the window is smaller than the table");
            let end = End {
                qos: qos.bits(),
                ..End::default()
            };
            side.ends.insert(token, end);
            side.next_token += 1;
        }
        let bytes = encode(&Packet::Publish(packet), version);
        if let Some(packet_id) = packet.packet_id.filter(|_| side.session.keeps()) {
            let mut block = pool.take(bytes.len()).expect("there is memory");
            if let Some(room) = block.bytes_mut().and_then(|room| room.get_mut(..bytes.len())) {
                room.copy_from_slice(&bytes);
            }
            side.session.keep(packet_id, Kept::new(block, bytes.len()));
        }
        side.session.sent(now);
        side.out.push_back(bytes);
    }

    /// The other side's next packet arrives; `holds` if it is a publish that is not to be acknowledged yet.
    fn deliver_to(&mut self, who: Who, holds: bool) -> bool {
        let other = if who == Who::Client {
            Who::Server
        } else {
            Who::Client
        };
        let Some(bytes) = self.side(other).out.pop_front() else {
            return false;
        };
        self.handle(who, &bytes, holds);
        true
    }

    /// Acknowledges the held one at this index, if there is one.
    fn decide(&mut self, who: Who, index: usize) {
        let (now, version, hostile) = (self.now, self.version, self.hostile);
        let (side, other) = match who {
            Who::Client => (&mut self.client, &mut self.server),
            Who::Server => (&mut self.server, &mut self.client),
        };
        if index >= side.held.len() {
            return;
        }
        let (number, token) = side.held.swap_remove(index);
        let mut decide = || side.session.decide_ack(number, ReasonCode::Success);
        assert!(decide().is_ok() && decide().is_err(), "it counts once");
        other.take(token, hostile);
        while let Some(packet) = side.session.next_ack() {
            side.out.push_back(encode(&packet, version));
            side.session.ack_sent();
            side.session.sent(now);
        }
    }

    /// Somebody else's packet arrives.
    fn inject(&mut self, who: Who, bytes: &[u8]) {
        self.hostile = true;
        if matches!(frame::split(bytes, 4096), Ok(Split::Complete(_))) {
            self.handle(who, bytes, false);
        }
    }

    fn handle(&mut self, who: Who, bytes: &[u8], holds: bool) {
        let (now, version, hostile) = (self.now, self.version, self.hostile);
        let Ok(Split::Complete(frame)) = frame::split(bytes, 4096) else {
            panic!("not a whole packet")
        };
        let usual = fleetwire_codec::Publish::decode_usual(&frame, version);
        let Ok(packet) = Packet::decode(frame, version) else {
            assert!(hostile, "one machine does not understand the other");
            return;
        };
        let (side, other) = match who {
            Who::Client => (&mut self.client, &mut self.server),
            Who::Server => (&mut self.server, &mut self.client),
        };
        let before = side.session.in_flight_publishes();
        // The choice is that of a shard.
        let met = match usual {
            Some(publish) if side.session.is_up() => side
                .session
                .handle_usual_publish(now.into(), &publish)
                .map(|arrived| arrived.meaning(publish)),
            _ => side.session.handle(now, packet, &self.limits),
        };
        if let Some(block) = side.session.take_spent() {
            self.pool.put(block);
        }
        let answer = match met {
            Err(violation) => {
                assert!(hostile, "{violation:?}");
                return self.connect();
            }
            Ok(Meaning::Message(publish)) => {
                let text = std::str::from_utf8(publish.payload);
                let token = text.ok().and_then(|text| text.parse().ok());
                match publish.packet_id {
                    None => None,
                    Some(packet_id) if holds => {
                        let number = side.session.hold_ack(packet_id, publish.qos);
                        side.held.push((number, token));
                        None
                    }
                    Some(packet_id) => {
                        other.take(token, hostile);
                        let waits = side.session.queue_ack(packet_id, publish.qos);
                        let answer = match publish.qos {
                            QoS::ExactlyOnce => Packet::Pubrec(Pubrec::new(packet_id)),
                            _ => Packet::Puback(Puback::new(packet_id)),
                        };
                        (!waits).then_some(answer)
                    }
                }
            }
            Ok(Meaning::Answer(packet)) => Some(packet),
            Ok(Meaning::Acked(ack) | Meaning::Refused(ack)) => {
                assert_eq!(side.session.in_flight_publishes() + 1, before);
                let end = side.ends.get_mut(&ack.token).expect("it was published");
                end.ended += 1;
                assert!(end.ended == 1, "it ended twice");
                assert!(
                    hostile || end.taken > 0,
                    "it has ended before its receiver acknowledged it"
                );
                None
            }
            Ok(Meaning::Disconnect(_)) => return self.connect(),
            Ok(_) => None,
        };
        if let Some(answer) = answer {
            side.out.push_back(encode(&answer, version));
            side.session.sent(now);
        }
    }

    fn send_again(&mut self, who: Who) {
        let (now, version) = (self.now, self.version);
        let side = self.side(who);
        if side.session.state() != State::Up {
            return;
        }
        while let Some((packet_id, again)) = side.session.again() {
            let bytes = match again {
                Again::Publish(packet) => packet.to_vec(),
                Again::Pubrel(packet_id) => encode(&Packet::Pubrel(Pubrel::new(packet_id)), version),
            };
            side.out.push_back(bytes);
            side.session.sent_again(packet_id, now);
        }
    }

    /// Time passes, and what is due is done.
    fn wait(&mut self, who: Who, secs: u64) {
        self.now += Duration::from_secs(secs);
        let (now, version, limits) = (self.now, self.version, self.limits.clone());
        let side = self.side(who);
        // There are two reasons to wake, and each is silenced by what it leads to.
        for _ in 0..3 {
            match side.session.handle_timeout(now, &limits) {
                None => {
                    let deadline = side.session.deadline(&limits);
                    assert!(
                        deadline.is_none_or(|at| at > now),
                        "nothing is due, and it is too late"
                    );
                    return;
                }
                Some(Expired::SendPing) => {
                    side.out.push_back(encode(&Packet::Pingreq, version));
                    side.session.ping_sent(now);
                }
                Some(Expired::AcksLate { .. }) => assert!(side.session.in_flight_publishes() > 0),
                Some(Expired::PeerSilent) => return self.connect(),
            }
        }
        panic!("it is never silent");
    }

    /// All that is on its way arrives, then everything has ended that nothing keeps.
    fn finish(mut self) {
        if !self.hostile {
            let mut goes_on = true;
            while goes_on {
                goes_on = self.deliver_to(Who::Client, false) | self.deliver_to(Who::Server, false);
                for who in [Who::Client, Who::Server] {
                    goes_on |= !self.side(who).held.is_empty();
                    self.decide(who, 0);
                    self.send_again(who);
                }
            }
            for side in [&self.client, &self.server] {
                for (token, end) in &side.ends {
                    assert_eq!(end.ended, 1, "publish {token} has not ended once");
                }
                assert_eq!(side.session.in_flight_publishes(), 0);
            }
        }
        let Self {
            client,
            server,
            mut pool,
            ..
        } = self;
        drop((client, server));
        // Blocks that were dropped are on their way home until one is asked for.
        drop(pool.take(1));
        assert!(pool.stats().blocks_in_use <= 1, "a block was lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_list_of_operations_keeps_the_promises() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..3000 {
            let mut input: Vec<u8> = (0..random.usize(4..400)).map(|_| random.u8(..)).collect();
            if round % 2 == 0 {
                // Without packets of somebody else's.
                for byte in &mut input {
                    if *byte >> 1 & 7 == 7 {
                        *byte ^= 0b1000;
                    }
                }
            }
            session(&input);
        }
    }
}
