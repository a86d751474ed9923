//! New keys: the peer's, the answer to them, and those that the limit of the old ones asks for.

use super::*;

/// Header, message, type and tag.
const UPDATE_LEN: usize = 27;

/// RFC 8446 section 4.6.3, on both sides and again and again.
#[test]
fn the_peer_changes_its_keys() {
    for algorithm in ALGORITHMS {
        let (mut client, mut server) = End::pair(Format::Tls13, algorithm);
        for round in 0..10 {
            let record = client.forge(HANDSHAKE, &UPDATE);
            client.records.tx.update().unwrap();
            assert!(nothing(server.open(record).unwrap()));
            let record = client.seal(b"under new keys").unwrap();
            assert_eq!(server.open(record).unwrap().1, b"under new keys", "round {round}");
            let record = server.seal(b"no answer was asked for").unwrap();
            assert_eq!(record.len(), 5 + 23 + 17);
            client.open(record).unwrap();
            // Then the other side does.
            std::mem::swap(&mut client, &mut server);
        }
    }
}

/// The answer goes out in front of the next data, once, however often it was asked for.
#[test]
fn one_answer_waits() {
    let (mut client, mut server) = End::of(Format::Tls13);
    for _ in 0..3 {
        let record = client.forge(HANDSHAKE, &ASK_FOR_UPDATE);
        client.records.tx.update().unwrap();
        assert!(nothing(server.open(record).unwrap()));
    }
    assert!(server.out.is_empty());
    let mut records = server.seal(b"data").unwrap();
    assert_eq!(records.len(), UPDATE_LEN + 5 + 4 + 17);
    let data = records.split_off(UPDATE_LEN);
    assert!(nothing(client.open(records).unwrap()));
    assert_eq!(client.open(data).unwrap().1, b"data");
    assert_eq!(server.seal(b"data").unwrap().len(), 5 + 4 + 17);
    // The client was not asked in turn, or this would never end.
    assert_eq!(client.seal(b"data").unwrap().len(), 5 + 4 + 17);
}

/// RFC 8446 section 5.1: what follows a change of keys in its record would be under other keys.
#[test]
fn a_key_update_ends_its_record() {
    for after in [&UPDATE[..], &TICKET, &[KEY_UPDATE], &[0]] {
        let (mut client, mut server) = End::of(Format::Tls13);
        let content = [&UPDATE[..], after].concat();
        let record = server.forge(HANDSHAKE, &content);
        assert_eq!(client.refusal(record, &mut server), 10);
    }
    // Before it there may be something, and it may be split.
    let (mut client, mut server) = End::of(Format::Tls13);
    let content = [&TICKET[..], &UPDATE].concat();
    for part in [&content[..3], &content[3..21], &content[21..]] {
        let record = server.forge(HANDSHAKE, part);
        assert!(nothing(client.open(record).unwrap()));
    }
    server.records.tx.update().unwrap();
    let record = server.seal(b"data").unwrap();
    assert_eq!(client.open(record).unwrap().1, b"data");
}

#[test]
fn malformed_key_updates() {
    for (content, alert) in [
        (&[KEY_UPDATE, 0, 0, 1, 2][..], 47),
        (&[KEY_UPDATE, 0, 0, 0], 50),
        (&[KEY_UPDATE, 0, 0, 2, 0, 0], 50),
    ] {
        let (mut client, mut server) = End::of(Format::Tls13);
        let record = client.forge(HANDSHAKE, content);
        assert_eq!(server.refusal(record, &mut client), alert);
    }
    // TLS 1.2 has none.
    for format in [Format::Tls12Gcm, Format::Tls12ChaCha] {
        let (mut client, mut server) = End::of(format);
        let record = client.forge(HANDSHAKE, &UPDATE);
        assert_eq!(server.refusal(record, &mut client), 10);
    }
}

/// RFC 8446 section 5.5.
#[test]
fn keys_that_have_done_enough_are_replaced() {
    for algorithm in ALGORITHMS {
        let (mut client, mut server) = End::pair(Format::Tls13, algorithm);
        client.records.tx.set_records_max(3);
        let mut updated = Vec::new();
        for i in 0..10_u8 {
            let mut records = client.seal(&[i; 40]).unwrap();
            if records.len() > 5 + 40 + 17 {
                updated.push(i);
                let data = records.split_off(UPDATE_LEN);
                assert!(nothing(server.open(records).unwrap()));
                records = data;
            }
            assert_eq!(server.open(records).unwrap().1, [i; 40]);
        }
        // The limit counts for each set of keys.
        assert_eq!(updated, [3, 6, 9]);
        assert_eq!(
            server.seal(b"x").unwrap().len(),
            5 + 1 + 17,
            "no answer was asked for"
        );
    }
}

/// TLS 1.2 can only close.
#[test]
fn without_new_keys_nothing_is_sealed_any_more() {
    for format in [Format::Tls12Gcm, Format::Tls12ChaCha] {
        let (mut client, mut server) = End::of(format);
        client.records.tx.set_records_max(2);
        for _ in 0..2 {
            let record = client.seal(b"data").unwrap();
            server.open(record).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(*client.seal(b"data").unwrap_err().reason(), Reason::KeysExhausted);
        }
        client.records.close_notify(&mut client.out).unwrap();
        let record = std::mem::take(&mut client.out);
        assert!(matches!(server.open(record).unwrap().0, Opened::Closed { .. }));
    }
}

#[test]
fn limits_of_the_algorithms() {
    assert_eq!(Algorithm::Aes128Gcm.records_max(), 1 << 23);
    assert_eq!(Algorithm::Aes256Gcm.records_max(), 1 << 23);
    assert_eq!(Algorithm::ChaCha20Poly1305.records_max(), u64::MAX - 65_536);
}

/// RFC 8446 section 5.3: a sequence number never wraps, in neither direction.
#[test]
fn at_the_end_of_the_sequence_numbers_all_ends() {
    for format in FORMATS {
        let (mut client, mut server) = End::of(format);
        client.records.tx.set_sequence(u64::MAX - 1);
        client.records.tx.set_records_max(u64::MAX);
        server.records.rx.set_sequence(u64::MAX - 1);
        let record = client.seal(b"the last").unwrap();
        assert_eq!(server.open(record.clone()).unwrap().1, b"the last");
        assert!(client.records.tx.next_sequence().is_err());
        assert!(client.records.close_notify(&mut client.out).is_err());
        assert_eq!(server.open(record).unwrap_err().slug(), "tls_internal");
    }
}
