//! Prints what each codec takes per packet, and how it compares with ours: the table of the README.
//!
//! Every contender at every case is measured once in each round, and its best pass of all rounds counts. A processor
//! that shares its core with another hyperthread, as those of virtual machines do, halves the speed of code that is
//! bound by the number of its instructions, and leaves alone what waits for memory; that lasts for some tenths of a
//! second and comes again all the time. Spread over the whole run, everyone's best pass has had the core to itself.
//!
//! All memory is laid out anew several times: where 16 KiB are copied from and to decides about a quarter of the time
//! that it takes, by how the two addresses differ in their last twelve bits.

use std::env;
use std::time::Duration;

use fleetwire_codec_benches::{CONTENDERS, Case, Contender, Pass, cases};

const LAYOUTS: usize = 4;
const ROUNDS: usize = 10;
const PASSES: usize = 10;

fn main() {
    let filter = env::args().nth(1).unwrap_or_default();
    type Start = fn(&Contender, &Case) -> Option<Pass>;
    let directions: [(&str, Start); 2] = [
        ("decode", |contender, case| (contender.decode)(case)),
        ("encode", |contender, case| (contender.encode)(case)),
    ];
    for (direction, start) in directions {
        let wanted = |case: &Case| format!("{direction}/{}", case.name).contains(&filter);
        let mut rows: Vec<Row> = cases().into_iter().filter(wanted).map(Row::new).collect();
        for layout in 0..LAYOUTS {
            // As the cases do: it stays, and what follows lies elsewhere.
            vec![0_u8; 1040 * layout].leak();
            for (row, case) in rows.iter_mut().zip(cases().into_iter().filter(wanted)) {
                row.passes = CONTENDERS.each_ref().map(|contender| start(contender, &case));
            }
            for _ in 0..ROUNDS {
                rows.iter_mut().for_each(Row::measure);
            }
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
    passes: [Option<Pass>; CONTENDERS.len()],
    best: [Option<Duration>; CONTENDERS.len()],
}

impl Row {
    fn new(case: Case) -> Self {
        Self {
            case,
            passes: [const { None }; CONTENDERS.len()],
            best: [None; CONTENDERS.len()],
        }
    }

    fn measure(&mut self) {
        for (pass, best) in self.passes.iter_mut().zip(&mut self.best) {
            let Some(pass) = pass else { continue };
            for _ in 0..PASSES {
                let took = pass();
                *best = Some(best.map_or(took, |best| best.min(took)));
            }
        }
    }

    fn print(&self) {
        let mut per_packet = self
            .best
            .iter()
            .map(|best| Some(best.as_ref()?.as_secs_f64() * 1e9 / self.case.count as f64));
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
