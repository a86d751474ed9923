//! What a message and a connection cost in CPU time when there are many connections: the engine, a bare loop, rumqttc.
//!
//! ```sh
//! cargo bench -p fleetwire-benches --bench scale                     # 1, 100, 1,000, 10,000 and 15,000 connections
//! cargo bench -p fleetwire-benches --bench scale -- 15000 tcp/out    # these connections, cases that begin so
//! ```
//!
//! Each figure comes from a process of its own, which holds the connections of one contender on one thread, and from
//! another that holds the other ends; contenders take turns, and the least CPU time of some rounds counts, for what a
//! shared machine adds is never negative. CPU time is the thread's own, from `/proc/thread-self`. Its part outside the
//! kernel is what a contender decides about; the kernel samples it, so it is the mean of all rounds.
//!
//! - `connect`: from nothing to CONNACK, at most 256 at a time; CPU time per connection. Under TLS each device has a
//!   certificate of its own, kept in DER; its key is parsed as it connects.
//! - `out`: one QoS 0 publish of 64 bytes per connection in turn, one `write` each, and a look at the poll after every
//!   64; CPU time per message.
//! - `in`: the other end sends one such publish on each connection, and the next round when the first has been
//!   acknowledged by a publish on the first connection; one `read` each, CPU time per message.
//!
//! The bare loop makes the same system calls over the same mio with the same interests and socket options, and knows
//! no MQTT: its packets are encoded beforehand, and what it receives is counted by the read. Its TLS is rustls's
//! buffered connection. What it does not have: timers, commands, back-pressure, counters, errors. rumqttc (3.1.1) is
//! one task per device on one thread of tokio's; over TLS it is given the bare loop's configurations of rustls.

mod bare;
#[path = "../shared/bare_rustls.rs"]
mod bare_rustls;
mod cpu;
mod engine;
mod peer;
mod pki;
mod rumqttc;
mod wire;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio, exit};
use std::time::Duration;

use crate::cpu::Spent;

/// Rounds of each contender.
const ROUNDS: usize = 5;
/// How long the publishing of one round lasts.
const TRAFFIC: Duration = Duration::from_secs(2);

/// Who holds the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Engine,
    Bare,
    Rumqttc,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Connect,
    Out,
    In,
}

/// One measurement, as the processes are told it.
#[derive(Clone, Debug)]
struct Job {
    case: Case,
    /// The folder with the certificates, for TLS.
    pki: Option<String>,
    connections: usize,
    traffic: Duration,
    port: u16,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["peer", job @ ..] => peer::run(&Job::parse(job)),
        ["hold", contender, job @ ..] => {
            let job = Job::parse(job);
            let spent = match Contender::parse(contender) {
                Contender::Engine => engine::hold(&job),
                Contender::Bare => bare::hold(&job),
                Contender::Rumqttc => rumqttc::hold(&job),
            };
            println!("{spent}");
            // Whatever is open, the other end sees its end.
            exit(0);
        }
        words => compare(words),
    }
}

/// All cases that were asked for, as a table.
fn compare(words: &[&str]) {
    // Cargo says so when it benches; when it tests, each case runs once, small and short.
    let bench = words.contains(&"--bench");
    let filters: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-') && word.parse::<usize>().is_err())
        .collect();
    let mut sizes: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = if bench {
            vec![1, 100, 1000, 10_000, 15_000]
        } else {
            vec![3]
        };
    }
    let (rounds, traffic) = if bench {
        (ROUNDS, TRAFFIC)
    } else {
        (1, Duration::ZERO)
    };
    // With a CA and a server certificate, for all processes.
    let folder = tempfile::tempdir().expect("there is room for one");
    pki::load(folder.path());
    if bench {
        println!("| case | connections | contender | CPU, µs | ÷ bare loop | outside the kernel, µs |");
        println!("|---|--:|---|--:|--:|--:|");
    }
    for tls in [false, true] {
        for case in [Case::Connect, Case::Out, Case::In] {
            let name = format!("{}/{}", if tls { "tls" } else { "tcp" }, case.name());
            if !filters.is_empty() && !filters.iter().any(|filter| name.starts_with(filter)) {
                continue;
            }
            for &connections in &sizes {
                // What is measured of them comes in steps of milliseconds.
                if case == Case::Connect && bench && connections < 1000 {
                    continue;
                }
                let job = Job {
                    case,
                    pki: tls.then(|| folder.path().to_str().expect("it is text").to_owned()),
                    connections,
                    traffic,
                    port: 0,
                };
                let spent = alternate(&job, rounds);
                if bench {
                    print_rows(&name, connections, &spent);
                } else {
                    println!("{name} with {connections} connections: each contender once");
                }
            }
        }
    }
}

