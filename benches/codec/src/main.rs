//! Prints what each codec takes per packet, and how it compares with ours: the table of the README.
//!
//! All contenders of a case take turns, so that a machine that is busy for a while is busy for all of them; what
//! counts is the median over the rounds of each round's best pass.

use std::env;
use std::time::Duration;

use fleetwire_codec_benches::{CONTENDERS, Case, Contender, Kind, Pass, cases};

const ROUNDS: usize = 15;
const PASSES: usize = 20;

fn main() {
    let filter = env::args().nth(1).unwrap_or_default();
    type Start = fn(&Contender, &Case) -> Option<Pass>;
    let directions: [(&str, Start); 2] = [
        ("decode", |contender, case| (contender.decode)(case)),
        ("encode", |contender, case| (contender.encode)(case)),
    ];
    for (direction, start) in directions {
        let names: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
        println!("\n**{direction}, ns per packet** (times ours)\n");
        println!("| case | bytes | {} | fastest peer / ours |", names.join(" | "));
        println!("|---|---|{}---|", "---|".repeat(names.len()));
        for case in cases() {
            if format!("{direction}/{}", case.name).contains(&filter) {
                row(&case, |contender| start(contender, &case));
            }
        }
    }
    println!();
    for contender in CONTENDERS {
        println!("- {}: {}", contender.name, contender.note);
    }
}

fn row(case: &Case, start: impl Fn(&Contender) -> Option<Pass>) {
    let mut passes: Vec<Option<Pass>> = CONTENDERS.iter().map(start).collect();
    let mut rounds: Vec<Vec<Duration>> = vec![Vec::new(); CONTENDERS.len()];
    for _ in 0..ROUNDS {
        for (pass, rounds) in passes.iter_mut().zip(&mut rounds) {
            if let Some(pass) = pass {
                let best = (0..PASSES).map(|_| pass()).min();
                rounds.extend(best);
            }
        }
    }
    let per_packet: Vec<Option<f64>> = rounds
        .iter_mut()
        .map(|rounds| {
            rounds.sort_unstable();
            let median = rounds.get(rounds.len() / 2)?;
            Some(median.as_secs_f64() * 1e9 / case.count as f64)
        })
        .collect();
    let ours = per_packet[0].expect("ours does everything");
    let cells: Vec<String> = per_packet
        .iter()
        .map(|time| match time {
            Some(time) => format!("{time:.1} ({:.1})", time / ours),
            None => "-".to_owned(),
        })
        .collect();
    let fastest = CONTENDERS
        .iter()
        .zip(&per_packet)
        .filter(|(contender, _)| contender.kind == Kind::Peer)
        .filter_map(|(contender, time)| Some((contender.name, (*time)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let fastest = fastest.map_or_else(String::new, |(name, time)| format!("{:.2} ({name})", time / ours));
    println!(
        "| {} | {} | {} | {fastest} |",
        case.name,
        case.packet.len(),
        cells.join(" | ")
    );
}
