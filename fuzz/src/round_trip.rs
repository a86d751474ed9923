//! Packets as an application builds them, encoded and decoded again.

use fleetwire_codec::frame::Split;
use fleetwire_codec::{
    Auth, Carrier, Connack, Connect, Disconnect, EncodeError, Packet, Properties, Puback, Pubcomp, Publish,
    Pubrec, Pubrel, ReasonCode, Suback, Subscribe, Unsuback, Unsubscribe, Version, Will,
};

use super::build;
use super::frame::split;
use super::input::Input;
use super::naive::{self, Body};
use super::packet::{checked, version_of, with_header};

/// Whatever is built: it is encoded just if decoding would take it, to the bytes that the specification describes,
/// and decodes to the same packet.
pub fn round_trip(input: &[u8]) {
    let mut input = Input(input);
    let version = version_of(input.byte());
    match input.byte() % 15 {
        0 => connect(&mut input, version),
        1 => connack(&mut input, version),
        2 => publish(&mut input, version),
        3 => ack(
            &mut input,
            version,
            0x40,
            Carrier::Puback,
            |packet_id, reason, properties| {
                Puback {
                    packet_id,
                    reason,
                    properties,
                }
                .into()
            },
        ),
        4 => ack(
            &mut input,
            version,
            0x50,
            Carrier::Pubrec,
            |packet_id, reason, properties| {
                Pubrec {
                    packet_id,
                    reason,
                    properties,
                }
                .into()
            },
        ),
        5 => ack(
            &mut input,
            version,
            0x62,
            Carrier::Pubrel,
            |packet_id, reason, properties| {
                Pubrel {
                    packet_id,
                    reason,
                    properties,
                }
                .into()
            },
        ),
        6 => ack(
            &mut input,
            version,
            0x70,
            Carrier::Pubcomp,
            |packet_id, reason, properties| {
                Pubcomp {
                    packet_id,
                    reason,
                    properties,
                }
                .into()
            },
        ),
        7 => subscribe(&mut input, version),
        8 => suback(&mut input, version),
        9 => unsubscribe(&mut input, version),
        10 => unsuback(&mut input, version),
        11 => check(Packet::Pingreq, version, 0xC0, Some(Vec::new())),
        12 => check(Packet::Pingresp, version, 0xD0, Some(Vec::new())),
        13 => disconnect(&mut input, version),
        _ => auth(&mut input, version),
    }
}

fn connect(input: &mut Input<'_>, version: Version) {
    let flags = input.byte();
    let properties = build::properties(input, Carrier::Connect);
    let will_properties = build::properties(input, Carrier::Will);
    let packet = Connect {
        version,
        clean_start: flags & 1 != 0,
        keep_alive_secs: input.u16(),
        client_id: input.text(),
        will: (flags & 2 != 0).then(|| Will {
            topic: build::topic(input),
            payload: input.binary(),
            qos: build::qos(input),
            retain: flags & 4 != 0,
            properties: will_properties.as_properties(),
        }),
        username: (flags & 8 != 0).then(|| input.text()),
        password: (flags & 16 != 0).then(|| input.binary()),
        properties: properties.as_properties(),
    };
    check(packet.into(), version, 0x10, naive::connect(&packet));
}

fn connack(input: &mut Input<'_>, version: Version) {
    let properties = build::properties(input, Carrier::Connack);
    let packet = Connack {
        session_present: input.bool(),
        code: input.byte(),
        properties: properties.as_properties(),
    };
    let body = Body::new()
        .put(&[u8::from(packet.session_present), packet.code])
        .properties(packet.properties, version);
    check(packet.into(), version, 0x20, body.into_bytes());
}