/// The contenders in turn, so many rounds; the bare loop first.
fn alternate(job: &Job, rounds: usize) -> Vec<(Contender, Vec<Spent>)> {
    let contenders = [Contender::Bare, Contender::Engine, Contender::Rumqttc];
    let mut spent: Vec<_> = contenders.into_iter().map(|one| (one, Vec::new())).collect();
    for _ in 0..rounds {
        for (contender, rounds) in &mut spent {
            rounds.push(measure(*contender, job));
        }
    }
    spent
}

fn print_rows(name: &str, connections: usize, spent: &[(Contender, Vec<Spent>)]) {
    let bare = spent.first().map_or(f64::NAN, |(_, rounds)| Spent::least(rounds));
    for (contender, rounds) in spent {
        let least = Spent::least(rounds);
        println!(
            "| {name} | {connections} | {} | {least:.2} | {:.2} | {:.2} |",
            contender.name(),
            least / bare,
            Spent::mean_user(rounds),
        );
    }
}

/// One measurement in two processes.
fn measure(contender: Contender, job: &Job) -> Spent {
    let mut peer = start("peer", &[], job);
    let mut lines = BufReader::new(peer.stdout.take().expect("it is piped"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("it says its port");
    let job = Job {
        port: line.trim().parse().expect("it is a port"),
        ..job.clone()
    };
    let mut holder = start("hold", &[contender.name()], &job);
    let mut text = String::new();
    let mut output = holder.stdout.take().expect("it is piped");
    output.read_to_string(&mut text).expect("it is text");
    assert!(
        holder.wait().expect("it ends").success(),
        "{job:?} of {contender:?}"
    );
    let spent = Spent::parse(&text);
    line.clear();
    lines.read_line(&mut line).expect("it says what it received");
    assert!(
        peer.wait().expect("it ends").success(),
        "the peer of {contender:?}, {job:?}"
    );
    let received: u64 = line.trim().parse().expect("it is a number");
    // Those that were sent beside the measurement come on top. rumqttc's tasks may keep some back in the end.
    assert!(
        job.case != Case::Out || contender == Contender::Rumqttc || received >= spent.sent_bytes(),
        "{job:?} of {contender:?} lost something: {received} of {spent:?}"
    );
    spent
}

fn start(role: &str, more: &[&str], job: &Job) -> Child {
    Command::new(std::env::current_exe().expect("it runs"))
        .arg(role)
        .args(more)
        .args(job.words())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started")
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Bare => "bare",
            Self::Rumqttc => "rumqttc",
        }
    }

    fn parse(name: &str) -> Self {
        let all = [Self::Engine, Self::Bare, Self::Rumqttc];
        let found = all.into_iter().find(|one| one.name() == name);
        found.expect("it is one of the three")
    }
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Out => "out",
            Self::In => "in",
        }
    }

    fn parse(name: &str) -> Self {
        let all = [Self::Connect, Self::Out, Self::In];
        let found = all.into_iter().find(|one| one.name() == name);
        found.expect("it is one of the three")
    }
}

impl Job {
    fn words(&self) -> [String; 5] {
        [
            self.case.name().to_owned(),
            self.pki.clone().unwrap_or_default(),
            self.connections.to_string(),
            self.traffic.as_millis().to_string(),
            self.port.to_string(),
        ]
    }

    fn parse(words: &[&str]) -> Self {
        let [case, pki, connections, traffic, port] = words else {
            panic!("five words: {words:?}");
        };
        Self {
            case: Case::parse(case),
            pki: Some((*pki).to_owned()).filter(|pki| !pki.is_empty()),
            connections: connections.parse().expect("it is a number"),
            traffic: Duration::from_millis(traffic.parse().expect("it is a number")),
            port: port.parse().expect("it is a port"),
        }
    }

    fn pki(&self) -> Option<&Path> {
        self.pki.as_deref().map(Path::new)
    }
}
