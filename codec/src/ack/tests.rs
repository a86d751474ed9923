use super::*;
use crate::Packet;
use crate::testing::{decode, refusal, sample};

#[test]
fn the_three_lengths_of_5() {
    for (body, reason) in [
        (&[0, 10][..], ReasonCode::Success),
        (&[0, 10, 0x10], ReasonCode::NoMatchingSubscribers),
        (&[0, 10, 0x87, 0], ReasonCode::NotAuthorized),
    ] {
        let bytes = crate::testing::frame(0x40, body);
        let expected = Puback::with_reason(PacketId::new(10).unwrap(), reason);
        assert_eq!(decode(&bytes, Version::V5), Ok(Packet::Puback(expected)));
    }
    let bytes = sample("v5/pubcomp_properties");
    let Ok(Packet::Pubcomp(pubcomp)) = decode(&bytes, Version::V5) else {
        panic!()
    };
    assert_eq!(pubcomp.reason, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(pubcomp.properties.reason_string(), Some("no"));
}

// v5 [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
#[test]
fn each_packet_has_its_reason_codes() {
    for code in 0..=255 {
        for (first, allowed) in [
            (0x40, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99][..]),
            (0x50, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
            (0x62, &[0x00, 0x92]),
            (0x70, &[0x00, 0x92]),
        ] {
            let bytes = crate::testing::frame(first, &[0, 1, code]);
            let decoded = decode(&bytes, Version::V5);
            assert_eq!(decoded.is_ok(), allowed.contains(&code), "{first:#x} {code:#x}");
            if decoded.is_err() {
                assert_eq!(decoded, Err(DecodeError::ReasonCodeInvalid(code)));
            }
        }
    }
}

#[test]
fn no_reason_in_311() {
    assert_eq!(
        refusal(0x40, &[0, 1, 0], Version::V311),
        DecodeError::TrailingBytes
    );
    let id = PacketId::MIN;
    // It says nothing that 3.1.1 does not say by the packet itself.
    assert_eq!(
        Puback::with_reason(id, ReasonCode::NoMatchingSubscribers).encoded_len(Version::V311),
        Ok(4)
    );
    // An error would become a success.
    assert_eq!(
        Puback::with_reason(id, ReasonCode::NotAuthorized).encoded_len(Version::V311),
        Err(EncodeError::NotInVersion(Version::V311))
    );
    assert_eq!(
        Pubrel::with_reason(id, ReasonCode::NotAuthorized).encoded_len(Version::V5),
        Err(EncodeError::Refused(DecodeError::ReasonCodeInvalid(0x87)))
    );
}
