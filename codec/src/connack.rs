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

    fn encode_body(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        self.check(version)?;
        sink.put_u8(if self.session_present { SESSION_PRESENT } else { 0 });
        sink.put_u8(self.code);
        self.properties.encode(version, Carrier::Connack, sink)?;
        Ok(())
    }
}

encodable!(Connack<'_>);
