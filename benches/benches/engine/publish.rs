//! Acknowledged QoS 1 publishes over loopback TCP: one engine as the fleet, one as a server that only acknowledges.
//!
//! A case is `qos1-CONNECTIONSxWINDOW`: each connection publishes WINDOW messages in one write, waits for their
//! acknowledgements, which come in one write too, and begins again; the connections don't wait for each other. So
//! there are one write and one read on each side for WINDOW messages; 32 of them fit into the first block of a send
//! buffer. WINDOW 01 is a fleet of devices that publish one message at a time.
//!
//! What is compared: the engines, and a bare loop with as many connections, threads (one for the fleet, one for the
//! server) and bytes, over the same mio, with the same interests and socket options. The bare loop also reads
//! everything that is ready, then writes, but its packets are encoded beforehand and those that it receives are only
//! counted by their bytes. What it costs is the system calls; what the engines cost above it is MQTT. How many sockets
//! one poll finds ready, and so the number of polls, is left to chance on both sides: look at ratios on a quiet machine.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use fleetwire_codec::{self as codec, PacketId, Properties, Puback, QoS, TopicName, TopicNameBuf, Version};
use fleetwire_engine::{
    At, Dial, DialError, Engine, EngineHandle, Event, Handler, LinkId, Listener, Outbox, OwnedPublish, Plan,
    Publish, Shard, Slug, Way,
};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const TOPIC: &str = "fleet/device-0042/telemetry";
const PAYLOAD: [u8; 64] = [b'x'; 64];
// As the engine's driver has them.
const READ_LEN: usize = 64 * 1024;
const EVENTS_PER_POLL: usize = 1024;

pub(crate) fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine/publish");
    group.sample_size(50);
    for (connections, window) in [(1, 1), (1, 32), (100, 1), (100, 32)] {
        let case = format!("qos1-{connections:03}x{window:02}");
        group.throughput(Throughput::Elements((connections * window) as u64));
        // Neither is started unless its case is asked for.
        let mut fleet = None;
        group.bench_function(&case, |bencher| {
            let fleet = fleet.get_or_insert_with(|| Fleet::start(connections, window));
            bencher.iter_custom(|rounds| fleet.run(rounds));
        });
        if let Some(fleet) = fleet {
            fleet.stop();
        }
        let mut bare = None;
        group.bench_function(BenchmarkId::new("bare", &case), |bencher| {
            let bare = bare.get_or_insert_with(|| Bare::start(connections, window));
            bencher.iter_custom(|rounds| bare.run(rounds));
        });
        if let Some(bare) = bare {
            bare.stop();
        }
    }
    group.finish();
}

/// The two engines.
struct Fleet {
    fleet: Engine<Devices>,
    server: Engine<Acknowledger>,
    handle: EngineHandle,
    first: LinkId,
    finished: Receiver<Duration>,
}

impl Fleet {
    /// Returns when all links are connected.
    fn start(connections: usize, window: usize) -> Self {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let server = Engine::builder()
            .listen(listener, None, 0)
            .start(|_| Acknowledger)
            .expect("it starts");
        let mut way = Way::tcp(&address.ip().to_string(), address.port());
        way.resolve().expect("it is an address");
        let (connected, first) = channel();
        let (finish, finished) = channel();
        let devices = Devices {
            plan: Plan::new(way),
            topic: topic(),
            links: Vec::new(),
            connections,
            window,
            running: 0,
            started: Instant::now(),
            connected,
            finish,
        };
        let mut devices = Some(devices);
        let fleet = Engine::builder()
            .start(|_| devices.take().expect("there is one shard"))
            .expect("it starts");
        Self {
            handle: fleet.handle(),
            fleet,
            server,
            first: first.recv().expect("the links connect"),
            finished,
        }
    }

    /// So many windows on each connection, timed on the fleet's thread.
    fn run(&self, rounds: u64) -> Duration {
        // It is acknowledged before the time begins.
        let begin = OwnedPublish::new(topic(), &PAYLOAD[..])
            .qos(QoS::AtLeastOnce)
            .token(rounds);
        self.handle
            .publish(self.first, begin)
            .expect("nothing else waits");
        self.finished.recv().expect("every message is acknowledged")
    }

    fn stop(self) {
        for failed in [
            self.fleet.shutdown(Duration::from_secs(5)).failed,
            self.server.shutdown(Duration::from_secs(5)).failed,
        ] {
            assert!(failed.is_empty(), "{failed:?}");
        }
    }
}

/// Publishes whole windows on each link.
struct Devices {
    plan: Plan,
    topic: TopicNameBuf,
    links: Vec<Progress>,
    connections: usize,
    window: usize,
    /// Links that have not done their rounds.
    running: usize,
    started: Instant,
    connected: Sender<LinkId>,
    finish: Sender<Duration>,
}

struct Progress {
    link: LinkId,
    connected: bool,
    unacknowledged: usize,
    rounds_left: u64,
}

impl Devices {
    fn begin(&mut self, rounds: u64, out: &mut Outbox<'_>) {
        self.running = self.connections;
        self.started = Instant::now();
        for index in 0..self.connections {
            self.links[index].rounds_left = rounds;
            self.publish_window(index, out);
        }
    }

    fn publish_window(&mut self, index: usize, out: &mut Outbox<'_>) {
        let progress = &mut self.links[index];
        progress.unacknowledged = self.window;
        progress.rounds_left -= 1;
        for _ in 0..self.window {
            let publish = Publish::new(self.topic.as_topic_name(), &PAYLOAD).qos(QoS::AtLeastOnce);
            out.publish(progress.link, publish).expect("a window fits");
        }
    }

