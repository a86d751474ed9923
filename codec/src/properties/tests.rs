use proptest::prelude::*;

use super::*;
use crate::TopicError;

const CARRIERS: [Carrier; 14] = [
    Carrier::Will,
    Carrier::Connect,
    Carrier::Connack,
    Carrier::Publish,
    Carrier::Puback,
    Carrier::Pubrec,
    Carrier::Pubrel,
    Carrier::Pubcomp,
    Carrier::Subscribe,
    Carrier::Suback,
    Carrier::Unsubscribe,
    Carrier::Unsuback,
    Carrier::Disconnect,
    Carrier::Auth,
];

/// One property of each kind.
fn all() -> [Property<'static>; 27] {
    [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(0),
        Property::ContentType("t"),
        Property::ResponseTopic(TopicName::new("r").unwrap()),
        Property::CorrelationData(b"\0"),
        Property::SubscriptionIdentifier(268_435_455),
        Property::SessionExpiryInterval(u32::MAX),
        Property::AssignedClientIdentifier("id"),
        Property::ServerKeepAlive(0),
        Property::AuthenticationMethod("m"),
        Property::AuthenticationData(b"d"),
        Property::RequestProblemInformation(false),
        Property::WillDelayInterval(1),
        Property::RequestResponseInformation(true),
        Property::ResponseInformation(""),
        Property::ServerReference("s"),
        Property::ReasonString("r"),
        Property::ReceiveMaximum(1),
        Property::TopicAliasMaximum(0),
        Property::TopicAlias(1),
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::UserProperty(("k", "v")),
        Property::MaximumPacketSize(1),
        Property::WildcardSubscriptionAvailable(true),
        Property::SubscriptionIdentifierAvailable(true),
        Property::SharedSubscriptionAvailable(true),
    ]
}

/// v5 table 2-4, written a second time: the identifiers that each packet may carry.
fn allowed(carrier: Carrier) -> &'static [u8] {
    match carrier {
        Carrier::Will => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
        Carrier::Connect => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
        Carrier::Connack => &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
            0x2A,
        ],
        Carrier::Publish => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
        Carrier::Puback | Carrier::Pubrec | Carrier::Pubrel | Carrier::Pubcomp => &[0x1F, 0x26],
        Carrier::Subscribe => &[0x0B, 0x26],
        Carrier::Suback | Carrier::Unsuback => &[0x1F, 0x26],
        Carrier::Unsubscribe => &[0x26],
        Carrier::Disconnect => &[0x11, 0x1C, 0x1F, 0x26],
        Carrier::Auth => &[0x15, 0x16, 0x1F, 0x26],
    }
}

