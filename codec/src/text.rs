//! The one pass over the bytes of a string: UTF-8, U+0000 and wildcards together.
//!
//! The only file of the crate with `unsafe`: bytes that were seen to be ASCII are not validated a second time.

use crate::DecodeError;

/// Takes a string of `len` bytes off the front and checks it; returns what is behind it too.
///
/// # Errors
///
/// [`DecodeError::Truncated`], [`DecodeError::StringNotUtf8`] (v5 `[MQTT-1.5.4-1]`, v3.1.1 `[MQTT-1.5.3-1]`) and
/// [`DecodeError::StringHoldsNul`] (v5 `[MQTT-1.5.4-2]`, v3.1.1 `[MQTT-1.5.3-2]`).
#[inline(always)]
pub(crate) fn split_string(bytes: &[u8], len: usize) -> Result<(&str, &[u8]), DecodeError> {
    let (field, behind) = bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    let text = if begins_plain::<false>(bytes, len) {
        ascii(field)
    } else {
        check_other(field)?
    };
    Ok((text, behind))
}

/// Takes a topic name or filter of `len` bytes off the front and checks it; says whether it holds a wildcard, `+` or
/// `#`, and returns what is behind it too.
///
/// # Errors
///
/// As [`split_string`].
#[inline(always)]
pub(crate) fn split_topic(bytes: &[u8], len: usize) -> Result<(&str, bool, &[u8]), DecodeError> {
    let (field, behind) = bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    let (text, has_wildcard) = if begins_plain::<true>(bytes, len) {
        (ascii(field), false)
    } else {
        check_other_topic(field)?
    };
    Ok((text, has_wildcard, behind))
}

/// Takes a string of `len` bytes off the front that is all in ASCII and holds no U+0000, and as a topic no wildcard;
/// returns what is behind it too. `None` says nothing about others.
#[inline(always)]
pub(crate) fn split_plain<const TOPIC: bool>(bytes: &[u8], len: usize) -> Option<(&str, &[u8])> {
    let (field, behind) = bytes.split_at_checked(len)?;
    begins_plain::<TOPIC>(bytes, len).then(|| (ascii(field), behind))
}

/// Checks a string that stands alone.
///
/// # Errors
///
/// As [`split_string`].
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Result<&str, DecodeError> {
    split_string(bytes, bytes.len()).map(|(text, _)| text)
}

/// Checks a topic name or filter that stands alone; says whether it holds a wildcard.
///
/// # Errors
///
/// As [`split_string`].
#[inline]
pub(crate) fn check_topic(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
    split_topic(bytes, bytes.len()).map(|(text, has_wildcard, _)| (text, has_wildcard))
}

/// Checks what is not plain: it is not ASCII, or not allowed.
#[cold]
#[inline(never)]
fn check_other(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::StringNotUtf8)?;
    if text.contains('\0') {
        Err(DecodeError::StringHoldsNul)
    } else {
        Ok(text)
    }
}

/// The same for topics, where also a wildcard may be all there is.
#[inline(never)]
fn check_other_topic(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
    if begins_plain::<false>(bytes, bytes.len()) {
        return Ok((ascii(bytes), true));
    }
    let text = check_other(bytes)?;
    Ok((text, text.contains(['+', '#'])))
}

/// Whether the first `len` of the bytes are ASCII and none of them is zero; for topics also whether there is no wildcard.
/// False if there are not so many.
///
/// What is behind them lets a short field be seen in one block: bytes that are not of the field do not count.
#[inline(always)]
fn begins_plain<const TOPIC: bool>(bytes: &[u8], len: usize) -> bool {
    let Some(field) = bytes.get(..len) else {
        return false;
    };
    match (bytes.first_chunk(), field.last_chunk()) {
        // Most topics have sixteen to thirty-two bytes. Where the two blocks overlap, seeing a byte twice changes nothing.
        (Some(first), Some(last)) if len <= 32 => are_plain::<TOPIC>(first, last),
        (Some(first), None) => block_begins_plain::<TOPIC>(first, len),
        _ => match bytes.first_chunk() {
            // A packet may end with two of them, user name and password; with a topic ends none.
            Some(first) if !TOPIC && len <= 8 => word_begins_plain::<TOPIC>(*first, len),
            _ => is_plain_other::<TOPIC>(bytes, len),
        },
    }
}

