//! How a packet gets its fixed header and lands in the caller's buffer.

use std::fmt;

use crate::wire::{Counter, REMAINING_LEN_MAX, Sink, Writer, varint_len};
use crate::{DecodeError, Version};

/// Why a packet was not encoded. Nothing usable was written then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// The remaining length would be above 268,435,455 bytes, v5 section 1.5.5.
    TooLarge,
    /// The caller's buffer is smaller than the packet.
    BufferTooSmall {
        /// The length that the buffer must have, in bytes.
        needed: usize,
    },
    /// The version has no way to say it: AUTH in 3.1.1, or a reason code that 3.1.1 would turn into success.
    NotInVersion(Version),
    /// A PUBLISH of QoS 0 has a packet identifier, or one of a higher QoS has none.
    PacketIdMismatch,
    /// A receiver would refuse the packet for this.
    Refused(DecodeError),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("packet longer than MQTT can express (v5 section 1.5.5)"),
            Self::BufferTooSmall { needed } => write!(f, "buffer too small: {needed} bytes are needed"),
            Self::NotInVersion(version) => write!(f, "MQTT {version} cannot express this packet"),
            Self::PacketIdMismatch => f.write_str(
                "a packet identifier belongs to a PUBLISH exactly if its QoS is above 0 \
                 (v5 [MQTT-2.2.1-2], v3.1.1 [MQTT-2.3.1-5])",
            ),
            Self::Refused(error) => write!(f, "receiver would refuse the packet: {error}"),
        }
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::TooLarge | Self::BufferTooSmall { .. } | Self::NotInVersion(_) | Self::PacketIdMismatch => {
                None
            }
        }
    }
}

impl From<DecodeError> for EncodeError {
    fn from(error: DecodeError) -> Self {
        Self::Refused(error)
    }
}

/// What a packet must know about itself to be encoded.
pub(crate) trait Encode {
    /// Type and flags.
    fn first_byte(&self) -> u8;

    /// Refuses what decoding would refuse, and what the version or the wire cannot say.
    fn check_encodable(&self, version: Version) -> Result<(), EncodeError>;

    /// Writes what follows the fixed header of a packet that was checked.
    fn encode_body(&self, version: Version, sink: &mut impl Sink);

    /// The whole packet, if it is one of the usual ones of four bytes and there is nothing to check.
    #[inline(always)]
    fn short_form(&self) -> Option<[u8; 4]> {
        None
    }

    /// So many bytes belong to the packet and are not written: its owner sends them behind it.
    #[inline(always)]
    fn tail_len(&self) -> usize {
        0
    }
}

/// The length of what [`encode`] writes, in bytes.
#[inline]
pub(crate) fn encoded_len(packet: &impl Encode, version: Version) -> Result<usize, EncodeError> {
    Measured::new(packet, version).map(|measured| measured.written_len)
}

/// Writes the packet to the start of `out` and returns its length.
#[inline(always)]
pub(crate) fn encode(packet: &impl Encode, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
    if let Some(short) = packet.short_form() {
        let out = out.first_chunk_mut();
        *out.ok_or(EncodeError::BufferTooSmall { needed: short.len() })? = short;
        return Ok(short.len());
    }
    encode_any(packet, version, out)
}

/// In whatever form. Never inlined, so that the choice between all packets is one jump.
#[inline(never)]
pub(crate) fn encode_any(
    packet: &impl Encode,
    version: Version,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let Measured {
        remaining_len,
        written_len: needed,
    } = Measured::new(packet, version)?;
    let out = out
        .get_mut(..needed)
        .ok_or(EncodeError::BufferTooSmall { needed })?;
    let mut sink = Writer::new(out);
    sink.put_u8(packet.first_byte());
    sink.put_varint(remaining_len);
    packet.encode_body(version, &mut sink);
    debug_assert!(sink.is_full(), "encoder wrote less than it had counted");
    Ok(needed)
}

struct Measured {
    /// What the fixed header says.
    remaining_len: usize,
    /// Fixed header and body, without the tail.
    written_len: usize,
}

impl Measured {
    #[inline(always)]
    fn new(packet: &impl Encode, version: Version) -> Result<Self, EncodeError> {
        packet.check_encodable(version)?;
        let mut counter = Counter::default();
        packet.encode_body(version, &mut counter);
        let remaining_len = counter.len.saturating_add(packet.tail_len());
        if remaining_len > REMAINING_LEN_MAX {
            return Err(EncodeError::TooLarge);
        }
        Ok(Self {
            remaining_len,
            written_len: 1 + varint_len(remaining_len) + counter.len,
        })
    }
}

/// The public methods of everything that can be encoded.
macro_rules! encodable {
    ($($packet:ty),+) => {
        $(impl $packet {
            /// The length of the encoded packet in bytes, fixed header included.
            ///
            /// # Errors
            ///
            /// Those of `encode`, except for a buffer that is too small.
            pub fn encoded_len(&self, version: crate::Version) -> Result<usize, crate::EncodeError> {
                crate::encode::encoded_len(self, version)
            }

            /// Writes the packet to the start of `out` and returns its length in bytes.
            ///
            /// # Errors
            ///
            /// If `out` is too small, the packet is longer than MQTT can express, the version cannot express it, or a
            /// receiver would refuse it. What `out` holds then is unspecified.
            pub fn encode(
                &self,
                version: crate::Version,
                out: &mut [u8],
            ) -> Result<usize, crate::EncodeError> {
                crate::encode::encode(self, version, out)
            }
        })+
    };
}

pub(crate) use encodable;
