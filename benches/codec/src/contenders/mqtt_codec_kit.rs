//! mqtt-codec-kit 1.0, the fastest encoder found.

use std::hint::black_box;

use fleetwire_codec::Version;
use mqtt_codec_kit::common::{Decodable, Encodable};
use mqtt_codec_kit::{v4, v5};

use super::{Contender, Pass, is_stream, pass};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "mqtt-codec-kit 1.0",
    note: "owns: a String or Vec for each field",
    decode,
    encode,
};

fn decode(case: &Case) -> Option<Pass> {
    match case.version {
        Version::V311 => decode_as::<v4::packet::VariablePacket>(case),
        Version::V5 => decode_as::<v5::packet::VariablePacket>(case),
    }
}

fn encode(case: &Case) -> Option<Pass> {
    match case.version {
        Version::V311 => encode_as::<v4::packet::VariablePacket>(case),
        Version::V5 => encode_as::<v5::packet::VariablePacket>(case),
    }
}

fn decode_as<P: Decodable<Cond: Default>>(case: &Case) -> Option<Pass> {
    P::decode(&mut &*case.packet).ok()?;
    let stream = case.stream;
    Some(pass(
        || (),
        move |()| {
            let mut rest = black_box(stream);
            while !rest.is_empty() {
                let packet = P::decode(&mut rest);
                assert!(black_box(&packet).is_ok());
            }
        },
    ))
}

fn encode_as<P: Decodable<Cond: Default> + Encodable + 'static>(case: &Case) -> Option<Pass> {
    let packet = P::decode(&mut &*case.packet).ok()?;
    let count = case.count;
    let write = move |out: &mut Vec<u8>| {
        out.clear();
        for _ in 0..count {
            black_box(&packet).encode(out).expect("it was decoded");
        }
    };
    let mut out = Vec::with_capacity(case.stream.len());
    write(&mut out);
    is_stream(case, &out).then(|| pass(|| (), move |()| write(black_box(&mut out))))
}
