//! Counters of a shard, read without stopping it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use fleetwire_codec::PacketType;

use crate::{Slug, Stage};

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

/// The least of what one shard has measured, which anybody reads.
#[derive(Debug)]
pub(crate) struct Least(AtomicI64);

impl Least {
    pub(crate) fn lower_to(&self, value: i64) {
        if value < self.0.load(Ordering::Relaxed) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// `None` as long as nothing was measured.
    pub(crate) fn read(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|least| *least != i64::MAX)
    }
}

impl Default for Least {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

/// Packets by the number of their type.
#[derive(Debug, Default)]
pub(crate) struct Packets([Counter; PACKET_TYPES]);

impl Packets {
    pub(crate) fn add(&self, packet_type: PacketType) {
        if let Some(counter) = self.0.get(packet_type as usize) {
            counter.add(1);
        }
    }

    fn add_to(&self, sums: &mut [u64; PACKET_TYPES]) {
        for (sum, counter) in sums.iter_mut().zip(&self.0) {
            *sum += counter.read();
        }
    }
}

macro_rules! counters {
    (
        traffic { $($hot:ident $hot_doc:literal;)* }
        sums { $($name:ident $doc:literal;)* }
        most { $($most:ident $most_doc:literal;)* }
    ) => {
        /// Counters of one shard, on lines of the cache that no other shard writes to; what each message counts is in the
        /// first.
        #[derive(Debug, Default)]
        #[repr(C, align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $hot: Counter,)*
            pub(crate) packets_in: Packets,
            pub(crate) packets_out: Packets,
            $(pub(crate) $name: Counter,)*
            $(pub(crate) $most: Counter,)*
            pub(crate) keep_alive_slack_us_min: Least,
        }

        /// What an engine has done and holds, summed over its shards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $(#[doc = $hot_doc] pub $hot: u64,)*
            $(#[doc = $doc] pub $name: u64,)*
            $(#[doc = $most_doc] pub $most: u64,)*
            /// MQTT packets received.
            pub packets_in: u64,
            /// MQTT packets encoded for sockets, those that were sent again among them. What a connection had not sent
            /// when it ended is counted too.
            pub packets_out: u64,
            /// The least time in microseconds that a server still had to wait for a client of this engine, when the client
            /// ended a silence that was longer than its keep-alive: the server may close the connection one and a half
            /// keep-alives after the packet before (v5 `[MQTT-3.1.2-22]`, v3.1.1 `[MQTT-3.1.2-24]`). A client that sends
            /// nothing else has half of its keep-alive left when its PINGREQ is due. Negative when the packet came after that
            /// moment; `None` while there was no such silence.
            ///
            /// It is taken when the packet is encoded; a socket that takes nothing makes it less. See also
            /// [`keep_alive_late_us_max`](Self::keep_alive_late_us_max).
            pub keep_alive_slack_us_min: Option<i64>,
            packets_in_by_type: [u64; PACKET_TYPES],
            packets_out_by_type: [u64; PACKET_TYPES],
        }

        impl Stats {
            /// Adds those of another shard.
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$hot += counters.$hot.read();)*
                $(self.$name += counters.$name.read();)*
                $(self.$most = self.$most.max(counters.$most.read());)*
                counters.packets_in.add_to(&mut self.packets_in_by_type);
                counters.packets_out.add_to(&mut self.packets_out_by_type);
                self.packets_in = self.packets_in_by_type.iter().sum();
                self.packets_out = self.packets_out_by_type.iter().sum();
                let slacks = [self.keep_alive_slack_us_min, counters.keep_alive_slack_us_min.read()];
                self.keep_alive_slack_us_min = slacks.into_iter().flatten().min();
            }
        }
    };
}

counters! {
    traffic {
        bytes_in "Bytes received from sockets.";
        bytes_out "Bytes handed to sockets.";
        reads "Reads of sockets that brought bytes.";
        sends "Batches of packets handed to sockets: one system call each, unless a socket is full.";
    }
    sums {
        links "Links that exist.";
        links_up "Links that are connected.";
        attempts "Attempts to connect that were begun.";
        accepted "Connections that were accepted.";
        connected "Connections that came to a CONNACK that accepts, in either role.";
        failed_tcp "Attempts that ended before TCP was connected, those that `on_dial` refused among them.";
        failed_tls "Attempts that ended in the TLS handshake; in the server role connections that did.";
        failed_connack "Attempts that ended between the transport and CONNACK, or with one that refuses.";
        failed_timeout "Attempts that ended because their time was up, at whatever stage; they are counted with the stage too.";
        failed_refused "Attempts that the other side refused: nobody listened, or CONNACK said no. They are counted with the stage too.";
        disconnected "Connections that ended after the application had heard of them.";
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
        keep_alive_late_us_max "The most that a client's packet came after its keep-alive had passed in silence, in microseconds: how late a PINGREQ was (v5 `[MQTT-3.1.2-20]`, v3.1.1 `[MQTT-3.1.2-23]`).";
    }
}

impl Counters {
    /// An attempt has failed.
    pub(crate) fn failed(&self, stage: Stage, slug: Slug) {
        let counter = match stage {
            Stage::Dial | Stage::Tcp => &self.failed_tcp,
            Stage::Tls => &self.failed_tls,
            Stage::Connack | Stage::Up => &self.failed_connack,
        };
        counter.add(1);
        match slug {
            Slug::TCP_TIMEOUT | Slug::TLS_TIMEOUT | Slug::CONNACK_TIMEOUT | Slug::CONNECT_TIMEOUT => {
                self.failed_timeout.add(1)
            }
            Slug::TCP_REFUSED | Slug::CONNACK_REFUSED | Slug::THROTTLED => self.failed_refused.add(1),
            _ => {}
        }
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

    /// A client sends a packet after a silence that was not shorter than its keep-alive.
    #[cold]
    pub(crate) fn silence_ended(&self, silence: Silence) {
        let Silence { lasted, keep_alive } = silence;
        let late = lasted.saturating_sub(keep_alive).as_micros();
        self.keep_alive_late_us_max
            .raise_to(u64::try_from(late).unwrap_or(u64::MAX));
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let allowed = micros(keep_alive * 3 / 2);
        self.keep_alive_slack_us_min
            .lower_to(allowed.saturating_sub(micros(lasted)));
    }
}

/// A time in which a client has sent nothing, as long as its keep-alive or longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) lasted: Duration,
    pub(crate) keep_alive: Duration,
}

