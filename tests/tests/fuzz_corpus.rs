//! Replays the fuzz corpora, so that what a fuzzer has once found stays found without one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fleetwire_codec::Version;
use fleetwire_codec::frame::{self, Split};

#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;
#[path = "../../benches/samples.rs"]
pub mod samples;

use fleetwire_tls::{ClientConfigBuilder, ServerName, TlsSession, Versions};
use fuzz::differential::{Kind, Row};
use samples::{Sample, samples};

type Body = fn(&[u8]);

/// All targets, and what each makes of a sample for a seed, if samples are its seeds.
const TARGETS: [(&str, Body, Option<Seed>); 11] = [
    ("cutting", fuzz::cutting, Some(in_pieces)),
    ("differential", fuzz::differential, Some(how_and_body)),
    ("frame", fuzz::frame, Some(whole)),
    ("packet", fuzz::packet, Some(body)),
    ("recv_buf", fuzz::recv_buf, None),
    ("round_trip", fuzz::round_trip, None),
    ("send_buf", fuzz::send_buf, None),
    ("session", fuzz::session, None),
    ("tls_hello", fuzz::tls_hello, None),
    ("tls_records", fuzz::tls_records, None),
    ("tls_session", fuzz::tls_session, None),
];

type Seed = fn(&Sample) -> Vec<u8>;

/// The bytes as they are.
fn whole(sample: &Sample) -> Vec<u8> {
    sample.bytes.clone()
}

/// First byte, version and body, as `fuzz::packet` reads them.
fn body(sample: &Sample) -> Vec<u8> {
    let Ok(Split::Complete(frame)) = frame::split(&sample.bytes, usize::MAX) else {
        panic!("{} is no frame", sample.name)
    };
    [
        &[frame.first_byte(), u8::from(sample.version == Version::V5)],
        frame.body(),
    ]
    .concat()
}

/// How the header is, first byte and body, as `fuzz::differential` reads them.
fn how_and_body(sample: &Sample) -> Vec<u8> {
    let mut seed = body(sample);
    seed.swap(0, 1);
    seed
}

/// Three of them in a row, in pieces of 1 and 7 bytes, with or without records by the length's last bit.
fn in_pieces(sample: &Sample) -> Vec<u8> {
    let how = 0x42 | (sample.bytes.len() as u8 & 1);
    [&[how, 2, 0, 1, 0, 7], &sample.bytes.repeat(3)[..]].concat()
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn corpus(target: &str) -> PathBuf {
    fuzz_folder().join("corpus").join(target)
}

/// The names in a folder, without what follows a dot.
fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_seed_passes() {
    for (target, body, _) in TARGETS {
        let mut seeds = 0;
        for entry in fs::read_dir(corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
            seeds += 1;
        }
        assert!(seeds > 2, "{target} has lost its seeds");
    }
}

#[test]
fn targets_bodies_and_corpora_are_the_same() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz_folder().join("fuzz_targets")), bodies);
    assert_eq!(names(&fuzz_folder().join("corpus")), bodies);
    for name in &bodies {
        // Each target calls the body of its own name.
        let path = fuzz_folder().join("fuzz_targets").join(name).with_extension("rs");
        let target = fs::read_to_string(path).unwrap();
        assert!(
            target.ends_with(&format!("fleetwire_fuzz::{name}(input));\n")),
            "{target}"
        );
    }
}

#[test]
fn every_sample_is_a_seed() {
    for (target, _, seed) in TARGETS {
        for sample in samples().iter().filter(|_| seed.is_some()) {
            let there = fs::read(corpus(target).join(&sample.name));
            assert!(
                there.is_ok_and(|there| seed.is_some_and(|seed| there == seed(sample))),
                "no seed of {target} holds {}: cargo test -p fleetwire-tests --test fuzz_corpus -- --ignored writes it",
                sample.name
            );
        }
    }
}

/// The fuzzer's first steps, without one.
#[test]
fn samples_with_any_bit_flipped_pass() {
    for sample in samples().iter().filter(|sample| sample.bytes.len() < 256) {
        for index in 0..sample.bytes.len() {
            for bit in 0..8 {
                let mut bytes = sample.bytes.clone();
                bytes[index] ^= 1 << bit;
                fuzz::frame(&bytes);
            }
        }
    }
}

