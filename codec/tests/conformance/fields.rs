//! The strings and the fields of packets: which must be there, in which order, made of what.

use fleetwire_codec::frame::{self as frames, Split};
use fleetwire_codec::{
    Connect, DecodeError as E, EncodeError, Packet, PacketId, Properties, Publish, QoS, TopicName, Version,
};

use crate::{connect, decode, frame, with_properties};

use Version::{V5, V311};

/// A place for a string: the frame up to it and behind it, without the string's length.
type Place<'a> = (u8, &'a [u8], &'a [u8], Version);

/// Everywhere a packet can hold a string that is no topic.
const STRINGS: [Place<'_>; 17] = [
    (0x10, b"\0\x04MQTT\x04\x02\0\0", b"", V311),
    (0x10, b"\0\x04MQTT\x04\x82\0\0\0\x01c", b"", V311),
    (0x10, b"\0\x04MQTT\x05\x02\0\0\0", b"", V5),
    (0x10, b"\0\x04MQTT\x05\x82\0\0\0\0\x01c", b"", V5),
    (0x10, b"\0\x04MQTT\x05\x02\0\0\x05\x15", b"\0\0", V5),
    (0x10, b"\0\x04MQTT\x05\x02\0\0\x08\x26", b"\0\x01v\0\0", V5),
    (0x10, b"\0\x04MQTT\x05\x02\0\0\x08\x26\0\x01n", b"\0\0", V5),
    (0x20, b"\0\0\x05\x12", b"", V5),
    (0x20, b"\0\0\x05\x1A", b"", V5),
    (0x20, b"\0\0\x05\x1C", b"", V5),
    (0x20, b"\0\0\x05\x1F", b"", V5),
    (0x30, b"\0\x01t\x05\x03", b"", V5),
    (0x40, b"\0\x01\0\x05\x1F", b"", V5),
    (0x90, b"\0\x01\x05\x1F", b"\0", V5),
    (0xB0, b"\0\x01\x05\x1F", b"\0", V5),
    (0xE0, b"\0\x05\x1C", b"", V5),
    (0xF0, b"\0\x05\x15", b"", V5),
];

