//! Packet identifiers in use by the peer: its publishes at QoS 2 that are delivered and not yet released.
//!
//! Nothing else of them is kept (v5 section 4.3.3, method B: the message is delivered before its PUBREC), so one
//! takes four bytes. They are sorted; a peer takes identifiers in turn, so a new one nearly always goes to the end and
//! the one that is released is near the front. Other publishes are acknowledged before the next packet is looked at, or
//! wait in the queue of `held.rs`.

use fleetwire_codec::PacketId;

/// An empty list keeps room for so many.
const KEPT_LEN_MAX: usize = 64;

/// See the module. An empty list that was never used, or that was long, owns no memory; the most is 256 KiB, when a peer that may have
/// 65,535 publishes under way has so many.
#[derive(Debug)]
pub(crate) struct Received {
    #[allow(
        clippy::box_collection,
        reason = "most links never have one, and pay for the pointer alone"
    )]
    exchanges: Option<Box<Vec<Exchange>>>,
    /// The Receive Maximum that this side has announced.
    max: u16,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    packet_id: PacketId,
    progress: Progress,
}

/// How far an exchange is on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The application has the message, and has not acknowledged it.
    Held,
    /// It has, and the PUBREC waits for others.
    Taken,
    /// The PUBREC was sent.
    Confirmed,
}

/// What an identifier of a publish means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    New,
    /// Delivered already, v5 `[MQTT-4.3.3-10]`.
    Again,
    /// The same, and its PUBREC is still to be sent.
    Unconfirmed,
    /// More than were allowed.
    TooMany,
}

/// What PUBREL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Done,
    /// Nothing has this identifier.
    Unknown,
    /// Its PUBREC was not sent.
    TooEarly,
}

impl Received {
    /// Without an announcement it is 65,535 (v5 section 3.1.2.11.3), which is also all that 3.1.1 has.
    pub(crate) const fn new() -> Self {
        Self {
            exchanges: None,
            max: u16::MAX,
        }
    }

    pub(crate) fn max(&self) -> u16 {
        self.max
    }

    /// The session that they belong to is gone.
    pub(crate) fn clear(&mut self) {
        self.exchanges = None;
    }

    pub(crate) fn set_max(&mut self, max: u16) {
        self.max = max;
    }

    /// A publish at QoS 1, when `others` of that kind are unacknowledged.
    pub(crate) fn at_least_once(&self, others: usize) -> Arrival {
        if self.exchanges().len() + others < usize::from(self.max) {
            Arrival::New
        } else {
            Arrival::TooMany
        }
    }

    /// A publish at QoS 2, when `others` at QoS 1 are unacknowledged.
    pub(crate) fn exactly_once(&mut self, packet_id: PacketId, others: usize) -> Arrival {
        match self.find(packet_id) {
            Ok(index) => match self.exchanges().get(index).map(|exchange| exchange.progress) {
                Some(Progress::Held | Progress::Taken) => Arrival::Unconfirmed,
                _ => Arrival::Again,
            },
            Err(_) if self.exchanges().len() + others >= usize::from(self.max) => Arrival::TooMany,
            Err(index) => {
                let progress = Progress::Confirmed;
                let exchanges = self.exchanges.get_or_insert_default();
                exchanges.insert(index, Exchange { packet_id, progress });
                Arrival::New
            }
        }
    }

    /// The application holds the PUBREC.
    pub(crate) fn hold(&mut self, packet_id: PacketId) {
        self.advance(packet_id, Progress::Held);
    }

    /// The application has acknowledged it; the PUBREC waits.
    pub(crate) fn take(&mut self, packet_id: PacketId) {
        self.advance(packet_id, Progress::Taken);
    }

    /// The PUBREC is on its way.
    pub(crate) fn confirm(&mut self, packet_id: PacketId) {
        self.advance(packet_id, Progress::Confirmed);
    }

    fn advance(&mut self, packet_id: PacketId, progress: Progress) {
        if let Ok(index) = self.find(packet_id)
            && let Some(exchange) = self.exchanges.as_mut().and_then(|all| all.get_mut(index))
        {
            exchange.progress = progress;
        }
    }