/// The same for the first `len` of the bytes where they are long, or short and nearly at the end.
#[inline(never)]
fn is_plain_other<const TOPIC: bool>(bytes: &[u8], len: usize) -> bool {
    let Some(field) = bytes.get(..len) else {
        return false;
    };
    if let (Some(first), Some(last)) = (field.first_chunk(), field.last_chunk()) {
        if let Some(last) = field.last_chunk() {
            let (blocks, _) = field.as_chunks();
            return blocks.iter().all(|block| are_plain::<TOPIC>(block, last));
        }
        let words = (u64::from_ne_bytes(*first), u64::from_ne_bytes(*last));
        return suspects_in::<TOPIC>(words.0) | suspects_in::<TOPIC>(words.1) == 0;
    }
    let word = if let (Some(first), Some(last)) = (field.first_chunk(), field.last_chunk()) {
        u64::from(u32::from_ne_bytes(*first)) | u64::from(u32::from_ne_bytes(*last)) << 32
    } else {
        // Filled up with something plain.
        let at = |index| field.get(index).copied().unwrap_or(b' ');
        u64::from_ne_bytes([at(0), at(1), at(2), b' ', b' ', b' ', b' ', b' '])
    };
    suspects_in::<TOPIC>(word) == 0
}

/// Two blocks at once, in a form that the compiler turns into a few vector instructions wherever this is inlined: it is the
/// "or" of comparisons. An array of what was found, compared with zeros, was taken apart into bytes in some places.
#[inline(always)]
fn are_plain<const TOPIC: bool>(one: &[u8; 16], other: &[u8; 16]) -> bool {
    let mut found = false;
    for (one, other) in one.iter().zip(other) {
        found |= is_suspect::<TOPIC>(*one) | is_suspect::<TOPIC>(*other);
    }
    !found
}

/// The first `len` bytes of a block, or all if it is not so long, likewise; those behind them are made plain.
#[inline(always)]
fn block_begins_plain<const TOPIC: bool>(block: &[u8; 16], len: usize) -> bool {
    let start = 16_usize.saturating_sub(len);
    let Some(within) = WITHIN.0.get(start..).and_then(<[u8]>::first_chunk::<16>) else {
        return false;
    };
    let mut found = false;
    for (byte, within) in block.iter().zip(within) {
        found |= is_suspect::<TOPIC>(byte & within | b' ' & !within);
    }
    !found
}

/// Whether the byte is not plain.
#[inline(always)]
const fn is_suspect<const TOPIC: bool>(byte: u8) -> bool {
    // As a signed number a byte that is not ASCII is negative.
    (byte.cast_signed() <= 0) | (TOPIC & (byte | WILDCARDS_DIFFER == b'+'))
}

/// From byte 16 - n on: n bytes that count, and others that do not.
static WITHIN: InOneLine = {
    let mut within = [0; 32];
    let (counting, _) = within.split_at_mut(16);
    counting.copy_from_slice(&[0xFF; 16]);
    InOneLine(within)
};

/// Bytes that lie in one line of the cache, wherever the linker puts them: reading across two takes longer.
#[repr(align(32))]
struct InOneLine([u8; 32]);

/// The first `len` bytes of a word, or all if it is not so long.
#[inline(always)]
const fn word_begins_plain<const TOPIC: bool>(word: [u8; 8], len: usize) -> bool {
    suspects_in::<TOPIC>(u64::from_le_bytes(word)).trailing_zeros() as usize >= len * 8
}

/// Not zero if, and only if, one of the bytes is not plain. The lowest bit that is set is the high bit of the lowest such
/// byte; others above it may be set without a reason.
///
/// A byte that is not ASCII has its own high bit. In a word that is wholly ASCII, subtracting 1 from each byte sets
/// a high bit exactly if a byte is zero: only a zero byte borrows. With the bit set in which they differ, both
/// wildcards become zero by one exclusive or, which keeps ASCII bytes ASCII.
#[inline]
const fn suspects_in<const TOPIC: bool>(word: u64) -> u64 {
    let mut suspects = word | word.wrapping_sub(repeat(1));
    if TOPIC {
        let wildcards_are_zero = (word | repeat(WILDCARDS_DIFFER)) ^ repeat(b'+');
        suspects |= wildcards_are_zero.wrapping_sub(repeat(1));
    }
    suspects & repeat(0x80)
}

/// Whether there is no `#`, and a `/` on both sides of each `+`; the start and the end count as one.
#[inline]
pub(crate) fn only_whole_levels(bytes: &[u8]) -> bool {
    let (Some((first, behind)), Some((_, before))) = (bytes.split_first(), bytes.split_last()) else {
        return true;
    };
    if *first == b'#' {
        return false;
    }
    are_neighbours_in::<16>(before, behind)
        .or_else(|| are_neighbours_in::<8>(before, behind))
        .unwrap_or_else(|| {
            let mut pairs = before.iter().zip(behind);
            pairs.all(|(before, behind)| !is_odd(*before, *behind))
        })
}

