//! PUBLISH, v5 section 3.3, v3.1.1 section 3.3.

use crate::encode::{self, Encode, encodable};
use crate::wire::{Reader, Sink};
use crate::{
    Carrier, DecodeError, EncodeError, Frame, Packet, PacketId, PacketType, Properties, QoS, TopicName,
    Version,
};

/// An application message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether the packet may have been sent before; never with QoS 0.
    pub dup: bool,
    /// The quality of service.
    pub qos: QoS,
    /// To the server: keep the message for later subscribers. From the server: it was kept.
    pub retain: bool,
    /// The topic; [`TopicName::ALIASED`] if the Topic Alias among the properties stands for it.
    pub topic: TopicName<'a>,
    /// The packet identifier; there exactly if the QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// The properties; none in 3.1.1. A server forwards them unaltered by encoding what it decoded.
    pub properties: Properties<'a>,
    /// The application's bytes.
    pub payload: &'a [u8],
}

const RETAIN: u8 = 0b0001;
const QOS: u8 = 0b0110;
const QOS_SHIFT: u32 = 1;
const DUP: u8 = 0b1000;

impl<'a> Publish<'a> {
    /// A message with QoS 0, not retained and without properties.
    #[must_use]
    pub const fn new(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: Properties::EMPTY,
            payload,
        }
    }

    /// Decodes the usual form of a PUBLISH, one with a topic in ASCII and without properties; `None` if the frame is
    /// anything else, faults included: then [`Packet::decode`] says what.
    ///
    /// Whoever receives little but messages saves with it what it costs to find out which packet it is, and to move it
    /// twice. Where it answers a PUBLISH, [`Packet::decode`] answers the same.
    #[inline(always)]
    #[must_use]
    pub fn decode_usual(frame: &Frame<'a>, version: Version) -> Option<Self> {
        if frame.packet_type() != PacketType::Publish || !frame.has_minimal_header() {
            return None;
        }
        let (flags, body) = (frame.flags(), frame.body());
        if version == Version::V5 {
            // One with properties has its topic looked at elsewhere.
            let (topic_len, behind) = body.split_first_chunk()?;
            let packet_id_len = if flags & QOS == 0 { 0 } else { 2 };
            if behind.get(usize::from(u16::from_be_bytes(*topic_len)) + packet_id_len) != Some(&0) {
                return None;
            }
        }
        let (topic, behind) = TopicName::split_plain_or_aliased(body)?;
        Self::usual_behind_topic(flags, topic, behind, version)
    }

    /// Decodes it as the packet that it is. The caller has looked at the form of the remaining length.
    ///
    /// The usual form, without properties and with a topic in ASCII, is decoded where this is called, and everything
    /// else by functions that take their arguments in registers.
    #[inline(always)]
    pub(crate) fn decode(frame: Frame<'a>, version: Version) -> Result<Packet<'a>, DecodeError> {
        let Some((topic, behind)) = TopicName::split_plain_or_aliased(frame.body()) else {
            return Self::decode_any(frame.flags(), frame.body(), version);
        };
        match Self::usual_behind_topic(frame.flags(), topic, behind, version) {
            Some(publish) => Ok(Packet::Publish(publish)),
            None => Self::decode_behind_topic(frame.flags(), topic, behind, version),
        }
    }

    /// Decodes one that has a topic and no properties; `None` if it is not that, for whatever reason: then
    /// [`Publish::decode_behind_topic`] knows.
    #[inline(always)]
    fn usual_behind_topic(
        flags: u8,
        topic: TopicName<'a>,
        behind: &'a [u8],
        version: Version,
    ) -> Option<Self> {
        if topic.is_empty() {
            return None;
        }
        let (mut qos, mut packet_id, mut rest) = (QoS::AtMostOnce, None, behind);
        if flags & QOS != 0 {
            let (id, behind) = rest.split_first_chunk()?;
            qos = QoS::from_bits(flags >> QOS_SHIFT).ok()?;
            packet_id = Some(PacketId::new(u16::from_be_bytes(*id))?);
            rest = behind;
        } else if flags & DUP != 0 {
            return None;
        }
        if version == Version::V5 {
            let [0, payload @ ..] = rest else { return None };
            rest = payload;
        }
        Some(Self {
            dup: flags & DUP != 0,
            qos,
            retain: flags & RETAIN != 0,
            topic,
            packet_id,
            properties: Properties::EMPTY,
            payload: rest,
        })
    }

    /// Decodes whatever is behind a topic that is sound.
    #[inline(never)]
    fn decode_behind_topic(
        flags: u8,
        topic: TopicName<'a>,
        behind: &'a [u8],
        version: Version,
    ) -> Result<Packet<'a>, DecodeError> {
        let (qos, dup) = decode_flags(flags)?;
        let mut reader = Reader::new(behind);
        let packet_id = if qos == QoS::AtMostOnce {
            None
        } else {
            Some(reader.packet_id()?)
        };
        let properties = Properties::decode(&mut reader, version, Carrier::Publish)?;
        check_topic(topic, properties)?;
        Ok(Packet::Publish(Self {
            dup,
            qos,
            retain: flags & RETAIN != 0,
            topic,
            packet_id,
            properties,
            payload: reader.take_rest(),
        }))
    }

    /// Decodes it in whatever form.
    #[inline(never)]
    pub(crate) fn decode_any(flags: u8, body: &'a [u8], version: Version) -> Result<Packet<'a>, DecodeError> {
        decode_flags(flags)?;
        let mut reader = Reader::new(body);
        let topic = TopicName::decode_or_aliased(&mut reader)?;
        Self::decode_behind_topic(flags, topic, reader.take_rest(), version)
    }

    /// The length of what [`Publish::encode_header`] writes, in bytes.
    ///
    /// # Errors
    ///
    /// As [`Publish::encode_header`], except for a buffer that is too small.
    pub fn header_len(&self, version: Version) -> Result<usize, EncodeError> {
        encode::encoded_len(&Header(self), version)
    }

    /// Writes everything before the payload to the start of `out` and returns its length in bytes. The fixed header
    /// counts the payload, whose bytes must follow.
    ///
    /// # Errors
    ///
    /// As [`Publish::encode`]; `out` need not have room for the payload.
    pub fn encode_header(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        encode::encode(&Header(self), version, out)
    }

    fn first_byte(&self) -> u8 {
        PacketType::Publish.first_byte()
            | if self.dup { DUP } else { 0 }
            | self.qos.bits() << QOS_SHIFT
            | if self.retain { RETAIN } else { 0 }
    }
}

