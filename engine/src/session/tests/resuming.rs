//! What of a session another connection goes on with.

use fleetwire_codec::buffer::{Pool, PoolLimits};
use fleetwire_codec::{Pubrec, Pubrel};

use super::*;

/// A client that wants its session kept, after a CONNACK with this Session Present.
fn client(version: Version, state: Option<SessionState>, present: bool) -> Session {
    let now = Instant::now();
    let mut expiry = PropertiesBuf::new(Carrier::Connect);
    expiry.push(Property::SessionExpiryInterval(60)).unwrap();
    let connect = Connect {
        clean_start: false,
        properties: if version == Version::V5 {
            expiry.as_properties()
        } else {
            Properties::EMPTY
        },
        ..connect(version, 0)
    };
    let mut session = Session::client(&connect, state, now);
    let connack = Packet::Connack(Connack::accepted(present));
    session.handle(now, connack, &Limits::default()).unwrap();
    session
}

fn begin(session: &mut Session, pool: &mut Pool, kind: Kind) -> PacketId {
    let packet_id = session
        .begin(Entry {
            kind,
            ..entry(Instant::now())
        })
        .unwrap();
    let block = pool.take(1).unwrap();
    session.keep(packet_id, Kept::new(block, 4));
    packet_id
}

#[test]
fn both_directions_go_on_where_they_were() {
    // v5 and v3.1.1 [MQTT-4.4.0-1], v5 [MQTT-4.3.3-10].
    for version in [Version::V5, Version::V311] {
        let mut pool = Pool::new(PoolLimits::default());
        let mut session = client(version, None, false);
        assert!(session.keeps());
        let twice = begin(&mut session, &mut pool, Kind::ExactlyOnce);
        let once = begin(&mut session, &mut pool, Kind::AtLeastOnce);
        let incoming = Packet::Publish(Publish {
            qos: QoS::ExactlyOnce,
            packet_id: Some(PacketId::MAX),
            ..Publish::new(TopicName::new("a").unwrap(), b"")
        });
        let (now, limits) = (Instant::now(), Limits::default());
        session.handle(now, incoming, &limits).unwrap();
        session
            .handle(now, Packet::Pubrec(Pubrec::new(twice)), &limits)
            .unwrap();
        assert!(session.take_spent().is_some(), "its copy is not needed any more");

        let state = session.suspend(Instant::now()).unwrap();
        assert!(state.is_of(version, "a") && !state.is_of(version, "b"));
        let mut session = client(version, Some(state), true);
        let refused = session.prepare_publish(&publish(QoS::AtLeastOnce)).unwrap_err();
        assert_eq!(refused, PublishError::Full, "what waits goes first");
        assert_eq!(session.again().unwrap(), (twice, Again::Pubrel(twice)));
        session.sent_again(twice, now);
        assert!(matches!(session.again(), Some((id, Again::Publish(_))) if id == once));
        session.sent_again(once, now);
        session.prepare_publish(&publish(QoS::AtLeastOnce)).unwrap();
        // What was delivered is not delivered again.
        let again = session.handle(now, incoming, &limits);
        assert!(
            matches!(again, Ok(Meaning::Answer(Packet::Pubrec(_)))),
            "{again:?}"
        );
        let pubrel = Packet::Pubrel(Pubrel::new(PacketId::MAX));
        assert!(matches!(
            session.handle(now, pubrel, &limits),
            Ok(Meaning::Answer(_))
        ));
    }
}

#[test]
fn an_attempt_that_fails_leaves_the_state_as_it_was() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut session = client(Version::V5, None, false);
    begin(&mut session, &mut pool, Kind::AtLeastOnce);
    let state = session.suspend(Instant::now()).unwrap();
    let now = Instant::now();
    let mut attempt = Session::client(&connect(Version::V5, 0), Some(state), now);
    let refused = Connack::refused(ReasonCode::ServerBusy, Version::V5);
    attempt
        .handle(now, Packet::Connack(refused), &Limits::default())
        .unwrap();
    assert_eq!(attempt.suspend(Instant::now()).unwrap().publishes(), 1);
}

#[test]
fn what_the_server_has_not_kept_is_lost() {
    // v5 [MQTT-3.2.2-5].
    let mut pool = Pool::new(PoolLimits::default());
    let mut session = client(Version::V5, None, false);
    begin(&mut session, &mut pool, Kind::AtLeastOnce);
    let state = session.suspend(Instant::now());
    let mut session = client(Version::V5, state, false);
    assert_eq!(session.again(), None);
    assert_eq!(session.pop_lost().unwrap().token, 7);
    assert!(session.pop_lost().is_none());
    session.prepare_publish(&publish(QoS::AtLeastOnce)).unwrap();
}

