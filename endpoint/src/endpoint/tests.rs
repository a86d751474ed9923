use fleetwire_codec::{Connect, Disconnect, Packet, Properties, QoS, ReasonCode, TopicName, Version, Will};
use fleetwire_tls::{TlsError, Versions};

use super::peer::{Offer, Peer};
use super::*;

const DRAIN: Duration = Duration::from_secs(5);

fn hello(client_id: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_secs: 60,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

fn login<'a>(client_id: &'a str, username: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        username: Some(username),
        password: Some(password.as_bytes()),
        ..hello(client_id)
    }
}

#[test]
fn devices_talk_over_mutual_tls() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut peers = Vec::new();
    for (client_id, versions) in [("device-0", Versions::Tls13), ("device-1", Versions::Tls12)] {
        let device = endpoint.issue_device(client_id, KeyType::P256, None).unwrap();
        let offer = Offer {
            alpn: &["mqtt", "x-amzn-mqtt-ca"],
            device: Some(&device),
            versions,
        };
        let mut peer = Peer::tls(endpoint.addr(), endpoint.ca_pem(), &offer).unwrap();
        // AWS's SDKs send a user name always.
        assert_eq!(peer.connect(login(client_id, "?SDK=Rust", "x")), 0);
        peers.push(peer);
    }
    let [first, second] = &mut peers[..] else {
        panic!("two devices")
    };
    second.subscribe("fleet/+/telemetry");
    for payload in [&b"21.5"[..], &[0; 100_000]] {
        first.publish("fleet/device-0/telemetry", payload);
        assert_eq!(second.payload(), payload);
    }
    first.send(&Packet::Disconnect(Disconnect::new(
        ReasonCode::NORMAL_DISCONNECTION,
    )));
    first.ended();

    let counts = std::thread::scope(|scope| {
        // It hangs up when it is told to, so the endpoint need not wait for it.
        scope.spawn(move || {
            let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::ServerShuttingDown));
            assert_eq!(peers[1].text(), format!("{disconnect:?}"));
            peers[1].ended();
        });
        endpoint.shutdown(DRAIN)
    });
    assert_eq!(
        counts.connects_by_alpn.into_iter().collect::<Vec<_>>(),
        [("x-amzn-mqtt-ca", 2)]
    );
    assert_eq!(
        (counts.accepted, counts.client_certificates, counts.refused),
        (2, 2, 0)
    );
    assert_eq!(
        (
            counts.broker.published_in,
            counts.broker.delivered_out,
            counts.broker.dropped()
        ),
        (2, 2, 0)
    );
    assert_eq!(
        counts.disconnects.into_iter().collect::<Vec<_>>(),
        [("closed_by_us", 1), ("disconnected_by_peer", 1)]
    );
    assert_eq!((counts.tls_failures.len(), counts.failure), (0, None));
}

#[test]
fn alpn_mqtt_asks_for_a_password() {
    let endpoint = Endpoint::builder().user("ada", "secret").start().unwrap();
    let offer = Offer {
        alpn: &["mqtt"],
        ..Offer::default()
    };
    for (connect, code) in [
        (login("a", "ada?x-amz-customauthorizer-name=A", "secret"), 0),
        (login("b", "ada", "wrong"), 0x86),
        (hello("c"), 0x86),
        (
            Connect {
                version: Version::V311,
                ..login("d", "ada", "wrong")
            },
            4,
        ),
    ] {
        let mut peer = Peer::tls(endpoint.addr(), endpoint.ca_pem(), &offer).unwrap();
        assert_eq!(peer.connect(connect), code, "{connect:?}");
        if code != 0 {
            peer.ended();
        }
    }
    let counts = endpoint.shutdown(DRAIN);
    assert_eq!(
        counts.connects_by_alpn.into_iter().collect::<Vec<_>>(),
        [("mqtt", 1)]
    );
    assert_eq!((counts.refused, counts.client_certificates), (3, 0));
}

