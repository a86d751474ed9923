//! CONNACK, v5 section 3.2, v3.1.1 section 3.2.

use crate::encode::{Encode, encodable};
use crate::wire::{Reader, Sink};
use crate::{Carrier, DecodeError, EncodeError, PacketType, Properties, ReasonCode, Version};

/// The server's answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the server kept a session of this client.
    pub session_present: bool,
    /// The code as on the wire: a Reason Code in 5.0; in 3.1.1 a return code of table 3.1, or a reserved one, which
    /// some servers send nevertheless and which then refuses the connection. See [`Connack::reason`].
    pub code: u8,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

const SESSION_PRESENT: u8 = 0b0000_0001;

impl<'a> Connack<'a> {
    /// Accepts the connection.
    #[must_use]
    pub const fn accepted(session_present: bool) -> Self {
        Self {
            session_present,
            code: 0,
            properties: Properties::EMPTY,
        }
    }

    /// Refuses the connection; in 3.1.1 with the nearest of its five codes.
    #[must_use]
    pub const fn refused(reason: ReasonCode, version: Version) -> Self {
        Self {
            session_present: false,
            code: reason.connack_code(version),
            properties: Properties::EMPTY,
        }
    }

    /// The same with properties.
    #[must_use]
    pub const fn with_properties(mut self, properties: Properties<'a>) -> Self {
        self.properties = properties;
        self
    }

    /// What the code means, in the terms of 5.0. A reserved code of 3.1.1 is an
    /// [unspecified error](ReasonCode::UnspecifiedError).
    #[must_use]
    pub const fn reason(&self, version: Version) -> ReasonCode {
        ReasonCode::from_connack(self.code, version)
    }

    /// Whether the server accepted the connection.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.code == 0
    }

    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        // v5 [MQTT-3.2.2-1], v3.1.1 section 3.2.2.1.
        if flags & !SESSION_PRESENT != 0 {
            return Err(DecodeError::ConnackFlagsReserved);
        }
        let code = reader.u8()?;
        let properties = Properties::decode(&mut reader, version, Carrier::Connack)?;
        reader.finish()?;
        let connack = Self {
            session_present: flags & SESSION_PRESENT != 0,
            code,
            properties,
        };
        connack.check(version)?;
        Ok(connack)
    }

    fn check(&self, version: Version) -> Result<(), DecodeError> {
        if version == Version::V5 {
            // v5 [MQTT-3.2.2-8].
            ReasonCode::decode(self.code, PacketType::Connack)?;
            // v5 [MQTT-4.12.0-5]: a refusal may say why in data alone.
            if self.is_accepted() && self.properties.lack_authentication_method() {
                return Err(DecodeError::AuthenticationMethodMissing);
            }
        }
        // v5 [MQTT-3.2.2-6], v3.1.1 [MQTT-3.2.2-4].
        if self.session_present && !self.is_accepted() {
            return Err(DecodeError::SessionPresentWithError);
        }
        Ok(())
    }
}

impl Encode for Connack<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Connack.first_byte()
    }

    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.check(version)?;
        self.properties.check(version, Carrier::Connack)?;
        Ok(())
    }

    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        sink.put_u8(if self.session_present { SESSION_PRESENT } else { 0 });
        sink.put_u8(self.code);
        self.properties.encode(version, sink);
    }
}

encodable!(Connack<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packet;
    use crate::testing::{decode, frame, refusal, sample};

    #[test]
    fn limits() {
        let bytes = sample("v5/connack_limits");
        let Ok(Packet::Connack(connack)) = decode(&bytes, Version::V5) else {
            panic!()
        };
        assert!(connack.is_accepted() && !connack.session_present);
        let properties = connack.properties;
        assert_eq!(properties.assigned_client_identifier(), Some("auto-1"));
        assert_eq!(properties.server_keep_alive(), Some(1200));
        assert_eq!(properties.response_information(), Some("resp/"));
        assert_eq!(properties.server_reference(), Some("other:8883"));
        assert_eq!(properties.maximum_qos(), Some(crate::QoS::AtLeastOnce));
        assert_eq!(properties.retain_available(), Some(true));
        assert_eq!(properties.wildcard_subscription_available(), Some(true));
        assert_eq!(properties.subscription_identifier_available(), Some(false));
        assert_eq!(properties.shared_subscription_available(), Some(true));
        assert_eq!(properties.reason_string(), None);
    }

    #[test]
    fn reserved_codes_of_311_survive() {
        let bytes = frame(0x20, &[0, 7]);
        let Ok(Packet::Connack(connack)) = decode(&bytes, Version::V311) else {
            panic!()
        };
        assert_eq!((connack.code, connack.is_accepted()), (7, false));
        assert_eq!(connack.reason(Version::V311), ReasonCode::UnspecifiedError);
    }

    #[test]
    fn malformed() {
        // v5 [MQTT-3.2.2-1]
        assert_eq!(
            refusal(0x20, &[2, 0, 0], Version::V5),
            DecodeError::ConnackFlagsReserved
        );
        assert_eq!(
            refusal(0x20, &[0x80, 0], Version::V311),
            DecodeError::ConnackFlagsReserved
        );
        // v5 [MQTT-3.2.2-6], v3.1.1 [MQTT-3.2.2-4]
        assert_eq!(
            refusal(0x20, &[1, 0x87, 0], Version::V5),
            DecodeError::SessionPresentWithError
        );
        assert_eq!(
            refusal(0x20, &[1, 5], Version::V311),
            DecodeError::SessionPresentWithError
        );
        // v5 [MQTT-3.2.2-8]
        for code in [0x01, 0x05, 0x8B, 0x8F, 0xFF] {
            assert_eq!(
                refusal(0x20, &[0, code, 0], Version::V5),
                DecodeError::ReasonCodeInvalid(code)
            );
        }
        assert_eq!(refusal(0x20, &[0], Version::V311), DecodeError::Truncated);
    }

    // v5 [MQTT-4.12.0-5]: what accepts names the method, what refuses need not.
    #[test]
    fn authentication_data_without_a_method() {
        let data = [4, 0x16, 0, 1, b'd'];
        assert_eq!(
            refusal(0x20, &[&[0, 0], &data[..]].concat(), Version::V5),
            DecodeError::AuthenticationMethodMissing
        );
        let bytes = frame(0x20, &[&[0, 0x87], &data[..]].concat());
        let Ok(Packet::Connack(connack)) = decode(&bytes, Version::V5) else {
            panic!()
        };
        assert_eq!(connack.properties.authentication_data(), Some(&b"d"[..]));
        assert_eq!(connack.encoded_len(Version::V5), Ok(bytes.len()));
        assert_eq!(
            Connack { code: 0, ..connack }.encoded_len(Version::V5),
            Err(EncodeError::Refused(DecodeError::AuthenticationMethodMissing))
        );
    }

    #[test]
    fn refusing() {
        let connack = Connack::refused(ReasonCode::ServerBusy, Version::V311);
        assert_eq!(connack.code, 3);
        assert_eq!(
            Connack {
                session_present: true,
                ..connack
            }
            .encoded_len(Version::V311),
            Err(EncodeError::Refused(DecodeError::SessionPresentWithError))
        );
        assert_eq!(Connack::refused(ReasonCode::ServerBusy, Version::V5).code, 0x89);
    }
}
