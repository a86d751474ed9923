//! What is usual takes a short cut, on the way in and on the way out. It says what the way for all forms says.

use proptest::prelude::*;

use super::*;
use crate::{Carrier, Properties, PropertiesBuf, Property};

/// The usual forms in front of [`Packet::decode`] are a short cut: whatever the frame, they say what the decoder for all
/// forms says, faults included.
fn check_short_cut(bytes: &[u8]) {
    let Ok(Split::Complete(frame)) = frame::split(bytes, usize::MAX) else {
        return;
    };
    for version in VERSIONS {
        assert_eq!(
            Packet::decode(frame, version),
            Packet::decode_any(frame, version),
            "{bytes:x?} in {version}"
        );
        if let Some(publish) = Publish::decode_usual(&frame, version) {
            assert_eq!(
                Packet::decode_any(frame, version),
                Ok(Packet::Publish(publish)),
                "{bytes:x?} in {version}"
            );
        }
    }
}

#[test]
fn every_short_packet_takes_no_wrong_short_cut() {
    let interesting = [0, 1, 2, b'#', b'a', 0x80];
    for first in 0..=255 {
        for len in 0..=4 {
            for pick in 0..interesting.len().pow(len) {
                let body: Vec<u8> = (0..len)
                    .map(|at| interesting[pick / interesting.len().pow(at) % interesting.len()])
                    .collect();
                let bytes = frame(first, &body);
                check_short_cut(&bytes);
                check_short_cut(&with_long_header(&bytes));
            }
        }
    }
}

#[test]
fn the_usual_forms_take_the_short_cut() {
    for (folder, version) in [("v311", Version::V311), ("v5", Version::V5)] {
        for name in ["publish_qos0", "publish_qos1"] {
            let bytes = sample(&format!("{folder}/{name}"));
            let Ok(Split::Complete(frame)) = frame::split(&bytes, usize::MAX) else {
                panic!("not whole")
            };
            assert!(
                Publish::decode_usual(&frame, version).is_some(),
                "{folder}/{name}"
            );
        }
    }
}

/// A PUBLISH that is usual, or nearly.
fn nearly_usual_publish() -> impl Strategy<Value = Vec<u8>> {
    let topic = prop_oneof![
        4 => "[a-z/]{0,40}".prop_map(String::into_bytes),
        2 => "[a-z/+#\u{0}é]{0,20}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let properties = prop_oneof![
        Just(vec![]),
        Just(vec![0]),
        Just(vec![0x80, 0]),
        Just(vec![3, 0x23, 0, 1]),
        proptest::collection::vec(0_u8..0x30, 0..6),
    ];
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    let cut = prop_oneof![4 => Just(usize::MAX), 1 => 0_usize..20];
    (0x30_u8..0x40, topic, 0_u16..3, properties, payload, cut).prop_map(
        |(first, topic, packet_id, properties, payload, cut)| {
            let mut body = Vec::new();
            body.put_field(&topic);
            if first & 0b0110 != 0 {
                body.put_u16(packet_id);
            }
            body.extend(properties);
            body.extend(payload);
            body.truncate(cut);
            frame(first, &body)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_publish_takes_a_wrong_short_cut(bytes in nearly_usual_publish()) {
        check_short_cut(&bytes);
        check_short_cut(&with_long_header(&bytes));
    }

    #[test]
    fn no_changed_sample_takes_a_wrong_short_cut(
        pick in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut sample = pick.get(SAMPLES.as_slice()).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut sample) = byte;
        }
        check_short_cut(&sample);
    }
}

/// Encodes on both ways, into a buffer of that length: the same bytes, or the same error.
fn check_encoding(packet: &Packet<'_>, version: Version, out_len: usize) {
    let (mut usual, mut any) = (vec![0xAA; out_len], vec![0xAA; out_len]);
    let result = packet.encode(version, &mut usual);
    assert_eq!(
        result,
        with_view!(packet, view => encode::encode_any(view, version, &mut any)),
        "{packet:?} in {version}"
    );
    match result {
        Ok(len) => {
            assert_eq!(usual, any, "{packet:?} in {version}");
            assert_eq!(packet.encoded_len(version), Ok(len));
        }
        Err(EncodeError::BufferTooSmall { needed }) => assert_eq!(packet.encoded_len(version), Ok(needed)),
        Err(error) => assert_eq!(packet.encoded_len(version), Err(error)),
    }
}

/// The four acknowledgements that say the same.
fn acks<'a>(packet_id: PacketId, reason: ReasonCode, properties: Properties<'a>) -> [Packet<'a>; 4] {
    [
        Packet::Puback(Puback {
            packet_id,
            reason,
            properties,
        }),
        Packet::Pubrec(Pubrec {
            packet_id,
            reason,
            properties,
        }),
        Packet::Pubrel(Pubrel {
            packet_id,
            reason,
            properties,
        }),
        Packet::Pubcomp(Pubcomp {
            packet_id,
            reason,
            properties,
        }),
    ]
}

#[test]
fn every_acknowledgement_is_encoded_the_same_on_both_ways() {
    let mut with_reason = PropertiesBuf::new(Carrier::Puback);
    with_reason.push(Property::ReasonString("why")).unwrap();
    let mut of_another = PropertiesBuf::new(Carrier::Connect);
    of_another.push(Property::ReceiveMaximum(1)).unwrap();
    for packet_id in [1, 2, 0xFF, 0x100, 0x1234, 0xFFFF].map(|id| PacketId::new(id).unwrap()) {
        for reason in (0..=255).filter_map(ReasonCode::new) {
            for properties in [
                Properties::EMPTY,
                with_reason.as_properties(),
                of_another.as_properties(),
            ] {
                for packet in acks(packet_id, reason, properties) {
                    for (version, out_len) in VERSIONS
                        .into_iter()
                        .flat_map(|v| [0, 3, 4, 5, 30].map(|len| (v, len)))
                    {
                        check_encoding(&packet, version, out_len);
                    }
                }
            }
        }
    }
}

#[test]
fn every_packet_identifier_comes_back() {
    for packet_id in (1..=u16::MAX).filter_map(PacketId::new) {
        for packet in acks(packet_id, ReasonCode::Success, Properties::EMPTY) {
            for version in VERSIONS {
                let mut out = [0; 4];
                assert_eq!(packet.encode(version, &mut out), Ok(4));
                assert_eq!(decode(&out, version), Ok(packet));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_packet_is_encoded_otherwise_on_the_short_cut(
        pick in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        missing in 0_usize..4,
    ) {
        let mut sample = pick.get(SAMPLES.as_slice()).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut sample) = byte;
        }
        for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
            if let Ok(Split::Complete(frame)) = frame::split(&sample, usize::MAX)
                && let Ok(packet) = Packet::decode(frame, from)
            {
                check_encoding(&packet, to, sample.len() - missing.min(sample.len()));
            }
        }
    }
}
