//! A stream of packets, and what may be said about its pieces.

use std::str;

use fleetwire_codec::frame::{self, Frame, Measure, Split};
use fleetwire_codec::{DecodeError, Version};

use super::packet::checked;
use super::topics::topics;

/// A stream of packets as a socket delivers it, and then the same bytes as the text of topics.
pub fn frame(input: &[u8]) {
    let mut rest = input;
    while let Some(frame) = first_frame(rest) {
        for version in [Version::V311, Version::V5] {
            checked(frame, version);
        }
        rest = &rest[frame.len()..];
    }
    if let Ok(text) = str::from_utf8(input) {
        topics(text);
    }
}

/// Splits off the first frame, and checks that the same bytes give the same answer in whatever pieces they arrive.
fn first_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let whole = split(bytes, usize::MAX);
    let cuts = match whole {
        Ok(Split::Complete(frame)) => frame.len(),
        _ => bytes.len(),
    };
    for cut in 0..cuts {
        match split(&bytes[..cut], usize::MAX) {
            Ok(Split::Partial { missing }) => {
                if let Ok(Split::Complete(frame)) = whole {
                    assert!(
                        cut + missing <= frame.len(),
                        "more was asked for than the packet has"
                    );
                }
            }
            Ok(Split::Complete(frame)) => panic!("{} of {cut} bytes are a packet already", frame.len()),
            early => assert_eq!(early, whole, "cut at {cut}"),
        }
    }
    let Ok(Split::Complete(frame)) = whole else {
        return None;
    };
    assert_eq!(split(&bytes[..frame.len()], frame.len()), whole);
    assert!(
        split(bytes, frame.len() - 1).is_err(),
        "the length limit does not hold"
    );
    Some(frame)
}

/// Splits; `measure` must agree in everything.
pub(super) fn split(bytes: &[u8], packet_len_max: usize) -> Result<Split<'_>, DecodeError> {
    let split = frame::split(bytes, packet_len_max);
    match (split, frame::measure(bytes, packet_len_max)) {
        (Ok(Split::Complete(frame)), Ok(Measure::Whole(len))) => {
            assert_eq!(frame.len(), len);
            assert!(len <= bytes.len() && len <= packet_len_max);
        }
        (
            Ok(Split::Partial { missing }),
            Ok(Measure::Partial {
                missing: same,
                declared,
            }),
        ) => {
            assert_eq!(missing, same);
            assert!(missing > 0);
            assert!(declared.is_none_or(|declared| declared == bytes.len() + missing));
        }
        (split, measure) => assert_eq!(split.expect_err("no error"), measure.expect_err("no error")),
    }
    split
}
