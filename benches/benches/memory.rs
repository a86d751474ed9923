//! What one idle connection takes of a process, in client and in server role: the growth of the resident set over
//! thousands of connections, because the crypto library allocates where a Rust allocator does not see it.
//!
//! Each role of each case is a process of its own, so that nothing is hidden in what another has given back. 1,000
//! connections come first: what a process has once (pool, expanded keys, the allocator's arenas) is there after them.
//! Then 5,000 more, all connected and idle, with the keep-alive armed. Sockets are the kernel's and not counted; certificates and client ids are the
//! application's, which here has one certificate for all devices and keeps nothing else for each.
//!
//! `cargo bench -p fleetwire-benches --bench memory` prints a table beside the bar: 512 bytes a connection, 1,024 with mutual
//! TLS. As a test, without `--bench`, it holds a few connections.

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fleetwire_codec::Properties;
use fleetwire_endpoint::pki::{KeyType, Pki};
use fleetwire_engine::{
    At, Dial, DialError, Engine, Event, Handler, Limits, Listener, Outbox, Plan, Slug, Way,
};
use fleetwire_tls::{
    ClientAuth, ClientConfigBuilder, Identity, Roots, ServerConfigBuilder, ServerName, Versions,
};

const ALPN: &[u8] = b"x-amzn-mqtt-ca";
const PLAIN_LEN_MAX: u64 = 512;
const TLS_LEN_MAX: u64 = 1024;
const WAIT: Duration = Duration::from_secs(60);
/// The first arguments of the processes that are the roles.
const CLIENT: &str = "client-of-the-memory-bench";
const SERVER: &str = "server-of-the-memory-bench";

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).skip(1).collect();
    match arguments[..] {
        [CLIENT, case, first, more] => {
            let number = |text: &str| text.parse().expect("it is a number");
            let versions = match case {
                "tls12" => Some(Versions::Tls12),
                "tls13" => Some(Versions::Tls13),
                _ => None,
            };
            let (client, server) = measure(versions, (number(first), number(more)));
            println!("{client} {server}");
        }
        [SERVER, ref identity @ ..] => serve(identity),
        _ => print(arguments.contains(&"--bench")),
    }
}

fn print(full: bool) {
    let (first, more) = if full { ("1000", "5000") } else { ("5", "20") };
    println!("| bytes per idle connection | client | server | bar |");
    println!("|---|---|---|---|");
    for (case, bar) in [
        ("plaintext", PLAIN_LEN_MAX),
        ("tls12", TLS_LEN_MAX),
        ("tls13", TLS_LEN_MAX),
    ] {
        let client = Command::new(env::current_exe().expect("it has a path"))
            .args([CLIENT, case, first, more])
            .stderr(Stdio::inherit())
            .output()
            .expect("it runs");
        let said = String::from_utf8(client.stdout).expect("it is text");
        let numbers: Vec<u64> = said.split_whitespace().flat_map(str::parse).collect();
        let [client, server] = numbers[..] else {
            panic!("{case}: no measurement");
        };
        println!("| {case} | {client} | {server} | {bar} |");
    }
}

