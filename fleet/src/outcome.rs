//! From counters and measurements to the report, the summary and the exit code.

use std::collections::BTreeMap;

use fleetwire_codec::PacketType;
use fleetwire_engine::Stats;

use crate::advice::Circumstances;
use crate::child::EndpointCounts;
use crate::devices::{Devices, Run};
use crate::failures::{Group, devices_by_slug};
use crate::problem::{Exit, Problem};
use crate::refusals::Refusals;
use crate::report::{EndpointKind, Missed, Overload, Phases, Report, ReportError};
use crate::scenario::{Scenario, Target};
use crate::summary::Summary;
use crate::tally::Tally;
use crate::template::Template;

/// What the main thread measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) phases: Phases,
    pub(crate) connected_at_end: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) rss_growth_bytes: u64,
    /// What the engine has counted.
    pub(crate) stats: Stats,
    pub(crate) driver: &'static str,
    pub(crate) interrupted: bool,
    /// `None` for an external broker.
    pub(crate) endpoint_counts: Option<Result<EndpointCounts, ReportError>>,
    /// Threads that ended by a fault, with its text.
    pub(crate) failed_threads: Vec<(usize, String)>,
}

/// A run that took place.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    failures: Vec<Group>,
    disconnects: Vec<Group>,
    subscribe_refusals: Refusals,
    circumstances: Circumstances,
    client_id: Template,
    publish_qos: Option<u8>,
    subscribes: bool,
}

impl Outcome {
    pub(crate) fn new(
        run: &Run,
        threads: Vec<Devices>,
        measured: Measured,
        circumstances: Circumstances,
        blank: Report,
    ) -> Self {
        let mut tally = Tally::new();
        threads
            .into_iter()
            .for_each(|devices| tally.add(devices.into_tally()));
        let scenario = &run.scenario;
        let with_acknowledgements = scenario.qos as u8 > 0;
        let (endpoint_counts, endpoint_error) = match measured.endpoint_counts.transpose() {
            Ok(counts) => (counts, None),
            Err(error) => (None, Some(error)),
        };
        // What our own endpoint took has to lie between what was acknowledged and what was sent.
        let endpoint_agrees = endpoint_counts
            .is_none_or(|counts| (tally.acknowledged..=tally.published).contains(&counts.publishes));
        let balanced = tally.balances(with_acknowledgements) && endpoint_agrees;
        let failures = tally.failures.into_groups();
        let disconnects = tally.disconnect_causes.into_groups();
        let connect_seconds = tally.last_connected_in_ramp.map_or(0.0, |last| {
            last.saturating_duration_since(run.window.origin()).as_secs_f64()
        });
        let thread_error = measured.failed_threads.first().map(|(thread, text)| ReportError {
            slug: "thread_failed",
            text: format!("thread {thread} {text}; its devices are not counted"),
        });
        let devices = u64::from(scenario.devices);
        let report = Report {
            interrupted: measured.interrupted,
            error: thread_error.or(endpoint_error),
            endpoint_counts,
            phases: measured.phases,
            connected: tally.connected,
            connected_at_end: measured.connected_at_end,
            failed: tally.decided.saturating_sub(tally.connected),
            undecided: devices.saturating_sub(tally.decided),
            failures: devices_by_slug(&failures),
            alpn: tally.alpn,
            tls_version: tally.tls_version,
            connect_seconds,
            scheduled: tally.scheduled,
            published: tally.published,
            acknowledged: tally.acknowledged,
            refused: tally.refused,
            received: tally.received,
            lost: tally.dropped,
            missed: tally.missed.total(),
            missed_by: tally.missed,
            balanced,
            disconnects: tally.disconnects,
            disconnect_reasons: devices_by_slug(&disconnects),
            reconnects: tally.reconnects,
            subscribed: tally.subscribed,
            subscribe_refused: tally.subscribe_refusals.total(),
            subscribe_refusals: tally.subscribe_refusals.by_code(),
            acks_late: tally.acks_late,
            connect_latency_us: tally.connect_latency.quantiles(),
            ack_latency_us: tally.ack_latency.quantiles(),
            cpu_seconds: measured.cpu_seconds,
            rss_bytes: measured.rss_bytes,
            rss_bytes_per_device: measured.rss_growth_bytes / devices.max(1),
            bytes_copied: measured.stats.bytes_copied,
            packets_in: packets(|packet_type| measured.stats.packets_in_of(packet_type)),
            packets_out: packets(|packet_type| measured.stats.packets_out_of(packet_type)),
            keep_alive_slack_us_min: measured.stats.keep_alive_slack_us_min,
            keep_alive_late_us_max: measured.stats.keep_alive_late_us_max,
            loop_lag_us_max: measured.stats.lag_us_max,
            driver: measured.driver,
            overloaded: tally.overload.is_overloaded(),
            overload: tally.overload,
            ..blank
        };
        let circumstances = Circumstances {
            nobody_connected: report.connected == 0,
            connected_per_second: report.connected as f64 / report.phases.ramp_seconds.max(0.001),
            ..circumstances
        };
        Self {
            report,
            failures,
            disconnects,
            subscribe_refusals: tally.subscribe_refusals,
            circumstances,
            client_id: scenario.client_id.clone(),
            publish_qos: scenario.period.map(|_| scenario.qos as u8),
            subscribes: scenario.subscribe.is_some(),
        }
    }

