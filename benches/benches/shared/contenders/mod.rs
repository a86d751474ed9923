//! Those that are compared with many connections, each in a process of its own: the engine, a bare loop, rumqttc.
//!
//! A process holds the connections of one contender on one thread, beside the main one, which waits; another process holds
//! the other ends. CPU time is the thread's own, from `/proc/thread-self`.
//!
//! - [`Case::Connect`]: from nothing to CONNACK, at most 256 at a time. Under TLS each device has a certificate of its own,
//!   kept in DER; its key is parsed as it connects.
//! - [`Case::Out`]: one QoS 0 publish of 64 bytes per connection in turn, one `write` each, and a look at the poll after
//!   every 64.
//! - [`Case::In`]: the other end sends one such publish on each connection, and the next round when the first has been
//!   acknowledged by a publish on the first connection; one `read` each.
//!
//! The bare loop makes the same system calls over the same mio with the same interests and socket options, and knows
//! no MQTT: its packets are encoded beforehand, and what it receives is counted by the read. Its TLS is rustls's
//! buffered connection. What it does not have: timers, commands, back-pressure, counters, errors. rumqttc (3.1.1) is
//! one task per device on one thread of tokio's; over TLS it is given the bare loop's configurations of rustls.
//!
//! Included by each bench that needs it, with `bare_rustls` beside it. Its `main` calls [`play_role`] first.

mod bare;
mod cpu;
mod engine;
mod peer;
pub(crate) mod pki;
mod rumqttc;
mod wire;

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio, exit};
use std::time::Duration;

use self::cpu::Round;
pub(crate) use self::cpu::Spent;

/// Who holds the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Engine,
    Bare,
    Rumqttc,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Connect,
    Out,
    In,
}

/// One measurement, as the processes are told it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) case: Case,
    /// The folder with the certificates, for TLS.
    pub(crate) pki: Option<String>,
    pub(crate) connections: usize,
    /// How long a round lasts at least.
    pub(crate) traffic: Duration,
    /// Set by [`Held::start`].
    pub(crate) port: u16,
}

/// What this process is for, if it is one of those that [`Held::start`] starts; it ends here then.
pub(crate) fn play_role() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [PEER, job @ ..] => {
            peer::run(&Job::parse(job));
            exit(0);
        }
        [HOLDER, contender, job @ ..] => {
            let job = Job::parse(job);
            match Contender::parse(contender) {
                Contender::Engine => engine::hold(&job),
                Contender::Bare => on_a_thread(move || bare::hold(&job)),
                Contender::Rumqttc => on_a_thread(move || rumqttc::hold(&job)),
            }
        }
        _ => {}
    }
}

/// As a shard has one of its own: where there are two threads the C library does more for each system call.
fn on_a_thread(hold: impl FnOnce() -> Infallible + Send + 'static) -> ! {
    match std::thread::spawn(hold).join() {
        Ok(never) => match never {},
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The holder says what it has spent, and waits for a line with the least number of messages of the next round. Without one
/// the process ends: whatever is open, the other end sees its end.
fn next_round(job: &Job, spent: &Spent) -> Round {
    println!("{spent}");
    match stdin().lines().next() {
        Some(Ok(line)) => Round::of(line.parse().expect("it is a number"), job.traffic),
        _ => exit(0),
    }
}

/// The connections of a contender, held by one process, and their other ends, held by another.
pub(crate) struct Held {
    contender: Contender,
    job: Job,
    holder: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    peer: Child,
    peer_says: Lines<BufReader<ChildStdout>>,
    connecting: Spent,
    sent_bytes: u64,
}

impl Held {
    /// Returns when all are connected.
    pub(crate) fn start(contender: Contender, job: &Job) -> Self {
        let mut peer = start(PEER, &[], job);
        let mut peer_says = lines(&mut peer);
        let job = Job {
            port: read(&mut peer_says).parse().expect("it is a port"),
            ..job.clone()
        };
        let mut holder = start(HOLDER, &[contender.name()], &job);
        let orders = holder.stdin.take().expect("it is piped");
        let mut answers = lines(&mut holder);
        let connecting = Spent::parse(&read(&mut answers));
        Self {
            contender,
            job,
            holder,
            orders,
            answers,
            peer,
            peer_says,
            connecting,
            sent_bytes: 0,
        }
    }

    /// What connecting has taken.
    pub(crate) fn connecting(&self) -> Spent {
        self.connecting
    }

    /// At least so many messages, out or in.
    pub(crate) fn round(&mut self, messages: u64) -> Spent {
        writeln!(self.orders, "{messages}").expect("the holder goes on");
        let spent = Spent::parse(&read(&mut self.answers));
        self.sent_bytes += spent.sent_bytes();
        spent
    }

    /// Ends both processes; what was sent has arrived.
    pub(crate) fn end(self) {
        let Self {
            contender,
            job,
            mut holder,
            orders,
            mut peer,
            mut peer_says,
            sent_bytes,
            ..
        } = self;
        drop(orders);
        assert!(
            holder.wait().expect("it ends").success(),
            "{job:?} of {contender:?}"
        );
        let received: u64 = read(&mut peer_says).parse().expect("it is a number");
        assert!(
            peer.wait().expect("it ends").success(),
            "the peer of {contender:?}, {job:?}"
        );
        // Those that were sent beside the measurement come on top. rumqttc's tasks may keep some back in the end.
        assert!(
            job.case != Case::Out || contender == Contender::Rumqttc || received >= sent_bytes,
            "{job:?} of {contender:?} lost something: {received} of {sent_bytes}"
        );
    }
}

fn start(role: &str, more: &[&str], job: &Job) -> Child {
    Command::new(std::env::current_exe().expect("it runs"))
        .arg(role)
        .args(more)
        .args(job.words())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started")
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().expect("it is piped")).lines()
}

fn read(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    lines.next().expect("it goes on").expect("it is text")
}

impl Contender {
    /// The bare loop first.
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Engine, Self::Rumqttc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Bare => "bare",
            Self::Rumqttc => "rumqttc",
        }
    }

    fn parse(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.expect("it is one of the three")
    }
}

impl Case {
    pub(crate) fn name(self) -> &'static str {
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

/// The first arguments of the processes.
const PEER: &str = "peer-of-the-benches";
const HOLDER: &str = "holder-of-the-benches";
