//! Whether this process kept its own schedule, second by second.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::report::Overload;

/// Watches how late a thread's publishes leave. A second is overloaded when 1 % of them, and at least five, left more
/// than 5 ms and more than a tenth of the median answering time late, or when five slots or 1 % of them were passed
/// over.
///
/// The bare rule, 1 % late or any slot passed over, would be broken in a small fleet by a single publish that a busy
/// machine held up once: ten devices publish ten times a second, of which one is ten percent. So there is a least
/// number too.
#[derive(Clone, Debug)]
pub(crate) struct LagWatch {
    bin_end: Option<Instant>,
    lag_micros: Histogram<u32>,
    service_micros: Histogram<u32>,
    slots_missed: u64,
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
            slots_missed: 0,
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

    /// This thread came too late for so many slots.
    pub(crate) fn missed(&mut self, now: Instant, slots: u64) {
        self.roll(now);
        self.slots_missed += slots;
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
        if self.lag_micros.is_empty() && self.slots_missed == 0 {
            return;
        }
        let bound = LAG_MICROS_MAX.max(self.service_micros.value_at_quantile(0.5) / 10);
        let published = self.lag_micros.len();
        let late = published.saturating_sub(self.lag_micros.count_between(0, bound));
        let leaves_late = late >= LATE_MIN && self.lag_micros.value_at_quantile(0.99) > bound;
        let passes_over = self.slots_missed > 0
            && (self.slots_missed >= LATE_MIN || self.slots_missed * 100 >= published + self.slots_missed);
        let overloaded = leaves_late || passes_over;
        self.row = if overloaded { self.row + 1 } else { 0 };
        self.result.bins += 1;
        self.result.bins_overloaded += u64::from(overloaded);
        self.result.in_a_row = self.result.in_a_row.max(self.row);
        self.lag_micros.reset();
        self.service_micros.reset();
        self.slots_missed = 0;
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const BIN: Duration = Duration::from_secs(1);
const LAG_MICROS_MAX: u64 = 5_000;
/// Fewer late publishes or missed slots than these say nothing about a whole second.
const LATE_MIN: u64 = 5;
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
            watch(&[&[(6, 1); 5], &[(7, 1); 5], &[(1, 1)]]),
            Overload {
                bins: 3,
                bins_overloaded: 2,
                in_a_row: 2
            }
        );
        // A tenth of a slow broker's median hides more lag.
        assert_eq!(watch(&[&[(9, 100); 5]]).bins_overloaded, 0);
        assert_eq!(watch(&[&[(11, 100); 5]]).bins_overloaded, 1);
    }

    #[test]
    fn one_late_publish_in_a_thousand_is_no_overload() {
        let mut publishes = vec![(0, 1); 999];
        publishes.push((50, 1));
        assert_eq!(watch(&[&publishes]).bins_overloaded, 0);
        // Nor are four in ten, but five are.
        let mut publishes = vec![(0, 1); 6];
        publishes.resize(10, (50, 1));
        assert_eq!(watch(&[&publishes]).bins_overloaded, 0);
        publishes.push((50, 1));
        assert_eq!(watch(&[&publishes]).bins_overloaded, 1);
    }

    #[test]
    fn slots_passed_over_are_overload_if_they_are_many() {
        let of_a_thousand = |missed| {
            let now = Instant::now();
            let mut watch = LagWatch::new();
            for _ in missed..1_000 {
                watch.record(now, Duration::ZERO, None);
            }
            watch.missed(now, missed);
            watch.finish().bins_overloaded
        };
        assert_eq!([4, 5].map(of_a_thousand), [0, 1]);
        let mut watch = LagWatch::new();
        watch.missed(Instant::now(), 1);
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
