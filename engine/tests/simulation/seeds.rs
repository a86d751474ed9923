//! Runs a scenario under many seeds, and says how to repeat the one that failed.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;

/// How often something rare has happened, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn hit(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }
}

/// Runs `scenario` under `seeds` seeds, or as many as `FLEETWIRE_SEEDS` says, or the one of `FLEETWIRE_SEED`; then
/// everything of `rare` must have happened at least once.
pub(crate) fn run(test: &str, seeds: u64, rare: &[&str], scenario: impl Fn(u64) -> Tally + Sync) {
    if let Some(seed) = number_of("FLEETWIRE_SEED") {
        println!("{test}, seed {seed}: {:#?}", scenario(seed).0);
        return;
    }
    let count = number_of("FLEETWIRE_SEEDS").unwrap_or(seeds);
    let next = AtomicU64::new(0);
    let total = Mutex::new(Tally::default());
    let failed: Mutex<Option<(u64, Box<dyn Any + Send>)>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |threads| threads.get().min(4)) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || failed.lock().unwrap().is_some() {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
                        Ok(tally) => total.lock().unwrap().merge(&tally),
                        Err(panic) => {
                            failed.lock().unwrap().get_or_insert((seed, panic));
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, panic)) = failed.into_inner().unwrap() {
        eprintln!(
            "seed {seed} failed; again: FLEETWIRE_SEED={seed} cargo test -p fleetwire-engine --test simulation {test}"
        );
        resume_unwind(panic);
    }
    let total = total.into_inner().unwrap();
    println!("{test}, {count} seeds: {:#?}", total.0);
    if count >= seeds {
        let missed: Vec<_> = rare.iter().filter(|what| !total.0.contains_key(**what)).collect();
        assert!(missed.is_empty(), "{count} seeds never reached {missed:?}");
    }
}

/// Whether one seed is played again, to be looked at.
pub(crate) fn is_replay() -> bool {
    static REPLAY: OnceLock<bool> = OnceLock::new();
    *REPLAY.get_or_init(|| std::env::var_os("FLEETWIRE_SEED").is_some())
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
    )
}
