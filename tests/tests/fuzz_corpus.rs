//! Replays the fuzz corpora, so that what a fuzzer has once found stays found without one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;
#[path = "../../benches/samples.rs"]
pub mod samples;

use fleetwire_tls::{ClientConfigBuilder, ServerName, TlsSession, Versions};
use samples::samples;

type Body = fn(&[u8]);

/// All targets.
const TARGETS: [(&str, Body); 4] = [
    ("frame", fuzz::frame),
    ("tls_hello", fuzz::tls::tls_hello),
    ("tls_records", fuzz::tls::tls_records),
    ("tls_session", fuzz::tls::tls_session),
];

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
    for (target, body) in TARGETS {
        for entry in fs::read_dir(corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn targets_bodies_and_corpora_are_the_same() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz_folder().join("fuzz_targets")), bodies);
    assert_eq!(names(&fuzz_folder().join("corpus")), bodies);
}

#[test]
fn every_sample_is_a_seed() {
    for sample in samples() {
        let seed = fs::read(corpus("frame").join(&sample.name));
        assert!(
            seed.is_ok_and(|seed| seed == sample.bytes),
            "no seed holds {}: cargo test -p fleetwire-tests --test fuzz_corpus -- --ignored writes it",
            sample.name
        );
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
        fuzz::tls::tls_records(&input);
        fuzz::tls::tls_session(&input);
        fuzz::tls::tls_hello(&input);
    }
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
    for sample in samples() {
        fs::write(corpus("frame").join(&sample.name), &sample.bytes).unwrap();
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
