use fleetwire_codec::{Carrier, Connack, Disconnect, PropertiesBuf, Property, Puback, TopicName};

use super::*;

mod exactly_once;
mod held;
mod limits;
mod resuming;

fn connect(version: Version, keep_alive_secs: u16) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive_secs,
        client_id: "a",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

fn up(now: Instant, keep_alive_secs: u16) -> Session {
    let mut session = Session::client(&connect(Version::V5, keep_alive_secs), None, now);
    let connack = Packet::Connack(Connack::accepted(false));
    assert!(matches!(
        session.handle(now, connack, &Limits::default()),
        Ok(Meaning::Connack(_))
    ));
    session
}

fn entry(now: Instant) -> Entry {
    Entry {
        kind: Kind::AtLeastOnce,
        token: 7,
        intended: now,
        sent: now,
        kept: None,
        waits: false,
    }
}

fn publish<'a>(qos: QoS) -> crate::Publish<'a> {
    crate::Publish::new(TopicName::new("a/b").unwrap(), b"1").qos(qos)
}

#[test]
fn nothing_is_published_before_the_connack() {
    let session = Session::client(&connect(Version::V5, 60), None, Instant::now());
    assert_eq!(
        session.prepare_publish(&publish(QoS::AtMostOnce)).unwrap_err(),
        PublishError::Offline
    );
}

#[test]
fn the_first_packet_must_be_connack() {
    // v5 [MQTT-3.2.0-1].
    let now = Instant::now();
    let mut session = Session::client(&connect(Version::V5, 60), None, now);
    let violation = session
        .handle(now, Packet::Pingresp, &Limits::default())
        .unwrap_err();
    assert_eq!(
        (violation.reason, violation.clause),
        (ReasonCode::ProtocolError, "v5 [MQTT-3.2.0-1]")
    );
}

#[test]
fn a_session_that_nobody_asked_for_is_refused() {
    // v5 [MQTT-3.2.2-4].
    let now = Instant::now();
    let mut session = Session::client(&connect(Version::V5, 60), None, now);
    let connack = Packet::Connack(Connack::accepted(true));
    assert_eq!(
        session
            .handle(now, connack, &Limits::default())
            .unwrap_err()
            .clause,
        "v5 [MQTT-3.2.2-4]"
    );
    assert!(!session.is_up());
}

#[test]
fn the_window_is_the_smaller_of_receive_maximum_and_ours() {
    let now = Instant::now();
    let mut session = up(now, 60);
    for _ in 0..Limits::default().in_flight_max {
        session.prepare_publish(&publish(QoS::AtLeastOnce)).unwrap();
        session.begin(entry(now)).unwrap();
    }
    assert_eq!(
        session.prepare_publish(&publish(QoS::AtLeastOnce)).unwrap_err(),
        PublishError::Full
    );
    session.prepare_publish(&publish(QoS::AtMostOnce)).unwrap();
    let puback = Packet::Puback(Puback::new(PacketId::MIN));
    let Ok(Meaning::Acked(ack)) = session.handle(now, puback, &Limits::default()) else {
        panic!("not acked")
    };
    assert_eq!(ack.token, 7);
    assert!(
        matches!(
            session.handle(now, puback, &Limits::default()),
            Ok(Meaning::Nothing)
        ),
        "acked twice"
    );
    session.prepare_publish(&publish(QoS::AtLeastOnce)).unwrap();
}

#[test]
fn a_ping_goes_out_only_after_silence_and_its_answer_is_awaited() {
    let limits = Limits::default();
    let start = Instant::now();
    let secs = Duration::from_secs;
    let mut session = up(start, 10);
    assert_eq!(session.deadline(&limits), Some(start + secs(10)));
    session.sent(start + secs(7));
    assert_eq!(
        session.handle_timeout(start + secs(10), &limits),
        None,
        "traffic re-arms"
    );
    assert_eq!(
        session.handle_timeout(start + secs(17), &limits),
        Some(Expired::SendPing)
    );
    session.ping_sent(start + secs(17));
    assert_eq!(session.handle_timeout(start + secs(26), &limits), None);
    // Anything that is received shows that the peer lives.
    let message = Packet::Publish(Publish::new(TopicName::new("a").unwrap(), b""));
    session.handle(start + secs(26), message, &limits).unwrap();
    assert_eq!(session.handle_timeout(start + secs(27), &limits), None);
    assert_eq!(
        session.handle_timeout(start + secs(36), &limits),
        Some(Expired::PeerSilent)
    );
    session
        .handle(start + secs(36), Packet::Pingresp, &limits)
        .unwrap();
    assert_eq!(
        session.handle_timeout(start + secs(36), &limits),
        Some(Expired::SendPing)
    );
}