#[test]
fn a_session_that_ends_with_its_connection_keeps_nothing() {
    let now = Instant::now();
    let mut session = up(now, 0);
    assert!(!session.keeps() && session.suspend(Instant::now()).is_none());
    // v5 section 3.2.2.3.2: the server's word counts.
    let mut connack = PropertiesBuf::new(Carrier::Connack);
    connack.push(Property::SessionExpiryInterval(9)).unwrap();
    let connack = Connack::accepted(false).with_properties(connack.as_properties());
    let mut session = Session::client(&connect(Version::V5, 0), None, now);
    session
        .handle(now, Packet::Connack(connack), &Limits::default())
        .unwrap();
    assert!(session.keeps());
}

#[test]
fn a_peer_whose_limits_have_changed_does_not_get_what_it_does_not_take() {
    // v5 [MQTT-3.1.2-24], [MQTT-3.2.2-11], [MQTT-3.2.2-14].
    let now = Instant::now();
    let mut properties = PropertiesBuf::new(Carrier::Connack);
    for property in [
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::MaximumPacketSize(10),
    ] {
        properties.push(property).unwrap();
    }
    let connack = Connack::accepted(false).with_properties(properties.as_properties());
    let mut session = Session::client(&connect(Version::V5, 0), None, now);
    session
        .handle(now, Packet::Connack(connack), &Limits::default())
        .unwrap();
    assert_eq!(session.peer_takes_again(&[0x3a; 10]), Ok(()));
    assert_eq!(session.peer_takes_again(&[0x3a; 11]), Err(PublishError::TooLarge));
    assert_eq!(session.peer_takes_again(&[0x3c]), Err(PublishError::Refused));
    assert_eq!(session.peer_takes_again(&[0x3b]), Err(PublishError::Refused));
}

#[test]
fn a_state_ends_when_the_last_word_on_its_expiry_says() {
    // v5 sections 3.1.2.11.2, 3.2.2.3.2 and 3.14.2.2.2.
    let now = Instant::now();
    let secs = Duration::from_secs;
    let ends = |session: &mut Session| {
        let state = session.suspend(now).unwrap();
        state.expires_at().map(|at| at.instant() - now)
    };
    assert_eq!(ends(&mut client(Version::V5, None, false)), Some(secs(60)));
    assert_eq!(ends(&mut client(Version::V311, None, false)), None);
    for (told, end) in [(9, Some(secs(9))), (u32::MAX, None)] {
        let told = [Property::SessionExpiryInterval(told)];
        let told = PropertiesBuf::of(Carrier::Connack, &told).unwrap();
        let connack = Connack::accepted(false).with_properties(told.as_properties());
        let mut session = Session::client(&connect(Version::V5, 0), None, now);
        session
            .handle(now, Packet::Connack(connack), &Limits::default())
            .unwrap();
        assert_eq!(ends(&mut session), end);
    }
    for (secs_said, sent, end) in [(5, true, 5), (5, false, 60), (0, false, 0)] {
        let mut session = client(Version::V5, None, false);
        session.set_expiry(secs_said, sent);
        assert_eq!(ends(&mut session), Some(secs(end)));
    }
    let mut session = client(Version::V5, None, false);
    session.set_expiry(0, true);
    assert!(session.suspend(now).is_none());
    // What was offered in vain keeps its end; what was resumed counts anew.
    let state = client(Version::V5, None, false).suspend(now);
    let mut attempt = Session::client(&connect(Version::V5, 0), state, now);
    let state = attempt.suspend(now + secs(50)).unwrap();
    assert_eq!(state.expires_at(), Some((now + secs(60)).into()));
    let state = client(Version::V5, Some(state), true)
        .suspend(now + secs(50))
        .unwrap();
    assert_eq!(state.expires_at(), Some((now + secs(110)).into()));
    // A server's are the application's.
    let mut session = Session::server(now);
    session
        .handle(now, Packet::Connect(connect(Version::V5, 0)), &Limits::default())
        .unwrap();
    session.accepted_to_keep(None, &Properties::EMPTY, 0);
    assert_eq!(ends(&mut session), None);
}
