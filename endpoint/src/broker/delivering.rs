//! From a publisher to the subscribers.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use fleetwire_codec::{QoS, ReasonCode};

use crate::broker::Broker;
use crate::broker::clients::ClientIndex;
use crate::broker::message::Message;
use crate::broker::outlet::{Incoming, Outgoing, Outlet, SendError};
use crate::broker::queue::Waiting;
use crate::broker::tree::Granted;

impl<K: Copy + Eq + Hash> Broker<K> {
    /// Retains a message if it says so, and sends it to each client with a matching subscription, once, with the highest
    /// QoS of those that match (v5 `[MQTT-3.3.4-2]`, v3.1.1 `[MQTT-3.3.5-1]`). A QoS above the maximum ends the connection
    /// with 0x9B (v5 `[MQTT-3.2.2-11]`), a Subscription Identifier with 0x82 (v5 `[MQTT-3.3.4-6]`).
    ///
    /// Messages that one client publishes to one topic reach each subscriber in their order, whatever their QoS.
    pub fn handle_publish(
        &mut self,
        now: Instant,
        from: K,
        incoming: &Incoming<'_>,
        outlet: &mut impl Outlet<K>,
    ) {
        let Some(publisher) = self.clients.with_key(from) else {
            return;
        };
        if incoming.qos > self.limits.qos_max {
            self.end(now, publisher, Some(ReasonCode::QoSNotSupported), outlet);
        } else if incoming.properties.subscription_identifiers().next().is_some() {
            self.end(now, publisher, Some(ReasonCode::ProtocolError), outlet);
        } else {
            self.counts.published_in += 1;
            self.publish(now, &mut Source { incoming, kept: None }, Some(publisher), outlet);
        }
        self.settle(now, outlet);
    }

    /// Sends what waited for a client, as far as there is room.
    pub fn handle_writable(&mut self, now: Instant, key: K, outlet: &mut impl Outlet<K>) {
        let Some(index) = self.clients.with_key(key) else {
            return;
        };
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        while let Some(waiting) = client.queue.front() {
            if waiting.message.is_expired(now) {
                self.counts.dropped_expired += 1;
            } else {
                let send = |outgoing: Outgoing<'_>| outlet.publish(key, outgoing);
                match waiting.message.lend(now, waiting.qos, waiting.retain, send) {
                    Ok(()) => self.counts.delivered_out += 1,
                    Err(SendError::Full) => return,
                    Err(SendError::TooLarge) => self.counts.dropped_too_large += 1,
                    Err(SendError::Gone) => self.counts.dropped_gone += 1,
                }
            }
            self.queued_bytes -= client.queue.pop();
        }
    }

    /// Publishes a message that is kept already: a will.
    pub(crate) fn publish_kept(&mut self, now: Instant, message: Arc<Message>, outlet: &mut impl Outlet<K>) {
        let incoming = Incoming {
            topic: message.topic(),
            payload: message.payload(),
            qos: message.qos,
            retain: message.retain,
            properties: message.properties(),
            keep: &|| message.payload().clone(),
        };
        let mut source = Source {
            incoming: &incoming,
            kept: Some(message.clone()),
        };
        self.publish(now, &mut source, None, outlet);
    }

    /// Sends one message that is kept to one client, or has it wait.
    pub(crate) fn deliver_kept(
        &mut self,
        now: Instant,
        to: ClientIndex,
        message: &Arc<Message>,
        qos: QoS,
        retain: bool,
        outlet: &mut impl Outlet<K>,
    ) {
        let delivery = Delivery { to, qos, retain };
        let sent = self.send(delivery, outlet, |key, outlet| {
            message.lend(now, qos, retain, |outgoing| outlet.publish(key, outgoing))
        });
        if !sent {
            self.queue(delivery, message.clone());
        }
    }

