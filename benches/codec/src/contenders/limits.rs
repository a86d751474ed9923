//! What the work can cost at least.

use std::hint::black_box;

use super::{Contender, Pass, pass, split_packet};
use crate::Case;

pub(super) const MEMCPY: Contender = Contender {
    name: "memcpy of each frame",
    note: "what owning the bytes costs before the first of them is looked at",
    decode: memcpy,
    encode: memcpy,
};

pub(super) const SPLIT: Contender = Contender {
    name: "header split",
    note: "finds where each packet ends and looks at nothing else",
    decode: split,
    encode: |_| None,
};

fn memcpy(case: &Case) -> Option<Pass> {
    let (stream, len) = (case.stream, case.packet.len());
    Some(pass(|| (), {
        let mut copy = vec![0; stream.len()];
        move |()| {
            let len = black_box(len);
            for (to, from) in copy.chunks_exact_mut(len).zip(stream.chunks_exact(len)) {
                black_box(to).copy_from_slice(black_box(from));
            }
            black_box(&mut copy);
        }
    }))
}

fn split(case: &Case) -> Option<Pass> {
    let stream = case.stream;
    Some(pass(
        || (),
        move |()| {
            let mut rest = black_box(stream);
            while !rest.is_empty() {
                let (first, body, behind) = split_packet(rest).expect("the stream holds whole packets");
                black_box((first, body));
                rest = behind;
            }
        },
    ))
}
