//! The MQTT session, client and server role, as one machine without I/O.
//!
//! Two inputs, a decoded packet with the time ([`Session::handle`]) and the time alone ([`Session::handle_timeout`]);
//! what is to be sent is built with [`Session::prepare_publish`] and its kin and encoded by the connection, which then
//! calls [`Session::sent`]. [`Session::deadline`] says when the next time-out is due. Nothing in here knows a socket,
//! a buffer or a clock.

mod acknowledging;
mod held;
mod in_flight;
mod opening;
mod outliving;
mod rare;
mod received;
mod state;
mod timing;
mod violation;

use std::time::{Duration, Instant};

use fleetwire_codec::buffer::Block;
use fleetwire_codec::{
    Auth, Connack, Connect, Disconnect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Suback,
    Subscribe, TopicFilter, Unsuback, Unsubscribe, Version,
};

use crate::clock::Moment;
use crate::{Ack, Limits, PublishError};

pub(crate) use acknowledging::Arrived;
use in_flight::InFlight;
pub(crate) use in_flight::{Again, Entry, Kept, Kind};
pub use state::SessionState;

use rare::Rare;
use received::Received;
use violation::{MISCOUNTED, WRONG_SIDE, is_for_servers, violation};
pub(crate) use violation::{Violation, said_by};

