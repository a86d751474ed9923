//! `fleetwire run --broker`: an endpoint that runs already, and others that do not do what is wanted.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::main_job::{assert_balance, number};
use crate::support::{EndpointProcess, PROGRAM, Running, closed_port, fleetwire, run, silent_broker, text};

const QUICK: [&str; 4] = ["--duration", "500ms", "--period", "100ms"];

#[test]
fn identities_from_a_directory() {
    let endpoint = EndpointProcess::start(&[]);
    let (url, ca, identities) = (endpoint.url("x-amzn-mqtt-ca"), endpoint.ca(), endpoint.issue(10));
    let arguments = [
        "--broker",
        &url,
        "--ca",
        &ca,
        "--identities",
        &identities,
        "--devices",
        "10",
    ];
    let json = run(&[&arguments[..], &QUICK].concat()).expect_code(0).json();
    assert_eq!(
        (&json["endpoint"], &json["endpoint_counts"]),
        (&json!("external"), &json!(null))
    );
    assert_eq!((&json["connected"], &json["lost"]), (&json!(10), &json!(0)));
    assert_eq!(json["alpn"], json!({"x-amzn-mqtt-ca": 10}));
    assert_balance(&json);

    // The same by a pattern of paths, in two flags instead of the URL's query, and by another name.
    let (cert, key) = (
        format!("{identities}/{{client_id}}.crt"),
        format!("{identities}/device-{{index}}.key"),
    );
    let broker = format!("mqtts://localhost:{}", endpoint.tls.port());
    let arguments = [
        "--broker",
        &broker,
        "--alpn",
        "x-amzn-mqtt-ca",
        "--ca",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--devices",
        "3",
        "--index-from",
        "7",
    ];
    let json = run(&[&arguments[..], &QUICK].concat()).expect_code(0).json();
    assert_eq!(json["connected"], 3);

    endpoint.running.signal("INT");
    let ended = endpoint.running.end().expect_code(0);
    assert!(
        ended
            .stdout
            .contains("ended: 10 distinct client certificates, 13 connections"),
        "{}",
        ended.stdout
    );
}

/// One of the fleet has a certificate of somebody else's CA: the others are in, it is not, and the cause is named.
#[test]
fn one_stranger_among_the_identities() {
    let endpoint = EndpointProcess::start(&[]);
    let identities = endpoint.issue(20);
    let stranger = EndpointProcess::start(&[]);
    let strangers = stranger.issue(8);
    for file in ["device-7.crt", "device-7.key"] {
        fs::copy(format!("{strangers}/{file}"), format!("{identities}/{file}")).unwrap();
    }
    for tls in ["1.2", "1.3"] {
        let file = text(&endpoint.path(tls));
        let (url, ca) = (endpoint.url("x-amzn-mqtt-ca"), endpoint.ca());
        let arguments = [
            "run",
            "--broker",
            &url,
            "--ca",
            &ca,
            "--identities",
            &identities,
            "--devices",
            "20",
            "--json",
            &file,
            "--tls",
            tls,
        ];
        let ended = fleetwire([&arguments[..], &QUICK].concat()).expect_code(1);
        let json: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert_eq!((&json["connected"], &json["failed"]), (&json!(19), &json!(1)));
        assert_eq!(json["failures"], json!({"client_cert_unknown_ca": 1}));
        assert_eq!(
            (&json["connected_at_end"], &json["lost"]),
            (&json!(19), &json!(0))
        );
        for part in ["client_cert_unknown_ca 1/20", "first device-7"] {
            assert!(ended.stdout.contains(part), "no {part:?} in\n{}", ended.stdout);
        }
        assert_balance(&json);
    }
}

#[test]
fn user_name_and_password() {
    let endpoint = EndpointProcess::start(&["--user", "ann:secret"]);
    let (url, ca) = (endpoint.url("mqtt"), endpoint.ca());
    let arguments = [
        "--broker",
        &url,
        "--ca",
        &ca,
        "--username",
        "ann",
        "--devices",
        "4",
        "--password",
    ];
    let right = run(&[&arguments[..], &["secret"], &QUICK].concat()).expect_code(0);
    let json = right.json();
    assert_eq!(json["alpn"], json!({"mqtt": 4}));
    assert!(
        !right.stdout.contains("secret") && !right.stderr.contains("secret"),
        "the password is shown"
    );

    let json = run(&[&arguments[..], &["wrong", "--duration", "30s"]].concat())
        .expect_code(1)
        .json();
    assert_eq!(
        (&json["failed"], &json["failures"]),
        (&json!(4), &json!({"connack_refused": 4}))
    );
    // A refusal is not tried again, so nobody is left to wait for.
    assert!(json["phases"]["hold_seconds"].as_f64().unwrap() < 15.0, "{json}");
}

