//! Acknowledgements of received publishes that the application has taken over, and those that wait behind them.
//!
//! PUBACKs go out in the order in which their PUBLISHes came, and PUBRECs too: v5 and v3.1.1 [MQTT-4.6.0-2],
//! [MQTT-4.6.0-3]. One queue serves both. As long as it is empty, which without held acknowledgements it always is,
//! nothing goes through it.

use std::collections::VecDeque;

use fleetwire_codec::{Packet, PacketId, Puback, Pubrec, QoS, ReasonCode};

use super::Session;
use crate::VerbError;

/// An empty queue keeps room for so many, so that the few of an ordinary moment allocate once; what a flood took is given
/// back, for an idle connection owns next to nothing.
const KEPT_LEN_MAX: usize = 64;
/// An acknowledgement without a reason, v5 sections 3.4.2.1 and 3.5.2.1.
const ACK_LEN: usize = 4;

/// See the module. It holds what is unacknowledged, so the Receive Maximum that this side has announced bounds it;
/// without one there are 65,535 identifiers, eight bytes each.
#[derive(Debug, Default)]
pub(super) struct Held {
    queue: VecDeque<Waiting>,
    /// The number of the first in the queue; they count without a gap for as long as the connection lasts.
    first: u64,
    /// Those at QoS 1: until they are gone their publishes count against the Receive Maximum.
    at_least_once: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    packet_id: PacketId,
    exactly_once: bool,
    /// What the acknowledgement is to say; `None` as long as the application has not decided.
    reason: Option<ReasonCode>,
}

impl Waiting {
    fn packet(self, reason: ReasonCode) -> Packet<'static> {
        if self.exactly_once {
            Packet::Pubrec(Pubrec::with_reason(self.packet_id, reason))
        } else {
            Packet::Puback(Puback::with_reason(self.packet_id, reason))
        }
    }
}

impl Held {
    fn push(&mut self, waiting: Waiting) -> u64 {
        self.at_least_once += usize::from(!waiting.exactly_once);
        self.queue.push_back(waiting);
        self.first + (self.queue.len() - 1) as u64
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.first += 1;
        if self.queue.is_empty() && self.queue.capacity() > KEPT_LEN_MAX {
            self.queue = VecDeque::new();
        }
        self.at_least_once -= usize::from(!waiting.exactly_once);
        Some(waiting)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Waiting> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(index)
    }
}

impl Session {
    /// The application takes over the acknowledgement of the publish that was received last. Answers its number.
    pub(crate) fn hold_ack(&mut self, packet_id: PacketId, qos: QoS) -> u64 {
        let exactly_once = qos == QoS::ExactlyOnce;
        if exactly_once {
            self.received.hold(packet_id);
        }
        self.rare().held.push(Waiting {
            packet_id,
            exactly_once,
            reason: None,
        })
    }

    /// Whether the acknowledgement of the publish that was received last has to wait for others; then it is queued
    /// behind them. One that cannot be sent at all is not.
    pub(crate) fn queue_ack(&mut self, packet_id: PacketId, qos: QoS) -> bool {
        let takes = self.peer_takes(ACK_LEN);
        let Some(rare) = self
            .rare
            .as_mut()
            .filter(|rare| takes && !rare.held.queue.is_empty())
        else {
            return false;
        };
        let exactly_once = qos == QoS::ExactlyOnce;
        if exactly_once {
            self.received.take(packet_id);
        }
        rare.held.push(Waiting {
            packet_id,
            exactly_once,
            reason: Some(ReasonCode::Success),
        });
        true
    }

    /// The application has decided what a held acknowledgement says.
    ///
    /// # Errors
    /// It has decided before, or such a packet cannot be sent; nothing has changed then.
    pub(crate) fn decide_ack(&mut self, number: u64, reason: ReasonCode) -> Result<(), VerbError> {
        let (version, packet_len_max) = (self.version, self.packet_len_max as usize);
        let rare = self.rare.as_mut().ok_or(VerbError::NotHeld)?;
        let waiting = rare.held.get_mut(number).ok_or(VerbError::NotHeld)?;
        if waiting.reason.is_some() {
            return Err(VerbError::NotHeld);
        }
        // v5 [MQTT-3.1.2-24], [MQTT-3.2.2-15].
        if waiting.packet(reason).encoded_len(version)? > packet_len_max {
            return Err(VerbError::TooLarge);
        }
        waiting.reason = Some(reason);
        let Waiting {
            packet_id,
            exactly_once,
            ..
        } = *waiting;
        // What is refused may come again, if this connection ends before the peer knows.
        if exactly_once && !reason.is_error() {
            self.received.take(packet_id);
        }
        Ok(())
    }

    /// The acknowledgement that is to be sent next, if its time has come.
    pub(crate) fn next_ack(&self) -> Option<Packet<'static>> {
        let waiting = self.rare.as_ref()?.held.queue.front()?;
        Some(waiting.packet(waiting.reason?))
    }

    /// It is on its way.
    pub(crate) fn ack_sent(&mut self) {
        let Some(waiting) = self.rare.as_mut().and_then(|rare| rare.held.pop()) else {
            return;
        };
        if !waiting.exactly_once {
            return;
        }
        if waiting.reason.is_some_and(ReasonCode::is_error) {
            // v5 section 4.3.3: with a PUBREC that refuses the exchange is over.
            self.received.refuse(waiting.packet_id);
        } else {
            self.received.confirm(waiting.packet_id);
        }
    }

    /// Whether an acknowledgement is held, or waits behind one.
    pub(crate) fn holds_acks(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.held.queue.is_empty())
    }

    /// The session goes on elsewhere: what was not acknowledged here comes again there.
    pub(super) fn let_go_of_acks(&mut self) {
        self.received.suspend();
        if let Some(rare) = self.rare.as_mut() {
            while rare.held.pop().is_some() {}
        }
    }

    /// Publishes at QoS 1 whose acknowledgement waits.
    pub(super) fn unacknowledged(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.held.at_least_once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_no_memory_behind_and_numbers_go_on() {
        let mut held = Held::default();
        let waiting = Waiting {
            packet_id: PacketId::MIN,
            exactly_once: false,
            reason: None,
        };
        let mut number = 0;
        for most in [10, 1000, 3] {
            for _ in 0..most {
                assert_eq!(held.push(waiting), number);
                number += 1;
            }
            for _ in 0..most {
                assert!(held.get_mut(number).is_none() && held.get_mut(number - 1).is_some());
                assert!(held.pop().is_some());
            }
            assert!(held.pop().is_none());
            assert_eq!(held.queue.capacity() > 0, most < 1000, "{most}");
            assert!(held.queue.capacity() <= KEPT_LEN_MAX);
        }
        assert_eq!((held.first, held.at_least_once), (number, 0));
    }
}
