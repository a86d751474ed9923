//! The server role against clients by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use fleetwire_codec::Properties;
use fleetwire_engine::{At, Engine, Event, Handler, Limits, Listener, Outbox, Shard};

use crate::support::*;

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
    // No client id and no Clean Session: CONNACK 2, v3.1.1 [MQTT-3.1.3-8].
    assert_eq!(
        say_to_server(address, b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00"),
        b"\x20\x02\x00\x02"
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
fn a_publish_at_qos_2_by_hand_is_echoed_once() {
    // v5 and v3.1.1 section 4.3.3: PUBLISH twice, PUBREL twice; the echo, at QoS 2 too, and PUBREC, PUBREC, PUBCOMP, PUBCOMP.
    let (server, address) = echo_server();
    let mut stream = connect_by_hand(address, "a");
    let publishes = b"\x34\x06\x00\x01t\x00\x07!\x3c\x06\x00\x01t\x00\x07!";
    stream.write_all(publishes).unwrap();
    stream.write_all(b"\x62\x02\x00\x07\x62\x02\x00\x07").unwrap();
    let mut answer = [0; 13 + 16];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[..13], b"\x34\x0b\x00\x06echo/t\x00\x01!");
    assert_eq!(
        &answer[13..],
        b"\x50\x02\x00\x07\x50\x02\x00\x07\x70\x02\x00\x07\x70\x02\x00\x07"
    );
    // Its own echo is completed the same way.
    stream.write_all(b"\x50\x02\x00\x01").unwrap();
    let mut pubrel = [0; 4];
    stream.read_exact(&mut pubrel).unwrap();
    assert_eq!(&pubrel, b"\x62\x02\x00\x01");
    drop(stream);
    assert_eq!(server.shutdown(WAIT).handlers[0].messages, 1);
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