    /// For people.
    pub(crate) fn summary<'a>(&'a self, broker: &'a str) -> Summary<'a> {
        Summary {
            report: &self.report,
            broker,
            failures: &self.failures,
            disconnects: &self.disconnects,
            subscribe_refusals: &self.subscribe_refusals,
            circumstances: &self.circumstances,
            client_id: &self.client_id,
            publish_qos: self.publish_qos,
            subscribes: self.subscribes,
        }
    }

    /// For the shell.
    pub(crate) fn exit(&self) -> Exit {
        exit_of(&self.report)
    }
}

fn exit_of(report: &Report) -> Exit {
    let all_connected = report.connected == report.devices && report.connected_at_end == report.devices;
    let nothing_lost = report.lost == 0 && report.refused == 0 && report.subscribe_refused == 0;
    if report.interrupted {
        Exit::Interrupted
    } else if all_connected && nothing_lost && report.balanced && report.error.is_none() {
        Exit::Done
    } else {
        Exit::Failed
    }
}

impl Report {
    /// The report of a run that has not begun.
    pub(crate) fn blank(scenario: &Scenario, command: String, started_at: String) -> Self {
        Self {
            schema: 1,
            version: env!("CARGO_PKG_VERSION"),
            command,
            seed: scenario.seed,
            started_at,
            interrupted: false,
            error: None,
            endpoint: match scenario.target {
                Target::Child => EndpointKind::Child,
                Target::Broker(_) => EndpointKind::External,
            },
            endpoint_counts: None,
            phases: Phases::default(),
            devices: scenario.devices.into(),
            connected: 0,
            connected_at_end: 0,
            failed: 0,
            undecided: scenario.devices.into(),
            failures: Default::default(),
            alpn: Default::default(),
            tls_version: Default::default(),
            connect_seconds: 0.0,
            scheduled: 0,
            published: 0,
            acknowledged: 0,
            refused: 0,
            received: 0,
            lost: 0,
            missed: 0,
            missed_by: Missed::default(),
            balanced: true,
            disconnects: 0,
            disconnect_reasons: Default::default(),
            reconnects: 0,
            subscribed: 0,
            subscribe_refused: 0,
            subscribe_refusals: Default::default(),
            acks_late: 0,
            connect_latency_us: None,
            ack_latency_us: None,
            cpu_seconds: 0.0,
            rss_bytes: 0,
            rss_bytes_per_device: 0,
            bytes_copied: 0,
            packets_in: BTreeMap::new(),
            packets_out: BTreeMap::new(),
            keep_alive_slack_us_min: None,
            keep_alive_late_us_max: 0,
            loop_lag_us_max: 0,
            driver: "none",
            overloaded: false,
            overload: Overload::default(),
        }
    }

    /// With the reason why nothing was begun.
    pub(crate) fn with_problem(self, problem: &Problem) -> Self {
        let slug = match problem {
            Problem::Usage(_) => "usage",
            Problem::Refused { slug, .. } => slug,
            Problem::Failed(_) => "failed",
            Problem::Interrupted => return self.interrupted(),
        };
        let text = problem.text().to_owned();
        Self {
            error: Some(ReportError { slug, text }),
            ..self
        }
    }

    /// Of a run that was interrupted before there was anything to tell.
    pub(crate) fn interrupted(self) -> Self {
        Self {
            interrupted: true,
            ..self
        }
    }
}

/// The packets of each type that there were any of.
fn packets(count: impl Fn(PacketType) -> u64) -> BTreeMap<String, u64> {
    (1..16)
        .filter_map(|number: u8| PacketType::from_first_byte(number << 4))
        .map(|packet_type| (format!("{packet_type:?}").to_lowercase(), count(packet_type)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::good_report;

    #[test]
    fn the_exit_code_says_how_it_went() {
        let good = good_report();
        assert_eq!(exit_of(&good), Exit::Done);
        for wrong in [
            Report {
                connected: 999,
                failed: 1,
                ..good.clone()
            },
            Report {
                lost: 1,
                ..good.clone()
            },
            Report {
                refused: 1,
                ..good.clone()
            },
            Report {
                balanced: false,
                ..good.clone()
            },
            Report {
                subscribe_refused: 1,
                ..good.clone()
            },
            good.clone().with_problem(&Problem::failed("x")),
        ] {
            assert_eq!(exit_of(&wrong), Exit::Failed, "{wrong:?}");
        }
        assert_eq!(
            exit_of(&Report {
                interrupted: true,
                ..good.clone()
            }),
            Exit::Interrupted
        );
        assert_eq!(exit_of(&Report { missed: 5, ..good }), Exit::Done);
        assert_eq!(
            [
                Exit::Done,
                Exit::Failed,
                Exit::Usage,
                Exit::Refused,
                Exit::Interrupted
            ]
            .map(Exit::code),
            [0, 1, 2, 3, 130]
        );
    }

    #[test]
    fn a_refused_start_has_a_report_too() {
        let report = good_report().with_problem(&Problem::refused("open_files", "too few"));
        assert_eq!(
            report.error,
            Some(ReportError {
                slug: "open_files",
                text: "too few".to_owned()
            })
        );
    }
}
