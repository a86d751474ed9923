//! Records after the handshake, in place and both ways.

use super::support::*;
use crate::{RECORD_LEN_MAX, RecordLayer, Stage, Versions};

#[test]
fn data_flows_both_ways() {
    for case in CASES {
        let mut pair = World::established(case);
        for length in [1, 2, 15, 16, 17, 1000, 16_383, 16_384] {
            let plain: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let record = pair.client.seal(&plain).unwrap();
            assert!(record.len() <= RECORD_LEN_MAX);
            pair.server.deliver(&record);
            assert_eq!(std::mem::take(&mut pair.server.data), plain);
            let record = pair.server.seal(&plain).unwrap();
            pair.client.deliver(&record);
            assert_eq!(std::mem::take(&mut pair.client.data), plain);
        }
        assert!(pair.client.out.is_empty() && pair.server.out.is_empty());
    }
}

#[test]
fn no_plaintext_gives_no_record() {
    for case in CASES {
        let mut pair = World::established(case);
        assert_eq!(pair.client.seal(b"").unwrap(), b"");
    }
}

#[test]
fn several_records_in_one_buffer() {
    for case in CASES {
        let mut pair = World::established(case);
        let mut wire = Vec::new();
        let mut plain = Vec::new();
        for i in 0..64_u8 {
            let part = vec![i; 1 + 7 * usize::from(i)];
            wire.extend(pair.client.seal(&part).unwrap());
            plain.extend(part);
        }
        pair.server.deliver(&wire);
        assert_eq!(pair.server.data, plain);
        assert!(pair.server.received.is_empty());
    }
}

#[test]
fn records_cut_at_every_byte() {
    for case in CASES {
        let mut pair = World::established(case);
        for cut in 0.. {
            let plain = format!("record cut at {cut:04}");
            let mut record = pair.client.seal(plain.as_bytes()).unwrap();
            if cut > record.len() {
                break;
            }
            let rest = record.split_off(cut);
            pair.server.deliver(&record);
            let whole = rest.is_empty();
            assert_eq!(pair.server.data.is_empty(), !whole, "cut at {cut}");
            pair.server.deliver(&rest);
            assert_eq!(std::mem::take(&mut pair.server.data), plain.as_bytes());
        }
    }
}

