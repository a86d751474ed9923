use std::fs;

use clap::Parser;

use super::*;
use crate::arguments::{Cli, Command};

fn scenario(arguments: &[&str]) -> Scenario {
    let all = ["fleetwire", "run", "--broker", "mqtts://h"]
        .iter()
        .chain(arguments);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Run(run) => Scenario::new(&run).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn refusal(result: Result<Identities, Problem>) -> String {
    match result {
        Err(Problem::Refused {
            slug: "identities",
            text,
        }) => text,
        other => panic!("{other:?}"),
    }
}

fn pki() -> Pki {
    Pki::throw_away::<&str>([]).unwrap()
}

#[test]
fn every_device_has_its_own_from_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let pki = pki();
    for index in 0..3 {
        let device = pki
            .issue_device(&format!("device-{index}"), KeyType::P256, None)
            .unwrap();
        device.write(directory.path(), false).unwrap();
    }
    let scenario_of = |devices| scenario(&["--devices", devices, "--identities", path]);
    let loaded = Identities::load(&scenario_of("3"), &Interrupts::default()).unwrap();
    let fingerprint = |place| loaded.of(place).map(Identity::fingerprint);
    assert!(fingerprint(0).is_some() && fingerprint(0) != fingerprint(1) && fingerprint(1) != fingerprint(2));
    assert_eq!(fingerprint(3), None);

    let text = refusal(Identities::load(&scenario_of("9"), &Interrupts::default()));
    assert!(text.starts_with("6 of 9 identities cannot be used: "), "{text}");
    assert!(
        text.contains("device-3.crt") && text.contains("device-5.crt") && text.contains("and 3 more"),
        "{text}"
    );
    assert!(!text.contains("device-6.crt"), "{text}");

    let pattern = |name: &str| format!("{path}/{{client_id}}.{name}");
    let by_pattern = scenario(&[
        "--devices",
        "2",
        "--index-from",
        "1",
        "--cert",
        &pattern("crt"),
        "--key",
        &pattern("key"),
    ]);
    let loaded_by_pattern = Identities::load(&by_pattern, &Interrupts::default()).unwrap();
    assert_eq!(loaded_by_pattern.of(0).map(Identity::fingerprint), fingerprint(1));
}

#[test]
fn a_key_that_does_not_fit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let pki = pki();
    let [one, other] = ["a", "b"].map(|name| pki.issue_device(name, KeyType::P256, None).unwrap());
    let (cert, key) = in_directory(directory.path(), "device-0");
    fs::write(&cert, one.cert_pem).unwrap();
    fs::write(&key, other.key_pem).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let text = refusal(Identities::load(
        &scenario(&["--cert", cert, "--key", key]),
        &Interrupts::default(),
    ));
    assert!(text.contains("is not the private key of"), "{text}");
}

#[test]
fn throw_away_identities_are_all_different() {
    let scenario = scenario(&["--devices", "20"]);
    let identities = Identities::issue(&scenario, &pki(), &Interrupts::default()).unwrap();
    let mut fingerprints: Vec<_> = (0..20)
        .filter_map(|place| identities.of(place))
        .map(Identity::fingerprint)
        .collect();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 20);
}

#[test]
fn work_is_shared_and_stays_in_order() {
    let done: Result<Vec<usize>, Vec<()>> = for_each_place(101, Ok);
    assert_eq!(done.unwrap(), (0..101).collect::<Vec<_>>());
    let failed: Result<Vec<()>, Vec<usize>> =
        for_each_place(10, |place| if place % 5 == 4 { Err(place) } else { Ok(()) });
    assert_eq!(failed.unwrap_err(), [4, 9]);
    assert_eq!(for_each_place(0, |_| Ok::<(), ()>(())), Ok(vec![]));
}

#[test]
fn an_interrupt_ends_the_work_on_identities() {
    let interrupts = Interrupts::default();
    interrupts.ask();
    let issued = Identities::issue(&scenario(&["--devices", "3"]), &pki(), &interrupts);
    assert_eq!(issued.err(), Some(Problem::Interrupted));
}
