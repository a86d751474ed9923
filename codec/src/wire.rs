//! The data types of the wire, v5 section 1.5: read from a slice, written to a sink.

use crate::{DecodeError, PacketId, text};

/// The largest value of a variable byte integer, and so the longest remaining length: 128^4 - 1,
/// v5 section 1.5.5.
pub const REMAINING_LEN_MAX: usize = 268_435_455;

/// The bytes of a packet that are not read yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub(crate) const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Passes over a byte of zero, if that is what comes next.
    #[inline(always)]
    pub(crate) const fn skip_zero(&mut self) -> bool {
        match *self.rest {
            [0, ref rest @ ..] => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Everything that is left, without taking it.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A packet identifier, v5 `[MQTT-2.2.1-3]`, v3.1.1 `[MQTT-2.3.1-1]`.
    #[inline(always)]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// A variable byte integer in its shortest form, v5 `[MQTT-1.5.5-1]`.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        match *self.rest {
            [value @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u32::from(value))
            }
            _ => {
                let (value, rest) = long_varint(self.rest)?;
                self.rest = rest;
                Ok(value)
            }
        }
    }

    /// Binary data behind its two-byte length.
    #[inline(always)]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// A string behind its two-byte length.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.u16()?;
        let (text, rest) = text::split_string(self.rest, usize::from(len))?;
        self.rest = rest;
        Ok(text)
    }

    /// A topic name or filter, and whether it holds a wildcard.
    #[inline(always)]
    pub(crate) fn topic(&mut self) -> Result<(&'a str, bool), DecodeError> {
        let len = self.u16()?;
        let (text, has_wildcard, rest) = text::split_topic(self.rest, usize::from(len))?;
        self.rest = rest;
        Ok((text, has_wildcard))
    }

    /// Everything must have been read.
    #[inline(always)]
    pub(crate) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

/// A variable byte integer of any length, and what is behind it. It takes no [`Reader`], which can stay in registers so.
#[inline(never)]
fn long_varint(bytes: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let mut value = 0;
    let mut reader = Reader::new(bytes);
    for index in 0..4 {
        let byte = reader.u8()?;
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // Only a last byte of zero adds nothing.
            if byte == 0 && index > 0 {
                return Err(DecodeError::VariableByteIntegerNotMinimal);
            }
            return Ok((value, reader.rest));
        }
    }
    Err(DecodeError::VariableByteIntegerTooLong)
}

/// A field behind its two-byte length, and what is behind it; `None` if it reaches past the end.
#[inline(always)]
pub(crate) fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// The same for a string that is [plain](text::split_plain), as a topic if `TOPIC`.
#[inline(always)]
pub(crate) fn split_plain<const TOPIC: bool>(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    text::split_plain::<TOPIC>(rest, usize::from(u16::from_be_bytes(*len)))
}

/// Where an encoder puts bytes. The same encoder runs against [`Counter`] for the length.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    #[inline(always)]
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline(always)]
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline(always)]
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    #[inline(always)]
    fn put_varint(&mut self, value: usize) {
        let mut rest = value;
        while rest > 0x7F {
            self.put_u8(low_seven_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.put_u8(low_seven_bits(rest));
    }

    /// Bytes behind their two-byte length. The caller has [checked](check_field_len) that two bytes can say it.
    #[inline(always)]
    fn put_field(&mut self, bytes: &[u8]) {
        debug_assert!(check_field_len(bytes).is_ok());
        self.put_u16(bytes.len() as u16);
        self.put(bytes);
    }
}

/// Whether two bytes can say how long the field is.
#[inline]
pub(crate) const fn check_field_len(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.len() > u16::MAX as usize {
        Err(DecodeError::FieldTooLong)
    } else {
        Ok(())
    }
}

/// Whether a string that is not of a checked type may be sent: it must not hold U+0000 nor be too long.
#[inline]
pub(crate) fn check_string(text: &str) -> Result<(), DecodeError> {
    check_field_len(text.as_bytes())?;
    text::check(text.as_bytes()).map(|_| ())
}

const fn low_seven_bits(value: usize) -> u8 {
    (value & 0x7F) as u8
}

/// How many bytes a variable byte integer takes.
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Counts what an encoder would write.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) len: usize,
}