/// Bytes that a connection takes of the client's process and of the server's.
fn measure(versions: Option<Versions>, (first, more): (u64, u64)) -> (u64, u64) {
    let pki = Pki::throw_away(["localhost"]).expect("certificates can be made");
    let mut server = Server::start(versions.map(|_| &pki));
    let mut way = match versions {
        None => Way::tcp("127.0.0.1", server.port),
        Some(versions) => {
            let config = ClientConfigBuilder::new()
                .roots(Roots::from_pem(pki.ca_pem().as_bytes()).expect("it is a CA"))
                .alpn(vec![ALPN.to_vec()])
                .versions(versions)
                .build()
                .expect("the settings are sound");
            let name = ServerName::parse("localhost").expect("it is a DNS name");
            Way::tls("127.0.0.1", server.port, config, name)
        }
    };
    way.resolve().expect("it is an address");
    let plan = Plan::new(way);
    let device = pki
        .issue_device("device", KeyType::P256, None)
        .expect("a certificate can be made");
    let device = Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes());
    let (connected, is_connected) = channel();
    let mut devices = Some(Devices {
        identity: device.expect("they fit"),
        connected,
    });
    let engine = Engine::builder()
        .connect_rate(5000.0)
        .limits(Limits::default().handshakes_max(64))
        .start(|_| devices.take().expect("there is one shard"))
        .expect("it starts");
    let connect = |tokens: std::ops::Range<u64>| {
        for token in tokens.clone() {
            engine
                .handle()
                .open(&plan, token)
                .expect("they are within the limits");
        }
        wait_for_all(&is_connected, tokens.count());
    };
    connect(0..first);
    let before = (resident_bytes(), server.resident_bytes());
    connect(first..first + more);
    let after = (resident_bytes(), server.resident_bytes());
    let shutdown = engine.shutdown(WAIT);
    assert!(shutdown.failed.is_empty(), "{:?}", shutdown.failed);
    let each = |before: u64, after: u64| after.saturating_sub(before) / more;
    (each(before.0, after.0), each(before.1, after.1))
}

fn wait_for_all(is_connected: &Receiver<()>, count: usize) {
    let end = Instant::now() + WAIT;
    for _ in 0..count {
        let left = end.saturating_duration_since(Instant::now());
        is_connected
            .recv_timeout(left)
            .expect("all connect within the time");
    }
}

/// Connects, and is silent.
struct Devices {
    identity: Identity,
    connected: Sender<()>,
}

impl Handler for Devices {
    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        dial.client_id(&format!("device-{:05}", at.token))
            .identity(&self.identity);
        Ok(())
    }

    fn on_event(&mut self, _: At, event: Event<'_>, _: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                let _ = self.connected.send(());
            }
            Event::Disconnected(end) if end.slug == Slug::CLOSED_BY_US => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The other process.
struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Server {
    fn start(pki: Option<&Pki>) -> Self {
        let mut command = Command::new(env::current_exe().expect("it has a path"));
        command.arg(SERVER);
        if let Some(pki) = pki {
            command.args([
                hex(pki.server_der()),
                hex(pki.server_key_der().secret_pkcs8_der()),
                hex(pki.ca_der()),
            ]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let output = child.stdout.take().expect("it is piped");
        let mut server = Self {
            input: child.stdin.take().expect("it is piped"),
            output: BufReader::new(output).lines(),
            child,
            port: 0,
        };
        server.port = u16::try_from(server.read()).expect("a port");
        server
    }

    fn read(&mut self) -> u64 {
        let line = self.output.next().expect("it runs").expect("it is text");
        line.parse().expect("it is a number")
    }

    fn resident_bytes(&mut self) -> u64 {
        self.input.write_all(b"\n").expect("it reads");
        self.read()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's process: says its port, then for each line what it takes.
fn serve(arguments: &[&str]) {
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let tls = match *arguments {
        [certificate, key, authority] => {
            let identity = Identity::from_der(vec![bytes(certificate)], bytes(key)).expect("they fit");
            let roots = Roots::from_der([bytes(authority)]).expect("it is a CA");
            let builder = ServerConfigBuilder::new(identity).alpn(ALPN, ClientAuth::Required(roots));
            Some(builder.build().expect("the settings are sound"))
        }
        _ => None,
    };
    let engine = Engine::builder()
        .limits(Limits::default().handshakes_max(64))
        .listen(listener, tls, 0)
        .start(|_| Acceptor)
        .expect("it starts");
    println!("{port}");
    for line in std::io::stdin().lines() {
        if line.is_err() {
            break;
        }
        println!("{}", resident_bytes());
    }
    drop(engine);
}

struct Acceptor;

impl Handler for Acceptor {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if let Event::Connect(connect) = event {
            out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs)
                .expect("it waits for this");
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split_whitespace().nth(1).expect("it is the second");
    pages.parse::<u64>().expect("it is a number") * 4096
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}
