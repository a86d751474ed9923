//! rustls's buffered connections as the other side: what this crate would not do itself.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConnection, ServerConnection, SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::SingleCertAndKey,
};

use super::support::*;
use crate::{Reason, RecordLayer, TlsSession, Versions};

const LAYERS: [RecordLayer; 2] = [RecordLayer::InPlace, RecordLayer::Rustls];

/// A foreign server, which asks for no client certificate.
fn server(world: &World, change: impl FnOnce(&mut rustls::ServerConfig)) -> ServerConnection {
    server_with(world, aws_lc_rs::ALL_CIPHER_SUITES, change)
}

fn server_with(
    world: &World,
    suites: &[SupportedCipherSuite],
    change: impl FnOnce(&mut rustls::ServerConfig),
) -> ServerConnection {
    let identity = world.authority.server(&["localhost"], VALID);
    let provider = CryptoProvider {
        cipher_suites: suites.to_vec(),
        ..aws_lc_rs::default_provider()
    };
    let versions: Vec<_> = suites
        .first()
        .map(SupportedCipherSuite::version)
        .into_iter()
        .collect();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(provider));
    let builder = match suites.len() {
        1 => builder.with_protocol_versions(&versions),
        _ => builder.with_safe_default_protocol_versions(),
    };
    let mut config = builder
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(
            identity.certified_key().unwrap(),
        )));
    change(&mut config);
    ServerConnection::new(Arc::new(config)).unwrap()
}

