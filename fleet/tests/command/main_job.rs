//! `fleetwire run` on its own: the endpoint is its child, each device has a throw-away certificate.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{fleetwire, run, text};

/// Every field that programs may count on.
const FIELDS: [&str; 41] = [
    "schema",
    "version",
    "command",
    "seed",
    "started_at",
    "interrupted",
    "endpoint",
    "phases",
    "devices",
    "connected",
    "connected_at_end",
    "failed",
    "failures",
    "alpn",
    "tls_version",
    "connect_seconds",
    "scheduled",
    "published",
    "acknowledged",
    "received",
    "lost",
    "missed",
    "disconnects",
    "reconnects",
    "connect_latency_us",
    "ack_latency_us",
    "cpu_seconds",
    "rss_bytes",
    "rss_bytes_per_device",
    "bytes_copied",
    "driver",
    "overloaded",
    "refused",
    "balanced",
    "error",
    "endpoint_counts",
    "packets_in",
    "packets_out",
    "keep_alive_slack_us_min",
    "keep_alive_late_us_max",
    "loop_lag_us_max",
];

pub(crate) fn number(json: &Value, field: &str) -> u64 {
    match json[field].as_u64() {
        Some(number) => number,
        None => panic!("{field} is {}", json[field]),
    }
}

/// Each slot of the schedule has come to exactly one end.
#[track_caller]
pub(crate) fn assert_balance(json: &Value) {
    let count = |field| number(json, field);
    assert_eq!(count("scheduled"), count("published") + count("missed"), "{json}");
    let ends = count("acknowledged") + count("refused") + count("lost");
    assert!(
        ends == count("published") || json["ack_latency_us"].is_null(),
        "{json}"
    );
    assert_eq!(json["balanced"], true);
}

#[test]
fn at_qos_2_every_message_arrives_once() {
    for version in ["5", "3.1.1"] {
        let json = run(&[
            "--devices",
            "5",
            "--duration",
            "1s",
            "--period",
            "50ms",
            "--qos",
            "2",
            "--mqtt",
            version,
            "--subscribe",
            "fleet/{client_id}/telemetry",
        ])
        .expect_code(0)
        .json();
        assert_balance(&json);
        assert!(number(&json, "acknowledged") > 50, "{json}");
        assert_eq!(json["acknowledged"], json["published"]);
        assert_eq!(json["received"], json["published"]);
        assert_eq!(json["endpoint_counts"]["publishes"], json["published"]);
    }
}

