//! Waking at a deadline that is far away, without a timeout for each wait.
//!
//! A timeout makes the kernel start a timer whenever it finds nothing ready, and cancel it soon after: in a shard that
//! receives a little at a time that is a tenth of all it costs. So a timer of Linux, timerfd_create(2), is set once for a
//! deadline and left alone until it rings; deadlines mostly move away meanwhile, and then it rings early, once.

use std::time::{Duration, Instant};

use mio::{Registry, Token};

use crate::clock::Moment;

/// What is nearer than that is waited for with a timeout, for setting the timer is a system call too.
const NEAR: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: system::Timer,
    /// When it rings, unless it has.
    at: Option<Moment>,
}

impl Alarm {
    /// The poll of `registry` hears of it by `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> Self {
        Self {
            timer: system::Timer::new(registry, token),
            at: None,
        }
    }

    /// The system's poll is woken by then, if it waits without end.
    #[inline]
    pub(super) fn rings_by(&self, until: Moment) -> bool {
        self.at.is_some_and(|at| at <= until)
    }

    /// How long the system's poll may wait for what is due at `until`; `None` if it is woken by then.
    pub(super) fn timeout(&mut self, until: Moment, now: impl FnOnce() -> Instant) -> Option<Duration> {
        if self.rings_by(until) {
            return None;
        }
        let instant = until.instant();
        let wait = instant.saturating_duration_since(now());
        if wait < NEAR || !self.timer.set(instant) {
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
    use std::time::Instant;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
        timerfd_create, timerfd_settime,
    };

    /// `None` where the system refuses one, as a sandbox may: then every wait has its timeout.
    #[derive(Debug)]
    pub(super) struct Timer(pub(super) Option<OwnedFd>);

    impl Timer {
        pub(super) fn new(registry: &Registry, token: Token) -> Self {
            let timer = create(registry, token);
            Self(
                timer
                    .inspect_err(|error| log::debug!("no timer, so each wait has its timeout: {error}"))
                    .ok(),
            )
        }

        /// Rings at that time, and not when it would have before; false if it cannot.
        pub(super) fn set(&self, until: Instant) -> bool {
            let Some(timer) = &self.0 else { return false };
            // In this order, so that whatever comes between lets it ring early, which costs a pass, and never late.
            let start = clock_gettime(ClockId::Monotonic);
            let Ok(wait) = Timespec::try_from(until.saturating_duration_since(Instant::now())) else {
                return false;
            };
            let Some(at) = start.checked_add(wait) else {
                return false;
            };
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: at,
            };
            timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &once).is_ok()
        }
    }

    fn create(registry: &Registry, token: Token) -> io::Result<OwnedFd> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(timer)
    }
}

/// Every wait has its timeout.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Instant;

    use mio::{Registry, Token};

    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn new(_: &Registry, _: Token) -> Self {
            Self
        }

        pub(super) fn set(&self, _: Instant) -> bool {
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
        let mut alarm = Alarm::new(poll.registry(), TOKEN);
        let now = Instant::now();
        let unasked = || panic!("the clock need not be looked at");
        assert_eq!(
            alarm.timeout((now + 5 * MS).into(), || now),
            Some(5 * MS),
            "it is near"
        );
        assert_eq!(
            alarm.timeout(now.into(), || now + MS),
            Some(Duration::ZERO),
            "it is over"
        );
        assert_eq!(alarm.timeout((now + 9000 * MS).into(), || now), None);
        assert_eq!(alarm.at, Some((now + 9000 * MS).into()));
        // The deadline has moved away.
        assert_eq!(alarm.timeout((now + 9001 * MS).into(), unasked), None);
        assert_eq!(alarm.at, Some((now + 9000 * MS).into()));
        // It has come nearer.
        assert_eq!(alarm.timeout((now + 8000 * MS).into(), || now), None);
        assert_eq!(alarm.at, Some((now + 8000 * MS).into()));
        assert_eq!(alarm.timeout((now + 5 * MS).into(), || now), Some(5 * MS));
        alarm.rang();
        assert_eq!(alarm.timeout((now + 8000 * MS).into(), || now), None);
    }

    #[test]
    fn without_a_timer_there_are_timeouts() {
        let poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), TOKEN);
        alarm.timer.0 = None;
        let now = Instant::now();
        assert_eq!(alarm.timeout((now + 9000 * MS).into(), || now), Some(9000 * MS));
        assert_eq!(alarm.at, None);
    }

    #[test]
    fn it_rings_each_time_that_it_is_set() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry(), TOKEN);
        let mut events = Events::with_capacity(8);
        for _ in 0..3 {
            let now = Instant::now();
            assert_eq!(alarm.timeout((now + NEAR).into(), || now), None);
            poll.poll(&mut events, None).unwrap();
            assert_eq!(
                events.iter().map(|event| event.token()).collect::<Vec<_>>(),
                [TOKEN]
            );
            // It may ring early, by what passes while it is set.
            assert!(now.elapsed() >= NEAR / 2);
            alarm.rang();
        }
    }
}
