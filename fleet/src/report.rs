//! The result of a run as one JSON object: the contract with programs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use serde::Serialize;

use crate::child::EndpointCounts;
use crate::latency::Quantiles;
use crate::problem::Problem;

/// Everything that a run found out. Fields are only ever added; `schema` counts changes that remove or redefine one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) version: &'static str,
    /// The command line, with the password left out.
    pub(crate) command: String,
    pub(crate) seed: u64,
    /// RFC 3339, UTC.
    pub(crate) started_at: String,
    /// Ctrl-C, SIGTERM or SIGHUP ended the run.
    pub(crate) interrupted: bool,
    /// Why nothing was started, or the run broke off.
    pub(crate) error: Option<ReportError>,
    pub(crate) endpoint: EndpointKind,
    /// What the child counted; `null` for an external broker.
    pub(crate) endpoint_counts: Option<EndpointCounts>,
    pub(crate) phases: Phases,
    pub(crate) devices: u64,
    /// Devices that had a CONNACK at least once.
    pub(crate) connected: u64,
    /// Devices that were connected when publishing stopped and everything was drained.
    pub(crate) connected_at_end: u64,
    /// Devices that tried and never had a CONNACK.
    pub(crate) failed: u64,
    /// Devices whose first attempt was not over when the run ended: 0 unless it was interrupted or broke off.
    pub(crate) undecided: u64,
    /// Devices by the cause that kept an attempt of theirs from connecting; one that met two causes is in both.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// First connections by negotiated ALPN name; `none` where there was none.
    pub(crate) alpn: BTreeMap<String, u64>,
    /// First connections by TLS version; `none` for plain TCP.
    pub(crate) tls_version: BTreeMap<String, u64>,
    /// From the start to the first connection of the last device that connected in the ramp.
    pub(crate) connect_seconds: f64,
    /// Slots of the publishing schedule: `published + missed`.
    pub(crate) scheduled: u64,
    /// Publishes accepted for sending; above QoS 0 `acknowledged + refused + lost`.
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    /// Acknowledged with a reason code of 0x80 or more.
    pub(crate) refused: u64,
    /// Publishes that arrived by `--subscribe`.
    pub(crate) received: u64,
    /// Publishes above QoS 0 without acknowledgement at the end of the drain.
    pub(crate) lost: u64,
    /// Slots in which nothing could be sent.
    pub(crate) missed: u64,
    pub(crate) missed_by: Missed,
    /// Whether the counts above add up to the message.
    pub(crate) balanced: bool,
    /// Connections that ended without being asked to.
    pub(crate) disconnects: u64,
    /// Devices by the cause that ended a connection of theirs.
    pub(crate) disconnect_reasons: BTreeMap<&'static str, u64>,
    /// Connections after a device's first.
    pub(crate) reconnects: u64,
    pub(crate) subscribed: u64,
    /// Filters that the broker did not grant.
    pub(crate) subscribe_refused: u64,
    /// The same by the code of the SUBACK, as `0x87`; `not_sent` where there was none.
    pub(crate) subscribe_refusals: BTreeMap<String, u64>,
    /// Times that a device's oldest publish passed `--ack-timeout` without acknowledgement.
    pub(crate) acks_late: u64,
    /// First connections of the ramp: from the moment that they were due to the CONNACK.
    pub(crate) connect_latency_us: Option<Quantiles>,
    /// Publishes of the hold phase: from the moment that they were due to the PUBACK. `null` at QoS 0.
    pub(crate) ack_latency_us: Option<Quantiles>,
    /// User and system time of this process, without the child, from the first dial to the end.
    pub(crate) cpu_seconds: f64,
    /// Resident memory of this process at the end of the hold phase.
    pub(crate) rss_bytes: u64,
    /// (RSS when all are connected - RSS before the first dial) / devices.
    pub(crate) rss_bytes_per_device: u64,
    /// Bytes of packets that were copied within this process.
    pub(crate) bytes_copied: u64,
    /// MQTT packets received, by type: `publish`, `pingresp`. Types of which there was none are missing.
    pub(crate) packets_in: BTreeMap<String, u64>,
    /// MQTT packets encoded for sockets, by type.
    pub(crate) packets_out: BTreeMap<String, u64>,
    /// The least time that a broker still had to wait, of one and a half keep-alives, when a device ended a silence that was
    /// longer than its keep-alive; negative when it came too late, `null` without such a silence.
    pub(crate) keep_alive_slack_us_min: Option<i64>,
    /// The most that such a device was late by its own keep-alive.
    pub(crate) keep_alive_late_us_max: u64,
    /// The most that a deadline of this process was late: how long a turn of an event loop took meanwhile.
    pub(crate) loop_lag_us_max: u64,
    /// What drove the sockets.
    pub(crate) driver: &'static str,
    /// This process could not keep its schedule, so latencies are upper bounds.
    pub(crate) overloaded: bool,
    pub(crate) overload: Overload,
}

