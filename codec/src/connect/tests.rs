use proptest::prelude::*;

use super::*;
use crate::testing::{decode, frame, refusal, sample};
use crate::{Packet, Property, TopicError};

fn connect(bytes: &[u8]) -> Connect<'_> {
    // The version asked for does not count.
    match decode(bytes, Version::V311) {
        Ok(Packet::Connect(connect)) => connect,
        other => panic!("{other:?}"),
    }
}

/// The body of a CONNECT with these flags and this payload.
fn body(level: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([level, flags, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    body.extend(payload);
    body
}

#[test]
fn everything_in_311() {
    let bytes = sample("v311/connect_full");
    let will = Will {
        topic: TopicName::new("fleet/device-0042/status").unwrap(),
        payload: b"offline",
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: Properties::EMPTY,
    };
    let expected = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_secs: 30,
        client_id: "device-0042",
        will: Some(will),
        username: Some("user"),
        password: Some(b"p\0ss"),
        properties: Properties::EMPTY,
    };
    assert_eq!(connect(&bytes), expected);
}

#[test]
fn everything_in_5() {
    let bytes = sample("v5/connect_full");
    let connect = connect(&bytes);
    assert_eq!((connect.version, connect.client_id), (Version::V5, "device-0042"));
    let properties = connect.properties;
    assert_eq!(properties.session_expiry_interval(), Some(3600));
    assert_eq!(properties.authentication_method(), Some("SCRAM"));
    assert_eq!(properties.authentication_data(), Some(&[0, 0xFF][..]));
    assert_eq!(properties.request_problem_information(), Some(false));
    assert_eq!(properties.request_response_information(), Some(true));
    assert_eq!(properties.receive_maximum(), Some(20));
    assert_eq!(properties.topic_alias_maximum(), Some(10));
    assert_eq!(properties.maximum_packet_size(), Some(65_536));
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [("model", "x1"), ("model", "x2")]
    );
    let will = connect.will.unwrap();
    assert_eq!(will.topic, "fleet/device-0042/status");
    assert_eq!(will.properties.will_delay_interval(), Some(5));
    assert_eq!(
        will.properties.iter().next(),
        Some(Property::WillDelayInterval(5))
    );
    assert_eq!(will.properties.response_topic().unwrap(), "will/response");
}

// v5 and v3.1.1 [MQTT-3.1.2-1] and [MQTT-3.1.2-2]
#[test]
fn protocol_name_and_level() {
    let cases: [(&[u8], DecodeError); 6] = [
        (b"\0\x04MQTT\x06\x02\0\0\0\0", DecodeError::ProtocolLevel(6)),
        (b"\0\x04MQTT\x03\x02\0\0\0\0", DecodeError::ProtocolLevel(3)),
        (b"\0\x04MQTT\x84\x02\0\0\0\0", DecodeError::ProtocolLevel(0x84)),
        (b"\0\x06MQIsdp\x03\x02\0\0\0\0", DecodeError::ProtocolName),
        (b"\0\x04mqtt\x04\x02\0\0\0\0", DecodeError::ProtocolName),
        (b"\0\x04MQT", DecodeError::Truncated),
    ];
    for (body, error) in cases {
        assert_eq!(refusal(0x10, body, Version::V5), error);
        if error != DecodeError::Truncated {
            assert_eq!(error.reason_code(), crate::ReasonCode::UnsupportedProtocolVersion);
        }
    }
}

#[test]
fn the_version_of_a_malformed_connect() {
    let bytes = frame(0x10, &body(5, 0x01, b"\0\0"));
    let Ok(crate::frame::Split::Complete(frame)) = crate::frame::split(&bytes, 100) else {
        panic!()
    };
    assert_eq!(Connect::peek_version(frame), Ok(Version::V5));
    assert_eq!(
        Connect::decode(frame.body(), frame.has_minimal_header()),
        Err(DecodeError::ConnectFlagReserved)
    );
}

#[test]
fn connect_flags() {
    for level in [4, 5] {
        let refusal = |flags, payload: &[u8]| refusal(0x10, &body(level, flags, payload), Version::V5);
        // v5 and v3.1.1 [MQTT-3.1.2-3]
        assert_eq!(refusal(0b0000_0001, b"\0\0"), DecodeError::ConnectFlagReserved);
        // v5 [MQTT-3.1.2-11] and -13, v3.1.1 [MQTT-3.1.2-13] and -15
        for flags in [0b0000_1000, 0b0001_0000, 0b0010_0000, 0b0001_1000] {
            assert_eq!(refusal(flags, b"\0\0"), DecodeError::WillFlags);
        }
        // v5 [MQTT-3.1.2-12], v3.1.1 [MQTT-3.1.2-14]
        assert_eq!(
            refusal(0b0001_1100, b"\0\0\0\x01w\0\0"),
            DecodeError::WillQoSReserved
        );
    }
    // v3.1.1 [MQTT-3.1.2-22]; 5.0 allows it.
    let refused = refusal(0x10, &body(4, 0b0100_0010, b"\0\0\0\0"), Version::V311);
    assert_eq!(refused, DecodeError::PasswordWithoutUsername);
    assert_eq!(
        connect(&sample("v5/connect_password_only")).password,
        Some(&b"token"[..])
    );
}

