//! How far a run is: counted on the devices' threads, shown by the main thread.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::count;

/// One thread's counters, written by it after each pass of its loop and read by the main thread.
#[derive(Debug, Default)]
// On a cache line of its own, so that two threads do not write to the same one.
#[repr(align(128))]
pub(crate) struct Board {
    decided: AtomicU64,
    connected: AtomicU64,
    up: AtomicU64,
    given_up: AtomicU64,
    published: AtomicU64,
    settled: AtomicU64,
    acknowledged: AtomicU64,
    received: AtomicU64,
}

/// The counters of all threads at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Devices whose first attempt has ended, in a connection or not.
    pub(crate) decided: u64,
    /// Devices that have been connected.
    pub(crate) connected: u64,
    /// Devices that are connected.
    pub(crate) up: u64,
    /// Devices that will not try again.
    pub(crate) given_up: u64,
    /// Publishes accepted for sending.
    pub(crate) published: u64,
    /// Those whose end is known: acknowledged, refused or dropped.
    pub(crate) settled: u64,
    pub(crate) acknowledged: u64,
    pub(crate) received: u64,
}

impl Board {
    /// Shows a thread's counters to the others.
    pub(crate) fn post(&self, standing: Standing) {
        for (counter, value) in [
            (&self.decided, standing.decided),
            (&self.connected, standing.connected),
            (&self.up, standing.up),
            (&self.given_up, standing.given_up),
            (&self.published, standing.published),
            (&self.settled, standing.settled),
            (&self.acknowledged, standing.acknowledged),
            (&self.received, standing.received),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
    }
}

impl Standing {
    /// The sum over all threads.
    pub(crate) fn of<'a>(boards: impl IntoIterator<Item = &'a Board>) -> Self {
        boards.into_iter().fold(Self::default(), |sum, board| Self {
            decided: sum.decided + board.decided.load(Ordering::Relaxed),
            connected: sum.connected + board.connected.load(Ordering::Relaxed),
            up: sum.up + board.up.load(Ordering::Relaxed),
            given_up: sum.given_up + board.given_up.load(Ordering::Relaxed),
            published: sum.published + board.published.load(Ordering::Relaxed),
            settled: sum.settled + board.settled.load(Ordering::Relaxed),
            acknowledged: sum.acknowledged + board.acknowledged.load(Ordering::Relaxed),
            received: sum.received + board.received.load(Ordering::Relaxed),
        })
    }
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Ramp,
    Hold,
    Drain,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Hold => "hold",
            Self::Drain => "drain",
        }
    }
}

/// Shows progress on stderr: a bar on a terminal, else a line every few seconds.
#[derive(Debug)]
pub(crate) struct Progress {
    devices: u64,
    started: Instant,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines { next: Instant },
}

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

impl Progress {
    pub(crate) fn start(devices: u64, now: Instant) -> Self {
        let display = if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(devices), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:<5} [{bar:30}] {wide_msg}")
                .expect("the template is a constant");
            bar.set_style(style.progress_chars("=> "));
            Display::Bar(bar)
        } else {
            Display::Lines {
                next: now + LINE_EVERY,
            }
        };
        Self {
            devices,
            started: now,
            display,
        }
    }

    /// Shows where the run is; `share` is how much of the phase is over, from 0 to 1.
    pub(crate) fn show(&mut self, phase: Phase, share: f64, standing: Standing, now: Instant) {
        let text = describe(self.devices, standing);
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_prefix(phase.name());
                bar.set_position((self.devices as f64 * share.clamp(0.0, 1.0)) as u64);
                bar.set_message(text);
            }
            Display::Lines { next } if now >= *next => {
                *next = now + LINE_EVERY;
                let elapsed = now.duration_since(self.started).as_secs_f64();
                // A closed stderr is no reason to end the run.
                let _ = writeln!(io::stderr(), "{elapsed:6.1} s  {:<5}  {text}", phase.name());
            }
            Display::Lines { .. } => {}
        }
    }

    /// Clears the bar, so that the summary follows.
    pub(crate) fn finish(self) {
        if let Display::Bar(bar) = self.display {
            bar.finish_and_clear();
        }
    }
}

fn describe(devices: u64, standing: Standing) -> String {
    let failed = standing.decided.saturating_sub(standing.connected);
    let mut text = format!("{}/{} connected", count(standing.up), count(devices));
    if failed > 0 {
        text += &format!(", {} failed", count(failed));
    }
    text += &format!(
        ", {} published, {} acknowledged",
        count(standing.published),
        count(standing.acknowledged)
    );
    if standing.received > 0 {
        text += &format!(", {} received", count(standing.received));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_add_up() {
        let boards = [Board::default(), Board::default()];
        boards[0].post(Standing {
            decided: 3,
            connected: 2,
            up: 1,
            published: 10,
            ..Standing::default()
        });
        boards[1].post(Standing {
            decided: 1,
            connected: 1,
            settled: 4,
            received: 9,
            ..Standing::default()
        });
        let sum = Standing::of(&boards);
        assert_eq!((sum.decided, sum.connected, sum.up, sum.published), (4, 3, 1, 10));
        assert_eq!((sum.settled, sum.received), (4, 9));
    }

    #[test]
    fn failures_and_receipts_are_named_only_if_there_are_any() {
        let good = Standing {
            decided: 2,
            connected: 2,
            up: 2,
            published: 1_000,
            acknowledged: 999,
            ..Standing::default()
        };
        assert_eq!(
            describe(1_000, good),
            "2/1,000 connected, 1,000 published, 999 acknowledged"
        );
        let bad = Standing {
            decided: 3,
            connected: 1,
            received: 5,
            ..Standing::default()
        };
        assert_eq!(
            describe(3, bad),
            "0/3 connected, 2 failed, 0 published, 0 acknowledged, 5 received"
        );
    }
}
