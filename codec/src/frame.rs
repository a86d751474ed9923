//! Where a packet begins and ends: the fixed header, v5 section 2.1, v3.1.1 section 2.2.
//!
//! The same bytes give the same answer in whatever pieces they arrive: nothing is remembered between two calls.

use crate::{DecodeError, PacketType};

/// The shortest packet: a first byte and a remaining length of zero.
const FRAME_LEN_MIN: u8 = 2;

/// One whole packet, not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    packet_type: PacketType,
    first: u8,
    header_len: u8,
    minimal: bool,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The packet type.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        self.packet_type
    }

    /// The first byte: type and flags.
    #[must_use]
    pub const fn first_byte(&self) -> u8 {
        self.first
    }

    /// The flags of the fixed header, in the four low bits.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.first & 0x0F
    }

    /// What follows the fixed header.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The length of the whole packet in bytes, fixed header included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame has at least two bytes")]
    pub const fn len(&self) -> usize {
        self.header_len as usize + self.body.len()
    }

    /// Whether the remaining length is in its shortest form. 5.0 asks for it, `[MQTT-1.5.5-1]`; 3.1.1 does not.
    #[inline]
    pub(crate) const fn has_minimal_header(&self) -> bool {
        self.minimal
    }
}

/// What [`split`] found at the start of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole packet. The next one starts [`Frame::len`] bytes further on.
    Complete(Frame<'a>),
    /// The packet is not whole yet.
    Partial {
        /// At least so many more bytes are needed: exact as soon as the fixed header is there.
        missing: usize,
    },
}

/// What [`measure`] found at the start of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// A whole packet of so many bytes, fixed header included.
    Whole(usize),
    /// The packet is not whole yet.
    Partial {
        /// At least so many more bytes are needed: exact if `declared` is known.
        missing: usize,
        /// The length of the whole packet, as soon as its fixed header is there.
        declared: Option<usize>,
    },
}

/// Finds the first packet in the bytes.
///
/// `packet_len_max` is the longest packet that is accepted, in bytes and with its fixed header, as v5 section
/// 3.1.2.11.4 counts. It is enforced as soon as the fixed header is there.
///
/// # Errors
///
/// [`DecodeError::PacketTypeReserved`], [`DecodeError::FixedHeaderFlags`], [`DecodeError::RemainingLengthTooLong`],
/// [`DecodeError::PacketTooLarge`].
/// There is no way to find the next packet after one of them.
// Always, as a frame that is returned in memory costs more than finding it.
#[inline(always)]
pub fn split(bytes: &[u8], packet_len_max: usize) -> Result<Split<'_>, DecodeError> {
    if let Some(header) = Header::usual(bytes) {
        return header.split(packet_len_max);
    }
    match Read::header(bytes) {
        Read::Header(parts) => parts.before(bytes).split(packet_len_max),
        Read::Missing(missing) => Ok(Split::Partial {
            missing: usize::from(missing),
        }),
        Read::Wrong(error) => Err(error),
    }
}

/// Finds how long the first packet in the bytes is, without looking into it.
///
/// # Errors
///
/// As [`split`].
#[inline]
pub fn measure(bytes: &[u8], packet_len_max: usize) -> Result<Measure, DecodeError> {
    if let Some(header) = Header::usual(bytes) {
        return header.measure(packet_len_max);
    }
    match Read::header(bytes) {
        Read::Header(parts) => parts.before(bytes).measure(packet_len_max),
        Read::Missing(missing) => Ok(Measure::Partial {
            missing: usize::from(missing),
            declared: None,
        }),
        Read::Wrong(error) => Err(error),
    }
}

/// A fixed header that is there and allowed.
#[derive(Clone, Copy)]
struct Header<'a> {
    packet_type: PacketType,
    first: u8,
    /// Its own length: 2 to 5 bytes.
    len: u8,
    /// Whether it could not be shorter.
    minimal: bool,
    remaining_len: usize,
    /// What follows it: the body, as far as it is there, and more.
    behind: &'a [u8],
}