// v3.1.1 [MQTT-3.1.3-7]; 5.0 allows it.
#[test]
fn no_client_id_without_a_clean_session() {
    let refused = refusal(0x10, &body(4, 0, b"\0\0"), Version::V311);
    assert_eq!(refused, DecodeError::ClientIdMissing);
    // Return code 2, v3.1.1 [MQTT-3.1.3-8].
    assert_eq!(refused.reason_code().connack_code(Version::V311), 2);
    for (level, flags) in [(4, 0b0000_0010), (5, 0), (5, 0b0000_0010)] {
        let bytes = frame(0x10, &body(level, flags, b"\0\0"));
        let connect = connect(&bytes);
        assert_eq!((connect.client_id, connect.clean_start), ("", flags != 0));
        assert_eq!(connect.encoded_len(connect.version), Ok(bytes.len()));
    }
    let bytes = frame(0x10, &body(4, 0b0000_0010, b"\0\0"));
    let kept = Connect {
        clean_start: false,
        ..connect(&bytes)
    };
    assert_eq!(
        kept.encoded_len(Version::V311),
        Err(EncodeError::Refused(DecodeError::ClientIdMissing))
    );
}

#[test]
fn payload_fields() {
    let refused = |flags, payload: &[u8]| refusal(0x10, &body(4, flags, payload), Version::V311);
    assert_eq!(refused(0x02, b"\0\x01\0"), DecodeError::StringHoldsNul);
    assert_eq!(refused(0x02, b"\0\x01\xFF"), DecodeError::StringNotUtf8);
    assert_eq!(
        refused(0x06, b"\0\0\0\0\0\0"),
        DecodeError::Topic(TopicError::Empty)
    );
    assert_eq!(
        refused(0x06, b"\0\0\0\x01#\0\0"),
        DecodeError::Topic(TopicError::WildcardInName)
    );
    assert_eq!(refused(0x82, b"\0\0\0\x02\0a"), DecodeError::StringHoldsNul);
    assert_eq!(refused(0x82, b"\0\0"), DecodeError::Truncated);
    assert_eq!(refused(0x02, b"\0\0\0"), DecodeError::TrailingBytes);
}

#[test]
fn encoding_refuses_what_decoding_would() {
    let good = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_secs: 0,
        client_id: "a",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    let refused = |connect: Connect<'_>| connect.encoded_len(connect.version).unwrap_err();
    assert_eq!(good.encoded_len(Version::V311), Ok(2 + 10 + 3));
    assert_eq!(
        refused(Connect {
            password: Some(b"x"),
            ..good
        }),
        EncodeError::Refused(DecodeError::PasswordWithoutUsername)
    );
    assert_eq!(
        refused(Connect {
            client_id: "a\0",
            ..good
        }),
        EncodeError::Refused(DecodeError::StringHoldsNul)
    );
    assert_eq!(
        refused(Connect {
            username: Some(&"x".repeat(65_536)),
            ..good
        }),
        EncodeError::Refused(DecodeError::FieldTooLong)
    );
    let will = Will {
        topic: TopicName::ALIASED,
        payload: b"",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::EMPTY,
    };
    assert_eq!(
        refused(Connect {
            will: Some(will),
            ..good
        }),
        EncodeError::Refused(DecodeError::TopicNameMissing)
    );
}

proptest! {
    /// The usual form of 3.1.1 is a short cut: it says what the way for all forms says, and takes all that is in ASCII.
    #[test]
    fn the_short_cut_is_no_other_way(
        flags in any::<u8>(),
        fields in proptest::collection::vec("[a-z/]{0,40}|[a-z+#\u{0}é]{0,20}", 0..6),
        cut in prop_oneof![4 => Just(usize::MAX), 1 => 0_usize..40],
    ) {
        let mut rest = Vec::new();
        for field in &fields {
            rest.put_field(field.as_bytes());
        }
        rest.truncate(cut);
        let usual = Connect::decode_usual(flags, 60, &rest).map(Packet::Connect);
        let any = Connect::decode_v311(flags, 60, &rest);
        if rest.is_ascii() || usual.is_some() {
            prop_assert_eq!(usual, any.ok());
        }
    }
}
