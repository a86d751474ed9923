//! rumqttc 0.25.

use bytes::BytesMut;
use fleetwire_codec::Version;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::{Contender, Pass, bytes_mut};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "rumqttc 0.25",
    note: "owns: reference-counted payloads and topics, a String for other texts",
    decode,
    encode,
};

/// Far above every case.
const PACKET_LEN_MAX: usize = 1 << 20;

fn decode(case: &Case) -> Option<Pass> {
    match case.version {
        Version::V311 => bytes_mut::decode(case, |stream| v4::Packet::read(stream, PACKET_LEN_MAX).ok()),
        Version::V5 => bytes_mut::decode(case, |stream| {
            v5::Packet::read(stream, Some(PACKET_LEN_MAX as u32)).ok()
        }),
    }
}

fn encode(case: &Case) -> Option<Pass> {
    let mut bytes = BytesMut::from(case.packet);
    match case.version {
        Version::V311 => {
            let packet = v4::Packet::read(&mut bytes, PACKET_LEN_MAX).ok()?;
            bytes_mut::encode(case, move |out| packet.write(out, PACKET_LEN_MAX).ok())
        }
        Version::V5 => {
            let packet = v5::Packet::read(&mut bytes, Some(PACKET_LEN_MAX as u32)).ok()?;
            bytes_mut::encode(case, move |out| {
                packet.write(out, Some(PACKET_LEN_MAX as u32)).ok()
            })
        }
    }
}
