use super::*;
use crate::testing::{decode, frame, refusal, sample};
use crate::{
    FiltersBuf, Packet, QoS, RetainHandling, SubscriptionOptions, TopicError, TopicFilter, Unsuback,
    Unsubscribe, UnsubscribeFiltersBuf,
};

fn filter(filter: &str) -> TopicFilter<'_> {
    TopicFilter::new(filter).unwrap()
}

fn subscribe(filters: &FiltersBuf) -> Subscribe<'_> {
    Subscribe {
        packet_id: PacketId::MIN,
        properties: Properties::EMPTY,
        filters: filters.as_filters(),
    }
}

#[test]
fn filters_and_options() {
    let bytes = sample("v5/subscribe");
    let Ok(Packet::Subscribe(subscribe)) = decode(&bytes, Version::V5) else {
        panic!()
    };
    assert_eq!(subscribe.properties.subscription_identifiers().next(), Some(128));
    let expected = [
        (
            filter("fleet/device-0042/commands"),
            SubscriptionOptions::new(QoS::AtLeastOnce),
        ),
        (
            filter("fleet/+/status"),
            SubscriptionOptions {
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
                ..SubscriptionOptions::new(QoS::AtMostOnce)
            },
        ),
        (
            filter("#"),
            SubscriptionOptions {
                retain_as_published: true,
                retain_handling: RetainHandling::SendIfNew,
                ..SubscriptionOptions::new(QoS::AtMostOnce)
            },
        ),
        (
            filter("$share/group/fleet/+/telemetry/#"),
            SubscriptionOptions::new(QoS::AtLeastOnce),
        ),
    ];
    assert_eq!(subscribe.filters.iter().collect::<Vec<_>>(), expected);
    assert_eq!(subscribe.filters.count(), 4);

    let mut filters = FiltersBuf::new();
    for (filter, options) in expected {
        filters.push(filter, options).unwrap();
    }
    assert_eq!(filters.as_filters(), subscribe.filters);
}

#[test]
fn refused_subscriptions() {
    let v5 = |payload: &[u8]| refusal(0x82, &[b"\0\x01\0", payload].concat(), Version::V5);
    let v311 = |payload: &[u8]| refusal(0x82, &[b"\0\x01", payload].concat(), Version::V311);
    // v5 [MQTT-3.8.3-2], v3.1.1 [MQTT-3.8.3-3]
    assert_eq!(v5(b""), DecodeError::NoSubscriptions);
    assert_eq!(v311(b""), DecodeError::NoSubscriptions);
    // v5 [MQTT-3.8.3-5], v3.1.1 [MQTT-3-8.3-4]
    for options in [0x40, 0x80, 0xC0, 0xC3] {
        assert_eq!(
            v5(&[0, 1, b'a', options]),
            DecodeError::SubscriptionOptionsReserved
        );
    }
    for options in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        assert_eq!(
            v311(&[0, 1, b'a', options]),
            DecodeError::SubscriptionOptionsReserved
        );
    }
    // v5 section 3.8.3.1: 0x82, where the reserved bits are 0x81.
    let qos_3 = DecodeError::SubscriptionQoSReserved;
    assert_eq!((v5(b"\0\x01a\x03"), v311(b"\0\x01a\x03")), (qos_3, qos_3));
    assert_eq!(qos_3.reason_code(), ReasonCode::ProtocolError);
    assert_eq!(
        DecodeError::SubscriptionOptionsReserved.reason_code(),
        ReasonCode::MalformedPacket
    );
    assert_eq!(v5(b"\0\x01a\x30"), DecodeError::RetainHandlingReserved);
    // v5 [MQTT-3.8.3-4]
    assert_eq!(v5(b"\0\x0A$share/a/b\x04"), DecodeError::NoLocalOnShared);
    // The second filter is looked at too.
    assert_eq!(
        v5(b"\0\x01a\0\0\x02a#\0"),
        DecodeError::Topic(TopicError::MultiLevelWildcard)
    );
    assert_eq!(v311(b"\0\x01a\0\0\0\0"), DecodeError::Topic(TopicError::Empty));
    assert_eq!(v311(b"\0\x01a"), DecodeError::Truncated);
    assert_eq!(v311(b"\0\x01\0\0"), DecodeError::StringHoldsNul);
    // v5 section 3.8.2.1.2
    let twice = b"\0\x01\x04\x0B\x01\x0B\x02\0\x01a\0";
    assert_eq!(
        refusal(0x82, twice, Version::V5),
        DecodeError::PropertyRepeated(0x0B)
    );
}

