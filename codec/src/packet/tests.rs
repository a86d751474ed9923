use proptest::prelude::*;

use super::*;
use crate::frame::{self, Measure, Split};
use crate::testing::{decode, encoded, frame, refusal, sample, samples};
use crate::{QoS, ReasonCode};

mod short_cut;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn samples_decode_and_encode_to_the_same_bytes() {
    for sample in samples() {
        let packet = decode(&sample.bytes, sample.version).unwrap_or_else(|e| panic!("{}: {e}", sample.name));
        assert_eq!(
            packet.encoded_len(sample.version),
            Ok(sample.bytes.len()),
            "{}",
            sample.name
        );
        assert_eq!(encoded(&packet, sample.version), sample.bytes, "{}", sample.name);
        assert_eq!(
            Some(packet.packet_type()),
            PacketType::from_first_byte(sample.bytes[0])
        );
    }
}

#[test]
fn samples_cover_every_packet_of_each_version() {
    for (version, first_bytes) in [(Version::V311, 1..=14), (Version::V5, 1..=15)] {
        for packet_type in first_bytes {
            assert!(
                samples()
                    .iter()
                    .any(|s| s.version == version && s.bytes[0] >> 4 == packet_type),
                "no sample of type {packet_type} for {version}"
            );
        }
    }
}

#[test]
fn every_prefix_is_partial_and_asks_for_what_is_missing() {
    for sample in samples() {
        let len = sample.bytes.len();
        for cut in 0..len {
            let prefix = &sample.bytes[..cut];
            let Ok(Split::Partial { missing }) = frame::split(prefix, len) else {
                panic!("{} cut at {cut} is not partial", sample.name)
            };
            assert!(
                missing > 0 && cut + missing <= len,
                "{} cut at {cut}",
                sample.name
            );
            let Ok(Measure::Partial {
                missing: same,
                declared,
            }) = frame::measure(prefix, len)
            else {
                panic!("{} cut at {cut} is not partial", sample.name)
            };
            assert_eq!(missing, same);
            if let Some(declared) = declared {
                assert_eq!(
                    (declared, missing),
                    (len, len - cut),
                    "{} cut at {cut}",
                    sample.name
                );
            }
        }
        // Bytes of a next packet behind it change nothing.
        let mut more = sample.bytes.clone();
        more.extend_from_slice(&sample.bytes);
        assert_eq!(frame::measure(&more, len), Ok(Measure::Whole(len)));
        let Ok(Split::Complete(whole)) = frame::split(&more, len) else {
            panic!("not whole")
        };
        let Ok(Split::Complete(alone)) = frame::split(&sample.bytes, len) else {
            panic!("not whole")
        };
        assert_eq!(whole, alone);
    }
}

#[test]
fn a_body_cut_short_is_refused_or_says_something_shorter() {
    for sample in samples() {
        let header_len = sample
            .bytes
            .iter()
            .skip(1)
            .take_while(|byte| **byte >= 0x80)
            .count()
            + 2;
        let body = &sample.bytes[header_len..];
        for cut in 0..body.len() {
            let bytes = frame(sample.bytes[0], &body[..cut]);
            if let Ok(packet) = decode(&bytes, sample.version) {
                assert!(
                    encoded(&packet, sample.version).len() <= bytes.len(),
                    "{} cut at {cut}",
                    sample.name
                );
            }
        }
    }
}

#[test]
fn bytes_behind_the_last_field_are_refused() {
    for sample in samples() {
        let first = sample.bytes[0];
        // What ends PUBLISH and the lists of codes and filters may be longer.
        if matches!(first >> 4, 3 | 8 | 9 | 10) || (first >> 4 == 11 && sample.version == Version::V5) {
            continue;
        }
        let header_len = sample
            .bytes
            .iter()
            .skip(1)
            .take_while(|byte| **byte >= 0x80)
            .count()
            + 2;
        let mut body = sample.bytes[header_len..].to_vec();
        // Packets of 5.0 may end before the reason code and before the properties.
        if decode(&sample.bytes, sample.version).is_ok_and(|packet| ends_early(&packet, &body)) {
            continue;
        }
        body.push(0);
        assert_eq!(
            refusal(first, &body, sample.version),
            DecodeError::TrailingBytes,
            "{}",
            sample.name
        );
    }
}

fn ends_early(packet: &Packet<'_>, body: &[u8]) -> bool {
    match packet {
        Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) => body.len() <= 3,
        Packet::Disconnect(_) | Packet::Auth(_) => body.len() <= 1,
        _ => false,
    }
}

#[test]
fn buffer_one_byte_too_small() {
    for sample in samples() {
        let packet = decode(&sample.bytes, sample.version).unwrap();
        let needed = sample.bytes.len();
        let mut out = vec![0; needed - 1];
        assert_eq!(
            packet.encode(sample.version, &mut out),
            Err(EncodeError::BufferTooSmall { needed })
        );
        let mut out = vec![0xAA; needed + 3];
        assert_eq!(packet.encode(sample.version, &mut out), Ok(needed));
        assert_eq!(out[needed..], [0xAA; 3], "{}", sample.name);
    }
}

