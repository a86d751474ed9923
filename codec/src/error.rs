//! What can be wrong with a frame, each fault with its clause and the Reason Code that answers it.

use std::fmt;

use crate::{ReasonCode, TopicError, Version};

/// Why bytes are not a valid MQTT packet.
///
/// An incomplete frame is not an error; see [`Split::Partial`](crate::frame::Split::Partial).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The remaining length does not end within four bytes.
    RemainingLengthTooLong,
    /// The packet is longer than the receiver's maximum, known from its fixed header.
    PacketTooLarge,
    /// The packet type is reserved: 0, or AUTH in 3.1.1.
    PacketTypeReserved,
    /// The flags of the fixed header are not those of the packet type.
    FixedHeaderFlags,
    /// A variable byte integer is not in its shortest form (5.0).
    VariableByteIntegerNotMinimal,
    /// A variable byte integer does not end within four bytes.
    VariableByteIntegerTooLong,
    /// A field reaches past the end of the packet or of its property block.
    Truncated,
    /// Bytes are left behind the last field.
    TrailingBytes,
    /// The packet identifier is zero.
    PacketIdZero,
    /// Both QoS bits are set.
    QoSReserved,
    /// DUP is set on a QoS 0 message.
    DupOnQoS0,
    /// A string is not well-formed UTF-8.
    StringNotUtf8,
    /// A string holds the character U+0000.
    StringHoldsNul,
    /// A string or binary field is longer than 65,535 bytes, which its length prefix cannot say.
    FieldTooLong,
    /// CONNECT does not start with the protocol name `MQTT`.
    ProtocolName,
    /// CONNECT asks for a protocol level that is neither 4 nor 5; the value is the level.
    ProtocolLevel(u8),
    /// The reserved bit of the connect flags is set.
    ConnectFlagReserved,
    /// Will QoS or Will Retain are set without the Will Flag.
    WillFlags,
    /// The will asks for QoS 3.
    WillQoSReserved,
    /// The client identifier is empty, and Clean Session is not set (3.1.1).
    ClientIdMissing,
    /// A password is given without a user name (3.1.1).
    PasswordWithoutUsername,
    /// A reserved bit of the connect acknowledge flags is set.
    ConnackFlagsReserved,
    /// CONNACK refuses the connection and says that a session is present.
    SessionPresentWithError,
    /// The reason code does not exist or does not belong into this packet.
    ReasonCodeInvalid(u8),
    /// A SUBSCRIBE without a topic filter.
    NoSubscriptions,
    /// An UNSUBSCRIBE without a topic filter.
    NoUnsubscriptions,
    /// A SUBACK, or an UNSUBACK of 5.0, without a reason code.
    NoReasonCodes,
    /// Reserved bits of the subscription options are set.
    SubscriptionOptionsReserved,
    /// A subscription asks for QoS 3.
    SubscriptionQoSReserved,
    /// Retain Handling is 3.
    RetainHandlingReserved,
    /// No Local is set on a shared subscription.
    NoLocalOnShared,
    /// The property identifier is unknown; the value is its first byte.
    PropertyUnknown(u8),
    /// The property does not belong into this packet; the value is its identifier.
    PropertyOutOfPlace(u8),
    /// The property occurs more than once; the value is its identifier.
    PropertyRepeated(u8),
    /// The value is not one that the property may have; the value is the property's identifier.
    PropertyValue(u8),
    /// The Topic Alias is zero.
    TopicAliasZero,
    /// Authentication data is given without an authentication method.
    AuthenticationMethodMissing,
    /// The topic name is empty, and there is no Topic Alias.
    TopicNameMissing,
    /// A topic name or topic filter is malformed.
    Topic(TopicError),
}

/// One row of the table of rules.
pub(crate) struct Rule {
    /// What is wrong, as a lower-case phrase.
    pub(crate) text: &'static str,
    /// The clause of 5.0.
    pub(crate) v5: &'static str,
    /// The clause of 3.1.1; of 5.0 where 3.1.1 has nothing of the kind.
    pub(crate) v311: &'static str,
    /// The answer in 5.0.
    pub(crate) reason: ReasonCode,
}

