//! SUBSCRIBE and SUBACK, v5 sections 3.8 and 3.9, v3.1.1 sections 3.8 and 3.9.

use crate::encode::{Encode, encodable};
use crate::filters::Filters;
use crate::wire::{Reader, Sink};
use crate::{Carrier, DecodeError, EncodeError, PacketId, PacketType, Properties, ReasonCode, Version};

/// Asks for the messages of some topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The identifier that SUBACK repeats.
    pub packet_id: PacketId,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
    /// The topic filters with their options; at least one.
    pub filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        Ok(Self {
            packet_id: reader.packet_id()?,
            properties: Properties::decode(&mut reader, version, Carrier::Subscribe)?,
            filters: Filters::decode(reader, version)?,
        })
    }
}

impl Encode for Subscribe<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Subscribe.first_byte()
    }

    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Carrier::Subscribe)?;
        self.filters.check(version)?;
        Ok(())
    }

    #[inline(always)]
    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        sink.put_u16(self.packet_id.value());
        self.properties.encode(version, sink);
        self.filters.encode(sink);
    }
}

encodable!(Subscribe<'_>);

/// Answers a SUBSCRIBE, filter by filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suback<'a> {
    /// The identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
    /// One code for each filter, in order, as on the wire: 0, 1, 2 grant a QoS, 0x80 and above refuse. 3.1.1 knows of
    /// the latter only 0x80.
    pub codes: &'a [u8],
}

impl<'a> Suback<'a> {
    /// The codes as Reason Codes.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + Clone + 'a {
        self.codes.iter().filter_map(|code| ReasonCode::new(*code))
    }

    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let suback = Self {
            packet_id: reader.packet_id()?,
            properties: Properties::decode(&mut reader, version, Carrier::Suback)?,
            codes: reader.take_rest(),
        };
        suback.check_codes(version)?;
        Ok(suback)
    }

    /// v5 `[MQTT-3.9.3-2]`, v3.1.1 `[MQTT-3.9.3-2]`.
    fn check_codes(&self, version: Version) -> Result<(), DecodeError> {
        for &code in self.codes {
            ReasonCode::decode(code, PacketType::Suback)?;
            if version == Version::V311 && code > ReasonCode::UnspecifiedError.value() {
                return Err(DecodeError::ReasonCodeInvalid(code));
            }
        }
        if self.codes.is_empty() {
            Err(DecodeError::NoReasonCodes)
        } else {
            Ok(())
        }
    }
}

impl Encode for Suback<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Suback.first_byte()
    }

    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.check_codes(version)?;
        self.properties.check(version, Carrier::Suback)?;
        Ok(())
    }

    #[inline(always)]
    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        sink.put_u16(self.packet_id.value());
        self.properties.encode(version, sink);
        sink.put(self.codes);
    }
}

encodable!(Suback<'_>);

#[cfg(test)]
mod tests;
