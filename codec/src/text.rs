//! The one pass over the bytes of a string: UTF-8, U+0000 and wildcards together.
//!
//! The only file of the crate with `unsafe`: bytes that were seen to be ASCII are not validated a second time.

use crate::DecodeError;

/// Checks the bytes of a string as they lie on the wire.
///
/// # Errors
///
/// [`DecodeError::StringNotUtf8`] (v5 `[MQTT-1.5.4-1]`, v3.1.1 `[MQTT-1.5.3-1]`) and
/// [`DecodeError::StringHoldsNul`] (v5 `[MQTT-1.5.4-2]`, v3.1.1 `[MQTT-1.5.3-2]`).
#[inline(always)]
pub(crate) fn check(bytes: &[u8]) -> Result<&str, DecodeError> {
    if is_plain::<false>(bytes) {
        Ok(ascii(bytes))
    } else {
        check_other(bytes)
    }
}

/// Checks the bytes of a topic name or filter; says whether it holds a wildcard, `+` or `#`.
///
/// # Errors
///
/// As [`check`].
#[inline(always)]
pub(crate) fn check_topic(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
    if is_plain::<true>(bytes) {
        Ok((ascii(bytes), false))
    } else {
        check_other_topic(bytes)
    }
}

/// Takes the bytes of a topic name that is not empty, is in ASCII and holds neither U+0000 nor a wildcard; `None` says
/// nothing about others.
#[inline(always)]
pub(crate) fn plain_topic(bytes: &[u8]) -> Option<&str> {
    // The compiler sees that only short ones can be empty.
    (is_plain::<true>(bytes) && !bytes.is_empty()).then(|| ascii(bytes))
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
    if is_plain::<false>(bytes) {
        return Ok((ascii(bytes), true));
    }
    let text = check_other(bytes)?;
    Ok((text, text.contains(['+', '#'])))
}

/// Whether all bytes are ASCII and none is zero; for topics also whether there is no wildcard.
#[inline(always)]
fn is_plain<const TOPIC: bool>(bytes: &[u8]) -> bool {
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return is_plain_short::<TOPIC>(bytes);
    };
    // Most topics have sixteen to thirty-two bytes. Where the two blocks overlap, seeing a byte twice changes nothing.
    no_suspects::<TOPIC>(first, last) && (bytes.len() <= 32 || is_plain_long::<TOPIC>(bytes))
}

/// All bytes but those of the last block, which the caller has seen.
#[inline(never)]
fn is_plain_long<const TOPIC: bool>(bytes: &[u8]) -> bool {
    let (blocks, _) = bytes.as_chunks();
    blocks.iter().all(|block| no_suspects::<TOPIC>(block, block))
}

/// Two blocks at once, in a form that the compiler turns into a few vector instructions.
#[inline(always)]
fn no_suspects<const TOPIC: bool>(one: &[u8; 16], other: &[u8; 16]) -> bool {
    let suspect = |byte: u8| {
        // As a signed number a byte that is not ASCII is negative.
        let suspect = byte.cast_signed() <= 0 || (TOPIC && byte | WILDCARDS_DIFFER == b'+');
        if suspect { 0xFF } else { 0 }
    };
    let suspects = one.iter().zip(other);
    suspects.fold(0_u8, |found, (one, other)| {
        found | suspect(*one) | suspect(*other)
    }) == 0
}

/// Less than sixteen bytes.
#[inline(never)]
fn is_plain_short<const TOPIC: bool>(bytes: &[u8]) -> bool {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let words = (u64::from_ne_bytes(*first), u64::from_ne_bytes(*last));
        return suspects_in::<TOPIC>(words.0) | suspects_in::<TOPIC>(words.1) == 0;
    }
    let word = if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from(u32::from_ne_bytes(*first)) | u64::from(u32::from_ne_bytes(*last)) << 32
    } else {
        // Filled up with something plain.
        let at = |index| bytes.get(index).copied().unwrap_or(b' ');
        u64::from_ne_bytes([at(0), at(1), at(2), b' ', b' ', b' ', b' ', b' '])
    };
    suspects_in::<TOPIC>(word) == 0
}

/// Not zero if, and only if, one of the bytes is not plain.
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
    // SAFETY: every caller has just asked `is_plain`, which is false if any byte of the whole slice is above 0x7F, and
    // ASCII is UTF-8. The tests below compare its finding with std's.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both checks at once; they must agree.
    fn fast(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
        let topic = check_topic(bytes);
        assert_eq!(check(bytes), topic.map(|(text, _)| text));
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