#[test]
fn without_users_alpn_mqtt_refuses_everybody() {
    let endpoint = Endpoint::for_tests().unwrap();
    let offer = Offer {
        alpn: &["mqtt"],
        ..Offer::default()
    };
    let mut peer = Peer::tls(endpoint.addr(), endpoint.ca_pem(), &offer).unwrap();
    assert_eq!(peer.connect(login("a", "", "")), 0x86);
    assert_eq!(Peer::plain(endpoint.plain_addr().unwrap()).connect(hello("a")), 0);
}

#[test]
fn without_tls_users_count_if_there_are_any() {
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let endpoint = Endpoint::builder()
        .plain(addr)
        .user("ada", "secret")
        .start()
        .unwrap();
    let addr = endpoint.plain_addr().unwrap();
    assert_eq!(Peer::plain(addr).connect(hello("a")), 0x86);
    assert_eq!(Peer::plain(addr).connect(login("a", "ada", "secret")), 0);
}

#[test]
fn who_does_not_fit_the_table_stays_outside() {
    let endpoint = Endpoint::for_tests().unwrap();
    let stranger = Pki::throw_away::<&str>([]).unwrap();
    let stranger = stranger.issue_device("device-0", KeyType::P256, None).unwrap();
    let mtls = &["x-amzn-mqtt-ca"][..];
    let offers = [
        (
            Offer {
                alpn: &["h2", "http/1.1"],
                ..Offer::default()
            },
            "alpn_refused",
        ),
        (
            Offer {
                alpn: mtls,
                ..Offer::default()
            },
            "client_cert_required",
        ),
        (
            Offer {
                alpn: mtls,
                device: Some(&stranger),
                versions: Versions::Both,
            },
            "client_cert_unknown_ca",
        ),
    ];
    for (offer, slug) in offers {
        let error = outside(&endpoint, &offer).expect_err("it is refused");
        assert_eq!(error.slug(), slug);
    }
    // The handshake succeeds, and then there is nothing.
    outside(&endpoint, &Offer::default()).unwrap();
    let counts = endpoint.shutdown(DRAIN);
    let failures: Vec<_> = counts.tls_failures.into_iter().collect();
    let each = [
        "alpn_missing",
        "alpn_refused",
        "client_cert_required",
        "client_cert_unknown_ca",
    ];
    assert_eq!(failures, each.map(|slug| (slug, 1)));
    assert_eq!((counts.accepted, counts.client_certificates), (0, 0));
}

/// Connects and waits for the end.
fn outside(endpoint: &Endpoint, offer: &Offer<'_>) -> Result<(), TlsError> {
    let mut peer = Peer::tls(endpoint.addr(), endpoint.ca_pem(), offer)?;
    let packet = peer.next(|packet| format!("{packet:?}"))?;
    assert_eq!(packet, None);
    Ok(())
}

#[test]
fn connack_says_what_there_is() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut peer = Peer::plain(endpoint.plain_addr().unwrap());
    peer.send(&Packet::Connect(hello("")));
    peer.next(|packet| {
        let Packet::Connack(connack) = packet else {
            panic!("{packet:?}")
        };
        let properties = connack.properties;
        assert_eq!((connack.code, connack.session_present), (0, false));
        assert_eq!(properties.maximum_qos(), Some(QoS::AtLeastOnce));
        assert_eq!(properties.receive_maximum(), Some(100));
        assert_eq!(properties.maximum_packet_size(), Some(256 * 1024));
        assert_eq!(properties.topic_alias_maximum(), Some(8));
        assert_eq!(properties.subscription_identifier_available(), Some(false));
        assert_eq!(properties.shared_subscription_available(), Some(false));
        assert_eq!(properties.wildcard_subscription_available(), None);
        assert_eq!(properties.retain_available(), None);
        assert_eq!(properties.server_keep_alive(), None);
        assert_eq!(properties.session_expiry_interval(), None);
        assert!(
            properties
                .assigned_client_identifier()
                .is_some_and(|id| id.starts_with("auto-"))
        );
    })
    .unwrap();
}

