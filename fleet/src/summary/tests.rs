use std::time::Instant;

use super::*;
use crate::refusals::Refused;
use crate::report::tests::good_report;
use crate::report::{Missed, Overload};

fn text(report: &Report, failures: &[Group], circumstances: &Circumstances) -> String {
    Summary {
        report,
        broker: "own endpoint (child process) at 127.0.0.1:40123",
        failures,
        disconnects: &[],
        subscribe_refusals: &refusals(),
        circumstances,
        client_id: &Template::parse_client_id("device-{index}").unwrap(),
        publish_qos: Some(1),
        subscribes: report.subscribe_refused > 0,
    }
    .to_string()
}

fn refusals() -> Refusals {
    let mut refusals = Refusals::default();
    refusals.record(Refused::Code(0x87), 3, Instant::now());
    refusals
}

#[test]
fn refused_subscriptions_are_shown_with_device_and_next_step() {
    let report = Report {
        subscribe_refused: 1,
        ..good_report()
    };
    let text = text(&report, &[], &Circumstances::default());
    assert!(
        text.contains("subscribed:   0, 1 refused\n  0x87 1, first device-3: Not authorized. A policy"),
        "{text}"
    );
}

#[test]
fn a_good_run() {
    let expected = "\
broker:       own endpoint (child process) at 127.0.0.1:40123
devices:      1,000
connected:    1,000, 1,000 at the end, ramp 2.0 s
failed:       0
negotiated:   ALPN x-amzn-mqtt-ca 1,000; TLS 1.3 1,000
published:    11,000 of 11,000 scheduled, 0 missed
acknowledged: 11,000
lost:         0
latency                       p50        p90        p99      p99.9        max
  connect (ramp)          1.20 ms    2.40 ms    4.80 ms    9.60 ms    19.2 ms
  publish (hold)           150 us     300 us     600 us    1.20 ms    2.40 ms
time:         prepare 0.2 s, ramp 2.0 s, hold 10.0 s, drain 0.1 s
CPU:          1.25 s (this process, driver mio)
memory:       30.0 MiB, 4.2 KiB per device, 0 B copied
seed:         7
";
    assert_eq!(text(&good_report(), &[], &Circumstances::default()), expected);
}

#[test]
fn a_failure_is_one_line_with_evidence_and_next_step() {
    let mut report = good_report();
    (report.connected, report.failed) = (999, 1);
    let failure = Group {
        slug: "client_cert_unknown_ca",
        devices: 1,
        times: 4,
        first_index: 17,
        first_at: Instant::now(),
        stage: "tls",
        text: "the server does not trust the issuer of the client certificate (alert 48 received)".to_owned(),
        reason: None,
    };
    let text = text(&report, &[failure], &Circumstances::default());
    assert!(
        text.contains(
            "failed:       1\n  client_cert_unknown_ca 1/1,000 (4 times), first device-17, tls: the server does not trust \
             the issuer of the client certificate (alert 48 received). The server does not know the CA"
        ),
        "{text}"
    );
}

#[test]
fn what_the_other_side_says_cannot_steer_the_terminal() {
    assert_eq!(sentence("reason \u{1b}[2Jx\r\n"), "reason \u{fffd}[2Jx.");
}

#[test]
fn an_overloaded_generator_is_said_first_and_lost_messages_bound_the_quantiles() {
    let mut report = good_report();
    report.overloaded = true;
    report.interrupted = true;
    report.overload = Overload {
        bins: 60,
        bins_overloaded: 14,
        in_a_row: 3,
    };
    (report.published, report.acknowledged, report.lost, report.missed) = (10_990, 10_980, 10, 10);
    report.missed_by = Missed {
        offline: 1,
        window: 2,
        generator: 6,
        forbidden: 1,
    };
    report.ack_latency_us.as_mut().unwrap().at_least = vec!["p999", "max"];
    let text = text(&report, &[], &Circumstances::default());
    assert!(
        text.starts_with("GENERATOR OVERLOADED 14 of 60 s: latencies are upper bounds\nINTERRUPTED"),
        "{text}"
    );
    for part in [
        "published:    10,990 of 11,000 scheduled, 10 missed (1 offline, 2 window full, 6 generator late, 1 forbidden by the broker's limits)\n",
        "lost:         10 (no acknowledgement at the end of the drain)\n",
        "  >=1.20 ms  >=2.40 ms\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn counts_that_do_not_add_up_are_not_hidden() {
    let report = Report {
        balanced: false,
        ..good_report()
    };
    assert!(text(&report, &[], &Circumstances::default()).contains("DO NOT ADD UP"));
}
