//! A session with held acknowledgements is taken over by its client's next connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};

use fleetwire_codec::{Properties, ReasonCode};
use fleetwire_engine::{AckTicket, At, Engine, Event, Handler, LinkId, Listener, Outbox, VerbError};

use crate::support::*;

/// What the worker hears: a message with its ticket, or that an acknowledgement was rejected.
#[derive(Debug)]
enum Told {
    Held(u8, AckTicket),
    Rejected(VerbError),
}

/// A server with one client, whose session it keeps; all acknowledgements are its worker's.
struct Keeper {
    link: Option<LinkId>,
    held: Vec<AckTicket>,
    told: Sender<Told>,
}

impl Handler for Keeper {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                let state = self.link.and_then(|old| {
                    let state = out.take_session(old);
                    // What it held went with the session, though the connection is still there.
                    for ticket in self.held.drain(..) {
                        assert_eq!(out.ack(ticket), Err(VerbError::NotHeld));
                    }
                    out.disconnect(old, ReasonCode::SessionTakenOver, Properties::EMPTY);
                    state
                });
                out.accept_session(at.link, state, Properties::EMPTY, 0).unwrap();
                self.link = Some(at.link);
            }
            Event::Message(message) => {
                let ticket = out.hold_ack(&message).unwrap();
                self.held.push(ticket);
                self.told.send(Told::Held(message.payload[0], ticket)).unwrap();
            }
            Event::Rejected(rejected) => self.told.send(Told::Rejected(rejected.error)).unwrap(),
            _ => {}
        }
    }
}

/// CONNECT of 3.1.1 without Clean Session, and its answer: whether a session was present.
fn connect(address: std::net::SocketAddr) -> (TcpStream, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
        .write_all(b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01a")
        .unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!((connack[0], connack[1], connack[3]), (0x20, 2, 0));
    (stream, connack[2] == 1)
}

/// A PUBLISH on topic "t"; its payload is its packet identifier.
fn publish(qos: u8, dup: bool, packet_id: u8) -> [u8; 8] {
    let first = 0x30 | u8::from(dup) << 3 | qos << 1;
    [first, 6, 0, 1, b't', 0, packet_id, packet_id]
}

fn held(told: &Receiver<Told>) -> (u8, AckTicket) {
    match told.recv_timeout(WAIT).unwrap() {
        Told::Held(number, ticket) => (number, ticket),
        rejected => panic!("{rejected:?}"),
    }
}

fn rejected(told: &Receiver<Told>) -> VerbError {
    match told.recv_timeout(WAIT).unwrap() {
        Told::Rejected(error) => error,
        held => panic!("{held:?}"),
    }
}

// v3.1.1 [MQTT-4.4.0-1], [MQTT-4.3.3-2], [MQTT-4.6.0-2], [MQTT-4.6.0-3].
#[test]
fn what_was_held_comes_again_on_the_next_connection_and_old_tickets_mean_nothing_there() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    let mut keeper = Some(Keeper {
        link: None,
        held: Vec::new(),
        told: tell,
    });
    let engine = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| keeper.take().unwrap())
        .unwrap();
    let worker = engine.handle();

    let (mut old, present) = connect(address);
    assert!(!present);
    for (qos, packet_id) in [(1, 1), (2, 2), (2, 3)] {
        old.write_all(&publish(qos, false, packet_id)).unwrap();
    }
    let [(one, first), (two, second), (three, third)] = [(); 3].map(|()| held(&told));
    assert_eq!([one, two, three], [1, 2, 3]);
    // The second is the application's from now on; its PUBREC waits for the PUBACK of the first.
    worker.ack(second).unwrap();
    // A wrong one behind it, so that it is known to have been carried out.
    worker.ack(second).unwrap();
    assert_eq!(rejected(&told), VerbError::NotHeld);

    let (mut new, present) = connect(address);
    assert!(present);
    let mut rest = Vec::new();
    old.read_to_end(&mut rest).unwrap();
    assert_eq!(
        rest, b"",
        "3.1.1 has no DISCONNECT from a server, and nothing was acknowledged"
    );
    for (qos, packet_id) in [(1, 1), (2, 2), (2, 3)] {
        new.write_all(&publish(qos, true, packet_id)).unwrap();
    }
    // The second was taken, so it does not come again; that it was is said behind the first.
    let [(one, first_again), (three, third_again)] = [(); 2].map(|()| held(&told));
    assert_eq!([one, three], [1, 3]);
    assert_ne!(first_again, first);
    // From another thread, after the connection has died, for messages that wait here under the same identifiers.
    for ticket in [first, second, third] {
        worker.ack(ticket).unwrap();
        assert!(
            matches!(rejected(&told), VerbError::Stale | VerbError::NoSuchLink),
            "its connection is gone"
        );
    }
    new.set_nonblocking(true).unwrap();
    let nothing = new.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    new.set_nonblocking(false).unwrap();
    worker.ack(third_again).unwrap();
    worker.ack(first_again).unwrap();
    let mut acks = [0; 12];
    new.read_exact(&mut acks).unwrap();
    assert_eq!(acks, *b"\x40\x02\x00\x01\x50\x02\x00\x02\x50\x02\x00\x03");
    // A ticket is good once.
    worker.ack(third_again).unwrap();
    assert_eq!(rejected(&told), VerbError::NotHeld);
    drop((old, new));
    let end = engine.shutdown(WAIT);
    assert!(end.failed.is_empty(), "{:?}", end.failed);
}
