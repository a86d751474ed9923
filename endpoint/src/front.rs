//! Between the engine's server connections and the broker: who may come in, and what CONNACK says.

use std::sync::Arc;
use std::time::Instant;

use fleetwire_codec::{
    Carrier, Connect, DecodeError, PacketId, Properties, PropertiesBuf, Property, QoS, ReasonCode, Version,
};
use fleetwire_engine::{At, Event, Handler, LinkId, Message, Outbox, Publish, PublishError, TlsInfo};

use crate::broker::{Broker, BrokerLimits, Incoming, Outgoing, Outlet, SendError, Welcome, copied};
use crate::counts::{Ledger, Shared};
use crate::users::Users;

/// How a connection came in, which decides how its client has to show who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// ALPN `x-amzn-mqtt-ca`: by its certificate, which the TLS handshake has asked for and verified.
    Certificate = 0,
    /// ALPN `mqtt`: by user name and password.
    Password = 1,
    /// Without TLS: by user name and password if there are users.
    Plain = 2,
}

impl Door {
    pub(crate) const ALL: [Self; 3] = [Self::Certificate, Self::Password, Self::Plain];

    /// Its ALPN name; `none` without TLS.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "x-amzn-mqtt-ca",
            Self::Password => "mqtt",
            Self::Plain => "none",
        }
    }

    /// The TLS layer lets in the two names only; if it let in more they would have to show a password.
    fn of(tls: Option<&TlsInfo>) -> Self {
        match tls {
            None => Self::Plain,
            Some(tls) if tls.alpn.as_deref() == Some(Self::Certificate.name().as_bytes()) => {
                Self::Certificate
            }
            Some(_) => Self::Password,
        }
    }

    /// The link's token says which door it came through.
    const fn token(self) -> u64 {
        self as u64
    }

    fn from_token(token: u64) -> Self {
        Self::ALL
            .into_iter()
            .find(|door| door.token() == token)
            .unwrap_or(Self::Password)
    }
}

/// What the front is told when the endpoint starts.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) users: Users,
    pub(crate) limits: BrokerLimits,
    /// Maximum Packet Size in CONNACK: what the engine takes.
    pub(crate) packet_len_max: u32,
    pub(crate) seed: u64,
}

/// The handler of the endpoint's one shard.
#[derive(Debug)]
pub(crate) struct Front {
    broker: Broker<LinkId>,
    users: Users,
    packet_len_max: u32,
    qos_max: QoS,
    ledger: Ledger,
}

impl Front {
    pub(crate) fn new(rules: Rules, shared: Arc<Shared>) -> Self {
        Self {
            broker: Broker::new(rules.limits, rules.seed),
            users: rules.users,
            packet_len_max: rules.packet_len_max,
            qos_max: rules.limits.qos_max,
            ledger: Ledger::new(shared),
        }
    }

    fn on_connect(&mut self, at: At, connect: &Connect<'_>, out: &mut Outbox<'_>) {
        let door = Door::from_token(at.token);
        let result = if self.may_enter(door, connect) {
            self.broker
                .handle_connect(at.now, at.link, connect, &mut Wire(out))
        } else {
            Err(ReasonCode::BadUserNameOrPassword)
        };
        let welcome = match result {
            Ok(welcome) => welcome,
            Err(reason) => {
                self.ledger.refused();
                return out.refuse(at.link, reason);
            }
        };
        let accepted = match self.connack(connect, &welcome) {
            Ok(properties) => out
                .accept(
                    at.link,
                    false,
                    properties.as_properties(),
                    welcome.keep_alive_secs,
                )
                .is_ok(),
            Err(_) => false,
        };
        if accepted {
            self.ledger.connected(door);
        } else {
            // A CONNACK that the client cannot take: its Maximum Packet Size is smaller (v5 [MQTT-3.1.2-24]).
            self.ledger.refused();
            // It was never told that it is connected, so it leaves no will.
            self.broker
                .handle_disconnected(at.now, at.link, true, &mut Wire(out));
            out.close(at.link);
        }
    }

    fn may_enter(&self, door: Door, connect: &Connect<'_>) -> bool {
        match door {
            Door::Certificate => true,
            Door::Plain if self.users.is_empty() => true,
            Door::Password | Door::Plain => self.users.admit(connect.username, connect.password),
        }
    }

