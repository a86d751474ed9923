//! `--dry-run`: what a run would do.

use std::fmt::Write;

use crate::broker::MUTUAL_TLS_ALPN;
use crate::identities::Identities;
use crate::preflight::Preflight;
use crate::scenario::{Scenario, Target, Trust};
use crate::text::{count, duration, seconds};

/// The plan, one line per subject. `addresses` are those of an external broker.
pub(crate) fn plan_text(
    scenario: &Scenario,
    identities: &Identities,
    preflight: Preflight,
    addresses: &str,
) -> String {
    let mut text = String::from("Dry run: nothing was dialled.\n");
    for (name, value) in broker_lines(scenario, identities, addresses)
        .into_iter()
        .chain(fleet_lines(scenario))
        .chain(limit_lines(scenario, preflight))
    {
        writeln!(text, "{:<14}{value}", format!("{name}:")).expect("a String takes everything");
    }
    text
}

type Lines = Vec<(&'static str, String)>;

fn broker_lines(scenario: &Scenario, identities: &Identities, addresses: &str) -> Lines {
    let broker = match &scenario.target {
        Target::Child => {
            return vec![
                (
                    "broker",
                    "own endpoint, a child process on a free loopback port".to_owned(),
                ),
                (
                    "TLS",
                    format!(
                        "name localhost, ALPN {MUTUAL_TLS_ALPN}, {}, trusts the endpoint's throw-away CA",
                        versions(scenario)
                    ),
                ),
                (
                    "identities",
                    format!(
                        "{} throw-away certificates, one per device",
                        count(scenario.devices.into())
                    ),
                ),
            ];
        }
        Target::Broker(broker) => broker,
    };
    let mut lines = vec![
        ("broker", broker.to_string()),
        ("addresses", addresses.to_owned()),
    ];
    match &broker.tls {
        None => lines.push(("TLS", "none: plain TCP".to_owned())),
        Some(tls) => {
            let alpn = if tls.alpn.is_empty() {
                "none".to_owned()
            } else {
                tls.alpn.join(",")
            };
            let trust = match &scenario.trust {
                Trust::System => "trusts the system's roots".to_owned(),
                Trust::File(file) => format!("trusts {}", file.display()),
                Trust::Anybody => "trusts anybody (--insecure)".to_owned(),
            };
            let sni = if tls.server_name.parse::<std::net::IpAddr>().is_ok() {
                "address"
            } else {
                "SNI"
            };
            lines.push((
                "TLS",
                format!(
                    "{sni} {}, ALPN {alpn}, {}, {trust}",
                    tls.server_name,
                    versions(scenario)
                ),
            ));
            lines.push(("identities", identities.describe()));
        }
    }
    lines
}

fn versions(scenario: &Scenario) -> &'static str {
    match scenario.tls_version {
        None => "TLS 1.3 or 1.2",
        Some(crate::arguments::TlsVersion::V1_2) => "TLS 1.2 only",
        Some(crate::arguments::TlsVersion::V1_3) => "TLS 1.3 only",
    }
}

fn fleet_lines(scenario: &Scenario) -> Lines {
    let last = scenario.devices as usize - 1;
    let names = match last {
        0 => scenario.client_id(0),
        last => format!("{} to {}", scenario.client_id(0), scenario.client_id(last)),
    };
    let keep_alive = match scenario.keep_alive_secs {
        0 => "no keep-alive".to_owned(),
        secs => format!("keep-alive {secs} s"),
    };
    let mut lines = vec![(
        "devices",
        format!(
            "{}, {names}, MQTT {}, {keep_alive}",
            count(scenario.devices.into()),
            scenario.version
        ),
    )];
    let qos = scenario.qos as u8;
    lines.push(match scenario.period {
        None => ("publishes", "none (--period off)".to_owned()),
        Some(period) => (
            "publishes",
            format!(
                "each device every {} to {}, {} bytes, QoS {qos}: {:.0} per second",
                humantime::format_duration(period),
                scenario.topic,
                count(scenario.payload_size as u64),
                f64::from(scenario.devices) / period.as_secs_f64()
            ),
        ),
    });
    if let Some(filter) = &scenario.subscribe {
        lines.push(("subscribes", format!("{filter}, QoS {qos}")));
    }
    let ramp = f64::from(scenario.devices) / scenario.connect_rate;
    lines.push((
        "time",
        format!(
            "ramp about {} ({} connections per second), hold {}, drain at most {}",
            seconds(ramp),
            scenario.connect_rate,
            duration(scenario.duration),
            duration(scenario.drain)
        ),
    ));
    lines
}

