//! CONNECT and CONNACK: what they announce binds both sides from then on.

use fleetwire_codec::{Connack, Packet, Properties, ReasonCode, Version};

use super::in_flight::InFlight;
use super::state::{self, SessionState};
use super::{Meaning, Session, State, Violation, violation};
use crate::Limits;

impl Session {
    pub(super) fn handle_connack<'a>(
        &mut self,
        packet: Packet<'a>,
        limits: &Limits,
    ) -> Result<Meaning<'a>, Violation> {
        let packet = match packet {
            // v5 [MQTT-3.2.0-1].
            Packet::Auth(auth) if self.rare.as_ref().is_some_and(|rare| rare.method.is_some()) => {
                return self.handle_auth(auth);
            }
            packet => packet,
        };
        let Packet::Connack(connack) = packet else {
            return Err(match self.version {
                Version::V5 => violation(
                    ReasonCode::ProtocolError,
                    "v5 [MQTT-3.2.0-1]",
                    "the first packet was not CONNACK",
                ),
                Version::V311 => violation(
                    ReasonCode::ProtocolError,
                    "v3.1.1 [MQTT-3.2.0-1]",
                    "the first packet was not CONNACK",
                ),
            });
        };
        // A CONNACK that refuses names none that counts.
        if connack.code == 0 {
            let method = self.rare.as_ref().and_then(|rare| rare.method.as_deref());
            if connack.properties.authentication_method() != method {
                return Err(match method {
                    None => violation(
                        ReasonCode::ProtocolError,
                        "v5 [MQTT-4.12.0-6]",
                        "an Authentication Method that CONNECT had not named",
                    ),
                    Some(_) => violation(
                        ReasonCode::ProtocolError,
                        "v5 [MQTT-4.12.0-5]",
                        "not the Authentication Method of CONNECT",
                    ),
                });
            }
            // Who does not ask for a clean start says that it has the session's other half: v5 section 3.1.2.4.
            if connack.session_present && self.clean_start {
                return Err(match self.version {
                    Version::V5 => violation(
                        ReasonCode::ProtocolError,
                        "v5 [MQTT-3.2.2-4]",
                        "session present without a session",
                    ),
                    Version::V311 => violation(
                        ReasonCode::ProtocolError,
                        "v3.1.1 [MQTT-3.2.2-1]",
                        "session present after a clean session",
                    ),
                });
            }
            self.state = State::Up;
            self.learn(&connack.properties, limits);
            if let Some(secs) = connack.properties.server_keep_alive() {
                self.keep_alive_secs = secs;
            }
            if let Some(qos) = connack.properties.maximum_qos() {
                self.qos_max = self.qos_max.min(qos);
            }
            let properties = &connack.properties;
            self.retain_available = properties.retain_available().unwrap_or(true);
            self.wildcards_available = properties.wildcard_subscription_available().unwrap_or(true);
            self.shared_available = properties.shared_subscription_available().unwrap_or(true);
            self.identifiers_available = properties.subscription_identifier_available().unwrap_or(true);
            self.begin_session(&connack);
        }
        Ok(Meaning::Connack(connack))
    }

    /// Goes on with the session that the server has kept, or with none: what was begun in one that it has not kept is
    /// lost, v5 section 3.1.2.4 and [MQTT-3.2.2-5].
    fn begin_session(&mut self, connack: &Connack<'_>) {
        if !connack.session_present {
            let lost = std::mem::replace(&mut self.in_flight, InFlight::new());
            if lost.publishes() > 0 {
                self.rare().lost = lost;
            }
            self.received.clear();
        }
        // What was offered has been taken up, or is lost.
        self.expires_at = None;
        // v5 section 3.2.2.3.2: what the server says is in force.
        if let Some(secs) = connack.properties.session_expiry_interval() {
            self.expiry_secs = secs;
        }
        self.keeps = match self.version {
            Version::V311 => !self.clean_start,
            Version::V5 => self.expiry_secs > 0,
        };
        if let Some(client_id) = connack.properties.assigned_client_identifier() {
            self.client = state::hash(client_id);
        }
    }

    pub(super) fn handle_connect<'a>(
        &mut self,
        packet: Packet<'a>,
        limits: &Limits,
    ) -> Result<Meaning<'a>, Violation> {
        let Packet::Connect(connect) = packet else {
            return Err(violation(
                ReasonCode::ProtocolError,
                "v5 [MQTT-3.1.0-1]",
                "the first packet was not CONNECT",
            ));
        };
        self.state = State::Deciding;
        self.version = connect.version;
        self.expires_at_once = connect.properties.session_expiry_interval().unwrap_or(0) == 0;
        self.learn(&connect.properties, limits);
        self.set_method(&connect.properties);
        Ok(Meaning::Connect(connect))
    }

    /// The bounds that a CONNECT or CONNACK announces.
    fn learn(&mut self, properties: &Properties<'_>, limits: &Limits) {
        self.window = properties
            .receive_maximum()
            .unwrap_or(u16::MAX)
            .min(limits.in_flight_max);
        self.packet_len_max = properties.maximum_packet_size().unwrap_or(u32::MAX);
        self.set_peer_alias_max(properties.topic_alias_maximum().unwrap_or(0));
    }

    /// Server role: the CONNACK that accepts is on its way.
    pub(crate) fn accepted(&mut self, properties: &Properties<'_>, keep_alive_secs: u16) {
        self.state = State::Up;
        self.keep_alive_secs = keep_alive_secs;
        self.announce(properties);
    }

    /// Server role: the same, of a session that may outlive the connection, and that goes on with a state if there is one.
    pub(crate) fn accepted_to_keep(
        &mut self,
        state: Option<SessionState>,
        properties: &Properties<'_>,
        keep_alive_secs: u16,
    ) {
        if let Some(state) = state {
            self.take_up(state);
        }
        self.keeps = true;
        self.accepted(properties, keep_alive_secs);
    }

    /// The bounds that this side's CONNECT or CONNACK announces to the peer.
    pub(super) fn announce(&mut self, properties: &Properties<'_>) {
        if let Some(max) = properties.receive_maximum() {
            self.received.set_max(max);
        }
        if let Some(qos) = properties.maximum_qos() {
            self.receives_qos_max = qos;
        }
        self.set_alias_max(properties.topic_alias_maximum().unwrap_or(0));
    }
}
