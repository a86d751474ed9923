//! Each fault that one packet can have, with its answer.

use fleetwire_codec::{DecodeError, ReasonCode, TopicError, Version};

use crate::{connect, decode, frame, with_properties};

use DecodeError as E;
use ReasonCode as R;
use Version::{V5, V311};

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
