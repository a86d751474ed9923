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
    fn encode_body(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        self.reason.check(PacketType::Disconnect)?;
        if version == Version::V311 && self.reason != ReasonCode::NORMAL_DISCONNECTION {
            return Err(EncodeError::NotInVersion(version));
        }
        encode_outcome(self.reason, self.properties, version, Carrier::Disconnect, sink)
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
    pub(crate) fn decode(reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        if version == Version::V311 {
            return Err(DecodeError::PacketTypeReserved);
        }
        let (reason, properties) = decode_outcome(reader, version, PacketType::Auth, Carrier::Auth)?;
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

    fn encode_body(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        if version == Version::V311 {
            return Err(EncodeError::NotInVersion(version));
        }
        self.check()?;
        encode_outcome(self.reason, self.properties, version, Carrier::Auth, sink)
    }
}

encodable!(Auth<'_>);
