//! Latencies in microseconds, those of messages that never came back included.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A distribution of latencies. What was lost counts as longer than everything that came back, so a dying broker
/// does not improve a quantile.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    returned: Histogram<u64>,
    /// For each lost one, how long it had been waited for.
    lost: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            returned: histogram(),
            lost: histogram(),
        }
    }

    /// Something came back after so long.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.returned.saturating_record(micros(latency));
    }

    /// Something had not come back after so long and never will.
    pub(crate) fn record_lost(&mut self, waited: Duration) {
        self.lost.saturating_record(micros(waited));
    }

    /// Adds what another thread has recorded.
    pub(crate) fn add(&mut self, other: &Self) {
        for (all, part) in [
            (&mut self.returned, &other.returned),
            (&mut self.lost, &other.lost),
        ] {
            all.add(part)
                .expect("both have the same bounds, so everything fits");
        }
    }

    /// `None` when nothing was recorded.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let count = self.returned.len() + self.lost.len();
        if count == 0 {
            return None;
        }
        let (mut values, mut at_least) = ([0; NAMES.len()], Vec::new());
        for ((value, quantile), name) in values.iter_mut().zip(QUANTILES).zip(NAMES) {
            let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count);
            if rank <= self.returned.len() {
                *value = at_rank(&self.returned, rank);
            } else {
                *value = at_rank(&self.lost, rank - self.returned.len()).max(self.returned.max());
                at_least.push(name);
            }
        }
        let [p50, p90, p99, p999, max] = values;
        Some(Quantiles {
            p50,
            p90,
            p99,
            p999,
            max,
            count,
            at_least,
        })
    }
}

/// What is shown of a distribution, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// How many were recorded.
    pub(crate) count: u64,
    /// The names of those that fall on lost messages: the true value is at least the one given.
    pub(crate) at_least: Vec<&'static str>,
}

const NAMES: [&str; 5] = ["p50", "p90", "p99", "p999", "max"];
const QUANTILES: [f64; NAMES.len()] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// The value below or at which `rank` entries lie.
fn at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    if rank == histogram.len() {
        return histogram.max();
    }
    // Half a rank less, so that rounding cannot step over to the next entry.
    let quantile = (rank as f64 - 0.5) / histogram.len() as f64;
    histogram.value_at_quantile(quantile).min(histogram.max())
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

/// 1 us to 10 minutes with 3 digits; what lies above counts as 10 minutes.
fn histogram() -> Histogram<u64> {
    const MICROS_MAX: u64 = 600 * 1_000_000;
    Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are constants that the library accepts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(returned: impl IntoIterator<Item = u64>, lost: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::new();
        returned
            .into_iter()
            .for_each(|micros| latency.record(Duration::from_micros(micros)));
        lost.into_iter()
            .for_each(|micros| latency.record_lost(Duration::from_micros(micros)));
        latency
    }

    #[test]
    fn nothing_recorded_has_no_quantiles() {
        assert_eq!(Latency::new().quantiles(), None);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let quantiles = of(1..=1000, []).quantiles().unwrap();
        assert_eq!(
            quantiles,
            Quantiles {
                p50: 500,
                p90: 900,
                p99: 990,
                p999: 999,
                max: 1000,
                count: 1000,
                at_least: vec![]
            }
        );
    }

    #[test]
    fn lost_messages_stand_behind_all_that_returned() {
        let quantiles = of(1..=985, (0..15).map(|_| 700)).quantiles().unwrap();
        assert_eq!((quantiles.p50, quantiles.p90), (500, 900));
        // Rank 990 is a lost one: it took at least as long as the slowest that returned.
        assert_eq!((quantiles.p99, quantiles.max), (985, 985));
        assert_eq!(quantiles.at_least, ["p99", "p999", "max"]);
        let waited_longer = of([10], [5_000_000]).quantiles().unwrap();
        assert!(
            (5_000_000..5_005_000).contains(&waited_longer.max),
            "{waited_longer:?}"
        );
    }

    #[test]
    fn threads_add_up_and_long_waits_are_cut() {
        let mut all = of([1, 2], [3]);
        all.add(&of([4], []));
        assert_eq!(all.quantiles().unwrap().count, 4);
        assert!(of([u64::MAX], []).quantiles().unwrap().max >= 600_000_000);
    }
}
