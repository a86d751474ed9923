//! Whether this process kept its own schedule, second by second.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::report::Overload;

/// Watches how late a thread's publishes leave. A second is overloaded when 1 % of them left more than 5 ms and more
/// than a tenth of the median answering time late, or when a slot was passed over.
#[derive(Clone, Debug)]
pub(crate) struct LagWatch {
    bin_end: Option<Instant>,
    lag_micros: Histogram<u32>,
    service_micros: Histogram<u32>,
    slot_missed: bool,
    row: u64,
    result: Overload,
}

impl LagWatch {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, MICROS_MAX, 2)
                .expect("the bounds are constants that the library accepts")
        };
        Self {
            bin_end: None,
            lag_micros: histogram(),
            service_micros: histogram(),
            slot_missed: false,
            row: 0,
            result: Overload::default(),
        }
    }

    /// A publish left `lag` after its slot; its answer took `service`, if there is one.
    pub(crate) fn record(&mut self, now: Instant, lag: Duration, service: Option<Duration>) {
        self.roll(now);
        self.lag_micros.saturating_record(micros(lag));
        if let Some(service) = service {
            self.service_micros.saturating_record(micros(service));
        }
    }

    /// This thread came too late for a slot.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.roll(now);
        self.slot_missed = true;
    }

    /// Closes the last second, and answers for all.
    pub(crate) fn finish(&mut self) -> Overload {
        self.close_bin();
        self.result
    }

    fn roll(&mut self, now: Instant) {
        match self.bin_end {
            Some(end) if now < end => return,
            Some(_) => self.close_bin(),
            None => {}
        }
        self.bin_end = Some(now + BIN);
    }

    fn close_bin(&mut self) {
        if self.lag_micros.is_empty() && !self.slot_missed {
            return;
        }
        let bound = LAG_MICROS_MAX.max(self.service_micros.value_at_quantile(0.5) / 10);
        let overloaded = self.slot_missed || self.lag_micros.value_at_quantile(0.99) > bound;
        self.row = if overloaded { self.row + 1 } else { 0 };
        self.result.bins += 1;
        self.result.bins_overloaded += u64::from(overloaded);
        self.result.in_a_row = self.result.in_a_row.max(self.row);
        self.lag_micros.reset();
        self.service_micros.reset();
        self.slot_missed = false;
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const BIN: Duration = Duration::from_secs(1);
const LAG_MICROS_MAX: u64 = 5_000;
/// A minute; what lies above counts as a minute.
const MICROS_MAX: u64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each second: (lag in ms, service in ms) of its publishes.
    fn watch(seconds: &[&[(u64, u64)]]) -> Overload {
        let start = Instant::now();
        let mut watch = LagWatch::new();
        for (second, publishes) in (0..).zip(seconds) {
            let now = start + Duration::from_secs(second);
            for (lag, service) in *publishes {
                watch.record(
                    now,
                    Duration::from_millis(*lag),
                    Some(Duration::from_millis(*service)),
                );
            }
        }
        watch.finish()
    }

    #[test]
    fn a_second_is_overloaded_when_publishes_leave_late() {
        assert_eq!(
            watch(&[&[(1, 1)], &[(4, 1)]]),
            Overload {
                bins: 2,
                bins_overloaded: 0,
                in_a_row: 0
            }
        );
        assert_eq!(
            watch(&[&[(6, 1)], &[(7, 1)], &[(1, 1)]]),
            Overload {
                bins: 3,
                bins_overloaded: 2,
                in_a_row: 2
            }
        );
        // A tenth of a slow broker's median hides more lag.
        assert_eq!(watch(&[&[(9, 100)]]).bins_overloaded, 0);
        assert_eq!(watch(&[&[(11, 100)]]).bins_overloaded, 1);
    }

    #[test]
    fn one_late_publish_in_a_thousand_is_no_overload() {
        let mut publishes = vec![(0, 1); 999];
        publishes.push((50, 1));
        assert_eq!(watch(&[&publishes]).bins_overloaded, 0);
    }

    #[test]
    fn a_slot_passed_over_is_overload() {
        let mut watch = LagWatch::new();
        watch.missed(Instant::now());
        assert_eq!(
            watch.finish(),
            Overload {
                bins: 1,
                bins_overloaded: 1,
                in_a_row: 1
            }
        );
        assert_eq!(LagWatch::new().finish(), Overload::default());
    }
}