/// Whether each byte of the one may stand before that of the other, in blocks of `N`, the last of which may overlap the one
/// before it; `None` if there are fewer bytes.
#[inline(always)]
fn are_neighbours_in<const N: usize>(before: &[u8], behind: &[u8]) -> Option<bool> {
    let mut sound = are_neighbours::<N>(before.last_chunk()?, behind.last_chunk()?);
    for (before, behind) in before.as_chunks::<N>().0.iter().zip(behind.as_chunks::<N>().0) {
        sound &= are_neighbours::<N>(before, behind);
    }
    Some(sound)
}

/// In a form that the compiler turns into a few vector instructions. Not inlined: that both are the same bytes, one apart,
/// only misleads it.
#[inline(never)]
fn are_neighbours<const N: usize>(before: &[u8; N], behind: &[u8; N]) -> bool {
    let pairs = before.iter().zip(behind);
    pairs.fold(0_u8, |found, (before, behind)| {
        found | if is_odd(*before, *behind) { 0xFF } else { 0 }
    }) == 0
}

/// A `#`, or a `+` with something else than a level's end beside it.
#[inline(always)]
const fn is_odd(before: u8, behind: u8) -> bool {
    (behind == b'#') | ((before == b'+') & (behind != b'/')) | ((behind == b'+') & (before != b'/'))
}

/// `+` is 0x2B and `#` is 0x23: with this bit set they are the same.
const WILDCARDS_DIFFER: u8 = b'+' ^ b'#';

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The bytes as a string, without a second validation.
#[expect(
    unsafe_code,
    reason = "validating twice is two thirds of the cost of a decode"
)]
#[inline]
fn ascii(bytes: &[u8]) -> &str {
    debug_assert!(bytes.is_ascii());
    // SAFETY: every caller has just asked `begins_plain` about exactly these bytes, which is false if any of them is above
    // 0x7F, and ASCII is UTF-8. The tests below compare its finding with std's.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All checks at once; they must agree, and with whatever stands behind the field.
    fn fast(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
        let topic = check_topic(bytes);
        let text = topic.map(|(text, _)| text);
        assert_eq!(check(bytes), text);
        for behind in [
            &b"+"[..],
            b"\0\xFF",
            b"plain",
            &[0x80; 15],
            &[b'#'; 16],
            &[b'a'; 40],
        ] {
            let all = [bytes, behind].concat();
            assert_eq!(split_string(&all, bytes.len()), text.map(|text| (text, behind)));
            let expected = topic.map(|(text, has_wildcard)| (text, has_wildcard, behind));
            assert_eq!(split_topic(&all, bytes.len()), expected);
            let plain = text
                .ok()
                .filter(|text| text.is_ascii())
                .map(|text| (text, behind));
            assert_eq!(split_plain::<false>(&all, bytes.len()), plain);
            let plain = plain.filter(|(text, _)| !text.contains(['+', '#']));
            assert_eq!(split_plain::<true>(&all, bytes.len()), plain);
        }
        topic
    }

    fn naive(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::StringNotUtf8)?;
        if text.contains('\0') {
            return Err(DecodeError::StringHoldsNul);
        }
        Ok((text, text.contains(['+', '#'])))
    }

    #[test]
    fn every_byte_at_every_place() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=255 {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = byte;
                    assert_eq!(fast(&bytes), naive(&bytes), "{byte:#x} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn ill_formed() {
        // Surrogates, over-long forms, above U+10FFFF, cut sequences, lone continuation bytes.
        let cases: [&[u8]; 6] = [
            b"\xED\xA0\x80",
            b"\xC0\x80",
            b"\xE0\x80\xAF",
            b"\xF4\x90\x80\x80",
            b"12345678\xE2\x82",
            b"\x80abcdefgh",
        ];
        for bytes in cases {
            assert_eq!(fast(bytes), Err(DecodeError::StringNotUtf8), "{bytes:x?}");
        }
        assert_eq!(fast("\u{FEFF}grün €".as_bytes()), Ok(("\u{FEFF}grün €", false)));
    }

    proptest! {
        #[test]
        fn levels_are_whole(choices in proptest::collection::vec(0_usize..12, 0..40)) {
            // Mostly sound, so that what is not is found at each place.
            let bytes: Vec<u8> = choices.iter().flat_map(|choice| match choice {
                0 => &b"+"[..],
                1 => b"#",
                2..6 => b"/+/",
                6..9 => b"/",
                _ => b"ab",
            }).copied().collect();
            let sound = bytes.split(|byte| *byte == b'/').all(|level| level == b"+" || !level.iter().any(|byte| b"+#".contains(byte)));
            prop_assert_eq!(only_whole_levels(&bytes), sound);
        }

        #[test]
        fn agrees_with_std(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(fast(&bytes), naive(&bytes));
        }

        #[test]
        fn agrees_with_std_on_text(text in "[a-z+#/\u{0}é€😀]{0,40}") {
            prop_assert_eq!(fast(text.as_bytes()), naive(text.as_bytes()));
        }
    }
}
