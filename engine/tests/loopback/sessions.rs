//! Sessions that outlive their connections, with both sides' messages under way when those break.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use fleetwire_codec::{Properties, QoS, TopicName, Version};
use fleetwire_engine::{
    At, ConnectForm, Dial, DialError, DropReason, Engine, EngineHandle, Event, Handler, LinkId, Listener,
    Outbox, OwnedKind, OwnedPublish, Plan, Publish, PublishError, SessionState, Shard,
};

use crate::support::*;

/// What one side has to send and has got: message n is sent with token n and a payload of that number.
#[derive(Default)]
struct Traffic {
    sent: u64,
    acked: BTreeSet<u64>,
    received: BTreeMap<u64, u64>,
}

const MESSAGES: u64 = 300;

impl Traffic {
    /// QoS 1 and 2 by turns.
    fn publish(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        while self.sent < MESSAGES {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.sent as usize % 2];
            let text = self.sent.to_string();
            let topic = TopicName::new("t").unwrap();
            let publish = Publish::new(topic, text.as_bytes()).qos(qos).token(self.sent);
            match out.publish(link, publish) {
                Ok(_) => self.sent += 1,
                Err(PublishError::Full | PublishError::Offline) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Acked(ack) => assert!(self.acked.insert(ack.token), "{} ended twice", ack.token),
            Event::Message(message) => {
                let number: u64 = std::str::from_utf8(message.payload).unwrap().parse().unwrap();
                *self.received.entry(number).or_default() += 1;
            }
            Event::Dropped(dropped) => panic!("{dropped:?}"),
            _ => {}
        }
    }

    fn is_done(&self) -> bool {
        self.acked.len() as u64 == MESSAGES && self.received.len() as u64 == MESSAGES
    }

    fn assert_exact(&self) {
        assert_eq!(self.acked.len() as u64, MESSAGES);
        for (number, times) in &self.received {
            assert!(
                *times == 1 || number % 2 == 0,
                "{number} at QoS 2 came {times} times"
            );
        }
    }
}

/// Keeps its client's session, and breaks the connection each time that some more messages have come.
#[derive(Default)]
struct Keeper {
    traffic: Traffic,
    state: Option<SessionState>,
    resumed: u64,
    break_at: usize,
    step: usize,
    done: Option<Sender<()>>,
}

impl Handler for Keeper {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        self.traffic.note(&event);
        match event {
            Event::Connect(connect) => {
                assert!(!connect.clean_start);
                let state = self.state.take();
                self.resumed += u64::from(state.is_some());
                out.accept_session(at.link, state, Properties::EMPTY, 0).unwrap();
                self.traffic.publish(at.link, out);
            }
            Event::Message(_) if self.step > 0 && self.traffic.received.len() >= self.break_at => {
                self.break_at += self.step;
                out.abort(at.link);
            }
            Event::Writable => self.traffic.publish(at.link, out),
            Event::Disconnected(_) => self.state = out.take_session(at.link),
            _ => {}
        }
        if self.traffic.is_done()
            && let Some(done) = &self.done
        {
            let _ = done.send(());
        }
    }
}

struct Device {
    plan: Plan,
    version: Version,
    traffic: Traffic,
    done: Sender<()>,
}

impl Handler for Device {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        out.open(&self.plan, 0).unwrap();
    }

    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        assert_eq!(dial.has_session(), at.epoch > 1);
        dial.client_id("a")
            .version(self.version)
            .clean_start(false)
            .session_expiry(Duration::from_secs(60));
        Ok(())
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        self.traffic.note(&event);
        match event {
            Event::Connected(connected) => {
                assert_eq!(connected.session_present, at.epoch > 1);
                self.traffic.publish(at.link, out);
            }
            Event::Writable => self.traffic.publish(at.link, out),
            _ => {}
        }
        if self.traffic.is_done() {
            let _ = self.done.send(());
        }
    }
}

// v5 and v3.1.1 [MQTT-4.4.0-1], section 4.3.3; v5 [MQTT-3.2.2-2].
#[test]
fn nothing_is_lost_or_doubled_when_a_session_is_resumed_again_and_again() {
    // A third break in a row right after CONNACK would look like a take-over in 3.1.1.
    for (version, step) in [(Version::V5, 13), (Version::V311, 101)] {
        let listener = Listener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let (server_done, server_finished) = channel();
        let server = Engine::builder()
            .listen(listener, None, 0)
            .start(|_| Keeper {
                break_at: step,
                step,
                done: Some(server_done.clone()),
                ..Keeper::default()
            })
            .unwrap();
        let (done, finished) = channel();
        let engine = Engine::builder()
            .seed(1)
            .start(|_| Device {
                plan: plan(address),
                version,
                traffic: Traffic::default(),
                done: done.clone(),
            })
            .unwrap();
        finished.recv_timeout(WAIT).unwrap();
        // The device's last answers are still under way when it has everything.
        server_finished.recv_timeout(WAIT).unwrap();
        let client = engine.shutdown(WAIT);
        let server = server.shutdown(WAIT);
        assert!(client.failed.is_empty() && server.failed.is_empty());
        assert!(
            server.handlers[0].resumed as usize >= MESSAGES as usize / step,
            "it was hardly ever resumed"
        );
        client.handlers[0].traffic.assert_exact();
        server.handlers[0].traffic.assert_exact();
        // Every kept copy has come home: what is left is the block that sockets are read into.
        assert_eq!(client.stats.buffer_bytes, 65_536);
        assert_eq!((client.stats.in_flight, server.stats.in_flight), (0, 0));
    }
}

/// A link that offers to go on with its session.
fn open_to_keep(handle: &EngineHandle, address: SocketAddr) -> LinkId {
    let mut form = ConnectForm::new("a");
    form.clean_start = false;
    form.session_expiry = Duration::from_secs(60);
    handle.open_with(&plan(address), 0, form).unwrap()
}

// v5 [MQTT-3.2.2-5]: the server has forgotten the session, so what was in flight is lost, once.
#[test]
fn what_a_server_forgets_is_dropped() {
    let (server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    let handle = engine.handle();
    let link = open_to_keep(&handle, address);
    wait_for(&events, connected);
    // The server breaks the connection before it has acknowledged.
    let publish = OwnedPublish::new(topic("t"), "kick")
        .qos(QoS::AtLeastOnce)
        .token(7);
    handle.publish(link, publish).unwrap();
    let (token, why) = wait_for(&events, |at, kind| match kind {
        OwnedKind::Dropped(dropped) => {
            assert_eq!(
                at.epoch, 2,
                "kept until the server has said that it has no session"
            );
            Some((dropped.token, dropped.why))
        }
        OwnedKind::Acked(_) => panic!("acknowledged"),
        _ => None,
    });
    assert_eq!((token, why), (7, DropReason::SessionLost));
    wait_for(&events, |_, kind| match kind {
        OwnedKind::Connected { session_present, .. } => {
            assert!(!session_present);
            Some(())
        }
        _ => None,
    });
    drop(server);
}

#[test]
fn what_waits_for_a_session_ends_when_its_link_is_closed() {
    let (server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    let handle = engine.handle();
    let link = open_to_keep(&handle, address);
    wait_for(&events, connected);
    server.shutdown(Duration::ZERO);
    wait_for(&events, |_, kind| {
        matches!(kind, OwnedKind::Disconnected(_)).then_some(())
    });
    handle.close(link).unwrap();
    drop(engine.shutdown(WAIT));
}
