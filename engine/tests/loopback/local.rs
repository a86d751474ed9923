//! Engines that their caller turns.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use fleetwire_codec::QoS;
use fleetwire_engine::{
    At, ConnectForm, Engine, Event, HandleError, Handler, Limits, LinkId, Listener, LocalEngine, Outbox,
    OwnedPublish, Publish, StartError, Turn,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::support::*;

const NOW: Option<Duration> = Some(Duration::ZERO);

/// What its one link has met.
#[derive(Default)]
struct Client {
    connected: u64,
    acked: Vec<u64>,
    due: u64,
    ended: bool,
    panics: bool,
}

impl Handler for Client {
    fn on_event(&mut self, _: At, event: Event<'_>, _: &mut Outbox<'_>) {
        assert!(!self.panics, "on purpose");
        match event {
            Event::Connected(_) => self.connected += 1,
            Event::Acked(ack) => self.acked.push(ack.token),
            Event::Due(_) => self.due += 1,
            Event::Disconnected(_) => self.ended = true,
            _ => {}
        }
    }
}

fn client(address: SocketAddr) -> (LocalEngine<Client>, LinkId) {
    let mut engine = Engine::builder().start_local(|_| Client::default()).unwrap();
    let open = |_: &mut Client, out: &mut Outbox<'_>| {
        out.open_with(&plan(address), 0, ConnectForm::new("a")).unwrap()
    };
    let link = engine.with(open).unwrap();
    (engine, link)
}

fn server() -> (LocalEngine<Echo>, SocketAddr) {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::builder()
        .listen(listener, None, 0)
        .start_local(|_| Echo::default())
        .unwrap();
    (engine, address)
}

/// Turns until the handler says that it is done.
fn turn_until<H: Handler>(engine: &mut LocalEngine<H>, mut done: impl FnMut(&mut H) -> bool) {
    let end = Instant::now() + WAIT;
    while !engine.with(|handler, _| done(handler)).unwrap() {
        assert!(Instant::now() < end, "nothing comes of it");
        assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    }
}

fn publish(link: LinkId, token: u64) -> impl FnOnce(&mut Client, &mut Outbox<'_>) {
    move |_, out| {
        let name = topic("t");
        let publish = Publish::new(name.as_topic_name(), b"x")
            .qos(QoS::AtLeastOnce)
            .token(token);
        out.publish(link, publish).unwrap();
    }
}

#[test]
fn two_engines_speak_with_each_other_on_one_thread() {
    let (mut server, address) = server();
    let (mut client, link) = client(address);
    let end = Instant::now() + WAIT;
    let mut both = |client: &mut LocalEngine<Client>, done: &dyn Fn(&Client) -> bool| {
        while !client.with(|handler, _| done(handler)).unwrap() {
            assert!(Instant::now() < end, "nothing comes of it");
            assert_eq!(client.turn(NOW).unwrap(), Turn::GoesOn);
            assert_eq!(server.turn(NOW).unwrap(), Turn::GoesOn);
        }
    };
    both(&mut client, &|client| client.connected == 1);
    for token in 0..300 {
        client.with(publish(link, token)).unwrap();
        both(&mut client, &|client| client.acked.len() as u64 == token + 1);
    }
    client.begin_shutdown(WAIT);
    while client.turn(NOW).unwrap() == Turn::GoesOn {
        assert_eq!(server.turn(NOW).unwrap(), Turn::GoesOn);
    }
    let end = client.shutdown(Duration::ZERO);
    assert!(end.failed.is_empty() && end.handlers[0].ended);
    assert_eq!(end.handlers[0].acked, (0..300).collect::<Vec<_>>());
    assert_eq!((end.stats.links, end.stats.in_flight), (0, 0));
    let end = server.shutdown(Duration::ZERO);
    assert_eq!((end.handlers[0].connects, end.handlers[0].messages), (1, 300));
}

#[test]
fn a_turn_waits_no_longer_than_it_is_told_and_not_at_all_for_what_is_there() {
    let mut engine = Engine::builder().start_local(|_| Client::default()).unwrap();
    assert_eq!(engine.next_deadline(), None);
    let started = Instant::now();
    assert_eq!(
        engine.turn(Some(Duration::from_millis(20))).unwrap(),
        Turn::GoesOn
    );
    assert!(started.elapsed() >= Duration::from_millis(20));
    // Longer than any system's poll can count.
    engine.handle().close(no_link()).unwrap();
    assert_eq!(engine.turn(Some(Duration::MAX)).unwrap(), Turn::GoesOn);
}

/// The id of a link of another engine, which means nothing here.
fn no_link() -> LinkId {
    let mut other = Engine::builder().start_local(|_| Client::default()).unwrap();
    let address = (std::net::Ipv4Addr::LOCALHOST, 1).into();
    other
        .with(|_, out| out.open_with(&plan(address), 0, ConnectForm::new("a")).unwrap())
        .unwrap()
}

#[test]
fn commands_of_other_threads_end_its_wait() {
    let (_server, address) = echo_server();
    let (mut engine, link) = client(address);
    turn_until(&mut engine, |client| client.connected == 1);
    let handle = engine.handle();
    let sender = thread::spawn(move || {
        for token in 0..50 {
            let publish = OwnedPublish::new(topic("t"), "x")
                .qos(QoS::AtLeastOnce)
                .token(token);
            handle.publish(link, publish).unwrap();
        }
    });
    // Nothing but the commands and what they lead to can end these waits.
    turn_until(&mut engine, |client| client.acked.len() == 50);
    sender.join().unwrap();
    // Nor these: it moves to another thread, and its link is closed from here.
    let handle = engine.handle();
    let turning = thread::spawn(move || {
        turn_until(&mut engine, |client| client.ended);
        engine.begin_shutdown(WAIT);
        while engine.turn(None).unwrap() == Turn::GoesOn {}
        assert_eq!(engine.turn(None).unwrap(), Turn::Ended, "and again");
        assert!(engine.with(|_, _| ()).is_none());
        assert_eq!(engine.next_deadline(), None);
        engine.shutdown(WAIT)
    });
    handle.close(link).unwrap();
    let end = turning.join().unwrap();
    assert!(end.failed.is_empty() && end.handlers[0].ended);
    assert_eq!(handle.close(link), Err(HandleError::Stopped));
}

