//! Both roles of the engine against each other over loopback TCP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fleetwire_codec::{Properties, QoS, ReasonCode, TopicFilterBuf, TopicName, TopicNameBuf, Version};
use fleetwire_engine::{
    At, Backoff, ConnectForm, Dial, DialError, Engine, EngineBuilder, Event, Events, Handler, Limits, LinkId,
    Listener, Outbox, OwnedKind, OwnedPublish, Plan, Publish, PublishError, Shard, Slug, Way,
};

const WAIT: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A server that accepts everybody, echoes every publish to `echo/{topic}` of the same link, and refuses the client
/// id `stranger`.
#[derive(Default)]
struct Echo {
    connects: u64,
    messages: u64,
    ended: BTreeMap<Slug, u64>,
}

impl Handler for Echo {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(connect) if connect.client_id == "stranger" => {
                out.refuse(at.link, ReasonCode::NotAuthorized);
            }
            Event::Connect(connect) => {
                self.connects += 1;
                out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs)
                    .unwrap();
            }
            Event::Subscribe(subscribe) => {
                let codes: Vec<u8> = subscribe.filters.iter().map(|_| 1).collect();
                out.suback(at.link, subscribe.packet_id, &codes).unwrap();
            }
            Event::Message(message) => {
                self.messages += 1;
                let topic = format!("echo/{}", message.topic.as_str());
                let publish = Publish::new(TopicName::new(&topic).unwrap(), message.payload).qos(message.qos);
                out.publish(at.link, publish).unwrap();
                if message.payload == b"kick" {
                    out.disconnect(at.link, ReasonCode::AdministrativeAction, Properties::EMPTY);
                }
            }
            Event::Disconnected(end) => *self.ended.entry(end.slug).or_default() += 1,
            _ => {}
        }
    }
}

fn echo_server() -> (Engine<Echo>, SocketAddr) {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Echo::default())
        .unwrap();
    (engine, address)
}

fn plan(address: SocketAddr) -> Plan {
    let mut way = Way::tcp(&address.ip().to_string(), address.port());
    way.resolve().unwrap();
    Plan::new(way).backoff(Backoff::new(Duration::from_millis(1), Duration::from_millis(5)))
}

/// The next event that `pick` wants.
fn wait_for<T>(events: &Events, mut pick: impl FnMut(At, &OwnedKind) -> Option<T>) -> T {
    loop {
        let event = events.next_timeout(WAIT).expect("an event within the time");
        if let Some(picked) = pick(event.at, &event.kind) {
            return picked;
        }
    }
}

fn connected(_: At, kind: &OwnedKind) -> Option<()> {
    matches!(kind, OwnedKind::Connected { .. }).then_some(())
}

fn topic(name: &str) -> TopicNameBuf {
    TopicName::new(name).unwrap().into()
}

/// A fleet that publishes some messages from each link as fast as the window lets it.
struct Fleet {
    plan: Plan,
    links: usize,
    version: Version,
    messages: u64,
    sent: BTreeMap<LinkId, u64>,
    acked: u64,
    received: u64,
    writable: u64,
    done: Sender<()>,
}

impl Fleet {
    fn publish(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        let sent = self.sent.entry(link).or_default();
        while *sent < self.messages {
            let text = sent.to_string();
            let publish = Publish::new(TopicName::new("t").unwrap(), text.as_bytes())
                .qos(QoS::AtLeastOnce)
                .token(*sent);
            match out.publish(link, publish) {
                Ok(packet_id) => assert!(packet_id.is_some()),
                Err(PublishError::Full) => return,
                Err(error) => panic!("{error}"),
            }
            *sent += 1;
        }
    }
}