fn publish(input: &mut Input<'_>, version: Version) {
    let properties = build::properties(input, Carrier::Publish);
    let flags = input.byte();
    let packet = Publish {
        dup: flags & 1 != 0,
        qos: build::qos(input),
        retain: flags & 2 != 0,
        topic: build::topic(input),
        packet_id: (flags & 4 != 0).then(|| build::packet_id(input)),
        properties: properties.as_properties(),
        payload: input.0,
    };
    let first = 0x30 | u8::from(packet.dup) << 3 | (packet.qos as u8) << 1 | u8::from(packet.retain);
    let mut body = Body::new().field(packet.topic.as_bytes());
    if let Some(packet_id) = packet.packet_id {
        body = body.id(packet_id.value());
    }
    let body = body.properties(packet.properties, version).put(packet.payload);
    // Bytes that lack the identifier, or have one too many, say something else.
    let expressible = packet.packet_id.is_some() == (packet.qos as u8 > 0);
    check(
        packet.into(),
        version,
        first,
        body.into_bytes().filter(|_| expressible),
    );

    let mut whole = vec![0; packet.encoded_len(version).unwrap_or(0)];
    let mut header = vec![0; packet.header_len(version).unwrap_or(0)];
    let encoded = packet.encode(version, &mut whole);
    assert_eq!(
        packet.encode_header(version, &mut header),
        encoded.map(|len| len - packet.payload.len())
    );
    if encoded.is_ok() {
        header.extend_from_slice(packet.payload);
        assert_eq!(header, whole);
    }
}

fn ack(
    input: &mut Input<'_>,
    version: Version,
    first: u8,
    carrier: Carrier,
    packet: impl for<'a> Fn(fleetwire_codec::PacketId, ReasonCode, Properties<'a>) -> Packet<'a>,
) {
    let (packet_id, reason) = (build::packet_id(input), build::reason(input));
    let properties = build::properties(input, carrier);
    let properties = properties.as_properties();
    let body = Body::new()
        .id(packet_id.value())
        .outcome(reason, properties, version);
    let packet = packet(packet_id, reason, properties);
    // 3.1.1 cannot say that something failed, nor what another packet says.
    let allowed = reason.is_allowed_in(packet.packet_type());
    let expressible = version == Version::V5 || (allowed && !reason.is_error());
    check(packet, version, first, body.into_bytes().filter(|_| expressible));
}

fn subscribe(input: &mut Input<'_>, version: Version) {
    let packet_id = build::packet_id(input);
    let properties = build::properties(input, Carrier::Subscribe);
    let (filters, list) = build::filters(input);
    let packet = Subscribe {
        packet_id,
        properties: properties.as_properties(),
        filters: filters.as_filters(),
    };
    let body = Body::new()
        .id(packet_id.value())
        .properties(packet.properties, version)
        .put(&list);
    check(packet.into(), version, 0x82, body.into_bytes());
}

fn suback(input: &mut Input<'_>, version: Version) {
    let packet_id = build::packet_id(input);
    let properties = build::properties(input, Carrier::Suback);
    let packet = Suback {
        packet_id,
        properties: properties.as_properties(),
        codes: input.binary(),
    };
    let body = Body::new()
        .id(packet_id.value())
        .properties(packet.properties, version)
        .put(packet.codes);
    check(packet.into(), version, 0x90, body.into_bytes());
}

fn unsubscribe(input: &mut Input<'_>, version: Version) {
    let packet_id = build::packet_id(input);
    let properties = build::properties(input, Carrier::Unsubscribe);
    let (filters, list) = build::unsubscribe_filters(input);
    let packet = Unsubscribe {
        packet_id,
        properties: properties.as_properties(),
        filters: filters.as_filters(),
    };
    let body = Body::new()
        .id(packet_id.value())
        .properties(packet.properties, version)
        .put(&list);
    check(packet.into(), version, 0xA2, body.into_bytes());
}

fn unsuback(input: &mut Input<'_>, version: Version) {
    let packet_id = build::packet_id(input);
    let properties = build::properties(input, Carrier::Unsuback);
    let packet = Unsuback {
        packet_id,
        properties: properties.as_properties(),
        codes: input.binary(),
    };
    let codes = if version == Version::V5 { packet.codes } else { &[] };
    let body = Body::new()
        .id(packet_id.value())
        .properties(packet.properties, version)
        .put(codes);
    check(packet.into(), version, 0xB0, body.into_bytes());
}

