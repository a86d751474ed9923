use super::*;

#[test]
fn a_client_is_welcome_as_it_asked() {
    let mut bench = Bench::new();
    let welcome = bench.connect(1, hello("a")).unwrap();
    assert_eq!(
        welcome,
        Welcome {
            assigned_client_id: None,
            session_expiry_secs: None,
            server_keep_alive_secs: None,
            keep_alive_secs: 60
        }
    );
    assert_eq!(bench.counts().connected_now, 1);
    bench.disconnected(1, true);
    assert_eq!(bench.counts().connected_now, 0);
    assert_eq!(bench.sent(), []);
}

// v5 [MQTT-3.2.2-16], v3.1.1 [MQTT-3.1.3-6] to [MQTT-3.1.3-8].
#[test]
fn an_empty_client_id_is_replaced_where_it_may_be_empty() {
    let mut bench = Bench::new();
    let first = bench.connect(1, hello("")).unwrap().assigned_client_id.unwrap();
    let second = bench
        .connect(
            2,
            Connect {
                clean_start: false,
                ..hello("")
            },
        )
        .unwrap();
    assert!(first.starts_with("auto-") && Some(first) != second.assigned_client_id);

    let old = Connect {
        version: Version::V311,
        ..hello("")
    };
    assert!(bench.connect(3, old).unwrap().assigned_client_id.is_some());
    let refused = bench.connect(
        4,
        Connect {
            clean_start: false,
            ..old
        },
    );
    assert_eq!(refused, Err(ReasonCode::ClientIdentifierNotValid));
    assert_eq!(bench.counts().connected_now, 3);
}

#[test]
fn a_client_is_told_where_the_answer_differs_from_its_wish() {
    let range = KeepAliveRange {
        min_secs: 30,
        max_secs: 1200,
    };
    let mut bench = Bench::with(BrokerLimits {
        keep_alive: Some(range),
        ..BrokerLimits::default()
    });
    let wish = properties(Carrier::Connect, &[Property::SessionExpiryInterval(3600)]);
    for (asked, granted) in [
        (0, 1200),
        (29, 30),
        (30, 30),
        (60, 60),
        (1200, 1200),
        (1201, 1200),
    ] {
        let connect = Connect {
            keep_alive_secs: asked,
            properties: wish.as_properties(),
            ..hello("a")
        };
        let welcome = bench.connect(asked.into(), connect).unwrap();
        assert_eq!(welcome.keep_alive_secs, granted);
        assert_eq!(
            welcome.server_keep_alive_secs,
            (asked != granted).then_some(granted)
        );
        assert_eq!(welcome.session_expiry_secs, Some(0));
    }
}

#[test]
fn what_cannot_be_served_is_refused() {
    let mut bench = Bench::new();
    // v5 [MQTT-3.2.2-12].
    let will = Will {
        qos: QoS::ExactlyOnce,
        ..will("t", "gone")
    };
    let refused = bench.connect(
        1,
        Connect {
            will: Some(will),
            ..hello("a")
        },
    );
    assert_eq!(refused, Err(ReasonCode::QoSNotSupported));
    // v5 [MQTT-4.12.0-1].
    let method = properties(Carrier::Connect, &[Property::AuthenticationMethod("SCRAM-SHA-1")]);
    let refused = bench.connect(
        1,
        Connect {
            properties: method.as_properties(),
            ..hello("a")
        },
    );
    assert_eq!(refused, Err(ReasonCode::BadAuthenticationMethod));
    bench.connect(1, hello("a")).unwrap();
    assert_eq!(bench.connect(1, hello("b")), Err(ReasonCode::ProtocolError));
    assert_eq!(bench.counts().connects, 1);
}

// v5 [MQTT-3.1.4-3], v3.1.1 [MQTT-3.1.4-2].
#[test]
fn a_client_id_is_taken_over() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench.subscribe(1, "wills/#");
    bench
        .connect(
            2,
            Connect {
                will: Some(will("wills/a", "old")),
                ..hello("a")
            },
        )
        .unwrap();
    bench.subscribe(2, "#");
    bench.sent();

    bench
        .connect(
            3,
            Connect {
                will: Some(will("wills/a", "new")),
                ..hello("a")
            },
        )
        .unwrap();
    assert_eq!(
        bench.sent(),
        [
            (2, Sent::Disconnect(ReasonCode::SessionTakenOver)),
            publish(1, "wills/a", "old", 1, false)
        ]
    );
    // The end of the old connection is no news, and nothing comes from it any more.
    bench.disconnected(2, false);
    bench.publish(2, post("wills/b", "ghost"));
    assert_eq!(bench.sent(), []);
    // The old subscription went with the old session.
    bench.publish(1, post("other", "x"));
    assert_eq!(bench.sent(), []);

    bench.disconnected(3, false);
    assert_eq!(bench.payloads(1), ["new"]);
    assert_eq!((bench.counts().taken_over, bench.counts().wills), (1, 2));
}

// v5 [MQTT-3.1.2-8], [MQTT-3.1.2-10]; v3.1.1 [MQTT-3.1.2-8], [MQTT-3.1.2-10].
#[test]
fn a_will_is_published_unless_the_client_took_its_leave() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench.subscribe(1, "wills/#");
    for (key, clean, expected) in [(2, true, vec![]), (3, false, vec!["gone"])] {
        bench
            .connect(
                key,
                Connect {
                    will: Some(will("wills/a", "gone")),
                    ..hello("a")
                },
            )
            .unwrap();
        bench.sent();
        bench.disconnected(key, clean);
        assert_eq!(bench.payloads(1), expected, "clean: {clean}");
    }
}

#[test]
fn a_will_may_be_retained_and_keeps_its_properties() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    let list = [
        Property::ContentType("text/plain"),
        Property::UserProperty(("a", "1")),
    ];
    let of_will = properties(Carrier::Will, &[Property::WillDelayInterval(5), list[0], list[1]]);
    let will = Will {
        retain: true,
        qos: QoS::AtMostOnce,
        properties: of_will.as_properties(),
        ..will("w", "gone")
    };
    bench
        .connect(
            2,
            Connect {
                will: Some(will),
                ..hello("b")
            },
        )
        .unwrap();
    bench.disconnected(2, false);
    bench.subscribe(1, "w");
    let expected = Sent::Publish {
        topic: "w".to_owned(),
        payload: "gone".to_owned(),
        qos: 0,
        retain: true,
        properties: properties(Carrier::Publish, &list)
            .as_properties()
            .as_bytes()
            .to_vec(),
    };
    assert_eq!(bench.sent(), [(1, expected)]);
}

#[test]
fn a_wills_expiry_begins_when_it_is_published() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    let expiry = properties(Carrier::Will, &[Property::MessageExpiryInterval(10)]);
    let will = Will {
        retain: true,
        properties: expiry.as_properties(),
        ..will("w", "gone")
    };
    bench
        .connect(
            2,
            Connect {
                will: Some(will),
                ..hello("b")
            },
        )
        .unwrap();
    bench.now += Duration::from_secs(3600);
    bench.disconnected(2, false);
    bench.now += Duration::from_secs(9);
    bench.subscribe(1, "w");
    assert_eq!(bench.payloads(1), ["gone"]);
}
