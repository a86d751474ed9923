//! mqttbytes 0.6.

use bytes::BytesMut;
use fleetwire_codec::Version;
use mqttbytes::{v4, v5};

use super::{Contender, Pass, bytes_mut};
use crate::Case;

pub(super) const CONTENDER: Contender = Contender {
    name: "mqttbytes 0.6",
    note: "owns: reference-counted payloads, a String for each text",
    decode,
    encode,
};

/// Far above every case.
const PACKET_LEN_MAX: usize = 1 << 20;

fn decode(case: &Case) -> Option<Pass> {
    match case.version {
        Version::V311 => bytes_mut::decode(case, |stream| v4::read(stream, PACKET_LEN_MAX).ok()),
        Version::V5 => bytes_mut::decode(case, |stream| v5::read(stream, PACKET_LEN_MAX).ok()),
    }
}

fn encode(case: &Case) -> Option<Pass> {
    let mut bytes = BytesMut::from(case.packet);
    match case.version {
        Version::V311 => {
            let packet = v4::read(&mut bytes, PACKET_LEN_MAX).ok()?;
            bytes_mut::encode(case, move |out| {
                match &packet {
                    v4::Packet::Publish(packet) => packet.write(out),
                    v4::Packet::PubAck(packet) => packet.write(out),
                    v4::Packet::Connect(packet) => packet.write(out),
                    v4::Packet::Subscribe(packet) => packet.write(out),
                    v4::Packet::PingReq => v4::PingReq.write(out),
                    _ => return None,
                }
                .ok()
            })
        }
        Version::V5 => {
            let packet = v5::read(&mut bytes, PACKET_LEN_MAX).ok()?;
            bytes_mut::encode(case, move |out| {
                match &packet {
                    v5::Packet::Publish(packet) => packet.write(out),
                    v5::Packet::PubAck(packet) => packet.write(out),
                    v5::Packet::Connect(packet) => packet.write(out),
                    v5::Packet::Subscribe(packet) => packet.write(out),
                    v5::Packet::PingReq => v5::PingReq.write(out),
                    _ => return None,
                }
                .ok()
            })
        }
    }
}