fn limit_lines(scenario: &Scenario, preflight: Preflight) -> Lines {
    let open_files = format!(
        "{} needed, hard limit {}",
        count(preflight.open_files_needed),
        count(preflight.open_files_hard)
    );
    let ports = match preflight.source_ports {
        None => "not known on this system".to_owned(),
        Some(ports) => format!(
            "{} needed, {} there",
            count(scenario.devices.into()),
            count(ports)
        ),
    };
    vec![
        ("open files", open_files),
        ("source ports", ports),
        ("threads", scenario.threads.to_string()),
        ("seed", scenario.seed.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Cli, Command};

    fn text(arguments: &[&str]) -> String {
        let all = ["fleetwire", "run", "--seed", "7"].iter().chain(arguments);
        let Command::Run(run) = Cli::try_parse_from(all).unwrap().command else {
            panic!("not run")
        };
        let scenario = Scenario::new(&run).unwrap();
        let preflight = Preflight {
            open_files_needed: 1_064,
            open_files_hard: 20_000,
            source_ports: Some(28_232),
        };
        plan_text(
            &scenario,
            &Identities::None,
            preflight,
            "192.0.2.1:443, [2001:db8::1]:443",
        )
    }

    #[test]
    fn the_plan_of_the_main_job() {
        let expected = "\
Dry run: nothing was dialled.
broker:       own endpoint, a child process on a free loopback port
TLS:          name localhost, ALPN x-amzn-mqtt-ca, TLS 1.3 or 1.2, trusts the endpoint's throw-away CA
identities:   1,000 throw-away certificates, one per device
devices:      1,000, device-0 to device-999, MQTT 5.0, keep-alive 60 s
publishes:    each device every 1s to fleet/{client_id}/telemetry, 64 bytes, QoS 1: 1000 per second
time:         ramp about 2.0 s (500 connections per second), hold 10.0 s, drain at most 5.0 s
open files:   1,064 needed, hard limit 20,000
source ports: 1,000 needed, 28,232 there
threads:      1
seed:         7
";
        assert_eq!(text(&[]), expected);
    }

    #[test]
    fn the_plan_names_addresses_sni_and_alpn() {
        let aws = text(&[
            "--broker",
            "mqtts://a-ats.iot.eu-west-1.amazonaws.com:443",
            "--tls",
            "1.3",
            "--period",
            "off",
            "--subscribe",
            "a/#",
            "--devices",
            "1",
            "--keep-alive",
            "0s",
        ]);
        for part in [
            "broker:       mqtts://a-ats.iot.eu-west-1.amazonaws.com:443\n",
            "addresses:    192.0.2.1:443, [2001:db8::1]:443\n",
            "SNI a-ats.iot.eu-west-1.amazonaws.com, ALPN x-amzn-mqtt-ca, TLS 1.3 only, trusts the system's roots\n",
            "identities:   none\n",
            "1, device-0, MQTT 5.0, no keep-alive\n",
            "publishes:    none (--period off)\n",
            "subscribes:   a/#, QoS 1\n",
        ] {
            assert!(aws.contains(part), "no {part:?} in\n{aws}");
        }
        assert!(text(&["--broker", "mqtt://127.0.0.1"]).contains("none: plain TCP"));
    }
}
