//! The result of a run for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::advice::{self, Circumstances};
use crate::failures::Group;
use crate::latency::Quantiles;
use crate::refusals::Refusals;
use crate::report::Report;
use crate::template::Template;
use crate::text::{bytes, count, micros, seconds};

/// A report, and what has to be known to put it into words.
#[derive(Clone, Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) report: &'a Report,
    /// Where the fleet connected to.
    pub(crate) broker: &'a str,
    /// What kept attempts from connecting.
    pub(crate) failures: &'a [Group],
    /// What ended connections.
    pub(crate) disconnects: &'a [Group],
    /// Why filters were not granted.
    pub(crate) subscribe_refusals: &'a Refusals,
    pub(crate) circumstances: &'a Circumstances,
    pub(crate) client_id: &'a Template,
    /// 0 or 1; `None` when nothing was to be published.
    pub(crate) publish_qos: Option<u8>,
    pub(crate) subscribes: bool,
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        if report.overloaded {
            let overload = report.overload;
            writeln!(
                f,
                "GENERATOR OVERLOADED {} of {} s: latencies are upper bounds",
                overload.bins_overloaded, overload.bins
            )?;
        }
        if report.interrupted {
            writeln!(f, "INTERRUPTED: what follows is what there was until then")?;
        }
        if let Some(error) = &report.error {
            writeln!(f, "BROKEN OFF ({}): {}", error.slug, error.text)?;
        }
        line(f, "broker", self.broker)?;
        line(f, "devices", count(report.devices))?;
        self.connections(f)?;
        self.messages(f)?;
        self.latencies(f)?;
        self.machine(f)
    }
}