/// The QoS, and whether the packet may have been sent before.
#[inline]
const fn decode_flags(flags: u8) -> Result<(QoS, bool), DecodeError> {
    let dup = flags & DUP != 0;
    match QoS::from_bits(flags >> QOS_SHIFT) {
        Ok(QoS::AtMostOnce) if dup => Err(DecodeError::DupOnQoS0),
        Ok(qos) => Ok((qos, dup)),
        Err(error) => Err(error),
    }
}

/// A topic, or in 5.0 an alias for it, v5 section 3.3.2.1, v3.1.1 `[MQTT-4.7.3-1]`.
#[inline]
fn check_topic(topic: TopicName<'_>, properties: Properties<'_>) -> Result<(), DecodeError> {
    if topic.is_empty() && !properties.has_topic_alias() {
        return Err(DecodeError::TopicNameMissing);
    }
    Ok(())
}

impl Publish<'_> {
    #[inline(always)]
    fn check(&self, version: Version) -> Result<(), EncodeError> {
        match version {
            Version::V5 => {
                check_topic(self.topic, self.properties)?;
                self.properties.check(version, Carrier::Publish)?;
            }
            // The properties, and with them the alias, are left out.
            Version::V311 => check_topic(self.topic, Properties::EMPTY)?,
        }
        match (self.qos, self.packet_id) {
            // [MQTT-3.3.1-2] of both versions.
            (QoS::AtMostOnce, None) if self.dup => Err(DecodeError::DupOnQoS0.into()),
            (QoS::AtMostOnce, None) | (QoS::AtLeastOnce | QoS::ExactlyOnce, Some(_)) => Ok(()),
            // v5 [MQTT-2.2.1-2] and -3, v3.1.1 [MQTT-2.3.1-1] and -5.
            (QoS::AtMostOnce, Some(_)) | (_, None) => Err(EncodeError::PacketIdMismatch),
        }
    }

    #[inline(always)]
    fn write_header(&self, version: Version, sink: &mut impl Sink) {
        sink.put_field(self.topic.as_bytes());
        if let Some(packet_id) = self.packet_id {
            sink.put_u16(packet_id.value());
        }
        self.properties.encode(version, sink);
    }
}

impl Encode for Publish<'_> {
    #[inline(always)]
    fn first_byte(&self) -> u8 {
        self.first_byte()
    }

    #[inline(always)]
    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.check(version)
    }

    #[inline(always)]
    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        self.write_header(version, sink);
        sink.put(self.payload);
    }
}

encodable!(Publish<'_>);

/// A PUBLISH whose payload is sent by its owner.
struct Header<'p, 'a>(&'p Publish<'a>);

impl Encode for Header<'_, '_> {
    #[inline(always)]
    fn first_byte(&self) -> u8 {
        self.0.first_byte()
    }

    #[inline(always)]
    fn check_encodable(&self, version: Version) -> Result<(), EncodeError> {
        self.0.check(version)
    }

    #[inline(always)]
    fn encode_body(&self, version: Version, sink: &mut impl Sink) {
        self.0.write_header(version, sink);
    }

    #[inline(always)]
    fn tail_len(&self) -> usize {
        self.0.payload.len()
    }
}

#[cfg(test)]
mod tests;
