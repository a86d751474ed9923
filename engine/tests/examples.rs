//! The examples do what they say, in processes of their own, on each other.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use fleetwire_codec::{QoS, TopicFilterBuf, TopicNameBuf};
use fleetwire_engine::{
    ConnectForm, Engine, EngineHandle, Events, LinkId, OwnedKind, OwnedPublish, Plan, Way,
};

/// No test waits for less; none waits so long unless it fails.
const WAIT: Duration = Duration::from_secs(20);

#[test]
fn a_request_gets_its_response() {
    let server = Example::server();
    let asked = command("request_response")
        .args(["127.0.0.1", &server.port])
        .output()
        .expect("it can be started");
    let text = String::from_utf8_lossy(&asked.stdout);
    assert_eq!(text.trim(), "response to [0, 0, 0, 7]: 21.5", "{asked:?}");
}

#[test]
fn what_one_broker_has_crosses_the_bridge_to_the_other() {
    let (mut from, mut to) = (Example::server(), Example::server());
    let reader = Client::connect("reader", &to.port);
    to.read_until("reader connects");
    reader.subscribe("plant/#");
    to.read_until("subscription to plant/#");
    let _bridge = Example::start(
        "bridge",
        &["127.0.0.1", &from.port, "plant/#", "127.0.0.1", &to.port],
    );
    from.read_until("subscription to plant/#");
    let writer = Client::connect("writer", &from.port);
    // More than the bridge has unacknowledged at a time.
    for number in 0..500 {
        writer.publish("plant/boiler", number);
    }
    for number in 0..500_u32 {
        assert_eq!(
            reader.message(),
            ("plant/boiler".to_owned(), number.to_be_bytes().to_vec())
        );
    }
}

#[test]
fn datagrams_become_messages_within_a_loop_of_its_own_which_ends_when_it_is_told() {
    let mut server = Example::server();
    let reader = Client::connect("reader", &server.port);
    server.read_until("reader connects");
    reader.subscribe("sensors");
    server.read_until("subscription to sensors");
    let mut gateway = Example::start("own_loop", &["127.0.0.1", &server.port, "127.0.0.1:0", "sensors"]);
    let address = gateway.read_until("listening on ");
    let sensor = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let address = address.trim().trim_start_matches("listening on ");
    sensor.connect(address).expect("it is an address");
    for number in 0..100_u32 {
        sensor.send(&number.to_be_bytes()).expect("it is sent");
        assert_eq!(
            reader.message(),
            ("sensors".to_owned(), number.to_be_bytes().to_vec())
        );
    }
    sensor.send(&[]).expect("it is sent");
    server.read_until("gone: ");
    assert!(gateway.child.wait().expect("it is a child").success());
}

/// A running example; killed in the end.
struct Example {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: String,
}

impl Example {
    fn server() -> Self {
        let mut server = Self::start("server", &["127.0.0.1:0"]);
        let line = server.read_until("listening on ");
        server.port = line.trim().rsplit(':').next().unwrap_or_default().to_owned();
        server
    }

    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = command(name)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} (built by cargo build --examples): {error}"));
        Self {
            lines: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
            port: String::new(),
        }
    }

    fn read_until(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            let len = self.lines.read_line(&mut line).expect("it is text");
            assert!(len > 0, "it ended before \"{start}\"");
            if line.starts_with(start) {
                return line;
            }
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Examples lie beside the folder of the tests.
fn command(example: &str) -> Command {
    let test = std::env::current_exe().expect("it runs");
    let folder: PathBuf = test.ancestors().nth(2).expect("it lies in deps").join("examples");
    Command::new(folder.join(example))
}

/// One link of a channel engine.
struct Client {
    handle: EngineHandle,
    events: Events,
    link: LinkId,
    _engine: Box<dyn std::any::Any>,
}

impl Client {
    fn connect(client_id: &str, port: &str) -> Self {
        let (engine, events) = Engine::builder().start_channel(1024).expect("it starts");
        let mut way = Way::tcp("127.0.0.1", port.parse().expect("it is a port"));
        way.resolve().expect("it is an address");
        let handle = engine.handle();
        let link = handle
            .open_with(&Plan::new(way), 0, ConnectForm::new(client_id))
            .expect("it is one link");
        let client = Self {
            handle,
            events,
            link,
            _engine: Box::new(engine),
        };
        client.next(|kind| matches!(kind, OwnedKind::Connected { .. }).then_some(()));
        client
    }

    fn subscribe(&self, filter: &str) {
        let filter = TopicFilterBuf::new(filter).expect("it is a filter");
        self.handle
            .subscribe(self.link, vec![(filter, QoS::AtMostOnce)])
            .expect("nothing else waits");
    }

    /// At QoS 1, and waits for the acknowledgement.
    fn publish(&self, topic: &str, number: u32) {
        let topic = TopicNameBuf::new(topic).expect("it has no wildcards");
        let publish = OwnedPublish::new(topic, number.to_be_bytes().to_vec()).qos(QoS::AtLeastOnce);
        self.handle
            .publish(self.link, publish)
            .expect("nothing else waits");
        self.next(|kind| matches!(kind, OwnedKind::Acked(_)).then_some(()));
    }

    fn message(&self) -> (String, Vec<u8>) {
        self.next(|kind| match kind {
            OwnedKind::Message(message) => Some((message.topic.to_string(), message.payload.to_vec())),
            _ => None,
        })
    }

    fn next<T>(&self, pick: impl Fn(OwnedKind) -> Option<T>) -> T {
        loop {
            let event = self.events.next_timeout(WAIT).expect("something comes in time");
            if let Some(found) = pick(event.kind) {
                return found;
            }
        }
    }
}