fn encoded(property: Property<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    property.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn each_in_its_place_only() {
    for carrier in CARRIERS {
        for property in all() {
            let mut buf = PropertiesBuf::new(carrier);
            let pushed = buf.push(property);
            if allowed(carrier).contains(&property.id()) {
                assert_eq!(pushed, Ok(()), "{property:?} in {carrier:?}");
                assert_eq!(buf.as_properties().as_bytes(), encoded(property));
                assert_eq!(buf.as_properties().iter().collect::<Vec<_>>(), [property]);
            } else {
                let error = DecodeError::PropertyOutOfPlace(property.id());
                assert_eq!(pushed, Err(error), "{property:?} in {carrier:?}");
                assert!(buf.as_properties().is_empty());
                let decoded = Properties::new(&encoded(property), carrier).err();
                let without_method = DecodeError::AuthenticationMethodMissing;
                assert!(decoded == Some(error) || decoded == Some(without_method));
            }
        }
    }
}

#[test]
fn each_once_only() {
    for carrier in CARRIERS {
        for property in all().into_iter().filter(|p| allowed(carrier).contains(&p.id())) {
            let mut bytes = encoded(property);
            bytes.extend(encoded(property));
            if matches!(property, Property::AuthenticationData(_)) {
                bytes.extend(encoded(Property::AuthenticationMethod("m")));
            }
            let repeatable = property.id() == 0x26 || (property.id(), carrier) == (0x0B, Carrier::Publish);
            let expected = (!repeatable).then_some(DecodeError::PropertyRepeated(property.id()));
            assert_eq!(Properties::new(&bytes, carrier).err(), expected);
            let mut buf = PropertiesBuf::new(carrier);
            buf.push(property).unwrap();
            let before = buf.clone();
            assert_eq!(buf.push(property).err(), expected);
            assert_eq!(buf == before, !repeatable);
        }
    }
}

#[test]
fn values() {
    let cases: [(&[u8], Carrier, DecodeError); 14] = [
        (&[0x01, 2], Carrier::Publish, DecodeError::PropertyValue(0x01)),
        (&[0x0B, 0], Carrier::Subscribe, DecodeError::PropertyValue(0x0B)),
        (&[0x17, 2], Carrier::Connect, DecodeError::PropertyValue(0x17)),
        (&[0x19, 255], Carrier::Connect, DecodeError::PropertyValue(0x19)),
        (&[0x21, 0, 0], Carrier::Connect, DecodeError::PropertyValue(0x21)),
        (&[0x23, 0, 0], Carrier::Publish, DecodeError::TopicAliasZero),
        (&[0x24, 2], Carrier::Connack, DecodeError::PropertyValue(0x24)),
        (
            &[0x27, 0, 0, 0, 0],
            Carrier::Connect,
            DecodeError::PropertyValue(0x27),
        ),
        (&[0x2A, 2], Carrier::Connack, DecodeError::PropertyValue(0x2A)),
        // v5 [MQTT-3.3.2-14]
        (
            &[0x08, 0, 1, b'#'],
            Carrier::Publish,
            DecodeError::Topic(TopicError::WildcardInName),
        ),
        (
            &[0x08, 0, 0],
            Carrier::Publish,
            DecodeError::Topic(TopicError::Empty),
        ),
        (
            &[0x26, 0, 1, 0, 0, 0],
            Carrier::Publish,
            DecodeError::StringHoldsNul,
        ),
        (&[0x7F], Carrier::Publish, DecodeError::PropertyUnknown(0x7F)),
        (
            &[0x80, 0x01],
            Carrier::Publish,
            DecodeError::PropertyUnknown(0x80),
        ),
    ];
    for (bytes, carrier, error) in cases {
        assert_eq!(Properties::new(bytes, carrier), Err(error), "{bytes:x?}");
    }
    // v5 section 3.1.2.11.10
    let data = encoded(Property::AuthenticationData(b"d"));
    assert_eq!(
        Properties::new(&data, Carrier::Connect),
        Err(DecodeError::AuthenticationMethodMissing)
    );
}

#[test]
fn values_on_the_way_out() {
    let mut buf = PropertiesBuf::new(Carrier::Publish);
    let long = "x".repeat(65_536);
    for (property, error) in [
        (Property::TopicAlias(0), DecodeError::TopicAliasZero),
        (
            Property::SubscriptionIdentifier(0),
            DecodeError::PropertyValue(0x0B),
        ),
        (
            Property::SubscriptionIdentifier(268_435_456),
            DecodeError::VariableByteIntegerTooLong,
        ),
        (Property::ContentType("\0"), DecodeError::StringHoldsNul),
        (Property::ContentType(&long), DecodeError::FieldTooLong),
        (Property::UserProperty(("k", &long)), DecodeError::FieldTooLong),
        (
            Property::ResponseTopic(TopicName::ALIASED),
            DecodeError::Topic(TopicError::Empty),
        ),
    ] {
        assert_eq!(buf.push(property), Err(error));
        assert!(buf.as_properties().is_empty());
    }
    let mut connack = PropertiesBuf::new(Carrier::Connack);
    assert_eq!(
        connack.push(Property::MaximumQoS(QoS::ExactlyOnce)),
        Err(DecodeError::PropertyValue(0x24))
    );
    buf.push(Property::TopicAlias(7)).unwrap();
    buf.clear();
    assert_eq!(buf, PropertiesBuf::new(Carrier::Publish));
}

#[test]
fn properties_of_one_packet_in_another() {
    let mut buf = PropertiesBuf::new(Carrier::Will);
    buf.push(Property::ContentType("t")).unwrap();
    let check = |buf: &PropertiesBuf, carrier| buf.as_properties().check(Version::V5, carrier);
    assert_eq!(check(&buf, Carrier::Publish), Ok(()));
    let mut bytes = Vec::new();
    buf.as_properties().encode(Version::V5, &mut bytes);
    assert_eq!(bytes, [4, 0x03, 0, 1, b't']);
    buf.push(Property::WillDelayInterval(1)).unwrap();
    let refused = check(&buf, Carrier::Publish);
    assert_eq!(refused, Err(DecodeError::PropertyOutOfPlace(0x18)));
    // Data without its method is noticed when the block is used, as they may be pushed in any order.
    let mut buf = PropertiesBuf::new(Carrier::Auth);
    buf.push(Property::AuthenticationData(b"d")).unwrap();
    let refused = check(&buf, Carrier::Auth);
    assert_eq!(refused, Err(DecodeError::AuthenticationMethodMissing));
}

#[test]
fn a_copy_has_its_places_too() {
    let twice = [
        Property::SubscriptionIdentifier(1),
        Property::SubscriptionIdentifier(2),
    ];
    let publish = PropertiesBuf::of(Carrier::Publish, &twice).unwrap();
    let copy = |carrier| PropertiesBuf::copy_of(carrier, publish.as_properties());
    assert_eq!(copy(Carrier::Publish), Ok(publish.clone()));
    assert_eq!(copy(Carrier::Subscribe), Err(DecodeError::PropertyRepeated(0x0B)));
    let once = PropertiesBuf::of(Carrier::Publish, &twice[..1]).unwrap();
    let will = PropertiesBuf::copy_of(Carrier::Will, once.as_properties());
    assert_eq!(will, Err(DecodeError::PropertyOutOfPlace(0x0B)));
    let mut empty = PropertiesBuf::copy_of(Carrier::Subscribe, Properties::EMPTY).unwrap();
    assert_eq!(empty, PropertiesBuf::new(Carrier::Subscribe));
    empty.push(twice[0]).unwrap();
    assert_eq!(empty.push(twice[1]), Err(DecodeError::PropertyRepeated(0x0B)));
}

#[test]
fn the_length_must_be_there_and_fit() {
    let decode = |bytes: &[u8]| {
        Properties::decode(&mut Reader::new(bytes), Version::V5, Carrier::Publish).map(|p| p.iter().count())
    };
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[0]), Ok(0));
    assert_eq!(decode(&[3, 0x23, 0]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[2, 0x23, 0, 1]), Err(DecodeError::Truncated));
    assert_eq!(
        decode(&[0x80, 0]),
        Err(DecodeError::VariableByteIntegerNotMinimal)
    );
    assert_eq!(decode(&[3, 0x23, 0, 1]), Ok(1));
}

