//! The bytes that all contenders send.

use fleetwire_codec::{Connack, Connect, Packet, Properties, Publish, TopicName, Version};

/// 32 bytes.
pub(crate) const TOPIC: &str = "fleet/device-00042/telemetry/raw";
pub(crate) const PAYLOAD: [u8; 64] = [b'x'; 64];

/// How many connect at a time, and how many publish between two looks at the poll.
pub(crate) const CONNECTING: usize = 256;
pub(crate) const BURST: usize = 64;

pub(crate) const SERVER: &str = "localhost";

pub(crate) fn client_id(index: usize) -> String {
    format!("device-{index:05}")
}

pub(crate) fn connect(version: Version, index: usize) -> Vec<u8> {
    let client_id = client_id(index);
    let connect = Connect {
        version,
        clean_start: true,
        keep_alive_secs: 0,
        client_id: &client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    encode(version, &connect.into())
}

pub(crate) fn connack(version: Version) -> Vec<u8> {
    let connack = Connack {
        session_present: false,
        code: 0,
        properties: Properties::EMPTY,
    };
    encode(version, &connack.into())
}

pub(crate) fn publish(version: Version) -> Vec<u8> {
    let topic = TopicName::new(TOPIC).expect("it has no wildcards");
    encode(version, &Publish::new(topic, &PAYLOAD).into())
}

fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len(version).expect("it is short")];
    packet.encode(version, &mut bytes).expect("it was measured");
    bytes
}
