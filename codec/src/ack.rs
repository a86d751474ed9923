//! PUBACK, PUBREC, PUBREL, PUBCOMP: v5 sections 3.4 to 3.7, v3.1.1 sections 3.4 to 3.7.

use crate::encode::{Encode, encodable};
use crate::wire::{Reader, Sink};
use crate::{Carrier, DecodeError, EncodeError, PacketId, PacketType, Properties, ReasonCode, Version};

/// The four packets have one form and differ in what their reason code may say.
macro_rules! acks {
    ($($ack:ident $doc:literal;)+) => {
        $(
            #[doc = $doc]
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $ack<'a> {
                /// The packet identifier of the PUBLISH.
                pub packet_id: PacketId,
                /// What became of it; always [`ReasonCode::Success`] in 3.1.1.
                pub reason: ReasonCode,
                /// The properties; none in 3.1.1.
                pub properties: Properties<'a>,
            }

            impl<'a> $ack<'a> {
                /// Says that all is well.
                #[must_use]
                pub const fn new(packet_id: PacketId) -> Self {
                    Self::with_reason(packet_id, ReasonCode::Success)
                }

                /// Says what became of it.
                #[must_use]
                pub const fn with_reason(packet_id: PacketId, reason: ReasonCode) -> Self {
                    Self { packet_id, reason, properties: Properties::EMPTY }
                }

                pub(crate) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
                    let packet_id = reader.packet_id()?;
                    let (reason, properties) =
                        decode_outcome(reader, version, PacketType::$ack, Carrier::$ack)?;
                    Ok(Self { packet_id, reason, properties })
                }
            }

            impl Encode for $ack<'_> {
                #[inline]
                fn first_byte(&self) -> u8 {
                    PacketType::$ack.first_byte()
                }

                /// Without reason code and properties.
                #[inline(always)]
                fn short_form(&self) -> Option<[u8; 4]> {
                    let [high, low] = self.packet_id.value().to_be_bytes();
                    (self.reason == ReasonCode::Success && self.properties.is_empty())
                        .then_some([self.first_byte(), 2, high, low])
                }

                #[inline(always)]
                fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
                    // Every acknowledgement may say this, and most do.
                    if self.reason != ReasonCode::Success {
                        self.reason.check(PacketType::$ack)?;
                        if version == Version::V311 && self.reason.is_error() {
                            return Err(EncodeError::NotInVersion(version));
                        }
                    }
                    self.properties.check(version, Carrier::$ack)?;
                    Ok(())
                }

                #[inline(always)]
                fn encode_body(&self, version: Version, sink: &mut impl Sink) {
                    sink.put_u16(self.packet_id.value());
                    encode_outcome(self.reason, self.properties, version, sink);
                }
            }

            encodable!($ack<'_>);
        )+
    };
}

acks! {
    Puback "Acknowledges a PUBLISH of QoS 1.";
    Pubrec "Confirms that a PUBLISH of QoS 2 was received.";
    Pubrel "Releases a PUBLISH of QoS 2.";
    Pubcomp "Completes a PUBLISH of QoS 2.";
}

/// Reads the reason code and the properties at the end of a packet, each of which may be left out.
#[inline]
pub(crate) fn decode_outcome<'a>(
    mut reader: Reader<'a>,
    version: Version,
    packet: PacketType,
    carrier: Carrier,
) -> Result<(ReasonCode, Properties<'a>), DecodeError> {
    let mut reason = ReasonCode::Success;
    let mut properties = Properties::EMPTY;
    if version == Version::V5 && !reader.is_empty() {
        reason = ReasonCode::decode(reader.u8()?, packet)?;
        if !reader.is_empty() {
            properties = Properties::decode(&mut reader, version, carrier)?;
        }
    }
    reader.finish()?;
    Ok((reason, properties))
}

/// Writes them in the shortest form: the properties are left out if there are none, and then the reason code too if
/// it is 0x00, v5 sections 3.4.2.1 and 3.14.2.1.
#[inline(always)]
pub(crate) fn encode_outcome(
    reason: ReasonCode,
    properties: Properties<'_>,
    version: Version,
    sink: &mut impl Sink,
) {
    if version == Version::V5 && !(reason == ReasonCode::Success && properties.is_empty()) {
        sink.put_u8(reason.value());
        if !properties.is_empty() {
            properties.encode(version, sink);
        }
    }
}

#[cfg(test)]
mod tests;