/// What a packet means to the connection.
#[derive(Debug)]
pub(crate) enum Meaning<'a> {
    Nothing,
    Connack(Connack<'a>),
    Connect(Connect<'a>),
    /// What the protocol owes to it.
    Answer(Packet<'static>),
    Acked(Ack),
    Refused(Ack),
    Subscribed(Suback<'a>),
    Unsubscribed(Unsuback<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Message(Publish<'a>),
    Auth(Auth<'a>),
    Disconnect(Disconnect<'a>),
}

/// What a time-out means to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing was sent for a keep-alive: send PINGREQ.
    SendPing,
    /// No PINGRESP in time, or no packet within one and a half keep-alives.
    PeerSilent,
    /// The oldest publish is unacknowledged for too long.
    AcksLate { oldest: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Client: CONNECT is not yet answered.
    AwaitConnack,
    /// Server: nothing was received.
    AwaitConnect,
    /// Server: the application has CONNECT, or the AUTH that it asked for, and has not answered.
    Deciding,
    /// Server: AUTH was sent, and the client's is awaited.
    Authenticating,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// See the module. The order is that of [`Link`](crate::link::Link).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Session {
    role: Role,
    state: State,
    version: Version,
    /// What the peer accepts.
    qos_max: QoS,
    /// What this side has said that it accepts.
    receives_qos_max: QoS,
    retain_available: bool,
    /// It may go on after this connection, so publishes are kept until they are acknowledged.
    keeps: bool,
    /// `ping_sent` is of a PINGREQ that found no room.
    ping_owed: bool,
    /// CONNECT asked, in the terms of 5.0, for a session that ends with the connection.
    expires_at_once: bool,
    /// Client: CONNECT asked for a new session.
    clean_start: bool,
    /// Client: there is a state that its CONNECT offers to go on with.
    has_state: bool,
    /// Client: the server takes filters with wildcards, and shared ones.
    wildcards_available: bool,
    shared_available: bool,
    /// Client: it takes Subscription Identifiers.
    identifiers_available: bool,
    window: u16,
    packet_len_max: u32,
    keep_alive_secs: u16,
    last_received: Moment,
    last_sent: Moment,
    rare: Option<Box<Rare>>,
    in_flight: InFlight,
    received: Received,
    /// Client: the Session Expiry Interval in force; [`outliving::NO_END`] for ever, as without Clean Session in 3.1.1.
    expiry_secs: u32,
    ping_sent: Option<Moment>,
    acks_late_told: Option<Moment>,
    /// Client: when the state that its CONNECT offers to go on with ends.
    expires_at: Option<Moment>,
    /// Client: whose session it is, hashed.
    client: u64,
    /// The block of a publish that is acknowledged, on its way back to the pool.
    spent: Option<Block>,
}

impl Session {
    /// How many of its bytes hold what a message at QoS 0 needs, and most of what others do.
    #[cfg(test)]
    pub(crate) const HOT_LEN: usize = std::mem::offset_of!(Self, in_flight) + InFlight::HOT_LEN;

    /// A client session whose CONNECT is on its way, with the state of the one that it may resume.
    pub(crate) fn client(connect: &Connect<'_>, state: Option<SessionState>, now: Instant) -> Self {
        let expiry_secs = connect.properties.session_expiry_interval().unwrap_or(0);
        let mut session = Self {
            keep_alive_secs: connect.keep_alive_secs,
            version: connect.version,
            clean_start: connect.clean_start,
            expires_at_once: expiry_secs == 0,
            expiry_secs: match connect.version {
                Version::V5 => expiry_secs,
                Version::V311 => outliving::NO_END,
            },
            client: state::hash(connect.client_id),
            ..Self::new(Role::Client, State::AwaitConnack, now)
        };
        session.announce(&connect.properties);
        session.set_method(&connect.properties);
        if let Some(state) = state {
            session.take_up(state);
        }
        session
    }

    /// A server session that awaits its CONNECT.
    pub(crate) fn server(now: Instant) -> Self {
        Self::new(Role::Server, State::AwaitConnect, now)
    }

    fn new(role: Role, state: State, now: Instant) -> Self {
        Self {
            role,
            state,
            version: Version::V5,
            qos_max: QoS::ExactlyOnce,
            receives_qos_max: QoS::ExactlyOnce,
            retain_available: true,
            window: 0,
            keep_alive_secs: 0,
            packet_len_max: u32::MAX,
            last_sent: now.into(),
            last_received: now.into(),
            expires_at_once: true,
            expiry_secs: outliving::NO_END,
            expires_at: None,
            ping_sent: None,
            ping_owed: false,
            acks_late_told: None,
            in_flight: InFlight::new(),
            received: Received::new(),
            keeps: false,
            clean_start: true,
            has_state: false,
            client: 0,
            wildcards_available: true,
            shared_available: true,
            identifiers_available: true,
            rare: None,
            spent: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(crate) fn in_flight_publishes(&self) -> usize {
        usize::from(self.in_flight.publishes())
    }

    pub(crate) fn window_has_room(&self) -> bool {
        self.in_flight.publishes() < self.window && self.in_flight.waiting() == 0
    }

    /// Takes a packet. `now` is when it was read.
    pub(crate) fn handle<'a>(
        &mut self,
        now: impl Into<Moment>,
        packet: Packet<'a>,
        limits: &Limits,
    ) -> Result<Meaning<'a>, Violation> {
        self.last_received = now.into();
        match (self.role, self.state) {
            (Role::Client, State::Up) => self.handle_as_client(packet),
            (Role::Client, _) => self.handle_connack(packet, limits),
            (Role::Server, State::Up | State::Deciding) => self.handle_as_server(packet),
            (Role::Server, State::Authenticating) => match packet {
                Packet::Auth(auth) => self.handle_auth(auth),
                Packet::Disconnect(_) | Packet::Connect(_) => self.handle_as_server(packet),
                _ => Err(violation(
                    ReasonCode::ProtocolError,
                    "v5 [MQTT-3.1.2-30]",
                    "neither AUTH nor DISCONNECT during the authentication",
                )),
            },
            (Role::Server, _) => self.handle_connect(packet, limits),
        }
    }

    fn handle_as_client<'a>(&mut self, packet: Packet<'a>) -> Result<Meaning<'a>, Violation> {
        Ok(match packet {
            Packet::Suback(suback) => match self.in_flight.remove(suback.packet_id, Kind::Subscribe) {
                Some(entry) if entry.has_filters(suback.codes.len()) => Meaning::Subscribed(suback),
                Some(_) => return Err(MISCOUNTED),
                None => Meaning::Nothing,
            },
            Packet::Unsuback(unsuback) => {
                // 3.1.1 has no codes in it.
                let codes = (self.version == Version::V5).then_some(unsuback.codes.len());
                match self.in_flight.remove(unsuback.packet_id, Kind::Unsubscribe) {
                    Some(entry) if codes.is_none_or(|codes| entry.has_filters(codes)) => {
                        Meaning::Unsubscribed(unsuback)
                    }
                    Some(_) => return Err(MISCOUNTED),
                    None => Meaning::Nothing,
                }
            }
            Packet::Pingresp => {
                self.ping_sent = None;
                Meaning::Nothing
            }
            Packet::Disconnect(disconnect) if self.version == Version::V5 => {
                if disconnect.properties.session_expiry_interval().is_some() {
                    return Err(violation(
                        ReasonCode::ProtocolError,
                        "v5 [MQTT-3.14.2-2]",
                        "a Session Expiry Interval in the server's DISCONNECT",
                    ));
                }
                // Table 3-10 has this one for clients only.
                if disconnect.reason == ReasonCode::DisconnectWithWillMessage {
                    return Err(WRONG_SIDE);
                }
                Meaning::Disconnect(disconnect)
            }
            packet => return self.handle_from_both(packet),
        })
    }

    fn handle_as_server<'a>(&mut self, packet: Packet<'a>) -> Result<Meaning<'a>, Violation> {
        Ok(match packet {
            Packet::Subscribe(subscribe) => Meaning::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => Meaning::Unsubscribe(unsubscribe),
            Packet::Pingreq => Meaning::Answer(Packet::Pingresp),
            Packet::Publish(publish) if publish.properties.subscription_identifiers().next().is_some() => {
                return Err(violation(
                    ReasonCode::ProtocolError,
                    "v5 [MQTT-3.3.4-6]",
                    "a Subscription Identifier from a client",
                ));
            }
            Packet::Disconnect(disconnect) => {
                if is_for_servers(disconnect.reason) {
                    return Err(WRONG_SIDE);
                }
                if self.expires_at_once
                    && disconnect
                        .properties
                        .session_expiry_interval()
                        .is_some_and(|secs| secs > 0)
                {
                    return Err(violation(
                        ReasonCode::ProtocolError,
                        "v5 section 3.14.2.2.2",
                        "a Session Expiry Interval in DISCONNECT after none in CONNECT",
                    ));
                }
                Meaning::Disconnect(disconnect)
            }
            packet => return self.handle_from_both(packet),
        })
    }

    fn handle_from_both<'a>(&mut self, packet: Packet<'a>) -> Result<Meaning<'a>, Violation> {
        match packet {
            // One without properties does not come by here: see `handle_usual_publish`.
            Packet::Publish(publish) => {
                if let Some(alias) = publish.properties.topic_alias() {
                    self.handle_alias(alias, publish.topic)?;
                }
                self.handle_publish(publish)
            }
            Packet::Auth(auth) => self.handle_auth(auth),
            Packet::Puback(ack) => self.handle_last_ack(ack.packet_id, Kind::AtLeastOnce, ack.reason),
            Packet::Pubrec(pubrec) => self.handle_pubrec(&pubrec),
            Packet::Pubrel(pubrel) => self.handle_pubrel(&pubrel),
            Packet::Pubcomp(ack) => self.handle_last_ack(ack.packet_id, Kind::Released, ack.reason),
            Packet::Connect(_) if self.role == Role::Server => Err(violation(
                ReasonCode::ProtocolError,
                "v5 [MQTT-3.1.0-2]",
                "a second CONNECT",
            )),
            _ => Err(violation(
                ReasonCode::ProtocolError,
                "v5 section 4.13.1",
                "a packet that must not be sent in this direction or state",
            )),
        }
    }

    /// The publish as it goes on the wire, with a stand-in for its packet identifier.
    ///
    /// # Errors
    /// Whatever forbids it now; nothing has changed then.
    pub(crate) fn prepare_publish<'a>(
        &self,
        publish: &crate::Publish<'a>,
    ) -> Result<Publish<'a>, PublishError> {
        if !self.is_up() {
            return Err(PublishError::Offline);
        }
        if publish.qos > self.qos_max || (publish.retain && !self.retain_available) {
            return Err(PublishError::Refused);
        }
        if publish.topic.is_empty() || publish.properties.topic_alias().is_some() {
            return Err(PublishError::Invalid);
        }
        // v5 [MQTT-3.3.4-6].
        if self.role == Role::Client && publish.properties.subscription_identifiers().next().is_some() {
            return Err(PublishError::Invalid);
        }
        let acknowledged = publish.qos != QoS::AtMostOnce;
        // Whatever waits to be sent again goes first.
        if acknowledged && !self.window_has_room() {
            return Err(PublishError::Full);
        }
        Ok(Publish {
            dup: false,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic,
            packet_id: acknowledged.then_some(PacketId::MIN),
            properties: if self.version == Version::V5 {
                publish.properties
            } else {
                Properties::EMPTY
            },
            payload: publish.payload,
        })
    }

    /// Whether the server's CONNACK allows such a filter (v5 sections 3.2.2.3.11 and 3.2.2.3.13).
    pub(crate) fn peer_takes_filter(&self, filter: TopicFilter<'_>) -> bool {
        (self.wildcards_available || !filter.has_wildcard())
            && (self.shared_available || filter.shared().is_none())
    }

    /// Whether the server takes the Subscription Identifier among these properties, if there is one (v5 section
    /// 3.2.2.3.12). 3.1.1 has none, and without it the messages would not be what the application expects.
    pub(crate) fn peer_takes_identifiers_of(&self, properties: &Properties<'_>) -> bool {
        (self.identifiers_available && self.version == Version::V5)
            || properties.subscription_identifiers().next().is_none()
    }

    /// Whether the peer takes packets of that length (v5 [MQTT-3.1.2-24], [MQTT-3.2.2-15]).
    pub(crate) fn peer_takes(&self, packet_len: usize) -> bool {
        packet_len <= self.packet_len_max as usize
    }

    /// Takes a packet identifier for a packet that is about to be encoded.
    pub(crate) fn begin(&mut self, entry: Entry) -> Option<PacketId> {
        self.in_flight.insert(entry)
    }

    /// Gives an identifier back whose packet was not encoded after all.
    pub(crate) fn cancel(&mut self, packet_id: PacketId, kind: Kind) {
        self.in_flight.remove(packet_id, kind);
    }

    /// A packet was encoded.
    pub(crate) fn sent(&mut self, now: impl Into<Moment>) {
        self.last_sent = now.into();
    }

    pub(crate) fn ping_sent(&mut self, now: Instant) {
        self.last_sent = now.into();
        self.ping_sent = Some(now.into());
        self.ping_owed = false;
    }

    /// There was no room for a PINGREQ: the peer is given as long as for an answer to take some of what waits for it.
    pub(crate) fn ping_owed(&mut self, now: Instant) {
        self.ping_sent = Some(now.into());
        self.ping_owed = true;
    }

    /// The network has taken output, or there is room again. A PINGREQ that found no room is due again.
    pub(crate) fn output_moved(&mut self) {
        if std::mem::take(&mut self.ping_owed) {
            self.ping_sent = None;
        }
    }

    /// Nothing was read because nobody wanted to read: the peer is not to blame for its silence.
    pub(crate) fn presume_alive(&mut self, now: Instant) {
        self.last_received = now.into();
        self.ping_sent = None;
    }

    /// The session is over: what was in flight, oldest first. Publishes only.
    pub(crate) fn pop_dropped(&mut self) -> Option<Entry> {
        self.in_flight.pop_oldest_publish()
    }
}

#[cfg(test)]
mod tests;
