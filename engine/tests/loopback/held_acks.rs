//! Acknowledgements that the application gives itself, over both APIs and in both roles.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use fleetwire_codec::{Carrier, Properties, PropertiesBuf, Property, QoS, ReasonCode, TopicName};
use fleetwire_engine::{
    AckTicket, At, ChannelHandler, ConnectForm, Engine, EngineHandle, Event, Events, Handler, Limits, LinkId,
    Listener, Outbox, OwnedKind, OwnedMessage, OwnedPublish, Publish, SessionState, VerbError,
};

use crate::support::*;

const QOS: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A server that sends the messages 0 to `messages` to each client, as fast as their Receive Maximum allows, and keeps
/// one session.
struct Source {
    messages: u64,
    sent: u64,
    state: Option<SessionState>,
    ends: Sender<End>,
}

/// What became of a message: its token and, if it was acknowledged, the reason.
type End = (u64, Option<ReasonCode>);

impl Source {
    fn publish(&mut self, link: LinkId, out: &mut Outbox<'_>) {
        while self.sent < self.messages {
            let text = self.sent.to_string();
            let publish = Publish::new(TopicName::new("t").unwrap(), text.as_bytes())
                .qos(QOS[self.sent as usize % 2])
                .token(self.sent);
            match out.publish(link, publish) {
                Ok(_) => self.sent += 1,
                Err(_full) => return,
            }
        }
    }
}

impl Handler for Source {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                let state = self.state.take();
                out.accept_session(at.link, state, Properties::EMPTY, 0).unwrap();
                self.publish(at.link, out);
            }
            Event::Acked(ack) => {
                self.ends.send((ack.token, Some(ack.reason))).unwrap();
                self.publish(at.link, out);
            }
            Event::Refused(ack) => self.ends.send((ack.token, Some(ack.reason))).unwrap(),
            Event::Dropped(dropped) => self.ends.send((dropped.token, None)).unwrap(),
            Event::Writable => self.publish(at.link, out),
            Event::Disconnected(_) => self.state = out.take_session(at.link),
            _ => {}
        }
    }
}

fn source(messages: u64) -> (Engine<Source>, SocketAddr, Receiver<End>) {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (ends, ended) = channel();
    let engine = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Source {
            messages,
            sent: 0,
            state: None,
            ends: ends.clone(),
        })
        .unwrap();
    (engine, address, ended)
}

/// A channel engine that holds acknowledgements, with a link that keeps its session.
fn holder(address: SocketAddr, receive_max: u16) -> (Engine<ChannelHandler>, Events, LinkId) {
    let (engine, events) = Engine::builder().seed(1).start_channel_holding_acks(64).unwrap();
    let mut form = ConnectForm::new("a");
    form.clean_start = false;
    form.session_expiry = Duration::from_secs(60);
    let mut properties = PropertiesBuf::new(Carrier::Connect);
    properties.push(Property::ReceiveMaximum(receive_max)).unwrap();
    form.properties = Some(properties);
    let link = engine.handle().open_with(&plan(address), 0, form).unwrap();
    (engine, events, link)
}

fn message(events: &Events) -> OwnedMessage {
    wait_for(events, |_, kind| match kind {
        OwnedKind::Message(message) => Some(message.clone()),
        _ => None,
    })
}

fn number_of(message: &OwnedMessage) -> u64 {
    std::str::from_utf8(&message.payload).unwrap().parse().unwrap()
}

fn rejected(events: &Events) -> (&'static str, VerbError) {
    wait_for(events, |_, kind| match kind {
        OwnedKind::Rejected(rejected) => Some((rejected.verb, rejected.error)),
        _ => None,
    })
}