// v5 [MQTT-2.1.3-1], v3.1.1 [MQTT-2.2.2-2]
#[test]
fn flags_of_the_fixed_header() {
    for sample in samples() {
        let first = sample.bytes[0];
        if first >> 4 == PacketType::Publish as u8 {
            continue;
        }
        for flags in 0..16 {
            let mut bytes = sample.bytes.clone();
            bytes[0] = first & 0xF0 | flags;
            if bytes[0] != first {
                assert_eq!(decode(&bytes, sample.version), Err(DecodeError::FixedHeaderFlags));
            }
        }
    }
}

// v5 [MQTT-1.5.5-1]; 3.1.1 does not forbid it.
#[test]
fn remaining_length_not_in_its_shortest_form() {
    let bytes = [0xC0, 0x80, 0x00];
    assert_eq!(
        decode(&bytes, Version::V5),
        Err(DecodeError::VariableByteIntegerNotMinimal)
    );
    assert_eq!(decode(&bytes, Version::V311), Ok(Packet::Pingreq));
    for name in ["connect_minimal", "connect_full"] {
        for (folder, version) in [("v311", Version::V311), ("v5", Version::V5)] {
            let bytes = sample(&format!("{folder}/{name}"));
            let longer = with_long_header(&bytes);
            // The version that counts is the one inside.
            for other in VERSIONS {
                let error = decode(&longer, other).err();
                let expected = DecodeError::VariableByteIntegerNotMinimal;
                assert_eq!(error, (version == Version::V5).then_some(expected));
            }
        }
    }
}

#[test]
fn auth_is_reserved_in_311() {
    assert_eq!(refusal(0xF0, &[], Version::V311), DecodeError::PacketTypeReserved);
    let auth = Packet::Auth(Auth {
        reason: ReasonCode::Success,
        properties: crate::Properties::EMPTY,
    });
    assert_eq!(
        auth.encoded_len(Version::V311),
        Err(EncodeError::NotInVersion(Version::V311))
    );
}

// v5 [MQTT-2.2.1-3], v3.1.1 [MQTT-2.3.1-1]
#[test]
fn packet_identifier_zero() {
    for version in VERSIONS {
        for first in [0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0] {
            assert_eq!(
                refusal(first, &[0, 0, 0, 0, 1, b'a', 0], version),
                DecodeError::PacketIdZero
            );
        }
        assert_eq!(
            refusal(0x32, &[0, 1, b'a', 0, 0, 0], version),
            DecodeError::PacketIdZero
        );
    }
}

#[test]
fn a_packet_of_5_is_encoded_for_311_without_what_it_lacks() {
    let bytes = sample("v5/publish_all_properties");
    let packet = decode(&bytes, Version::V5).unwrap();
    let old = encoded(&packet, Version::V311);
    let Ok(Packet::Publish(publish)) = decode(&old, Version::V311) else {
        panic!("no PUBLISH")
    };
    assert_eq!(publish.topic, "fleet/device-0042/telemetry/temp");
    assert_eq!((publish.qos, publish.payload), (QoS::AtLeastOnce, &b"21.5"[..]));
    assert!(publish.properties.is_empty());
}

/// A packet that was accepted is encoded to one that means the same, and the second encoding is stable.
fn check_round_trip(bytes: &[u8], version: Version) {
    let Ok(Split::Complete(frame)) = frame::split(bytes, usize::MAX) else {
        return;
    };
    let Ok(packet) = Packet::decode(frame, version) else {
        return;
    };
    // It must also be possible to look at all of it.
    let _ = format!("{packet:?}");
    let again = encoded(&packet, version);
    assert!(again.len() <= frame.len());
    assert_eq!(decode(&again, version), Ok(packet));
    assert_eq!(encoded(&decode(&again, version).unwrap(), version), again);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for version in VERSIONS {
            check_round_trip(&bytes, version);
        }
    }

    #[test]
    fn any_body(first in 0x10_u8.., body in proptest::collection::vec(0_u8..0x30, 0..40)) {
        for version in VERSIONS {
            check_round_trip(&frame(first, &body), version);
        }
    }

    #[test]
    fn any_change_of_a_sample(
        pick in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut sample = pick.get(SAMPLES.as_slice()).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut sample) = byte;
        }
        for version in VERSIONS {
            check_round_trip(&sample, version);
        }
    }
}

static SAMPLES: std::sync::LazyLock<Vec<Vec<u8>>> =
    std::sync::LazyLock::new(|| samples().into_iter().map(|sample| sample.bytes).collect());

/// The same frame with a byte in its remaining length that says nothing.
fn with_long_header(bytes: &[u8]) -> Vec<u8> {
    let header_len = bytes.iter().skip(1).take_while(|byte| **byte >= 0x80).count() + 2;
    let mut longer = bytes[..header_len].to_vec();
    *longer.last_mut().unwrap() |= 0x80;
    longer.push(0);
    longer.extend_from_slice(&bytes[header_len..]);
    longer
}
