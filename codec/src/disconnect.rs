//! DISCONNECT and AUTH, v5 sections 3.14 and 3.15, v3.1.1 section 3.14.

use crate::ack::{decode_outcome, encode_outcome};
use crate::encode::{Encode, encodable};
use crate::wire::{Reader, Sink};
use crate::{Carrier, DecodeError, EncodeError, PacketType, Properties, ReasonCode, Version};

/// The last packet of a connection. In 3.1.1 only the client sends it, and it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; always [`ReasonCode::NORMAL_DISCONNECTION`] in 3.1.1.
    pub reason: ReasonCode,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A disconnect for this reason.
    #[must_use]
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: Properties::EMPTY,
        }
    }

    pub(crate) fn decode(reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let (reason, properties) =
            decode_outcome(reader, version, PacketType::Disconnect, Carrier::Disconnect)?;
        Ok(Self { reason, properties })
    }
}

impl Encode for Disconnect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Disconnect.first_byte()
    }

    /// 3.1.1 can only say *normal*, which also discards the will: whoever means something else closes without it.
    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.reason.check(PacketType::Disconnect)?;
        if version == Version::V311 && self.reason != ReasonCode::NORMAL_DISCONNECTION {
            return Err(EncodeError::NotInVersion(version));
        }
        self.properties.check(version, Carrier::Disconnect)?;
        Ok(())
    }

    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        encode_outcome(self.reason, self.properties, version, sink);
    }
}

encodable!(Disconnect<'_>);

/// One step of an extended authentication; only in 5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Which step.
    pub reason: ReasonCode,
    /// The properties, the authentication method among them.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Unlike in the other packets, reason code and properties are left out together or not at all, v5 section
    /// 3.15.2.1.
    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        if version == Version::V311 {
            return Err(DecodeError::PacketTypeReserved);
        }
        let mut reason = ReasonCode::Success;
        let mut properties = Properties::EMPTY;
        if !reader.is_empty() {
            reason = ReasonCode::decode(reader.u8()?, PacketType::Auth)?;
            properties = Properties::decode(&mut reader, version, Carrier::Auth)?;
        }
        reader.finish()?;
        let auth = Self { reason, properties };
        auth.check()?;
        Ok(auth)
    }

    /// v5 `[MQTT-3.15.2-1]` and section 3.15.2.2.2. Success without properties is the packet without a body, which
    /// section 3.15.2.1 allows.
    fn check(&self) -> Result<(), DecodeError> {
        self.reason.check(PacketType::Auth)?;
        let bare = self.reason == ReasonCode::Success && self.properties.is_empty();
        if !bare && self.properties.authentication_method().is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(())
    }
}

impl Encode for Auth<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Auth.first_byte()
    }

    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        if version == Version::V311 {
            return Err(EncodeError::NotInVersion(version));
        }
        self.check()?;
        self.properties.check(version, Carrier::Auth)?;
        Ok(())
    }

    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        encode_outcome(self.reason, self.properties, version, sink);
    }
}

encodable!(Auth<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packet;
    use crate::testing::{decode, frame, refusal, sample};

    // v5 [MQTT-3.14.2-1], [MQTT-3.15.2-1]
    #[test]
    fn reason_codes() {
        let disconnect = [
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
            0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ];
        for code in 0..=255 {
            let accepted = decode(&frame(0xE0, &[code]), Version::V5).is_ok();
            assert_eq!(accepted, disconnect.contains(&code), "{code:#x}");
            let accepted = decode(&frame(0xF0, &[code, 4, 0x15, 0, 1, b'm']), Version::V5).is_ok();
            assert_eq!(accepted, [0x00, 0x18, 0x19].contains(&code), "{code:#x}");
        }
    }

    #[test]
    fn properties() {
        let bytes = sample("v5/disconnect_properties");
        let Ok(Packet::Disconnect(disconnect)) = decode(&bytes, Version::V5) else {
            panic!()
        };
        assert_eq!(disconnect.reason, ReasonCode::ServerMoved);
        assert_eq!(disconnect.properties.server_reference(), Some("other:8883"));
    }

    #[test]
    fn only_normal_in_311() {
        assert_eq!(refusal(0xE0, &[0], Version::V311), DecodeError::TrailingBytes);
        let normal = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(normal.encoded_len(Version::V311), Ok(2));
        let with_will = Disconnect::new(ReasonCode::DisconnectWithWillMessage);
        assert_eq!(
            with_will.encoded_len(Version::V311),
            Err(EncodeError::NotInVersion(Version::V311))
        );
    }

    // v5 section 3.15.2.2.2
    #[test]
    fn auth_needs_a_method() {
        // A length of the properties must follow the reason code, v5 section 3.15.2.1.
        for reason in [0x00, 0x18, 0x19] {
            assert_eq!(refusal(0xF0, &[reason], Version::V5), DecodeError::Truncated);
        }
        assert_eq!(
            refusal(0xF0, &[0x18, 0], Version::V5),
            DecodeError::AuthenticationMethodMissing
        );
        let auth = Auth {
            reason: ReasonCode::ReAuthenticate,
            properties: Properties::EMPTY,
        };
        assert_eq!(
            auth.encoded_len(Version::V5),
            Err(EncodeError::Refused(DecodeError::AuthenticationMethodMissing))
        );
    }
}