// v5 and v3.1.1 [MQTT-4.6.0-2], v5 [MQTT-3.3.4-7].
#[test]
fn a_client_takes_as_many_messages_as_it_acknowledges_and_its_server_hears_of_each_in_order() {
    let (server, address, ended) = source(100);
    let (engine, events, _) = holder(address, 4);
    let handle = engine.handle();
    for round in 0..25 {
        let tickets: Vec<AckTicket> = (0..4)
            .map(|index| {
                let message = message(&events);
                assert_eq!((number_of(&message), message.dup), (round * 4 + index, false));
                message.ticket.unwrap()
            })
            .collect();
        assert!(ended.try_recv().is_err(), "acknowledged before it was said");
        // The last one first: none goes out before the first one.
        for ticket in tickets.into_iter().rev() {
            handle.ack(ticket).unwrap();
        }
        let mut by_qos = [Vec::new(), Vec::new()];
        for _ in 0..4 {
            let (token, reason) = ended.recv_timeout(WAIT).unwrap();
            assert_eq!(reason, Some(ReasonCode::Success));
            by_qos[token as usize % 2].push(token);
        }
        let first = round * 4;
        assert_eq!(by_qos, [vec![first, first + 2], vec![first + 1, first + 3]]);
    }
    drop((server, engine));
}

#[test]
fn a_refusal_reaches_the_server_with_its_reason() {
    let (server, address, ended) = source(2);
    let (engine, events, _) = holder(address, 9);
    for expected in 0..2 {
        let ticket = message(&events).ticket.unwrap();
        engine
            .handle()
            .ack_with(ticket, ReasonCode::QuotaExceeded)
            .unwrap();
        let end = ended.recv_timeout(WAIT).unwrap();
        assert_eq!(end, (expected, Some(ReasonCode::QuotaExceeded)));
    }
    drop((server, engine));
}

#[test]
fn wrong_tickets_are_rejected_and_change_nothing() {
    let (server, address, ended) = source(3);
    let (engine, events, link) = holder(address, 9);
    let handle = engine.handle();
    let [first, second, third] = [(); 3].map(|()| message(&events).ticket.unwrap());
    assert_eq!((first.link(), first.epoch()), (link, 1));
    handle.ack(second).unwrap();
    handle.ack(second).unwrap();
    assert_eq!(rejected(&events), ("ack", VerbError::NotHeld));
    // A reason that no PUBACK has; the acknowledgement is still to be given.
    handle.ack_with(first, ReasonCode::KeepAliveTimeout).unwrap();
    assert_eq!(rejected(&events), ("ack", VerbError::Invalid));
    handle.ack(first).unwrap();
    let mut tokens = [(); 2].map(|()| ended.recv_timeout(WAIT).unwrap().0);
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1]);
    handle.ack(first).unwrap();
    assert_eq!(rejected(&events), ("ack", VerbError::NotHeld));
    handle.abort(link).unwrap();
    handle.ack(third).unwrap();
    assert_eq!(rejected(&events), ("ack", VerbError::Stale));
    // What was not acknowledged comes again, on another connection, with another ticket.
    let again = message(&events);
    assert!(again.dup && number_of(&again) == 2);
    let ticket = again.ticket.unwrap();
    assert_eq!(ticket.epoch(), 2);
    handle.ack(third).unwrap();
    assert_eq!(rejected(&events), ("ack", VerbError::Stale));
    handle.ack(ticket).unwrap();
    assert_eq!(ended.recv_timeout(WAIT).unwrap().0, 2);
    handle.close(link).unwrap();
    wait_for(&events, |_, kind| {
        matches!(kind, OwnedKind::Disconnected(end) if end.retry_in.is_none()).then_some(())
    });
    while engine.stats().links > 0 {
        thread::yield_now();
    }
    handle.ack(ticket).unwrap();
    assert_eq!(rejected(&events), ("ack", VerbError::NoSuchLink));
    drop(server);
    let (stopped, ticket) = (engine.handle(), ticket);
    engine.shutdown(Duration::ZERO);
    assert_eq!(stopped.ack(ticket), Err(fleetwire_engine::HandleError::Stopped));
}

