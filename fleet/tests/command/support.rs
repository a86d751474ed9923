//! Starting the built command, and reading what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// No test waits for less; none waits so long unless it fails.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_fleetwire");

/// A command that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The JSON object that is all of stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(json) => json,
            Err(error) => panic!("{error} in\n{}\n{}", self.stdout, self.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs the command to its end.
pub(crate) fn fleetwire<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    Running::start(command).end()
}

/// `fleetwire run` with these arguments and its JSON on stdout.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    fleetwire([&["run", "--json", "-"], arguments].concat())
}

/// A command that runs; it is killed when a test gives it up.
pub(crate) struct Running {
    process: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = Lines::of(process.stdout.take().unwrap());
        let stderr = Lines::of(process.stderr.take().unwrap());
        Self {
            process,
            stdout,
            stderr,
        }
    }

    /// Waits for a line on stdout.
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.stdout.find(wanted)
    }

    /// Waits for a line on stderr.
    pub(crate) fn error_line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.stderr.find(wanted)
    }

    /// Sends a signal by the shell's own `kill`.
    pub(crate) fn signal(&self, name: &str) {
        kill(name, &self.process.id().to_string());
    }

    /// Sends a signal to the endpoint that the run has started.
    #[cfg(target_os = "linux")]
    pub(crate) fn signal_child(&self, name: &str) {
        let id = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        kill(name, children.trim());
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        // Both streams have ended, so the process has, or is about to.
        let code = self.process.wait().unwrap().code();
        Ended { code, stdout, stderr }
    }
}

fn kill(signal: &str, process: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {process}")])
        .status()
        .unwrap();
    assert!(sent.success());
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed or has had enough of it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An output stream, read by a thread so that waiting for it has an end.
struct Lines {
    lines: Receiver<String>,
    read: String,
    deadline: Instant,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            read: String::new(),
            deadline: Instant::now() + WAIT,
        }
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                self.read.push_str(&line);
                self.read.push('\n');
                Some(line)
            }
            Err(Disconnected) => None,
            Err(Timeout) => panic!("not within {WAIT:?} after\n{}", self.read),
        }
    }

    fn find(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.next();
            let line = line.unwrap_or_else(|| panic!("no such line in\n{}", self.read));
            if wanted(&line) {
                return line;
            }
        }
    }

    fn rest(&mut self) -> String {
        while self.next().is_some() {}
        std::mem::take(&mut self.read)
    }
}

/// `fleetwire endpoint` with a state directory of its own, on free ports.
pub(crate) struct EndpointProcess {
    pub(crate) running: Running,
    pub(crate) directory: TempDir,
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
}

impl EndpointProcess {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_with("127.0.0.1:0", more)
    }

    /// The one without TLS at this address.
    pub(crate) fn start_at(plain: &str) -> Self {
        Self::start_with(plain, &[])
    }

    fn start_with(plain: &str, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .args(["endpoint", "--listen", "127.0.0.1:0", "--plain", plain, "--state"])
            .arg(directory.path().join("state"))
            .args(more);
        let mut running = Running::start(command);
        let mut listening = |kind: &str| {
            let line = running.line(|line| line.starts_with("listening on ") && line.contains(kind));
            line.split(" ").nth(2).unwrap().parse().unwrap()
        };
        let (tls, plain) = (listening("with TLS"), listening("without TLS"));
        Self {
            running,
            directory,
            tls,
            plain,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The path of its CA's certificate.
    pub(crate) fn ca(&self) -> String {
        text(&self.path("state/ca.crt"))
    }

    pub(crate) fn url(&self, alpn: &str) -> String {
        format!("mqtts://{}?alpn={alpn}", self.tls)
    }

    pub(crate) fn plain_url(&self) -> String {
        format!("mqtt://{}", self.plain)
    }

    /// Makes identities with its CA; answers their directory.
    pub(crate) fn issue(&self, count: usize) -> String {
        let out = text(&self.path("devices"));
        let (state, count) = (text(&self.path("state")), count.to_string());
        fleetwire([
            "certs", "issue", "--state", &state, "--count", &count, "--out", &out,
        ])
        .expect_code(0);
        out
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A port at which nobody listens: it was free a moment ago.
pub(crate) fn closed_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A 3.1.1 broker that takes everybody in and then says nothing more.
pub(crate) fn silent_broker() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut stream = stream;
                // The CONNECT comes in one piece: it is small.
                let read = stream.read(&mut [0; 1024]);
                if read.is_ok() && stream.write_all(b"\x20\x02\x00\x00").is_ok() {
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            });
        }
    });
    address
}
