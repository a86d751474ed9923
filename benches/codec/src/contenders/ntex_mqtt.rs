//! ntex-mqtt 9.0.

use std::hint::black_box;

use fleetwire_codec::Version;
use ntex_bytes::{BytePageSize, BytePages, BytesMut};
use ntex_codec::{Decoder, Encoder};
use ntex_mqtt::{v3, v5};

use super::{Contender, Pass, is_stream, pass};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "ntex-mqtt 9.0",
    note: "owns; encoding takes the packet by value, so a clone of it is in the number",
    decode,
    encode,
};

fn decode(case: &Case) -> Option<Pass> {
    match case.version {
        Version::V311 => decode_with(case, v3::codec::Codec::new),
        Version::V5 => decode_with(case, v5::codec::Codec::new),
    }
}

fn encode(case: &Case) -> Option<Pass> {
    let mut bytes = BytesMut::copy_from_slice(case.packet);
    match case.version {
        Version::V311 => {
            let item = match v3::codec::Codec::new().decode(&mut bytes).ok()?? {
                v3::codec::Decoded::Packet(packet, _) => v3::codec::Encoded::Packet(packet),
                v3::codec::Decoded::Publish(publish, payload, _) => {
                    v3::codec::Encoded::Publish(publish, Some(payload))
                }
                v3::codec::Decoded::PayloadChunk(..) => return None,
            };
            encode_with(case, v3::codec::Codec::new(), item)
        }
        Version::V5 => {
            let item = match v5::codec::Codec::new().decode(&mut bytes).ok()?? {
                v5::codec::Decoded::Packet(packet, _) => v5::codec::Encoded::Packet(packet),
                v5::codec::Decoded::Publish(publish, payload, _) => {
                    v5::codec::Encoded::Publish(publish, Some(payload))
                }
                v5::codec::Decoded::PayloadChunk(..) => return None,
            };
            encode_with(case, v5::codec::Codec::new(), item)
        }
    }
}

fn decode_with<D: Decoder + 'static>(case: &Case, codec: impl Fn() -> D + 'static) -> Option<Pass> {
    let mut bytes = BytesMut::copy_from_slice(case.packet);
    codec().decode(&mut bytes).ok()??;
    let (stream, count) = (case.stream, case.count);
    Some(pass(
        move || (codec(), BytesMut::copy_from_slice(stream)),
        move |(codec, bytes)| {
            for _ in 0..count {
                let packet = codec.decode(bytes);
                assert!(matches!(black_box(&packet), Ok(Some(_))));
            }
            assert!(bytes.is_empty());
        },
    ))
}

fn encode_with<E>(case: &Case, codec: E, item: E::Item) -> Option<Pass>
where
    E: Encoder + 'static,
    E::Item: Clone,
{
    let count = case.count;
    let write = move |out: &mut BytePages| {
        for _ in 0..count {
            codec.encodev(black_box(&item).clone(), out).ok()?;
        }
        Some(())
    };
    let mut out = BytePages::new(BytePageSize::Size64);
    write(&mut out)?;
    is_stream(case, &out.freeze()).then(|| {
        pass(
            || BytePages::new(BytePageSize::Size64),
            move |out| assert!(write(black_box(out)).is_some()),
        )
    })
}
