//! QoS 2, in both directions and both versions.

use fleetwire_codec::{Pubcomp, Pubrec, Pubrel};

use super::*;

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// A client that is connected, with these properties of its CONNECT and of the CONNACK.
fn client(version: Version, asked: &[Property<'_>], told: &[Property<'_>]) -> Session {
    let now = Instant::now();
    let (mut own, mut peers) = (
        PropertiesBuf::new(Carrier::Connect),
        PropertiesBuf::new(Carrier::Connack),
    );
    asked.iter().for_each(|property| own.push(*property).unwrap());
    told.iter().for_each(|property| peers.push(*property).unwrap());
    let connect = Connect {
        properties: own.as_properties(),
        ..connect(version, 0)
    };
    let mut session = Session::client(&connect, None, now);
    let connack = Connack::accepted(false).with_properties(peers.as_properties());
    handle(&mut session, Packet::Connack(connack)).unwrap();
    session
}

fn handle<'a>(session: &mut Session, packet: Packet<'a>) -> Result<Meaning<'a>, Violation> {
    session.handle(Instant::now(), packet, &Limits::default())
}

/// What the session answers with.
fn answer(session: &mut Session, packet: Packet<'_>) -> Packet<'static> {
    match handle(session, packet) {
        Ok(Meaning::Answer(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// Publishes at QoS 2, with a token that is the identifier.
fn begin(session: &mut Session) -> PacketId {
    let publish = session.prepare_publish(&publish(QoS::ExactlyOnce)).unwrap();
    // v5 [MQTT-4.3.3-2], v3.1.1 [MQTT-4.3.3-1].
    assert!(!publish.dup && publish.packet_id.is_some());
    session
        .begin(Entry {
            kind: Kind::ExactlyOnce,
            ..entry(Instant::now())
        })
        .unwrap()
}

fn incoming(packet_id: u16, dup: bool) -> Packet<'static> {
    Packet::Publish(Publish {
        dup,
        qos: QoS::ExactlyOnce,
        packet_id: Some(id(packet_id)),
        ..Publish::new(TopicName::new("a").unwrap(), b"")
    })
}

#[test]
fn a_publish_goes_through_its_four_packets_and_ends_once() {
    // v5 [MQTT-4.3.3-3] to [MQTT-4.3.3-5], v3.1.1 [MQTT-4.3.3-1].
    for version in [Version::V311, Version::V5] {
        let mut session = client(version, &[], &[]);
        let packet_id = begin(&mut session);
        let pubrec = Packet::Pubrec(Pubrec::new(packet_id));
        let pubrel = Packet::Pubrel(Pubrel::new(packet_id));
        assert_eq!(answer(&mut session, pubrec), pubrel);
        assert_eq!(session.in_flight_publishes(), 1, "PUBREC does not end it");
        // A second PUBREC gets a second PUBREL, and changes nothing.
        assert_eq!(answer(&mut session, pubrec), pubrel);
        let pubcomp = Packet::Pubcomp(Pubcomp::new(packet_id));
        assert!(matches!(handle(&mut session, pubcomp), Ok(Meaning::Acked(ack)) if ack.token == 7));
        assert!(
            matches!(handle(&mut session, pubcomp), Ok(Meaning::Nothing)),
            "acked twice"
        );
        assert_eq!(session.in_flight_publishes(), 0);
    }
}

#[test]
fn a_refusing_pubrec_ends_it_and_frees_its_identifier() {
    // v5 [MQTT-4.3.3-9], [MQTT-4.4.0-2].
    let mut session = client(Version::V5, &[], &[]);
    let packet_id = begin(&mut session);
    let pubrec = Packet::Pubrec(Pubrec::with_reason(packet_id, ReasonCode::QuotaExceeded));
    let Ok(Meaning::Refused(ack)) = handle(&mut session, pubrec) else {
        panic!("not refused")
    };
    assert_eq!((ack.token, ack.reason), (7, ReasonCode::QuotaExceeded));
    assert!(matches!(handle(&mut session, pubrec), Ok(Meaning::Nothing)));
    assert_eq!(begin(&mut session), packet_id);
}

#[test]
fn a_pubcomp_that_knows_nothing_any_more_is_no_refusal() {
    let mut session = client(Version::V5, &[], &[]);
    let packet_id = begin(&mut session);
    handle(&mut session, Packet::Pubrec(Pubrec::new(packet_id))).unwrap();
    let pubcomp = Pubcomp::with_reason(packet_id, ReasonCode::PacketIdentifierNotFound);
    assert!(matches!(
        handle(&mut session, Packet::Pubcomp(pubcomp)),
        Ok(Meaning::Acked(_))
    ));
}

#[test]
fn what_nothing_stands_for_is_answered_so_that_it_ends() {
    let (unknown, not_found) = (id(9), ReasonCode::PacketIdentifierNotFound);
    for (version, reason) in [(Version::V311, ReasonCode::Success), (Version::V5, not_found)] {
        let mut session = client(version, &[], &[]);
        assert_eq!(
            answer(&mut session, Packet::Pubrec(Pubrec::new(unknown))),
            Packet::Pubrel(Pubrel::with_reason(unknown, reason))
        );
        assert_eq!(
            answer(&mut session, Packet::Pubrel(Pubrel::new(unknown))),
            Packet::Pubcomp(Pubcomp::with_reason(unknown, reason))
        );
    }
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_violation() {
    let mut session = client(Version::V5, &[], &[]);
    let (twice, once) = (begin(&mut session), session.begin(entry(Instant::now())).unwrap());
    for packet in [
        Packet::Puback(Puback::new(twice)),
        Packet::Pubcomp(Pubcomp::new(twice)),
        Packet::Pubrec(Pubrec::new(once)),
        Packet::Pubcomp(Pubcomp::new(once)),
    ] {
        let violation = handle(&mut session, packet).unwrap_err();
        assert_eq!(violation.reason, ReasonCode::ProtocolError, "{packet:?}");
    }
    assert_eq!(session.in_flight_publishes(), 2);
}

#[test]
fn a_message_is_delivered_once_however_often_it_comes() {
    // v5 [MQTT-4.3.3-8] to [MQTT-4.3.3-12], v3.1.1 [MQTT-4.3.3-2].
    for version in [Version::V311, Version::V5] {
        let mut session = client(version, &[], &[]);
        let pubrec = Packet::Pubrec(Pubrec::new(id(5)));
        assert!(matches!(
            handle(&mut session, incoming(5, false)),
            Ok(Meaning::Message(_))
        ));
        for dup in [true, false] {
            assert_eq!(answer(&mut session, incoming(5, dup)), pubrec);
        }
        let pubcomp = Packet::Pubcomp(Pubcomp::new(id(5)));
        assert_eq!(answer(&mut session, Packet::Pubrel(Pubrel::new(id(5)))), pubcomp);
        // After it the identifier is a new message's.
        assert!(matches!(
            handle(&mut session, incoming(5, false)),
            Ok(Meaning::Message(_))
        ));
    }
}

#[test]
fn a_peer_is_held_to_the_receive_maximum_that_it_was_told() {
    // v5 [MQTT-3.3.4-9], section 3.3.4.
    let mut session = client(Version::V5, &[Property::ReceiveMaximum(2)], &[]);
    for packet_id in [1, 2] {
        handle(&mut session, incoming(packet_id, false)).unwrap();
    }
    assert!(
        handle(&mut session, incoming(2, true)).is_ok(),
        "a second copy does not count"
    );
    let once = Packet::Publish(Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(3)),
        ..Publish::new(TopicName::new("a").unwrap(), b"")
    });
    for packet in [incoming(3, false), once] {
        let violation = handle(&mut session, packet).unwrap_err();
        assert_eq!(violation.reason, ReasonCode::ReceiveMaximumExceeded);
    }
    answer(&mut session, Packet::Pubrel(Pubrel::new(id(1))));
    assert!(matches!(handle(&mut session, once), Ok(Meaning::Message(_))));
    assert!(matches!(
        handle(&mut session, incoming(3, false)),
        Ok(Meaning::Message(_))
    ));
}

#[test]
fn the_window_counts_both_qualities_until_their_last_acknowledgement() {
    // v5 [MQTT-3.3.4-7], [MQTT-4.9.0-2].
    let mut session = client(Version::V5, &[], &[Property::ReceiveMaximum(2)]);
    let twice = begin(&mut session);
    session.begin(entry(Instant::now())).unwrap();
    let full = |session: &Session| {
        session.prepare_publish(&publish(QoS::ExactlyOnce)).err() == Some(PublishError::Full)
            && session.prepare_publish(&publish(QoS::AtLeastOnce)).err() == Some(PublishError::Full)
    };
    assert!(full(&session));
    handle(&mut session, Packet::Pubrec(Pubrec::new(twice))).unwrap();
    assert!(full(&session), "PUBREC gives no room");
    handle(&mut session, Packet::Pubcomp(Pubcomp::new(twice))).unwrap();
    assert!(!full(&session));
}

#[test]
fn a_maximum_qos_binds_both_sides() {
    // v5 [MQTT-3.2.2-11].
    let told = [Property::MaximumQoS(QoS::AtLeastOnce)];
    let session = client(Version::V5, &[], &told);
    assert_eq!(
        session.prepare_publish(&publish(QoS::ExactlyOnce)).unwrap_err(),
        PublishError::Refused
    );
    let mut server = Session::server(Instant::now());
    handle(&mut server, Packet::Connect(connect(Version::V5, 0))).unwrap();
    let mut connack = PropertiesBuf::new(Carrier::Connack);
    connack.push(told[0]).unwrap();
    server.accepted(&connack.as_properties(), 0);
    let violation = handle(&mut server, incoming(1, false)).unwrap_err();
    assert_eq!(
        (violation.reason, violation.clause),
        (ReasonCode::QoSNotSupported, "v5 [MQTT-3.2.2-11]")
    );
}

#[test]
fn the_ack_deadline_counts_from_the_publish_to_the_pubcomp() {
    let (limits, start) = (Limits::default(), Instant::now());
    let secs = Duration::from_secs;
    let mut session = client(Version::V5, &[], &[]);
    let packet_id = session
        .begin(Entry {
            kind: Kind::ExactlyOnce,
            ..entry(start)
        })
        .unwrap();
    handle(&mut session, Packet::Pubrec(Pubrec::new(packet_id))).unwrap();
    assert_eq!(
        session.handle_timeout(start + secs(10), &limits),
        Some(Expired::AcksLate { oldest: secs(10) })
    );
    assert_eq!(session.pop_dropped().unwrap().kind, Kind::Released);
}
