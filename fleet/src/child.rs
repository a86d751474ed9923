//! The endpoint as a child process: how the run that starts it and the child speak with each other.
//!
//! The child writes two lines of JSON to its stdout: where it listens, and at its end what it counted. It ends when its
//! stdin closes, so it never outlives the run. It is in a process group of its own, so a Ctrl-C in the terminal reaches
//! only the run, which still needs it for the drain.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::text::count;

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
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Child {
    /// Starts the endpoint on a free loopback port, with the CA and certificates of `state`.
    pub(crate) fn start(state: &Path) -> Result<Self, Problem> {
        let failed = |what: String| Problem::refused("endpoint_start", what);
        let program = std::env::current_exe()
            .map_err(|error| failed(format!("this program's own path is not known: {error}.")))?;
        let mut process = Command::new(program)
            .args(["endpoint", "--child", "--listen", "127.0.0.1:0", "--state"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("the endpoint cannot be started: {error}.")))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe");
        let mut child = Self {
            process,
            stdin,
            lines: read_lines(stdout),
            address: UNSPECIFIED,
        };
        match child.next_line(START_MAX) {
            Some(Line::Listening(address)) => {
                child.address = address;
                Ok(child)
            }
            _ => Err(failed(format!(
                "the endpoint did not say where it listens{}.",
                child.how_it_ended()
            ))),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, and answers what it counted.
    pub(crate) fn finish(mut self) -> Result<EndpointCounts, Problem> {
        self.stdin = None;
        match self.next_line(FINISH_MAX) {
            Some(Line::Counted(counts)) => {
                // It has said its last word; how it exits after that changes nothing.
                let _ = self.process.wait();
                Ok(counts)
            }
            _ => Err(Problem::failed(format!(
                "the endpoint did not say what it counted{}.",
                self.how_it_ended()
            ))),
        }
    }

    fn next_line(&self, wait: Duration) -> Option<Line> {
        serde_json::from_str(&self.lines.recv_timeout(wait).ok()?).ok()
    }

    /// `: exit status: 1`, if it has ended.
    fn how_it_ended(&mut self) -> String {
        // Its stdout closes a moment before it can be waited for.
        for _ in 0..10 {
            if let Ok(Some(status)) = self.process.try_wait() {
                return format!(": it ended with {status}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        String::new()
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
