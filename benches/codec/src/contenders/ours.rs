//! Fleetwire's codec.

use std::hint::black_box;

use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{Frame, Packet};

use super::{Contender, Pass, is_stream, pass};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "fleetwire-codec",
    note: "borrows; everything that a single packet can get wrong is checked",
    decode,
    encode,
};

/// The default limit of an engine.
const PACKET_LEN_MAX: usize = 256 * 1024;

#[inline(always)]
fn first_frame(bytes: &[u8]) -> Frame<'_> {
    let Ok(Split::Complete(frame)) = frame::split(bytes, PACKET_LEN_MAX) else {
        panic!("the stream holds whole packets")
    };
    frame
}

fn decode(case: &Case) -> Option<Pass> {
    let (stream, version) = (case.stream, case.version);
    Some(pass(
        || (),
        move |()| {
            let mut rest = black_box(stream);
            while !rest.is_empty() {
                let frame = first_frame(rest);
                let packet = Packet::decode(frame, version);
                assert!(black_box(&packet).is_ok());
                rest = &rest[frame.len()..];
            }
        },
    ))
}

fn encode(case: &Case) -> Option<Pass> {
    let (version, count) = (case.version, case.count);
    let packet = Packet::decode(first_frame(case.packet), version).expect("a sample is sound");
    let mut out = vec![0; case.stream.len()];
    let write = move |out: &mut [u8]| {
        let mut len = 0;
        for _ in 0..count {
            len += black_box(&packet)
                .encode(version, &mut out[len..])
                .expect("it was decoded");
        }
        black_box(len)
    };
    write(&mut out);
    is_stream(case, &out).then(|| {
        pass(
            || (),
            move |()| {
                write(black_box(&mut out));
            },
        )
    })
}