/// Everywhere a packet can hold a topic name or filter.
const TOPICS: [Place<'_>; 9] = [
    (0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01c", b"\0\0", V311),
    (0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c\0", b"\0\0", V5),
    (0x30, b"", b"", V311),
    (0x30, b"", b"\0", V5),
    (0x30, b"\0\x01t\x05\x08", b"", V5),
    (0x82, b"\0\x01", b"\0", V311),
    (0x82, b"\0\x01\0", b"\0", V5),
    (0xA2, b"\0\x01", b"", V311),
    (0xA2, b"\0\x01\0", b"", V5),
];

/// The frame with two bytes in the place of the string, for which all the lengths above are made.
fn at_place((first, before, after, _): Place<'_>, text: [u8; 2]) -> Vec<u8> {
    frame(first, &[before, &[0, 2][..], &text, after].concat())
}

fn all_places() -> impl Iterator<Item = Place<'static>> {
    STRINGS.into_iter().chain(TOPICS)
}

// v5 [MQTT-1.5.4-1], [MQTT-1.5.7-1]; v3.1.1 [MQTT-1.5.3-1]
#[test]
fn every_string_must_be_utf_8() {
    for place in all_places() {
        assert!(decode(&at_place(place, *b"ab"), place.3).is_ok(), "{place:x?}");
        // Cut off, over-long, a continuation alone, a byte that never occurs.
        for text in [[b'a', 0xC3], [0xC0, 0x80], [0x80, b'a'], [b'a', 0xFF]] {
            let bytes = at_place(place, text);
            assert_eq!(decode(&bytes, place.3), Err(E::StringNotUtf8), "{bytes:x?}");
        }
    }
    // A surrogate half, U+D800, and what is above U+10FFFF.
    for text in [&b"\xED\xA0\x80"[..], b"\xF4\x90\x80\x80"] {
        let len = u8::try_from(text.len()).unwrap();
        for (version, end) in [(V311, &[][..]), (V5, &[0])] {
            let bytes = frame(0x30, &[&[0, len], text, end].concat());
            assert_eq!(decode(&bytes, version), Err(E::StringNotUtf8));
        }
    }
}

// v5 [MQTT-1.5.4-2], [MQTT-4.7.3-2]; v3.1.1 [MQTT-1.5.3-2], [MQTT-4.7.3-2]
#[test]
fn no_string_holds_nul() {
    for place in all_places() {
        for text in [*b"a\0", *b"\0a"] {
            let bytes = at_place(place, text);
            assert_eq!(decode(&bytes, place.3), Err(E::StringHoldsNul), "{bytes:x?}");
        }
    }
    let nul_in_binary = connect(4, 0xC2, b"\0\x01c\0\x01u\0\x02\0\0");
    assert!(decode(&nul_in_binary, V311).is_ok(), "a password is no string");
}

// v5 section 1.5.4, v3.1.1 section 1.5.3: control characters and non-characters should not be sent; they are taken.
#[test]
fn what_should_not_be_sent_is_taken() {
    for place in all_places() {
        for text in [*b"\x01\x1F", *b"\x7F ", "\u{80}".as_bytes().try_into().unwrap()] {
            assert!(decode(&at_place(place, text), place.3).is_ok());
        }
    }
    for text in ["\u{FFFF}", "\u{FDD0}", "\u{10FFFF}"] {
        let len = u8::try_from(text.len()).unwrap();
        let bytes = frame(0x30, &[&[0, len], text.as_bytes()].concat());
        let Ok(Packet::Publish(publish)) = decode(&bytes, V311) else {
            panic!("refused: {text:?}")
        };
        assert_eq!(publish.topic, text);
    }
}

// v5 [MQTT-1.5.4-3], v3.1.1 [MQTT-1.5.3-3]
#[test]
fn a_byte_order_mark_is_a_character() {
    let topic = "\u{FEFF}a\u{FEFF}";
    let publish = Publish::new(TopicName::new(topic).unwrap(), b"\xEF\xBB\xBF");
    let mut bytes = [0; 64];
    for version in [V311, V5] {
        let len = publish.encode(version, &mut bytes).unwrap();
        let Ok(Packet::Publish(decoded)) = decode(&bytes[..len], version) else {
            panic!("refused")
        };
        assert_eq!(decoded.topic.as_str(), topic);
        assert_eq!(decoded.payload, b"\xEF\xBB\xBF");
    }
    let bytes = connect(4, 0x02, b"\0\x04\xEF\xBB\xBFc");
    let Ok(Packet::Connect(connect)) = decode(&bytes, V311) else {
        panic!("refused")
    };
    assert_eq!(connect.client_id, "\u{FEFF}c");
}

// v5 [MQTT-3.1.2-9], [MQTT-3.1.2-16] to [MQTT-3.1.2-19], [MQTT-3.1.3-3];
// v3.1.1 [MQTT-3.1.2-9], [MQTT-3.1.2-11], [MQTT-3.1.2-18] to [MQTT-3.1.2-21], [MQTT-3.1.3-3]
#[test]
fn the_connect_flags_say_which_fields_follow() {
    // Client id, will properties in 5.0, will topic, will payload, user name, password.
    let field = |name: &[u8]| [&[0, 1], name].concat();
    for (level, properties) in [(4, &[][..]), (5, &[0][..])] {
        for (flags, mut fields) in [
            (0x02, vec![field(b"c")]),
            (
                0x06,
                vec![field(b"c"), [properties, &field(b"t")].concat(), field(b"p")],
            ),
            (0x82, vec![field(b"c"), field(b"u")]),
            (0xC2, vec![field(b"c"), field(b"u"), field(b"p")]),
        ] {
            let whole = connect(level, flags, &[properties, &fields.concat()].concat());
            assert!(decode(&whole, V5).is_ok(), "{whole:x?}");
            fields.push(field(b"x"));
            let more = connect(level, flags, &[properties, &fields.concat()].concat());
            assert_eq!(decode(&more, V5), Err(E::TrailingBytes), "{more:x?}");
            fields.pop();
            while fields.pop().is_some() {
                let less = connect(level, flags, &[properties, &fields.concat()].concat());
                assert_eq!(decode(&less, V5), Err(E::Truncated), "{less:x?}");
            }
        }
    }
}

// v5 [MQTT-3.1.3-1], v3.1.1 [MQTT-3.1.3-1]
#[test]
fn the_fields_of_connect_have_their_order() {
    let bytes = connect(4, 0xC6, b"\0\x01c\0\x01t\0\x01w\0\x01u\0\x01p");
    let Ok(Packet::Connect(connect)) = decode(&bytes, V311) else {
        panic!("refused")
    };
    let will = connect.will.unwrap();
    assert_eq!(
        (connect.client_id, will.topic.as_str(), will.payload),
        ("c", "t", &b"w"[..])
    );
    assert_eq!((connect.username, connect.password), (Some("u"), Some(&b"p"[..])));
}

// v5 [MQTT-3.1.3-5], v3.1.1 [MQTT-3.1.3-5], and longer ones too
#[test]
fn client_ids_of_any_length_are_taken() {
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let long = alphabet.repeat(1000);
    let ids = (0..alphabet.len())
        .map(|end| &alphabet[..end])
        .chain([&long[..], "a b/+#\u{e9}"]);
    for client_id in ids {
        for version in [V311, V5] {
            let connect = Connect {
                version,
                clean_start: true,
                keep_alive_secs: 0,
                client_id,
                will: None,
                username: None,
                password: None,
                properties: Properties::EMPTY,
            };
            let mut bytes = vec![0; connect.encoded_len(version).unwrap()];
            connect.encode(version, &mut bytes).unwrap();
            let Ok(Split::Complete(frame)) = frames::split(&bytes, bytes.len()) else {
                panic!("not whole")
            };
            assert_eq!(Packet::decode(frame, V5), Ok(Packet::Connect(connect)));
        }
    }
}

// v5 [MQTT-2.2.1-2], v3.1.1 [MQTT-2.3.1-5]
#[test]
fn a_publish_at_qos_0_has_no_packet_identifier() {
    for (version, end) in [(V311, &b"\0\x07x"[..]), (V5, b"\0\0\x07x")] {
        let bytes = frame(0x30, &[b"\0\x01a", end].concat());
        let Ok(Packet::Publish(publish)) = decode(&bytes, version) else {
            panic!("refused")
        };
        assert_eq!((publish.packet_id, publish.payload), (None, &b"\0\x07x"[..]));
        let with_id = Publish {
            packet_id: PacketId::new(7),
            ..publish
        };
        assert_eq!(with_id.encoded_len(version), Err(EncodeError::PacketIdMismatch));
        let without = Publish {
            qos: QoS::ExactlyOnce,
            ..publish
        };
        assert_eq!(without.encoded_len(version), Err(EncodeError::PacketIdMismatch));
    }
}

// v5 [MQTT-2.2.2-1]
#[test]
fn no_properties_are_a_length_of_zero() {
    for (first, before, after) in [
        (0x20, &[0, 0][..], &[][..]),
        (0x30, b"\0\x01a", b""),
        (0x82, &[0, 1], b"\0\x01a\0"),
        (0x90, &[0, 1], &[0]),
        (0xA2, &[0, 1], b"\0\x01a"),
        (0xB0, &[0, 1], &[0]),
    ] {
        let bytes = with_properties(first, before, &[], after);
        let packet = decode(&bytes, V5).unwrap();
        let mut out = [0; 32];
        let len = packet.encode(V5, &mut out).unwrap();
        assert_eq!(out[..len], bytes);
        assert!(decode(&frame(first, before), V5).is_err(), "{first:x}");
    }
}

// v5 [MQTT-3.3.2-1], v3.1.1 [MQTT-3.3.2-1]
#[test]
fn a_publish_begins_with_its_topic() {
    for version in [V311, V5] {
        assert_eq!(decode(&frame(0x30, &[]), version), Err(E::Truncated));
        assert_eq!(decode(&frame(0x30, &[0]), version), Err(E::Truncated));
        assert_eq!(decode(&frame(0x30, &[0, 2, b'a']), version), Err(E::Truncated));
    }
}