#[test]
fn options_of_5_are_refused_for_311() {
    let mut filters = FiltersBuf::new();
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    filters.push(filter("a"), options).unwrap();
    assert_eq!(subscribe(&filters).encoded_len(Version::V311), Ok(8));
    filters
        .push(
            filter("b"),
            SubscriptionOptions {
                no_local: true,
                ..options
            },
        )
        .unwrap();
    assert_eq!(
        subscribe(&filters).encoded_len(Version::V311),
        Err(EncodeError::Refused(DecodeError::SubscriptionOptionsReserved))
    );
    let before = filters.clone();
    assert_eq!(
        filters.push(
            filter("$share/a/b"),
            SubscriptionOptions {
                no_local: true,
                ..options
            }
        ),
        Err(DecodeError::NoLocalOnShared)
    );
    assert_eq!(filters, before);
    for version in [Version::V311, Version::V5] {
        assert_eq!(
            subscribe(&FiltersBuf::new()).encoded_len(version),
            Err(EncodeError::Refused(DecodeError::NoSubscriptions))
        );
    }
}

// v5 [MQTT-3.9.3-2], v3.1.1 [MQTT-3.9.3-2]
#[test]
fn suback_codes() {
    let allowed_in_5 = [
        0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
    ];
    for code in 0..=255 {
        let accepted = decode(&frame(0x90, &[0, 1, 0, code]), Version::V5).is_ok();
        assert_eq!(accepted, allowed_in_5.contains(&code), "{code:#x}");
        let accepted = decode(&frame(0x90, &[0, 1, code]), Version::V311).is_ok();
        assert_eq!(accepted, [0x00, 0x01, 0x02, 0x80].contains(&code), "{code:#x}");
    }
    assert_eq!(refusal(0x90, &[0, 1, 0], Version::V5), DecodeError::NoReasonCodes);
    assert_eq!(refusal(0x90, &[0, 1], Version::V311), DecodeError::NoReasonCodes);
    let bytes = sample("v5/suback");
    let Ok(Packet::Suback(suback)) = decode(&bytes, Version::V5) else {
        panic!()
    };
    assert_eq!(
        suback.reasons().collect::<Vec<_>>(),
        [
            ReasonCode::GrantedQoS1,
            ReasonCode::GRANTED_QOS_0,
            ReasonCode::GrantedQoS2,
            ReasonCode::SharedSubscriptionsNotSupported
        ]
    );
    assert_eq!(
        suback.encoded_len(Version::V311),
        Err(EncodeError::Refused(DecodeError::ReasonCodeInvalid(0x9E)))
    );
}

#[test]
fn unsubscribe_filters() {
    let bytes = sample("v5/unsubscribe");
    let Ok(Packet::Unsubscribe(unsubscribe)) = decode(&bytes, Version::V5) else {
        panic!()
    };
    assert_eq!(
        unsubscribe.filters.iter().collect::<Vec<_>>(),
        [filter("fleet/+/status"), filter("#")]
    );
    assert_eq!(unsubscribe.filters.count(), 2);
    let mut filters = UnsubscribeFiltersBuf::new();
    let empty = Unsubscribe {
        filters: filters.as_filters(),
        ..unsubscribe
    };
    assert_eq!(
        empty.encoded_len(Version::V5),
        Err(EncodeError::Refused(DecodeError::NoUnsubscriptions))
    );
    for filter in unsubscribe.filters {
        filters.push(filter).unwrap();
    }
    assert_eq!(filters.as_filters(), unsubscribe.filters);
    // v5 and v3.1.1 [MQTT-3.10.3-2]
    assert_eq!(
        refusal(0xA2, &[0, 1, 0], Version::V5),
        DecodeError::NoUnsubscriptions
    );
    assert_eq!(
        refusal(0xA2, &[0, 1], Version::V311),
        DecodeError::NoUnsubscriptions
    );
    let malformed = refusal(0xA2, b"\0\x01\0\x02+a", Version::V311);
    assert_eq!(malformed, DecodeError::Topic(TopicError::SingleLevelWildcard));
}

// v5 [MQTT-3.11.3-1] and -2
#[test]
fn unsuback_codes() {
    for code in 0..=255 {
        let accepted = decode(&frame(0xB0, &[0, 1, 0, code]), Version::V5).is_ok();
        assert_eq!(
            accepted,
            [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91].contains(&code),
            "{code:#x}"
        );
    }
    assert_eq!(refusal(0xB0, &[0, 1, 0], Version::V5), DecodeError::NoReasonCodes);
    assert_eq!(
        refusal(0xB0, &[0, 1, 0], Version::V311),
        DecodeError::TrailingBytes
    );
    let unsuback = Unsuback {
        packet_id: PacketId::MIN,
        properties: Properties::EMPTY,
        codes: &[0],
    };
    assert_eq!(unsuback.encoded_len(Version::V311), Ok(4));
    assert_eq!(unsuback.reasons().collect::<Vec<_>>(), [ReasonCode::Success]);
}