impl<'a> Header<'a> {
    /// One that is there, sound, and of a packet shorter than 2 MiB, as nearly every one is; `None` if it is not that,
    /// for whatever reason: then [`Read::header`] knows.
    #[inline(always)]
    fn usual(bytes: &'a [u8]) -> Option<Self> {
        let (first, len, remaining_len, minimal, behind) = match bytes {
            [first, one @ ..0x80, behind @ ..] => (*first, 2, usize::from(*one), true, behind),
            [first, low, high @ ..0x80, behind @ ..] => {
                let remaining_len = usize::from(*low & 0x7F) | usize::from(*high) << 7;
                (*first, 3, remaining_len, *high != 0, behind)
            }
            [first, low, middle, high @ ..0x80, behind @ ..] => {
                let remaining_len =
                    usize::from(*low & 0x7F) | usize::from(*middle & 0x7F) << 7 | usize::from(*high) << 14;
                (*first, 4, remaining_len, *high != 0, behind)
            }
            _ => return None,
        };
        Some(Self {
            packet_type: PacketType::from_sound_first_byte(first)?,
            first,
            len,
            minimal,
            remaining_len,
            behind,
        })
    }

    /// The length of the whole packet.
    #[inline(always)]
    const fn packet_len(&self, packet_len_max: usize) -> Result<usize, DecodeError> {
        let len = self.len as usize + self.remaining_len;
        if len > packet_len_max {
            return Err(DecodeError::PacketTooLarge);
        }
        Ok(len)
    }

    #[inline(always)]
    fn split(self, packet_len_max: usize) -> Result<Split<'a>, DecodeError> {
        self.packet_len(packet_len_max)?;
        let Some(body) = self.behind.get(..self.remaining_len) else {
            return Ok(Split::Partial {
                missing: self.remaining_len - self.behind.len(),
            });
        };
        Ok(Split::Complete(Frame {
            packet_type: self.packet_type,
            first: self.first,
            header_len: self.len,
            minimal: self.minimal,
            body,
        }))
    }

    #[inline(always)]
    fn measure(self, packet_len_max: usize) -> Result<Measure, DecodeError> {
        let len = self.packet_len(packet_len_max)?;
        Ok(match self.remaining_len.checked_sub(self.behind.len()) {
            None | Some(0) => Measure::Whole(len),
            Some(missing) => Measure::Partial {
                missing,
                declared: Some(len),
            },
        })
    }
}

/// What reading a fixed header that need not be [usual](Header::usual) comes to.
///
/// It fits into a register, so that no part of a frame goes through memory: what is written there in pieces and read in
/// one takes longer than finding the frame.
enum Read {
    Header(Parts),
    /// At least so many more bytes are needed.
    Missing(u8),
    Wrong(DecodeError),
}

const _: () = assert!(size_of::<Read>() == 8);

/// A [`Header`] without the bytes behind it.
struct Parts {
    remaining_len: u32,
    first: u8,
    packet_type: PacketType,
    len: u8,
    minimal: bool,
}

impl Read {
    /// Reads one that may be long, wrong, or not there yet.
    #[cold]
    #[inline(never)]
    fn header(bytes: &[u8]) -> Self {
        let Some((&first, rest)) = bytes.split_first() else {
            return Self::Missing(FRAME_LEN_MIN);
        };
        // Checked at the first byte, so that another protocol is known at once and not awaited to the length that its
        // text seems to declare.
        let Some(packet_type) = PacketType::from_sound_first_byte(first) else {
            return Self::Wrong(unsound(first));
        };
        let mut remaining_len = 0;
        for (index, &byte) in rest.iter().take(4).enumerate() {
            remaining_len |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Self::Header(Parts {
                    remaining_len,
                    first,
                    packet_type,
                    len: index as u8 + 2,
                    // Only a last byte of zero adds nothing.
                    minimal: byte != 0 || index == 0,
                });
            }
        }
        if rest.len() < 4 {
            Self::Missing(1)
        } else {
            Self::Wrong(DecodeError::RemainingLengthTooLong)
        }
    }
}

