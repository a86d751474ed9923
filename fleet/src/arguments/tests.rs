use clap::CommandFactory;

use super::*;

fn run(arguments: &[&str]) -> RunArguments {
    let all = ["fleetwire", "run"].iter().chain(arguments);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

fn error(arguments: &[&str]) -> clap::Error {
    Cli::try_parse_from(std::iter::once(&"fleetwire").chain(arguments)).unwrap_err()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn run_has_the_promised_defaults() {
    let run = run(&[]);
    assert_eq!(run.broker, None);
    assert_eq!((run.devices, run.index_from, run.connect_rate), (1000, 0, 500.0));
    assert_eq!(run.connect_timeout, Duration::from_secs(10));
    assert_eq!(
        (run.duration, run.drain),
        (Duration::from_secs(10), Duration::from_secs(5))
    );
    assert_eq!(run.period, Period::Every(Duration::from_secs(1)));
    assert_eq!((run.payload_size, run.qos, run.mqtt), (64, 1, MqttVersion::V5));
    assert_eq!(run.topic, "fleet/{client_id}/telemetry");
    assert_eq!(run.client_id, "device-{index}");
    assert_eq!((run.keep_alive, run.ack_timeout), (60, Duration::from_secs(10)));
    assert_eq!((run.reconnect, run.threads, run.tls), (Switch::On, 1, None));
    assert!(!run.insecure && !run.dry_run && run.seed.is_none() && run.json.is_none());
}

#[test]
fn every_flag_of_run_is_taken() {
    let run = run(&[
        "--broker",
        "mqtts://h",
        "--alpn",
        "a,b",
        "--sni",
        "s",
        "--connect-to",
        "h:1",
        "--devices",
        "7",
        "--index-from",
        "3",
        "--connect-rate",
        "2.5",
        "--connect-timeout",
        "500ms",
        "--duration",
        "1m",
        "--drain",
        "0s",
        "--period",
        "off",
        "--payload-size",
        "0",
        "--qos",
        "0",
        "--mqtt",
        "3.1.1",
        "--topic",
        "t",
        "--subscribe",
        "f/#",
        "--client-id",
        "c{index}",
        "--keep-alive",
        "0s",
        "--username",
        "u",
        "--password",
        "p",
        "--ca",
        "ca.crt",
        "--cert",
        "c",
        "--key",
        "k",
        "--tls",
        "1.2",
        "--ack-timeout",
        "1s",
        "--reconnect",
        "off",
        "--threads",
        "2",
        "--seed",
        "9",
        "--json",
        "-",
    ]);
    assert_eq!(run.alpn, ["a", "b"]);
    assert_eq!(run.connect_to, Some(("h".to_owned(), 1)));
    assert_eq!(
        (run.period, run.reconnect, run.tls),
        (Period::Off, Switch::Off, Some(TlsVersion::V1_2))
    );
    assert_eq!(
        (run.mqtt, run.seed, run.json.as_deref()),
        (MqttVersion::V3_1_1, Some(9), Some("-"))
    );
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for arguments in [
        &["run", "--devices", "0"][..],
        &["run", "--period", "0s"],
        &["run", "--duration", "10"],
        &["run", "--qos", "3"],
        &["endpoint", "--max-qos", "3"],
        &["run", "--mqtt", "3.1"],
        &["run", "--tls", "1.1"],
        &["run", "--reconnect", "maybe"],
        &["run", "--cert", "a"],
        &["run", "--key", "a"],
        &["run", "--identities", "d", "--cert", "a", "--key", "b"],
        &["run", "--nonsense"],
        &["endpoint", "--listen", "8883"],
        &["endpoint", "--user", "ann"],
        &["endpoint", "--child"],
        &["certs", "issue", "--state", "s"],
        &[
            "certs",
            "issue",
            "--state",
            "s",
            "--out",
            "o",
            "--key-type",
            "rsa1024",
        ],
        &[],
    ] {
        assert_eq!(error(arguments).exit_code(), 2, "{arguments:?}");
    }
}

#[test]
fn help_is_grouped_and_shows_examples() {
    let help = error(&["run", "--help"]).to_string();
    for part in [
        "Broker:",
        "Devices:",
        "TLS and identities:",
        "Connecting:",
        "Traffic:",
        "Examples:",
        "x-amzn-mqtt-ca",
    ] {
        assert!(help.contains(part), "no {part} in:\n{help}");
    }
    assert!(!error(&["endpoint", "--help"]).to_string().contains("--child"));
}