#[test]
fn plain_tcp() {
    let endpoint = EndpointProcess::start(&[]);
    let url = endpoint.plain_url();
    let json = run(&[&["--broker", &url, "--devices", "4"][..], &QUICK].concat())
        .expect_code(0)
        .json();
    assert_eq!(
        (&json["alpn"], &json["tls_version"]),
        (&json!({"none": 4}), &json!({"none": 4}))
    );
    assert!(number(&json, "acknowledged") > 0);
}

/// Each with the cause under its name.
#[test]
fn what_keeps_a_fleet_out_is_named() {
    let endpoint = EndpointProcess::start(&[]);
    let stranger = EndpointProcess::start(&[]);
    let (ca, strangers_ca, devices) = (endpoint.ca(), stranger.ca(), endpoint.issue(2));
    let (tls, port) = (endpoint.url("x-amzn-mqtt-ca"), closed_port());
    let (other, closed) = (endpoint.url("h2"), format!("mqtt://127.0.0.1:{port}"));
    let (bare, to_plain) = (
        format!("mqtts://{}", endpoint.tls),
        format!("mqtts://{}", endpoint.plain),
    );
    let to_tls = format!("mqtt://{}", endpoint.tls);
    let identities = ["--identities", &devices];
    let cases: [(&[&str], &str); 8] = [
        (&["--broker", &closed], "tcp_refused"),
        (&["--broker", &other, "--ca", &ca], "alpn_refused"),
        (&["--broker", &tls, "--ca", &ca], "client_cert_required"),
        (&["--broker", &tls, "--ca", &strangers_ca], "server_ca_unknown"),
        (
            &["--broker", &tls, "--ca", &ca, "--sni", "broker.example"],
            "server_name_mismatch",
        ),
        (&["--broker", &bare, "--ca", &ca], "closed_before_connack"),
        (&["--broker", &to_plain, "--ca", &ca], "closed_in_handshake"),
        (&["--broker", &to_tls], "not_mqtt"),
    ];
    for (arguments, slug) in cases {
        let quick = ["--devices", "2", "--duration", "0s", "--reconnect", "off"];
        let json = run(&[arguments, &quick].concat()).expect_code(1).json();
        assert_eq!(json["failures"], json!({ slug: 2 }), "{arguments:?}");
        assert_eq!((&json["connected"], &json["failed"]), (&json!(0), &json!(2)));
        assert_eq!(
            (&json["connect_latency_us"], &json["alpn"]),
            (&json!(null), &json!({}))
        );
    }
    // With --insecure the stranger's CA does not matter any more.
    let arguments = [
        "--broker",
        &tls,
        "--insecure",
        "--devices",
        "2",
        "--duration",
        "0s",
    ];
    run(&[&arguments[..], &identities].concat()).expect_code(0);
}

/// Two devices connect to the URL's name at another address.
fn connect_two(url: &str, to: &str, ca: &str, identities: &str) {
    let arguments = [
        "--broker",
        url,
        "--connect-to",
        to,
        "--ca",
        ca,
        "--identities",
        identities,
        "--devices",
        "2",
        "--duration",
        "0s",
    ];
    run(&arguments).expect_code(0);
}

/// --connect-to dials elsewhere; the name that is verified stays the URL's.
#[test]
fn another_address_under_the_same_name() {
    let endpoint = EndpointProcess::start(&["--server-name", "broker.example"]);
    let (ca, identities) = (endpoint.ca(), endpoint.issue(2));
    let (to, url) = (
        endpoint.tls.to_string(),
        "mqtts://broker.example?alpn=x-amzn-mqtt-ca",
    );
    connect_two(url, &to, &ca, &identities);
}

