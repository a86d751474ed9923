//! All packets as one type: from a frame, and back into bytes.

use crate::encode::{Encode, encodable};
use crate::wire::{Reader, Sink};
use crate::{
    Auth, Connack, Connect, DecodeError, Disconnect, EncodeError, Frame, PacketType, Puback, Pubcomp,
    Publish, Pubrec, Pubrel, Suback, Subscribe, Unsuback, Unsubscribe, Version,
};

/// A packet, borrowed from the frame that it was decoded from.
///
/// Everything that a single packet can get wrong has been checked; nothing that it lends fails later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each holds the packet of that name")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Puback<'a>),
    Pubrec(Pubrec<'a>),
    Pubrel(Pubrel<'a>),
    Pubcomp(Pubcomp<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    /// Only in 5.0.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes and checks a whole frame. CONNECT says its own version; for it the argument does not count.
    ///
    /// # Errors
    ///
    /// If the frame violates a rule of its version that a single packet can violate.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let packet_type = frame.packet_type();
        // v5 [MQTT-2.1.3-1], v3.1.1 [MQTT-2.2.2-2]. The flags of PUBLISH have a meaning.
        if packet_type != PacketType::Publish && frame.first_byte() != packet_type.first_byte() {
            return Err(DecodeError::FixedHeaderFlags);
        }
        if version == Version::V5 && packet_type != PacketType::Connect {
            frame.check_header_minimal()?;
        }
        let reader = Reader::new(frame.body());
        Ok(match packet_type {
            PacketType::Connect => Self::Connect(Connect::decode(frame)?),
            PacketType::Connack => Self::Connack(Connack::decode(reader, version)?),
            PacketType::Publish => Self::Publish(Publish::decode(frame, version)?),
            PacketType::Puback => Self::Puback(Puback::decode(reader, version)?),
            PacketType::Pubrec => Self::Pubrec(Pubrec::decode(reader, version)?),
            PacketType::Pubrel => Self::Pubrel(Pubrel::decode(reader, version)?),
            PacketType::Pubcomp => Self::Pubcomp(Pubcomp::decode(reader, version)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(reader, version)?),
            PacketType::Suback => Self::Suback(Suback::decode(reader, version)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(reader, version)?),
            PacketType::Unsuback => Self::Unsuback(Unsuback::decode(reader, version)?),
            PacketType::Pingreq => reader.finish().map(|()| Self::Pingreq)?,
            PacketType::Pingresp => reader.finish().map(|()| Self::Pingresp)?,
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(reader, version)?),
            PacketType::Auth => Self::Auth(Auth::decode(reader, version)?),
        })
    }

    /// Which packet it is.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

impl Encode for Packet<'_> {
    fn first_byte(&self) -> u8 {
        match self {
            Self::Publish(publish) => Encode::first_byte(publish),
            packet => packet.packet_type().first_byte(),
        }
    }

    fn encode_body(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        match self {
            Self::Connect(packet) => packet.encode_body(version, sink),
            Self::Connack(packet) => packet.encode_body(version, sink),
            Self::Publish(packet) => packet.encode_body(version, sink),
            Self::Puback(packet) => packet.encode_body(version, sink),
            Self::Pubrec(packet) => packet.encode_body(version, sink),
            Self::Pubrel(packet) => packet.encode_body(version, sink),
            Self::Pubcomp(packet) => packet.encode_body(version, sink),
            Self::Subscribe(packet) => packet.encode_body(version, sink),
            Self::Suback(packet) => packet.encode_body(version, sink),
            Self::Unsubscribe(packet) => packet.encode_body(version, sink),
            Self::Unsuback(packet) => packet.encode_body(version, sink),
            Self::Pingreq | Self::Pingresp => Ok(()),
            Self::Disconnect(packet) => packet.encode_body(version, sink),
            Self::Auth(packet) => packet.encode_body(version, sink),
        }
    }
}

encodable!(Packet<'_>);

macro_rules! from_views {
    ($($view:ident)+) => {
        $(impl<'a> From<$view<'a>> for Packet<'a> {
            fn from(packet: $view<'a>) -> Self {
                Self::$view(packet)
            }
        })+
    };
}

from_views! {
    Connect Connack Publish Puback Pubrec Pubrel Pubcomp Subscribe Suback Unsubscribe Unsuback Disconnect Auth
}

#[cfg(test)]
mod tests;