    /// PUBREL.
    pub(crate) fn release(&mut self, packet_id: PacketId) -> Release {
        match self.find(packet_id) {
            Err(_) => Release::Unknown,
            Ok(index) => match self.exchanges().get(index).map(|exchange| exchange.progress) {
                Some(Progress::Held | Progress::Taken) => Release::TooEarly,
                _ => {
                    self.remove(index);
                    Release::Done
                }
            },
        }
    }

    /// A PUBREC that refuses is on its way.
    pub(crate) fn refuse(&mut self, packet_id: PacketId) {
        if let Ok(index) = self.find(packet_id) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(exchanges) = &mut self.exchanges else {
            return;
        };
        exchanges.remove(index);
        // What a flood took is given back; the few of an ordinary moment allocate once.
        if exchanges.is_empty() && exchanges.capacity() > KEPT_LEN_MAX {
            self.exchanges = None;
        }
    }

    fn exchanges(&self) -> &[Exchange] {
        self.exchanges.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The connection is over. What the application has not acknowledged is new when it comes again; what it has is not.
    pub(crate) fn suspend(&mut self) {
        let Some(exchanges) = &mut self.exchanges else {
            return;
        };
        exchanges.retain(|exchange| exchange.progress != Progress::Held);
        for exchange in exchanges.iter_mut() {
            exchange.progress = Progress::Confirmed;
        }
    }

    fn find(&self, packet_id: PacketId) -> Result<usize, usize> {
        self.exchanges()
            .binary_search_by_key(&packet_id, |exchange| exchange.packet_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn an_identifier_is_new_once_until_it_is_released() {
        let mut received = Received::new();
        for value in [65_535, 1, 2] {
            assert_eq!(received.exactly_once(id(value), 0), Arrival::New);
        }
        assert_eq!(received.exactly_once(id(1), 0), Arrival::Again);
        assert_eq!(received.release(id(1)), Release::Done);
        for released in [1, 7] {
            assert_eq!(received.release(id(released)), Release::Unknown);
        }
        assert_eq!(received.exactly_once(id(1), 0), Arrival::New);
        assert_eq!(received.exactly_once(id(65_535), 0), Arrival::Again);
    }

    #[test]
    fn a_flood_leaves_no_memory_behind_and_a_few_keep_theirs() {
        let mut received = Received::new();
        for most in [10, 1000, 3] {
            for value in 1..=most {
                assert_eq!(received.exactly_once(id(value), 0), Arrival::New);
            }
            for value in 1..=most {
                assert_eq!(received.release(id(value)), Release::Done);
            }
            let capacity = received.exchanges.as_ref().map_or(0, |all| all.capacity());
            assert_eq!(capacity > 0, most < 1000, "{most}");
            assert!(capacity <= KEPT_LEN_MAX);
        }
    }

    // v5 [MQTT-3.3.4-7], [MQTT-3.3.4-9].
    #[test]
    fn no_more_than_receive_maximum_are_under_way() {
        let mut received = Received::new();
        received.set_max(2);
        assert_eq!(received.exactly_once(id(1), 0), Arrival::New);
        assert_eq!(received.at_least_once(0), Arrival::New);
        assert_eq!(received.exactly_once(id(2), 0), Arrival::New);
        assert_eq!(received.exactly_once(id(2), 0), Arrival::Again);
        assert_eq!(received.exactly_once(id(3), 0), Arrival::TooMany);
        assert_eq!(received.at_least_once(0), Arrival::TooMany);
        assert_eq!(received.release(id(1)), Release::Done);
        // So do those at QoS 1 whose acknowledgement is held.
        assert_eq!(received.exactly_once(id(3), 1), Arrival::TooMany);
        assert_eq!(received.at_least_once(1), Arrival::TooMany);
        assert_eq!(received.exactly_once(id(3), 0), Arrival::New);
    }

    #[test]
    fn what_is_held_comes_again_and_what_was_taken_does_not() {
        let mut received = Received::new();
        for value in 1..=3 {
            received.exactly_once(id(value), 0);
        }
        received.hold(id(1));
        received.take(id(2));
        for value in [1, 2] {
            assert_eq!(received.exactly_once(id(value), 0), Arrival::Unconfirmed);
            assert_eq!(received.release(id(value)), Release::TooEarly);
        }
        received.suspend();
        assert_eq!(received.exactly_once(id(1), 0), Arrival::New);
        assert_eq!(received.exactly_once(id(2), 0), Arrival::Again);
        assert_eq!(received.exactly_once(id(3), 0), Arrival::Again);
    }
}
