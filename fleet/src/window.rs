//! Which publishing slots belong to a run, and which of them to its hold phase.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The moments between which publishes count. The main thread sets them, the devices' threads look.
#[derive(Debug)]
pub(crate) struct Window {
    origin: Instant,
    /// Nanoseconds since the origin; `u64::MAX` while it is not known.
    hold_from: AtomicU64,
    publish_until: AtomicU64,
    dials: AtomicBool,
    closing: AtomicBool,
}

impl Window {
    /// Opened at `origin`, with neither hold phase nor end.
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            hold_from: AtomicU64::new(u64::MAX),
            publish_until: AtomicU64::new(u64::MAX),
            dials: AtomicBool::new(true),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// The hold phase begins.
    pub(crate) fn hold_from(&self, from: Instant) {
        self.hold_from.store(self.nanos(from), Ordering::Relaxed);
    }

    /// Slots from here on are none of this run.
    pub(crate) fn publish_until(&self, until: Instant) {
        self.publish_until.store(self.nanos(until), Ordering::Relaxed);
    }

    /// No device dials any more, whether its turn is still to come or its connection was lost.
    pub(crate) fn stop_dialling(&self) {
        self.dials.store(false, Ordering::Relaxed);
    }

    pub(crate) fn may_dial(&self) -> bool {
        self.dials.load(Ordering::Relaxed)
    }

    /// What ends from now on is ended by this run.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether a slot is one of this run.
    pub(crate) fn publishes_at(&self, intended: Instant) -> bool {
        self.nanos(intended) < self.publish_until.load(Ordering::Relaxed)
    }

    /// Whether a slot is one of the hold phase.
    pub(crate) fn holds_at(&self, intended: Instant) -> bool {
        self.nanos(intended) >= self.hold_from.load(Ordering::Relaxed) && self.publishes_at(intended)
    }

    /// Whether the ramp is not over at that moment.
    pub(crate) fn ramps_at(&self, now: Instant) -> bool {
        self.nanos(now) < self.hold_from.load(Ordering::Relaxed)
    }

    /// How many slots of a schedule belong to this run.
    pub(crate) fn slots(&self, first: Instant, period: Duration) -> u64 {
        let until = self.publish_until.load(Ordering::Relaxed);
        let Some(span) = until.checked_sub(self.nanos(first)).filter(|span| *span > 0) else {
            return 0;
        };
        span.div_ceil(nanos(period).max(1))
    }

    fn nanos(&self, moment: Instant) -> u64 {
        nanos(moment.saturating_duration_since(self.origin))
    }
}

/// Enough for 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_before_the_end_are_those_of_the_run() {
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let window = Window::new(origin);
        assert!(window.publishes_at(at(1_000_000)) && window.ramps_at(at(5)) && !window.holds_at(at(5)));
        window.hold_from(at(100));
        window.publish_until(at(1_000));
        assert!(!window.holds_at(at(99)) && window.holds_at(at(100)));
        assert!(window.holds_at(at(999)) && !window.holds_at(at(1_000)) && !window.publishes_at(at(1_000)));
        assert!(!window.ramps_at(at(100)));
        for (first, period, slots) in [
            (0, 100, 10),
            (1, 100, 10),
            (99, 100, 10),
            (100, 100, 9),
            (999, 1, 1),
            (1_000, 100, 0),
            (2_000, 100, 0),
            (0, 5_000, 1),
        ] {
            assert_eq!(
                window.slots(at(first), Duration::from_millis(period)),
                slots,
                "{first} {period}"
            );
            let counted = (0..)
                .take_while(|k| window.publishes_at(at(first + k * period)))
                .count();
            assert_eq!(counted as u64, slots, "{first} {period}");
        }
    }
}
