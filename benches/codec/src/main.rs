//! Prints what each codec takes per packet, and how it compares with ours: the table of the README.
//!
//! All contenders of a case take turns, so that a machine that is busy for a while is busy for all of them; what
//! counts is the median over the rounds of each round's best pass.

use std::env;
use std::time::Duration;

use fleetwire_codec_benches::{CONTENDERS, Case, Contender, Pass, cases};

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
        let others: Vec<_> = CONTENDERS[1..].iter().map(|contender| contender.name).collect();
        println!("\n**{direction}**: ns per packet for ours, and how many times as long the others take\n");
        println!("| case | bytes | ours, ns | {} |", others.join(" | "));
        println!("|---|---|---|{}", "---|".repeat(others.len()));
        for case in cases() {
            if format!("{direction}/{}", case.name).contains(&filter) {
                row(&case, |contender| start(contender, &case));
            }
        }
    }
    println!();
    for contender in CONTENDERS {
        println!("- {}: {}.", contender.name, contender.note);
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
    let ratios: Vec<String> = per_packet[1..]
        .iter()
        .map(|time| time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time / ours)))
        .collect();
    println!(
        "| {} | {} | {ours:.1} | {} |",
        case.name,
        case.packet.len(),
        ratios.join(" | ")
    );
}
