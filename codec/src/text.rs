//! The one pass over the bytes of a string: UTF-8, U+0000 and wildcards together.
//!
//! The only file of the crate with `unsafe`: bytes that were seen to be ASCII are not validated a second time.

use crate::DecodeError;

/// Checks the bytes of a string as they lie on the wire.
///
/// Returns the string, and whether it holds a topic wildcard (`+` or `#`).
///
/// # Errors
///
/// [`DecodeError::StringNotUtf8`] (v5 `[MQTT-1.5.4-1]`, v3.1.1 `[MQTT-1.5.3-1]`) and
/// [`DecodeError::StringHoldsNul`] (v5 `[MQTT-1.5.4-2]`, v3.1.1 `[MQTT-1.5.3-2]`).
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Result<(&str, bool), DecodeError> {
    let seen = Seen::in_bytes(bytes);
    let text = if seen.non_ascii == 0 {
        ascii(bytes)
    } else {
        std::str::from_utf8(bytes).map_err(|_| DecodeError::StringNotUtf8)?
    };
    if seen.nul != 0 {
        return Err(DecodeError::StringHoldsNul);
    }
    Ok((text, seen.wildcard != 0))
}

/// Checks a string that is UTF-8 by its type: only U+0000 can be wrong. Returns whether it holds a wildcard.
#[inline]
pub(crate) fn check_str(text: &str) -> Result<bool, DecodeError> {
    let seen = Seen::in_bytes(text.as_bytes());
    if seen.nul != 0 {
        return Err(DecodeError::StringHoldsNul);
    }
    Ok(seen.wildcard != 0)
}

/// What the pass saw. A field is zero if there was none of it.
#[derive(Default)]
struct Seen {
    non_ascii: u64,
    nul: u64,
    wildcard: u64,
}

impl Seen {
    #[inline]
    fn in_bytes(bytes: &[u8]) -> Self {
        let mut seen = Self::default();
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            seen.add(*word);
        }
        if let (false, Some(last)) = (rest.is_empty(), bytes.last_chunk::<8>()) {
            // The last eight bytes overlap the word before; seeing a byte twice changes nothing.
            seen.add(*last);
        } else {
            let mut word = [b' '; 8];
            for (to, from) in word.iter_mut().zip(rest) {
                *to = *from;
            }
            seen.add(word);
        }
        seen
    }

    #[inline]
    fn add(&mut self, word: [u8; 8]) {
        let word = u64::from_ne_bytes(word);
        self.non_ascii |= word & HIGH_BITS;
        self.nul |= zero_bytes(word);
        self.wildcard |= zero_bytes(word ^ repeat(b'+')) | zero_bytes(word ^ repeat(b'#'));
    }
}

/// Non-zero exactly if a byte of the word is zero. Subtracting 1 from each byte sets the high bit of a byte that
/// was zero, and of one that had it already (masked out) or lost a borrow to a zero byte below.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeat(1)) & !word & HIGH_BITS
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH_BITS: u64 = repeat(0x80);

/// The bytes as a string, without a second validation.
#[expect(
    unsafe_code,
    reason = "validating twice is two thirds of the cost of a decode"
)]
#[inline]
fn ascii(bytes: &[u8]) -> &str {
    debug_assert!(bytes.is_ascii());
    // SAFETY: the only caller, `check`, calls this when `Seen::in_bytes` found no byte above 0x7F in the whole
    // slice, and ASCII is UTF-8. The test `agrees_with_std` compares that finding with std's.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                    assert_eq!(check(&bytes), naive(&bytes), "{byte:#x} at {at} of {len}");
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
            assert_eq!(check(bytes), Err(DecodeError::StringNotUtf8), "{bytes:x?}");
        }
        assert_eq!(check("\u{FEFF}grün €".as_bytes()), Ok(("\u{FEFF}grün €", false)));
    }

    proptest! {
        #[test]
        fn agrees_with_std(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(check(&bytes), naive(&bytes));
        }

        #[test]
        fn agrees_with_std_on_text(text in "[a-z+#/\u{0}é€😀]{0,40}") {
            prop_assert_eq!(check(text.as_bytes()), naive(text.as_bytes()));
            prop_assert_eq!(check_str(&text), naive(text.as_bytes()).map(|(_, wildcard)| wildcard));
        }
    }
}
