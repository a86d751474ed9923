//! CPU time of the calling thread.

use std::fmt;
use std::fs;

use fleetwire_codec::Version;

use crate::wire;

/// What so many messages or connections took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    cpu_ns: u64,
    user_ns: u64,
    count: u64,
}

impl Spent {
    /// The least of some rounds, in microseconds each.
    pub(crate) fn least(rounds: &[Self]) -> f64 {
        let each = rounds
            .iter()
            .map(|one| one.cpu_ns as f64 / one.count as f64 / 1000.0);
        each.fold(f64::INFINITY, f64::min)
    }

    /// The part outside the kernel, in microseconds each, of all rounds together.
    pub(crate) fn mean_user(rounds: &[Self]) -> f64 {
        let user_ns: u64 = rounds.iter().map(|one| one.user_ns).sum();
        let count: u64 = rounds.iter().map(|one| one.count).sum();
        user_ns as f64 / count as f64 / 1000.0
    }

    /// Bytes of so many publishes.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.count * wire::publish(Version::V5).len() as u64
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut numbers = text
            .split_whitespace()
            .map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("three numbers");
        Self {
            cpu_ns: next(),
            user_ns: next(),
            count: next(),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.cpu_ns, self.user_ns, self.count)
    }
}

/// The thread's CPU time at some moment, to a few milliseconds: the kernel counts it when it looks at the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    cpu_ns: u64,
    user_ns: u64,
}

impl Clock {
    /// Now, of this thread.
    pub(crate) fn read() -> Self {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
        let cpu_ns = schedstat.split(' ').next().expect("it has three fields");
        let stat = fs::read_to_string("/proc/thread-self/stat").expect("this is Linux");
        // Behind the name, which may hold anything: proc(5), the 14th of all is utime in hundredths of a second.
        let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
        let user = fields.split(' ').nth(11).expect("it has more than 40 fields");
        Self {
            cpu_ns: cpu_ns.parse().expect("a number"),
            user_ns: user.parse::<u64>().expect("a number") * 10_000_000,
        }
    }

    /// What was spent since, for so many.
    pub(crate) fn spent(self, count: u64) -> Spent {
        let now = Self::read();
        Spent {
            cpu_ns: now.cpu_ns - self.cpu_ns,
            user_ns: now.user_ns - self.user_ns,
            count: count.max(1),
        }
    }
}
