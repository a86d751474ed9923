//! mqtt-protocol-core 0.7.

use std::hint::black_box;

use fleetwire_codec::Version;
use mqtt_protocol_core::mqtt::Arc;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, v3_1_1, v5_0};

use super::{Contender, Pass, is_stream, pass, split_packet};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "mqtt-protocol-core 0.7",
    note: "owns; its parsers take a body, which a header split written here finds, PUBLISH as an Arc<[u8]>; encoding \
           returns a new Vec, and copying that out is in the number",
    decode,
    encode,
};

fn decode(case: &Case) -> Option<Pass> {
    let version = case.version;
    parse(version, case.packet)?;
    let stream = case.stream;
    Some(pass(
        || (),
        move |()| {
            let mut rest = black_box(stream);
            while !rest.is_empty() {
                let packet = parse(version, rest);
                assert!(black_box(&packet).is_some());
                rest = packet.map_or(&[], |(_, behind)| behind);
            }
        },
    ))
}

/// The first packet, and what is behind it.
#[inline]
fn parse(version: Version, bytes: &[u8]) -> Option<(Packet, &[u8])> {
    let (first, body, behind) = split_packet(bytes)?;
    let packet = match (version, first >> 4) {
        (Version::V311, 1) => v3_1_1::Connect::parse(body).ok()?.0.into(),
        (Version::V311, 3) => v3_1_1::Publish::parse(first & 0xF, Arc::from(body))
            .ok()?
            .0
            .into(),
        (Version::V311, 4) => v3_1_1::Puback::parse(body).ok()?.0.into(),
        (Version::V311, 8) => v3_1_1::Subscribe::parse(body).ok()?.0.into(),
        (Version::V311, 12) => v3_1_1::Pingreq::parse(body).ok()?.0.into(),
        (Version::V5, 1) => v5_0::Connect::parse(body).ok()?.0.into(),
        (Version::V5, 3) => v5_0::Publish::parse(first & 0xF, Arc::from(body)).ok()?.0.into(),
        (Version::V5, 4) => v5_0::Puback::parse(body).ok()?.0.into(),
        (Version::V5, 8) => v5_0::Subscribe::parse(body).ok()?.0.into(),
        (Version::V5, 12) => v5_0::Pingreq::parse(body).ok()?.0.into(),
        _ => return None,
    };
    Some((packet, behind))
}

fn encode(case: &Case) -> Option<Pass> {
    let (packet, _) = parse(case.version, case.packet)?;
    let count = case.count;
    let write = move |out: &mut Vec<u8>| {
        out.clear();
        for _ in 0..count {
            out.extend_from_slice(&black_box(&packet).to_continuous_buffer());
        }
    };
    let mut out = Vec::with_capacity(case.stream.len());
    write(&mut out);
    is_stream(case, &out).then(|| pass(|| (), move |()| write(black_box(&mut out))))
}