impl DecodeError {
    /// The clause of the specification that is violated: its identifier where it has one, else its section.
    #[must_use]
    pub const fn clause(self, version: Version) -> &'static str {
        match version {
            Version::V311 => self.rule().v311,
            Version::V5 => self.rule().v5,
        }
    }

    /// The v5 Reason Code that tells the peer about it, in CONNACK or DISCONNECT.
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        self.rule().reason
    }

    const fn rule(self) -> Rule {
        use ReasonCode::{
            ClientIdentifierNotValid, MalformedPacket as Malformed, PacketTooLarge, ProtocolError,
            TopicAliasInvalid, UnsupportedProtocolVersion,
        };
        match self {
            Self::RemainingLengthTooLong => rule(
                "remaining length longer than four bytes",
                "v5 section 2.1.4",
                "v3.1.1 section 2.2.3",
                Malformed,
            ),
            Self::PacketTooLarge => rule(
                "packet larger than the maximum",
                "v5 [MQTT-3.1.2-24]",
                "v3.1.1 section 2.2.3",
                PacketTooLarge,
            ),
            Self::PacketTypeReserved => rule(
                "reserved packet type",
                "v5 section 2.1.2",
                "v3.1.1 section 2.2.1",
                Malformed,
            ),
            Self::FixedHeaderFlags => rule(
                "wrong flags in the fixed header",
                "v5 [MQTT-2.1.3-1]",
                "v3.1.1 [MQTT-2.2.2-2]",
                Malformed,
            ),
            Self::VariableByteIntegerNotMinimal => only_v5(
                "variable byte integer is not in its shortest form",
                "v5 [MQTT-1.5.5-1]",
                Malformed,
            ),
            Self::VariableByteIntegerTooLong => only_v5(
                "variable byte integer longer than four bytes",
                "v5 section 1.5.5",
                Malformed,
            ),
            Self::Truncated => rule(
                "a field reaches past the end",
                "v5 section 4.13.1",
                "v3.1.1 [MQTT-4.8.0-1]",
                Malformed,
            ),
            Self::TrailingBytes => rule(
                "bytes left behind the last field",
                "v5 section 4.13.1",
                "v3.1.1 [MQTT-4.8.0-1]",
                Malformed,
            ),
            Self::PacketIdZero => rule(
                "packet identifier is zero",
                "v5 [MQTT-2.2.1-3]",
                "v3.1.1 [MQTT-2.3.1-1]",
                ProtocolError,
            ),
            Self::QoSReserved => rule(
                "both QoS bits are set",
                "v5 [MQTT-3.3.1-4]",
                "v3.1.1 [MQTT-3.3.1-4]",
                Malformed,
            ),
            Self::DupOnQoS0 => rule(
                "DUP set on a QoS 0 message",
                "v5 [MQTT-3.3.1-2]",
                "v3.1.1 [MQTT-3.3.1-2]",
                ProtocolError,
            ),
            Self::StringNotUtf8 => rule(
                "string is not UTF-8",
                "v5 [MQTT-1.5.4-1]",
                "v3.1.1 [MQTT-1.5.3-1]",
                Malformed,
            ),
            Self::StringHoldsNul => rule(
                "string holds U+0000",
                "v5 [MQTT-1.5.4-2]",
                "v3.1.1 [MQTT-1.5.3-2]",
                Malformed,
            ),
            Self::FieldTooLong => rule(
                "field longer than 65,535 bytes",
                "v5 section 1.5.4",
                "v3.1.1 section 1.5.3",
                Malformed,
            ),
            Self::ProtocolName => rule(
                "protocol name is not MQTT",
                "v5 [MQTT-3.1.2-1]",
                "v3.1.1 [MQTT-3.1.2-1]",
                UnsupportedProtocolVersion,
            ),
            Self::ProtocolLevel(_) => rule(
                "unsupported protocol level",
                "v5 [MQTT-3.1.2-2]",
                "v3.1.1 [MQTT-3.1.2-2]",
                UnsupportedProtocolVersion,
            ),
            Self::ConnectFlagReserved => rule(
                "reserved connect flag is set",
                "v5 [MQTT-3.1.2-3]",
                "v3.1.1 [MQTT-3.1.2-3]",
                Malformed,
            ),
            Self::WillFlags => rule(
                "Will QoS or Will Retain without a will",
                "v5 [MQTT-3.1.2-11], [MQTT-3.1.2-13]",
                "v3.1.1 [MQTT-3.1.2-11]",
                Malformed,
            ),
            Self::WillQoSReserved => rule(
                "Will QoS is 3",
                "v5 [MQTT-3.1.2-12]",
                "v3.1.1 [MQTT-3.1.2-14]",
                Malformed,
            ),
            // The one fault of a CONNECT that 3.1.1 has answered, with return code 2: [MQTT-3.1.3-8].
            Self::ClientIdMissing => rule(
                "empty client identifier without Clean Session",
                "v3.1.1 [MQTT-3.1.3-7]",
                "v3.1.1 [MQTT-3.1.3-7]",
                ClientIdentifierNotValid,
            ),
            Self::PasswordWithoutUsername => rule(
                "password without a user name",
                "v5 section 3.1.2.9",
                "v3.1.1 [MQTT-3.1.2-22]",
                ProtocolError,
            ),
            Self::ConnackFlagsReserved => rule(
                "reserved connect acknowledge flag is set",
                "v5 [MQTT-3.2.2-1]",
                "v3.1.1 section 3.2.2.1",
                Malformed,
            ),
            Self::SessionPresentWithError => rule(
                "session present in a CONNACK that refuses",
                "v5 [MQTT-3.2.2-6]",
                "v3.1.1 [MQTT-3.2.2-4]",
                ProtocolError,
            ),
            Self::ReasonCodeInvalid(_) => rule(
                "reason code not allowed in this packet",
                "v5 section 2.4",
                "v3.1.1 [MQTT-3.9.3-2]",
                ProtocolError,
            ),
            Self::NoSubscriptions => rule(
                "SUBSCRIBE without a topic filter",
                "v5 [MQTT-3.8.3-2]",
                "v3.1.1 [MQTT-3.8.3-3]",
                ProtocolError,
            ),
            Self::NoUnsubscriptions => rule(
                "UNSUBSCRIBE without a topic filter",
                "v5 [MQTT-3.10.3-2]",
                "v3.1.1 [MQTT-3.10.3-2]",
                ProtocolError,
            ),
            Self::NoReasonCodes => rule(
                "acknowledgement without a reason code",
                "v5 [MQTT-3.8.4-6]",
                "v3.1.1 [MQTT-3.8.4-5]",
                ProtocolError,
            ),
            Self::SubscriptionOptionsReserved => rule(
                "reserved bits in the subscription options",
                "v5 [MQTT-3.8.3-5]",
                "v3.1.1 [MQTT-3-8.3-4]",
                Malformed,
            ),
            Self::SubscriptionQoSReserved => rule(
                "QoS of a subscription is 3",
                "v5 section 3.8.3.1",
                "v3.1.1 [MQTT-3-8.3-4]",
                ProtocolError,
            ),
            Self::RetainHandlingReserved => {
                only_v5("Retain Handling is 3", "v5 section 3.8.3.1", ProtocolError)
            }
            Self::NoLocalOnShared => only_v5(
                "No Local on a shared subscription",
                "v5 [MQTT-3.8.3-4]",
                ProtocolError,
            ),
            Self::PropertyUnknown(_) => only_v5("unknown property", "v5 section 2.2.2.2", Malformed),
            Self::PropertyOutOfPlace(_) => only_v5(
                "property not allowed in this packet",
                "v5 section 2.2.2.2",
                Malformed,
            ),
            Self::PropertyRepeated(_) => only_v5("property given twice", "v5 section 2.2.2.2", ProtocolError),
            Self::PropertyValue(_) => only_v5(
                "property has a value that it may not have",
                "v5 section 2.2.2.2",
                ProtocolError,
            ),
            Self::TopicAliasZero => only_v5("Topic Alias is zero", "v5 [MQTT-3.3.2-8]", TopicAliasInvalid),
            Self::AuthenticationMethodMissing => only_v5(
                "authentication data without a method",
                "v5 section 3.1.2.11.10",
                ProtocolError,
            ),
            Self::TopicNameMissing => rule(
                "empty topic name without a Topic Alias",
                "v5 section 3.3.2.1",
                "v3.1.1 [MQTT-4.7.3-1]",
                ProtocolError,
            ),
            Self::Topic(error) => error.rule(),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { text, v5, v311, .. } = self.rule();
        f.write_str(text)?;
        match self {
            Self::ProtocolLevel(level) => write!(f, " {level}")?,
            Self::ReasonCodeInvalid(code) => write!(f, ": {code:#04x}")?,
            Self::PropertyUnknown(id)
            | Self::PropertyOutOfPlace(id)
            | Self::PropertyRepeated(id)
            | Self::PropertyValue(id) => write!(f, ": {id:#04x}")?,
            _ => {}
        }
        if v5 == v311 {
            write!(f, " ({v5})")
        } else {
            write!(f, " ({v5}, {v311})")
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<TopicError> for DecodeError {
    fn from(error: TopicError) -> Self {
        Self::Topic(error)
    }
}

pub(crate) const fn rule(
    text: &'static str,
    v5: &'static str,
    v311: &'static str,
    reason: ReasonCode,
) -> Rule {
    Rule {
        text,
        v5,
        v311,
        reason,
    }
}

/// A rule about something that only 5.0 has.
const fn only_v5(text: &'static str, clause: &'static str, reason: ReasonCode) -> Rule {
    rule(text, clause, clause, reason)
}

#[cfg(test)]
mod tests;
