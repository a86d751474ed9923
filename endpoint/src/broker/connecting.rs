//! The beginning and the end of a session.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use fleetwire_codec::{Connect, ReasonCode, Version};

use crate::broker::Broker;
use crate::broker::clients::{Client, ClientIndex};
use crate::broker::message::Message;
use crate::broker::outlet::Outlet;
use crate::broker::queue::Queue;

/// What an accepted client has to be told in CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The client id that the server gave, because the client had none, v5 `[MQTT-3.2.2-16]`.
    pub assigned_client_id: Option<Arc<str>>,
    /// The Session Expiry Interval in force, where it is not the one that the client asked for, v5 section 3.2.2.3.2.
    pub session_expiry_secs: Option<u32>,
    /// The keep alive in force, where it is not the one that the client asked for, v5 `[MQTT-3.2.2-21]`.
    pub server_keep_alive_secs: Option<u16>,
    /// The keep alive in force, in seconds; 0 is off.
    pub keep_alive_secs: u16,
}

impl<K: Copy + Eq + Hash> Broker<K> {
    /// Takes a client in. A connection of the same client id is ended first, with DISCONNECT 0x8E in 5.0, and its will is
    /// published (v5 `[MQTT-3.1.4-3]`, v3.1.1 `[MQTT-3.1.4-2]`).
    ///
    /// # Errors
    /// The reason to refuse with: 0x85 for an empty client id in 3.1.1 without Clean Session (v3.1.1 `[MQTT-3.1.3-8]`), 0x9B
    /// for a will above the maximum QoS (v5 `[MQTT-3.2.2-12]`), 0x8C for an authentication method (v5 `[MQTT-4.12.0-1]`), 0x82 for a
    /// second CONNECT of a connection.
    pub fn handle_connect(
        &mut self,
        now: Instant,
        key: K,
        connect: &Connect<'_>,
        outlet: &mut impl Outlet<K>,
    ) -> Result<Welcome, ReasonCode> {
        if self.clients.with_key(key).is_some() {
            return Err(ReasonCode::ProtocolError);
        }
        if connect.properties.authentication_method().is_some() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        if connect.will.is_some_and(|will| will.qos > self.limits.qos_max) {
            return Err(ReasonCode::QoSNotSupported);
        }
        if connect.client_id.is_empty() && connect.version == Version::V311 && !connect.clean_start {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        let assigned_client_id = connect.client_id.is_empty().then(|| self.next_client_id());
        let id = assigned_client_id
            .clone()
            .unwrap_or_else(|| connect.client_id.into());
        if let Some(old) = self.clients.with_id(&id) {
            self.counts.taken_over += 1;
            self.end(now, old, Some(ReasonCode::SessionTakenOver), outlet);
            self.settle(now, outlet);
        }
        self.clients.insert(Client {
            key,
            id,
            version: connect.version,
            filters: HashSet::new(),
            will: connect.will.map(|will| Message::will(&will, now)),
            queue: Queue::default(),
            found: (0, 0),
        });
        self.counts.connects += 1;
        let keep_alive_secs = match self.limits.keep_alive {
            Some(range) => range.clamp(connect.keep_alive_secs),
            None => connect.keep_alive_secs,
        };
        let wants_session = connect
            .properties
            .session_expiry_interval()
            .is_some_and(|secs| secs > 0);
        Ok(Welcome {
            assigned_client_id,
            session_expiry_secs: wants_session.then_some(0),
            server_keep_alive_secs: (keep_alive_secs != connect.keep_alive_secs).then_some(keep_alive_secs),
            keep_alive_secs,
        })
    }

    /// Notes that a connection has ended. Its session ends with it, and its will is published unless the client took its
    /// leave (`clean`: DISCONNECT with 0x00, v5 `[MQTT-3.1.2-10]`, v3.1.1 `[MQTT-3.1.2-10]`).
    pub fn handle_disconnected(&mut self, now: Instant, key: K, clean: bool, outlet: &mut impl Outlet<K>) {
        let Some(index) = self.clients.with_key(key) else {
            return;
        };
        if clean && let Some(client) = self.clients.get_mut(index) {
            client.will = None;
        }
        self.end(now, index, None, outlet);
        self.settle(now, outlet);
    }

    /// Forgets a client; its will is published by the [`settle`](Self::settle) that must follow. With a reason its
    /// connection is ended too.
    pub(crate) fn end(
        &mut self,
        now: Instant,
        index: ClientIndex,
        reason: Option<ReasonCode>,
        outlet: &mut impl Outlet<K>,
    ) {
        let Some(client) = self.clients.remove(index) else {
            return;
        };
        for filter in &client.filters {
            self.tree.remove(filter.as_topic_filter(), index);
        }
        self.queued_bytes -= client.queue.bytes();
        if let Some(reason) = reason {
            outlet.disconnect(client.key, reason);
        }
        self.wills.extend(client.will.map(|will| will.published_at(now)));
    }

    /// Ends the clients that could not take a message and publishes wills, until there are none left of either. Each turn
    /// ends a client or publishes the will of one, so there are at most twice as many as clients.
    pub(crate) fn settle(&mut self, now: Instant, outlet: &mut impl Outlet<K>) {
        loop {
            if let Some(index) = self.overfull.pop() {
                if self.clients.get_mut(index).is_some() {
                    self.counts.overfull += 1;
                    self.end(now, index, Some(ReasonCode::QuotaExceeded), outlet);
                }
            } else if let Some(will) = self.wills.pop_front() {
                self.counts.wills += 1;
                self.publish_kept(now, Arc::new(will), outlet);
            } else {
                return;
            }
        }
    }

    /// A client id that nobody has. The generator is SplitMix64, whose period is 2^64, so one is found.
    fn next_client_id(&mut self) -> Arc<str> {
        loop {
            self.id_state = self.id_state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut bits = self.id_state;
            bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            let id = format!("auto-{:016x}", bits ^ bits >> 31);
            if self.clients.with_id(&id).is_none() {
                return id.into();
            }
        }
    }
}
