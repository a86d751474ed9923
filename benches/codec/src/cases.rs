use fleetwire_codec::{PacketId, Publish, QoS, TopicName, Version};

use crate::samples::samples;

/// One packet, many times over.
#[derive(Debug, Clone)]
pub struct Case {
    /// The sample's name, such as `v311_puback`.
    pub name: String,
    /// The version that it is in.
    pub version: Version,
    /// The packet, whole.
    pub packet: &'static [u8],
    /// How often it lies in the stream.
    pub count: usize,
    /// The packets back to back: what a receive block of 64 KiB holds of them, and at least 64.
    pub stream: &'static [u8],
}

/// The length of a full receive block.
const STREAM_LEN: usize = 64 * 1024;
/// Enough of the longest ones that reading the clock does not count.
const COUNT_MIN: usize = 64;
/// Enough of the shortest ones.
const COUNT_MAX: usize = 8192;

/// The cases of the comparison, of both versions.
///
/// The stream of small publishes that has a row of its own in the reports is `v311_publish_qos0`, 655 packets of 100
/// bytes: every case is such a stream.
pub fn cases() -> Vec<Case> {
    let wanted = [
        "v311_publish_qos0",
        "v311_publish_qos1",
        "v311_puback",
        "v311_connect_full",
        "v311_subscribe",
        "v311_pingreq",
        "v5_publish_qos0",
        "v5_publish_qos1",
        "v5_publish_three_properties",
        "v5_puback",
        "v5_connect_full",
        "v5_subscribe",
        "v5_pingreq",
    ];
    let samples = samples();
    let mut cases: Vec<Case> = wanted
        .iter()
        .map(|name| {
            let sample = samples.iter().find(|sample| sample.name == *name);
            let sample = sample.unwrap_or_else(|| panic!("no sample {name}"));
            case(name, sample.version, sample.bytes.clone())
        })
        .collect();
    for (name, version) in [
        ("v311_publish_16k", Version::V311),
        ("v5_publish_16k", Version::V5),
    ] {
        cases.push(case(name, version, publish_16k(version)));
    }
    cases
}

fn case(name: &str, version: Version, packet: Vec<u8>) -> Case {
    let count = (STREAM_LEN / packet.len()).clamp(COUNT_MIN, COUNT_MAX);
    let stream = packet.repeat(count);
    // The cases live as long as the program, so that what borrows from them can too.
    Case {
        name: name.to_owned(),
        version,
        packet: packet.leak(),
        count,
        stream: stream.leak(),
    }
}

/// A PUBLISH with QoS 1 and 16 KiB of payload, too long for a sample to be read by people.
fn publish_16k(version: Version) -> Vec<u8> {
    let topic = TopicName::new("fleet/device-0042/telemetry/temp").expect("it has no wildcards");
    let payload = vec![b'x'; 16 * 1024];
    let mut publish = Publish::new(topic, &payload);
    publish.qos = QoS::AtLeastOnce;
    publish.packet_id = Some(PacketId::MIN);
    let mut packet = vec![0; publish.encoded_len(version).expect("it is sound")];
    publish.encode(version, &mut packet).expect("it was measured");
    packet
}
