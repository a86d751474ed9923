//! Packet identifiers in use by this side: publishes, subscribes and unsubscribes without acknowledgement.
//!
//! The identifier *is* the place in the table (identifier = index + 1), so an acknowledgement is found without a
//! search and two packets can never share an identifier. Free places are reused oldest first. The taken places form
//! a list in the order of sending, so the oldest is at hand for the acknowledgement deadline.

use std::time::Instant;

use fleetwire_codec::{PacketId, QoS};

/// What an identifier stands for, and so which packet ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A publish at QoS 1: PUBACK.
    AtLeastOnce,
    /// A publish at QoS 2 whose PUBREC has not come: PUBREC turns it into the next.
    ExactlyOnce,
    /// A publish at QoS 2 whose PUBREL was sent: PUBCOMP.
    Released,
    Subscribe,
    Unsubscribe,
}

impl Kind {
    /// What a publish above QoS 0 begins as.
    pub(crate) fn of(qos: QoS) -> Self {
        match qos {
            QoS::ExactlyOnce => Self::ExactlyOnce,
            QoS::AtLeastOnce | QoS::AtMostOnce => Self::AtLeastOnce,
        }
    }

    pub(crate) fn is_publish(self) -> bool {
        matches!(self, Self::AtLeastOnce | Self::ExactlyOnce | Self::Released)
    }
}

/// A packet without acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) token: u64,
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
}

/// The end of a list; no table has a place of this number, because identifiers end at 65,535 = index 65,534.
const NONE: u16 = u16::MAX;

#[derive(Debug)]
struct Place {
    entry: Option<Entry>,
    previous: u16,
    next: u16,
}

/// See the module. Empty tables own no memory.
#[derive(Debug)]
pub(crate) struct InFlight {
    places: Vec<Place>,
    oldest: u16,
    newest: u16,
    free_first: u16,
    free_last: u16,
    publishes: u16,
}