#[test]
fn a_subscriber_that_rests_gets_everything_in_order() {
    // A window of one message: all others wait in the broker.
    let limits = Limits::default().in_flight_max(1);
    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let endpoint = Endpoint::builder().plain(addr).limits(limits).start().unwrap();
    let addr = endpoint.plain_addr().unwrap();
    let (mut subscriber, mut publisher) = (Peer::plain(addr), Peer::plain(addr));
    assert_eq!(
        (subscriber.connect(hello("s")), publisher.connect(hello("p"))),
        (0, 0)
    );
    subscriber.subscribe("#");
    for number in 0..200_u32 {
        publisher.publish("a", &number.to_be_bytes());
    }
    for number in 0..200_u32 {
        assert_eq!(subscriber.payload(), number.to_be_bytes());
    }
    drop((subscriber, publisher));
    let counts = endpoint.shutdown(DRAIN);
    assert_eq!((counts.broker.delivered_out, counts.broker.dropped()), (200, 0));
}

#[test]
fn a_newcomer_takes_over_and_the_will_is_published() {
    let endpoint = Endpoint::for_tests().unwrap();
    let addr = endpoint.plain_addr().unwrap();
    let will = Will {
        topic: TopicName::new("wills/a").unwrap(),
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::EMPTY,
    };
    let mut watcher = Peer::plain(addr);
    assert_eq!(watcher.connect(hello("watcher")), 0);
    watcher.subscribe("wills/+");
    for version in [Version::V5, Version::V311] {
        let (mut old, mut new) = (Peer::plain(addr), Peer::plain(addr));
        assert_eq!(
            old.connect(Connect {
                version,
                will: Some(will),
                ..hello("a")
            }),
            0
        );
        assert_eq!(
            new.connect(Connect {
                version,
                will: Some(will),
                ..hello("a")
            }),
            0
        );
        assert_eq!(watcher.payload(), b"gone");
        if version == Version::V5 {
            let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver));
            assert_eq!(old.text(), format!("{disconnect:?}"));
        }
        old.ended();
        // Who says good-bye with 0x04 wants the will, v5 section 3.14.2.1; 3.1.1 just hangs up.
        if version == Version::V5 {
            new.send(&Packet::Disconnect(Disconnect::new(
                ReasonCode::DisconnectWithWillMessage,
            )));
        }
        drop(new);
        assert_eq!(watcher.payload(), b"gone");
    }
    drop(watcher);
    let counts = endpoint.shutdown(DRAIN);
    assert_eq!((counts.broker.taken_over, counts.broker.wills), (2, 4));
}

#[test]
fn qos_2_is_answered_as_the_version_has_it() {
    let endpoint = Endpoint::for_tests().unwrap();
    for version in [Version::V5, Version::V311] {
        let mut peer = Peer::plain(endpoint.plain_addr().unwrap());
        assert_eq!(
            peer.connect(Connect {
                version,
                ..hello("a")
            }),
            0
        );
        let publish = fleetwire_codec::Publish::new(TopicName::new("a").unwrap(), b"x");
        let packet_id = Some(fleetwire_codec::PacketId::MIN);
        peer.send(&Packet::Publish(fleetwire_codec::Publish {
            qos: QoS::ExactlyOnce,
            packet_id,
            ..publish
        }));
        if version == Version::V5 {
            let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::QoSNotSupported));
            assert_eq!(peer.text(), format!("{disconnect:?}"));
        }
        peer.ended();
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let error = Endpoint::builder().user("a?b", "x").start().unwrap_err();
    assert!(
        matches!(&error, EndpointError::UserName { name } if name == "a?b"),
        "{error}"
    );
    let endpoint = Endpoint::for_tests().unwrap();
    let error = Endpoint::builder().listen(endpoint.addr()).start().unwrap_err();
    assert!(
        matches!(&error, EndpointError::Listen { addr, .. } if *addr == endpoint.addr()),
        "{error}"
    );
}
