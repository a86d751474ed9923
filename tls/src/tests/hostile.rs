//! Input that no well-meaning peer sends, and hellos in every shape.

use std::io::Read;

use proptest::prelude::*;
use rustls::server::Acceptor;

use super::support::*;
use crate::{ClientHello, HANDSHAKE_LEN_MAX, Peek, Reason, TlsSession, Versions};

/// The alert that rustls sends for a record of an unknown type: decode_error, fatal.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

fn hello_of(alpn: &[&[u8]], versions: Versions, name: &str) -> Vec<u8> {
    let authority = Authority::new("Fleet CA");
    let config = client_builder(&authority, alpn, versions).build().unwrap();
    Peer::client(&config, name, None).out
}

#[test]
fn what_is_not_tls_is_shown() {
    let world = World::new();
    let inputs: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"\x80\x2e\x01\x00\x02",
        b"\x16\x01",
    ];
    for input in inputs {
        let mut server = Peer::new(TlsSession::server(&world.server));
        server.deliver(input);
        let shown = input[..input.len().min(16)].to_vec();
        assert_eq!(*server.error().reason(), Reason::NotTls { first: shown });
        assert_eq!(server.slug(), "not_tls");
        assert_eq!(server.out, DECODE_ERROR);
    }
    let mut pair = world.pair(Versions::Both);
    pair.client.out.clear();
    pair.client.deliver(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(pair.client.slug(), "not_tls");
    assert_eq!(pair.client.out, DECODE_ERROR);
    let sentence = pair.client.error().to_string();
    assert_eq!(
        sentence,
        "the peer does not speak TLS: it sent \"HTTP/1.1 400 Bad\" (alert 50 sent)"
    );
}

/// What is said for input that is no TLS is what rustls says, byte for byte.
#[test]
fn the_alert_for_other_protocols_is_rustls_own() {
    let mut acceptor = Acceptor::default();
    acceptor
        .read_tls(&mut b"GET / HTTP/1.1\r\n\r\n".as_slice())
        .unwrap();
    let (_, mut alert) = acceptor.accept().unwrap_err();
    let mut bytes = Vec::new();
    alert.write_all(&mut bytes).unwrap();
    assert_eq!(bytes, DECODE_ERROR);
}

#[test]
fn a_hello_byte_by_byte() {
    let world = World::new();
    let hello = world.pair(Versions::Both).client.out;
    let mut server = Peer::new(TlsSession::server(&world.server));
    for (i, byte) in hello.iter().enumerate() {
        assert!(server.out.is_empty(), "answered after {i} bytes");
        server.deliver(&[*byte]);
    }
    assert!(!server.out.is_empty());
}

#[test]
fn a_hello_split_over_records() {
    let world = World::new();
    for versions in VERSIONS {
        for (size, piece) in [(1, usize::MAX), (3, 2), (5, 1), (64, 7), (100, usize::MAX)] {
            let mut pair = world.pair(versions);
            let hello = pair.client.take_out();
            let hello = split_records(&hello, size);
            assert!(matches!(ClientHello::peek(&hello), Peek::Fragmented));
            for bytes in hello.chunks(piece) {
                pair.server.deliver(bytes);
            }
            let flight = pair.server.take_out();
            pair.client.deliver(&flight);
            pair.run();
            assert!(
                pair.client.established && pair.server.established,
                "records of {size}"
            );
            let info = pair.server.session.info().unwrap();
            assert_eq!((info.alpn, info.server_name), (Some(CA_NAME), Some("localhost")));
        }
    }
}

#[test]
fn a_split_hello_without_common_alpn_is_refused_too() {
    let world = World::new();
    let hello = split_records(&hello_of(&[b"h2"], Versions::Both, "localhost"), 50);
    let mut server = Peer::new(TlsSession::server(&world.server));
    server.deliver(&hello);
    assert_eq!(server.slug(), "alpn_refused");
    assert_eq!(server.out, [21, 3, 3, 0, 2, 2, 120]);
}

