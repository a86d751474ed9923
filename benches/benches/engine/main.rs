//! The engine beside a bare loop that makes the same system calls, and beside rumqttc.
//!
//! ```sh
//! cargo bench -p fleetwire-benches --bench engine                 # all, 15 minutes
//! cargo bench -p fleetwire-benches --bench engine -- tls-10000    # what has this in its name
//! ```
//!
//! - `engine/publish` is about acknowledged publishes between two engines in one process: see `publish.rs`.
//! - `engine/connect`, `engine/out` and `engine/in` are about many connections, plain and with mutual TLS, in processes of
//!   their own: see `many.rs`.
//!
//! What an idle connection takes of memory is what the bench `memory` tells, and `scale` has the same cases as `many.rs` with
//! the contenders in turns: for a ratio on a machine that is not quiet.

#[path = "../shared/bare_rustls.rs"]
mod bare_rustls;
#[path = "../shared/contenders/mod.rs"]
mod contenders;
mod many;
mod publish;

use criterion::Criterion;

fn main() {
    contenders::play_role();
    let mut criterion = Criterion::default().configure_from_args();
    publish::publish(&mut criterion);
    many::connect(&mut criterion);
    many::traffic(&mut criterion);
    criterion.final_summary();
}
