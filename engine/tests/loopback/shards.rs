//! Servers of several shards, and what is left when one of them fails.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use fleetwire_codec::{Properties, QoS};
use fleetwire_engine::{
    At, ConnectForm, Engine, Event, HandleError, Handler, LinkId, Listener, Outbox, OwnedPublish, Plan,
    Shard, StartError,
};

use crate::support::{WAIT, any_port, connect_by_hand, echo_server, plan, topic};

/// Accepts everybody; a message makes it panic.
struct Fragile {
    shard: usize,
    links: Vec<LinkId>,
    told: std::sync::mpsc::Sender<LinkId>,
}

impl Handler for Fragile {
    fn on_start(&mut self, shard: Shard, _: &mut Outbox<'_>) {
        self.shard = shard.index;
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                assert_eq!(at.link.shard(), self.shard);
                out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
                self.links.push(at.link);
                let _ = self.told.send(at.link);
            }
            Event::Message(_) => panic!("on purpose"),
            _ => {}
        }
    }
}

#[test]
fn every_shard_listens_and_one_that_fails_takes_no_other_along() {
    let listener = Listener::bind_shared(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (told, accepted) = std::sync::mpsc::channel();
    let engine = Engine::builder()
        .shards(2)
        .listen(listener, None, 0)
        .start(|_| Fragile {
            shard: 0,
            links: Vec::new(),
            told: told.clone(),
        })
        .unwrap();
    // The system picks a shard by a hash of the addresses: that all of 64 land on one is as good as impossible.
    let mut clients: Vec<_> = (0..64)
        .map(|index| {
            let client = connect_by_hand(address, &index.to_string());
            (client, accepted.recv_timeout(WAIT).unwrap())
        })
        .collect();
    let on =
        |clients: &[(_, LinkId)], shard| clients.iter().filter(|(_, link)| link.shard() == shard).count();
    assert!(on(&clients, 0) > 0 && on(&clients, 1) > 0);

    // PUBLISH at QoS 0, on topic "a", without payload.
    let (client, fallen) = clients.first_mut().unwrap();
    let fallen = *fallen;
    client.write_all(b"\x30\x03\x00\x01a").unwrap();
    for (client, link) in &mut clients {
        if link.shard() == fallen.shard() {
            // Closed or reset, as unread input will have it.
            assert!(
                matches!(client.read(&mut [0; 16]), Ok(0) | Err(_)),
                "its shard is gone"
            );
        } else {
            // PINGREQ and PINGRESP.
            client.write_all(b"\xc0\x00").unwrap();
            let mut answer = [0; 2];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *b"\xd0\x00");
        }
    }
    let left = (clients.len() - on(&clients, fallen.shard())) as u64;
    let patience = Instant::now() + WAIT;
    while engine.stats().links_up != left {
        assert!(Instant::now() < patience, "{:?}", engine.stats());
        std::thread::yield_now();
    }
    assert_eq!(engine.handle().close(fallen), Err(HandleError::Stopped));
    // Whoever comes now is accepted by the other.
    for index in 64..80 {
        let _client = connect_by_hand(address, &index.to_string());
        assert_ne!(accepted.recv_timeout(WAIT).unwrap().shard(), fallen.shard());
    }
    let end = engine.shutdown(WAIT);
    assert_eq!(end.failed, [(fallen.shard(), "panicked: on purpose".to_owned())]);
    assert_eq!(end.handlers.len(), 1);
}

#[test]
fn listeners_of_several_shards_have_to_be_shared() {
    let listener = Listener::bind(any_port()).unwrap();
    let (told, _accepted) = std::sync::mpsc::channel();
    let refused = Engine::builder()
        .shards(2)
        .listen(listener, None, 0)
        .start(|_| Fragile {
            shard: 0,
            links: Vec::new(),
            told: told.clone(),
        });
    assert!(matches!(refused, Err(StartError::ListenersNotShared)));
}

/// Counts what commands have come to.
struct Counts {
    plan: Plan,
    ended: u64,
    up: std::sync::mpsc::Sender<LinkId>,
}

impl Handler for Counts {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open_with(&self.plan, 0, ConnectForm::new("counts")).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, _: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => self.up.send(at.link).unwrap(),
            Event::Acked(_) | Event::Refused(_) | Event::Dropped(_) => self.ended += 1,
            _ => {}
        }
    }
}

/// A handle's publish that was taken ends exactly once, also in the last moment of the engine.
#[test]
fn no_command_is_lost_at_the_end() {
    let (_server, address) = echo_server();
    for _ in 0..300 {
        let (up, told) = std::sync::mpsc::channel();
        let engine = Engine::builder()
            .start(|_| Counts {
                plan: plan(address),
                ended: 0,
                up: up.clone(),
            })
            .unwrap();
        let link = told.recv_timeout(WAIT).unwrap();
        let handle = engine.handle();
        let sender = std::thread::spawn(move || {
            let mut taken = 0;
            loop {
                let publish = OwnedPublish::new(topic("a"), b"b".as_slice()).qos(QoS::AtLeastOnce);
                match handle.publish(link, publish) {
                    Ok(()) => taken += 1,
                    Err(returned) if returned.error == HandleError::Stopped => return taken,
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        let end = engine.shutdown(Duration::ZERO);
        let taken: u64 = sender.join().unwrap();
        assert_eq!(end.handlers[0].ended, taken);
    }
}

/// Says where its thread may run.
#[cfg(target_os = "linux")]
struct Pinned(std::sync::mpsc::Sender<String>);

#[cfg(target_os = "linux")]
impl Handler for Pinned {
    fn on_start(&mut self, _: Shard, _: &mut Outbox<'_>) {
        self.0.send(allowed_processors()).unwrap();
    }

    fn on_event(&mut self, _: At, _: Event<'_>, _: &mut Outbox<'_>) {}
}

/// What this thread may run on, such as `0-3`: proc(5).
#[cfg(target_os = "linux")]
fn allowed_processors() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn shards_are_pinned_in_turn_if_that_is_asked_for() {
    const SHARDS: usize = 3;
    let before = allowed_processors();
    let run = |pin| {
        let (told, places) = std::sync::mpsc::channel();
        let engine = Engine::builder()
            .shards(SHARDS)
            .pin_threads(pin)
            .start(|_| Pinned(told.clone()))
            .unwrap();
        let places: Vec<_> = (0..SHARDS).map(|_| places.recv_timeout(WAIT).unwrap()).collect();
        assert!(engine.shutdown(Duration::ZERO).failed.is_empty());
        places
    };
    assert_eq!(run(false), vec![before.clone(); SHARDS]);
    let mut places = run(true);
    assert!(
        places.iter().all(|place| place.parse::<usize>().is_ok()),
        "{places:?}"
    );
    places.sort();
    places.dedup();
    // One for each, as far as there are so many.
    let there_are = rustix::thread::sched_getaffinity(None).unwrap().count() as usize;
    assert_eq!(places.len(), there_are.min(SHARDS), "{places:?}");
    assert_eq!(allowed_processors(), before, "the caller's thread stays free");
}
