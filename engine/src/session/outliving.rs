//! What of a session goes on with another connection: its state between the two, how long that is worth keeping, and what is
//! sent again.

use std::time::{Duration, Instant};

use fleetwire_codec::PacketId;
use fleetwire_codec::buffer::Block;

use super::in_flight::{Again, Entry, InFlight, Kept};
use super::received::Received;
use super::state::{self, SessionState};
use super::{Role, Session};
use crate::PublishError;
use crate::clock::{Moment, after};

impl Session {
    /// Takes the session's state out, if it may go on with another connection. What is in flight here ends with this one,
    /// whose end is now.
    pub(crate) fn suspend(&mut self, now: Instant) -> Option<SessionState> {
        if !self.outlives() {
            return None;
        }
        // An attempt that came to nothing does not put off the end of what it offered to go on with.
        let expires_at = if self.keeps {
            self.expires_after(now)
        } else {
            self.expires_at
        };
        (self.keeps, self.has_state) = (false, false);
        self.let_go_of_acks();
        let mut state = state::Inner {
            version: self.version,
            client: self.client,
            in_flight: std::mem::replace(&mut self.in_flight, InFlight::new()),
            received: std::mem::replace(&mut self.received, Received::new()),
            expires_at,
            has_expired: false,
        };
        state.in_flight.suspend();
        Some(SessionState(Box::new(state)))
    }

    /// Whether there is something for another connection to go on with.
    pub(crate) fn outlives(&self) -> bool {
        self.keeps || (self.has_state && !self.is_up())
    }

    pub(super) fn take_up(&mut self, state: SessionState) {
        let state::Inner {
            in_flight,
            received,
            expires_at,
            ..
        } = *state.0;
        self.expires_at = expires_at;
        let max = self.received.max();
        (self.in_flight, self.received) = (in_flight, received);
        self.received.set_max(max);
        self.has_state = true;
    }

    /// When the session ends whose connection ends now: v5 section 3.1.2.11.2.
    fn expires_after(&self, now: Instant) -> Option<Moment> {
        let ends = self.role == Role::Client && self.expiry_secs != NO_END;
        ends.then(|| after(now, Duration::from_secs(self.expiry_secs.into())).into())
    }

    /// Client: whether a DISCONNECT may carry this Session Expiry Interval (v5 section 3.14.2.2.2).
    pub(crate) fn may_set_expiry(&self, secs: u32) -> bool {
        secs == 0 || !self.expires_at_once
    }

    /// Client: the application has said so in DISCONNECT; `is_said` is whether the server will hear it. Of a session that it is
    /// to end and does not hear of, this side's half expires at once.
    pub(crate) fn set_expiry(&mut self, secs: u32, is_said: bool) {
        self.keeps &= secs > 0 || !is_said;
        if is_said || secs == 0 {
            self.expiry_secs = secs;
        }
    }

    /// Publishes are copied until they are acknowledged.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Keeps what was sent with this identifier.
    pub(crate) fn keep(&mut self, packet_id: PacketId, kept: Kept) {
        self.in_flight.keep(packet_id, kept);
    }

    /// The memory that the last packet has freed.
    pub(crate) fn take_spent(&mut self) -> Option<Block> {
        self.spent.take()
    }

    pub(super) fn spend(&mut self, kept: Option<Kept>) {
        self.spent = kept.map(Kept::into_block);
    }

    /// What is to be sent again now.
    pub(crate) fn again(&self) -> Option<(PacketId, Again<'_>)> {
        self.in_flight.again(self.window)
    }

    pub(crate) fn sent_again(&mut self, packet_id: PacketId, now: Instant) {
        self.in_flight.sent_again(packet_id, now);
        self.last_sent = now.into();
    }

    /// Whether the peer takes a kept PUBLISH, by its first byte and its length.
    pub(crate) fn peer_takes_again(&self, packet: &[u8]) -> Result<(), PublishError> {
        let flags = packet.first().copied().unwrap_or(0);
        if !self.peer_takes(packet.len()) {
            return Err(PublishError::TooLarge);
        }
        if (flags >> 1 & 0b11) > self.qos_max.bits() || (flags & 1 == 1 && !self.retain_available) {
            return Err(PublishError::Refused);
        }
        Ok(())
    }

    /// Ends a publish that the peer does not take any more.
    pub(crate) fn give_up(&mut self, packet_id: PacketId) -> Option<Entry> {
        self.in_flight.take(packet_id)
    }

    /// Client: the oldest publish of a session that the server has not got any more.
    pub(crate) fn pop_lost(&mut self) -> Option<Entry> {
        self.rare.as_mut()?.lost.pop_oldest_publish()
    }
}

/// A Session Expiry Interval that never comes: v5 section 3.1.2.11.2.
pub(super) const NO_END: u32 = u32::MAX;