/// Without --ca the system's authorities count: here a file that the environment names in their place.
#[test]
fn the_systems_authorities() {
    let (endpoint, stranger) = (EndpointProcess::start(&[]), EndpointProcess::start(&[]));
    let (url, identities) = (endpoint.url("x-amzn-mqtt-ca"), endpoint.issue(1));
    let arguments = [
        "run",
        "--broker",
        &url,
        "--identities",
        &identities,
        "--devices",
        "1",
        "--duration",
        "0s",
        "--reconnect",
        "off",
    ];
    for (authorities, code, said) in [
        (endpoint.ca(), 0, ""),
        (stranger.ca(), 1, "none of the trusted authorities"),
        (
            "no/such.crt".to_owned(),
            3,
            "the system's certificate store holds no certificate",
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env("SSL_CERT_FILE", authorities)
            .env_remove("SSL_CERT_DIR");
        let ended = Running::start(command).end().expect_code(code);
        let text = ended.stdout + &ended.stderr;
        assert!(text.contains(said), "{text}");
    }
}

/// A second domain of one endpoint, with a certificate that another authority issued.
#[test]
fn a_domain_with_a_certificate_of_its_own() {
    let other = EndpointProcess::start(&["--server-name", "iot.example"]);
    let (cert, key) = (
        text(&other.path("state/server.crt")),
        text(&other.path("state/server.key")),
    );
    let endpoint = EndpointProcess::start(&["--domain", "iot.example", &cert, &key]);
    let (identities, to) = (endpoint.issue(2), endpoint.tls.to_string());
    for (host, ca) in [("iot.example", other.ca()), ("localhost", endpoint.ca())] {
        let url = format!("mqtts://{host}?alpn=x-amzn-mqtt-ca");
        connect_two(&url, &to, &ca, &identities);
    }
    let start = |name, cert: &str| {
        fleetwire([
            "endpoint",
            "--listen",
            "127.0.0.1:0",
            "--domain",
            name,
            cert,
            &key,
        ])
    };
    let ended = start("iot.example", "no/such.crt").expect_code(3);
    assert!(
        ended
            .stderr
            .contains("--domain iot.example: no/such.crt cannot be read"),
        "{}",
        ended.stderr
    );
    let ended = start("127.0.0.1", &cert).expect_code(2);
    assert!(
        ended.stderr.contains("--domain: \"127.0.0.1\""),
        "{}",
        ended.stderr
    );
}

/// A broker that never acknowledges: every publish is lost, and counted so.
#[test]
fn publishes_without_acknowledgement_are_lost() {
    let url = format!("mqtt://{}", silent_broker());
    let arguments = [
        "--broker",
        &url,
        "--mqtt",
        "3.1.1",
        "--devices",
        "3",
        "--duration",
        "500ms",
        "--period",
        "100ms",
        "--drain",
        "200ms",
        "--ack-timeout",
        "100ms",
    ];
    let json = run(&arguments).expect_code(1).json();
    let published = number(&json, "published");
    assert!(published >= 15, "{json}");
    assert_eq!((&json["connected"], &json["failed"]), (&json!(3), &json!(0)));
    assert_eq!(
        (number(&json, "lost"), number(&json, "acknowledged")),
        (published, 0)
    );
    assert!(number(&json, "acks_late") >= 3, "{json}");
    assert_balance(&json);
}

/// A fleet whose broker goes away and comes back is up again, and what was lost in between is counted.
#[test]
fn a_broker_that_goes_away_is_dialled_again() {
    let endpoint = EndpointProcess::start(&[]);
    let (url, plain) = (endpoint.plain_url(), endpoint.plain.to_string());
    let mut command = Command::new(PROGRAM);
    command.args([
        "run",
        "--json",
        "-",
        "--broker",
        &url,
        "--devices",
        "5",
        "--duration",
        "7s",
        "--period",
        "100ms",
    ]);
    let mut run = Running::start(command);
    run.error_line(|line| line.contains("hold"));
    drop(endpoint);
    let again = EndpointProcess::start_at(&plain);
    let ended = run.end();
    drop(again);
    let json = ended.json();
    assert_eq!((&json["connected"], &json["failed"]), (&json!(5), &json!(0)));
    assert!(
        number(&json, "disconnects") >= 5 && number(&json, "reconnects") >= 5,
        "{json}"
    );
    assert_eq!(json["connected_at_end"], 5);
    assert!(number(&json["missed_by"], "offline") > 0, "{json}");
    assert_balance(&json);
}
