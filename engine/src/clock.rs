//! Arithmetic with moments that cannot overflow.

use std::time::{Duration, Instant};

/// Later than any run; what an absurd duration is taken for.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `wait` after `moment`. A wait of more than a hundred years, such as `Duration::MAX` for "never", is a hundred years.
pub(crate) fn after(moment: Instant, wait: Duration) -> Instant {
    moment + wait.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

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