impl Handler for Fleet {
    fn on_start(&mut self, shard: Shard, out: &mut Outbox<'_>) {
        for index in shard.share_of(self.links) {
            out.open(&self.plan, index as u64).unwrap();
        }
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        dial.client_id(&format!("device-{}", at.token))
            .version(self.version);
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => self.publish(at.link, out),
            Event::Writable => {
                self.writable += 1;
                self.publish(at.link, out);
            }
            Event::Acked(_) => self.acked += 1,
            Event::Message(message) => {
                assert_eq!(message.topic.as_str(), "echo/t");
                self.received += 1;
            }
            // A shutdown may come while links are still on their way.
            Event::Failed(failure) => assert_eq!(failure.slug, Slug::CLOSED_BY_US, "{failure:?}"),
            Event::Dropped(dropped) => panic!("{dropped:?}"),
            _ => {}
        }
        if self.acked == self.messages * self.links as u64 && self.received == self.acked {
            let _ = self.done.send(());
        }
    }
}

fn run_fleet(links: usize, messages: u64, version: Version, shards: usize) {
    let (server, address) = echo_server();
    let (done, finished): (Sender<()>, Receiver<()>) = channel();
    let engine = Engine::builder()
        .shards(shards)
        .start(|_| Fleet {
            plan: plan(address),
            links: links.div_ceil(shards),
            version,
            messages,
            sent: BTreeMap::new(),
            acked: 0,
            received: 0,
            writable: 0,
            done: done.clone(),
        })
        .unwrap();
    // With several shards each counts its own share, so only the balance at the end is asked.
    if shards == 1 {
        finished.recv_timeout(WAIT).unwrap();
    }
    let end = engine.shutdown(WAIT);
    assert!(end.failed.is_empty(), "{:?}", end.failed);
    // The server is to hear every DISCONNECT before it closes by itself.
    while server.stats().links > 0 {
        thread::yield_now();
    }
    let server = server.shutdown(WAIT);
    let handler = &server.handlers[0];
    let acked: u64 = end.handlers.iter().map(|fleet| fleet.acked).sum();
    let sent: u64 = end.handlers.iter().flat_map(|fleet| fleet.sent.values()).sum();
    assert_eq!(acked, sent);
    if shards == 1 {
        let fleet = &end.handlers[0];
        assert_eq!(
            (handler.connects, handler.messages),
            (links as u64, links as u64 * messages)
        );
        assert!(messages <= 100 || fleet.writable > 0, "the window was never full");
        assert_eq!(
            handler.ended.get(&Slug::DISCONNECTED_BY_PEER),
            Some(&(links as u64))
        );
    }
    assert_eq!(
        (end.stats.links, end.stats.links_up, end.stats.buffer_bytes),
        (0, 0, 65_536 * shards as u64)
    );
}

#[test]
fn every_publish_of_200_links_is_acknowledged_and_echoed() {
    run_fleet(200, 20, Version::V5, 1);
    run_fleet(20, 500, Version::V311, 1);
}

#[test]
fn two_shards_shut_down_with_nothing_lost() {
    run_fleet(50, 10, Version::V5, 2);
}

fn channel_engine(
    builder: EngineBuilder,
    capacity: usize,
) -> (Engine<fleetwire_engine::ChannelHandler>, Events) {
    builder.start_channel(capacity).unwrap()
}

#[test]
fn the_channel_api_publishes_subscribes_and_receives() {
    let (_server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder(), 64);
    let handle = engine.handle();
    let link = handle
        .open_with(&plan(address), 7, ConnectForm::new("a"))
        .unwrap();
    wait_for(&events, connected);
    let filter = TopicFilterBuf::new("echo/#").unwrap();
    handle.subscribe(link, vec![(filter, QoS::AtLeastOnce)]).unwrap();
    let codes = wait_for(&events, |at, kind| match kind {
        OwnedKind::Subscribed { codes, .. } => {
            assert_eq!((at.link, at.token, at.epoch), (link, 7, 1));
            Some(codes.clone())
        }
        _ => None,
    });
    assert_eq!(codes, [1]);
    let large = vec![b'x'; 200_000];
    handle
        .publish(
            link,
            OwnedPublish::new(topic("big"), large.clone())
                .qos(QoS::AtLeastOnce)
                .token(9),
        )
        .unwrap();
    let (mut acked, mut echoed) = (false, false);
    while !(acked && echoed) {
        wait_for(&events, |_, kind| match kind {
            OwnedKind::Acked(ack) => {
                assert_eq!(ack.token, 9);
                acked = true;
                Some(())
            }
            OwnedKind::Message(message) => {
                assert_eq!(
                    (message.topic.as_str(), message.payload.len()),
                    ("echo/big", 200_000)
                );
                assert_eq!(message.payload, large);
                echoed = true;
                Some(())
            }
            _ => None,
        });
    }
    handle.close(link).unwrap();
    let slug = wait_for(&events, |_, kind| match kind {
        OwnedKind::Disconnected(end) => Some((end.slug, end.retry_in)),
        _ => None,
    });
    assert_eq!(slug, (Slug::CLOSED_BY_US, None));
}

