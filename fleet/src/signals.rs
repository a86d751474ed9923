//! Ctrl-C, SIGTERM and SIGHUP: the first ends the run in order, the second at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io, process, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::problem::Exit;
use crate::report::{JsonOutput, Report};

/// The signals that ask for the end. SIGHUP is one of them: the terminal is gone, but what was measured is not.
pub(crate) const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// How often the user has asked to stop; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicU8,
    forced: Mutex<Forced>,
}

/// What a forced end still has to do.
#[derive(Debug, Default)]
struct Forced {
    /// To be removed.
    temporary: Option<PathBuf>,
    /// To be written.
    json: Option<(JsonOutput, Report)>,
}

impl Interrupts {
    /// Catches the signals from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupts = Self::default();
        let mut signals = Signals::new(ENDING)?;
        let caught = interrupts.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                if caught.ask() >= 2 {
                    caught.force();
                }
            }
        })?;
        Ok(interrupts)
    }

    /// Whether the run is to end.
    pub(crate) fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::Relaxed) > 0
    }

    /// Whether it is to end without waiting for anything.
    pub(crate) fn asked_twice(&self) -> bool {
        self.shared.asked.load(Ordering::Relaxed) > 1
    }

    /// A directory to remove if the process has to be ended by force.
    pub(crate) fn remove_if_forced(&self, directory: Option<PathBuf>) {
        if let Ok(mut forced) = self.shared.forced.lock() {
            forced.temporary = directory;
        }
    }

    /// A report to write if the process has to be ended by force.
    pub(crate) fn write_if_forced(&self, json: JsonOutput, report: Report) {
        if let Ok(mut forced) = self.shared.forced.lock() {
            forced.json = Some((json, report));
        }
    }

    /// Asks for the end once more; answers how often that was done.
    pub(crate) fn ask(&self) -> u8 {
        let asked = self.shared.asked.load(Ordering::Relaxed).saturating_add(1);
        self.shared.asked.store(asked, Ordering::Relaxed);
        asked
    }

    /// Gives the main thread a moment to abort and report, then ends the process.
    fn force(&self) {
        thread::sleep(Duration::from_secs(1));
        if let Ok(mut forced) = self.shared.forced.lock() {
            // Nobody is left to tell when either fails.
            if let Some(directory) = forced.temporary.take() {
                let _ = fs::remove_dir_all(directory);
            }
            if let Some((json, report)) = forced.json.take() {
                let _ = json.write_by_force(&report);
            }
        }
        process::exit(Exit::Interrupted.code().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_request_is_told_apart_from_the_first() {
        let interrupts = Interrupts::default();
        assert!(!interrupts.asked());
        let on_another_thread = interrupts.clone();
        on_another_thread.ask();
        assert!(interrupts.asked() && !interrupts.asked_twice());
        assert_eq!(on_another_thread.ask(), 2);
        assert!(interrupts.asked_twice());
    }
}
