//! Acknowledgements that the application has taken over.

use fleetwire_codec::{Pubrec, Pubrel};

use super::*;
use crate::VerbError;

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// A client that keeps its session and takes so many publishes at a time.
fn client(version: Version, receive_max: u16, state: Option<SessionState>) -> Session {
    let now = Instant::now();
    let mut asked = PropertiesBuf::new(Carrier::Connect);
    asked.push(Property::SessionExpiryInterval(60)).unwrap();
    asked.push(Property::ReceiveMaximum(receive_max)).unwrap();
    let connect = Connect {
        clean_start: false,
        properties: if version == Version::V5 {
            asked.as_properties()
        } else {
            Properties::EMPTY
        },
        ..connect(version, 0)
    };
    let present = state.is_some();
    let mut session = Session::client(&connect, state, now);
    let connack = Packet::Connack(Connack::accepted(present));
    session.handle(now, connack, &Limits::default()).unwrap();
    session
}

fn handle<'a>(session: &mut Session, packet: Packet<'a>) -> Result<Meaning<'a>, Violation> {
    session.handle(Instant::now(), packet, &Limits::default())
}

fn incoming(qos: QoS, packet_id: u16) -> Packet<'static> {
    Packet::Publish(Publish {
        qos,
        packet_id: Some(id(packet_id)),
        ..Publish::new(TopicName::new("a").unwrap(), b"")
    })
}

/// A publish arrives and is delivered; its acknowledgement is held. Answers the number.
fn hold(session: &mut Session, qos: QoS, packet_id: u16) -> u64 {
    let met = handle(session, incoming(qos, packet_id));
    assert!(matches!(met, Ok(Meaning::Message(_))), "{met:?}");
    session.hold_ack(id(packet_id), qos)
}

fn sent(session: &mut Session) -> Vec<Packet<'static>> {
    let mut packets = Vec::new();
    while let Some(packet) = session.next_ack() {
        packets.push(packet);
        session.ack_sent();
    }
    packets
}

fn puback(packet_id: u16) -> Packet<'static> {
    Packet::Puback(Puback::new(id(packet_id)))
}

fn pubrec(packet_id: u16) -> Packet<'static> {
    Packet::Pubrec(Pubrec::new(id(packet_id)))
}

// v5 and v3.1.1 [MQTT-4.6.0-2], [MQTT-4.6.0-3].
#[test]
fn they_go_out_in_the_order_of_the_publishes_whatever_the_order_of_the_decisions() {
    for version in [Version::V5, Version::V311] {
        let mut session = client(version, 9, None);
        let first = hold(&mut session, QoS::AtLeastOnce, 7);
        let second = hold(&mut session, QoS::ExactlyOnce, 3);
        // Nobody holds this one, but it is not its turn.
        handle(&mut session, incoming(QoS::AtLeastOnce, 5)).unwrap();
        assert!(session.queue_ack(id(5), QoS::AtLeastOnce));
        let last = hold(&mut session, QoS::ExactlyOnce, 1);
        for number in [last, second] {
            session.decide_ack(number, ReasonCode::Success).unwrap();
            assert_eq!(sent(&mut session), []);
        }
        session.decide_ack(first, ReasonCode::Success).unwrap();
        assert_eq!(sent(&mut session), [puback(7), pubrec(3), puback(5), pubrec(1)]);
        // From here on nobody waits.
        assert!(!session.holds_acks());
        assert!(!session.queue_ack(id(2), QoS::AtLeastOnce));
    }
}

#[test]
fn a_decision_counts_once() {
    let mut session = client(Version::V5, 9, None);
    assert_eq!(
        session.decide_ack(0, ReasonCode::Success),
        Err(VerbError::NotHeld)
    );
    let (first, second) = (
        hold(&mut session, QoS::AtLeastOnce, 1),
        hold(&mut session, QoS::AtLeastOnce, 2),
    );
    session.decide_ack(second, ReasonCode::Success).unwrap();
    for reason in [ReasonCode::Success, ReasonCode::UnspecifiedError] {
        assert_eq!(
            session.decide_ack(second, reason),
            Err(VerbError::NotHeld),
            "it waits"
        );
    }
    session.decide_ack(first, ReasonCode::Success).unwrap();
    assert_eq!(sent(&mut session).len(), 2);
    for number in [first, second, second + 1, u64::MAX] {
        assert_eq!(
            session.decide_ack(number, ReasonCode::Success),
            Err(VerbError::NotHeld)
        );
    }
    assert_eq!(sent(&mut session), []);
}

// v5 [MQTT-3.3.4-7], [MQTT-3.3.4-9].
#[test]
fn what_is_held_counts_against_receive_maximum() {
    let mut session = client(Version::V5, 2, None);
    let first = hold(&mut session, QoS::AtLeastOnce, 1);
    let second = hold(&mut session, QoS::ExactlyOnce, 2);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let violation = handle(&mut session, incoming(qos, 3)).unwrap_err();
        assert_eq!(violation.reason, ReasonCode::ReceiveMaximumExceeded);
    }
    session.decide_ack(first, ReasonCode::Success).unwrap();
    // Decided is not sent: the peer cannot know.
    let violation = handle(&mut session, incoming(QoS::AtLeastOnce, 3)).unwrap_err();
    assert_eq!(violation.reason, ReasonCode::ReceiveMaximumExceeded);
    assert_eq!(sent(&mut session), [puback(1)]);
    hold(&mut session, QoS::AtLeastOnce, 3);
    // A PUBREC frees nothing, one that refuses does: v5 section 4.9.
    session.decide_ack(second, ReasonCode::QuotaExceeded).unwrap();
    let refused = Packet::Pubrec(Pubrec::with_reason(id(2), ReasonCode::QuotaExceeded));
    assert_eq!(sent(&mut session), [refused]);
    hold(&mut session, QoS::ExactlyOnce, 2);
}