#[test]
fn a_full_event_queue_stops_reading_and_loses_nothing() {
    let (_server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder(), 8);
    let handle = engine.handle();
    let link = handle
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    wait_for(&events, connected);
    for token in 0..500 {
        let publish = OwnedPublish::new(topic("t"), token.to_string()).token(token);
        handle.publish(link, publish).unwrap();
    }
    // Nobody reads until a stall was counted.
    while events.stalls() == 0 {
        thread::yield_now();
    }
    for expected in 0..500 {
        let payload = wait_for(&events, |_, kind| match kind {
            OwnedKind::Message(message) => Some(message.payload.clone()),
            _ => None,
        });
        assert_eq!(payload, expected.to_string());
    }
}

#[test]
fn a_refusing_connack_is_a_failure_with_its_code_and_is_not_retried() {
    let (_server, address) = echo_server();
    for (version, code) in [(Version::V5, 0x87), (Version::V311, 5)] {
        let (engine, events) = channel_engine(Engine::builder(), 8);
        let mut form = ConnectForm::new("stranger");
        form.version = version;
        engine.handle().open_with(&plan(address), 0, form).unwrap();
        let failure = wait_for(&events, |_, kind| match kind {
            OwnedKind::Failed(failure) => Some(failure.clone()),
            _ => None,
        });
        assert_eq!(
            (failure.slug, failure.reason, failure.retry_in),
            (Slug::CONNACK_REFUSED, Some(code), None)
        );
        assert_eq!(failure.stage.as_str(), "connack");
    }
}

#[test]
fn a_refused_connection_is_dialled_again_until_somebody_listens() {
    let place = TcpListener::bind(any_port()).unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    engine
        .handle()
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    let failure = wait_for(&events, |at, kind| match kind {
        OwnedKind::Failed(failure) if at.epoch == 3 => Some(failure.clone()),
        _ => None,
    });
    assert_eq!((failure.slug, failure.stage.as_str()), (Slug::TCP_REFUSED, "tcp"));
    assert!(failure.retry_in.is_some());
    let listener = Listener::bind(address).unwrap();
    let _server = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Echo::default())
        .unwrap();
    wait_for(&events, connected);
}

#[test]
fn a_link_that_the_server_ends_reconnects_and_its_publishes_are_dropped_once() {
    let (_server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    let handle = engine.handle();
    let link = handle
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    wait_for(&events, connected);
    handle
        .publish(link, OwnedPublish::new(topic("t"), "kick"))
        .unwrap();
    let end = wait_for(&events, |_, kind| match kind {
        OwnedKind::Disconnected(end) => Some(end.clone()),
        _ => None,
    });
    assert_eq!(
        (end.slug, end.reason),
        (Slug::DISCONNECTED_BY_PEER, Some(ReasonCode::AdministrativeAction))
    );
    assert!(end.retry_in.is_some());
    let epoch = wait_for(&events, |at, kind| {
        matches!(kind, OwnedKind::Connected { .. }).then_some(at.epoch)
    });
    assert_eq!(epoch, 2);
}

/// Keeps every payload.
#[derive(Default)]
struct Keeper {
    kept: Vec<Bytes>,
}

impl Handler for Keeper {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => out.accept(at.link, false, Properties::EMPTY, 0).unwrap(),
            Event::Message(message) => {
                let kept = message.retain();
                assert_eq!(
                    kept.as_ptr(),
                    message.payload.as_ptr(),
                    "the payload left its block"
                );
                self.kept.push(kept);
            }
            _ => {}
        }
    }
}

