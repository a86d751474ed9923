//! Packet identifiers in use by this side: publishes, subscribes and unsubscribes without acknowledgement.
//!
//! The identifier *is* the place in the table (identifier = index + 1), so an acknowledgement is found without a
//! search and two packets can never share an identifier. Free places are reused oldest first. The taken places form
//! a list in the order of sending, so the oldest is at hand for the acknowledgement deadline.
//!
//! A session that may outlive its connection keeps each publish, encoded, in a pooled block. When it is resumed they go
//! out again in their order (v5 and v3.1.1 [MQTT-4.4.0-1], [MQTT-4.6.0-1]), as fast as the window and the output allow.

use std::time::Instant;

use fleetwire_codec::buffer::Block;
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
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The publish's; of SUBSCRIBE and UNSUBSCRIBE the number of their filters.
    pub(crate) token: u64,
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    /// The packet itself, if the session may have to send it again.
    pub(crate) kept: Option<Kept>,
    /// It was not sent on the present connection.
    pub(crate) waits: bool,
}

impl Entry {
    /// Whether it is a SUBSCRIBE or UNSUBSCRIBE of so many filters.
    pub(crate) fn has_filters(&self, count: usize) -> bool {
        self.token == count as u64
    }
}

/// An encoded PUBLISH, with DUP set already.
#[derive(Debug)]
pub(crate) struct Kept {
    block: Block,
    len: u32,
}

impl Kept {
    /// `len` bytes of the block are a PUBLISH as it was sent the first time.
    pub(crate) fn new(mut block: Block, len: usize) -> Self {
        if let Some(first) = block.bytes_mut().and_then(|bytes| bytes.first_mut()) {
            // v5 and v3.1.1 [MQTT-3.3.1-1].
            *first |= DUP;
        }
        Self {
            block,
            len: len as u32,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.bytes().get(..self.len as usize).unwrap_or_default()
    }

    pub(crate) fn into_block(self) -> Block {
        self.block
    }
}

/// The flag in the first byte of PUBLISH, v5 section 3.3.1.1.
const DUP: u8 = 0b1000;

/// What is to be sent again next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Again<'a> {
    Publish(&'a [u8]),
    Pubrel(PacketId),
}

/// The end of a list; no table has a place of this number, because identifiers end at 65,535 = index 65,534.
const NONE: u16 = u16::MAX;

#[derive(Debug)]
struct Place {
    entry: Option<Entry>,
    previous: u16,
    next: u16,
}

/// See the module. Empty tables own no memory. The order is that of [`Link`](crate::link::Link).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct InFlight {
    publishes: u16,
    /// Publishes that wait to be sent again, those of which PUBREL does included.
    waiting: u16,
    /// The oldest place that may hold what waits to be sent again.
    cursor: u16,
    oldest: u16,
    newest: u16,
    free_first: u16,
    free_last: u16,
    places: Vec<Place>,
}

