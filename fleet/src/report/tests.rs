use super::*;

/// A run as it should be.
pub(crate) fn good_report() -> Report {
    let quantiles = |p50, count| Quantiles {
        p50,
        p90: p50 * 2,
        p99: p50 * 4,
        p999: p50 * 8,
        max: p50 * 16,
        count,
        at_least: Vec::new(),
    };
    Report {
        schema: 1,
        version: "0.1.0",
        command: "fleetwire run".to_owned(),
        seed: 7,
        started_at: "2026-11-23T14:00:00Z".to_owned(),
        interrupted: false,
        error: None,
        endpoint: EndpointKind::Child,
        endpoint_counts: None,
        phases: Phases {
            prepare_seconds: 0.25,
            ramp_seconds: 2.0,
            hold_seconds: 10.0,
            drain_seconds: 0.1,
        },
        devices: 1000,
        connected: 1000,
        connected_at_end: 1000,
        failed: 0,
        undecided: 0,
        failures: BTreeMap::new(),
        alpn: BTreeMap::from([("x-amzn-mqtt-ca".to_owned(), 1000)]),
        tls_version: BTreeMap::from([("1.3".to_owned(), 1000)]),
        connect_seconds: 2.0,
        scheduled: 11_000,
        published: 11_000,
        acknowledged: 11_000,
        refused: 0,
        received: 0,
        lost: 0,
        missed: 0,
        missed_by: Missed::default(),
        balanced: true,
        disconnects: 0,
        disconnect_reasons: BTreeMap::new(),
        reconnects: 0,
        subscribed: 0,
        subscribe_refused: 0,
        subscribe_refusals: BTreeMap::new(),
        acks_late: 0,
        connect_latency_us: Some(quantiles(1_200, 1000)),
        ack_latency_us: Some(quantiles(150, 10_000)),
        cpu_seconds: 1.25,
        rss_bytes: 30 << 20,
        rss_bytes_per_device: 4_321,
        bytes_copied: 0,
        packets_in: BTreeMap::from([("connack".to_owned(), 1000), ("puback".to_owned(), 11_000)]),
        packets_out: BTreeMap::from([("connect".to_owned(), 1000), ("publish".to_owned(), 11_000)]),
        keep_alive_slack_us_min: None,
        keep_alive_late_us_max: 0,
        loop_lag_us_max: 850,
        driver: "mio",
        overloaded: false,
        overload: Overload {
            bins: 10,
            bins_overloaded: 0,
            in_a_row: 0,
        },
    }
}

#[test]
fn the_json_has_every_promised_field() {
    let json = serde_json::to_value(good_report()).unwrap();
    let promised = "schema version command seed started_at interrupted endpoint phases devices connected \
                    connected_at_end failed failures alpn tls_version connect_seconds scheduled published acknowledged \
                    received lost missed disconnects reconnects connect_latency_us ack_latency_us cpu_seconds rss_bytes \
                    rss_bytes_per_device bytes_copied packets_in packets_out keep_alive_slack_us_min keep_alive_late_us_max \
                    loop_lag_us_max driver overloaded";
    for field in promised.split_whitespace() {
        assert!(json.get(field).is_some(), "no field {field}");
    }
    assert_eq!(json["endpoint"], "child");
    assert_eq!(json["alpn"]["x-amzn-mqtt-ca"], 1000);
    for quantile in ["p50", "p90", "p99", "p999", "max"] {
        assert!(json["ack_latency_us"][quantile].is_u64() && json["connect_latency_us"][quantile].is_u64());
    }
    let at_qos_0 = Report {
        ack_latency_us: None,
        ..good_report()
    };
    assert!(serde_json::to_value(at_qos_0).unwrap()["ack_latency_us"].is_null());
}

#[test]
fn the_json_is_written_to_a_file_that_is_opened_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.json");
    let output = JsonOutput::open(path.to_str()).unwrap();
    assert!(path.exists() && !output.is_stdout());
    output.write(&good_report()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(json["devices"], 1000);
    match JsonOutput::open(directory.path().join("none/run.json").to_str()) {
        Err(Problem::Refused {
            slug: "json_file", ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_kept_without_the_password() {
    let line = |arguments: &[&str]| command_line(arguments.iter().map(|argument| (*argument).to_owned()));
    assert_eq!(
        line(&[
            "/bin/fleetwire",
            "run",
            "--broker",
            "mqtts://h?alpn=a&sni=b",
            "--password",
            "secret"
        ]),
        "fleetwire run --broker 'mqtts://h?alpn=a&sni=b' --password ***"
    );
    assert_eq!(
        line(&["x", "--password=secret", "it's"]),
        r"fleetwire --password=*** 'it'\''s'"
    );
    assert_eq!(line(&["x", "--topic", ""]), "fleetwire --topic ''");
}

#[test]
fn overload_is_one_percent_of_the_seconds_or_three_in_a_row() {
    let overload = |bins, bins_overloaded, in_a_row| {
        Overload {
            bins,
            bins_overloaded,
            in_a_row,
        }
        .is_overloaded()
    };
    assert!(!overload(0, 0, 0) && !overload(1000, 9, 2));
    assert!(overload(1000, 10, 1) && overload(1000, 3, 3) && overload(10, 1, 1));
}