#[test]
fn fifty_devices_are_connected_and_nothing_is_lost() {
    let ended = run(&[
        "--devices",
        "50",
        "--duration",
        "2s",
        "--period",
        "200ms",
        "--seed",
        "7",
    ])
    .expect_code(0);
    let json = ended.json();
    for field in FIELDS {
        assert!(json.get(field).is_some(), "{field} is missing");
    }
    assert_eq!(json["schema"], 1);
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let command = "fleetwire run --json - --devices 50 --duration 2s --period 200ms --seed 7";
    assert_eq!(json["command"], command);
    assert_eq!(json["seed"], 7);
    assert!(ended.stderr.contains("seed 7"), "{}", ended.stderr);
    let started_at = OffsetDateTime::parse(json["started_at"].as_str().unwrap(), &Rfc3339).unwrap();
    let age = OffsetDateTime::now_utc() - started_at;
    assert!((2..120).contains(&age.whole_seconds()), "{age}");
    assert_eq!(
        (&json["interrupted"], &json["error"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(json["endpoint"], "child");
    let hold = json["phases"]["hold_seconds"].as_f64().unwrap();
    assert!((2.0..4.0).contains(&hold), "{hold}");
    for field in ["devices", "connected", "connected_at_end"] {
        assert_eq!(json[field], 50, "{field}");
    }
    for field in [
        "failed",
        "lost",
        "refused",
        "received",
        "disconnects",
        "reconnects",
    ] {
        assert_eq!(json[field], 0, "{field}");
    }
    assert_eq!(json["failures"], json!({}));
    assert_eq!(json["alpn"], json!({"x-amzn-mqtt-ca": 50}));
    assert_eq!(json["tls_version"], json!({"1.3": 50}));
    assert_balance(&json);
    // 2 s hold ten periods, whatever the phase; the ramp adds a little.
    assert!((500..1_000).contains(&number(&json, "scheduled")), "{json}");
    // The child saw the same, and 50 different certificates.
    let counts = &json["endpoint_counts"];
    assert_eq!(
        (&counts["client_certificates"], &counts["connections"]),
        (&json!(50), &json!(50))
    );
    assert_eq!(counts["publishes"], json["published"]);
    for latency in ["connect_latency_us", "ack_latency_us"] {
        let quantiles = ["p50", "p90", "p99", "p999", "max"].map(|name| number(&json[latency], name));
        assert!(
            quantiles[0] > 0 && quantiles.is_sorted(),
            "{latency}: {quantiles:?}"
        );
        assert!(quantiles[4] < 60_000_000, "{latency}: {quantiles:?}");
    }
    assert!(json["connect_seconds"].as_f64().unwrap() > 0.0);
    assert!(json["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert!(number(&json, "rss_bytes") > 1 << 20);
    assert!(number(&json, "rss_bytes_per_device") < 4 << 20);
    assert_eq!(
        json["packets_in"],
        json!({"connack": 50, "puback": json["acknowledged"]})
    );
    assert_eq!(
        json["packets_out"],
        json!({"connect": 50, "publish": json["published"], "disconnect": 50})
    );
    // Nobody was silent for a keep-alive.
    assert_eq!(
        (&json["keep_alive_slack_us_min"], &json["keep_alive_late_us_max"]),
        (&Value::Null, &json!(0))
    );
    assert!(number(&json, "loop_lag_us_max") < 60_000_000, "{json}");
    assert!(json["bytes_copied"].is_u64() && json["overloaded"].is_boolean());
    assert_eq!(json["driver"], "mio");
}

#[test]
fn the_summary_is_for_people_and_the_json_goes_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = text(&directory.path().join("result.json"));
    let ended = fleetwire(["run", "--devices", "5", "--duration", "500ms", "--json", &file]).expect_code(0);
    for part in [
        "own endpoint (child process)",
        "connected:",
        "ALPN x-amzn-mqtt-ca 5",
        "TLS 1.3 5",
        "lost:",
    ] {
        assert!(ended.stdout.contains(part), "no {part:?} in\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains('{'), "{}", ended.stdout);
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!((&json["connected"], &json["lost"]), (&json!(5), &json!(0)));
}

#[test]
fn qos_0_has_no_acknowledgements_and_no_latency_of_them() {
    let json = run(&[
        "--devices",
        "10",
        "--duration",
        "1s",
        "--period",
        "100ms",
        "--qos",
        "0",
    ])
    .expect_code(0)
    .json();
    assert_eq!(json["ack_latency_us"], Value::Null);
    assert_eq!((&json["acknowledged"], &json["lost"]), (&json!(0), &json!(0)));
    assert_balance(&json);
    assert!(number(&json, "published") >= 90, "{json}");
    assert_eq!(json["endpoint_counts"]["publishes"], json["published"]);
}

#[test]
fn every_version_of_mqtt_goes_over_every_version_of_tls() {
    for (mqtt, tls) in [("3.1.1", "1.2"), ("3.1.1", "1.3"), ("5", "1.2"), ("5", "1.3")] {
        let arguments = [
            "--devices",
            "5",
            "--duration",
            "300ms",
            "--period",
            "50ms",
            "--mqtt",
            mqtt,
            "--tls",
            tls,
        ];
        let json = run(&arguments).expect_code(0).json();
        assert_eq!(json["tls_version"], json!({ tls: 5 }));
        assert_eq!(
            (&json["connected"], &json["lost"]),
            (&json!(5), &json!(0)),
            "{mqtt} {tls}"
        );
        assert!(number(&json, "acknowledged") >= 25, "{json}");
        assert_balance(&json);
    }
}

#[test]
fn subscribers_count_what_they_receive() {
    let own = [
        "--devices",
        "10",
        "--duration",
        "1s",
        "--period",
        "100ms",
        "--subscribe",
        "fleet/{client_id}/+",
    ];
    let json = run(&own).expect_code(0).json();
    assert_eq!(json["subscribed"], 10);
    // Each device subscribes at its CONNACK, before its first publish.
    assert_eq!(
        (&json["received"], &json["lost"]),
        (&json["published"], &json!(0)),
        "{json}"
    );
    assert_eq!(json["endpoint_counts"]["deliveries"], json["received"]);

    // Nobody publishes there.
    let json = run(&[
        "--devices",
        "3",
        "--duration",
        "300ms",
        "--subscribe",
        "elsewhere",
    ])
    .expect_code(0)
    .json();
    assert_eq!((&json["subscribed"], &json["received"]), (&json!(3), &json!(0)));
}

#[test]
fn without_a_period_devices_only_connect() {
    let json = run(&["--devices", "5", "--duration", "200ms", "--period", "off"])
        .expect_code(0)
        .json();
    assert_eq!(
        (&json["connected_at_end"], &json["scheduled"]),
        (&json!(5), &json!(0))
    );
    assert_eq!(json["ack_latency_us"], Value::Null);
}

#[test]
fn two_threads_share_one_fleet() {
    let arguments = [
        "--devices",
        "21",
        "--duration",
        "1s",
        "--threads",
        "2",
        "--client-id",
        "pump-{index}-a",
    ];
    let json = run(&arguments).expect_code(0).json();
    assert_eq!(json["connected"], 21);
    assert_eq!(json["endpoint_counts"]["client_certificates"], 21);
    assert_balance(&json);
}

/// The ramp follows the connect rate: 11 devices at 10 a second take a second.
#[test]
fn the_connect_rate_is_kept() {
    let arguments = [
        "--devices",
        "11",
        "--connect-rate",
        "10",
        "--duration",
        "0s",
        "--period",
        "off",
    ];
    let json = run(&arguments).expect_code(0).json();
    let ramp = json["phases"]["ramp_seconds"].as_f64().unwrap();
    assert!((0.9..10.0).contains(&ramp), "{ramp}");
}