#[test]
fn it_is_nested_in_another_poll_by_its_descriptor_and_its_deadline() {
    let (_server, address) = echo_server();
    let (mut engine, link) = client(address);
    engine
        .with(|_, out| out.every(link, out.now(), Duration::from_millis(5)).unwrap())
        .unwrap();
    let mut poll = Poll::new().unwrap();
    let descriptor = engine.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)
        .unwrap();
    let (mut events, mut turns) = (Events::with_capacity(1), 0);
    let end = Instant::now() + WAIT;
    let mut published = 0;
    let handle = engine.handle();
    loop {
        let due_in = engine
            .next_deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        assert!(
            due_in.is_some_and(|due_in| due_in <= Duration::from_millis(5)),
            "the schedule's"
        );
        poll.poll(&mut events, due_in).unwrap();
        assert_eq!(engine.turn(NOW).unwrap(), Turn::GoesOn);
        turns += 1;
        let (connected, acked, due) = engine
            .with(|client, _| (client.connected, client.acked.len() as u64, client.due))
            .unwrap();
        if acked == 20 && due >= 10 {
            // It has not turned in vain: each message takes some turns, and each slot one or two.
            assert!(turns < 20 * 10 + due * 10, "{turns} turns");
            break;
        }
        assert!(Instant::now() < end, "nothing comes of it");
        if connected == 1 && published == acked && published < 20 {
            published += 1;
            // By turns from within and as from another thread.
            if published % 2 == 0 {
                engine.with(publish(link, published)).unwrap();
            } else {
                let publish = OwnedPublish::new(topic("t"), "x").qos(QoS::AtLeastOnce);
                handle.publish(link, publish).unwrap();
            }
        }
    }
}

#[test]
fn a_panic_comes_out_of_the_call_and_leaves_nothing_open() {
    let (_server, address) = echo_server();
    for within_turn in [true, false] {
        let (mut engine, link) = client(address);
        turn_until(&mut engine, |client| client.connected == 1);
        let handle = engine.handle();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            engine.with(|client, out| {
                client.panics = true;
                if within_turn {
                    publish(link, 1)(client, out);
                } else {
                    out.abort(link);
                }
            });
            if within_turn {
                loop {
                    assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
                }
            }
        }));
        assert!(panicked.is_err());
        assert!(engine.turn(None).is_err() && engine.turn(NOW).is_err());
        assert!(engine.with(|_, _| ()).is_none());
        assert_eq!(engine.next_deadline(), None);
        assert_eq!(handle.close(link), Err(HandleError::Stopped));
        let stats = engine.stats();
        assert_eq!((stats.links, stats.links_up, stats.buffer_bytes), (0, 0, 0));
        let end = engine.shutdown(WAIT);
        assert_eq!((end.handlers.len(), end.failed.len()), (0, 1));
    }
}

#[test]
fn dropping_it_closes_its_sockets() {
    let (engine, address) = server();
    let mut engine = engine;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    while engine.stats().links == 0 {
        assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    }
    let handle = engine.handle();
    drop(engine);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    assert!(TcpStream::connect(address).is_err());
    assert_eq!((handle.stats().links, handle.stats().buffer_bytes), (0, 0));
    assert!(
        handle
            .open_with(&plan(address), 0, ConnectForm::new("a"))
            .is_err()
    );
}

#[test]
fn it_has_one_shard() {
    let started = Engine::builder().shards(2).start_local(|_| Client::default());
    assert!(matches!(started, Err(StartError::LocalShards)), "{started:?}");
    let started = Engine::builder().shards(0).start_local(|_| Client::default());
    assert!(matches!(started, Err(StartError::NoShards)), "{started:?}");
}

#[test]
fn who_is_accepted_and_says_nothing_is_counted_at_once() {
    let (mut engine, address) = server();
    let mut silent = Vec::new();
    for count in 1..=3 {
        silent.push(TcpStream::connect(address).unwrap());
        assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
        assert_eq!(engine.stats().links, count);
    }
}

#[test]
fn commands_that_one_turn_does_not_take_are_taken_by_the_next_without_a_wait() {
    let (_server, address) = echo_server();
    let limits = Limits::default().commands_max(5000).output_bytes_max(1 << 20);
    let mut engine = Engine::builder()
        .limits(limits)
        .start_local(|_| Client::default())
        .unwrap();
    let open = |_: &mut Client, out: &mut Outbox<'_>| {
        out.open_with(&plan(address), 0, ConnectForm::new("a")).unwrap()
    };
    let link = engine.with(open).unwrap();
    turn_until(&mut engine, |client| client.connected == 1);
    let handle = engine.handle();
    for _ in 0..5000 {
        handle.publish(link, OwnedPublish::new(topic("t"), "x")).unwrap();
    }
    // Each of them may take a thousand and some, and none of them waits.
    for _ in 0..5 {
        assert_eq!(engine.turn(NOW).unwrap(), Turn::GoesOn);
    }
    assert_eq!(engine.stats().published, 5000);
}
