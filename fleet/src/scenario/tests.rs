use clap::Parser;

use super::*;
use crate::arguments::{Cli, Command};

fn scenario(arguments: &[&str]) -> Result<Scenario, Problem> {
    let all = ["fleetwire", "run"].iter().chain(arguments);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Run(run) => Scenario::new(&run),
        other => panic!("{other:?}"),
    }
}

fn usage(arguments: &[&str]) -> String {
    match scenario(arguments) {
        Err(Problem::Usage(text)) => text,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn without_a_broker_the_endpoint_is_our_own() {
    let own = scenario(&[]).unwrap();
    assert_eq!(own.target, Target::Child);
    assert_eq!(own.identities, IdentitySource::ThrowAway);
    assert_eq!(
        scenario(&["--alpn", "x-amzn-mqtt-ca"]).unwrap().target,
        Target::Child
    );
    assert!(usage(&["--alpn", "mqtt"]).contains("fleetwire endpoint --user"));
    assert!(scenario(&["--tls", "1.2"]).is_ok());
    for flags in [
        &["--ca", "x"][..],
        &["--cert", "x", "--key", "y"],
        &["--identities", "x"],
        &["--insecure"],
        &["--sni", "x"],
        &["--connect-to", "x:1"],
    ] {
        assert!(usage(flags).starts_with(flags[0]), "{flags:?}");
    }
}

#[test]
fn plain_tcp_takes_no_flag_of_tls() {
    for flags in [
        &["--alpn", "a"][..],
        &["--sni", "x"],
        &["--ca", "x"],
        &["--cert", "x", "--key", "y"],
        &["--identities", "x"],
        &["--insecure"],
        &["--tls", "1.3"],
    ] {
        let mut all = vec!["--broker", "mqtt://h"];
        all.extend(flags);
        assert!(usage(&all).contains("needs TLS"), "{flags:?}");
    }
    assert!(scenario(&["--broker", "mqtt://h", "--connect-to", "127.0.0.1:1883"]).is_ok());
}

#[test]
fn one_client_id_is_enough_for_one_device_only() {
    assert!(usage(&["--client-id", "fixed"]).contains("{index}"));
    assert!(scenario(&["--client-id", "fixed", "--devices", "1"]).is_ok());
    assert!(usage(&["--client-id", "", "--devices", "1"]).contains("empty"));
    assert!(usage(&["--client-id", "{client_id}"]).contains("unknown placeholder {client_id}"));
    let long = format!("{}{{index}}", "x".repeat(65_535));
    assert!(usage(&["--client-id", &long]).contains("65535"));
}

#[test]
fn patterns_are_checked_and_filled_in() {
    let scenario = scenario(&[
        "--index-from",
        "5",
        "--username",
        "u-{index}",
        "--subscribe",
        "cmd/{client_id}/#",
    ])
    .unwrap();
    assert_eq!(scenario.client_id(2), "device-7");
    assert_eq!(scenario.render(&scenario.topic, 2), "fleet/device-7/telemetry");
    assert_eq!(scenario.render(scenario.username.as_ref().unwrap(), 0), "u-5");
    assert!(usage(&["--topic", "a/{x}"]).contains("unknown placeholder {x}"));
    assert!(usage(&["--topic", "a/+"]).contains("--topic a/+"));
    assert!(usage(&["--topic", ""]).contains("--topic"));
    assert!(usage(&["--subscribe", "a#"]).contains("--subscribe a#"));
    assert!(usage(&["--username", "{nobody}"]).contains("--username"));
    assert!(usage(&["--broker", "mqtts://h", "--cert", "{x}.crt", "--key", "a"]).contains("--cert"));
}

#[test]
fn a_client_id_that_is_no_file_name_cannot_name_an_identity() {
    let with = |client_id| {
        scenario(&[
            "--broker",
            "mqtts://h",
            "--identities",
            "d",
            "--client-id",
            client_id,
        ])
    };
    assert!(with("site/{index}").is_err());
    assert!(with("../{index}").is_err());
    assert!(with("a b-{index}").is_ok());
}

#[test]
fn mqtt_3_1_1_has_no_password_without_a_user_name() {
    assert!(usage(&["--mqtt", "3.1.1", "--password", "p"]).contains("--username"));
    assert!(scenario(&["--mqtt", "5", "--password", "p"]).is_ok());
}

#[test]
fn a_given_seed_is_kept_and_no_more_threads_than_devices_are_used() {
    let scenario = scenario(&["--seed", "42", "--threads", "8", "--devices", "3"]).unwrap();
    assert_eq!((scenario.seed, scenario.threads), (42, 3));
}
