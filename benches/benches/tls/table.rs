//! Everything beside its limit and its rivals, in turns.
//!
//! Of records the fastest turn is printed: on a machine that others use too, that is what the work takes by itself. A turn
//! is short, so that some of them are not interrupted. Handshakes differ among themselves, by the numbers that they draw:
//! of them it is the one that a quarter is faster than. Some are done in a row, and the first of them is not counted: it
//! finds the caches full of what another has just done, and which other that is changes from turn to turn.

use crate::handshake::{self, Who};
use crate::records::{Case, SIZES, Sessions, open_cases, peek_case, seal_cases};
use crate::world::World;

pub(crate) fn print() {
    let world = World::new();
    // Apart, because whoever seals without the peer opening it leaves that behind.
    let (mut to_seal, mut to_open) = (Sessions::default(), Sessions::default());
    let mut rows = Vec::new();
    for size in SIZES {
        let cases = seal_cases(&world, &mut to_seal, size);
        rows.push((format!("seal, {size} bytes"), turns(cases, RECORDS, 1, FASTEST)));
        let cases = open_cases(&world, &mut to_open, size);
        rows.push((format!("open, {size} bytes"), turns(cases, RECORDS, 1, FASTEST)));
    }
    println!(
        "Nanoseconds per record, TLS 1.3 with AES-128-GCM; a hit has its key in the cache, a miss expands it:\n"
    );
    println!(
        "| | AEAD alone | hit | miss | rustls unbuffered | rustls buffered | AEAD / hit | unbuffered / hit | miss / unbuffered |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, best) in rows {
        let [aead, hit, miss, unbuffered, buffered] = best[..] else {
            unreachable!("there are five cases");
        };
        println!(
            "| {name} | {aead:.0} | {hit:.0} | {miss:.0} | {unbuffered:.0} | {buffered:.0} | {:.2} | {:.2} | {:.2} |",
            aead / hit,
            unbuffered / hit,
            miss / unbuffered
        );
    }
    println!(
        "\nMicroseconds per handshake with mutual TLS, client and server together, key loading in all:\n"
    );
    println!("| | sessions | rustls unbuffered | rustls buffered | unbuffered / sessions |");
    println!("|---|---|---|---|---|");
    handshake::each_kind(Who::Both, |name, cases| {
        let best = turns(cases, 1, IN_A_ROW, QUARTER);
        let [ours, unbuffered, buffered] = best[..] else {
            unreachable!("there are three cases");
        };
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.3} |",
            ours / 1e3,
            unbuffered / 1e3,
            buffered / 1e3,
            unbuffered / ours
        );
    });
    let peek: Vec<Case<'_>> = vec![("peek", Box::new(peek_case(&world)))];
    println!(
        "\nA look into a ClientHello: {:.0} ns",
        turns(peek, 10 * RECORDS, 1, FASTEST)[0]
    );
}

/// The nanoseconds of one iteration of each: of the run that such a part of the runs is faster than.
fn turns(mut cases: Vec<Case<'_>>, count: u64, in_a_row: usize, faster: f64) -> Vec<f64> {
    let cases_len = cases.len();
    let mut took = vec![Vec::with_capacity(RUNS); cases_len];
    for turn in 0..=RUNS / in_a_row {
        for step in 0..cases_len {
            // Forwards and backwards, and each is the first at times: none always follows the same other one.
            let step = if turn % 2 == 0 { step } else { cases_len - step };
            let case = (turn / 2 + step) % cases_len;
            let ((_, run), took) = (&mut cases[case], &mut took[case]);
            if in_a_row > 1 {
                run(count);
            }
            for _ in 0..in_a_row {
                let elapsed = run(count);
                // The first turn is for what is made when it is needed.
                if turn > 0 {
                    took.push(elapsed);
                }
            }
        }
    }
    took.iter_mut()
        .map(|took| {
            took.sort();
            took[(took.len() as f64 * faster) as usize].as_nanos() as f64 / count as f64
        })
        .collect()
}

const RECORDS: u64 = 512;
const RUNS: usize = 1000;
const IN_A_ROW: usize = 10;
const FASTEST: f64 = 0.0;
const QUARTER: f64 = 0.25;
