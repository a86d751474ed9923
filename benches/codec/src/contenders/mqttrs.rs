//! mqttrs 0.4, the fastest decoder found.

use std::hint::black_box;

use fleetwire_codec::Version;
use mqttrs::{decode_slice, encode_slice};

use super::{Contender, Pass, is_stream, pass, split_packet};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "mqttrs 0.4",
    note: "3.1.1 only; borrows; does not say where the next packet begins, so a header split written here finds it; does \
           not check wildcards, U+0000 nor trailing bytes",
    decode,
    encode,
};

fn decode(case: &Case) -> Option<Pass> {
    if case.version != Version::V311 {
        return None;
    }
    let stream = case.stream;
    Some(pass(
        || (),
        move |()| {
            let mut rest = black_box(stream);
            while !rest.is_empty() {
                let packet = decode_slice(rest);
                assert!(matches!(black_box(&packet), Ok(Some(_))));
                let (_, _, behind) = split_packet(rest).expect("it was decoded");
                rest = behind;
            }
        },
    ))
}

fn encode(case: &Case) -> Option<Pass> {
    if case.version != Version::V311 {
        return None;
    }
    let packet = decode_slice(case.packet).ok()??;
    let count = case.count;
    let mut out = vec![0; case.stream.len()];
    let write = move |out: &mut [u8]| {
        let mut len = 0;
        for _ in 0..count {
            len += encode_slice(black_box(&packet), &mut out[len..]).expect("it was decoded");
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