// v5 [MQTT-4.3.3-10], v3.1.1 [MQTT-4.3.3-2].
#[test]
fn what_comes_again_before_its_pubrec_is_the_same_message_and_gets_one() {
    for version in [Version::V5, Version::V311] {
        let mut session = client(version, 9, None);
        let blocks = hold(&mut session, QoS::AtLeastOnce, 9);
        let number = hold(&mut session, QoS::ExactlyOnce, 1);
        let again = |session: &mut Session| {
            let met = handle(session, incoming(QoS::ExactlyOnce, 1));
            assert!(matches!(met, Ok(Meaning::Nothing)), "{met:?}");
        };
        again(&mut session);
        session.decide_ack(number, ReasonCode::Success).unwrap();
        again(&mut session);
        let early = handle(&mut session, Packet::Pubrel(Pubrel::new(id(1)))).unwrap_err();
        assert_eq!(early.reason, ReasonCode::ProtocolError);
        session.decide_ack(blocks, ReasonCode::Success).unwrap();
        assert_eq!(sent(&mut session), [puback(9), pubrec(1)]);
        let met = handle(&mut session, incoming(QoS::ExactlyOnce, 1));
        assert!(matches!(met, Ok(Meaning::Answer(Packet::Pubrec(_)))), "{met:?}");
    }
}

#[test]
fn a_kept_session_brings_again_what_was_not_acknowledged_and_only_that() {
    for version in [Version::V5, Version::V311] {
        let mut session = client(version, 9, None);
        // The first blocks the others, so that no PUBREC goes out.
        hold(&mut session, QoS::AtLeastOnce, 9);
        let [held, taken] = [1, 2].map(|packet_id| hold(&mut session, QoS::ExactlyOnce, packet_id));
        session.decide_ack(taken, ReasonCode::Success).unwrap();
        handle(&mut session, incoming(QoS::ExactlyOnce, 3)).unwrap();
        assert!(session.queue_ack(id(3), QoS::ExactlyOnce));
        let state = session.suspend(Instant::now());
        assert_eq!(
            session.decide_ack(held, ReasonCode::Success),
            Err(VerbError::NotHeld),
            "what is over cannot be acknowledged"
        );
        let mut session = client(version, 9, state);
        let number = hold(&mut session, QoS::ExactlyOnce, 1);
        for packet_id in [2, 3] {
            // It is not delivered, and its PUBREC goes out behind that of the first.
            let met = handle(&mut session, incoming(QoS::ExactlyOnce, packet_id));
            assert!(matches!(met, Ok(Meaning::Nothing)), "{met:?}");
        }
        assert_eq!(sent(&mut session), []);
        session.decide_ack(number, ReasonCode::Success).unwrap();
        assert_eq!(sent(&mut session), [pubrec(1), pubrec(2), pubrec(3)]);
        let met = handle(&mut session, incoming(QoS::ExactlyOnce, 2));
        assert!(matches!(met, Ok(Meaning::Answer(Packet::Pubrec(_)))), "{met:?}");
    }
}

#[test]
fn what_no_packet_can_say_leaves_it_held() {
    let mut session = client(Version::V311, 9, None);
    let number = hold(&mut session, QoS::AtLeastOnce, 1);
    // v3.1.1 [MQTT-3.3.5-2]: it is acknowledged, or the connection is closed.
    assert_eq!(
        session.decide_ack(number, ReasonCode::NotAuthorized),
        Err(VerbError::Invalid)
    );
    session.decide_ack(number, ReasonCode::Success).unwrap();
    assert_eq!(sent(&mut session), [puback(1)]);
    let mut session = client(Version::V5, 9, None);
    let number = hold(&mut session, QoS::ExactlyOnce, 1);
    // v5 table 3-5 has no such reason.
    assert_eq!(
        session.decide_ack(number, ReasonCode::KeepAliveTimeout),
        Err(VerbError::Invalid)
    );
    session
        .decide_ack(number, ReasonCode::NoMatchingSubscribers)
        .unwrap();
    let packet = Packet::Pubrec(Pubrec::with_reason(id(1), ReasonCode::NoMatchingSubscribers));
    assert_eq!(sent(&mut session), [packet]);
}

#[test]
fn sixty_five_thousand_are_held_and_decided_in_no_order() {
    let mut session = client(Version::V311, 0xffff, None);
    let numbers: Vec<u64> = (1..=65_535)
        .map(|packet_id| hold(&mut session, QoS::AtLeastOnce, packet_id))
        .collect();
    let violation = handle(&mut session, incoming(QoS::ExactlyOnce, 1)).unwrap_err();
    assert_eq!(violation.reason, ReasonCode::ReceiveMaximumExceeded);
    for number in numbers.iter().rev() {
        assert_eq!(session.next_ack(), None);
        session.decide_ack(*number, ReasonCode::Success).unwrap();
    }
    let packets = sent(&mut session);
    assert!(packets.iter().copied().eq((1..=65_535).map(puback)));
}
