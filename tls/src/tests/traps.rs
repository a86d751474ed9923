//! Traps that TLS stacks, and the ways of using them, have been seen to fall into.

use std::{fs, sync::Arc};

use rustls::{
    ClientConnection, HandshakeKind, ServerConnection,
    crypto::aws_lc_rs::default_provider,
    server::{ServerSessionMemoryCache, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};

use super::support::*;
use crate::{
    KeyLogFile, RecordLayer, TlsSession, Versions,
    crypto::{Algorithm, Context, NONCE_LEN, TAG_LEN, expand_label},
};

/// A call without bytes, in every state and between any two bytes: rustls's interface panics at some of them.
#[test]
fn no_bytes_at_all_do_nothing() {
    for (versions, layer) in CASES {
        let world = World::with(layer);
        let poke = |peer: &mut Peer| {
            let opened = peer.session.open(&mut peer.scratch, &mut [], &mut peer.out);
            match (&peer.error, opened) {
                (None, opened) => assert_eq!(opened, Ok(crate::Opened::NeedMore)),
                (Some(error), opened) => assert_eq!(opened.unwrap_err(), *error),
            }
        };
        // In records of a few bytes, so that most calls come in the middle of a message.
        for record_len in [usize::MAX, 50] {
            let mut pair = world.pair(versions);
            poke(&mut pair.client);
            poke(&mut pair.server);
            while !pair.client.out.is_empty() || !pair.server.out.is_empty() {
                let bytes = pair.client.take_out();
                let bytes = match bytes.first() {
                    Some(22) if bytes[5] == 1 => split_records(&bytes, record_len.min(bytes.len())),
                    _ => bytes,
                };
                for byte in bytes {
                    pair.server.deliver(&[byte]);
                    poke(&mut pair.server);
                }
                for byte in pair.server.take_out() {
                    pair.client.deliver(&[byte]);
                    poke(&mut pair.client);
                }
            }
            assert!(pair.client.established && pair.server.established);
            let mut record = pair.client.seal(b"there").unwrap();
            *record.last_mut().unwrap() ^= 1;
            pair.server.deliver(&record);
            assert_eq!(pair.server.slug(), "tls_bad_record");
            poke(&mut pair.server);
        }
    }
}

/// A client without a certificate that has been on an ALPN name which needs none takes its sessions along to the one
/// that does. With one ticketer or one session store for both it would be let in.
#[test]
fn a_session_of_one_name_opens_no_other() {
    for (versions, layer) in CASES {
        let world = World::with(layer);
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions.as_rustls())
            .unwrap()
            .with_root_certificates(world.authority.roots().store)
            .with_no_client_auth();
        let mut connect = |alpn: &[u8]| {
            // The clones share the store of sessions.
            config.alpn_protocols = vec![alpn.to_vec()];
            let name = "localhost".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
            let mut server = Peer::new(TlsSession::server(&world.server));
            run!(server, client);
            (client.handshake_kind(), server)
        };
        for _ in 0..2 {
            let (kind, server) = connect(MQTT);
            assert!(server.established);
            assert_eq!(kind, Some(HandshakeKind::Full));
            let (_, server) = connect(CA_NAME);
            assert!(!server.established);
            assert_eq!(server.slug(), "client_cert_required");
        }
    }
}

