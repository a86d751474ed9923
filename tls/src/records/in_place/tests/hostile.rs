//! Records that a peer, or somebody between, should not send.

use super::*;

/// RFC 8446 section 5: everything is encrypted and says so; change_cipher_spec has no place any more.
#[test]
fn only_encrypted_records_are_taken() {
    for outer in [20, 21, 22, 24] {
        let (mut client, mut server) = End::of(Format::Tls13);
        let mut record = client.seal(b"data").unwrap();
        record[0] = outer;
        assert_eq!(server.refusal(record, &mut client), 10);
    }
    for clear in [&[20, 3, 3, 0, 1, 1][..], &[21, 3, 3, 0, 2, 1, 0]] {
        let (mut client, mut server) = End::of(Format::Tls13);
        assert_eq!(server.refusal(clear.to_vec(), &mut client), 10);
        // In TLS 1.2 it is the decryption that fails.
        for format in [Format::Tls12Gcm, Format::Tls12ChaCha] {
            let (mut client, mut server) = End::of(format);
            assert_eq!(server.refusal(clear.to_vec(), &mut client), 20);
        }
    }
}

#[test]
fn what_is_no_record_is_refused() {
    for format in FORMATS {
        for junk in [&b"GET / HTTP/1.1\r\n"[..], &[23, 2, 3, 0, 40], &[25, 3, 3, 0, 40]] {
            let (mut client, mut server) = End::of(format);
            assert_eq!(server.refusal(junk.to_vec(), &mut client), 50);
        }
    }
}

/// RFC 8446 section 5.2, RFC 5246 section 6.2.3: how long a record may be.
#[test]
fn records_that_are_too_long() {
    for (format, length_max) in [
        (Format::Tls13, 16_384 + 256),
        (Format::Tls12Gcm, 16_384 + 2048),
        (Format::Tls12ChaCha, 16_384 + 2048),
    ] {
        let header = |length: u16| [&[23, 3, 3][..], &length.to_be_bytes()].concat();
        let (mut client, mut server) = End::of(format);
        assert_eq!(server.open(header(length_max)).unwrap().0, Opened::NeedMore);
        assert_eq!(server.refusal(header(length_max + 1), &mut client), 22);
        // Within the length of a record, but with too much in it.
        let (mut client, mut server) = End::of(format);
        let record = client.forge(APPLICATION_DATA, &[1; 16_385]);
        assert_eq!(server.refusal(record, &mut client), 22);
    }
}

#[test]
fn records_that_are_too_short() {
    for format in FORMATS {
        // In TLS 1.3 a tag alone is whole, but there is no type in it, and this one is not even the right tag.
        for length in 0..format.head() - 5 + format.tail() {
            let (mut client, mut server) = End::of(format);
            let record = [&[23, 3, 3, 0, length as u8][..], &vec![0; length]].concat();
            assert_eq!(server.refusal(record, &mut client), 20, "{format:?} {length}");
        }
    }
}

/// A change of any bit of any byte ends the connection, and shows nothing of what was in the record.
#[test]
fn any_changed_bit_is_found() {
    for format in FORMATS {
        for algorithm in ALGORITHMS {
            let whole = End::pair(format, algorithm).0.seal(b"secret plaintext");
            for bit in 0..8 * whole.unwrap().len() {
                let (mut client, mut server) = End::pair(format, algorithm);
                let mut record = client.seal(b"secret plaintext").unwrap();
                record[bit / 8] ^= 1 << (bit % 8);
                let opened = server
                    .records
                    .open(&mut server.scratch, &mut record, &mut server.out);
                match opened {
                    // It says that it is longer.
                    Ok(Opened::NeedMore) => assert!((24..40).contains(&bit)),
                    Ok(opened) => panic!("bit {bit}: {opened:?}"),
                    Err(error) => assert!(error.refused_by_us() && !server.out.is_empty()),
                }
                let shown = record
                    .windows(6)
                    .any(|part| part == b"secret" || part == b"plaint");
                assert!(!shown, "bit {bit}");
            }
        }
    }
}