impl InFlight {
    /// How many of its bytes are looked at whether something is in flight or not.
    #[cfg(test)]
    pub(crate) const HOT_LEN: usize = std::mem::offset_of!(Self, oldest);

    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            oldest: NONE,
            newest: NONE,
            free_first: NONE,
            free_last: NONE,
            publishes: 0,
            cursor: NONE,
            waiting: 0,
        }
    }

    /// Publishes whose last acknowledgement has not come: what counts against Receive Maximum (v5 section 4.9).
    pub(crate) fn publishes(&self) -> u16 {
        self.publishes
    }

    /// When the oldest publish was sent, if it was on this connection. Subscribes in front of it are passed over; there are seldom any.
    pub(crate) fn oldest_publish(&self) -> Option<Instant> {
        if self.publishes == 0 {
            return None;
        }
        let mut index = self.oldest;
        while let Some(place) = self.places.get(usize::from(index)) {
            match &place.entry {
                Some(entry) if entry.waits => return None,
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
        self.publishes += u16::from(entry.kind.is_publish());
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
        PacketId::new(index + 1)
    }

    /// What the identifier stands for now.
    pub(crate) fn kind(&self, packet_id: PacketId) -> Option<Kind> {
        let place = self.places.get(usize::from(packet_id.value() - 1))?;
        place.entry.as_ref().map(|entry| entry.kind)
    }

    /// PUBREC has come for a publish at QoS 2. It keeps its place in the order and its time: what is late is the
    /// whole exchange. Answers what was kept of it, which is never sent again (v5 [MQTT-4.3.3-6]).
    pub(crate) fn release(&mut self, packet_id: PacketId) -> Option<Kept> {
        let place = self.places.get_mut(usize::from(packet_id.value() - 1));
        let entry = place.and_then(|place| place.entry.as_mut())?;
        if entry.kind == Kind::ExactlyOnce {
            entry.kind = Kind::Released;
        }
        entry.kept.take()
    }

    /// Keeps the packet of an entry, so that it can be sent again.
    pub(crate) fn keep(&mut self, packet_id: PacketId, kept: Kept) {
        let place = self.places.get_mut(usize::from(packet_id.value() - 1));
        if let Some(entry) = place.and_then(|place| place.entry.as_mut()) {
            entry.kept = Some(kept);
        }
    }

    /// The connection is over. What can be sent again waits for the next one; subscribes and unsubscribes end, for they are
    /// no part of a session's state (v5 section 4.1).
    pub(crate) fn suspend(&mut self) {
        let (mut index, mut waiting) = (self.oldest, 0);
        while let Some(place) = self.places.get_mut(usize::from(index)) {
            let next = place.next;
            match &mut place.entry {
                Some(entry) if entry.kind.is_publish() => {
                    entry.waits = true;
                    waiting += 1;
                }
                _ => {
                    self.unlink(index);
                }
            }
            index = next;
        }
        (self.cursor, self.waiting) = (self.oldest, waiting);
    }

    /// Publishes that wait to be sent again.
    pub(crate) fn waiting(&self) -> u16 {
        self.waiting
    }

    /// The oldest that waits to be sent again; `window` is how many publishes may be unacknowledged. PUBREL is no
    /// publish, so it waits for no window (v5 [MQTT-4.9.0-3]).
    pub(crate) fn again(&self, window: u16) -> Option<(PacketId, Again<'_>)> {
        let (packet_id, entry) = self.next_waiting()?;
        match &entry.kept {
            _ if entry.kind == Kind::Released => Some((packet_id, Again::Pubrel(packet_id))),
            Some(kept) if self.publishes - self.waiting < window => {
                Some((packet_id, Again::Publish(kept.bytes())))
            }
            _ => None,
        }
    }

    fn next_waiting(&self) -> Option<(PacketId, &Entry)> {
        // It is asked after whatever was received, and nearly always nothing waits.
        if self.waiting == 0 {
            return None;
        }
        let mut index = self.cursor;
        while let Some(place) = self.places.get(usize::from(index)) {
            match &place.entry {
                Some(entry) if entry.waits => return Some((PacketId::new(index + 1)?, entry)),
                _ => index = place.next,
            }
        }
        None
    }

    /// It was sent again.
    pub(crate) fn sent_again(&mut self, packet_id: PacketId, now: Instant) {
        let index = packet_id.value() - 1;
        if let Some(place) = self.places.get_mut(usize::from(index))
            && let Some(entry) = place.entry.as_mut().filter(|entry| entry.waits)
        {
            entry.waits = false;
            entry.sent = now;
            self.waiting -= 1;
            self.cursor = place.next;
        }
    }

    /// Ends what the identifier stands for, if it stands for a packet of that kind.
    pub(crate) fn remove(&mut self, packet_id: PacketId, kind: Kind) -> Option<Entry> {
        let index = packet_id.value() - 1;
        let place = self.places.get_mut(usize::from(index))?;
        if place.entry.as_ref()?.kind != kind {
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

    /// Ends the oldest publish, and all else that is older.
    pub(crate) fn pop_oldest_publish(&mut self) -> Option<Entry> {
        loop {
            let entry = self.pop_oldest()?;
            if entry.kind.is_publish() {
                return Some(entry);
            }
        }
    }

    fn unlink(&mut self, index: u16) -> Option<Entry> {
        let place = self.places.get_mut(usize::from(index))?;
        let entry = place.entry.take()?;
        let (previous, next) = (place.previous, place.next);
        self.waiting -= u16::from(entry.waits);
        if self.cursor == index {
            self.cursor = next;
        }
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
    use fleetwire_codec::buffer::{Pool, PoolLimits};

    use super::*;

    fn entry(kind: Kind, token: u64) -> Entry {
        let now = Instant::now();
        Entry {
            kind,
            token,
            intended: now,
            sent: now,
            kept: None,
            waits: false,
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
        let sent = publish.sent;
        table.insert(publish);
        assert_eq!(table.oldest_publish(), Some(sent));
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

    fn kept(pool: &mut Pool, byte: u8) -> Kept {
        let mut block = pool.take(2).unwrap();
        block.bytes_mut().unwrap()[..2].copy_from_slice(&[0x32, byte]);
        Kept::new(block, 2)
    }

    // v5 and v3.1.1 [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1].
    #[test]
    fn what_waits_is_sent_again_in_its_order_with_dup_and_within_the_window() {
        let (mut table, mut pool) = (InFlight::new(), Pool::new(PoolLimits::default()));
        let now = Instant::now();
        // The second place is taken by the youngest, so that the order is not that of the identifiers.
        let free = table.insert(entry(Kind::AtLeastOnce, 0)).unwrap();
        for kind in [Kind::ExactlyOnce, Kind::Subscribe, Kind::AtLeastOnce] {
            table.insert(entry(kind, 0)).unwrap();
        }
        table.take(free).unwrap();
        assert_eq!(table.insert(entry(Kind::AtLeastOnce, 0)), Some(free));
        for value in [2, 4, 1] {
            table.keep(id(value), kept(&mut pool, value as u8));
        }
        assert!(
            table.release(id(2)).is_some(),
            "what PUBREC has taken is not kept"
        );
        table.suspend();
        assert_eq!(
            (table.waiting(), table.publishes(), table.oldest_publish()),
            (3, 3, None)
        );
        assert_eq!(table.kind(id(3)), None, "a subscribe is no part of the session");
        assert_eq!(table.again(0), Some((id(2), Again::Pubrel(id(2)))));
        table.sent_again(id(2), now);
        assert_eq!(table.again(1), None, "the window is full");
        assert_eq!(table.again(2), Some((id(4), Again::Publish(&[0x3a, 4]))));
        table.sent_again(id(4), now);
        assert_eq!(table.again(2), None);
        table.take(id(2)).unwrap();
        assert_eq!(table.again(2), Some((id(1), Again::Publish(&[0x3a, 1]))));
        // The connection breaks once more before the last has gone out.
        table.suspend();
        assert_eq!(table.again(9), Some((id(4), Again::Publish(&[0x3a, 4]))));
        table.take(id(4)).unwrap();
        assert_eq!(table.again(9), Some((id(1), Again::Publish(&[0x3a, 1]))));
        table.sent_again(id(1), now);
        assert_eq!((table.again(9), table.waiting()), (None, 0));
        table.take(id(1)).unwrap();
        drop(table);
        drop(pool.take(1));
        assert_eq!(pool.stats().blocks_in_use, 0, "every block came home");
    }
}
