//! Prints what each codec takes per packet, and how it compares with ours: the table of the README.
//!
//! Every contender at every case is measured once in each round, and its best pass of all rounds counts. A processor
//! that shares its core with another hyperthread, as those of virtual machines do, halves the speed of code that is
//! bound by the number of its instructions, and leaves alone what waits for memory; that lasts for some tenths of a
//! second and comes again all the time. Spread over the whole run, everyone's best pass has had the core to itself.

use std::env;
use std::time::Duration;

use fleetwire_codec_benches::{CONTENDERS, Case, Contender, Pass, cases};

const ROUNDS: usize = 30;
const PASSES: usize = 10;

fn main() {
    let filter = env::args().nth(1).unwrap_or_default();
    type Start = fn(&Contender, &Case) -> Option<Pass>;
    let directions: [(&str, Start); 2] = [
        ("decode", |contender, case| (contender.decode)(case)),
        ("encode", |contender, case| (contender.encode)(case)),
    ];
    for (direction, start) in directions {
        let mut rows: Vec<Row> = cases()
            .into_iter()
            .filter(|case| format!("{direction}/{}", case.name).contains(&filter))
            .map(|case| Row::new(case, start))
            .collect();
        for _ in 0..ROUNDS {
            rows.iter_mut().for_each(Row::measure);
        }
        let others: Vec<_> = CONTENDERS[1..].iter().map(|contender| contender.name).collect();
        println!("\n**{direction}**: ns per packet for ours, and how many times as long the others take\n");
        println!("| case | bytes | ours, ns | {} |", others.join(" | "));
        println!("|---|--:|--:|{}", "--:|".repeat(others.len()));
        rows.iter().for_each(Row::print);
    }
    println!();
    for contender in CONTENDERS {
        println!("- {}: {}.", contender.name, contender.note);
    }
}

/// A case, and what each contender has taken for it at best.
struct Row {
    case: Case,
    runners: Vec<Option<(Pass, Duration)>>,
}

impl Row {
    fn new(case: Case, start: impl Fn(&Contender, &Case) -> Option<Pass>) -> Self {
        let runners = CONTENDERS
            .iter()
            .map(|contender| start(contender, &case).map(|pass| (pass, Duration::MAX)))
            .collect();
        Self { case, runners }
    }

    fn measure(&mut self) {
        for (pass, best) in self.runners.iter_mut().flatten() {
            for _ in 0..PASSES {
                *best = pass().min(*best);
            }
        }
    }

    fn print(&self) {
        let mut per_packet = self.runners.iter().map(|runner| {
            let (_, best) = runner.as_ref()?;
            Some(best.as_secs_f64() * 1e9 / self.case.count as f64)
        });
        let ours = per_packet.next().flatten().expect("ours does everything");
        let ratios: Vec<String> = per_packet
            .map(|time| time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time / ours)))
            .collect();
        println!(
            "| {} | {} | {ours:.1} | {} |",
            self.case.name,
            self.case.packet.len(),
            ratios.join(" | ")
        );
    }
}
