//! All packets as one type: from a frame, and back into bytes.

use crate::encode::{self, Encode};
use crate::wire::{Reader, Sink};
use crate::{
    Auth, Connack, Connect, DecodeError, Disconnect, EncodeError, Frame, PacketId, PacketType, Puback,
    Pubcomp, Publish, Pubrec, Pubrel, Suback, Subscribe, Unsuback, Unsubscribe, Version,
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
    #[inline(always)]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let is_minimal = frame.has_minimal_header();
        // What a busy connection is made of has its usual forms decoded here. Of acknowledgements it is that without
        // reason code and properties, the only one of 3.1.1.
        if frame.packet_type() == PacketType::Publish && is_minimal {
            return Publish::decode(frame, version);
        }
        match (frame.packet_type(), frame.body()) {
            (PacketType::Puback, &[high, low]) if is_minimal && let Some(id) = packet_id(high, low) => {
                Ok(Self::Puback(Puback::new(id)))
            }
            (PacketType::Pubrec, &[high, low]) if is_minimal && let Some(id) = packet_id(high, low) => {
                Ok(Self::Pubrec(Pubrec::new(id)))
            }
            (PacketType::Pubrel, &[high, low]) if is_minimal && let Some(id) = packet_id(high, low) => {
                Ok(Self::Pubrel(Pubrel::new(id)))
            }
            (PacketType::Pubcomp, &[high, low]) if is_minimal && let Some(id) = packet_id(high, low) => {
                Ok(Self::Pubcomp(Pubcomp::new(id)))
            }
            (PacketType::Pingreq, []) if is_minimal => Ok(Self::Pingreq),
            (PacketType::Pingresp, []) if is_minimal => Ok(Self::Pingresp),
            (PacketType::Connect, body) => Connect::decode(body, is_minimal),
            _ => Self::decode_any(frame, version),
        }
    }

    /// Decodes in whatever form.
    #[inline(never)]
    fn decode_any(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let packet_type = frame.packet_type();
        // v5 [MQTT-1.5.5-1].
        if version == Version::V5 && packet_type != PacketType::Connect && !frame.has_minimal_header() {
            return Err(DecodeError::VariableByteIntegerNotMinimal);
        }
        let reader = Reader::new(frame.body());
        match packet_type {
            PacketType::Connect => Connect::decode(frame.body(), frame.has_minimal_header()),
            PacketType::Connack => Connack::decode(reader, version).map(Self::Connack),
            PacketType::Publish => Publish::decode_any(frame.flags(), frame.body(), version),
            PacketType::Puback => Puback::decode(reader, version).map(Self::Puback),
            PacketType::Pubrec => Pubrec::decode(reader, version).map(Self::Pubrec),
            PacketType::Pubrel => Pubrel::decode(reader, version).map(Self::Pubrel),
            PacketType::Pubcomp => Pubcomp::decode(reader, version).map(Self::Pubcomp),
            PacketType::Subscribe => Subscribe::decode(reader, version).map(Self::Subscribe),
            PacketType::Suback => Suback::decode(reader, version).map(Self::Suback),
            PacketType::Unsubscribe => Unsubscribe::decode(reader, version).map(Self::Unsubscribe),
            PacketType::Unsuback => Unsuback::decode(reader, version).map(Self::Unsuback),
            PacketType::Pingreq => reader.finish().map(|()| Self::Pingreq),
            PacketType::Pingresp => reader.finish().map(|()| Self::Pingresp),
            PacketType::Disconnect => Disconnect::decode(reader, version).map(Self::Disconnect),
            PacketType::Auth => Auth::decode(reader, version).map(Self::Auth),
        }
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

const fn packet_id(high: u8, low: u8) -> Option<PacketId> {
    PacketId::new(u16::from_be_bytes([high, low]))
}

/// Does the same with whichever view a packet holds.
macro_rules! with_view {
    ($packet:expr, $view:ident => $action:expr) => {
        match $packet {
            Packet::Connect($view) => $action,
            Packet::Connack($view) => $action,
            Packet::Publish($view) => $action,
            Packet::Puback($view) => $action,
            Packet::Pubrec($view) => $action,
            Packet::Pubrel($view) => $action,
            Packet::Pubcomp($view) => $action,
            Packet::Subscribe($view) => $action,
            Packet::Suback($view) => $action,
            Packet::Unsubscribe($view) => $action,
            Packet::Unsuback($view) => $action,
            Packet::Pingreq => {
                let $view = &Ping(PacketType::Pingreq);
                $action
            }
            Packet::Pingresp => {
                let $view = &Ping(PacketType::Pingresp);
                $action
            }
            Packet::Disconnect($view) => $action,
            Packet::Auth($view) => $action,
        }
    };
}

impl Packet<'_> {
    /// The length of the encoded packet in bytes, fixed header included.
    ///
    /// # Errors
    ///
    /// Those of [`Packet::encode`], except for a buffer that is too small.
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        with_view!(self, view => encode::encoded_len(view, version))
    }

    /// Writes the packet to the start of `out` and returns its length in bytes. CONNECT says its own version; for it
    /// the argument does not count.
    ///
    /// # Errors
    ///
    /// If `out` is too small, the packet is longer than MQTT can express, the version cannot express it, or a
    /// receiver would refuse it. What `out` holds then is unspecified.
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        with_view!(self, view => encode::encode(view, version, out))
    }
}

/// PINGREQ and PINGRESP, which say nothing but their type.
struct Ping(PacketType);

impl Encode for Ping {
    fn first_byte(&self) -> u8 {
        self.0.first_byte()
    }

    #[inline(always)]
    fn check_encodable(&self, _: Version) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline(always)]
    fn encode_body(&self, _: Version, _: &mut impl Sink) {}
}

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
