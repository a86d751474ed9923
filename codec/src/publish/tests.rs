use super::*;
use crate::testing::{decode, refusal, sample};
use crate::{Packet, PropertiesBuf, Property, TopicError};

fn publish(bytes: &[u8], version: Version) -> Publish<'_> {
    match decode(bytes, version) {
        Ok(Packet::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_views_lie_in_the_frame() {
    let bytes = sample("v5/publish_qos1");
    let publish = publish(&bytes, Version::V5);
    assert_eq!(publish.packet_id, PacketId::new(1));
    assert_eq!(publish.payload.len(), 1024);
    let frame = bytes.as_ptr_range();
    assert!(frame.contains(&publish.topic.as_ptr()) && frame.contains(&publish.payload.as_ptr()));
}

#[test]
fn flags() {
    let bytes = sample("v311/publish_qos1_again");
    let publish = publish(&bytes, Version::V311);
    assert!(publish.dup && publish.retain);
    assert_eq!(
        (publish.qos, publish.packet_id),
        (QoS::AtLeastOnce, Some(PacketId::MAX))
    );
    for version in [Version::V311, Version::V5] {
        // v5 and v3.1.1 [MQTT-3.3.1-4] and [MQTT-3.3.1-2]
        assert_eq!(
            refusal(0x36, b"\0\x01a\0\x01\0", version),
            DecodeError::QoSReserved
        );
        assert_eq!(
            refusal(0x3E, b"\0\x01a\0\x01\0", version),
            DecodeError::QoSReserved
        );
        assert_eq!(refusal(0x38, b"\0\x01a\0", version), DecodeError::DupOnQoS0);
    }
}

#[test]
fn every_property() {
    let bytes = sample("v5/publish_all_properties");
    let properties = publish(&bytes, Version::V5).properties;
    assert_eq!(properties.payload_format_indicator(), Some(true));
    assert_eq!(properties.message_expiry_interval(), Some(30));
    assert_eq!(properties.content_type(), Some("text/plain"));
    assert_eq!(properties.response_topic().unwrap(), "reply/here");
    assert_eq!(properties.correlation_data(), Some(&[0, 1, 2][..]));
    assert_eq!(
        properties.subscription_identifiers().collect::<Vec<_>>(),
        [1, 268_435_455]
    );
    assert_eq!(properties.topic_alias(), Some(3));
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [("unit", "celsius"), ("unit", "")]
    );
    assert_eq!(properties.iter().count(), 10);
}

#[test]
fn topic() {
    for version in [Version::V311, Version::V5] {
        // v5 and v3.1.1 [MQTT-3.3.2-2], also with the wildcard far behind
        for topic in ["+", "a/#", "0123456789abcdef/0123456789abcdef/+"] {
            let mut body = vec![0, topic.len() as u8];
            body.extend_from_slice(topic.as_bytes());
            body.push(0);
            assert_eq!(
                refusal(0x30, &body, version),
                DecodeError::Topic(TopicError::WildcardInName)
            );
        }
        assert_eq!(refusal(0x30, b"\0\0\0", version), DecodeError::TopicNameMissing);
        assert_eq!(refusal(0x30, b"\0\x01\0\0", version), DecodeError::StringHoldsNul);
        assert_eq!(
            refusal(0x30, b"\0\x02\xC3\x28\0", version),
            DecodeError::StringNotUtf8
        );
        assert_eq!(refusal(0x30, b"\0\x05abc", version), DecodeError::Truncated);
    }
    let bytes = sample("v5/publish_aliased");
    assert_eq!(publish(&bytes, Version::V5).topic, TopicName::ALIASED);
    // v5 [MQTT-3.3.2-8]
    assert_eq!(
        refusal(0x30, b"\0\x01a\x03\x23\0\0", Version::V5),
        DecodeError::TopicAliasZero
    );
}

#[test]
fn header_only() {
    for (name, version) in [
        ("v311/publish_qos1", Version::V311),
        ("v5/publish_all_properties", Version::V5),
    ] {
        let bytes = sample(name);
        let publish = publish(&bytes, version);
        let header_len = bytes.len() - publish.payload.len();
        let mut out = vec![0; header_len];
        assert_eq!(publish.header_len(version), Ok(header_len));
        assert_eq!(publish.encode_header(version, &mut out), Ok(header_len));
        assert_eq!(out, bytes[..header_len]);
        let short = publish.encode_header(version, &mut out[1..]);
        assert_eq!(short, Err(EncodeError::BufferTooSmall { needed: header_len }));
    }
}

#[test]
fn encoding_refuses_what_decoding_would() {
    let good = Publish::new(TopicName::new("a").unwrap(), b"x");
    let refused = |publish: Publish<'_>, version| publish.encoded_len(version).unwrap_err();
    assert_eq!(good.encoded_len(Version::V311), Ok(6));
    assert_eq!(good.encoded_len(Version::V5), Ok(7));
    let dup = Publish { dup: true, ..good };
    assert_eq!(
        refused(dup, Version::V5),
        EncodeError::Refused(DecodeError::DupOnQoS0)
    );
    let without_id = Publish {
        qos: QoS::AtLeastOnce,
        ..good
    };
    assert_eq!(refused(without_id, Version::V5), EncodeError::PacketIdMismatch);
    let with_id = Publish {
        packet_id: PacketId::new(1),
        ..good
    };
    assert_eq!(refused(with_id, Version::V311), EncodeError::PacketIdMismatch);
    let without_topic = Publish {
        topic: TopicName::ALIASED,
        ..good
    };
    assert_eq!(
        refused(without_topic, Version::V5),
        EncodeError::Refused(DecodeError::TopicNameMissing)
    );
    let mut properties = PropertiesBuf::new(Carrier::Publish);
    properties.push(Property::TopicAlias(1)).unwrap();
    let aliased = Publish {
        properties: properties.as_properties(),
        ..without_topic
    };
    assert_eq!(aliased.encoded_len(Version::V5), Ok(2 + 2 + 4 + 1));
    // 3.1.1 has no alias, so the topic would be lost.
    assert_eq!(
        refused(aliased, Version::V311),
        EncodeError::Refused(DecodeError::TopicNameMissing)
    );
}

#[test]
fn longer_than_mqtt_can_say() {
    // 3 bytes of topic and 268,435,452 of payload are the longest remaining length. The pages are never touched.
    let payload = vec![0; 268_435_453];
    let topic = TopicName::new("a").unwrap();
    let longest = Publish::new(topic, &payload[1..]);
    assert_eq!(longest.header_len(Version::V311), Ok(5 + 3));
    assert_eq!(longest.encoded_len(Version::V311), Ok(5 + 268_435_455));
    assert_eq!(longest.encoded_len(Version::V5), Err(EncodeError::TooLarge));
    assert_eq!(
        Publish::new(topic, &payload).header_len(Version::V311),
        Err(EncodeError::TooLarge)
    );
}