#[test]
fn a_server_closes_after_one_and_a_half_keep_alives_of_silence() {
    // v5 [MQTT-3.1.2-22].
    let limits = Limits::default();
    let start = Instant::now();
    let mut session = Session::server(start);
    let connect = connect(Version::V311, 10);
    assert!(matches!(
        session.handle(start, Packet::Connect(connect), &limits),
        Ok(Meaning::Connect(_))
    ));
    assert_eq!(
        (session.state(), session.version()),
        (State::Deciding, Version::V311)
    );
    session.accepted(&Properties::EMPTY, 10);
    assert_eq!(session.deadline(&limits), Some(start + Duration::from_secs(15)));
    assert_eq!(
        session.handle_timeout(start + Duration::from_millis(14_999), &limits),
        None
    );
    assert_eq!(
        session.handle_timeout(start + Duration::from_secs(15), &limits),
        Some(Expired::PeerSilent)
    );
    // v5 [MQTT-3.1.0-2].
    let violation = session
        .handle(start, Packet::Connect(connect), &limits)
        .unwrap_err();
    assert_eq!(violation.clause, "v5 [MQTT-3.1.0-2]");
}

#[test]
fn a_late_acknowledgement_is_told_once_per_period() {
    let limits = Limits::default();
    let start = Instant::now();
    let secs = Duration::from_secs;
    let mut session = up(start, 0);
    assert_eq!(session.deadline(&limits), None);
    session.begin(entry(start)).unwrap();
    assert_eq!(session.deadline(&limits), Some(start + secs(10)));
    assert_eq!(
        session.handle_timeout(start + secs(10), &limits),
        Some(Expired::AcksLate { oldest: secs(10) })
    );
    assert_eq!(session.handle_timeout(start + secs(10), &limits), None);
    assert_eq!(session.deadline(&limits), Some(start + secs(20)));
    assert_eq!(session.pop_dropped().unwrap().token, 7);
    assert_eq!(session.deadline(&limits), None);
}

#[test]
fn packets_in_the_wrong_direction_are_violations() {
    let now = Instant::now();
    let limits = Limits::default();
    for packet in [Packet::Pingreq, Packet::Connack(Connack::accepted(false))] {
        assert!(up(now, 0).handle(now, packet, &limits).is_err(), "{packet:?}");
    }
    let mut session = up(now, 0);
    let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver));
    assert!(matches!(
        session.handle(now, disconnect, &limits),
        Ok(Meaning::Disconnect(_))
    ));
}

#[test]
fn a_disconnect_cannot_raise_a_session_expiry_of_zero() {
    // v5 section 3.14.2.2.2, v5 [MQTT-3.14.2-2].
    let now = Instant::now();
    let limits = Limits::default();
    let mut bytes = PropertiesBuf::new(Carrier::Disconnect);
    bytes.push(Property::SessionExpiryInterval(1)).unwrap();
    let disconnect = Disconnect {
        reason: ReasonCode::NORMAL_DISCONNECTION,
        properties: bytes.as_properties(),
    };
    let violation = up(now, 0)
        .handle(now, Packet::Disconnect(disconnect), &limits)
        .unwrap_err();
    assert_eq!(violation.clause, "v5 [MQTT-3.14.2-2]");

    let mut expiry = PropertiesBuf::new(Carrier::Connect);
    expiry.push(Property::SessionExpiryInterval(60)).unwrap();
    for (properties, allowed) in [(Properties::EMPTY, false), (expiry.as_properties(), true)] {
        let mut session = Session::server(now);
        let connect = Connect {
            properties,
            ..connect(Version::V5, 0)
        };
        session.handle(now, Packet::Connect(connect), &limits).unwrap();
        session.accepted(&Properties::EMPTY, 0);
        assert_eq!(
            session
                .handle(now, Packet::Disconnect(disconnect), &limits)
                .is_ok(),
            allowed
        );
    }
}
