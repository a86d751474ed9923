//! UNSUBSCRIBE and UNSUBACK, v5 sections 3.10 and 3.11, v3.1.1 sections 3.10 and 3.11.

use crate::encode::{Encode, encodable};
use crate::filters::UnsubscribeFilters;
use crate::wire::{Reader, Sink};
use crate::{Carrier, DecodeError, EncodeError, PacketId, PacketType, Properties, ReasonCode, Version};

/// Ends subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The identifier that UNSUBACK repeats.
    pub packet_id: PacketId,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
    /// The topic filters; at least one.
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        Ok(Self {
            packet_id: reader.packet_id()?,
            properties: Properties::decode(&mut reader, version, Carrier::Unsubscribe)?,
            filters: UnsubscribeFilters::decode(reader)?,
        })
    }
}

impl Encode for Unsubscribe<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Unsubscribe.first_byte()
    }

    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Carrier::Unsubscribe)?;
        self.filters.check()?;
        Ok(())
    }

    #[inline(always)]
    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        sink.put_u16(self.packet_id.value());
        self.properties.encode(version, sink);
        self.filters.encode(sink);
    }
}

encodable!(Unsubscribe<'_>);

/// Answers an UNSUBSCRIBE, in 5.0 filter by filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// The properties; none in 3.1.1.
    pub properties: Properties<'a>,
    /// One code for each filter, in order, as on the wire; none in 3.1.1.
    pub codes: &'a [u8],
}

impl<'a> Unsuback<'a> {
    /// The codes as Reason Codes.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + Clone + 'a {
        self.codes.iter().filter_map(|code| ReasonCode::new(*code))
    }

    pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = Properties::decode(&mut reader, version, Carrier::Unsuback)?;
        let codes = match version {
            Version::V311 => &[],
            Version::V5 => reader.take_rest(),
        };
        reader.finish()?;
        let unsuback = Self {
            packet_id,
            properties,
            codes,
        };
        if version == Version::V5 {
            unsuback.check_codes()?;
        }
        Ok(unsuback)
    }

    /// v5 `[MQTT-3.11.3-1]` and `[MQTT-3.11.3-2]`.
    fn check_codes(&self) -> Result<(), DecodeError> {
        for &code in self.codes {
            ReasonCode::decode(code, PacketType::Unsuback)?;
        }
        if self.codes.is_empty() {
            Err(DecodeError::NoReasonCodes)
        } else {
            Ok(())
        }
    }
}

impl Encode for Unsuback<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Unsuback.first_byte()
    }

    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Carrier::Unsuback)?;
        if version == Version::V5 {
            self.check_codes()?;
        }
        Ok(())
    }

    /// 3.1.1 has no codes; they are left out, as the subscription is gone whatever they say.
    #[inline(always)]
    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        sink.put_u16(self.packet_id.value());
        self.properties.encode(version, sink);
        if version == Version::V5 {
            sink.put(self.codes);
        }
    }
}

encodable!(Unsuback<'_>);