#[test]
fn replayed_reordered_and_reflected_records() {
    for format in FORMATS {
        let (mut client, mut server) = End::of(format);
        let one = client.seal(b"one").unwrap();
        server.open(one.clone()).unwrap();
        assert_eq!(server.refusal(one, &mut client), 20);
        let (mut client, mut server) = End::of(format);
        client.seal(b"lost").unwrap();
        let two = client.seal(b"two").unwrap();
        assert_eq!(server.refusal(two, &mut client), 20);
        let (_, mut server) = End::of(format);
        let own = server.seal(b"own").unwrap();
        assert_eq!(server.open(own).unwrap_err().alert(), Some(20));
    }
}

/// RFC 8446 section 5.1: between the records of one handshake message there is no other.
#[test]
fn nothing_comes_between_the_parts_of_a_message() {
    for (content_type, content) in [
        (APPLICATION_DATA, &b"data"[..]),
        (APPLICATION_DATA, b""),
        (ALERT, &[WARNING, 0]),
        (ALERT, &[FATAL, 40]),
    ] {
        let (mut client, mut server) = End::of(Format::Tls13);
        let record = server.forge(HANDSHAKE, &TICKET[..10]);
        assert!(nothing(client.open(record).unwrap()));
        let record = server.forge(content_type, content);
        assert_eq!(client.refusal(record, &mut server), 10);
    }
}

/// A client takes tickets and key updates, a server key updates only; TLS 1.2 takes what asks for renegotiation, to
/// refuse it.
#[test]
fn messages_out_of_place() {
    for format in FORMATS {
        for kind in 0..=30 {
            let message = match kind {
                NEW_SESSION_TICKET => TICKET.to_vec(),
                KEY_UPDATE => UPDATE.to_vec(),
                kind => vec![kind, 0, 0, 0],
            };
            let (mut client, mut server) = End::of(format);
            let record = server.forge(HANDSHAKE, &message);
            let by_client = client.open(record);
            let (mut client, mut server) = End::of(format);
            let record = client.forge(HANDSHAKE, &message);
            let by_server = server.open(record);
            let expected = match (kind, format.is_tls12()) {
                (NEW_SESSION_TICKET, false) => (true, false),
                (KEY_UPDATE, false) => (true, true),
                (HELLO_REQUEST, true) => (true, false),
                (CLIENT_HELLO, true) => (false, true),
                _ => (false, false),
            };
            assert_eq!(
                (by_client.is_ok(), by_server.is_ok()),
                expected,
                "{format:?} {kind}"
            );
            for refused in [by_client, by_server].into_iter().filter_map(Result::err) {
                assert_eq!(refused.alert(), Some(10));
            }
        }
        // No type, change_cipher_spec, heartbeat, none that there is.
        for content_type in [0, 20, 24, 25, 255] {
            // TLS 1.2 has the type outside, where it makes this no record at all.
            if format.is_tls12() && !(20..=24).contains(&content_type) {
                continue;
            }
            let (mut client, mut server) = End::of(format);
            let record = client.forge(content_type, b"\x01");
            // Without a type the byte before is taken for it.
            assert_eq!(server.refusal(record, &mut client), 10, "{content_type}");
        }
        let (mut client, mut server) = End::of(format);
        let record = client.forge(HANDSHAKE, b"");
        assert_eq!(server.refusal(record, &mut client), 10);
    }
}

#[test]
fn malformed_tickets() {
    let body = &TICKET[4..];
    let mut bodies: Vec<Vec<u8>> = (0..body.len()).map(|end| body[..end].to_vec()).collect();
    bodies.push([body, &[0]].concat());
    // A ticket of no length.
    bodies.push([&body[..10], &[0, 0, 0, 0]].concat());
    for body in bodies {
        let (mut client, mut server) = End::of(Format::Tls13);
        let message = [&[NEW_SESSION_TICKET, 0, 0, body.len() as u8][..], &body].concat();
        let record = server.forge(HANDSHAKE, &message);
        assert_eq!(client.refusal(record, &mut server), 50);
    }
}

