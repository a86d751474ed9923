//! Moments in eight bytes, and arithmetic with them that cannot overflow.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Later than any run; what an absurd duration is taken for.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `wait` after `moment`. A wait of more than a hundred years, such as `Duration::MAX` for "never", is a hundred years.
pub(crate) fn after(moment: Instant, wait: Duration) -> Instant {
    moment + wait.min(FAR)
}

/// An [`Instant`] in eight bytes instead of sixteen, which `Option` does not make more: each link keeps several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

/// What moments count their nanoseconds from: before anything that an engine is told of.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(24 * 3600)).unwrap_or(now)
});

impl Moment {
    /// The same moment, unless it was before the epoch or more than 500 years after it.
    pub(crate) fn instant(self) -> Instant {
        *EPOCH + Duration::from_nanos(self.0.get())
    }

    /// The nanoseconds since `earlier`; none if that was later.
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        let nanos = instant.saturating_duration_since(*EPOCH).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Self(NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_instant_that_it_was_made_of() {
        let now = Instant::now();
        for wait in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(60),
            FAR,
        ] {
            assert_eq!(Moment::from(now + wait).instant(), now + wait);
        }
        let (moment, next) = (Moment::from(now), Moment::from(now + Duration::from_nanos(1)));
        assert!(moment < next);
        assert_eq!((next.nanos_since(moment), moment.nanos_since(next)), (1, 0));
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }

    #[test]
    fn never_is_far_away_and_no_overflow() {
        let now = Instant::now();
        assert_eq!(
            after(now, Duration::from_millis(5)),
            now + Duration::from_millis(5)
        );
        assert_eq!(after(now, Duration::MAX), now + FAR);
    }
}