/// Who the broker was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EndpointKind {
    Child,
    External,
}

/// Why a run did not take place, or broke off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReportError {
    pub(crate) slug: &'static str,
    pub(crate) text: String,
}

/// How long each phase took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Phases {
    /// Identities, endpoint, checks: before the first dial.
    pub(crate) prepare_seconds: f64,
    pub(crate) ramp_seconds: f64,
    pub(crate) hold_seconds: f64,
    pub(crate) drain_seconds: f64,
}

/// Slots in which nothing could be sent, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Missed {
    /// The device was not connected.
    pub(crate) offline: u64,
    /// Too many publishes were unacknowledged, or too many bytes unsent.
    pub(crate) window: u64,
    /// This process was late by a whole period.
    pub(crate) generator: u64,
    /// The broker's limits do not allow this publish: its Maximum QoS or Maximum Packet Size.
    pub(crate) forbidden: u64,
}

impl Missed {
    pub(crate) fn total(self) -> u64 {
        self.offline + self.window + self.generator + self.forbidden
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.offline += other.offline;
        self.window += other.window;
        self.generator += other.generator;
        self.forbidden += other.forbidden;
    }
}

/// How well this process kept its schedule in the hold phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Overload {
    /// Seconds of all threads that were looked at.
    pub(crate) bins: u64,
    /// Those in which 1 % of the publishes, and at least five, left too late, or as many slots were missed by this process.
    pub(crate) bins_overloaded: u64,
    /// The longest row of those.
    pub(crate) in_a_row: u64,
}

impl Overload {
    /// At least 1 % of the seconds, or three in a row.
    pub(crate) fn is_overloaded(self) -> bool {
        self.in_a_row >= 3 || (self.bins_overloaded > 0 && self.bins_overloaded * 100 >= self.bins)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.bins += other.bins;
        self.bins_overloaded += other.bins_overloaded;
        self.in_a_row = self.in_a_row.max(other.in_a_row);
    }
}

/// Where the JSON goes; opened before the run, so that a wrong path is found at once. It is written once: by the main
/// thread, or in its place by who ends the process by force.
#[derive(Clone, Debug)]
pub(crate) struct JsonOutput {
    is_stdout: bool,
    /// `None` when nothing is to be written, any more or at all.
    destination: Arc<Mutex<Option<Destination>>>,
}

#[derive(Debug)]
enum Destination {
    Stdout,
    File { path: String, file: File },
}

impl JsonOutput {
    pub(crate) fn open(flag: Option<&str>) -> Result<Self, Problem> {
        let destination = match flag {
            None => None,
            Some("-") => Some(Destination::Stdout),
            Some(path) => match File::create(path) {
                Ok(file) => Some(Destination::File {
                    path: path.to_owned(),
                    file,
                }),
                Err(error) => {
                    let text = format!("--json {path} cannot be written: {error}");
                    return Err(Problem::refused("json_file", text));
                }
            },
        };
        Ok(Self {
            is_stdout: matches!(destination, Some(Destination::Stdout)),
            destination: Arc::new(Mutex::new(destination)),
        })
    }

    /// Whether stdout belongs to the JSON.
    pub(crate) fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// Writes the object and a line end, unless it has been done.
    pub(crate) fn write(&self, report: &Report) -> Result<(), Problem> {
        let mut destination = self.destination.lock().unwrap_or_else(PoisonError::into_inner);
        match destination.take() {
            Some(destination) => destination.write(report),
            None => Ok(()),
        }
    }

    /// The same, except that it waits for nobody: who is writing already may be stuck.
    pub(crate) fn write_by_force(&self, report: &Report) -> Result<(), Problem> {
        let mut destination = match self.destination.try_lock() {
            Ok(destination) => destination,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        match destination.take() {
            Some(destination) => destination.write(report),
            None => Ok(()),
        }
    }
}

impl Destination {
    fn write(self, report: &Report) -> Result<(), Problem> {
        let failed = |what: &str, error: io::Error| {
            Problem::failed(format!("the JSON cannot be written to {what}: {error}"))
        };
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| Problem::failed(format!("the JSON cannot be made: {error}")))?;
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                writeln!(stdout, "{text}")
                    .and_then(|()| stdout.flush())
                    .map_err(|error| failed("stdout", error))
            }
            Self::File { path, mut file } => writeln!(file, "{text}").map_err(|error| failed(&path, error)),
        }
    }
}

/// The command line that was given, as it could be typed again, but for the password.
pub(crate) fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let mut line = String::from("fleetwire");
    let mut hide_next = false;
    for argument in arguments.into_iter().skip(1) {
        let shown = if std::mem::take(&mut hide_next) {
            "***".to_owned()
        } else if argument.starts_with("--password=") {
            "--password=***".to_owned()
        } else {
            hide_next = argument == "--password";
            quoted(argument)
        };
        line.push(' ');
        line.push_str(&shown);
    }
    line
}

/// As a POSIX shell takes it.
pub(crate) fn quoted(argument: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