    fn publish(
        &mut self,
        now: Instant,
        source: &mut Source<'_>,
        publisher: Option<ClientIndex>,
        outlet: &mut impl Outlet<K>,
    ) {
        let incoming = *source.incoming;
        if incoming.retain {
            self.retain(now, source);
        }
        self.search(&incoming, publisher);
        let found = std::mem::take(&mut self.found);
        for (to, granted) in &found {
            let delivery = Delivery {
                to: *to,
                qos: incoming.qos.min(granted.qos),
                // v5 [MQTT-3.3.1-12] and [MQTT-3.3.1-13], v3.1.1 [MQTT-3.3.1-9].
                retain: incoming.retain && granted.retain_as_published,
            };
            let outgoing = Outgoing {
                topic: incoming.topic,
                payload: incoming.payload,
                qos: delivery.qos,
                retain: delivery.retain,
                properties: incoming.properties,
            };
            if !self.send(delivery, outlet, |key, outlet| outlet.publish(key, outgoing)) {
                self.queue(delivery, source.kept(now));
            }
        }
        self.found = found;
    }

    /// v5 section 3.3.1.3: a message without payload clears its topic and is not kept itself.
    fn retain(&mut self, now: Instant, source: &mut Source<'_>) {
        if source.incoming.payload.is_empty() {
            self.retained.clear(source.incoming.topic);
        } else if !self.retained.set(source.kept(now), &self.limits) {
            self.counts.retained_refused += 1;
        }
    }

    /// Fills `found` with each client that has a matching subscription, once.
    fn search(&mut self, incoming: &Incoming<'_>, publisher: Option<ClientIndex>) {
        self.searches += 1;
        self.found.clear();
        let (found, clients, search) = (&mut self.found, &mut self.clients, self.searches);
        self.tree.search(incoming.topic, |index, granted| {
            // v5 [MQTT-3.8.3-3].
            if granted.no_local && publisher == Some(index) {
                return;
            }
            let Some(client) = clients.get_mut(index) else {
                return;
            };
            match found.get_mut(client.found.1) {
                Some((_, so_far)) if client.found.0 == search => *so_far = so_far.with(granted),
                _ => {
                    client.found = (search, found.len());
                    found.push((index, granted));
                }
            }
        });
    }

    /// Sends a message unless others wait before it; returns `false` where it has to wait.
    fn send<O: Outlet<K>>(
        &mut self,
        delivery: Delivery,
        outlet: &mut O,
        send: impl FnOnce(K, &mut O) -> Result<(), SendError>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(delivery.to) else {
            return true;
        };
        if !client.queue.is_empty() {
            return false;
        }
        match send(client.key, outlet) {
            Ok(()) => self.counts.delivered_out += 1,
            Err(SendError::Full) => return false,
            Err(SendError::TooLarge) => self.counts.dropped_too_large += 1,
            Err(SendError::Gone) => self.counts.dropped_gone += 1,
        }
        true
    }

    /// Has a message wait. Where there is no room it is dropped; above QoS 0 the subscriber's connection ends with it.
    fn queue(&mut self, delivery: Delivery, message: Arc<Message>) {
        let Delivery { to, qos, retain } = delivery;
        let Some(client) = self.clients.get_mut(to) else {
            return;
        };
        if client
            .queue
            .has_room(&self.limits, message.cost(), self.queued_bytes, qos)
        {
            self.queued_bytes += client.queue.push(Waiting { message, qos, retain });
        } else {
            self.counts.dropped_queue_full += 1;
            if qos != QoS::AtMostOnce {
                self.overfull.push(to);
            }
        }
    }
}

/// To whom a message goes, and how that client has to see it.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    to: ClientIndex,
    qos: QoS,
    retain: bool,
}

/// A message that is published, and the copy that is kept of it once one is needed.
struct Source<'a> {
    incoming: &'a Incoming<'a>,
    kept: Option<Arc<Message>>,
}

impl Source<'_> {
    fn kept(&mut self, now: Instant) -> Arc<Message> {
        self.kept
            .get_or_insert_with(|| Arc::new(Message::keep(self.incoming, now)))
            .clone()
    }
}

impl Granted {
    /// What two subscriptions of one client that match the same message grant together.
    fn with(self, other: Self) -> Self {
        Self {
            qos: self.qos.max(other.qos),
            no_local: self.no_local && other.no_local,
            retain_as_published: self.retain_as_published || other.retain_as_published,
        }
    }
}
