//! Deterministic simulation: engines against each other and against another implementation, over a network in which
//! everything that can go wrong does. What always holds is checked at each step.
//!
//! ```sh
//! cargo test -p fleetwire-engine --test simulation                              # some hundred seeds
//! FLEETWIRE_SEEDS=10000 cargo test --release -p fleetwire-engine --test simulation   # more of them
//! FLEETWIRE_SEED=77 cargo test -p fleetwire-engine --test simulation two_engines     # one again; it is printed
//! ```

mod devices;
mod expiry;
mod extremes;
mod foreign;
mod goodbye;
mod held_acks;
mod hostile;
mod idle;
mod ledger;
mod regressions;
#[path = "../../../benches/samples.rs"]
pub mod samples;
mod scene;
mod seeds;
mod server;
mod two_engines;
mod unacknowledged;
