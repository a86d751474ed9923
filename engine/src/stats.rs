//! Counters of a shard, read without stopping it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that one shard writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // One writer: a plain load and store, without a locked instruction.
        self.set(self.read() + count);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// The shard is gone, and all that it held with it.
    pub(crate) fn forget_holdings(&self) {
        for held in [
            &self.links,
            &self.links_up,
            &self.buffer_bytes,
            &self.parked_bytes,
            &self.tls_keys_bytes,
        ] {
            held.set(0);
        }
    }
}

macro_rules! counters {
    ($($name:ident $doc:literal;)*) => {
        /// Counters of one shard.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// What an engine has done and holds, summed over its shards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Stats {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.read();)*
            }
        }
    };
}

counters! {
    links "Links that exist.";
    links_up "Links that are connected.";
    attempts "Attempts to connect that were begun.";
    accepted "Connections that were accepted.";
    bytes_in "Bytes received from sockets.";
    bytes_out "Bytes handed to sockets.";
    packets_in "MQTT packets received.";
    published "Publishes accepted from the application.";
    bytes_copied "Bytes of packets that were copied within the process: joined, parked, kept as a copy, or copied by the TLS record layer.";
    buffer_bytes "Bytes of buffers in use.";
    buffer_bytes_max "The most bytes of buffers that were in use at once, summed over the shards' own peaks.";
    tls_keys_bytes "Bytes of TLS keys that are kept expanded.";
    tls_keys_expanded "Times that a TLS key had to be expanded, because it was not kept so.";
    parked_bytes "Bytes of buffers that hold partial packets.";
    wake_ups "Passes of the event loops.";
    deadlines "Deadlines that came up, those that had moved meanwhile included.";
    accept_errors "Times that accepting failed, for want of descriptors for example.";
}