#[test]
fn an_endless_message_is_refused() {
    let (mut client, mut server) = End::of(Format::Tls13);
    let record = server.forge(HANDSHAKE, &[NEW_SESSION_TICKET, 0, 0x40, 1]);
    assert_eq!(client.refusal(record, &mut server), 50);
    let (mut client, mut server) = End::of(Format::Tls13);
    let beginning = [&[NEW_SESSION_TICKET, 0, 0x40, 0][..], &[0; 16_000]].concat();
    let record = server.forge(HANDSHAKE, &beginning);
    assert!(nothing(client.open(record).unwrap()));
    let record = server.forge(HANDSHAKE, &[0; 384]);
    assert_eq!(client.refusal(record, &mut server), 50, "it is no ticket");
}

/// Records that bring the application nothing, 32 in a row at most.
#[test]
fn records_without_data_are_bounded() {
    let mut kinds: Vec<(Format, u8, &[u8])> = vec![
        (Format::Tls13, HANDSHAKE, &TICKET),
        (Format::Tls13, HANDSHAKE, &UPDATE),
        (Format::Tls13, HANDSHAKE, &ASK_FOR_UPDATE),
        (Format::Tls12Gcm, ALERT, &[WARNING, 41]),
    ];
    kinds.extend(FORMATS.map(|format| (format, APPLICATION_DATA, &b""[..])));
    kinds.extend(FORMATS.map(|format| (format, ALERT, &[WARNING, 90][..])));
    for (format, content_type, content) in kinds {
        let (mut client, mut server) = End::of(format);
        let fruitless = |server: &mut End| {
            let record = server.forge(content_type, content);
            if content_type == HANDSHAKE && content[0] == KEY_UPDATE {
                server.records.tx.update().unwrap();
            }
            record
        };
        for _ in 0..3 {
            for _ in 0..32 {
                let record = fruitless(&mut server);
                assert!(nothing(client.open(record).unwrap()));
            }
            let record = server.seal(b"data").unwrap();
            assert_eq!(client.open(record).unwrap().1, b"data");
        }
        for _ in 0..32 {
            let record = fruitless(&mut server);
            assert!(nothing(client.open(record).unwrap()));
        }
        let record = fruitless(&mut server);
        assert_eq!(client.refusal(record, &mut server), 10);
    }
}

/// RFC 5246 section 7.2.2.
#[test]
fn renegotiation_is_refused() {
    for format in [Format::Tls12Gcm, Format::Tls12ChaCha] {
        for by_client in [false, true] {
            let (mut client, mut server) = End::of(format);
            let (asked, asking, kind) = match by_client {
                false => (&mut client, &mut server, HELLO_REQUEST),
                true => (&mut server, &mut client, CLIENT_HELLO),
            };
            let record = asking.forge(HANDSHAKE, &[kind, 0, 0, 0]);
            assert!(nothing(asked.open(record).unwrap()));
            // A warning: both go on.
            let record = std::mem::take(&mut asked.out);
            assert_eq!(record.len(), format.head() + 2 + format.tail());
            let mut copy = record.clone();
            let (keys, context) = (&asking.records.rx, asking.records.rx.expand().unwrap());
            let (content_type, plain) = format.open(keys, 0, &context, &mut copy).unwrap();
            assert_eq!((content_type, &copy[plain]), (ALERT, &[WARNING, 100][..]));
            assert!(nothing(asking.open(record).unwrap()));
            let record = asking.seal(b"data").unwrap();
            assert_eq!(asked.open(record).unwrap().1, b"data");
            let record = asking.forge(HANDSHAKE, &[kind, 0, 0, 0]);
            assert_eq!(asked.refusal(record, asking), 10);
        }
    }
}