    fn acked(&mut self, index: usize, out: &mut Outbox<'_>) {
        let progress = &mut self.links[index];
        progress.unacknowledged -= 1;
        if progress.unacknowledged > 0 {
            return;
        }
        if progress.rounds_left > 0 {
            return self.publish_window(index, out);
        }
        self.running -= 1;
        if self.running == 0 {
            let _ = self.finish.send(self.started.elapsed());
        }
    }
}

impl Handler for Devices {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        for index in 0..self.connections {
            self.links.push(Progress {
                link: out.open(&self.plan, index as u64).expect("they are few"),
                connected: false,
                unacknowledged: 0,
                rounds_left: 0,
            });
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        dial.client_id(&format!("device-{:04}", at.token));
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                self.links[at.token as usize].connected = true;
                if self.links.iter().all(|progress| progress.connected) {
                    let _ = self.connected.send(self.links[0].link);
                }
            }
            Event::Acked(ack) if ack.token > 0 => self.begin(ack.token, out),
            Event::Acked(_) => self.acked(at.token as usize, out),
            Event::Disconnected(end) if end.slug == Slug::CLOSED_BY_US => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Accepts everybody; the engine acknowledges by itself.
struct Acknowledger;

impl Handler for Acknowledger {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if let Event::Connect(connect) = event {
            out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs)
                .expect("it waits for this");
        }
    }
}

/// The bare loop: the fleet's side here, the server's on a thread.
struct Bare {
    sockets: Sockets,
    publishes: Vec<u8>,
    acknowledgements_len: usize,
    server: JoinHandle<()>,
}

impl Bare {
    fn start(connections: usize, window: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            ours.push(std::net::TcpStream::connect(address).expect("it listens"));
            theirs.push(listener.accept().expect("it was connected").0);
        }
        let (publishes, acknowledgements) = window_bytes(window);
        let (publishes_len, acknowledgements_len) = (publishes.len(), acknowledgements.len());
        let server = thread::spawn(move || {
            let mut sockets = Sockets::new(theirs, publishes_len);
            while sockets.read_ready(publishes_len) {
                while let Some(index) = sockets.whole.pop() {
                    sockets.write(index, &acknowledgements);
                }
            }
        });
        Self {
            sockets: Sockets::new(ours, acknowledgements_len),
            publishes,
            acknowledgements_len,
            server,
        }
    }

    fn run(&mut self, rounds: u64) -> Duration {
        let started = Instant::now();
        let mut rounds_left = vec![rounds; self.sockets.sockets.len()];
        let mut running = rounds_left.len();
        self.sockets.whole.extend(0..running);
        loop {
            while let Some(index) = self.sockets.whole.pop() {
                if rounds_left[index] > 0 {
                    rounds_left[index] -= 1;
                    self.sockets.write(index, &self.publishes);
                } else {
                    running -= 1;
                }
            }
            if running == 0 {
                return started.elapsed();
            }
            assert!(
                self.sockets.read_ready(self.acknowledgements_len),
                "the server is gone"
            );
        }
    }

    fn stop(self) {
        drop(self.sockets);
        self.server.join().expect("the server does not panic");
    }
}

/// One side of the bare loop.
struct Sockets {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
    /// Sockets whose window has arrived.
    whole: Vec<usize>,
}

struct Socket {
    stream: TcpStream,
    /// Bytes of the window that have not arrived.
    missing: usize,
}

impl Sockets {
    fn new(streams: Vec<std::net::TcpStream>, window_len: usize) -> Self {
        let poll = Poll::new().expect("there are descriptors");
        let mut sockets = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            stream.set_nodelay(true).expect("it is TCP");
            stream.set_nonblocking(true).expect("it is a socket");
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .expect("it is not registered yet");
            sockets.push(Socket {
                stream,
                missing: window_len,
            });
        }
        Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            sockets,
            buffer: vec![0; READ_LEN],
            whole: Vec::new(),
        }
    }

    /// Waits, and reads what is there, once from each socket: a window is shorter than the buffer. False once a peer
    /// has closed.
    fn read_ready(&mut self, window_len: usize) -> bool {
        match self.poll.poll(&mut self.events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            polled => polled.expect("it can be polled"),
        }
        for event in self.events.iter().filter(|event| event.is_readable()) {
            let index = event.token().0;
            let socket = &mut self.sockets[index];
            match socket.stream.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(len) => socket.missing -= len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            }
            if socket.missing == 0 {
                socket.missing = window_len;
                self.whole.push(index);
            }
        }
        true
    }

    fn write(&mut self, index: usize, window: &[u8]) {
        // It is shorter than a socket's send buffer, which is empty.
        let written = self.sockets[index].stream.write(window).expect("it takes them");
        assert_eq!(written, window.len());
    }
}

fn topic() -> TopicNameBuf {
    TopicNameBuf::new(TOPIC).expect("it has no wildcards")
}

/// A window's publishes, and its acknowledgements, as the engines send them.
fn window_bytes(window: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut publishes, mut acknowledgements) = (Vec::new(), Vec::new());
    for packet_id in (1..).take(window) {
        let packet_id = PacketId::new(packet_id).expect("it is above zero");
        let mut publish = codec::Publish::new(TopicName::new(TOPIC).expect("no wildcards"), &PAYLOAD);
        publish.qos = QoS::AtLeastOnce;
        publish.packet_id = Some(packet_id);
        append(&mut publishes, &publish.into());
        append(&mut acknowledgements, &Puback::new(packet_id).into());
    }
    (publishes, acknowledgements)
}

fn append(bytes: &mut Vec<u8>, packet: &codec::Packet<'_>) {
    let start = bytes.len();
    let len = packet.encoded_len(Version::V5).expect("it is short");
    bytes.resize(start + len, 0);
    packet
        .encode(Version::V5, &mut bytes[start..])
        .expect("it was measured");
}
