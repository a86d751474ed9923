//! The endpoint as a child process: how the run that starts it and the child speak with each other.
//!
//! The child writes two lines of JSON to its stdout: where it listens, and at its end what it counted. It ends when its
//! stdin closes, so it never outlives the run. It is in a process group of its own, so a Ctrl-C in the terminal reaches
//! only the run, which still needs it for the drain.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use fleetwire_codec::QoS;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::report::ReportError;
use crate::signals::Interrupts;
use crate::text::{self, count};

/// What the child says on its stdout, one JSON object per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// It listens there.
    Listening(SocketAddr),
    /// It has ended.
    Counted(EndpointCounts),
}

/// What the endpoint counted over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointCounts {
    /// Distinct client certificates (SHA-256 of the leaf) that came with a connection.
    pub(crate) client_certificates: u64,
    /// CONNECTs that were accepted.
    pub(crate) connections: u64,
    /// Connections that failed in their handshake, and CONNECTs that were refused.
    pub(crate) refused: u64,
    /// PUBLISHes that arrived.
    pub(crate) publishes: u64,
    /// PUBLISHes that were sent to subscribers.
    pub(crate) deliveries: u64,
    /// PUBLISHes that a subscriber should have got and did not.
    pub(crate) dropped: u64,
}

impl fmt::Display for EndpointCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} distinct client certificates, {} connections, {} refused; {} publishes received, {} delivered, {} dropped",
            count(self.client_certificates),
            count(self.connections),
            count(self.refused),
            count(self.publishes),
            count(self.deliveries),
            count(self.dropped)
        )
    }
}

impl Line {
    /// Writes the line to stdout, for the run to read.
    pub(crate) fn print(self) -> io::Result<()> {
        let text = serde_json::to_string(&self).map_err(io::Error::other)?;
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }
}

/// Waits until the run that started this process closes our stdin, which it does also by dying.
pub(crate) fn wait_for_parent() {
    let mut ignored = Vec::new();
    // An error means that nobody is there as well.
    let _ = io::Read::read_to_end(&mut io::stdin().lock(), &mut ignored);
}

/// A running endpoint; killed when it is dropped before [`Child::finish`].
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    started: Instant,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Child {
    /// Starts the endpoint on a free loopback port, with the CA and certificates of `state`, for a run at `qos`.
    pub(crate) fn start(state: &Path, qos: QoS, interrupts: &Interrupts) -> Result<Self, Problem> {
        let failed = |what: String| Problem::refused("endpoint_start", what);
        let program = std::env::current_exe()
            .map_err(|error| failed(format!("this program's own path is not known: {error}.")))?;
        let mut process = Command::new(program)
            .args(["endpoint", "--child", "--listen", "127.0.0.1:0", "--state"])
            .arg(state)
            .args(["--max-qos", &qos.max(QoS::AtLeastOnce).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("the endpoint cannot be started: {error}.")))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe");
        let mut child = Self {
            process,
            started: Instant::now(),
            stdin,
            lines: read_lines(stdout),
            address: UNSPECIFIED,
        };
        match child.next_line(|waited| waited >= START_MAX || interrupts.asked()) {
            Some(Line::Listening(address)) => {
                child.address = address;
                Ok(child)
            }
            _ if interrupts.asked() => Err(Problem::Interrupted),
            _ => Err(failed(match child.ended_soon() {
                Some(ended) => format!("{ended} before it listened; its own words stand above."),
                None => format!(
                    "the endpoint did not say where it listens within {} s: this machine may be overloaded.",
                    START_MAX.as_secs()
                ),
            })),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why it has ended, if it has: it should not before [`finish`](Self::finish).
    pub(crate) fn died(&mut self) -> Option<ReportError> {
        match self.process.try_wait() {
            Ok(Some(status)) => Some(died(self.describe(status))),
            _ => None,
        }
    }

    /// Ends it, and answers what it counted.
    pub(crate) fn finish(mut self, interrupts: &Interrupts) -> Result<EndpointCounts, ReportError> {
        self.stdin = None;
        let (mut told, mut patience) = (false, FINISH_MAX);
        let line = self.next_line(|waited| {
            if waited >= TELL_AFTER && !told {
                crate::tell("waiting for the endpoint...");
                told = true;
            }
            if interrupts.asked() {
                patience = INTERRUPTED_FINISH_MAX;
            }
            waited >= patience
        });
        match line {
            Some(Line::Counted(counts)) => {
                // It has said its last word; how it exits after that changes nothing.
                let _ = self.process.wait();
                Ok(counts)
            }
            _ => Err(match self.ended_soon() {
                Some(ended) => died(ended),
                None => ReportError {
                    slug: "endpoint_silent",
                    text: format!(
                        "the endpoint did not say within {} s what it counted: it is stopped or this machine is \
                         overloaded. Run again with fewer --devices, or with `fleetwire endpoint` and --broker",
                        patience.as_secs()
                    ),
                },
            }),
        }
    }

    /// The next line, unless there is no more or `give_up`, which is told how long it has taken, says so.
    fn next_line(&self, mut give_up: impl FnMut(Duration) -> bool) -> Option<Line> {
        let begun = Instant::now();
        loop {
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => return serde_json::from_str(&line).ok(),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if give_up(begun.elapsed()) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// How it ended, if it has or does so at once.
    fn ended_soon(&mut self) -> Option<String> {
        // Its stdout closes a moment before it can be waited for.
        for _ in 0..10 {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(self.describe(status));
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// `the endpoint died (signal 9) after 2.5 s`
    fn describe(&self, status: ExitStatus) -> String {
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal {signal}"),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => status.to_string(),
        };
        format!(
            "the endpoint died ({how}) after {}",
            text::duration(self.started.elapsed())
        )
    }
}

fn died(text: String) -> ReportError {
    ReportError {
        slug: "endpoint_died",
        text,
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // It may just have ended by itself, which is as good.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Reads lines on a thread of its own, so that waiting for one has a bound.
fn read_lines(stdout: impl io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(4);
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

const UNSPECIFIED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
/// Making keys and binding a port takes milliseconds; a loaded machine gets more.
const START_MAX: Duration = Duration::from_secs(20);
/// Closing thousands of connections takes less.
const FINISH_MAX: Duration = Duration::from_secs(20);
/// Who presses Ctrl-C does not want to wait long.
const INTERRUPTED_FINISH_MAX: Duration = Duration::from_secs(2);
/// When the wait has to be explained.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// How soon an interrupt is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_way_through_a_pipe() {
        let counts = EndpointCounts {
            client_certificates: 1_000,
            connections: 1_001,
            refused: 2,
            publishes: 12_345,
            deliveries: 0,
            dropped: 0,
        };
        let listening = Line::Listening("127.0.0.1:40123".parse().unwrap());
        assert_eq!(
            serde_json::to_string(&listening).unwrap(),
            r#"{"listening":"127.0.0.1:40123"}"#
        );
        for line in [listening, Line::Counted(counts)] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        }
        assert_eq!(
            counts.to_string(),
            "1,000 distinct client certificates, 1,001 connections, 2 refused; 12,345 publishes received, 0 delivered, 0 dropped"
        );
    }
}
