//! Ctrl-C and SIGTERM: the first ends the run in order, the second at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io, process, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::problem::Exit;

/// How often the user has asked to stop; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicU8,
    /// What a forced end still has to remove.
    temporary: Mutex<Option<PathBuf>>,
}

impl Interrupts {
    /// Catches SIGINT and SIGTERM from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupts = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
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
        if let Ok(mut temporary) = self.shared.temporary.lock() {
            *temporary = directory;
        }
    }

    fn ask(&self) -> u8 {
        let asked = self.shared.asked.load(Ordering::Relaxed).saturating_add(1);
        self.shared.asked.store(asked, Ordering::Relaxed);
        asked
    }

    /// Gives the main thread a moment to abort and report, then ends the process.
    fn force(&self) {
        thread::sleep(Duration::from_secs(1));
        if let Ok(Some(directory)) = self.shared.temporary.lock().map(|mut temporary| temporary.take()) {
            // Nobody is left to tell when it fails.
            let _ = fs::remove_dir_all(directory);
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
