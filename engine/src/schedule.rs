//! Periodic work of a link, in an open model: slots never move.

use std::time::{Duration, Instant};

use crate::Due;
use crate::clock::after;

/// A periodic schedule; see [`Outbox::every`](crate::Outbox::every).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    first: Instant,
    period: Duration,
    seq: u64,
    pub(crate) next: Instant,
}

impl Schedule {
    pub(crate) fn new(first: Instant, period: Duration) -> Self {
        Self {
            first,
            period,
            seq: 0,
            next: first,
        }
    }

    /// The slot that is due: the last one that has come, and how many earlier ones were passed over.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let late = now.checked_duration_since(self.next)?;
        let missed = (late.as_nanos() / self.period.as_nanos().max(1)) as u64;
        let seq = self.seq + missed;
        let intended = self.slot(seq);
        self.seq = seq + 1;
        self.next = self.slot(self.seq);
        Some(Due {
            seq,
            intended,
            missed,
        })
    }

    fn slot(&self, seq: u64) -> Instant {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(seq));
        let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        after(self.first, Duration::new(secs, (nanos % 1_000_000_000) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_never_moves_and_passed_over_ones_are_counted() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut schedule = Schedule::new(start + ms(100), ms(1000));
        assert!(schedule.take_due(start).is_none());
        let due = schedule.take_due(start + ms(150)).unwrap();
        assert_eq!((due.seq, due.intended, due.missed), (0, start + ms(100), 0));
        assert!(schedule.take_due(start + ms(1099)).is_none());
        let due = schedule.take_due(start + ms(4200)).unwrap();
        assert_eq!((due.seq, due.intended, due.missed), (4, start + ms(4100), 3));
        assert_eq!(schedule.next, start + ms(5100));
    }
}
