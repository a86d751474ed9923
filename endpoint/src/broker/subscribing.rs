//! SUBSCRIBE and UNSUBSCRIBE.

use std::hash::Hash;
use std::time::Instant;

use fleetwire_codec::{
    QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, TopicFilter, Unsubscribe, Version,
};

use crate::broker::Broker;
use crate::broker::clients::ClientIndex;
use crate::broker::outlet::Outlet;
use crate::broker::tree::Granted;

impl<K: Copy + Eq + Hash> Broker<K> {
    /// Answers a SUBSCRIBE and sends the retained messages that it asks for, in the order of its filters.
    ///
    /// Granted is the lower of what was asked for and the maximum QoS. Refused are a shared subscription with 0x9E, and a filter
    /// beyond the bounds with 0x97; 3.1.1 sees 0x80 for both. A Subscription Identifier ends the connection with 0xA1
    /// (v5 section 3.2.2.3.12).
    pub fn handle_subscribe(
        &mut self,
        now: Instant,
        key: K,
        subscribe: &Subscribe<'_>,
        outlet: &mut impl Outlet<K>,
    ) {
        let Some(index) = self.clients.with_key(key) else {
            return;
        };
        if subscribe.properties.subscription_identifiers().next().is_some() {
            self.end(
                now,
                index,
                Some(ReasonCode::SubscriptionIdentifiersNotSupported),
                outlet,
            );
            return self.settle(now, outlet);
        }
        let mut codes = Vec::new();
        // For each filter the QoS of its retained messages, if they are to be sent.
        let mut wanted = Vec::new();
        for (place, (filter, options)) in subscribe.filters.iter().enumerate() {
            let result = if place < self.limits.filters_per_subscribe_max {
                self.subscribe(index, filter, options)
            } else {
                Err(ReasonCode::QuotaExceeded)
            };
            match result {
                Ok((granted, is_new)) => {
                    codes.push(granted.qos.bits());
                    wanted.push(wants_retained(options, is_new).then_some(granted.qos));
                }
                Err(reason) => {
                    codes.push(self.refusal(index, reason));
                    wanted.push(None);
                }
            }
        }
        outlet.suback(key, subscribe.packet_id, &codes);
        for ((filter, _), qos) in subscribe.filters.iter().zip(wanted) {
            if let Some(qos) = qos {
                self.send_retained(now, index, filter, qos, outlet);
            }
        }
        self.settle(now, outlet);
    }

    /// Answers an UNSUBSCRIBE.
    pub fn handle_unsubscribe(&mut self, key: K, unsubscribe: &Unsubscribe<'_>, outlet: &mut impl Outlet<K>) {
        let Some(index) = self.clients.with_key(key) else {
            return;
        };
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        let mut codes = Vec::new();
        for filter in unsubscribe.filters.iter() {
            let existed = client.filters.remove(filter.as_str());
            self.tree.remove(filter, index);
            let code = if existed {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            };
            if client.version == Version::V5 {
                codes.push(code.value());
            }
        }
        outlet.unsuback(key, unsubscribe.packet_id, &codes);
    }

    /// Enters one filter; returns what was granted and whether the filter is new.
    fn subscribe(
        &mut self,
        index: ClientIndex,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
    ) -> Result<(Granted, bool), ReasonCode> {
        if filter.shared().is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let Some(client) = self.clients.get_mut(index) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let is_new = !client.filters.contains(filter.as_str());
        if is_new && client.filters.len() >= self.limits.subscriptions_per_connection_max {
            return Err(ReasonCode::QuotaExceeded);
        }
        let granted = Granted {
            qos: options.qos.min(self.limits.qos_max),
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        };
        self.tree
            .insert(filter, index, granted)
            .map_err(|_| ReasonCode::QuotaExceeded)?;
        client.filters.insert(filter.into());
        self.counts.subscriptions += 1;
        Ok((granted, is_new))
    }

    /// Sends the retained messages that a filter matches, until one finds no room at all.
    fn send_retained(
        &mut self,
        now: Instant,
        index: ClientIndex,
        filter: TopicFilter<'_>,
        granted: QoS,
        outlet: &mut impl Outlet<K>,
    ) {
        let messages: Vec<_> = self.retained.matching(filter).cloned().collect();
        for message in messages {
            if message.is_expired(now) {
                self.retained.clear(message.topic());
                continue;
            }
            // v5 [MQTT-3.3.1-8], v3.1.1 [MQTT-3.3.1-8]: RETAIN says that this is no new message.
            self.deliver_kept(now, index, &message, message.qos.min(granted), true, outlet);
            if !self.overfull.is_empty() {
                return;
            }
        }
    }

    /// The code as the client's version knows it, v3.1.1 section 3.9.3.
    fn refusal(&mut self, index: ClientIndex, reason: ReasonCode) -> u8 {
        match self.clients.get_mut(index).map(|client| client.version) {
            Some(Version::V5) => reason.value(),
            Some(Version::V311) | None => ReasonCode::UnspecifiedError.value(),
        }
    }
}

/// Whether retained messages are sent for a subscription, v5 `[MQTT-3.3.1-9]` to `[MQTT-3.3.1-11]`.
fn wants_retained(options: SubscriptionOptions, is_new: bool) -> bool {
    match options.retain_handling {
        RetainHandling::SendAtSubscribe => true,
        RetainHandling::SendIfNew => is_new,
        RetainHandling::DoNotSend => false,
    }
}