/// Devices that share one configuration and one server, which would resume: each is seen as itself. With a shared store
/// of sessions the second appears as the first.
#[test]
fn devices_that_share_a_configuration_are_told_apart() {
    for (versions, layer) in CASES {
        let world = World::with(layer);
        let provider = Arc::new(default_provider());
        let roots = world.authority.roots().store;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let identity = world.authority.server(&["localhost"], VALID);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions.as_rustls())
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(
                identity.certified_key().unwrap(),
            )));
        config.alpn_protocols = vec![CA_NAME.to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(100);
        let config = Arc::new(config);
        let client = world.client(&[CA_NAME], versions);
        for device in ["device-1", "device-2", "device-1"] {
            let device = world.authority.device(device, VALID);
            let mut server = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut peer = Peer::client(&client, "localhost", Some(&device));
            run!(peer, server);
            assert!(peer.established);
            // The tickets have come: with the first data at the latest.
            std::io::Write::write_all(&mut server.writer(), b"hello").unwrap();
            run!(peer, server);
            assert_eq!(peer.data, b"hello");
            let seen = server.peer_certificates().unwrap()[0].as_ref();
            assert_eq!(seen, device.leaf());
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

/// RFC 8446 section 5.1: Finished changes the keys, so nothing may follow it in its record: neither the beginning of a
/// message, which would be forgotten at the hand-over, nor a whole one, which would count as if it had come under the
/// new keys.
#[test]
fn nothing_follows_finished_in_its_record() {
    let path = std::env::temp_dir().join(format!("fleetwire-tls-traps-{}", std::process::id()));
    let whole_ticket: &[u8] = &[4, 0, 0, 15, 0, 0, 1, 0, 1, 2, 3, 4, 1, 7, 0, 1, 9, 0, 0];
    for layer in [RecordLayer::InPlace, RecordLayer::Rustls] {
        for extra in [&[][..], &[4, 0, 0], whole_ticket] {
            for to_client in [true, false] {
                let _ = fs::remove_file(&path);
                let world = World::with(layer);
                let server = table(&world.authority, world.authority.server(&["localhost"], VALID))
                    .record_layer(layer)
                    .cipher_suites(&["TLS13_AES_128_GCM_SHA256"])
                    .key_log_file(KeyLogFile::open(&path).unwrap())
                    .build()
                    .unwrap();
                let client = world.client(&[CA_NAME], Versions::Tls13);
                let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
                let hello = pair.client.take_out();
                pair.server.deliver(&hello);
                let mut flight = pair.server.take_out();
                let log = fs::read_to_string(&path).unwrap();
                if to_client {
                    append_to_last(
                        &mut flight,
                        extra,
                        &secret(&log, "SERVER_HANDSHAKE_TRAFFIC_SECRET"),
                    );
                }
                pair.client.deliver(&flight);
                let receiver = if to_client {
                    &pair.client
                } else {
                    let mut flight = pair.client.take_out();
                    append_to_last(
                        &mut flight,
                        extra,
                        &secret(&log, "CLIENT_HANDSHAKE_TRAFFIC_SECRET"),
                    );
                    pair.server.deliver(&flight);
                    &pair.server
                };
                if extra.is_empty() {
                    assert!(receiver.established, "{:?}", receiver.error);
                } else {
                    assert_eq!(receiver.slug(), "tls_protocol");
                    assert!(!receiver.established);
                }
            }
        }
    }
    fs::remove_file(&path).unwrap();
}

/// The secret of that label in a key log of one connection.
fn secret(log: &str, label: &str) -> Vec<u8> {
    let line = log.lines().find(|line| line.starts_with(label)).unwrap();
    let digits = line.rsplit(' ').next().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Opens the last record of a flight with the key of that secret, and seals it anew with more in it.
fn append_to_last(flight: &mut Vec<u8>, extra: &[u8], secret: &[u8]) {
    let algorithm = Algorithm::Aes128Gcm;
    let (mut key, mut iv) = ([0; 16], [0; NONCE_LEN]);
    expand_label(algorithm, secret, "key", &mut key).unwrap();
    expand_label(algorithm, secret, "iv", &mut iv).unwrap();
    let context = Context::new(algorithm, &key).unwrap();
    let (mut start, mut sequence) = (0, 0);
    loop {
        let end = start + 5 + usize::from(u16::from_be_bytes([flight[start + 3], flight[start + 4]]));
        if end == flight.len() {
            break;
        }
        // The ServerHello and change_cipher_spec are in the clear.
        sequence += u8::from(flight[start] == 23);
        start = end;
    }
    iv[NONCE_LEN - 1] ^= sequence;
    let (header, body) = flight[start..].split_at_mut(5);
    let length = context.open(iv, header, body).unwrap();
    let mut record = body[..length].to_vec();
    let content_type = record.pop().unwrap();
    assert_eq!(content_type, 22);
    record.extend_from_slice(extra);
    record.push(content_type);
    let [high, low] = u16::try_from(record.len() + TAG_LEN).unwrap().to_be_bytes();
    let header = [23, 3, 3, high, low];
    let mut tag = [0; TAG_LEN];
    context.seal(iv, &header, &mut record, &mut tag).unwrap();
    flight.truncate(start);
    flight.extend([&header[..], &record, &tag].concat());
}