/// The peek and rustls's own view agree on what is read from a hello.
#[test]
fn the_peek_sees_what_rustls_sees() {
    let long = [b'n'; 255];
    let lists: [&[&[u8]]; 5] = [
        &[],
        &[CA_NAME],
        &[MQTT, CA_NAME],
        &[b"\0", &long],
        &[b"h2", b"http/1.1"],
    ];
    for alpn in lists {
        for name in ["localhost", "a.very.long.name.example", "127.0.0.1", "::1"] {
            for versions in [Versions::Tls12, Versions::Tls13, Versions::Both] {
                let hello = hello_of(alpn, versions, name);
                let Peek::Hello(peeked) = ClientHello::peek(&hello) else {
                    panic!("a whole hello");
                };
                let mut acceptor = Acceptor::default();
                acceptor.read_tls(&mut hello.as_slice()).unwrap();
                let accepted = acceptor.accept().unwrap().unwrap();
                let seen = accepted.client_hello();
                let names: Vec<&[u8]> = seen.alpn().into_iter().flatten().collect();
                assert_eq!(peeked.alpn().collect::<Vec<_>>(), names);
                assert_eq!(peeked.alpn().collect::<Vec<_>>(), alpn);
                assert_eq!(peeked.server_name(), seen.server_name());
                let offered = (peeked.offers_tls12(), peeked.offers_tls13());
                assert_eq!(
                    offered,
                    (versions != Versions::Tls13, versions != Versions::Tls12)
                );
                for cut in 0..hello.len() {
                    assert_eq!(ClientHello::peek(&hello[..cut]), Peek::NeedMore, "cut at {cut}");
                }
            }
        }
    }
}

/// A ClientHello of TLS 1.0 times, without extensions, is read; it is rustls that refuses it.
#[test]
fn a_hello_without_extensions() {
    let world = World::new();
    let mut body = vec![3, 1];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    let Peek::Hello(peeked) = ClientHello::peek(&hello) else {
        panic!("a whole hello");
    };
    assert!(!peeked.offers_tls12() && !peeked.offers_tls13());
    assert_eq!(peeked.alpn().count(), 0);
    let mut server = Peer::new(TlsSession::server(&world.server));
    server.deliver(&hello);
    assert_eq!(server.slug(), "tls_handshake_failure");
    assert_eq!(server.out, [21, 3, 3, 0, 2, 2, 40]);
}

#[test]
fn a_malformed_hello_is_refused_as_rustls_does() {
    let world = World::new();
    let hello = hello_of(&[CA_NAME], Versions::Both, "localhost");
    // Cut within the message, whose length is then wrong.
    let mut short = hello[..120].to_vec();
    short[3..5].copy_from_slice(&115_u16.to_be_bytes());
    short[6..9].copy_from_slice(&[0, 0, 111]);
    assert_eq!(ClientHello::peek(&short), Peek::Malformed);
    let mut server = Peer::new(TlsSession::server(&world.server));
    server.deliver(&short);
    assert_eq!(server.slug(), "tls_protocol");
    assert_eq!(server.out, DECODE_ERROR);
}

/// Handshake input is bounded on both sides, however it is cut.
#[test]
fn an_endless_handshake_message_is_refused() {
    let world = World::new();
    let mut record = vec![22, 3, 3, 0x40, 0];
    record.extend([0; 0x4000]);
    for content in [1_u8, 2] {
        let mut pair = world.pair(Versions::Both);
        let peer = match content {
            1 => &mut pair.server,
            _ => &mut pair.client,
        };
        let mut first = record.clone();
        first[5..9].copy_from_slice(&[content, 0, 0xff, 0xff]);
        peer.deliver(&first);
        assert_eq!(peer.slug(), "none");
        while peer.error.is_none() {
            peer.deliver(&record);
            assert!(peer.received.len() <= HANDSHAKE_LEN_MAX + record.len());
        }
        assert_eq!(peer.slug(), "tls_protocol");
    }
}

/// A record that carries nothing, again and again (rustls: 32 in a row).
#[test]
fn empty_records_are_bounded() {
    let world = World::new();
    let mut pair = world.pair(Versions::Tls12);
    let hello = pair.client.take_out();
    pair.server.deliver(&hello);
    for _ in 0..20_000 {
        pair.server.deliver(&[20, 3, 3, 0, 1, 1]);
        if pair.server.error.is_some() {
            return;
        }
    }
    panic!("a flood of change_cipher_spec was taken");
}

/// All bytes that one handshake of either version sends, client's and server's.
fn transcript(world: &World, versions: Versions) -> (Vec<u8>, Vec<u8>) {
    let mut pair = world.pair(versions);
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    while !pair.client.out.is_empty() {
        let bytes = pair.client.take_out();
        from_client.extend(&bytes);
        pair.server.deliver(&bytes);
        let bytes = pair.server.take_out();
        from_server.extend(&bytes);
        pair.client.deliver(&bytes);
    }
    (from_client, from_server)
}