/// The fuzzer's first steps for TLS: sessions and records of many kinds, and a hello with any byte changed.
#[test]
fn generated_tls_input_passes() {
    for input in tls_inputs(400) {
        fuzz::tls_records(&input);
        fuzz::tls_session(&input);
        fuzz::tls_hello(&input);
    }
}

/// The fuzzer's first steps for sessions.
#[test]
fn generated_session_input_passes() {
    for input in session_inputs(2000) {
        fuzz::session(&input);
    }
}

/// Longer lists of operations. In every second one no machine hears anything but the other.
fn session_inputs(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let calm = |byte: u8| if byte >> 1 & 7 == 7 { byte ^ 0b1000 } else { byte };
    let parts: Vec<_> = tls_inputs(8 * count as u64).collect();
    (0..count).map(move |index| {
        let input = parts[8 * index..][..8].concat();
        if index % 2 == 0 {
            input.into_iter().map(calm).collect()
        } else {
            input
        }
    })
}

/// Bytes out of a seed of their own, the same in each run.
fn tls_inputs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (1..=count).map(|seed| {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..8 + seed % 60)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    })
}

#[test]
#[ignore = "writes into the source folder"]
fn write_the_seeds() {
    for (target, _, seed) in TARGETS {
        fs::create_dir_all(corpus(target)).unwrap();
        for sample in samples() {
            if let Some(seed) = seed {
                fs::write(corpus(target).join(&sample.name), seed(&sample)).unwrap();
            }
        }
    }
    for (i, input) in session_inputs(24).enumerate() {
        fs::write(corpus("session").join(format!("generated_{i}")), &input).unwrap();
    }
    for (i, input) in tls_inputs(24).enumerate() {
        for target in ["tls_records", "tls_session"] {
            fs::write(corpus(target).join(format!("generated_{i}")), &input).unwrap();
        }
    }
    for (name, versions) in [
        ("tls12", Versions::Tls12),
        ("tls13", Versions::Tls13),
        ("both", Versions::Both),
    ] {
        let config = ClientConfigBuilder::new()
            .dangerous_no_server_verification()
            .alpn(vec![b"x-amzn-mqtt-ca".to_vec(), b"mqtt".to_vec()])
            .versions(versions)
            .build()
            .unwrap();
        let server = ServerName::parse("localhost").unwrap();
        let mut hello = Vec::new();
        let mut session = TlsSession::client(&config, &server, None).unwrap();
        session.start(&mut hello).unwrap();
        fs::write(corpus("tls_hello").join(name), hello).unwrap();
    }
}

/// No row of `docs/DIFFERENCES.md` is left over, and each names the clauses that our errors name.
#[test]
fn every_listed_difference_occurs() {
    let mut left: BTreeSet<Row> = fuzz::differential::rows().collect();
    let seeds = fs::read_dir(corpus("differential")).unwrap();
    let seeds = seeds.map(|seed| fs::read(seed.unwrap().path()).unwrap());
    for input in seeds.flat_map(|seed| changed(&seed)) {
        for difference in fuzz::differential::differences(&input) {
            let row = fuzz::differential::row_of(&difference);
            let row = row.unwrap_or_else(|| panic!("not listed: {difference}, {input:?}"));
            left.remove(&row);
            if let Kind::Accepts(error) = difference.kind {
                let clause = error.clause(difference.version);
                assert!(
                    row.why.replace('`', "").contains(clause),
                    "{clause} is not in {row:?}"
                );
            }
        }
    }
    assert!(left.is_empty(), "these do not occur: {left:#?}");
}

/// The input itself, and with each of its first bytes left out, doubled, set to zero, or one bit of it flipped.
fn changed(input: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![input.to_vec()];
    for at in 0..input.len().min(64) {
        let with = |bytes: &[u8]| [&input[..at], bytes, &input[at + 1..]].concat();
        let byte = input[at];
        all.extend([with(&[]), with(&[byte, byte]), with(&[0])]);
        all.extend((0..8).map(|bit| with(&[byte ^ 1 << bit])));
    }
    all
}