impl Summary<'_> {
    fn connections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let at_end = count(report.connected_at_end);
        line(
            f,
            "connected",
            format_args!(
                "{}, {at_end} at the end, ramp {}",
                count(report.connected),
                seconds(report.phases.ramp_seconds)
            ),
        )?;
        let attempts = if report.failed == 0 && !self.failures.is_empty() {
            " (single attempts did)"
        } else {
            ""
        };
        match report.undecided {
            0 => line(f, "failed", format_args!("{}{attempts}", count(report.failed)))?,
            undecided => line(
                f,
                "failed",
                format_args!("{}, {} undecided", count(report.failed), count(undecided)),
            )?,
        }
        self.causes(f, self.failures)?;
        if report.connected > 0 {
            line(
                f,
                "negotiated",
                format_args!("ALPN {}; TLS {}", names(&report.alpn), names(&report.tls_version)),
            )?;
        }
        if report.disconnects > 0 || report.reconnects > 0 {
            line(
                f,
                "disconnects",
                format_args!(
                    "{}, then {} reconnects",
                    count(report.disconnects),
                    count(report.reconnects)
                ),
            )?;
            self.causes(f, self.disconnects)?;
        }
        Ok(())
    }

    fn causes(&self, f: &mut Formatter<'_>, groups: &[Group]) -> fmt::Result {
        for group in groups {
            let client_id = self.client_id.render_client_id(group.first_index);
            write!(
                f,
                "  {} {}/{}",
                group.slug,
                count(group.devices),
                count(self.report.devices)
            )?;
            if group.times > group.devices {
                write!(f, " ({} times)", count(group.times))?;
            }
            write!(
                f,
                ", first {client_id}, {}: {}",
                group.stage,
                sentence(&group.text)
            )?;
            let circumstances = Circumstances {
                client_id,
                ..self.circumstances.clone()
            };
            match advice::next_step(group.slug, group.reason, &circumstances) {
                next_step if next_step.is_empty() => writeln!(f)?,
                next_step => writeln!(f, " {next_step}")?,
            }
        }
        Ok(())
    }

    fn messages(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        if let Some(qos) = self.publish_qos {
            line(
                f,
                "published",
                format_args!(
                    "{} of {} scheduled, {} missed{}",
                    count(report.published),
                    count(report.scheduled),
                    count(report.missed),
                    self.missed_by()
                ),
            )?;
            if qos == 0 {
                line(f, "acknowledged", "none are expected at QoS 0")?;
            } else {
                line(f, "acknowledged", count(report.acknowledged))?;
                if report.refused > 0 {
                    line(
                        f,
                        "refused",
                        format_args!(
                            "{} (PUBACK with a reason code of 0x80 or more)",
                            count(report.refused)
                        ),
                    )?;
                }
                line(
                    f,
                    "lost",
                    format_args!(
                        "{}{}",
                        count(report.lost),
                        if report.lost > 0 {
                            " (no acknowledgement at the end of the drain)"
                        } else {
                            ""
                        }
                    ),
                )?;
            }
            if !report.balanced {
                writeln!(
                    f,
                    "THE COUNTS DO NOT ADD UP: this is a fault of fleetwire, please report it with the seed"
                )?;
            }
            if report.acks_late > 0 {
                line(
                    f,
                    "acks late",
                    format_args!(
                        "{} times a device's oldest publish passed --ack-timeout",
                        count(report.acks_late)
                    ),
                )?;
            }
        }
        if self.subscribes {
            line(
                f,
                "subscribed",
                format_args!(
                    "{}, {} refused",
                    count(report.subscribed),
                    count(report.subscribe_refused)
                ),
            )?;
            for (refused, refusal) in self.subscribe_refusals.iter() {
                let client_id = self.client_id.render_client_id(refusal.first_index);
                writeln!(
                    f,
                    "  {refused} {}, first {client_id}: {}",
                    count(refusal.filters),
                    refused.next_step()
                )?;
            }
            line(f, "received", count(report.received))?;
        }
        Ok(())
    }

    fn missed_by(&self) -> String {
        let missed = self.report.missed_by;
        if missed.total() == 0 {
            return String::new();
        }
        format!(
            " ({} offline, {} window full, {} generator late, {} forbidden by the broker's limits)",
            count(missed.offline),
            count(missed.window),
            count(missed.generator),
            count(missed.forbidden)
        )
    }

    fn latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        if report.connect_latency_us.is_none() && report.ack_latency_us.is_none() {
            return Ok(());
        }
        writeln!(
            f,
            "{:<22}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        if let Some(quantiles) = &report.connect_latency_us {
            quantile_line(f, "  connect (ramp)", quantiles)?;
        }
        if let Some(quantiles) = &report.ack_latency_us {
            quantile_line(f, "  publish (hold)", quantiles)?;
        }
        Ok(())
    }

    fn machine(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        if let Some(counts) = &report.endpoint_counts {
            line(f, "endpoint", counts)?;
        }
        let phases = report.phases;
        line(
            f,
            "time",
            format_args!(
                "prepare {}, ramp {}, hold {}, drain {}",
                seconds(phases.prepare_seconds),
                seconds(phases.ramp_seconds),
                seconds(phases.hold_seconds),
                seconds(phases.drain_seconds)
            ),
        )?;
        line(
            f,
            "CPU",
            format_args!(
                "{:.2} s (this process, driver {})",
                report.cpu_seconds, report.driver
            ),
        )?;
        line(
            f,
            "memory",
            format_args!(
                "{}{}, {} copied",
                bytes(report.rss_bytes),
                match report.devices {
                    // What few devices take is lost among what the process takes anyway.
                    0..100 => String::new(),
                    _ => format!(", {} per device", bytes(report.rss_bytes_per_device)),
                },
                bytes(report.bytes_copied)
            ),
        )?;
        line(f, "seed", report.seed)
    }
}

fn line(f: &mut Formatter<'_>, name: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "{:<14}{value}", format!("{name}:"))
}

fn quantile_line(f: &mut Formatter<'_>, name: &str, quantiles: &Quantiles) -> fmt::Result {
    write!(f, "{name:<22}")?;
    let Quantiles {
        p50,
        p90,
        p99,
        p999,
        max,
        ..
    } = quantiles;
    for (name, value) in [
        ("p50", p50),
        ("p90", p90),
        ("p99", p99),
        ("p999", p999),
        ("max", max),
    ] {
        let at_least = if quantiles.at_least.contains(&name) {
            ">="
        } else {
            ""
        };
        write!(f, "{:>11}", format!("{at_least}{}", micros(*value)))?;
    }
    writeln!(f)
}

/// `x-amzn-mqtt-ca 1,000, none 3`
fn names(counts: &BTreeMap<String, u64>) -> String {
    counts
        .iter()
        .map(|(name, number)| format!("{name} {}", count(*number)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A text as a sentence of its own. It may come from the other side, so nothing in it reaches the terminal's controls.
fn sentence(text: &str) -> String {
    let text: String = text
        .trim_end()
        .chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if text.ends_with(['.', '?', '!']) {
        text
    } else {
        text + "."
    }
}

#[cfg(test)]
mod tests;
