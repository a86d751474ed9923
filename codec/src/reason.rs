//! Reason Codes and the packets that may carry each.

use std::fmt;

use crate::{DecodeError, PacketType, QoS, Version};

/// Builds the enum, its reading, names and places from one table in the order of v5 table 2-6.
macro_rules! reason_codes {
    ($($value:literal $variant:ident $name:literal [$($packet:ident)+];)+) => {
        /// A Reason Code of 5.0, v5 section 2.4.
        ///
        /// Code 0x00 has three names: Success, in DISCONNECT *Normal disconnection*, in SUBACK *Granted QoS 0*.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum ReasonCode {
            $(#[doc = concat!($name, ", `", stringify!($value), "`.")] $variant = $value,)+
        }

        impl ReasonCode {
            /// The code with this value, or `None` if 5.0 has none.
            #[must_use]
            pub const fn new(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The name as the specification spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The packets that may carry the code, one bit for each packet type.
            const fn places(self) -> u16 {
                match self {
                    $(Self::$variant => $(1 << PacketType::$packet as u16)|+,)+
                }
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success" [Connack Puback Pubrec Pubrel Pubcomp Suback Unsuback Disconnect Auth];
    0x01 GrantedQoS1 "Granted QoS 1" [Suback];
    0x02 GrantedQoS2 "Granted QoS 2" [Suback];
    0x04 DisconnectWithWillMessage "Disconnect with Will Message" [Disconnect];
    0x10 NoMatchingSubscribers "No matching subscribers" [Puback Pubrec];
    0x11 NoSubscriptionExisted "No subscription existed" [Unsuback];
    0x18 ContinueAuthentication "Continue authentication" [Auth];
    0x19 ReAuthenticate "Re-authenticate" [Auth];
    0x80 UnspecifiedError "Unspecified error" [Connack Puback Pubrec Suback Unsuback Disconnect];
    0x81 MalformedPacket "Malformed Packet" [Connack Disconnect];
    0x82 ProtocolError "Protocol Error" [Connack Disconnect];
    0x83 ImplementationSpecificError "Implementation specific error"
        [Connack Puback Pubrec Suback Unsuback Disconnect];
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version" [Connack];
    0x85 ClientIdentifierNotValid "Client Identifier not valid" [Connack];
    0x86 BadUserNameOrPassword "Bad User Name or Password" [Connack];
    0x87 NotAuthorized "Not authorized" [Connack Puback Pubrec Suback Unsuback Disconnect];
    0x88 ServerUnavailable "Server unavailable" [Connack];
    0x89 ServerBusy "Server busy" [Connack Disconnect];
    0x8A Banned "Banned" [Connack];
    0x8B ServerShuttingDown "Server shutting down" [Disconnect];
    0x8C BadAuthenticationMethod "Bad authentication method" [Connack Disconnect];
    0x8D KeepAliveTimeout "Keep Alive timeout" [Disconnect];
    0x8E SessionTakenOver "Session taken over" [Disconnect];
    0x8F TopicFilterInvalid "Topic Filter invalid" [Suback Unsuback Disconnect];
    0x90 TopicNameInvalid "Topic Name invalid" [Connack Puback Pubrec Disconnect];
    0x91 PacketIdentifierInUse "Packet Identifier in use" [Puback Pubrec Suback Unsuback];
    0x92 PacketIdentifierNotFound "Packet Identifier not found" [Pubrel Pubcomp];
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded" [Disconnect];
    0x94 TopicAliasInvalid "Topic Alias invalid" [Disconnect];
    0x95 PacketTooLarge "Packet too large" [Connack Disconnect];
    0x96 MessageRateTooHigh "Message rate too high" [Disconnect];
    0x97 QuotaExceeded "Quota exceeded" [Connack Puback Pubrec Suback Disconnect];
    0x98 AdministrativeAction "Administrative action" [Disconnect];
    0x99 PayloadFormatInvalid "Payload format invalid" [Connack Puback Pubrec Disconnect];
    0x9A RetainNotSupported "Retain not supported" [Connack Disconnect];
    0x9B QoSNotSupported "QoS not supported" [Connack Disconnect];
    0x9C UseAnotherServer "Use another server" [Connack Disconnect];
    0x9D ServerMoved "Server moved" [Connack Disconnect];
    0x9E SharedSubscriptionsNotSupported "Shared Subscriptions not supported" [Suback Disconnect];
    0x9F ConnectionRateExceeded "Connection rate exceeded" [Connack Disconnect];
    0xA0 MaximumConnectTime "Maximum connect time" [Disconnect];
    0xA1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported" [Suback Disconnect];
    0xA2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported" [Suback Disconnect];
}

impl ReasonCode {
    /// The name of 0x00 in DISCONNECT.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// The name of 0x00 in SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// The code of a SUBACK that grants this QoS.
    #[must_use]
    pub const fn granted(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::GRANTED_QOS_0,
            QoS::AtLeastOnce => Self::GrantedQoS1,
            QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }

    /// The value on the wire.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the code says that something failed: 0x80 and above.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// Whether a packet of this type may carry the code, v5 table 2-6.
    #[must_use]
    pub const fn is_allowed_in(self, packet: PacketType) -> bool {
        self.places() >> packet as u16 & 1 == 1
    }

    /// The code of a CONNACK. The return codes 1 to 5 of 3.1.1 become the codes of 5.0 that mean the same;
    /// a value that the version does not know becomes [`ReasonCode::UnspecifiedError`].
    #[must_use]
    pub const fn from_connack(code: u8, version: Version) -> Self {
        let code = match version {
            Version::V5 => Self::new(code),
            // v3.1.1 table 3.1.
            Version::V311 => match code {
                0 => Some(Self::Success),
                1 => Some(Self::UnsupportedProtocolVersion),
                2 => Some(Self::ClientIdentifierNotValid),
                3 => Some(Self::ServerUnavailable),
                4 => Some(Self::BadUserNameOrPassword),
                5 => Some(Self::NotAuthorized),
                _ => None,
            },
        };
        match code {
            Some(code) => code,
            None => Self::UnspecifiedError,
        }
    }

    /// The byte that says this in a CONNACK of the version; 3.1.1 has six and takes the nearest.
    #[must_use]
    pub const fn connack_code(self, version: Version) -> u8 {
        match version {
            Version::V5 => self.value(),
            Version::V311 => match self {
                Self::UnsupportedProtocolVersion => 1,
                Self::ClientIdentifierNotValid => 2,
                Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => 4,
                Self::NotAuthorized | Self::Banned => 5,
                code if code.is_error() => 3,
                _ => 0,
            },
        }
    }

    /// Reads a code and checks that the packet may carry it.
    pub(crate) const fn decode(value: u8, packet: PacketType) -> Result<Self, DecodeError> {
        match Self::new(value) {
            Some(code) if code.is_allowed_in(packet) => Ok(code),
            _ => Err(DecodeError::ReasonCodeInvalid(value)),
        }
    }

    /// Checks on the way out what [`ReasonCode::decode`] checks on the way in.
    pub(crate) const fn check(self, packet: PacketType) -> Result<(), DecodeError> {
        if self.is_allowed_in(packet) {
            Ok(())
        } else {
            Err(DecodeError::ReasonCodeInvalid(self.value()))
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X} {}", self.value(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_names() {
        let known = (0..=255).filter_map(ReasonCode::new).inspect(|code| {
            assert_eq!(ReasonCode::new(code.value()), Some(*code));
        });
        // v5 table 2-6 has 43 values.
        assert_eq!(known.count(), 43);
        assert_eq!(ReasonCode::new(0x03), None);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(ReasonCode::granted(qos).value(), qos.bits());
        }
        assert_eq!(ReasonCode::NotAuthorized.to_string(), "0x87 Not authorized");
        assert!(ReasonCode::UnspecifiedError.is_error() && !ReasonCode::ReAuthenticate.is_error());
    }

    // v3.1.1 table 3.1
    #[test]
    fn connack_codes() {
        let v311 = |code| ReasonCode::from_connack(code, Version::V311);
        assert_eq!(v311(0), ReasonCode::Success);
        assert_eq!(v311(7), ReasonCode::UnspecifiedError);
        for code in 0..=5 {
            assert_eq!(v311(code).connack_code(Version::V311), code);
        }
        for code in (0..=255)
            .filter_map(ReasonCode::new)
            .filter(|code| code.is_error())
        {
            assert!((1..=5).contains(&code.connack_code(Version::V311)), "{code}");
            assert_eq!(code.connack_code(Version::V5), code.value());
        }
        assert_eq!(
            ReasonCode::from_connack(0x87, Version::V5),
            ReasonCode::NotAuthorized
        );
        assert_eq!(
            ReasonCode::from_connack(5, Version::V5),
            ReasonCode::UnspecifiedError
        );
    }
}
