//! Counters of a shard, read without stopping it.

use std::sync::atomic::{AtomicU64, Ordering};

use fleetwire_codec::PacketType;

use crate::Stage;

/// One more than the highest packet type (v5 section 2.1.2).
const PACKET_TYPES: usize = 16;

/// A counter that one shard writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // One writer: a plain load and store, without a locked instruction.
        self.set(self.read() + count);
    }

    pub(crate) fn sub(&self, count: u64) {
        self.set(self.read().saturating_sub(count));
    }

    pub(crate) fn raise_to(&self, value: u64) {
        if value > self.read() {
            self.set(value);
        }
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    (sums { $($name:ident $doc:literal;)* } most { $($most:ident $most_doc:literal;)* }) => {
        /// Counters of one shard.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            $(pub(crate) $most: Counter,)*
            /// By the type's number.
            pub(crate) packets_in: [Counter; PACKET_TYPES],
        }

        /// What an engine has done and holds, summed over its shards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $(#[doc = $doc] pub $name: u64,)*
            $(#[doc = $most_doc] pub $most: u64,)*
            /// MQTT packets received.
            pub packets_in: u64,
            packets_in_by_type: [u64; PACKET_TYPES],
        }

        impl Stats {
            /// Adds those of another shard.
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.read();)*
                $(self.$most = self.$most.max(counters.$most.read());)*
                for (sum, counter) in self.packets_in_by_type.iter_mut().zip(&counters.packets_in) {
                    *sum += counter.read();
                }
                self.packets_in = self.packets_in_by_type.iter().sum();
            }
        }
    };
}

counters! {
    sums {
        links "Links that exist.";
        links_up "Links that are connected.";
        attempts "Attempts to connect that were begun.";
        accepted "Connections that were accepted.";
        connected "Connections that came to a CONNACK that accepts, in either role.";
        failed_tcp "Attempts that ended before TCP was connected, those that `on_dial` refused among them.";
        failed_tls "Attempts that ended in the TLS handshake; in the server role connections that did.";
        failed_connack "Attempts that ended between the transport and CONNACK, or with one that refuses.";
        disconnected "Connections that ended after the application had heard of them.";
        bytes_in "Bytes received from sockets.";
        bytes_out "Bytes handed to sockets.";
        reads "Reads of sockets that brought bytes.";
        sends "Batches of packets handed to sockets: one system call each, unless a socket is full.";
        published "Publishes accepted from the application.";
        in_flight "Publishes above QoS 0 that were accepted and have not ended.";
        bytes_copied "Bytes of packets that were copied within the process: joined, parked, kept as a copy or to be sent again, or copied by the TLS record layer.";
        buffer_bytes "Bytes of buffers in use.";
        buffer_bytes_max "The most bytes of buffers that were in use at once, summed over the shards' own peaks.";
        tls_keys_bytes "Bytes of TLS keys that are kept expanded.";
        tls_keys_expanded "Times that a TLS key had to be expanded, because it was not kept so.";
        parked_bytes "Bytes of buffers that hold partial packets.";
        wake_ups "Passes of the event loops.";
        deadlines "Deadlines that came up, those that had moved meanwhile included.";
        accept_errors "Times that accepting failed, for want of descriptors for example.";
    }
    most {
        lag_us_max "The most that a deadline was late, in microseconds, on any shard: how long a pass took meanwhile.";
    }
}

impl Counters {
    /// An attempt has failed.
    pub(crate) fn failed(&self, stage: Stage) {
        let counter = match stage {
            Stage::Dial | Stage::Tcp => &self.failed_tcp,
            Stage::Tls => &self.failed_tls,
            Stage::Connack | Stage::Up => &self.failed_connack,
        };
        counter.add(1);
    }

    /// The shard is gone, and all that it held with it.
    pub(crate) fn forget_holdings(&self) {
        for held in [
            &self.links,
            &self.links_up,
            &self.in_flight,
            &self.buffer_bytes,
            &self.parked_bytes,
            &self.tls_keys_bytes,
        ] {
            held.set(0);
        }
    }

    /// A packet was received.
    pub(crate) fn packet_in(&self, packet_type: PacketType) {
        if let Some(counter) = self.packets_in.get(packet_type as usize) {
            counter.add(1);
        }
    }
}

impl Stats {
    /// Packets of one type that were received.
    pub fn packets_in_of(&self, packet_type: PacketType) -> u64 {
        self.packets_in_by_type
            .get(packet_type as usize)
            .copied()
            .unwrap_or_default()
    }
}