#[test]
fn a_whole_frame_is_lent_and_kept_without_a_copy() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Keeper::default())
        .unwrap();
    let (engine, events) = channel_engine(Engine::builder(), 8);
    let handle = engine.handle();
    let link = handle
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    wait_for(&events, connected);
    for fill in 0..50 {
        let publish = OwnedPublish::new(topic("t"), vec![fill; 2000]).qos(QoS::AtLeastOnce);
        handle.publish(link, publish).unwrap();
        wait_for(&events, |_, kind| {
            matches!(kind, OwnedKind::Acked(_)).then_some(())
        });
    }
    let client = engine.shutdown(WAIT).stats;
    let end = server.shutdown(WAIT);
    assert_eq!((client.bytes_copied, end.stats.bytes_copied), (0, 0));
    for (fill, kept) in (0..50).zip(&end.handlers[0].kept) {
        assert_eq!(*kept, vec![fill; 2000]);
    }
    assert_eq!(end.handlers[0].kept.len(), 50);
}

/// Two links of one shard: the first takes all the memory there is, and the second wants some too.
struct Hungry {
    plan: Plan,
    links: Vec<LinkId>,
    up: usize,
    fed: Sender<()>,
}

impl Hungry {
    fn publish(link: LinkId, out: &mut Outbox<'_>) -> Result<(), PublishError> {
        out.publish(link, Publish::new(TopicName::new("t").unwrap(), &[0; 10_000]))
            .map(|_| ())
    }
}

