//! One packet: whatever its body, and what must hold for all that decode.

use fleetwire_codec::frame::{Frame, Split};
use fleetwire_codec::{
    Carrier, EncodeError, FiltersBuf, Packet, Properties, PropertiesBuf, Publish, TopicFilter, TopicName,
    UnsubscribeFiltersBuf, Version,
};

use super::frame::split;

/// The first byte of a packet, its version, and its body: the fixed header always fits, so that all of the input is
/// for the decoders behind it.
pub fn packet(input: &[u8]) {
    let [first, version, body @ ..] = input else {
        return;
    };
    let bytes = with_header(*first, body);
    if let Ok(Split::Complete(frame)) = split(&bytes, usize::MAX) {
        assert_eq!((frame.first_byte(), frame.body()), (*first, body));
        checked(frame, version_of(*version));
    }
}

/// A version that a byte of the input chooses.
pub(super) const fn version_of(byte: u8) -> Version {
    if byte & 1 == 0 { Version::V311 } else { Version::V5 }
}

/// A frame with a fixed header in its shortest form, v5 section 2.1.4.
pub(super) fn with_header(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_varint(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

/// A variable byte integer as v5 section 1.5.5 computes it.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let digit = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { digit | 0x80 } else { digit });
        if value == 0 {
            break;
        }
    }
}

/// What decodes encodes in at most as many bytes, to a packet that says the same; in just as many, to the same bytes.
pub(super) fn checked(frame: Frame<'_>, version: Version) {
    let decoded = Packet::decode(frame, version);
    if let Some(usual) = Publish::decode_usual(&frame, version) {
        assert_eq!(decoded, Ok(Packet::Publish(usual)));
    }
    let Ok(packet) = decoded else {
        return;
    };
    assert_eq!(packet.packet_type(), frame.packet_type());
    // CONNECT says its own version.
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let len = packet.encoded_len(version).expect("what decodes can be encoded");
    let mut bytes = vec![0; len];
    assert_eq!(packet.encode(version, &mut bytes), Ok(len));
    let again = split(&bytes, len).expect("it is a frame");
    let Split::Complete(again) = again else {
        panic!("{packet:?} is encoded too short")
    };
    assert_eq!((again.len(), Packet::decode(again, version)), (len, Ok(packet)));
    assert!(len <= frame.len(), "the shortest form of {packet:?} is longer");
    if len == frame.len() {
        assert_eq!(
            (again.first_byte(), again.body()),
            (frame.first_byte(), frame.body())
        );
    }
    let too_small = EncodeError::BufferTooSmall { needed: len };
    assert_eq!(packet.encode(version, &mut bytes[1..]), Err(too_small));
    lent(&packet);
}

/// Builds anew, through the checks for the way out, what a packet lends.
fn lent(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            properties(connect.properties, Carrier::Connect);
            if let Some(will) = connect.will {
                properties(will.properties, Carrier::Will);
                assert_eq!(TopicName::new(will.topic.as_str()), Ok(will.topic));
            }
        }
        Packet::Connack(connack) => properties(connack.properties, Carrier::Connack),
        Packet::Publish(publish) => {
            properties(publish.properties, Carrier::Publish);
            if publish.topic != TopicName::ALIASED {
                assert_eq!(TopicName::new(publish.topic.as_str()), Ok(publish.topic));
            }
        }
        Packet::Puback(puback) => properties(puback.properties, Carrier::Puback),
        Packet::Pubrec(pubrec) => properties(pubrec.properties, Carrier::Pubrec),
        Packet::Pubrel(pubrel) => properties(pubrel.properties, Carrier::Pubrel),
        Packet::Pubcomp(pubcomp) => properties(pubcomp.properties, Carrier::Pubcomp),
        Packet::Subscribe(subscribe) => {
            properties(subscribe.properties, Carrier::Subscribe);
            let mut filters = FiltersBuf::new();
            for (filter, options) in subscribe.filters.iter() {
                assert_eq!(TopicFilter::new(filter.as_str()), Ok(filter));
                filters.push(filter, options).expect("it was decoded");
            }
            assert_eq!(filters.as_filters(), subscribe.filters);
        }
        Packet::Suback(suback) => {
            properties(suback.properties, Carrier::Suback);
            assert_eq!(suback.reasons().count(), suback.codes.len());
        }
        Packet::Unsubscribe(unsubscribe) => {
            properties(unsubscribe.properties, Carrier::Unsubscribe);
            let mut filters = UnsubscribeFiltersBuf::new();
            for filter in unsubscribe.filters.iter() {
                assert_eq!(TopicFilter::new(filter.as_str()), Ok(filter));
                filters.push(filter).expect("it was decoded");
            }
            assert_eq!(filters.as_filters(), unsubscribe.filters);
        }
        Packet::Unsuback(unsuback) => {
            properties(unsuback.properties, Carrier::Unsuback);
            assert_eq!(unsuback.reasons().count(), unsuback.codes.len());
        }
        Packet::Pingreq | Packet::Pingresp => {}
        Packet::Disconnect(disconnect) => properties(disconnect.properties, Carrier::Disconnect),
        Packet::Auth(auth) => properties(auth.properties, Carrier::Auth),
    }
}

fn properties(properties: Properties<'_>, carrier: Carrier) {
    let mut built = PropertiesBuf::new(carrier);
    for property in properties.iter() {
        built.push(property).expect("it was decoded");
    }
    assert_eq!(built.as_properties().as_bytes(), properties.as_bytes());
    assert_eq!(Properties::new(properties.as_bytes(), carrier), Ok(properties));
}