impl Sink for Counter {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
    }

    #[inline(always)]
    fn put_varint(&mut self, value: usize) {
        self.len += varint_len(value);
    }
}

/// Writes into a slice that was measured before.
pub(crate) struct Writer<'o> {
    rest: &'o mut [u8],
}

impl<'o> Writer<'o> {
    pub(crate) const fn new(out: &'o mut [u8]) -> Self {
        Self { rest: out }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'o> Writer<'o> {
    /// The next so many bytes.
    #[inline(always)]
    fn next(&mut self, len: usize) -> Option<&'o mut [u8]> {
        // The same code has counted these bytes before, so they fit. If that were ever wrong, nothing is written
        // past the end, and the assertion in `encode` says so.
        let split = std::mem::take(&mut self.rest).split_at_mut_checked(len);
        debug_assert!(split.is_some(), "encoder wrote more than it had counted");
        let (next, rest) = split?;
        self.rest = rest;
        Some(next)
    }
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(next) = self.next(bytes.len()) {
            // Small payloads; names are shorter mostly.
            if !matches!(bytes.len(), 33..=64) || copy_ends::<32>(next, bytes).is_none() {
                copy(next, bytes);
            }
        }
    }

    #[inline(always)]
    fn put_field(&mut self, bytes: &[u8]) {
        debug_assert!(check_field_len(bytes).is_ok());
        let next = self.next(2 + bytes.len());
        if let Some((len, next)) = next.and_then(<[u8]>::split_first_chunk_mut) {
            *len = (bytes.len() as u16).to_be_bytes();
            copy(next, bytes);
        }
    }
}

/// Copies between slices of the same length. For what most topics and names are as long as, two blocks that may overlap
/// cost less than a call.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    let copied = match from.len() {
        16..=32 => copy_ends::<16>(to, from),
        8..16 => copy_ends::<8>(to, from),
        4..8 => copy_ends::<4>(to, from),
        _ => None,
    };
    if copied.is_none() {
        to.copy_from_slice(from);
    }
}

/// Copies the first and the last `N` bytes.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> Option<()> {
    *to.first_chunk_mut::<N>()? = *from.first_chunk()?;
    *to.last_chunk_mut::<N>()? = *from.last_chunk()?;
    Some(())
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varint_forms() {
        // v5 table 1-1: the smallest and the largest value of each length.
        let cases: [(u32, &[u8]); 8] = [
            (0, &[0x00]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, bytes) in cases {
            let mut written = Vec::new();
            written.put_varint(value as usize);
            assert_eq!(written, bytes);
            assert_eq!(varint_len(value as usize), bytes.len());
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
    }

    // v5 [MQTT-1.5.5-1]
    #[test]
    fn varint_must_be_minimal_and_end() {
        let cases: [(&[u8], DecodeError); 5] = [
            (&[0x80, 0x00], DecodeError::VariableByteIntegerNotMinimal),
            (&[0xFF, 0x80, 0x00], DecodeError::VariableByteIntegerNotMinimal),
            (
                &[0x80, 0x80, 0x80, 0x80, 0x01],
                DecodeError::VariableByteIntegerTooLong,
            ),
            (&[0x80, 0x80], DecodeError::Truncated),
            (&[], DecodeError::Truncated),
        ];
        for (bytes, error) in cases {
            assert_eq!(Reader::new(bytes).varint(), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn fields_are_bounded() {
        let mut reader = Reader::new(&[0, 3, b'a', b'b']);
        assert_eq!(reader.string(), Err(DecodeError::Truncated));
        assert_eq!(check_field_len(&[0; 65_536]), Err(DecodeError::FieldTooLong));
        assert_eq!(check_field_len(&[0; 65_535]), Ok(()));
        let mut long = Vec::new();
        long.put_field(&[0; 65_535]);
        assert_eq!(long.len(), 65_537);
    }

    proptest! {
        #[test]
        fn varint_round_trip(value in 0_u32..=268_435_455) {
            let mut written = Vec::new();
            written.put_varint(value as usize);
            let mut reader = Reader::new(&written);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.is_empty());
        }
    }
}
