//! The broker without sockets: who is connected, who subscribed to what, what is retained, what waits.
//!
//! It is a state machine. Packets go in as the codec's views, with the connection that they came on and the time; what
//! they lead to goes out through an [`Outlet`]. It knows no socket, thread or clock, and how connections are named is the
//! caller's choice.
//!
//! ```text
//!  CONNECT ─────▶ handle_connect ──▶ Welcome or a refusal
//!  SUBSCRIBE ───▶ handle_subscribe ─────▶ suback, then the retained messages ─┐
//!  UNSUBSCRIBE ─▶ handle_unsubscribe ───▶ unsuback                            ├─▶ Outlet
//!  PUBLISH ─────▶ handle_publish ───────▶ publish to each subscriber          │
//!  room again ──▶ handle_writable ──────▶ publish what waited                 │
//!  the end ─────▶ handle_disconnected ──▶ the will ───────────────────────────┘
//! ```
//!
//! A message goes to its subscribers while it is still borrowed from the publisher's packet. It is kept, once for all of
//! them, only if it has to wait for one or is retained.

mod clients;
mod connecting;
mod counts;
mod delivering;
mod limits;
mod message;
mod outlet;
mod queue;
mod retained;
mod subscribing;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::VecDeque;
use std::hash::Hash;

use crate::broker::clients::{ClientIndex, Clients};
use crate::broker::message::Message;
use crate::broker::retained::Retained;
use crate::broker::tree::{Granted, TopicTree};

pub(crate) use message::copied;

pub use connecting::Welcome;
pub use counts::BrokerCounts;
pub use limits::{BrokerLimits, KeepAliveRange};
pub use outlet::{Incoming, Outgoing, Outlet, SendError};

/// The broker of one shard. `K` names a connection: a key is used from `handle_connect` until `handle_disconnected`, or
/// until the broker itself has ended it by [`Outlet::disconnect`]; what comes for it later is ignored.
#[derive(Debug)]
pub struct Broker<K> {
    limits: BrokerLimits,
    clients: Clients<K>,
    tree: TopicTree,
    retained: Retained,
    /// What waits for all clients together, in bytes.
    queued_bytes: usize,
    counts: BrokerCounts,
    /// State of the generator of client ids.
    id_state: u64,
    /// The clients that the last search of the tree found; kept for its memory.
    found: Vec<(ClientIndex, Granted)>,
    searches: u64,
    /// Clients that could not take a QoS 1 message, to be ended before the call returns.
    overfull: Vec<ClientIndex>,
    /// Wills of clients that were ended, to be published before the call returns.
    wills: VecDeque<Message>,
}

impl<K: Copy + Eq + Hash> Broker<K> {
    /// A broker without clients. `seed` makes the client ids that it assigns different from another one's.
    pub fn new(limits: BrokerLimits, seed: u64) -> Self {
        Self {
            limits,
            clients: Clients::new(),
            tree: TopicTree::new(limits.filter_levels_max),
            retained: Retained::default(),
            queued_bytes: 0,
            counts: BrokerCounts::default(),
            id_state: seed,
            found: Vec::new(),
            searches: 0,
            overfull: Vec::new(),
            wills: VecDeque::new(),
        }
    }

    /// What has happened so far, and how things stand.
    pub fn counts(&self) -> BrokerCounts {
        BrokerCounts {
            connected_now: self.clients.len() as u64,
            retained_now: self.retained.len() as u64,
            queued_bytes_now: self.queued_bytes as u64,
            ..self.counts
        }
    }
}
