//! Names of things: links, shards, and where an event happened.

use std::fmt;
use std::time::Instant;

/// Names a link: one device's way to the broker (client role) or one accepted connection (server role).
///
/// A client link's id lives across its reconnects and ends with [`Outbox::close`](crate::Outbox::close); a server
/// link's ends with its connection. An id is never reused within an engine: a late verb for a link that is gone
/// answers `NoSuchLink` and cannot hit a newer one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    pub(crate) shard: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl LinkId {
    /// The index of the shard that the link lives on; it never migrates.
    pub fn shard(self) -> usize {
        self.shard as usize
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.slot, self.generation)
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkId({self})")
    }
}

/// Stands for the acknowledgement of one received message, which the application has taken over with
/// [`Outbox::hold_ack`](crate::Outbox::hold_ack) and gives with [`Outbox::ack`](crate::Outbox::ack) or
/// [`EngineHandle::ack`](crate::EngineHandle::ack).
///
/// It is a name, of 24 bytes: dropping it acknowledges nothing, and using it twice, or when its connection is over, is an
/// error that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckTicket {
    pub(crate) link: LinkId,
    pub(crate) epoch: u32,
    /// Which of the acknowledgements that were held on this connection.
    pub(crate) number: u64,
}

impl AckTicket {
    /// The link that the message came on.
    pub fn link(self) -> LinkId {
        self.link
    }

    /// Which connection of the link, as [`At::epoch`].
    pub fn epoch(self) -> u32 {
        self.epoch
    }
}

/// Where and when an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The link.
    pub link: LinkId,
    /// The application's own 64 bits, given when the link was opened.
    pub token: u64,
    /// Which connection of the link this is: attempts count from 1; 0 before the first.
    pub epoch: u32,
    /// The shard's clock: taken once at each return from the system's poll.
    pub now: Instant,
}

/// One shard of an engine: one thread, one event loop, one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// How many shards the engine has.
    pub count: usize,
    /// The engine's seed; the same on every shard.
    pub seed: u64,
}

impl Shard {
    /// This shard's part of `0..total`; the parts of all shards are disjoint and together complete.
    pub fn share_of(&self, total: usize) -> impl Iterator<Item = usize> + use<> {
        (self.index..total).step_by(self.count.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_complete() {
        let mut all: Vec<usize> = (0..3)
            .flat_map(|index| {
                Shard {
                    index,
                    count: 3,
                    seed: 0,
                }
                .share_of(10)
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }
}
