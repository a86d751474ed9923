//! Packet identifiers in use by the peer: its publishes at QoS 2 that are delivered and not yet released.
//!
//! Nothing else of them is kept (v5 section 4.3.3, method B: the message is delivered before its PUBREC), so one
//! takes two bytes. They are sorted; a peer takes identifiers in turn, so a new one nearly always goes to the end and
//! the one that is released is near the front. Other publishes are acknowledged before the next packet is looked at.

use fleetwire_codec::PacketId;

/// See the module. An empty list that was never used owns no memory; the most is 128 KiB, when a peer that may have
/// 65,535 publishes under way has so many.
#[derive(Debug)]
pub(crate) struct Received {
    ids: Vec<PacketId>,
    /// The Receive Maximum that this side has announced.
    max: u16,
}

/// What an identifier of a publish means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    New,
    /// Delivered already, v5 `[MQTT-4.3.3-10]`.
    Again,
    /// More than were allowed.
    TooMany,
}

impl Received {
    /// Without an announcement it is 65,535 (v5 section 3.1.2.11.3), which is also all that 3.1.1 has.
    pub(crate) const fn new() -> Self {
        Self {
            ids: Vec::new(),
            max: u16::MAX,
        }
    }

    pub(crate) fn max(&self) -> u16 {
        self.max
    }

    /// The session that they belong to is gone.
    pub(crate) fn clear(&mut self) {
        self.ids = Vec::new();
    }

    pub(crate) fn set_max(&mut self, max: u16) {
        self.max = max;
    }

    /// A publish at QoS 1. It is acknowledged at once, and counts only until then.
    pub(crate) fn at_least_once(&self) -> Arrival {
        if self.ids.len() < usize::from(self.max) {
            Arrival::New
        } else {
            Arrival::TooMany
        }
    }

    /// A publish at QoS 2.
    pub(crate) fn exactly_once(&mut self, packet_id: PacketId) -> Arrival {
        match self.ids.binary_search(&packet_id) {
            Ok(_) => Arrival::Again,
            Err(_) if self.ids.len() >= usize::from(self.max) => Arrival::TooMany,
            Err(index) => {
                self.ids.insert(index, packet_id);
                Arrival::New
            }
        }
    }

    /// PUBREL. Answers whether it releases anything.
    pub(crate) fn release(&mut self, packet_id: PacketId) -> bool {
        let found = self.ids.binary_search(&packet_id);
        if let Ok(index) = found {
            self.ids.remove(index);
        }
        found.is_ok()
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
            assert_eq!(received.exactly_once(id(value)), Arrival::New);
        }
        assert_eq!(received.exactly_once(id(1)), Arrival::Again);
        assert!(received.release(id(1)) && !received.release(id(1)) && !received.release(id(7)));
        assert_eq!(received.exactly_once(id(1)), Arrival::New);
        assert_eq!(received.exactly_once(id(65_535)), Arrival::Again);
    }

    // v5 [MQTT-3.3.4-7], [MQTT-3.3.4-9].
    #[test]
    fn no_more_than_receive_maximum_are_under_way() {
        let mut received = Received::new();
        received.set_max(2);
        assert_eq!(received.exactly_once(id(1)), Arrival::New);
        assert_eq!(received.at_least_once(), Arrival::New);
        assert_eq!(received.exactly_once(id(2)), Arrival::New);
        assert_eq!(received.exactly_once(id(2)), Arrival::Again);
        assert_eq!(received.exactly_once(id(3)), Arrival::TooMany);
        assert_eq!(received.at_least_once(), Arrival::TooMany);
        assert!(received.release(id(1)));
        assert_eq!(received.exactly_once(id(3)), Arrival::New);
    }
}