/// Delivers in pieces, as long as the peer takes it, then tries all that can be tried with it.
fn torment(peer: &mut Peer, bytes: &[u8], piece: usize) {
    for part in bytes.chunks(piece.max(1)) {
        peer.deliver(part);
    }
    let _ = peer.seal(b"x");
    let _ = peer.session.eof();
    peer.session.close_notify(&mut Vec::new());
    let _ = peer.seal(b"x");
    peer.deliver(b"\x17\x03\x03\x00\x01x");
    if let Some(error) = &peer.error {
        assert!(!error.to_string().is_empty() && !error.slug().is_empty());
    }
}

#[test]
fn mutated_handshakes_never_panic() {
    let world = World::new();
    for versions in VERSIONS {
        let (from_client, from_server) = transcript(&world, versions);
        for (bytes, to_server) in [(&from_client, true), (&from_server, false)] {
            for i in (0..bytes.len()).step_by(3) {
                let mut changed = bytes.clone();
                changed[i] = changed[i].wrapping_add(1 + (i % 254) as u8);
                let mut pair = world.pair(versions);
                let peer = if to_server {
                    &mut pair.server
                } else {
                    &mut pair.client
                };
                torment(peer, &changed, if i % 2 == 0 { usize::MAX } else { 97 });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
        let world = WORLD.with(std::rc::Rc::clone);
        let _ = ClientHello::peek(&bytes);
        let mut pair = world.pair(Versions::Both);
        torment(&mut pair.server, &bytes, piece);
        torment(&mut pair.client, &bytes, piece);
    }

    /// Random contents in well-formed records get further than random bytes.
    #[test]
    fn random_records_never_panic(
        records in proptest::collection::vec((20_u8..=24, proptest::collection::vec(any::<u8>(), 0..80)), 0..8),
        piece in 1_usize..200,
    ) {
        let world = WORLD.with(std::rc::Rc::clone);
        let mut bytes = Vec::new();
        for (content_type, body) in &records {
            bytes.extend([*content_type, 3, 3, 0, body.len() as u8]);
            bytes.extend(body);
        }
        let _ = ClientHello::peek(&bytes);
        for established in [false, true] {
            let mut pair = world.pair(Versions::Both);
            if established {
                pair.run();
            }
            torment(&mut pair.server, &bytes, piece);
            torment(&mut pair.client, &bytes, piece);
        }
    }

    /// Handshake messages of random types and lengths in random fragments, after a genuine hello.
    #[test]
    fn random_messages_never_panic(
        messages in proptest::collection::vec((0_u8..25, proptest::collection::vec(any::<u8>(), 0..40)), 1..8),
        fragment in 1_usize..60,
        piece in 1_usize..200,
    ) {
        let world = WORLD.with(std::rc::Rc::clone);
        let mut plain = Vec::new();
        for (kind, body) in &messages {
            plain.extend([*kind, 0, 0, body.len() as u8]);
            plain.extend(body);
        }
        let mut whole = vec![0; 5];
        whole.extend(plain);
        let bytes = split_records(&whole, fragment);
        let mut pair = world.pair(Versions::Both);
        torment(&mut pair.client, &bytes, piece);
        torment(&mut pair.server, &bytes, piece);
        let mut pair = world.pair(Versions::Tls12);
        let hello = pair.client.take_out();
        pair.server.deliver(&hello);
        torment(&mut pair.server, &bytes, piece);
    }

    /// A mutated hello: whatever the peek makes of it, rustls's view is the same or it refuses.
    #[test]
    fn a_mutated_hello_is_seen_alike(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let world = WORLD.with(std::rc::Rc::clone);
        let mut hello = Peer::client(&world.client(&[MQTT, CA_NAME], Versions::Both), "localhost", None).out;
        for (index, value) in changes {
            let index = index.index(hello.len());
            hello[index] = value;
        }
        let mut acceptor = Acceptor::default();
        let mut rest: &[u8] = &hello;
        acceptor.read_tls(&mut rest as &mut dyn Read).unwrap();
        let accepted = acceptor.accept();
        if let (Peek::Hello(peeked), Ok(Some(accepted))) = (ClientHello::peek(&hello), &accepted) {
            let seen = accepted.client_hello();
            let names: Vec<&[u8]> = seen.alpn().into_iter().flatten().collect();
            prop_assert_eq!(peeked.alpn().collect::<Vec<_>>(), names);
        }
    }
}

thread_local! {
    /// Making keys and certificates is slow; the properties share them.
    static WORLD: std::rc::Rc<World> = std::rc::Rc::new(World::new());
}
