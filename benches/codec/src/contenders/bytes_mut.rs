//! What codecs over `BytesMut` have in common.

use std::hint::black_box;

use bytes::BytesMut;

use super::{Pass, is_stream, pass};
use crate::Case;

/// Decodes by a function that takes one packet off the front; `None` if it cannot.
pub(super) fn decode<P>(case: &Case, read: impl Fn(&mut BytesMut) -> Option<P> + 'static) -> Option<Pass> {
    read(&mut BytesMut::from(case.packet))?;
    let (stream, count) = (case.stream, case.count);
    Some(pass(
        move || BytesMut::from(stream),
        move |bytes| {
            for _ in 0..count {
                let packet = read(bytes);
                assert!(black_box(&packet).is_some());
            }
            assert!(bytes.is_empty());
        },
    ))
}

/// Encodes by a function that appends one packet; `None` if it cannot, or writes something else than was decoded.
pub(super) fn encode<R>(case: &Case, write: impl Fn(&mut BytesMut) -> Option<R> + 'static) -> Option<Pass> {
    let (len, count) = (case.stream.len(), case.count);
    // Some reserve a little more than they write.
    let capacity = len + 1024;
    let mut out = BytesMut::with_capacity(capacity);
    for _ in 0..count {
        write(&mut out)?;
    }
    is_stream(case, &out).then(|| {
        pass(
            move || BytesMut::with_capacity(capacity),
            move |out| {
                for _ in 0..count {
                    assert!(black_box(write(black_box(out))).is_some());
                }
            },
        )
    })
}
