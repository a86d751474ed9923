//! Messages, memory and schedules.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fleetwire_codec::{Properties, QoS, TopicName, Version};
use fleetwire_engine::{
    At, ConnectForm, Dial, DialError, Engine, Event, Handler, Limits, LinkId, Listener, Outbox, OwnedKind,
    OwnedPublish, Plan, Publish, PublishError, Shard, Slug,
};

use crate::support::*;

/// A fleet that publishes some messages from each link as fast as the window lets it.
struct Fleet {
    plan: Plan,
    links: usize,
    version: Version,
    qos: QoS,
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
                .qos(self.qos)
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

fn run_fleet(links: usize, messages: u64, version: Version, qos: QoS, shards: usize) {
    let (server, address) = echo_server();
    let (done, finished): (Sender<()>, Receiver<()>) = channel();
    // Far fewer at a time than there are links, so that each has to make room for another.
    let limits = Limits::default().handshakes_max(7);
    let engine = Engine::builder()
        .shards(shards)
        .limits(limits)
        .start(|_| Fleet {
            plan: plan(address),
            links: links.div_ceil(shards),
            version,
            qos,
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
    run_fleet(200, 20, Version::V5, QoS::AtLeastOnce, 1);
    run_fleet(20, 500, Version::V311, QoS::AtLeastOnce, 1);
}

// v5 section 4.3.3, v3.1.1 section 4.3.3: the handler's counts would show a message that is lost or comes twice.
#[test]
fn every_publish_at_qos_2_arrives_once_and_is_completed() {
    run_fleet(20, 50, Version::V5, QoS::ExactlyOnce, 1);
    run_fleet(5, 500, Version::V311, QoS::ExactlyOnce, 1);
}

#[test]
fn two_shards_shut_down_with_nothing_lost() {
    run_fleet(50, 10, Version::V5, QoS::AtLeastOnce, 2);
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
    let (engine, events, handle, link) = device_up(Engine::builder(), 8, address, 0, ConnectForm::new("a"));
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
    let limits = Limits::default().buffer_bytes_max(Limits::BUFFER_BYTES_MIN);
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