    /// What v5 section 3.2.2.3 has a server say; what is left out has the value that the specification gives it, so Retain
    /// and Wildcard Subscription are available.
    fn connack(&self, connect: &Connect<'_>, welcome: &Welcome) -> Result<PropertiesBuf, DecodeError> {
        let mut properties = PropertiesBuf::new(Carrier::Connack);
        if connect.version == Version::V311 {
            return Ok(properties);
        }
        if let Some(secs) = welcome.session_expiry_secs {
            properties.push(Property::SessionExpiryInterval(secs))?;
        }
        properties.push(Property::ReceiveMaximum(RECEIVE_MAXIMUM))?;
        // v5 section 3.2.2.3.4: QoS 2 is said by saying nothing.
        if self.qos_max < QoS::ExactlyOnce {
            properties.push(Property::MaximumQoS(self.qos_max))?;
        }
        properties.push(Property::MaximumPacketSize(self.packet_len_max))?;
        if let Some(client_id) = &welcome.assigned_client_id {
            properties.push(Property::AssignedClientIdentifier(client_id))?;
        }
        properties.push(Property::TopicAliasMaximum(TOPIC_ALIAS_MAXIMUM))?;
        properties.push(Property::SubscriptionIdentifierAvailable(false))?;
        properties.push(Property::SharedSubscriptionAvailable(false))?;
        if let Some(secs) = welcome.server_keep_alive_secs {
            properties.push(Property::ServerKeepAlive(secs))?;
        }
        Ok(properties)
    }

    fn on_message(&mut self, at: At, message: &Message<'_>, out: &mut Outbox<'_>) {
        let without_alias;
        let mut properties = message.properties;
        if properties.topic_alias().is_some() {
            // It is this connection's alone.
            without_alias = copied(properties);
            properties = without_alias.as_properties();
        }
        let incoming = Incoming {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            properties,
            keep: &|| message.retain(),
        };
        self.broker
            .handle_publish(at.now, at.link, &incoming, &mut Wire(out));
    }
}

impl Handler for Front {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Accepted(accepted) => {
                self.ledger
                    .accepted(accepted.tls.and_then(|tls| tls.peer_fingerprint));
                out.set_token(at.link, Door::of(accepted.tls).token());
            }
            Event::Connect(connect) => self.on_connect(at, &connect, out),
            Event::Subscribe(subscribe) => {
                self.broker
                    .handle_subscribe(at.now, at.link, &subscribe, &mut Wire(out));
            }
            Event::Unsubscribe(unsubscribe) => {
                self.broker
                    .handle_unsubscribe(at.link, &unsubscribe, &mut Wire(out));
            }
            Event::Message(message) => self.on_message(at, &message, out),
            Event::Writable => self.broker.handle_writable(at.now, at.link, &mut Wire(out)),
            Event::Failed(failure) => self.ledger.failed(failure.slug),
            Event::Disconnected(disconnected) => {
                self.ledger.disconnected(disconnected.slug);
                self.broker
                    .handle_disconnected(at.now, at.link, disconnected.clean, &mut Wire(out));
            }
            // Acknowledgements of subscribers open the window by themselves; a message whose subscriber is lost is lost
            // with its session.
            _ => {}
        }
    }

    fn on_turn(&mut self, _: Instant, _: &mut Outbox<'_>) {
        self.ledger.publish(self.broker.counts());
    }
}

impl Drop for Front {
    /// What the last events changed is shown too.
    fn drop(&mut self) {
        self.ledger.publish(self.broker.counts());
    }
}

/// The engine's outbox as the broker sees it.
struct Wire<'a, 'b>(&'a mut Outbox<'b>);

impl Wire<'_, '_> {
    /// Without its answer a client would wait for ever, so one that leaves no room for it is cut off.
    fn or_end<T, E>(&mut self, to: LinkId, result: Result<T, E>) {
        if result.is_err() {
            self.disconnect(to, ReasonCode::QuotaExceeded);
        }
    }
}

impl Outlet<LinkId> for Wire<'_, '_> {
    fn publish(&mut self, to: LinkId, message: Outgoing<'_>) -> Result<(), SendError> {
        let publish = Publish::new(message.topic, message.payload)
            .qos(message.qos)
            .retain(message.retain)
            .properties(message.properties);
        match self.0.publish(to, publish) {
            Ok(_) => Ok(()),
            Err(PublishError::Full) => Err(SendError::Full),
            Err(PublishError::TooLarge) => Err(SendError::TooLarge),
            Err(_) => Err(SendError::Gone),
        }
    }

    fn suback(&mut self, to: LinkId, packet_id: PacketId, codes: &[u8]) {
        let result = self.0.suback(to, packet_id, codes);
        self.or_end(to, result);
    }

    fn unsuback(&mut self, to: LinkId, packet_id: PacketId, codes: &[u8]) {
        let result = self.0.unsuback(to, packet_id, codes);
        self.or_end(to, result);
    }

    fn disconnect(&mut self, to: LinkId, reason: ReasonCode) {
        self.0.disconnect(to, reason, Properties::EMPTY);
    }
}

/// Topics that a client may send by an alias: AWS IoT Core's quota.
const TOPIC_ALIAS_MAXIMUM: u16 = 8;

/// Messages above QoS 0 that a client may have unacknowledged: AWS IoT Core's quota. One at QoS 1 is acknowledged as soon
/// as it is read, so only a client that has more under way at QoS 2 is cut off.
const RECEIVE_MAXIMUM: u16 = 100;