impl Parts {
    /// The header that begins these bytes.
    #[inline(always)]
    fn before(self, bytes: &[u8]) -> Header<'_> {
        Header {
            packet_type: self.packet_type,
            first: self.first,
            len: self.len,
            minimal: self.minimal,
            // 28 bits.
            remaining_len: self.remaining_len as usize,
            behind: bytes.get(usize::from(self.len)..).unwrap_or_default(),
        }
    }
}

/// What is wrong with a first byte that begins no packet: v5 `[MQTT-2.1.3-1]`, v3.1.1 `[MQTT-2.2.2-2]`.
#[cold]
const fn unsound(first: u8) -> DecodeError {
    match PacketType::from_first_byte(first) {
        None => DecodeError::PacketTypeReserved,
        Some(_) => DecodeError::FixedHeaderFlags,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partial(missing: usize, declared: Option<usize>) -> Result<Measure, DecodeError> {
        Ok(Measure::Partial { missing, declared })
    }

    #[test]
    fn shortest_packet() {
        let Ok(Split::Complete(frame)) = split(&[0xC0, 0x00, 0xFF], 2) else {
            panic!("not complete")
        };
        assert_eq!(frame.packet_type(), PacketType::Pingreq);
        assert_eq!(frame.len(), 2);
        assert!(frame.body().is_empty());
        assert_eq!(measure(&[0xC0, 0x00, 0xFF], 2), Ok(Measure::Whole(2)));
    }

    #[test]
    fn missing_bytes() {
        assert_eq!(measure(&[], 100), partial(2, None));
        assert_eq!(measure(&[0x30], 100), partial(1, None));
        assert_eq!(measure(&[0x30, 0x80], 1000), partial(1, None));
        assert_eq!(measure(&[0x30, 0x80, 0x01], 1000), partial(128, Some(131)));
        assert_eq!(measure(&[0x30, 0x03, 0, 1], 100), partial(1, Some(5)));
        assert_eq!(split(&[0x30, 0x03, 0, 1], 100), Ok(Split::Partial { missing: 1 }));
    }

    #[test]
    fn refused_from_the_fixed_header_alone() {
        assert_eq!(
            measure(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_459),
            Err(DecodeError::PacketTooLarge)
        );
        assert_eq!(
            measure(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_460),
            partial(268_435_455, Some(268_435_460))
        );
        assert_eq!(split(&[0x30, 0x03], 4), Err(DecodeError::PacketTooLarge));
        assert_eq!(split(&[0x30, 0x03], 5), Ok(Split::Partial { missing: 3 }));
        assert_eq!(measure(&[0x30, 0x80, 0x80, 0x80], 100), partial(1, None));
        assert_eq!(
            measure(&[0x30, 0x80, 0x80, 0x80, 0x80], 100),
            Err(DecodeError::RemainingLengthTooLong)
        );
        assert_eq!(split(&[0x0F], 100), Err(DecodeError::PacketTypeReserved));
    }

    proptest! {
        #[test]
        fn the_two_agree_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), max in 0_usize..400) {
            match (split(&bytes, max), measure(&bytes, max)) {
                (Ok(Split::Complete(frame)), Ok(Measure::Whole(len))) => {
                    prop_assert_eq!(frame.len(), len);
                    prop_assert!(len <= bytes.len() && len <= max);
                }
                (Ok(Split::Partial { missing }), Ok(Measure::Partial { missing: same, .. })) => {
                    prop_assert_eq!(missing, same);
                    prop_assert!(missing > 0);
                }
                (one, other) => prop_assert_eq!(one.err(), other.err()),
            }
        }
    }
}