#[test]
fn copies_are_counted_once_in_each_direction_and_in_place_there_are_none() {
    for case in CASES {
        let mut pair = World::established(case);
        assert_eq!(pair.client.scratch.bytes_copied(), 0);
        let record = pair.client.seal(&[7; 500]).unwrap();
        pair.server.deliver(&record);
        let copied = match case.1 {
            RecordLayer::InPlace => 0,
            RecordLayer::Rustls => 500,
        };
        assert_eq!(pair.client.scratch.bytes_copied(), copied);
        assert_eq!(pair.server.scratch.bytes_copied(), copied);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_harms_nothing() {
    for case in CASES {
        let mut pair = World::established(case);
        let framing = pair.client.session.framing();
        assert_eq!(framing.plain_max, 16_384);
        assert_eq!(
            pair.client.seal(&vec![0; 16_385]).unwrap_err().slug(),
            "tls_internal"
        );
        let whole = framing.head + 10 + framing.tail;
        let place = framing.head..framing.head + 10;
        let (session, scratch) = (&mut pair.client.session, &mut pair.client.scratch);
        for (length, plain) in [
            (whole - 1, place.clone()),
            (whole, place.start - 1..place.end),
            (whole, place.start..place.end + 1),
            (whole, 0..usize::MAX),
        ] {
            let mut block = vec![0; length];
            let error = session.seal(scratch, &mut block, plain).unwrap_err();
            assert_eq!(error.slug(), "tls_internal");
            assert!(block.iter().all(|byte| *byte == 0));
        }
        let record = pair.client.seal(b"still alive").unwrap();
        pair.server.deliver(&record);
        assert_eq!(pair.server.data, b"still alive");
    }
}

#[test]
fn nothing_is_sealed_before_the_handshake_is_done() {
    let mut pair = World::new().pair(Versions::Both);
    assert_eq!(pair.client.seal(b"x").unwrap_err().slug(), "tls_internal");
    assert_eq!(pair.server.seal(b"x").unwrap_err().slug(), "tls_internal");
    pair.run();
    assert!(pair.client.established, "misuse does not end a session");
}

/// RFC 8446 section 6.1: each direction is closed by itself. Whoever closes reads no more; whoever is told may still send.
#[test]
fn close_notify_both_ways() {
    for case in CASES {
        let mut pair = World::established(case);
        let mut out = Vec::new();
        let last = pair.client.seal(b"last words").unwrap();
        pair.client.session.close_notify(&mut out);
        assert!(!out.is_empty());
        pair.server.deliver(&last);
        pair.server.deliver(&out);
        assert!(pair.server.closed);
        assert_eq!(pair.server.data, b"last words");
        pair.server.session.eof().unwrap();
        assert_eq!(pair.server.session.stage(), Stage::Closing);

        assert_eq!(pair.client.seal(b"more").unwrap_err().slug(), "tls_closed");
        let length = out.len();
        pair.client.session.close_notify(&mut out);
        assert_eq!(out.len(), length, "it is sent once");

        // What comes behind a close_notify is ignored.
        pair.server.deliver(b"junk");
        assert_eq!(pair.server.slug(), "none");

        let mut out = pair.server.seal(b"not read any more").unwrap();
        pair.server.session.close_notify(&mut out);
        pair.client.deliver(&out);
        assert_eq!(pair.client.data, b"");
        assert_eq!(pair.server.seal(b"more").unwrap_err().slug(), "tls_closed");
        assert!(pair.client.closed);
        pair.client.session.eof().unwrap();
    }
}

#[test]
fn the_end_without_close_notify_is_truncation() {
    for case in CASES {
        let mut pair = World::established(case);
        let error = pair.client.session.eof().unwrap_err();
        assert_eq!((error.slug(), error.refused_by_us()), ("tls_truncated", false));
        // Whoever has closed does not wait for the other.
        pair.client.session.close_notify(&mut Vec::new());
        pair.client.session.eof().unwrap();
    }
}

#[test]
fn closing_before_the_handshake_is_done_ends_the_session() {
    let mut pair = World::new().pair(Versions::Both);
    let mut out = Vec::new();
    pair.client.session.close_notify(&mut out);
    assert!(out.is_empty());
    assert_eq!(pair.client.session.stage(), Stage::Failed);
    pair.client.deliver(b"x");
    assert_eq!(pair.client.slug(), "tls_closed");
}

/// Each byte of a record changed, one after the other: none gets through, and the peer hears of it.
#[test]
fn a_tampered_record_is_refused() {
    for case in CASES {
        let (versions, layer) = case;
        let world = World::with(layer);
        let length = World::established(case).client.seal(b"on").unwrap().len();
        for i in 0..length {
            let mut pair = world.pair(versions);
            pair.run();
            let mut record = pair.client.seal(b"on").unwrap();
            record[i] ^= 1;
            pair.server.deliver(&record);
            // A longer record is awaited for ever.
            if i == 3 || (i == 4 && record[4] & 1 == 1) {
                assert_eq!(pair.server.slug(), "none");
                continue;
            }
            // rustls ignores the outer type and the version of TLS 1.3's records, which say nothing: the type that counts
            // is encrypted.
            if (i == 0 || i == 2) && case == (Versions::Tls13, RecordLayer::Rustls) {
                assert_eq!(pair.server.data, b"on");
                continue;
            }
            assert!(pair.server.data.is_empty(), "{case:?} byte {i}");
            let error = pair.server.error().clone();
            assert!(
                ["tls_bad_record", "tls_protocol"].contains(&error.slug()),
                "byte {i}: {error}"
            );
            assert!(error.refused_by_us());
            assert_eq!(
                pair.server.seal(b"x").unwrap_err(),
                error,
                "nothing is sealed after an alert"
            );
            assert_eq!(pair.server.session.eof().unwrap_err(), error);
            let alert = pair.server.take_out();
            if error.slug() == "tls_bad_record" {
                pair.client.deliver(&alert);
                assert_eq!(pair.client.slug(), "tls_alert");
                assert_eq!(pair.client.error().alert(), Some(20));
                assert!(!pair.client.error().refused_by_us());
            }
        }
    }
}

#[test]
fn a_replayed_record_is_refused() {
    for case in CASES {
        let mut pair = World::established(case);
        let record = pair.client.seal(b"once").unwrap();
        pair.server.deliver(&record);
        pair.server.deliver(&record);
        assert_eq!(pair.server.data, b"once");
        assert_eq!(pair.server.slug(), "tls_bad_record");
    }
}

/// rustls takes it for impossible to send an alert after its close_notify, and its debug assertion says so.
#[test]
fn a_bad_record_after_our_close_notify_is_ignored() {
    for case in CASES {
        let mut pair = World::established(case);
        pair.client.session.close_notify(&mut Vec::new());
        pair.client
            .deliver(b"\x17\x03\x03\x00\x20                                ");
        assert_eq!(pair.client.slug(), "none");
        assert!(pair.client.closed && pair.client.out.is_empty());
    }
}

/// A renegotiation or plaintext in the middle of a session never reaches the application.
#[test]
fn plaintext_after_the_handshake_is_refused() {
    for case in CASES {
        for content_type in 20..=24 {
            let mut pair = World::established(case);
            pair.server.deliver(&[content_type, 3, 3, 0, 4, 1, 0, 0, 0]);
            assert_ne!(pair.server.slug(), "none");
            assert!(pair.server.data.is_empty());
        }
    }
}

/// RFC 5288 section 3: no nonce is used twice with one key. Finished was sealed by rustls, with the same key.
#[test]
fn nonces_go_on_after_the_hand_over() {
    let world = World::new();
    let client = client_builder(&world.authority, &[CA_NAME], Versions::Tls12)
        .cipher_suites(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"])
        .build()
        .unwrap();
    let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
    let mut sent = [Vec::new(), Vec::new()];
    while !pair.client.out.is_empty() || !pair.server.out.is_empty() {
        let bytes = pair.client.take_out();
        pair.server.deliver(&bytes);
        sent[0].extend(bytes);
        let bytes = pair.server.take_out();
        pair.client.deliver(&bytes);
        sent[1].extend(bytes);
    }
    for (end, sent) in [&mut pair.client, &mut pair.server].into_iter().zip(&mut sent) {
        for _ in 0..3 {
            sent.extend(end.seal(b"data").unwrap());
        }
        end.session.close_notify(sent);
        let mut encrypted = false;
        let mut nonces = Vec::new();
        let mut rest = &sent[..];
        while let [content_type, _, _, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if encrypted {
                nonces.push(u64::from_be_bytes(*after.first_chunk().unwrap()));
            }
            encrypted |= *content_type == 20;
            rest = &after[length..];
        }
        // Finished, three records of data, close_notify: the sequence number is what differs (see `Keys::nonce`).
        let sequences: Vec<u64> = nonces.iter().map(|nonce| nonce ^ nonces[0]).collect();
        assert_eq!(sequences, [0, 1, 2, 3, 4]);
    }
}

/// What is left of a connection that failed or was closed is no key: its machinery is gone, and so are expanded keys.
#[test]
fn a_failed_session_keeps_no_keys() {
    for versions in VERSIONS {
        let mut pair = World::established((versions, RecordLayer::InPlace));
        let mut record = pair.client.seal(b"data").unwrap();
        pair.server.deliver(&record);
        let in_use = pair.server.scratch.keys_bytes();
        record[20] ^= 1;
        pair.server.deliver(&record);
        assert_eq!(pair.server.slug(), "tls_bad_record");
        assert!(pair.server.scratch.keys_bytes() < in_use);
        let held = pair.client.scratch.keys_bytes();
        pair.client.session.release(&mut pair.client.scratch);
        assert!(pair.client.scratch.keys_bytes() < held);
        // It goes on, if it was not over: the key is expanded again.
        pair.client.seal(b"data").unwrap();
    }
}

/// What was negotiated is there until the first data, in either direction.
#[test]
fn what_was_negotiated_is_let_go_of() {
    for case in CASES {
        let mut pair = World::established(case);
        assert!(pair.client.session.info().is_some() && pair.server.session.info().is_some());
        let record = pair.client.seal(b"data").unwrap();
        assert!(pair.client.session.info().is_none() && pair.server.session.info().is_some());
        pair.server.deliver(&record);
        assert!(pair.server.session.info().is_none());
    }
}
