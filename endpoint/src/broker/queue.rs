use std::collections::VecDeque;
use std::sync::Arc;

use fleetwire_codec::QoS;

use crate::broker::limits::BrokerLimits;
use crate::broker::message::Message;

/// Messages that wait for one subscriber, in their order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A message that waits, with how this subscriber has to see it.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    /// Whether a message has room. QoS 0 may fill half of the queue, so that it never crowds out the others.
    pub(crate) fn has_room(&self, limits: &BrokerLimits, cost: usize, all_bytes: usize, qos: QoS) -> bool {
        let share = if qos == QoS::AtMostOnce { 2 } else { 1 };
        self.waiting.len() < limits.queue_messages_max / share
            && self.bytes + cost <= limits.queue_bytes_max / share
            && all_bytes + cost <= limits.queued_bytes_max / share
    }

    /// Appends a message and returns what it costs.
    pub(crate) fn push(&mut self, waiting: Waiting) -> usize {
        let cost = waiting.message.cost();
        self.bytes += cost;
        self.waiting.push_back(waiting);
        cost
    }

    /// Takes the first message off and returns what it cost.
    pub(crate) fn pop(&mut self) -> usize {
        let cost = self
            .waiting
            .pop_front()
            .map_or(0, |waiting| waiting.message.cost());
        self.bytes -= cost;
        if self.waiting.is_empty() {
            // A subscriber that keeps up owns no memory here.
            self.waiting = VecDeque::new();
        }
        cost
    }
}
