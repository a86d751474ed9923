/// What a broker has done since it was made; the fields that end in `_now` say how things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BrokerCounts {
    /// Connections that were accepted.
    pub connects: u64,
    /// Clients that are connected.
    pub connected_now: u64,
    /// Connections that were ended because their client id connected again.
    pub taken_over: u64,
    /// Connections that were ended because a QoS 1 message found their queue full.
    pub overfull: u64,
    /// Filters that were granted, also again.
    pub subscriptions: u64,
    /// PUBLISH packets from clients.
    pub published_in: u64,
    /// PUBLISH packets to clients.
    pub delivered_out: u64,
    /// Wills that were published.
    pub wills: u64,
    /// Messages to one subscriber that were dropped because its queue was full.
    pub dropped_queue_full: u64,
    /// Messages to one subscriber that were dropped because it takes no packets of that size.
    pub dropped_too_large: u64,
    /// Messages to one subscriber that were dropped because its connection was ending.
    pub dropped_gone: u64,
    /// Messages to one subscriber whose Message Expiry Interval ended while they waited.
    pub dropped_expired: u64,
    /// Retained messages that were not kept because there were as many, or as large ones, as allowed.
    pub retained_refused: u64,
    /// Topics with a retained message.
    pub retained_now: u64,
    /// Bytes that wait for subscribers.
    pub queued_bytes_now: u64,
}

impl BrokerCounts {
    /// Messages to one subscriber that were dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_queue_full + self.dropped_too_large + self.dropped_gone + self.dropped_expired
    }
}