impl Handler for Hungry {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        for token in 0..2 {
            self.links
                .push(out.open_with(&self.plan, token, ConnectForm::new("")).unwrap());
        }
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => {
                self.up += 1;
                if self.up == 2 {
                    while Self::publish(self.links[0], out).is_ok() {}
                    assert_eq!(Self::publish(self.links[1], out), Err(PublishError::Full));
                }
            }
            Event::Writable if at.token == 1 => {
                Self::publish(at.link, out).unwrap();
                self.fed.send(()).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn a_link_that_found_no_memory_is_told_when_there_is_some() {
    let (_server, address) = echo_server();
    let (fed, told) = channel();
    let limits = Limits::default().buffer_bytes_max(64 * 1024 + 60 * 1024);
    let engine = Engine::builder()
        .limits(limits)
        .start(|_| Hungry {
            plan: plan(address),
            links: Vec::new(),
            up: 0,
            fed: fed.clone(),
        })
        .unwrap();
    told.recv_timeout(WAIT).unwrap();
    assert!(engine.shutdown(WAIT).failed.is_empty());
}

#[test]
fn a_link_that_is_cut_off_again_and_again_right_after_connack_gives_up() {
    let (_server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    let handle = engine.handle();
    let mut form = ConnectForm::new("a");
    form.version = Version::V311;
    let link = handle.open_with(&plan(address), 0, form).unwrap();
    let mut ends = Vec::new();
    for _ in 0..3 {
        wait_for(&events, connected);
        handle
            .publish(link, OwnedPublish::new(topic("t"), "kick"))
            .unwrap();
        ends.push(wait_for(&events, |_, kind| match kind {
            OwnedKind::Disconnected(end) => Some((end.slug, end.retry_in.is_some())),
            _ => None,
        }));
    }
    let lost = (Slug::CONNECTION_LOST, true);
    assert_eq!(ends, [lost, lost, (Slug::CLIENT_ID_TAKEN_OVER, false)]);
}

/// What a server that is no engine answers to whoever connects.
fn serve_once(answer: &'static [u8], read_first: bool) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut start = vec![0; 4];
        if read_first {
            stream.read_exact(&mut start).unwrap();
        }
        stream.write_all(answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    (address, thread)
}

fn failure_against(answer: &'static [u8]) -> fleetwire_engine::Failure {
    let (address, thread) = serve_once(answer, true);
    let (engine, events) = channel_engine(Engine::builder(), 8);
    engine
        .handle()
        .open_with(&plan(address).reconnect(false), 0, ConnectForm::new("a"))
        .unwrap();
    let failure = wait_for(&events, |_, kind| match kind {
        OwnedKind::Failed(failure) => Some(failure.clone()),
        _ => None,
    });
    thread.join().unwrap();
    failure
}

#[test]
fn garbage_and_silence_before_the_connack_are_named() {
    let failure = failure_against(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(failure.slug, Slug::NOT_MQTT, "{failure:?}");
    assert!(
        failure.text.contains("\"HTTP/1.1 400 Bad\": this is HTTP"),
        "{failure:?}"
    );
    let failure = failure_against(b"\x15\x03\x01\x00\x02\x02\x46");
    assert_eq!(failure.slug, Slug::NOT_MQTT, "{failure:?}");
    assert!(failure.text.ends_with("this is TLS"), "{failure:?}");
    let failure = failure_against(b"");
    assert_eq!(failure.slug, Slug::CLOSED_BEFORE_CONNACK, "{failure:?}");
    let failure = failure_against(b"\xd0\x00");
    assert_eq!(failure.slug, Slug::PROTOCOL_VIOLATION, "{failure:?}");
    assert!(failure.text.contains("v5 [MQTT-3.2.0-1]"), "{failure:?}");
}

#[test]
fn a_broker_that_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (engine, events) = channel_engine(Engine::builder(), 8);
    let plan = plan(address)
        .reconnect(false)
        .connect_timeout(Duration::from_millis(50));
    engine
        .handle()
        .open_with(&plan, 0, ConnectForm::new("a"))
        .unwrap();
    let failure = wait_for(&events, |_, kind| match kind {
        OwnedKind::Failed(failure) => Some(failure.clone()),
        _ => None,
    });
    assert_eq!(
        (failure.slug, failure.stage.as_str()),
        (Slug::CONNACK_TIMEOUT, "connack")
    );
}

/// What the server says to a client that sends `bytes`, up to its end of the connection.
fn say_to_server(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_answers_malformed_input_and_closes() {
    let (server, address) = echo_server();
    // Not CONNECT first, v5 [MQTT-3.1.0-1]: nothing can be said, the connection ends.
    assert_eq!(say_to_server(address, b"\xc0\x00"), b"");
    // Protocol level 9: CONNACK 1 in the words of 3.1.1.
    assert_eq!(
        say_to_server(address, b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x01a"),
        b"\x20\x02\x00\x01"
    );
    // A good CONNECT of 5.0, then a reserved packet type: CONNACK, then DISCONNECT 0x81.
    let answer = say_to_server(
        address,
        b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a\x00\x00",
    );
    assert_eq!(answer, b"\x20\x03\x00\x00\x00\xe0\x01\x81");
    // A second CONNECT: 0x82.
    let connect = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a".repeat(2);
    assert_eq!(
        say_to_server(address, &connect),
        b"\x20\x03\x00\x00\x00\xe0\x01\x82"
    );
    // Byte by byte it is the same.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in connect.chunks(1) {
        stream.write_all(byte).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"\x20\x03\x00\x00\x00\xe0\x01\x82");
    drop(stream);
    let end = server.shutdown(WAIT);
    assert!(end.failed.is_empty());
    assert_eq!(end.handlers[0].connects, 3);
}

#[test]
fn a_silent_client_is_cut_off() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits::default().accept_timeout(Duration::from_millis(50));
    let _server = Engine::builder()
        .limits(limits)
        .listen(listener, None, 0)
        .start(|_| Echo::default())
        .unwrap();
    assert_eq!(say_to_server(address, b"\x10"), b"");
}

struct Panics;

impl Handler for Panics {
    fn on_start(&mut self, _: Shard, _: &mut Outbox<'_>) {
        panic!("on purpose");
    }

    fn on_event(&mut self, _: At, _: Event<'_>, _: &mut Outbox<'_>) {}
}

#[test]
fn a_panicking_handler_ends_its_shard_with_a_report() {
    let engine = Engine::builder().start(|_| Panics).unwrap();
    let end = engine.shutdown(WAIT);
    assert_eq!(end.failed, [(0, "panicked: on purpose".to_owned())]);
}

/// The bytes of a CONNECT of 3.1.1 with that client id, keep-alive off.
fn connect_bytes(client_id: &str) -> Vec<u8> {
    let mut bytes = b"\x10\x00\x00\x04MQTT\x04\x02\x00\x00\x00".to_vec();
    bytes.push(client_id.len() as u8);
    bytes.extend_from_slice(client_id.as_bytes());
    bytes[1] = (bytes.len() - 2) as u8;
    bytes
}

fn connect_by_hand(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&connect_bytes(client_id)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}

#[test]
fn a_partial_packet_never_reaches_another_connection() {
    let (server, address) = echo_server();
    // A short publish in two parts and the start of a long one: the second part fills the small block that the first
    // was parked in to its last byte, so the link is read again, this time into the hot block, and there is nothing.
    let mut publishes = b"\x30\x65\x00\x01t".to_vec();
    publishes.resize(103, b's');
    publishes.extend_from_slice(b"\x30\xe8\x07\x00\x01t");
    publishes.resize(103 + 1003, b'l');
    let mut first = connect_by_hand(address, "first");
    let before = server.stats().bytes_in;
    first.write_all(&publishes[..3]).unwrap();
    while server.stats().bytes_in < before + 3 {
        thread::yield_now();
    }
    first.write_all(&publishes[3..512]).unwrap();
    let mut echo = vec![0; 103 + 5];
    first.read_exact(&mut echo).unwrap();
    assert_eq!(&echo[..10], b"\x30\x6a\x00\x06echo/t");
    for _ in 0..3 {
        let mut second = connect_by_hand(address, "second");
        second.write_all(b"\x30\x04\x00\x01tB").unwrap();
        let mut echo = [0; 11];
        second.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"\x30\x09\x00\x06echo/tB");
    }
    first.write_all(&publishes[512..]).unwrap();
    let mut echo = vec![0; 1003 + 5];
    first.read_exact(&mut echo).unwrap();
    assert_eq!(&echo[..11], b"\x30\xed\x07\x00\x06echo/t");
    assert!(echo[11..].iter().all(|byte| *byte == b'l'));
}

#[test]
fn a_publish_to_a_link_that_is_gone_comes_back() {
    let (_server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder(), 64);
    let handle = engine.handle();
    let gone = handle
        .open_with(&plan(address), 1, ConnectForm::new("a"))
        .unwrap();
    wait_for(&events, connected);
    handle.close(gone).unwrap();
    wait_for(&events, |_, kind| {
        matches!(kind, OwnedKind::Disconnected(_)).then_some(())
    });
    while engine.stats().links > 0 {
        thread::yield_now();
    }
    let next = handle
        .open_with(&plan(address), 2, ConnectForm::new("b"))
        .unwrap();
    wait_for(&events, connected);
    assert_ne!(gone, next);
    handle
        .publish(gone, OwnedPublish::new(topic("t"), "x").token(9))
        .unwrap();
    wait_for(&events, |at, kind| match kind {
        OwnedKind::Dropped(dropped) => {
            assert_eq!((at.link, at.token, dropped.token), (gone, 0, 9));
            Some(())
        }
        _ => None,
    });
}

#[test]
fn commands_wait_while_nobody_takes_events_and_the_last_events_come_back_with_the_handler() {
    let (_server, address) = echo_server();
    let limits = Limits::default().commands_max(16);
    let (engine, events) = channel_engine(Engine::builder().limits(limits), 4);
    let handle = engine.handle();
    let link = handle
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    wait_for(&events, connected);
    let mut accepted = 0;
    let refused = loop {
        match handle.publish(
            link,
            OwnedPublish::new(topic("t"), "x")
                .qos(QoS::AtLeastOnce)
                .token(accepted),
        ) {
            Ok(()) => accepted += 1,
            // Full for good: the events are not taken.
            Err(returned) if events.stalls() > 0 => break returned,
            Err(_) => thread::yield_now(),
        }
    };
    assert_eq!(refused.error, fleetwire_engine::HandleError::Full);
    assert_eq!(refused.publish.token, accepted);
    let end = engine.shutdown(Duration::ZERO);
    let mut ended = vec![0; accepted as usize];
    let taken: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let undelivered = end
        .handlers
        .into_iter()
        .flat_map(fleetwire_engine::ChannelHandler::undelivered);
    for event in taken.into_iter().chain(undelivered) {
        match event.kind {
            OwnedKind::Acked(ack) => ended[ack.token as usize] += 1,
            OwnedKind::Dropped(dropped) => ended[dropped.token as usize] += 1,
            _ => {}
        }
    }
    assert!(ended.iter().all(|count| *count == 1), "{ended:?}");
}

#[test]
fn a_listener_waits_at_the_bound_of_links_and_goes_on_below_it() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits::default()
        .links_max(1)
        .linger_timeout(Duration::from_millis(20));
    let server = Engine::builder()
        .limits(limits)
        .listen(listener, None, 0)
        .start(|_| Echo::default())
        .unwrap();
    let first = connect_by_hand(address, "first");
    let waiting: Vec<_> = (0..3)
        .map(|index| thread::spawn(move || drop(connect_by_hand(address, &format!("later-{index}")))))
        .collect();
    drop(first);
    for thread in waiting {
        thread.join().unwrap();
    }
    while server.stats().links > 0 {
        thread::yield_now();
    }
    assert_eq!(server.shutdown(WAIT).handlers[0].connects, 4);
}

/// Schedules itself for this very moment, again and again.
struct Eager {
    plan: Plan,
    due: u64,
    acked: Sender<()>,
}

impl Handler for Eager {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open_with(&self.plan, 0, ConnectForm::new("a")).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => out.every(at.link, at.now, Duration::from_secs(3600)).unwrap(),
            Event::Due(_) => {
                self.due += 1;
                out.every(at.link, at.now, Duration::from_secs(3600)).unwrap();
                if self.due == 10 {
                    let publish = Publish::new(TopicName::new("t").unwrap(), b"").qos(QoS::AtLeastOnce);
                    out.publish(at.link, publish).unwrap();
                }
            }
            Event::Acked(_) => self.acked.send(()).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn neither_an_eager_schedule_nor_a_deadline_of_nothing_stalls_the_shard() {
    let (_server, address) = echo_server();
    let (acked, told) = channel();
    let limits = Limits::default().ack_timeout(Duration::ZERO).in_flight_max(0);
    let engine = Engine::builder()
        .limits(limits)
        .start(|_| Eager {
            plan: plan(address),
            due: 0,
            acked: acked.clone(),
        })
        .unwrap();
    told.recv_timeout(WAIT).unwrap();
    assert!(engine.shutdown(WAIT).failed.is_empty());
}

/// Notes who was accepted, in order.
#[derive(Default)]
struct Order {
    client_ids: Vec<String>,
}

impl Handler for Order {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if let Event::Connect(connect) = event {
            self.client_ids.push(connect.client_id.to_owned());
            out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
        }
    }
}

#[test]
fn connections_that_say_nothing_keep_nobody_out_and_those_that_speak_wait_their_turn() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits::default().handshakes_max(1);
    let server = Engine::builder()
        .limits(limits)
        .listen(listener, None, 0)
        .start(|_| Order::default())
        .unwrap();
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    drop(connect_by_hand(address, "first"));
    let open = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream
    };
    let (mut slow_stream, mut quick_stream) = (open(), open());
    while server.stats().accepted < 23 {
        thread::yield_now();
    }
    let before = server.stats().bytes_in;
    let (slow, quick) = (connect_bytes("slow"), connect_bytes("quick"));
    for (stream, bytes, total) in [
        (&mut slow_stream, &slow[..1], before + 1),
        (&mut quick_stream, &quick[..], before + 1 + quick.len() as u64),
    ] {
        stream.write_all(bytes).unwrap();
        while server.stats().bytes_in < total {
            thread::yield_now();
        }
    }
    slow_stream.write_all(&slow[1..]).unwrap();
    let mut connack = [0; 4];
    slow_stream.read_exact(&mut connack).unwrap();
    quick_stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    drop((silent, slow_stream, quick_stream));
    assert_eq!(
        server.shutdown(WAIT).handlers[0].client_ids,
        ["first", "slow", "quick"]
    );
}
