//! Waking at a deadline that is far away, without a timeout for each wait.
//!
//! A timeout makes the kernel start a timer whenever it finds nothing ready, and cancel it soon after: in a shard that
//! receives a little at a time that is a tenth of all it costs. So a timer of Linux, timerfd_create(2), is set once for a
//! deadline and left alone until it rings; deadlines mostly move away meanwhile, and then it rings early, once.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

/// What is nearer than that is waited for with a timeout, for setting the timer is a system call too.
const NEAR: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: system::Timer,
    /// When it rings, unless it has.
    at: Option<Instant>,
}

impl Alarm {
    /// The poll of `registry` hears of it by `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            timer: system::Timer::new(registry, token)?,
            at: None,
        })
    }

    /// How long the system's poll may wait for what is due at `until`; `None` if it is woken by then.
    pub(super) fn timeout(&mut self, until: Instant, now: impl FnOnce() -> Instant) -> Option<Duration> {
        if self.at.is_some_and(|at| at <= until) {
            return None;
        }
        let wait = until.saturating_duration_since(now());
        if wait < NEAR || !self.timer.set(wait) {
            return Some(wait);
        }
        self.at = Some(until);
        None
    }

    /// The poll has heard of it.
    pub(super) fn rang(&mut self) {
        self.at = None;
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    #[derive(Debug)]
    pub(super) struct Timer(OwnedFd);

    impl Timer {
        pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// Rings after that time, and not when it would have before; false if it cannot.
        pub(super) fn set(&self, wait: Duration) -> bool {
            let Ok(value) = Timespec::try_from(wait) else {
                return false;
            };
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: value,
            };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).is_ok()
        }
    }
}

/// Every wait has its timeout.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token};

    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new(_: &Registry, _: Token) -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) fn set(&self, _: Duration) -> bool {
            false
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    const TOKEN: Token = Token(7);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_is_set_for_far_deadlines_and_only_when_they_come_nearer() {
        let poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), TOKEN).unwrap();
        let now = Instant::now();
        let unasked = || panic!("the clock need not be looked at");
        assert_eq!(alarm.timeout(now + 5 * MS, || now), Some(5 * MS), "it is near");
        assert_eq!(
            alarm.timeout(now, || now + MS),
            Some(Duration::ZERO),
            "it is over"
        );
        assert_eq!(alarm.timeout(now + 9000 * MS, || now), None);
        assert_eq!(alarm.at, Some(now + 9000 * MS));
        // The deadline has moved away.
        assert_eq!(alarm.timeout(now + 9001 * MS, unasked), None);
        assert_eq!(alarm.at, Some(now + 9000 * MS));
        // It has come nearer.
        assert_eq!(alarm.timeout(now + 8000 * MS, || now), None);
        assert_eq!(alarm.at, Some(now + 8000 * MS));
        assert_eq!(alarm.timeout(now + 5 * MS, || now), Some(5 * MS));
        alarm.rang();
        assert_eq!(alarm.timeout(now + 8000 * MS, || now), None);
    }

    #[test]
    fn it_rings_each_time_that_it_is_set() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), TOKEN).unwrap();
        let mut events = Events::with_capacity(8);
        for _ in 0..3 {
            let now = Instant::now();
            assert_eq!(alarm.timeout(now + NEAR, || now), None);
            poll.poll(&mut events, None).unwrap();
            assert_eq!(
                events.iter().map(|event| event.token()).collect::<Vec<_>>(),
                [TOKEN]
            );
            assert!(now.elapsed() >= NEAR);
            alarm.rang();
        }
    }
}