/// A property that is sound, or nearly; some have texts that are long or not in ASCII.
fn nearly_sound() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::sample::select(all().to_vec()).prop_map(encoded),
        2 => ("[a-z]{0,40}", "[a-zé\u{0}]{0,12}").prop_map(|(name, value)| encoded(Property::UserProperty((&name, &value)))),
        1 => "[a-z+é]{0,40}".prop_map(|text| encoded(Property::ContentType(&text))),
        1 => proptest::collection::vec(0_u8..0x2C, 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// What is behind a block makes no difference, and the way for sound ones says what the one for all says.
    #[test]
    fn a_block_means_the_same_whatever_is_behind_it(
        properties in proptest::collection::vec(nearly_sound(), 0..5),
        behind in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            proptest::collection::vec(nearly_sound(), 0..3).prop_map(|properties| properties.concat()),
        ],
        cut in prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..60],
        carrier in proptest::sample::select(&CARRIERS[..]),
    ) {
        let mut block = properties.concat();
        block.truncate(cut);
        let whole = Present::of_any(&block, carrier);
        let all = [&block[..], &behind].concat();
        prop_assert_eq!(Present::of_sound(&all, block.len(), carrier), whole.ok());
        prop_assert_eq!(Present::of_first(&all, block.len(), carrier), whole);
        prop_assert_eq!(Present::of_first(&block, block.len(), carrier), whole);
    }
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_iterated_wholly(
        bytes in proptest::collection::vec(0_u8..0x2C, 0..40),
        carrier in proptest::sample::select(&CARRIERS[..]),
    ) {
        if let Ok(properties) = Properties::new(&bytes, carrier) {
            let mut buf = PropertiesBuf::new(carrier);
            for property in properties {
                buf.push(property).unwrap();
            }
            prop_assert_eq!(buf.as_properties(), properties);
            prop_assert_eq!(PropertiesBuf::copy_of(carrier, properties), Ok(buf));
        }
    }
}