impl InFlight {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            oldest: NONE,
            newest: NONE,
            free_first: NONE,
            free_last: NONE,
            publishes: 0,
        }
    }

    /// Publishes whose last acknowledgement has not come: what counts against Receive Maximum (v5 section 4.9).
    pub(crate) fn publishes(&self) -> u16 {
        self.publishes
    }

    /// When the oldest publish was sent. Subscribes in front of it are passed over; there are seldom any.
    pub(crate) fn oldest_publish(&self) -> Option<Instant> {
        if self.publishes == 0 {
            return None;
        }
        let mut index = self.oldest;
        while let Some(place) = self.places.get(usize::from(index)) {
            match place.entry {
                Some(entry) if entry.kind.is_publish() => return Some(entry.sent),
                _ => index = place.next,
            }
        }
        None
    }

    /// Takes an identifier; `None` when all 65,535 are in use.
    pub(crate) fn insert(&mut self, entry: Entry) -> Option<PacketId> {
        let index = match self.pop_free() {
            Some(index) => index,
            None if self.places.len() < usize::from(NONE) => {
                self.places.push(Place {
                    entry: None,
                    previous: NONE,
                    next: NONE,
                });
                (self.places.len() - 1) as u16
            }
            None => return None,
        };
        let newest = self.newest;
        let place = self.places.get_mut(usize::from(index))?;
        *place = Place {
            entry: Some(entry),
            previous: newest,
            next: NONE,
        };
        match self.places.get_mut(usize::from(newest)) {
            Some(previous) => previous.next = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.publishes += u16::from(entry.kind.is_publish());
        PacketId::new(index + 1)
    }

    /// What the identifier stands for now.
    pub(crate) fn kind(&self, packet_id: PacketId) -> Option<Kind> {
        let place = self.places.get(usize::from(packet_id.value() - 1))?;
        place.entry.map(|entry| entry.kind)
    }

    /// PUBREC has come for a publish at QoS 2. It keeps its place in the order and its time: what is late is the
    /// whole exchange.
    pub(crate) fn release(&mut self, packet_id: PacketId) {
        let place = self.places.get_mut(usize::from(packet_id.value() - 1));
        if let Some(entry) = place.and_then(|place| place.entry.as_mut())
            && entry.kind == Kind::ExactlyOnce
        {
            entry.kind = Kind::Released;
        }
    }

    /// Ends what the identifier stands for, if it stands for a packet of that kind.
    pub(crate) fn remove(&mut self, packet_id: PacketId, kind: Kind) -> Option<Entry> {
        let index = packet_id.value() - 1;
        let place = self.places.get_mut(usize::from(index))?;
        if place.entry?.kind != kind {
            return None;
        }
        self.unlink(index)
    }

    /// Ends what the identifier stands for, whatever it is.
    pub(crate) fn take(&mut self, packet_id: PacketId) -> Option<Entry> {
        self.unlink(packet_id.value() - 1)
    }

    /// Ends the oldest packet, whatever it is.
    pub(crate) fn pop_oldest(&mut self) -> Option<Entry> {
        self.unlink(self.oldest)
    }

    fn unlink(&mut self, index: u16) -> Option<Entry> {
        let place = self.places.get_mut(usize::from(index))?;
        let entry = place.entry.take()?;
        let (previous, next) = (place.previous, place.next);
        match self.places.get_mut(usize::from(previous)) {
            Some(place) => place.next = next,
            None => self.oldest = next,
        }
        match self.places.get_mut(usize::from(next)) {
            Some(place) => place.previous = previous,
            None => self.newest = previous,
        }
        self.publishes -= u16::from(entry.kind.is_publish());
        self.push_free(index);
        Some(entry)
    }

    fn pop_free(&mut self) -> Option<u16> {
        let index = self.free_first;
        let next = self.places.get(usize::from(index))?.next;
        self.free_first = next;
        if next == NONE {
            self.free_last = NONE;
        }
        Some(index)
    }

    fn push_free(&mut self, index: u16) {
        if let Some(place) = self.places.get_mut(usize::from(index)) {
            place.next = NONE;
        }
        match self.places.get_mut(usize::from(self.free_last)) {
            Some(last) => last.next = index,
            None => self.free_first = index,
        }
        self.free_last = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, token: u64) -> Entry {
        let now = Instant::now();
        Entry {
            kind,
            token,
            intended: now,
            sent: now,
        }
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn identifiers_are_reused_oldest_first_and_never_while_in_use() {
        let mut table = InFlight::new();
        for token in 0..3 {
            assert_eq!(
                table.insert(entry(Kind::AtLeastOnce, token)),
                Some(id(token as u16 + 1))
            );
        }
        assert_eq!(table.remove(id(2), Kind::AtLeastOnce).unwrap().token, 1);
        assert_eq!(table.remove(id(1), Kind::AtLeastOnce).unwrap().token, 0);
        assert_eq!(table.insert(entry(Kind::AtLeastOnce, 3)), Some(id(2)));
        assert_eq!(table.insert(entry(Kind::AtLeastOnce, 4)), Some(id(1)));
        assert_eq!(table.insert(entry(Kind::AtLeastOnce, 5)), Some(id(4)));
        let order: Vec<u64> = std::iter::from_fn(|| table.pop_oldest())
            .map(|entry| entry.token)
            .collect();
        assert_eq!(order, [2, 3, 4, 5]);
        assert_eq!(table.publishes(), 0);
    }

    #[test]
    fn an_acknowledgement_of_the_wrong_kind_or_of_nothing_ends_nothing() {
        let mut table = InFlight::new();
        let subscribe = table.insert(entry(Kind::Subscribe, 1)).unwrap();
        assert!(table.remove(subscribe, Kind::AtLeastOnce).is_none());
        assert!(table.remove(id(2), Kind::AtLeastOnce).is_none());
        assert!(table.remove(id(65_535), Kind::AtLeastOnce).is_none());
        assert_eq!(table.oldest_publish(), None);
        let publish = entry(Kind::AtLeastOnce, 2);
        table.insert(publish);
        assert_eq!(table.oldest_publish(), Some(publish.sent));
        assert!(table.remove(subscribe, Kind::Subscribe).is_some());
        assert!(table.remove(subscribe, Kind::Subscribe).is_none());
    }

    #[test]
    fn all_65535_identifiers_can_be_in_use_and_no_more() {
        let mut table = InFlight::new();
        for value in 1..=65_535 {
            assert_eq!(table.insert(entry(Kind::AtLeastOnce, 0)), Some(id(value)));
        }
        assert_eq!(table.insert(entry(Kind::AtLeastOnce, 0)), None);
        table.remove(id(777), Kind::AtLeastOnce).unwrap();
        assert_eq!(table.insert(entry(Kind::AtLeastOnce, 0)), Some(id(777)));
    }
}
