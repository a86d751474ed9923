//! Allocations of records by whichever heap, counted by valgrind: the crypto library's do not pass through Rust's allocator.
//!
//! `cargo test -p fleetwire-tls --test cost -- --ignored` runs it where there is valgrind.

use std::{env, process::Command};

use fleetwire_tls::{Opened, RecordLayer, Scratch, Versions};

use crate::{
    VERSIONS,
    world::{End, World},
};

/// A hit allocates nothing. A miss allocates the expanded key, and frees the one that it displaces.
///
/// This process starts itself again in valgrind: with records that are sealed, with as many that are opened too, and with
/// none, and takes the differences.
#[test]
#[ignore = "needs valgrind"]
fn a_hit_allocates_nothing_and_a_miss_once() {
    if let Ok(work) = env::var(WORK) {
        return Work::parse(&work).run();
    }
    for versions in VERSIONS {
        for misses in [false, true] {
            let heap = |seals, opens| {
                Work {
                    versions,
                    misses,
                    seals,
                    opens,
                }
                .in_valgrind()
            };
            let (none, sealed, opened) = (heap(0, 0), heap(RECORDS, 0), heap(RECORDS, RECORDS));
            let each = if misses { RECORDS } else { 0 };
            for (what, more, less) in [("seals", sealed, none), ("opens", opened, sealed)] {
                println!("{versions:?}, misses {misses}, {RECORDS} {what}: {less:?} -> {more:?}");
                assert!(more.allocations.abs_diff(less.allocations + each) < NOISE);
                assert!(more.frees.abs_diff(less.frees + each) < NOISE);
            }
        }
    }
}

/// What one process is to do between two handshakes and its end.
struct Work {
    versions: Versions,
    misses: bool,
    seals: usize,
    opens: usize,
}

impl Work {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        Self {
            versions: VERSIONS[usize::from(number() == 1)],
            misses: number() == 1,
            seals: number(),
            opens: number(),
        }
    }

    /// Two connections in turns, so that with room for one key each record needs another than the last one.
    fn run(&self) {
        let world = World::small();
        let pairs: [(End, End); 2] =
            std::array::from_fn(|_| world.established(self.versions, RecordLayer::InPlace));
        let keys_max = if self.misses { 1 } else { Scratch::KEYS_MAX };
        let [mut sealing, mut opening] = [(); 2].map(|()| Scratch::with_keys_max(keys_max));
        let framing = pairs[0].0.session.framing();
        let mut block = vec![7; framing.head + PLAIN_LEN + framing.tail];
        let mut records = vec![7; (WARM_UP + RECORDS) * block.len()];
        let (mut ends, mut out) = (Vec::with_capacity(WARM_UP + RECORDS), Vec::new());
        let [(client_a, server_a), (client_b, server_b)] = pairs;
        let (mut clients, mut servers) = (
            [client_a.session, client_b.session],
            [server_a.session, server_b.session],
        );
        let mut end = 0;
        for number in 0..WARM_UP + self.seals {
            let session = &mut clients[number % 2];
            let sealed = session
                .seal(&mut sealing, &mut block, framing.head..framing.head + PLAIN_LEN)
                .unwrap();
            let place = end..end + sealed.len();
            records[place.clone()].copy_from_slice(&block[sealed]);
            end = place.end;
            ends.push(place);
        }
        for number in 0..WARM_UP + self.opens {
            let opened = servers[number % 2].open(&mut opening, &mut records[ends[number].clone()], &mut out);
            assert!(matches!(opened, Ok(Opened::Data { .. })));
        }
        for (scratch, records) in [(sealing, self.seals), (opening, self.opens)] {
            let expanded = if self.misses { WARM_UP + records } else { 2 };
            assert_eq!(scratch.keys_expanded(), expanded as u64);
        }
    }

    fn in_valgrind(&self) -> Heap {
        let version = VERSIONS
            .iter()
            .position(|versions| *versions == self.versions)
            .unwrap();
        let work = format!(
            "{version} {} {} {}",
            u8::from(self.misses),
            self.seals,
            self.opens
        );
        let mut command = Command::new("valgrind");
        command
            .args(["--run-libc-freeres=no"])
            .arg(env::current_exe().unwrap());
        command.args([
            "--ignored",
            "--exact",
            "c_heap::a_hit_allocates_nothing_and_a_miss_once",
        ]);
        let output = command.env(WORK, &work).output();
        let output = output.expect("valgrind can be started; install it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Heap::parse(&said).unwrap_or_else(|| panic!("valgrind says nothing of the heap: {said}"))
    }
}

/// What a whole process did.
#[derive(Clone, Copy, Debug)]
struct Heap {
    allocations: usize,
    frees: usize,
}

impl Heap {
    /// `==7==   total heap usage: 1,234 allocs, 1,230 frees, 56,789 bytes allocated`
    fn parse(said: &str) -> Option<Self> {
        let (_, usage) = said.split_once("total heap usage: ")?;
        let (allocations, rest) = usage.split_once(" allocs, ")?;
        let (frees, _) = rest.split_once(" frees")?;
        let number = |text: &str| text.replace(',', "").parse().ok();
        Some(Self {
            allocations: number(allocations)?,
            frees: number(frees)?,
        })
    }
}

/// Tells a process what to do: version, misses, seals, opens.
const WORK: &str = "FLEETWIRE_TLS_RECORDS";
const RECORDS: usize = 1000;
/// By how much two handshakes differ: numbers are not always of one length.
const NOISE: usize = RECORDS / 20;
/// Until both keys have been there.
const WARM_UP: usize = 4;
const PLAIN_LEN: usize = 64;
