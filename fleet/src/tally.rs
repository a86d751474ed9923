//! What a thread's devices went through, counted without locks and added up at the end.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::failures::FailureLog;
use crate::latency::Latency;
use crate::refusals::Refusals;
use crate::report::{Missed, Overload};

/// Counters of one thread, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) decided: u64,
    pub(crate) connected: u64,
    pub(crate) up: u64,
    pub(crate) given_up: u64,
    pub(crate) last_connected_in_ramp: Option<Instant>,
    pub(crate) reconnects: u64,
    pub(crate) disconnects: u64,
    pub(crate) alpn: BTreeMap<String, u64>,
    pub(crate) tls_version: BTreeMap<String, u64>,

    /// Slots of the schedules that have been accounted for, counted by their numbers.
    pub(crate) scheduled: u64,
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Accepted above QoS 0, and never acknowledged.
    pub(crate) dropped: u64,
    pub(crate) missed: Missed,
    pub(crate) received: u64,
    pub(crate) subscribed: u64,
    pub(crate) subscribe_refusals: Refusals,
    pub(crate) acks_late: u64,

    pub(crate) connect_latency: Latency,
    pub(crate) ack_latency: Latency,
    pub(crate) failures: FailureLog,
    pub(crate) disconnect_causes: FailureLog,
    pub(crate) overload: Overload,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            decided: 0,
            connected: 0,
            up: 0,
            given_up: 0,
            last_connected_in_ramp: None,
            reconnects: 0,
            disconnects: 0,
            alpn: BTreeMap::new(),
            tls_version: BTreeMap::new(),
            scheduled: 0,
            published: 0,
            acknowledged: 0,
            refused: 0,
            dropped: 0,
            missed: Missed::default(),
            received: 0,
            subscribed: 0,
            subscribe_refusals: Refusals::default(),
            acks_late: 0,
            connect_latency: Latency::new(),
            ack_latency: Latency::new(),
            failures: FailureLog::default(),
            disconnect_causes: FailureLog::default(),
            overload: Overload::default(),
        }
    }

    /// Publishes whose end is known.
    pub(crate) fn settled(&self) -> u64 {
        self.acknowledged + self.refused + self.dropped
    }

    /// Whether every slot and every publish is accounted for exactly once.
    pub(crate) fn balances(&self, with_acknowledgements: bool) -> bool {
        let slots = self.scheduled == self.published + self.missed.total();
        let publishes = if with_acknowledgements {
            self.published == self.settled()
        } else {
            self.settled() == 0
        };
        slots && publishes
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: Self) {
        self.decided += other.decided;
        self.connected += other.connected;
        self.up += other.up;
        self.given_up += other.given_up;
        self.last_connected_in_ramp = self.last_connected_in_ramp.max(other.last_connected_in_ramp);
        self.reconnects += other.reconnects;
        self.disconnects += other.disconnects;
        for (all, part) in [
            (&mut self.alpn, other.alpn),
            (&mut self.tls_version, other.tls_version),
        ] {
            for (name, count) in part {
                *all.entry(name).or_default() += count;
            }
        }
        self.scheduled += other.scheduled;
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.missed.add(other.missed);
        self.received += other.received;
        self.subscribed += other.subscribed;
        self.subscribe_refusals.add(other.subscribe_refusals);
        self.acks_late += other.acks_late;
        self.connect_latency.add(&other.connect_latency);
        self.ack_latency.add(&other.ack_latency);
        self.failures.add(other.failures);
        self.disconnect_causes.add(other.disconnect_causes);
        self.overload.add(other.overload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_too_many_or_too_few_is_noticed() {
        let good = Tally {
            scheduled: 10,
            published: 8,
            missed: Missed {
                offline: 1,
                generator: 1,
                ..Missed::default()
            },
            acknowledged: 5,
            refused: 1,
            dropped: 2,
            ..Tally::new()
        };
        assert!(good.balances(true));
        assert!(
            !Tally {
                scheduled: 11,
                ..good.clone()
            }
            .balances(true)
        );
        assert!(
            !Tally {
                acknowledged: 6,
                ..good.clone()
            }
            .balances(true)
        );
        assert!(!good.balances(false));
        let without = Tally {
            scheduled: 3,
            published: 3,
            ..Tally::new()
        };
        assert!(without.balances(false) && !without.balances(true));
    }

    #[test]
    fn threads_add_up() {
        let part = Tally {
            connected: 1,
            alpn: BTreeMap::from([("a".to_owned(), 1)]),
            published: 5,
            ..Tally::new()
        };
        let mut all = part.clone();
        all.add(part);
        assert_eq!((all.connected, all.published, all.alpn["a"]), (2, 10, 2));
    }
}
