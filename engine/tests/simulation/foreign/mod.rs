//! mqtt-protocol-core, a state machine by other people, on one side of the connections: so both ends do not share our
//! misreadings. Whatever it calls an error is one of ours.

mod client;
mod server;

use fleetwire_codec::QoS;
use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::packet::{Packet, Qos, v3_1_1, v5_0};

use super::ledger::{Ledger, Stream};

/// Publishes of it that are in flight on one connection.
const IN_FLIGHT_MAX: usize = 20;

/// What it sends next: with an identifier above QoS 0.
fn publish(version: Version, topic: String, qos: QoS, packet_id: Option<u16>, payload: Vec<u8>) -> Packet {
    let qos = match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    };
    macro_rules! build {
        ($publish:ty) => {{
            let publish = <$publish>::builder().topic_name(topic).unwrap().qos(qos);
            let publish = match packet_id {
                Some(packet_id) => publish.packet_id(packet_id),
                None => publish,
            };
            publish.payload(payload).build().unwrap().into()
        }};
    }
    match version {
        Version::V5_0 => build!(v5_0::Publish),
        _ => build!(v3_1_1::Publish),
    }
}

/// Enters a PUBLISH that it has received; `None` for any other packet.
fn take(ledger: &mut Ledger, packet: &Packet) -> Option<Stream> {
    macro_rules! take {
        ($publish:expr) => {{
            let qos = match $publish.qos() {
                Qos::AtMostOnce => QoS::AtMostOnce,
                Qos::AtLeastOnce => QoS::AtLeastOnce,
                Qos::ExactlyOnce => QoS::ExactlyOnce,
            };
            let payload = $publish.payload();
            Some(ledger.take($publish.topic_name(), qos, $publish.dup(), payload.as_slice()))
        }};
    }
    match packet {
        Packet::V5_0Publish(publish) => take!(publish),
        Packet::V3_1_1Publish(publish) => take!(publish),
        _ => None,
    }
}

/// What the next message is.
fn draw(random: &mut fastrand::Rng, device: u32, qos_max: QoS) -> Stream {
    let qos = match random.u8(0..=qos_max as u8) {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    Stream {
        device,
        topic: random.u8(0..3),
        qos,
    }
}
