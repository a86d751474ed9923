//! CPU time of the calling thread.

use std::fmt;
use std::fs;

use fleetwire_codec::Version;

use crate::wire;

/// What so many messages or connections took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    cpu_ns: u64,
    count: u64,
}

impl Spent {
    /// Microseconds each.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu_ns as f64 / self.count as f64 / 1000.0
    }

    /// Bytes of so many publishes.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.count * wire::publish(Version::V5).len() as u64
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut numbers = text
            .split_whitespace()
            .map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("two numbers");
        Self {
            cpu_ns: next(),
            count: next(),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cpu_ns, self.count)
    }
}

/// The thread's CPU time at some moment, to a few milliseconds: the kernel counts it when it looks at the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    cpu_ns: u64,
}

impl Clock {
    /// Now, of this thread.
    pub(crate) fn read() -> Self {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
        let cpu_ns = schedstat.split(' ').next().expect("it has three fields");
        Self {
            cpu_ns: cpu_ns.parse().expect("a number"),
        }
    }

    /// What was spent since, for so many.
    pub(crate) fn spent(self, count: u64) -> Spent {
        Spent {
            cpu_ns: Self::read().cpu_ns - self.cpu_ns,
            count: count.max(1),
        }
    }
}