// v5 and v3.1.1 [MQTT-4.4.0-1]; exactly once counts from the acknowledgement.
#[test]
fn over_and_over_again_each_message_is_acknowledged_in_the_end() {
    const MESSAGES: u64 = 200;
    let (server, address, ended) = source(MESSAGES);
    let (engine, events, link) = holder(address, 10);
    let handle = engine.handle();
    let mut taken: BTreeMap<u64, u32> = BTreeMap::new();
    let mut broken = 0;
    let mut held: Vec<(u64, AckTicket)> = Vec::new();
    while (taken.len() as u64) < MESSAGES {
        let message = message(&events);
        let number = number_of(&message);
        let ticket = message.ticket.unwrap();
        if number % 40 == 13 && broken <= number / 40 {
            // With some messages held, and acknowledgements under way.
            broken += 1;
            held.clear();
            handle.abort(link).unwrap();
            continue;
        }
        held.push((number, ticket));
        if held.len() < 3 && number + 3 < MESSAGES {
            continue;
        }
        // An aborted connection's are rejected, which changes nothing.
        for (number, ticket) in held.drain(..).rev() {
            handle.ack(ticket).unwrap();
            *taken.entry(number).or_default() += 1;
        }
    }
    assert!(broken >= 5);
    let mut ends: BTreeMap<u64, u32> = BTreeMap::new();
    while (ends.len() as u64) < MESSAGES {
        while let Some(event) = events.try_next() {
            if let OwnedKind::Message(message) = event.kind {
                handle.ack(message.ticket.unwrap()).unwrap();
            }
        }
        if let Ok((token, reason)) = ended.recv_timeout(Duration::from_millis(10)) {
            assert!(reason.is_some(), "{token} was dropped");
            *ends.entry(token).or_default() += 1;
        }
    }
    assert!(ends.values().all(|times| *times == 1), "{ends:?}");
    drop((server, engine));
}

/// A server that acknowledges what it gets when it is told to, from a thread of its own or within a later event.
struct Slow {
    tickets: Sender<AckTicket>,
    later: Vec<AckTicket>,
    errors: Vec<VerbError>,
}

impl Handler for Slow {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => out.accept(at.link, false, Properties::EMPTY, 0).unwrap(),
            Event::Message(message) => match (message.payload, out.hold_ack(&message)) {
                (b"none", ticket) => assert_eq!(ticket, None, "QoS 0 has no acknowledgement"),
                (b"worker", ticket) => {
                    assert_eq!(out.hold_ack(&message), None, "it is held already");
                    self.tickets.send(ticket.unwrap()).unwrap();
                }
                (b"at once", ticket) => {
                    let ticket = ticket.unwrap();
                    out.ack(ticket).unwrap();
                    assert_eq!(out.hold_ack(&message), None, "it is acknowledged");
                    self.errors.extend(out.ack(ticket).err());
                }
                (b"go", ticket) => {
                    self.later.extend(ticket);
                    for ticket in self.later.drain(..).rev() {
                        out.ack(ticket).unwrap();
                    }
                }
                (b"bye", ticket) => {
                    out.close(at.link);
                    self.errors.extend(out.ack(ticket.unwrap()).err());
                }
                (_, ticket) => self.later.extend(ticket),
            },
            _ => {}
        }
    }
}

fn slow() -> (Engine<Slow>, SocketAddr, Receiver<AckTicket>) {
    slow_with(Limits::default())
}

fn slow_with(limits: Limits) -> (Engine<Slow>, SocketAddr, Receiver<AckTicket>) {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (tickets, taken) = channel();
    let engine = Engine::builder()
        .limits(limits)
        .listen(listener, None, 0)
        .start(|_| Slow {
            tickets: tickets.clone(),
            later: Vec::new(),
            errors: Vec::new(),
        })
        .unwrap();
    (engine, address, taken)
}