impl Stats {
    /// Packets of one type that were received.
    pub fn packets_in_of(&self, packet_type: PacketType) -> u64 {
        of_type(&self.packets_in_by_type, packet_type)
    }

    /// Packets of one type that were encoded for sockets; see [`packets_out`](Self::packets_out).
    pub fn packets_out_of(&self, packet_type: PacketType) -> u64 {
        of_type(&self.packets_out_by_type, packet_type)
    }
}

fn of_type(packets: &[u64; PACKET_TYPES], packet_type: PacketType) -> u64 {
    packets.get(packet_type as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sum(shards: &[Counters]) -> Stats {
        let mut stats = Stats::default();
        shards.iter().for_each(|counters| stats.add(counters));
        stats
    }

    #[test]
    fn packets_are_counted_by_type_and_direction_over_all_shards() {
        let shards: [Counters; 2] = Default::default();
        shards[0].packets_in.add(PacketType::Connect);
        shards[1].packets_in.add(PacketType::Auth);
        shards[0].packets_out.add(PacketType::Auth);
        shards[1].packets_out.add(PacketType::Auth);
        shards[1].packets_out.add(PacketType::Pingreq);
        let stats = sum(&shards);
        assert_eq!((stats.packets_in, stats.packets_out), (2, 3));
        let of = |packet_type| {
            (
                stats.packets_in_of(packet_type),
                stats.packets_out_of(packet_type),
            )
        };
        assert_eq!(of(PacketType::Connect), (1, 0));
        assert_eq!(of(PacketType::Auth), (1, 2));
        assert_eq!(of(PacketType::Pingreq), (0, 1));
        assert_eq!(of(PacketType::Publish), (0, 0));
    }

    #[test]
    fn an_attempt_that_failed_is_counted_by_its_stage_and_by_its_outcome() {
        let counters = [Counters::default()];
        let failed = |stage, slug| {
            counters[0].failed(stage, slug);
            let stats = sum(&counters);
            [
                stats.failed_tcp,
                stats.failed_tls,
                stats.failed_connack,
                stats.failed_timeout,
                stats.failed_refused,
            ]
        };
        assert_eq!(failed(Stage::Tcp, Slug::TCP_REFUSED), [1, 0, 0, 0, 1]);
        assert_eq!(failed(Stage::Tcp, Slug::TCP_TIMEOUT), [2, 0, 0, 1, 1]);
        assert_eq!(failed(Stage::Dial, Slug::DIAL_REFUSED), [3, 0, 0, 1, 1]);
        assert_eq!(failed(Stage::Tls, Slug::TLS_TIMEOUT), [3, 1, 0, 2, 1]);
        assert_eq!(failed(Stage::Tls, Slug::CLOSED_IN_HANDSHAKE), [3, 2, 0, 2, 1]);
        assert_eq!(failed(Stage::Connack, Slug::CONNACK_TIMEOUT), [3, 2, 1, 3, 1]);
        assert_eq!(failed(Stage::Connack, Slug::THROTTLED), [3, 2, 2, 3, 2]);
        assert_eq!(failed(Stage::Connack, Slug::CONNACK_REFUSED), [3, 2, 3, 3, 3]);
        // Server role.
        assert_eq!(failed(Stage::Connack, Slug::CONNECT_TIMEOUT), [3, 2, 4, 4, 3]);
    }

    // v5 [MQTT-3.1.2-22], v3.1.1 [MQTT-3.1.2-24].
    #[test]
    fn the_slack_is_what_is_left_of_one_and_a_half_keep_alives() {
        let shards: [Counters; 3] = Default::default();
        assert_eq!(sum(&shards).keep_alive_slack_us_min, None);
        let silence = |lasted, keep_alive| Silence { lasted, keep_alive };
        // A PINGREQ in time, one that is late, and one that is too late, of three clients on two shards.
        shards[0].silence_ended(silence(60 * SECOND, 60 * SECOND));
        let stats = sum(&shards);
        assert_eq!(
            (stats.keep_alive_slack_us_min, stats.keep_alive_late_us_max),
            (Some(30_000_000), 0)
        );
        shards[1].silence_ended(silence(13 * SECOND, 10 * SECOND));
        let stats = sum(&shards);
        assert_eq!(
            (stats.keep_alive_slack_us_min, stats.keep_alive_late_us_max),
            (Some(2_000_000), 3_000_000)
        );
        shards[0].silence_ended(silence(2 * SECOND, SECOND));
        let stats = sum(&shards);
        assert_eq!(
            (stats.keep_alive_slack_us_min, stats.keep_alive_late_us_max),
            (Some(-500_000), 3_000_000)
        );
    }

    #[test]
    fn an_absurd_silence_does_not_overflow() {
        let counters = Counters::default();
        counters.silence_ended(Silence {
            lasted: Duration::MAX,
            keep_alive: SECOND,
        });
        let slack = counters.keep_alive_slack_us_min.read();
        assert_eq!(slack, Some(1_500_000 - i64::MAX));
        assert_eq!(counters.keep_alive_late_us_max.read(), u64::MAX);
    }
}
