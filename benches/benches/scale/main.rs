//! What a message and a connection cost in CPU time when there are many connections: the engine, a bare loop, rumqttc.
//!
//! ```sh
//! cargo bench -p fleetwire-benches --bench scale                     # 1, 100, 1,000, 10,000 and 15,000 connections
//! cargo bench -p fleetwire-benches --bench scale -- 15000 tcp/out    # these connections, cases that begin so
//! ```
//!
//! Contenders take turns, and the least CPU time of some rounds counts, for what a shared machine adds is never negative.
//! The part outside the kernel is what a contender decides about; the kernel samples it, so it is the mean of all rounds.
//! What is compared stands in `contenders`; `connect` is per connection, `out` and `in` are per message. The memory of
//! `connect` is what the process has grown by over all connections, by its resident set, with what it has only once: the
//! bench `memory` tells exactly what an idle connection of the engine takes.

#[path = "../shared/bare_rustls.rs"]
mod bare_rustls;
#[path = "../shared/contenders/mod.rs"]
mod contenders;

use std::time::Duration;

use crate::contenders::{Case, Contender, Held, Job, Spent, pki, play_role};

/// Rounds of each contender.
const ROUNDS: usize = 5;
/// How long the publishing of one round lasts.
const TRAFFIC: Duration = Duration::from_secs(2);

fn main() {
    play_role();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    compare(&words);
}

/// All cases that were asked for, as a table.
fn compare(words: &[&str]) {
    // Cargo says so when it benches; when it tests, each case runs once, small and short.
    let bench = words.contains(&"--bench");
    let filters: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-') && word.parse::<usize>().is_err())
        .collect();
    let mut sizes: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = if bench {
            vec![1, 100, 1000, 10_000, 15_000]
        } else {
            vec![3]
        };
    }
    let (rounds, traffic) = if bench {
        (ROUNDS, TRAFFIC)
    } else {
        (1, Duration::ZERO)
    };
    // With a CA and a server certificate, for all processes.
    let folder = tempfile::tempdir().expect("there is room for one");
    pki::load(folder.path());
    if bench {
        println!(
            "| case | connections | contender | CPU, µs | ÷ bare loop | outside the kernel, µs | memory, bytes |"
        );
        println!("|---|--:|---|--:|--:|--:|--:|");
    }
    for tls in [false, true] {
        for case in [Case::Connect, Case::Out, Case::In] {
            let name = format!("{}/{}", if tls { "tls" } else { "tcp" }, case.name());
            if !filters.is_empty() && !filters.iter().any(|filter| name.starts_with(filter)) {
                continue;
            }
            for &connections in &sizes {
                // What is measured of them comes in steps of milliseconds.
                if case == Case::Connect && bench && connections < 1000 {
                    continue;
                }
                let job = Job {
                    case,
                    pki: tls.then(|| folder.path().to_str().expect("it is text").to_owned()),
                    connections,
                    traffic,
                    port: 0,
                };
                let spent = alternate(&job, rounds);
                if bench {
                    print_rows(&name, &job, &spent);
                } else {
                    println!("{name} with {connections} connections: each contender once");
                }
            }
        }
    }
}

/// The contenders in turn, so many rounds; the bare loop first.
fn alternate(job: &Job, rounds: usize) -> Vec<(Contender, Vec<Spent>)> {
    let mut spent: Vec<_> = Contender::ALL.map(|one| (one, Vec::new())).into();
    for _ in 0..rounds {
        for (contender, rounds) in &mut spent {
            rounds.push(measure(*contender, job));
        }
    }
    spent
}

fn print_rows(name: &str, job: &Job, spent: &[(Contender, Vec<Spent>)]) {
    let bare = spent.first().map_or(f64::NAN, |(_, rounds)| least(rounds));
    for (contender, rounds) in spent {
        let least = least(rounds);
        let memory = match job.case {
            Case::Connect => least_memory(rounds).to_string(),
            Case::Out | Case::In => String::new(),
        };
        println!(
            "| {name} | {} | {} | {least:.2} | {:.2} | {:.2} | {memory} |",
            job.connections,
            contender.name(),
            least / bare,
            mean_user(rounds),
        );
    }
}

/// One measurement in two processes.
fn measure(contender: Contender, job: &Job) -> Spent {
    let mut held = Held::start(contender, job);
    let spent = match job.case {
        Case::Connect => held.connecting(),
        Case::Out | Case::In => held.round(1),
    };
    held.end();
    spent
}

/// The least of some rounds, in microseconds each.
fn least(rounds: &[Spent]) -> f64 {
    let each = rounds
        .iter()
        .map(|one| one.cpu_ns as f64 / one.count as f64 / 1000.0);
    each.fold(f64::INFINITY, f64::min)
}

/// The least that the process has grown by in some rounds, for each connection.
fn least_memory(rounds: &[Spent]) -> u64 {
    let each = rounds.iter().map(|one| one.resident_bytes / one.count);
    each.min().unwrap_or_default()
}

/// The part outside the kernel, in microseconds each, of all rounds together.
fn mean_user(rounds: &[Spent]) -> f64 {
    let user_ns: u64 = rounds.iter().map(|one| one.user_ns).sum();
    let count: u64 = rounds.iter().map(|one| one.count).sum();
    user_ns as f64 / count as f64 / 1000.0
}