fn send(handle: &EngineHandle, link: LinkId, text: &'static str, qos: QoS, token: u64) {
    let publish = OwnedPublish::new(topic("t"), text).qos(qos).token(token);
    handle.publish(link, publish).unwrap();
}

fn acked(events: &Events) -> u64 {
    wait_for(events, |_, kind| match kind {
        OwnedKind::Acked(ack) => Some(ack.token),
        _ => None,
    })
}

#[test]
fn a_server_holds_acknowledgements_for_its_worker_and_for_later_events() {
    let (server, address, taken) = slow();
    let worker = server.handle();
    let (_engine, events, handle, link) = device_up(Engine::builder(), 64, address, 0, ConnectForm::new("a"));
    send(&handle, link, "none", QoS::AtMostOnce, 0);
    send(&handle, link, "at once", QoS::AtLeastOnce, 1);
    assert_eq!(acked(&events), 1);
    send(&handle, link, "worker", QoS::AtLeastOnce, 2);
    // Nobody would hold this one, but it has to wait for the one before.
    send(&handle, link, "at once", QoS::AtLeastOnce, 3);
    let ticket = taken.recv_timeout(WAIT).unwrap();
    thread::spawn(move || worker.ack(ticket).unwrap()).join().unwrap();
    assert_eq!([(); 2].map(|()| acked(&events)), [2, 3]);
    for (token, text) in [(4, "later"), (5, "later"), (6, "later"), (7, "go")] {
        send(&handle, link, text, QoS::ExactlyOnce, token);
    }
    assert_eq!([(); 4].map(|()| acked(&events)), [4, 5, 6, 7]);
    send(&handle, link, "bye", QoS::AtLeastOnce, 8);
    wait_for(&events, |_, kind| {
        matches!(kind, OwnedKind::Dropped(dropped) if dropped.token == 8).then_some(())
    });
    let end = server.shutdown(WAIT);
    assert!(end.failed.is_empty(), "{:?}", end.failed);
    assert_eq!(
        end.handlers[0].errors,
        [VerbError::NotHeld, VerbError::NotHeld, VerbError::Stale]
    );
}

#[test]
fn acknowledgements_that_find_no_room_follow_when_there_is_some() {
    // Sixteen of them fill the output.
    let (server, address, _tickets) = slow_with(Limits::default().output_bytes_max(64));
    let limits = Limits::default().in_flight_max(1000);
    let (engine, events, handle, link) = device_up(
        Engine::builder().seed(1).limits(limits),
        64,
        address,
        0,
        ConnectForm::new("a"),
    );
    for token in 0..500 {
        send(&handle, link, "later", QoS::AtLeastOnce, token);
    }
    send(&handle, link, "go", QoS::AtLeastOnce, 500);
    for token in 0..=500 {
        assert_eq!(acked(&events), token);
    }
    drop((server, engine));
}

#[test]
fn a_shutdown_waits_for_what_is_held_and_not_for_ever() {
    for gives in [true, false] {
        let (server, address, taken) = slow();
        let worker = server.handle();
        let (_engine, events, handle, link) =
            device_up(Engine::builder(), 64, address, 0, ConnectForm::new("a"));
        send(&handle, link, "worker", QoS::AtLeastOnce, 1);
        let ticket = taken.recv_timeout(WAIT).unwrap();
        let drain = if gives { WAIT } else { Duration::from_millis(20) };
        let ending = thread::spawn(move || server.shutdown(drain));
        if gives {
            // Its listener is closed first, so by then the shutdown has begun.
            while std::net::TcpStream::connect(address).is_ok() {
                thread::yield_now();
            }
            worker.ack(ticket).unwrap();
            assert_eq!(acked(&events), 1);
        } else {
            wait_for(&events, |_, kind| {
                matches!(kind, OwnedKind::Dropped(dropped) if dropped.token == 1).then_some(())
            });
        }
        let end = ending.join().unwrap();
        assert!(end.failed.is_empty(), "{:?}", end.failed);
    }
}
