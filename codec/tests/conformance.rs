//! What both standards demand of a single packet, from outside: which frames are refused, for what, and with which
//! answer. `docs/CONFORMANCE.md` names these tests beside the statements that they prove.

use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{
    Connect, DecodeError, EncodeError, Packet, PacketId, Properties, Publish, QoS, ReasonCode, TopicError,
    TopicName, Version,
};

use DecodeError as E;
use ReasonCode as R;
use Version::{V5, V311};

/// A frame with a fixed header that fits the body.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).unwrap();
    assert!(len < 0x80, "one byte of remaining length");
    [&[first, len], body].concat()
}

fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    match frame::split(bytes, 10_000)? {
        Split::Complete(frame) => {
            assert_eq!(frame.len(), bytes.len(), "more than one frame");
            Packet::decode(frame, version)
        }
        Split::Partial { missing } => panic!("{missing} bytes are missing of {bytes:x?}"),
    }
}

/// A CONNECT with these flags; `rest` begins with the property length in 5.0.
fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    frame(0x10, &[b"\0\x04MQTT", &[level, flags, 0, 60][..], rest].concat())
}

/// A packet of 5.0 with this block of properties between two parts.
fn with_properties(first: u8, before: &[u8], properties: &[u8], after: &[u8]) -> Vec<u8> {
    let len = [u8::try_from(properties.len()).unwrap()];
    frame(first, &[before, &len[..], properties, after].concat())
}

fn publish(properties: &[u8]) -> Vec<u8> {
    with_properties(0x30, b"\0\x01a", properties, b"")
}

fn subscribe(filter_and_options: &[u8]) -> Vec<u8> {
    with_properties(0x82, &[0, 1], &[], filter_and_options)
}

fn connack(properties: &[u8]) -> Vec<u8> {
    with_properties(0x20, &[0, 0], properties, &[])
}