fn client(world: &World) -> ClientConnection {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(world.authority.roots().store)
        .with_no_client_auth();
    config.alpn_protocols = vec![MQTT.to_vec()];
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

fn read_all(reader: &mut dyn Read) -> Vec<u8> {
    let mut data = Vec::new();
    // It ends with "would block" when there is no more.
    let _ = reader.read_to_end(&mut data);
    data
}

/// mosquitto and others: the handshake succeeds as if no name had been offered.
#[test]
fn a_server_that_ignores_alpn_is_left() {
    let world = World::new();
    for versions in VERSIONS {
        let config = world.client(&[CA_NAME, MQTT], versions);
        let mut peer = Peer::client(&config, "localhost", Some(&world.device));
        let mut foreign = server(&world, |_| {});
        run!(peer, foreign);
        assert!(!peer.established, "no application byte may follow");
        let error = peer.error();
        assert_eq!(error.slug(), "alpn_not_selected");
        assert!(error.refused_by_us());
        let reason = Reason::AlpnNotSelected {
            offered: vec![CA_NAME.to_vec(), MQTT.to_vec()],
            chosen: None,
            issuer: Some("CN=Fleet CA".into()),
        };
        assert_eq!(*error.reason(), reason);
        // It heard our close_notify, and nothing before it.
        let state = foreign.process_new_packets().unwrap();
        assert!(state.peer_has_closed());
        assert_eq!(read_all(&mut foreign.reader()), b"");
        assert_eq!(peer.seal(b"x").unwrap_err().slug(), "alpn_not_selected");
    }
}

#[test]
fn who_offers_no_alpn_takes_any_server() {
    let world = World::new();
    let config = world.client(&[], Versions::Both);
    let mut peer = Peer::client(&config, "localhost", None);
    let mut foreign = server(&world, |config| config.alpn_protocols = vec![b"h2".to_vec()]);
    run!(peer, foreign);
    assert!(peer.established);
    assert_eq!(peer.session.info().unwrap().alpn, None);
}

#[test]
fn a_server_that_knows_other_names_refuses() {
    let world = World::new();
    let config = world.client(&[CA_NAME], Versions::Both);
    let mut peer = Peer::client(&config, "localhost", None);
    let mut foreign = server(&world, |config| config.alpn_protocols = vec![b"h2".to_vec()]);
    run!(peer, foreign);
    assert_eq!(peer.slug(), "alpn_refused");
    assert_eq!(peer.error().alert(), Some(120));
    assert!(!peer.error().refused_by_us());
}

/// The room that `framing` asks for is what each suite needs, to the byte for TLS 1.2.
#[test]
fn every_cipher_suite() {
    let ecdsa = |suite: &&SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("RSA");
    let suites = aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(ecdsa);
    for (suite, layer) in suites.flat_map(|suite| LAYERS.map(|layer| (suite, layer))) {
        let world = World::with(layer);
        let config = world.client(&[], Versions::Both);
        let mut peer = Peer::client(&config, "localhost", None);
        let mut foreign = server_with(&world, &[*suite], |_| {});
        run!(peer, foreign);
        assert!(peer.established, "{suite:?}");
        assert_eq!(
            peer.session.info().unwrap().cipher_suite,
            suite.suite().as_str().unwrap()
        );

        let framing = peer.session.framing();
        let record = peer.seal(&[9; 3000]).unwrap();
        // Beyond that TLS 1.3 needs room for a KeyUpdate: in place in front, with rustls behind and for two.
        let (head, tail) = match (suite, layer) {
            (SupportedCipherSuite::Tls12(_), _) => (framing.head, framing.tail),
            (SupportedCipherSuite::Tls13(_), RecordLayer::InPlace) => (framing.head - 27, framing.tail),
            (SupportedCipherSuite::Tls13(_), RecordLayer::Rustls) => (framing.head, framing.tail - 54),
        };
        assert_eq!(record.len(), head + 3000 + tail);
        peer.out = record;
        run!(peer, foreign);
        assert_eq!(read_all(&mut foreign.reader()), [9; 3000]);
        foreign.writer().write_all(&[8; 40_000]).unwrap();
        run!(peer, foreign);
        assert_eq!(peer.data, [8; 40_000]);
    }
}

/// The answer to a KeyUpdate rides in front of the next record (RFC 8446 section 4.6.3).
#[test]
fn a_key_update_is_answered_with_the_next_record() {
    for layer in LAYERS {
        key_update_is_answered(&World::with(layer));
    }
}

fn key_update_is_answered(world: &World) {
    let mut peer = Peer::new(TlsSession::server(&world.server));
    let mut foreign = client(world);
    run!(peer, foreign);
    run!(peer, foreign);
    assert!(peer.established);

    foreign.refresh_traffic_keys().unwrap();
    foreign.writer().write_all(b"under new keys").unwrap();
    run!(peer, foreign);
    assert_eq!(peer.data, b"under new keys");
    assert!(peer.out.is_empty());
    let plain = vec![5; 16_384];
    let record = peer.seal(&plain).unwrap();
    assert_eq!(record.len(), 27 + 5 + 16_384 + 17);
    peer.out = record;
    run!(peer, foreign);
    assert_eq!(read_all(&mut foreign.reader()), plain);
    let record = peer.seal(b"short").unwrap();
    assert_eq!(record.len(), 5 + 5 + 17);
    peer.out = record;
    run!(peer, foreign);
    assert_eq!(read_all(&mut foreign.reader()), b"short");
}

/// A peer that asks for new keys again and again is left (rustls: after 32 in a row).
#[test]
fn key_updates_without_data_are_bounded() {
    for layer in LAYERS {
        let world = World::with(layer);
        let mut peer = Peer::new(TlsSession::server(&world.server));
        let mut foreign = client(&world);
        run!(peer, foreign);
        run!(peer, foreign);
        for _ in 0..32 {
            foreign.refresh_traffic_keys().unwrap();
            run!(peer, foreign);
        }
        assert_eq!(peer.slug(), "none");
        foreign.refresh_traffic_keys().unwrap();
        run!(peer, foreign);
        assert_eq!(peer.slug(), "tls_protocol");
    }
}

/// A foreign server sends tickets in records of a few bytes. While one is incomplete rustls remembers offsets into the
/// bytes it has seen, and sealing or closing without them would panic.
#[test]
fn tickets_split_over_records() {
    for layer in LAYERS {
        split_tickets(&World::with(layer));
    }
}

fn split_tickets(world: &World) {
    let tickets = |config: &mut rustls::ServerConfig| {
        config.max_fragment_size = Some(50);
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    };
    for closing in [false, true] {
        let config = world.client(&[], Versions::Tls13);
        let mut peer = Peer::client(&config, "localhost", None);
        let mut foreign = server(world, tickets);
        let mut wire = Vec::new();
        // The client's last flight, then the tickets, which are held back.
        while !peer.established {
            let ours = peer.take_out();
            let mut rest = ours.as_slice();
            while !rest.is_empty() {
                foreign.read_tls(&mut rest).unwrap();
                foreign.process_new_packets().unwrap();
            }
            wire.clear();
            while foreign.wants_write() {
                foreign.write_tls(&mut wire).unwrap();
            }
            peer.deliver(&wire);
        }
        let finished = peer.take_out();
        foreign.read_tls(&mut finished.as_slice()).unwrap();
        foreign.process_new_packets().unwrap();
        wire.clear();
        while foreign.wants_write() {
            foreign.write_tls(&mut wire).unwrap();
        }
        assert!(wire.len() > 4 * 72, "several records of tickets");

        let mut expected = Vec::new();
        for (i, byte) in wire.iter().enumerate() {
            peer.deliver(&[*byte]);
            assert_eq!(peer.slug(), "none", "after byte {i}");
            if i % 50 == 25 {
                let record = peer.seal(b"between").unwrap();
                foreign.read_tls(&mut record.as_slice()).unwrap();
                foreign.process_new_packets().unwrap();
                expected.extend(b"between");
            }
            if closing && i == 150 {
                assert!(!peer.received.is_empty(), "a ticket is incomplete");
                let mut out = Vec::new();
                peer.session.close_notify(&mut out);
                foreign.read_tls(&mut out.as_slice()).unwrap();
                assert!(foreign.process_new_packets().unwrap().peer_has_closed());
                break;
            }
        }
        assert_eq!(read_all(&mut foreign.reader()), expected);
        if !closing {
            assert!(peer.received.is_empty());
            foreign.writer().write_all(b"after the tickets").unwrap();
            run!(peer, foreign);
            assert_eq!(peer.data, b"after the tickets");
        }
    }
}

#[test]
fn a_handshake_in_small_fragments() {
    let world = World::new();
    for versions in VERSIONS {
        let config = world.client(&[], versions);
        let mut peer = Peer::client(&config, "localhost", None);
        let mut foreign = server(&world, |config| config.max_fragment_size = Some(32));
        run!(peer, foreign);
        assert!(peer.established);
    }
}
