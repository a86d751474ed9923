//! When a session wakes: keep-alive and the acknowledgement deadline.

use std::time::{Duration, Instant};

use super::{Expired, Role, Session};
use crate::Limits;
use crate::clock::{Moment, after};
use crate::stats::Silence;

/// No keep-alive is shorter than a second, but for none at all.
const KEEP_ALIVE_NANOS_MIN: u64 = 1_000_000_000;

impl Session {
    /// When [`handle_timeout`](Self::handle_timeout) has something to say.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        if !self.is_up() {
            return None;
        }
        let acks = self.acks_late_at(limits);
        [self.keep_alive_at(limits), acks].into_iter().flatten().min()
    }

    /// The client's silence that a packet ends which is sent now, if it has lasted for the keep-alive.
    #[inline]
    pub(crate) fn ending_silence(&self, now: Moment) -> Option<Silence> {
        // Asked for every packet, and most are close together.
        let nanos = now.nanos_since(self.last_sent);
        if nanos < KEEP_ALIVE_NANOS_MIN {
            return None;
        }
        self.silence_of(Duration::from_nanos(nanos))
    }

    #[cold]
    fn silence_of(&self, lasted: Duration) -> Option<Silence> {
        if self.role == Role::Server || !self.is_up() {
            return None;
        }
        let keep_alive = Duration::from_secs(self.keep_alive_secs.into());
        (!keep_alive.is_zero() && lasted >= keep_alive).then_some(Silence { lasted, keep_alive })
    }

    fn keep_alive_at(&self, limits: &Limits) -> Option<Instant> {
        if self.keep_alive_secs == 0 {
            return None;
        }
        let keep_alive = Duration::from_secs(self.keep_alive_secs.into());
        Some(match (self.role, self.ping_sent) {
            // v5 [MQTT-3.1.2-22]: the server closes after one and a half times the keep-alive.
            (Role::Server, _) => self.last_received.instant() + keep_alive * 3 / 2,
            // Any packet proves that the peer lives, so a PINGRESP that waits behind others is no alarm.
            (Role::Client, Some(sent)) => after(
                sent.max(self.last_received).instant(),
                keep_alive.min(limits.pingresp_timeout),
            ),
            (Role::Client, None) => self.last_sent.instant() + keep_alive,
        })
    }

    fn acks_late_at(&self, limits: &Limits) -> Option<Instant> {
        let oldest = self.in_flight.oldest_publish()?;
        let told = self
            .acks_late_told
            .map(Moment::instant)
            .filter(|told| *told > oldest)
            .unwrap_or(oldest);
        // Below a millisecond it would be late for ever.
        Some(after(told, limits.ack_timeout.max(Duration::from_millis(1))))
    }

    /// What is due now; to be called again until it answers `None`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, limits: &Limits) -> Option<Expired> {
        if !self.is_up() {
            return None;
        }
        if self.keep_alive_at(limits).is_some_and(|at| at <= now) {
            return Some(if self.role == Role::Client && self.ping_sent.is_none() {
                Expired::SendPing
            } else {
                Expired::PeerSilent
            });
        }
        if self.acks_late_at(limits).is_some_and(|at| at <= now) {
            self.acks_late_told = Some(now.into());
            let oldest = self.in_flight.oldest_publish()?;
            return Some(Expired::AcksLate {
                oldest: now.saturating_duration_since(oldest),
            });
        }
        None
    }
}
