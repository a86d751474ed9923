//! CPU time of the calling thread, and memory of its process.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use fleetwire_codec::Version;

use super::wire;

/// What so many messages or connections took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) cpu_ns: u64,
    /// The part outside the kernel.
    pub(crate) user_ns: u64,
    /// What the process has grown by, in memory.
    pub(crate) resident_bytes: u64,
    pub(crate) count: u64,
}

impl Spent {
    /// Bytes of so many publishes.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.count * wire::publish(Version::V5).len() as u64
    }

    pub(super) fn parse(text: &str) -> Self {
        let mut numbers = text
            .split_whitespace()
            .map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("four numbers");
        Self {
            cpu_ns: next(),
            user_ns: next(),
            resident_bytes: next(),
            count: next(),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu_ns,
            user_ns,
            resident_bytes,
            count,
        } = self;
        write!(f, "{cpu_ns} {user_ns} {resident_bytes} {count}")
    }
}

/// The thread's CPU time at some moment, to a few milliseconds: the kernel counts it when it looks at the thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    cpu_ns: u64,
    user_ns: u64,
    resident_bytes: u64,
}

impl Clock {
    /// Now, of this thread.
    pub(super) fn read() -> Self {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
        let cpu_ns = schedstat.split(' ').next().expect("it has three fields");
        let stat = fs::read_to_string("/proc/thread-self/stat").expect("this is Linux");
        // Behind the name, which may hold anything: proc(5), the 14th of all is utime in hundredths of a second.
        let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
        let user = fields.split(' ').nth(11).expect("it has more than 40 fields");
        Self {
            cpu_ns: cpu_ns.parse().expect("a number"),
            user_ns: user.parse::<u64>().expect("a number") * 10_000_000,
            resident_bytes: resident_bytes(),
        }
    }

    /// What was spent since, for so many.
    pub(super) fn spent(self, count: u64) -> Spent {
        let now = Self::read();
        Spent {
            cpu_ns: now.cpu_ns - self.cpu_ns,
            user_ns: now.user_ns - self.user_ns,
            resident_bytes: now.resident_bytes.saturating_sub(self.resident_bytes),
            count: count.max(1),
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split(' ').nth(1).expect("it has seven fields");
    pages.parse::<u64>().expect("it is a number") * 4096
}

/// Messages that are measured together: at least so many, and for at least so long.
#[derive(Debug)]
pub(super) struct Round {
    messages: u64,
    end: Instant,
    clock: Clock,
}

impl Round {
    /// It begins now.
    pub(super) fn of(messages: u64, lasts: Duration) -> Self {
        Self {
            messages,
            end: Instant::now() + lasts,
            clock: Clock::read(),
        }
    }

    pub(super) fn is_over(&self, done: u64) -> bool {
        done >= self.messages && Instant::now() >= self.end
    }

    pub(super) fn spent(self, done: u64) -> Spent {
        self.clock.spent(done)
    }
}