/// Each fault that one packet can have, what it is called, and the Reason Code that the standard gives it, v5 section
/// 4.13.1 and the section of the packet.
#[test]
fn every_fault_has_its_reason_code() {
    let unsubscribe = |filter: &[u8]| with_properties(0xA2, &[0, 1], &[], filter);
    let cases: Vec<(Vec<u8>, Version, DecodeError, ReasonCode)> = vec![
        // Malformed: it cannot be parsed, or reserved bits are set.
        (
            vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
            V5,
            E::RemainingLengthTooLong,
            R::MalformedPacket,
        ),
        (vec![0x00, 0x00], V5, E::PacketTypeReserved, R::MalformedPacket),
        (frame(0xF0, &[]), V311, E::PacketTypeReserved, R::MalformedPacket),
        (frame(0xC1, &[]), V5, E::FixedHeaderFlags, R::MalformedPacket),
        (
            frame(0x60, &[0, 1]),
            V311,
            E::FixedHeaderFlags,
            R::MalformedPacket,
        ),
        (
            vec![0xC0, 0x80, 0x00],
            V5,
            E::VariableByteIntegerNotMinimal,
            R::MalformedPacket,
        ),
        (
            publish(&[0x0B, 0x80, 0x00]),
            V5,
            E::VariableByteIntegerNotMinimal,
            R::MalformedPacket,
        ),
        (
            publish(&[0x0B, 0x80, 0x80, 0x80, 0x80, 0x01]),
            V5,
            E::VariableByteIntegerTooLong,
            R::MalformedPacket,
        ),
        (frame(0x20, &[0]), V311, E::Truncated, R::MalformedPacket),
        (frame(0x20, &[0, 0]), V5, E::Truncated, R::MalformedPacket),
        (frame(0xF0, &[0x18]), V5, E::Truncated, R::MalformedPacket),
        (frame(0xC0, &[0]), V5, E::TrailingBytes, R::MalformedPacket),
        (
            frame(0xB0, &[0, 1, 0]),
            V311,
            E::TrailingBytes,
            R::MalformedPacket,
        ),
        (
            frame(0x36, b"\0\x01a\0\x01\0"),
            V5,
            E::QoSReserved,
            R::MalformedPacket,
        ),
        (
            with_properties(0x30, b"\0\x01\xFF", &[], b""),
            V5,
            E::StringNotUtf8,
            R::MalformedPacket,
        ),
        (
            with_properties(0x30, b"\0\x01\0", &[], b""),
            V5,
            E::StringHoldsNul,
            R::MalformedPacket,
        ),
        (
            connect(5, 0x03, b"\0\0\0"),
            V5,
            E::ConnectFlagReserved,
            R::MalformedPacket,
        ),
        (connect(5, 0x0A, b"\0\0\0"), V5, E::WillFlags, R::MalformedPacket),
        (connect(5, 0x22, b"\0\0\0"), V5, E::WillFlags, R::MalformedPacket),
        (
            connect(5, 0x1E, b"\0\0\0\0\0\x01w\0\0"),
            V5,
            E::WillQoSReserved,
            R::MalformedPacket,
        ),
        (
            with_properties(0x20, &[2, 0], &[], &[]),
            V5,
            E::ConnackFlagsReserved,
            R::MalformedPacket,
        ),
        (
            subscribe(b"\0\x01a\x40"),
            V5,
            E::SubscriptionOptionsReserved,
            R::MalformedPacket,
        ),
        (publish(&[0x7F]), V5, E::PropertyUnknown(0x7F), R::MalformedPacket),
        (
            publish(&[0x21, 0, 1]),
            V5,
            E::PropertyOutOfPlace(0x21),
            R::MalformedPacket,
        ),
        (
            unsubscribe(b"\0\0"),
            V5,
            E::Topic(TopicError::Empty),
            R::MalformedPacket,
        ),
        (
            with_properties(0x30, b"\0\x01+", &[], b""),
            V5,
            E::Topic(TopicError::WildcardInName),
            R::MalformedPacket,
        ),
        (
            publish(&[0x08, 0, 1, b'#']),
            V5,
            E::Topic(TopicError::WildcardInName),
            R::MalformedPacket,
        ),
        (
            subscribe(b"\0\x02a#\0"),
            V5,
            E::Topic(TopicError::MultiLevelWildcard),
            R::MalformedPacket,
        ),
        (
            subscribe(b"\0\x02+a\0"),
            V5,
            E::Topic(TopicError::SingleLevelWildcard),
            R::MalformedPacket,
        ),
        (
            subscribe(b"\0\x09$share//a\0"),
            V5,
            E::Topic(TopicError::ShareName),
            R::MalformedPacket,
        ),
        (
            unsubscribe(b"\0\x08$share/a"),
            V5,
            E::Topic(TopicError::ShareFilter),
            R::MalformedPacket,
        ),
        // Protocol Error: it can be parsed, and says what is not allowed.
        (frame(0x40, &[0, 0]), V5, E::PacketIdZero, R::ProtocolError),
        (frame(0x38, b"\0\x01a\0"), V5, E::DupOnQoS0, R::ProtocolError),
        (
            with_properties(0x20, &[1, 0x87], &[], &[]),
            V5,
            E::SessionPresentWithError,
            R::ProtocolError,
        ),
        (
            frame(0x40, &[0, 1, 0x01]),
            V5,
            E::ReasonCodeInvalid(0x01),
            R::ProtocolError,
        ),
        (subscribe(b""), V5, E::NoSubscriptions, R::ProtocolError),
        (unsubscribe(b""), V5, E::NoUnsubscriptions, R::ProtocolError),
        (frame(0x90, &[0, 1, 0]), V5, E::NoReasonCodes, R::ProtocolError),
        (frame(0xB0, &[0, 1, 0]), V5, E::NoReasonCodes, R::ProtocolError),
        (
            subscribe(b"\0\x01a\x03"),
            V5,
            E::SubscriptionQoSReserved,
            R::ProtocolError,
        ),
        (
            subscribe(b"\0\x01a\x30"),
            V5,
            E::RetainHandlingReserved,
            R::ProtocolError,
        ),
        (
            subscribe(b"\0\x0A$share/a/b\x04"),
            V5,
            E::NoLocalOnShared,
            R::ProtocolError,
        ),
        (
            publish(&[0x03, 0, 0, 0x03, 0, 0]),
            V5,
            E::PropertyRepeated(0x03),
            R::ProtocolError,
        ),
        (publish(&[0x01, 2]), V5, E::PropertyValue(0x01), R::ProtocolError),
        (publish(&[0x0B, 0]), V5, E::PropertyValue(0x0B), R::ProtocolError),
        (
            connack(&[0x21, 0, 0]),
            V5,
            E::PropertyValue(0x21),
            R::ProtocolError,
        ),
        (connack(&[0x24, 2]), V5, E::PropertyValue(0x24), R::ProtocolError),
        (
            connack(&[0x27, 0, 0, 0, 0]),
            V5,
            E::PropertyValue(0x27),
            R::ProtocolError,
        ),
        (
            connect(5, 0x02, b"\x04\x16\0\x01d\0\0"),
            V5,
            E::AuthenticationMethodMissing,
            R::ProtocolError,
        ),
        (
            with_properties(0xF0, &[0x19], &[], &[]),
            V5,
            E::AuthenticationMethodMissing,
            R::ProtocolError,
        ),
        (
            with_properties(0x30, b"\0\0", &[], b""),
            V5,
            E::TopicNameMissing,
            R::ProtocolError,
        ),
        // What has a Reason Code of its own.
        (
            connect(6, 0x02, b"\0\0"),
            V5,
            E::ProtocolLevel(6),
            R::UnsupportedProtocolVersion,
        ),
        (
            frame(0x10, b"\0\x04MQTt\x05\x02\0\0\0\0\0"),
            V5,
            E::ProtocolName,
            R::UnsupportedProtocolVersion,
        ),
        (
            connect(4, 0x00, b"\0\0"),
            V311,
            E::ClientIdMissing,
            R::ClientIdentifierNotValid,
        ),
        (
            publish(&[0x23, 0, 0]),
            V5,
            E::TopicAliasZero,
            R::TopicAliasInvalid,
        ),
        (
            vec![0x30, 0xFF, 0xFF, 0x7F],
            V5,
            E::PacketTooLarge,
            R::PacketTooLarge,
        ),
        // 3.1.1 has no codes; the close is the answer, whatever this says.
        (
            connect(4, 0x42, b"\0\0\0\0"),
            V311,
            E::PasswordWithoutUsername,
            R::ProtocolError,
        ),
    ];
    for (bytes, version, error, reason) in cases {
        assert_eq!(decode(&bytes, version).err(), Some(error), "{bytes:x?}");
        assert_eq!(error.reason_code(), reason, "{error}");
    }
}

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
            let Ok(Split::Complete(frame)) = frame::split(&bytes, bytes.len()) else {
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
