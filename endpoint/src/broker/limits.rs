use fleetwire_codec::QoS;

/// The broker's bounds, each with what happens when it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerLimits {
    /// Filters of one SUBSCRIBE: each is compared with the retained messages. One more is answered with SUBACK 0x97. Default
    /// 100.
    pub filters_per_subscribe_max: usize,
    /// Filters of one connection. One more is answered with SUBACK 0x97. Default 1,000.
    pub subscriptions_per_connection_max: usize,
    /// Levels of all filters together, common beginnings counted once. A filter that needs more is answered with SUBACK
    /// 0x97. Default 1,000,000.
    pub filter_levels_max: usize,
    /// Messages that wait for one subscriber. A QoS 0 message that finds half of them taken is dropped and counted. A QoS 1
    /// message that finds all of them taken ends the connection of that subscriber, with DISCONNECT 0x97 in 5.0: a session
    /// that has lost a QoS 1 message must not look whole. Default 10,000.
    pub queue_messages_max: usize,
    /// Bytes that wait for one subscriber, with the answers of [`queue_messages_max`](Self::queue_messages_max). Default
    /// 16 MiB.
    pub queue_bytes_max: usize,
    /// Bytes that wait for all subscribers together, with the same answers. A message that waits for several counts for
    /// each. Default 256 MiB.
    pub queued_bytes_max: usize,
    /// Topics with a retained message. A retained message for one more is delivered, not kept, and counted. Default 10,000.
    pub retained_messages_max: usize,
    /// Bytes of all retained messages. One that does not fit is delivered, not kept, and counted; the one that it should
    /// have replaced is gone. Default 64 MiB.
    pub retained_bytes_max: usize,
    /// The highest quality of service: a PUBLISH above it ends the connection with 0x9B, a will above it is refused with
    /// CONNACK 0x9B, and a subscription is granted it at most. Default 1, as AWS IoT Core has it.
    pub qos_max: QoS,
    /// The keep alive intervals that are accepted; one outside is moved to the nearest, and a 5.0 client is told so in
    /// CONNACK. By default each is accepted as it is.
    pub keep_alive: Option<KeepAliveRange>,
}

/// Keep alive intervals, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAliveRange {
    /// The shortest.
    pub min_secs: u16,
    /// The longest; also what becomes of 0, which means off.
    pub max_secs: u16,
}

impl KeepAliveRange {
    pub(crate) fn clamp(self, secs: u16) -> u16 {
        if secs == 0 {
            self.max_secs
        } else {
            secs.max(self.min_secs).min(self.max_secs)
        }
    }
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            filters_per_subscribe_max: 100,
            subscriptions_per_connection_max: 1_000,
            filter_levels_max: 1_000_000,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 * MIB,
            queued_bytes_max: 256 * MIB,
            retained_messages_max: 10_000,
            retained_bytes_max: 64 * MIB,
            qos_max: QoS::AtLeastOnce,
            keep_alive: None,
        }
    }
}

const MIB: usize = 1024 * 1024;