fn disconnect(input: &mut Input<'_>, version: Version) {
    let reason = build::reason(input);
    let properties = build::properties(input, Carrier::Disconnect);
    let properties = properties.as_properties();
    let body = Body::new().outcome(reason, properties, version);
    let expressible = version == Version::V5 || reason == ReasonCode::NORMAL_DISCONNECTION;
    let packet = Disconnect { reason, properties };
    check(
        packet.into(),
        version,
        0xE0,
        body.into_bytes().filter(|_| expressible),
    );
}

fn auth(input: &mut Input<'_>, version: Version) {
    let reason = build::reason(input);
    let properties = build::properties(input, Carrier::Auth);
    let properties = properties.as_properties();
    let body = Body::new().outcome(reason, properties, version);
    let expressible = version == Version::V5;
    let packet = Auth { reason, properties };
    check(
        packet.into(),
        version,
        0xF0,
        body.into_bytes().filter(|_| expressible),
    );
}

/// `body` is what a packet without a single check would have for its body, `None` if it cannot be said at all.
fn check(packet: Packet<'_>, version: Version, first: u8, body: Option<Vec<u8>>) {
    let Some(body) = body else {
        let refusal = packet.encoded_len(version).expect_err("it cannot be said");
        assert!(!matches!(
            refusal,
            EncodeError::TooLarge | EncodeError::BufferTooSmall { .. }
        ));
        return;
    };
    let naive = with_header(first, &body);
    // Flags may be wrong in a way that the fixed header shows.
    let frame = match split(&naive, usize::MAX) {
        Ok(Split::Complete(frame)) => Ok(frame),
        Ok(Split::Partial { .. }) => panic!("the header counts too many bytes"),
        Err(error) => Err(error),
    };
    let decoded = frame.and_then(|frame| Packet::decode(frame, version));
    match packet.encoded_len(version) {
        Ok(len) => {
            let mut bytes = vec![0; len];
            assert_eq!(packet.encode(version, &mut bytes), Ok(len));
            assert_eq!(bytes, naive, "{packet:?}");
            assert_eq!(decoded, Ok(said(packet, version)));
            checked(frame.expect("it was decoded"), version);
        }
        Err(EncodeError::Refused(error)) => {
            assert!(
                decoded.is_err(),
                "{packet:?} is accepted, but not encoded: {error}"
            );
            let refused = packet.encode(version, &mut [0; 1024]);
            assert_eq!(refused, Err(EncodeError::Refused(error)));
        }
        Err(error) => panic!("{packet:?} can be said: {error}"),
    }
}

/// What is left of a packet in its version: 3.1.1 has no properties, and neither reasons nor codes in some packets.
fn said(packet: Packet<'_>, version: Version) -> Packet<'_> {
    if version == Version::V5 {
        return packet;
    }
    let properties = Properties::EMPTY;
    let reason = ReasonCode::Success;
    match packet {
        Packet::Connect(packet) => Connect {
            properties,
            will: packet.will.map(|will| Will { properties, ..will }),
            ..packet
        }
        .into(),
        Packet::Connack(packet) => Connack { properties, ..packet }.into(),
        Packet::Publish(packet) => Publish { properties, ..packet }.into(),
        Packet::Puback(packet) => Puback {
            properties,
            reason,
            ..packet
        }
        .into(),
        Packet::Pubrec(packet) => Pubrec {
            properties,
            reason,
            ..packet
        }
        .into(),
        Packet::Pubrel(packet) => Pubrel {
            properties,
            reason,
            ..packet
        }
        .into(),
        Packet::Pubcomp(packet) => Pubcomp {
            properties,
            reason,
            ..packet
        }
        .into(),
        Packet::Subscribe(packet) => Subscribe { properties, ..packet }.into(),
        Packet::Suback(packet) => Suback { properties, ..packet }.into(),
        Packet::Unsubscribe(packet) => Unsubscribe { properties, ..packet }.into(),
        Packet::Unsuback(packet) => Unsuback {
            properties,
            codes: &[],
            ..packet
        }
        .into(),
        Packet::Disconnect(packet) => Disconnect { properties, ..packet }.into(),
        Packet::Pingreq | Packet::Pingresp | Packet::Auth(_) => packet,
    }
}
