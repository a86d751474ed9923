//! What CONNECT and CONNACK announce, and which side may send what.

use fleetwire_codec::{Auth, TopicFilter};

use super::*;

fn handle<'a>(session: &mut Session, packet: Packet<'a>) -> Result<Meaning<'a>, Violation> {
    session.handle(Instant::now(), packet, &Limits::default())
}

/// A client whose CONNECT says the first, before the CONNACK.
fn asking(asked: &[Property<'_>], keep_alive_secs: u16) -> Session {
    let asked = PropertiesBuf::of(Carrier::Connect, asked).unwrap();
    let connect = Connect {
        properties: asked.as_properties(),
        ..connect(Version::V5, keep_alive_secs)
    };
    Session::client(&connect, None, Instant::now())
}

fn told(session: &mut Session, told: &[Property<'_>]) -> Result<(), Violation> {
    let properties = PropertiesBuf::of(Carrier::Connack, told).unwrap();
    let connack = Connack::accepted(false).with_properties(properties.as_properties());
    handle(session, Packet::Connack(connack)).map(|_| ())
}

fn client(asked: &[Property<'_>], properties: &[Property<'_>]) -> Session {
    let mut session = asking(asked, 60);
    told(&mut session, properties).unwrap();
    session
}

/// A server that has accepted a client, with these properties of the CONNECT and of the CONNACK.
fn server(asked: &[Property<'_>], told: &[Property<'_>]) -> Session {
    let mut session = Session::server(Instant::now());
    let asked = PropertiesBuf::of(Carrier::Connect, asked).unwrap();
    let connect = Connect {
        properties: asked.as_properties(),
        ..connect(Version::V5, 0)
    };
    handle(&mut session, Packet::Connect(connect)).unwrap();
    session.accepted(
        &PropertiesBuf::of(Carrier::Connack, told).unwrap().as_properties(),
        0,
    );
    session
}

fn with_alias<'a>(topic: TopicName<'a>, properties: &'a PropertiesBuf) -> Packet<'a> {
    Packet::Publish(Publish {
        properties: properties.as_properties(),
        ..Publish::new(topic, b"")
    })
}

fn alias(alias: u16) -> PropertiesBuf {
    PropertiesBuf::of(Carrier::Publish, &[Property::TopicAlias(alias)]).unwrap()
}

#[test]
fn the_servers_keep_alive_replaces_the_clients() {
    // v5 [MQTT-3.1.2-21], [MQTT-3.2.2-21].
    let start = Instant::now();
    let mut session = asking(&[], 60);
    told(&mut session, &[Property::ServerKeepAlive(7)]).unwrap();
    session.sent(start);
    assert_eq!(
        session.deadline(&Limits::default()),
        Some(start + Duration::from_secs(7))
    );
    let mut session = asking(&[], 60);
    told(&mut session, &[Property::ServerKeepAlive(0)]).unwrap();
    assert_eq!(session.deadline(&Limits::default()), None);
}

#[test]
fn a_client_keeps_to_what_the_connack_allows() {
    // v5 [MQTT-3.2.2-14], [MQTT-3.2.2-15], sections 3.2.2.3.11 to 3.2.2.3.13.
    let session = client(
        &[],
        &[
            Property::RetainAvailable(false),
            Property::MaximumPacketSize(100),
            Property::WildcardSubscriptionAvailable(false),
            Property::SharedSubscriptionAvailable(false),
            Property::SubscriptionIdentifierAvailable(false),
        ],
    );
    let identified = PropertiesBuf::of(Carrier::Subscribe, &[Property::SubscriptionIdentifier(1)]).unwrap();
    let identified = identified.as_properties();
    assert!(!session.peer_takes_identifiers_of(&identified));
    assert!(session.peer_takes_identifiers_of(&Properties::EMPTY));
    let retained = publish(QoS::AtMostOnce).retain(true);
    assert_eq!(
        session.prepare_publish(&retained).unwrap_err(),
        PublishError::Refused
    );
    session.prepare_publish(&publish(QoS::AtMostOnce)).unwrap();
    assert!(session.peer_takes(100) && !session.peer_takes(101));
    let takes = |filter| session.peer_takes_filter(TopicFilter::new(filter).unwrap());
    assert!(takes("a/b") && !takes("a/#") && !takes("+") && !takes("$share/g/a"));
    let session = client(&[], &[]);
    let takes = |filter| session.peer_takes_filter(TopicFilter::new(filter).unwrap());
    assert!(takes("a/#") && takes("$share/g/a"));
    assert!(session.peer_takes_identifiers_of(&identified));
    session.prepare_publish(&retained).unwrap();
}

#[test]
fn every_alias_up_to_the_maximum_is_taken_and_none_above_it() {
    // v5 [MQTT-3.3.2-9] to [MQTT-3.3.2-12]. The alias 0 is refused by the codec.
    let max = [Property::TopicAliasMaximum(3)];
    for (mut session, clause) in [
        (client(&max, &[]), "v5 [MQTT-3.3.2-11]"),
        (server(&[], &max), "v5 [MQTT-3.3.2-9]"),
    ] {
        for (value, topic) in [(3, "c"), (1, "a"), (2, "b"), (1, "other")] {
            let properties = alias(value);
            handle(
                &mut session,
                with_alias(TopicName::new(topic).unwrap(), &properties),
            )
            .unwrap();
        }
        for (value, topic) in [(1, "other"), (2, "b"), (3, "c"), (3, "c")] {
            handle(&mut session, with_alias(TopicName::ALIASED, &alias(value))).unwrap();
            let known = session.take_topic(value).unwrap();
            assert_eq!(known.as_topic_name(), topic);
            session.put_back(value, known);
        }
        for topic in [TopicName::new("a").unwrap(), TopicName::ALIASED] {
            let violation = handle(&mut session, with_alias(topic, &alias(4))).unwrap_err();
            assert_eq!(
                (violation.reason, violation.clause),
                (ReasonCode::TopicAliasInvalid, clause)
            );
        }
    }
    let mut session = client(&max, &[]);
    let violation = handle(&mut session, with_alias(TopicName::ALIASED, &alias(2))).unwrap_err();
    assert_eq!(
        violation.reason,
        ReasonCode::ProtocolError,
        "it stands for nothing yet"
    );
    let properties = alias(1);
    let none = handle(
        &mut client(&[], &[]),
        with_alias(TopicName::new("a").unwrap(), &properties),
    );
    assert_eq!(none.unwrap_err().reason, ReasonCode::TopicAliasInvalid);
}

#[test]
fn own_aliases_keep_to_the_peers_maximum() {
    // v5 [MQTT-3.3.2-8], [MQTT-3.3.2-9].
    let topic = |name| TopicName::new(name).unwrap();
    let mut session = client(&[], &[Property::TopicAliasMaximum(2)]);
    assert_eq!(session.begin_alias(topic("a")), Some((1, false)));
    assert_eq!(session.begin_alias(topic("a")), Some((1, true)));
    assert_eq!(session.begin_alias(topic("b")), Some((2, false)));
    session.cancel_alias();
    assert_eq!(session.begin_alias(topic("c")), Some((2, false)));
    assert_eq!(session.begin_alias(topic("d")), None);
    assert_eq!(client(&[], &[]).begin_alias(topic("a")), None);
    let given = alias(1);
    let by_hand = publish(QoS::AtMostOnce).properties(given.as_properties());
    assert_eq!(
        session.prepare_publish(&by_hand).unwrap_err(),
        PublishError::Invalid
    );
}

#[test]
fn a_disconnect_says_what_its_side_may_say() {
    // v5 table 3-10.
    let mut of_clients = 0;
    for reason in (0..=255).filter_map(ReasonCode::new) {
        if !reason.is_allowed_in(fleetwire_codec::PacketType::Disconnect) {
            continue;
        }
        let disconnect = Packet::Disconnect(Disconnect::new(reason));
        let from_client = handle(&mut server(&[], &[]), disconnect).is_ok();
        assert_eq!(from_client, !is_for_servers(reason), "{reason}");
        of_clients += usize::from(from_client);
        let from_server = handle(&mut client(&[], &[]), disconnect).is_ok();
        assert_eq!(
            from_server,
            reason != ReasonCode::DisconnectWithWillMessage,
            "{reason}"
        );
    }
    // The 14 that the table gives to clients, and 0x8C, which it leaves out.
    assert_eq!(of_clients, 15);
}

#[test]
fn a_subscription_identifier_comes_from_servers_only() {
    // v5 [MQTT-3.3.4-6].
    let properties = PropertiesBuf::of(Carrier::Publish, &[Property::SubscriptionIdentifier(1)]).unwrap();
    let packet = with_alias(TopicName::new("a").unwrap(), &properties);
    assert!(handle(&mut client(&[], &[]), packet).is_ok());
    assert_eq!(
        handle(&mut server(&[], &[]), packet).unwrap_err().clause,
        "v5 [MQTT-3.3.4-6]"
    );
}

const METHOD: [Property<'_>; 1] = [Property::AuthenticationMethod("GS2")];

fn auth(reason: ReasonCode, properties: &PropertiesBuf) -> Packet<'_> {
    Packet::Auth(Auth {
        reason,
        properties: properties.as_properties(),
    })
}

#[test]
fn nobody_authenticates_who_was_not_asked_to() {
    // v5 [MQTT-4.12.0-5] to [MQTT-4.12.0-7].
    let (ours, other) = (
        PropertiesBuf::of(Carrier::Auth, &METHOD).unwrap(),
        PropertiesBuf::of(Carrier::Auth, &[Property::AuthenticationMethod("x")]).unwrap(),
    );
    let go_on = ReasonCode::ContinueAuthentication;
    let clause = |result: Result<(), Violation>| result.unwrap_err().clause;
    assert_eq!(clause(told(&mut asking(&[], 0), &METHOD)), "v5 [MQTT-4.12.0-6]");
    assert_eq!(clause(told(&mut asking(&METHOD, 0), &[])), "v5 [MQTT-4.12.0-5]");
    told(&mut asking(&METHOD, 0), &METHOD).unwrap();
    for (mut session, expected) in [
        (client(&[], &[]), "v5 [MQTT-4.12.0-6]"),
        (server(&[], &[]), "v5 [MQTT-4.12.0-7]"),
    ] {
        let violation = handle(&mut session, auth(go_on, &ours)).unwrap_err();
        assert_eq!(violation.clause, expected);
    }
    for mut session in [
        client(&METHOD, &METHOD),
        server(&METHOD, &METHOD),
        asking(&METHOD, 0),
    ] {
        let violation = handle(&mut session, auth(go_on, &other)).unwrap_err();
        assert_eq!(violation.clause, "v5 [MQTT-4.12.0-5]");
    }
    // Only a client asks for a new authentication, and only a server says that it is over.
    let again = ReasonCode::ReAuthenticate;
    assert!(handle(&mut client(&METHOD, &METHOD), auth(again, &ours)).is_err());
    assert!(handle(&mut server(&METHOD, &METHOD), auth(again, &ours)).is_ok());
    assert!(handle(&mut server(&METHOD, &METHOD), auth(ReasonCode::Success, &ours)).is_err());
    assert!(handle(&mut client(&METHOD, &METHOD), auth(ReasonCode::Success, &ours)).is_ok());
}

#[test]
fn an_authentication_takes_turns_before_the_connack() {
    // v5 section 4.12, [MQTT-3.1.2-30], [MQTT-4.12.0-2], [MQTT-4.12.0-3].
    let properties = PropertiesBuf::of(Carrier::Auth, &METHOD).unwrap();
    let go_on = ReasonCode::ContinueAuthentication;
    let mut client = asking(&METHOD, 0);
    assert!(matches!(
        handle(&mut client, auth(go_on, &properties)),
        Ok(Meaning::Auth(_))
    ));
    assert!(client.begin_auth(go_on, &properties.as_properties()));
    assert!(!client.begin_auth(ReasonCode::ReAuthenticate, &properties.as_properties()));
    assert!(!client.begin_auth(go_on, &Properties::EMPTY));
    told(&mut client, &METHOD).unwrap();
    assert!(client.begin_auth(ReasonCode::ReAuthenticate, &properties.as_properties()));

    let mut session = Session::server(Instant::now());
    let asked = PropertiesBuf::of(Carrier::Connect, &METHOD).unwrap();
    let connect = Connect {
        properties: asked.as_properties(),
        ..connect(Version::V5, 0)
    };
    handle(&mut session, Packet::Connect(connect)).unwrap();
    assert!(session.begin_auth(go_on, &properties.as_properties()));
    session.auth_sent();
    assert_eq!(session.state(), State::Authenticating);
    let publish = Packet::Publish(Publish::new(TopicName::new("a").unwrap(), b""));
    assert_eq!(
        handle(&mut session, publish).unwrap_err().clause,
        "v5 [MQTT-3.1.2-30]"
    );
    handle(&mut session, auth(go_on, &properties)).unwrap();
    assert_eq!(session.state(), State::Deciding);
    assert!(session.has_method(&asked.as_properties()) && !session.has_method(&Properties::EMPTY));
}

#[test]
fn an_answer_has_one_code_for_each_filter() {
    // v5 [MQTT-3.8.4-6], [MQTT-3.11.3-1]; v3.1.1 [MQTT-3.8.4-5].
    let now = Instant::now();
    for version in [Version::V5, Version::V311] {
        for codes in [&[0][..], &[0, 1], &[0, 1, 2]] {
            for kind in [Kind::Subscribe, Kind::Unsubscribe] {
                let mut session = Session::client(&connect(version, 0), None, now);
                handle(&mut session, Packet::Connack(Connack::accepted(false))).unwrap();
                let asked = Entry {
                    kind,
                    token: 2,
                    ..entry(now)
                };
                let packet_id = session.begin(asked).unwrap();
                let properties = Properties::EMPTY;
                let answer = match (kind, version) {
                    (Kind::Subscribe, _) => Packet::Suback(Suback {
                        packet_id,
                        properties,
                        codes,
                    }),
                    (_, Version::V5) => Packet::Unsuback(Unsuback {
                        packet_id,
                        properties,
                        codes,
                    }),
                    (_, Version::V311) => Packet::Unsuback(Unsuback {
                        packet_id,
                        properties,
                        codes: &[],
                    }),
                };
                let whole = codes.len() == 2 || (kind, version) == (Kind::Unsubscribe, Version::V311);
                match handle(&mut session, answer) {
                    Ok(Meaning::Subscribed(_) | Meaning::Unsubscribed(_)) => assert!(whole, "{answer:?}"),
                    Err(violation) => {
                        assert!(!whole, "{answer:?}");
                        assert_eq!(violation.reason, ReasonCode::ProtocolError);
                    }
                    other => panic!("{other:?}"),
                }
                // Answered once.
                assert!(matches!(handle(&mut session, answer), Ok(Meaning::Nothing)));
            }
        }
    }
}
