//! From publisher to subscriber: who gets what, in which order, with which bits.

use fleetwire_codec::{QoS, TopicFilterBuf, TopicName, TopicNameBuf};
use fleetwire_endpoint::Endpoint;
use fleetwire_engine::{ConnectForm, OwnedKind, OwnedPublish};

use crate::support::{
    Client, Device, Drip, PASSWORD, Raw, WAIT, any_port, connect, connect_with, dial, identity, packet,
    plain_plan, publish, text, tls_client,
};

fn subscriber(endpoint: &Endpoint, version: u8, id: &str, filter: &str, qos: u8) -> Raw<std::net::TcpStream> {
    let mut raw = Raw::plain(endpoint.plain_addr().unwrap());
    raw.connect(&connect(version, id));
    assert_eq!(raw.subscribe(version, filter, qos), qos.min(1));
    raw
}

fn publisher(endpoint: &Endpoint, version: u8) -> Raw<std::net::TcpStream> {
    let mut raw = Raw::plain(endpoint.plain_addr().unwrap());
    raw.connect(&connect(version, "publisher"));
    raw
}

fn topic(name: &str) -> TopicNameBuf {
    TopicName::new(name).unwrap().into()
}

/// v5 [MQTT-3.3.2-17] to [MQTT-3.3.2-20]: every property of an application message, in its order, byte for byte.
#[test]
fn properties_of_5_0_are_forwarded_unaltered() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut new = subscriber(&endpoint, 5, "new", "t", 1);
    let mut old = subscriber(&endpoint, 4, "old", "t", 0);
    let mut from = publisher(&endpoint, 5);
    let mut properties = vec![0x01, 1];
    properties.push(0x26);
    properties.extend([text("z"), text("1")].concat());
    properties.push(0x03);
    properties.extend(text("application/json"));
    properties.push(0x08);
    properties.extend(text("answers/a"));
    properties.extend_from_slice(&[0x09, 0, 3, 0, 0xff, 0x80]);
    for value in ["2", "1", ""] {
        properties.push(0x26);
        properties.extend([text("a"), text(value)].concat());
    }
    from.send(&publish(5, 0x02, "t", &properties, b"{}"));
    assert_eq!(from.packet()[..4], [0x40, 2, 0, 7]);
    let received = new.packet();
    let expected = publish(5, 0x02, "t", &properties, b"{}");
    // The identifier is the endpoint's own.
    let id = 2 + text("t").len();
    assert_eq!(
        (&received[..id], &received[id + 2..]),
        (&expected[..id], &expected[id + 2..])
    );
    // 3.1.1 has no place for them.
    assert_eq!(old.packet(), publish(4, 0, "t", &[], b"{}"));
}

/// v5 section 4.7: which filters match which topics.
#[test]
fn wildcards_match_as_the_standard_has_it() {
    let endpoint = Endpoint::for_tests().unwrap();
    let filters = ["#", "+", "a/#", "a/+", "a/+/c", "+/b", "/+", "a", "$SYS/#"];
    let mut subscribers: Vec<_> = filters
        .iter()
        .map(|filter| subscriber(&endpoint, 5, filter, filter, 0))
        .collect();
    let mut from = publisher(&endpoint, 5);
    let topics: [(&str, &[&str]); 7] = [
        ("a", &["#", "+", "a/#", "a"]),
        ("a/b", &["#", "a/#", "a/+", "+/b"]),
        ("a/b/c", &["#", "a/#", "a/+/c"]),
        ("/b", &["#", "+/b", "/+"]),
        ("a/", &["#", "a/#", "a/+"]),
        ("A", &["#", "+"]),
        // v5 [MQTT-4.7.2-1].
        ("$SYS/load", &["$SYS/#"]),
    ];
    for (name, _) in topics {
        from.send(&publish(5, 0, name, &[], b"x"));
    }
    // Each gets its own, in order, and after them the answer to a ping.
    from.send(&packet(0xc0, &[]));
    assert_eq!(from.packet(), [0xd0, 0]);
    for (filter, raw) in filters.iter().zip(&mut subscribers) {
        for (name, matching) in topics {
            if matching.contains(filter) {
                assert_eq!(raw.packet(), publish(5, 0, name, &[], b"x"), "{filter} {name}");
            }
        }
        raw.send(&packet(0xc0, &[]));
        assert_eq!(raw.packet(), [0xd0, 0], "{filter}");
    }
}

/// v5 section 3.3.1.3.
#[test]
fn retained_messages_are_kept_replaced_and_cleared() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut from = publisher(&endpoint, 5);
    let mut live = subscriber(&endpoint, 5, "live", "r/#", 1);
    let send = |from: &mut Raw<_>, payload: &[u8]| {
        from.send(&publish(5, 0x01, "r/1", &[0x01, 1], payload));
    };
    send(&mut from, b"old");
    send(&mut from, b"new");
    // Those who are there see a new message: RETAIN is off (v5 [MQTT-3.3.1-12]).
    for payload in [b"old", b"new"] {
        assert_eq!(live.packet(), publish(5, 0, "r/1", &[0x01, 1], payload));
    }
    let mut late = subscriber(&endpoint, 5, "late", "r/+", 1);
    assert_eq!(late.packet(), publish(5, 0x01, "r/1", &[0x01, 1], b"new"));
    let mut old = subscriber(&endpoint, 4, "old", "r/1", 1);
    assert_eq!(old.packet(), publish(4, 0x01, "r/1", &[], b"new"));
    // An empty payload clears, and is delivered to those who are there.
    send(&mut from, b"");
    assert_eq!(live.packet(), publish(5, 0, "r/1", &[0x01, 1], b""));
    let mut later = subscriber(&endpoint, 5, "later", "#", 1);
    from.send(&publish(5, 0, "marker", &[], b"x"));
    assert_eq!(later.packet(), publish(5, 0, "marker", &[], b"x"));
}

/// What is asked for at QoS 2 is granted at QoS 1, and delivered so.
#[test]
fn subscriptions_are_granted_at_most_qos_1() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut subscribers = Vec::new();
    for version in [4, 5] {
        for qos in [0, 1, 2] {
            subscribers.push((
                qos.min(1),
                subscriber(&endpoint, version, &format!("{version}-{qos}"), "t", qos),
            ));
        }
    }
    let mut from = publisher(&endpoint, 4);
    from.send(&publish(4, 0x02, "t", &[], b"x"));
    assert_eq!(from.packet(), [0x40, 2, 0, 7]);
    for (granted, raw) in &mut subscribers {
        assert_eq!(raw.packet()[0], 0x30 | *granted << 1);
    }
    // v5 section 3.8.3.1: QoS 3 and reserved bits are malformed; a shared subscription is refused on its own.
    let (_, last) = subscribers.last_mut().unwrap();
    assert_eq!(last.subscribe(5, "$share/group/t", 1), 0x9e);
}

/// v5 [MQTT-3.2.2-11]; 3.1.1 has no reason to give.
#[test]
fn a_publish_at_qos_2_ends_the_connection() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut watcher = subscriber(&endpoint, 5, "watcher", "#", 1);
    let mut from = publisher(&endpoint, 5);
    from.send(&publish(5, 0x04, "t", &[], b"x"));
    let end = from.rest();
    assert_eq!((end[0], end[2]), (0xe0, 0x9b), "{end:?}");
    let mut from = publisher(&endpoint, 4);
    from.send(&publish(4, 0x04, "t", &[], b"x"));
    assert_eq!(from.rest(), []);
    watcher.send(&packet(0xc0, &[]));
    assert_eq!(watcher.packet(), [0xd0, 0], "nothing of it was delivered");
}

/// v5 and v3.1.1 section 4.3.3, with an endpoint that takes QoS 2: each of the two exchanges has its own identifier, and a
/// message that its publisher sends twice is delivered once. Maximum QoS is not announced then (v5 section 3.2.2.3.4).
#[test]
fn qos_2_is_served_where_it_is_asked_for() {
    let endpoint = Endpoint::builder()
        .plain(any_port())
        .qos_max(QoS::ExactlyOnce)
        .start()
        .unwrap();
    for version in [4, 5] {
        let mut to = Raw::plain(endpoint.plain_addr().unwrap());
        let connack = to.connect(&connect(version, "to"));
        assert!(version == 4 || !connack.contains(&0x24), "{connack:?}");
        assert_eq!(to.subscribe(version, "t", 2), 2);
        let mut from = publisher(&endpoint, version);
        let message = publish(version, 0x04, "t", &[], b"x");
        from.send(&message);
        from.send(&message);
        assert_eq!(from.packet(), [0x50, 2, 0, 7]);
        assert_eq!(from.packet(), [0x50, 2, 0, 7]);
        from.send(&[0x62, 2, 0, 7]);
        assert_eq!(from.packet(), [0x70, 2, 0, 7]);
        assert_eq!(to.packet()[0], 0x34);
        to.send(&[0x50, 2, 0, 1]);
        assert_eq!(to.packet(), [0x62, 2, 0, 1]);
        to.send(&[0x70, 2, 0, 1]);
        to.send(&packet(0xc0, &[]));
        assert_eq!(to.packet(), [0xd0, 0], "nothing came twice");
    }
}

/// A QoS 1 delivery that is not acknowledged is not sent again on the same connection (v5 section 4.4), and the session
/// ends with it: the next connection of that client starts afresh.
#[test]
fn nothing_is_delivered_twice() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut from = publisher(&endpoint, 5);
    let mut lazy = subscriber(&endpoint, 5, "lazy", "t", 1);
    from.send(&publish(5, 0x02, "t", &[], b"1"));
    let first = lazy.packet();
    assert_eq!(first[0], 0x32, "QoS 1, not a duplicate");
    lazy.send(&packet(0xc0, &[]));
    assert_eq!(lazy.packet(), [0xd0, 0]);
    drop(lazy);
    let mut again = Raw::plain(endpoint.plain_addr().unwrap());
    assert_eq!(
        again.connect(&connect(5, "lazy"))[..2],
        [0, 0],
        "no session is present"
    );
    again.send(&packet(0xc0, &[]));
    assert_eq!(again.packet(), [0xd0, 0]);
}

/// v5 [MQTT-4.6.0-5] and [MQTT-4.6.0-6]: 1,000 messages of one publisher, at both QoS, of all sizes, over mutual TLS.
#[test]
fn order_and_bytes_are_kept_over_tls() {
    const MESSAGES: usize = 1_000;
    let endpoint = Endpoint::for_tests().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    let client = |device: &mut Device, id: &str| {
        device.form.client_id = id.to_owned();
        device.form.identity = Some(identity(&endpoint, id));
        device.connect(endpoint.addr()).unwrap()
    };
    let to = client(&mut device, "to");
    let filter = TopicFilterBuf::new("order/+").unwrap();
    to.engine
        .handle()
        .subscribe(to.link, vec![(filter, QoS::AtLeastOnce)])
        .unwrap();
    to.next(|_, kind| matches!(kind, OwnedKind::Subscribed { .. }).then_some(()));
    let from = client(&mut device, "from");
    let payload = |index: usize| {
        let mut payload = index.to_string().into_bytes();
        // From a few bytes over one TLS record up to several.
        payload.resize(payload.len() + index * index % 40_000, b'.');
        payload
    };
    let handle = from.engine.handle();
    let mut next_up = 0;
    let mut received = 0;
    while received < MESSAGES {
        // Within the window and the output bound of 1 MiB, so that nothing is refused as full.
        while next_up < MESSAGES && next_up < received + 20 {
            let qos = if next_up % 3 == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            };
            let message = OwnedPublish::new(topic("order/a"), payload(next_up)).qos(qos);
            handle.publish(from.link, message).unwrap();
            next_up += 1;
        }
        let message = to.next(|_, kind| match kind {
            OwnedKind::Message(message) => Some(message),
            OwnedKind::Disconnected(end) => panic!("{end:?}"),
            _ => None,
        });
        assert!(message.payload == payload(received), "message {received}");
        assert!(!message.dup && !message.retain);
        let qos = if received % 3 == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        assert_eq!((&*message.topic, message.qos), ("order/a", qos));
        received += 1;
        if qos == QoS::AtLeastOnce {
            from.next(|_, kind| match kind {
                OwnedKind::Acked(_) => Some(()),
                OwnedKind::Dropped(dropped) => panic!("{dropped:?}"),
                _ => None,
            });
        }
    }
    let stats = from.engine.shutdown(WAIT).stats;
    assert_eq!(stats.published, MESSAGES as u64);
    to.engine.shutdown(WAIT);
    let counts = endpoint.shutdown(WAIT).broker;
    assert_eq!((counts.published_in, counts.delivered_out), (1_000, 1_000));
    assert_eq!(counts.dropped(), 0);
}

/// A subscriber that reads nothing for a while holds up nobody, and gets everything in the end.
#[test]
fn a_subscriber_that_does_not_read_holds_up_nobody() {
    const MESSAGES: u32 = 2_000;
    let endpoint = Endpoint::for_tests().unwrap();
    let mut slow = subscriber(&endpoint, 5, "slow", "t", 1);
    let mut quick = subscriber(&endpoint, 5, "quick", "t", 0);
    let mut from = publisher(&endpoint, 5);
    let payload = vec![b'x'; 1_000];
    for _ in 0..MESSAGES {
        from.send(&publish(5, 0x02, "t", &[], &payload));
        assert_eq!(from.packet()[0], 0x40);
        assert_eq!(quick.packet()[0], 0x30);
    }
    for _ in 0..MESSAGES {
        let message = slow.packet();
        assert_eq!(message[0], 0x32);
        // PUBACK with the identifier, so that the window opens.
        let id = 3 + text("t").len();
        slow.send(&packet(0x40, &message[id..id + 2]));
    }
    assert_eq!(endpoint.shutdown(WAIT).broker.dropped(), 0);
}

/// Packets and TLS records cut anywhere, and many of them at once.
#[test]
fn how_the_bytes_are_cut_does_not_matter() {
    let endpoint = Endpoint::builder()
        .plain(any_port())
        .user("ada", "secret")
        .start()
        .unwrap();
    let stream = Drip(dial(endpoint.addr()));
    let mut drip = Raw(tls_client(endpoint.ca_pem(), &[PASSWORD], stream));
    let login = [text("ada"), text("secret")].concat();
    assert_eq!(drip.connect(&connect_with(5, "drip", 0xc2, &login))[..2], [0, 0]);
    assert_eq!(drip.subscribe(5, "t", 0), 0);

    let mut burst = Raw::plain(endpoint.plain_addr().unwrap());
    let mut bytes = connect_with(5, "burst", 0xc2, &login);
    let message = |index: usize| publish(5, 0, "t", &[], &vec![index as u8; index]);
    for index in 0..300 {
        bytes.extend(message(index));
    }
    burst.send(&bytes);
    assert_eq!(burst.packet()[0], 0x20);
    for index in 0..300 {
        assert_eq!(drip.packet(), message(index));
    }
    // Back the other way, every byte of it in a segment of its own.
    assert_eq!(burst.subscribe(5, "u", 1), 1);
    let message = publish(5, 0x02, "u", &[0x01, 1], &[7; 700]);
    drip.send(&message);
    assert_eq!(drip.packet()[..4], [0x40, 2, 0, 7]);
    let received = burst.packet();
    assert_eq!((received.len(), received[0]), (message.len(), 0x32));
    assert!(received.ends_with(&[7; 700]));
}

#[test]
fn unsubscribing_ends_it_and_says_whether_there_was_one() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut raw = subscriber(&endpoint, 5, "a", "t", 1);
    let unsubscribe = packet(0xa2, &[&[0, 9, 0][..], &text("t"), &text("u")].concat());
    raw.send(&unsubscribe);
    assert_eq!(raw.packet(), [0xb0, 5, 0, 9, 0, 0, 0x11]);
    raw.send(&publish(5, 0, "t", &[], b"x"));
    raw.send(&packet(0xc0, &[]));
    assert_eq!(raw.packet(), [0xd0, 0]);
}

/// Links of our engine without TLS, both versions of MQTT against each other.
#[test]
fn versions_talk_to_each_other() {
    let endpoint = Endpoint::for_tests().unwrap();
    let plan = plain_plan(endpoint.plain_addr().unwrap());
    let mut clients = Vec::new();
    for version in [fleetwire_codec::Version::V311, fleetwire_codec::Version::V5] {
        let mut form = ConnectForm::new(format!("{version:?}"));
        form.version = version;
        let client = Client::connect(&plan, form).unwrap();
        let filter = TopicFilterBuf::new("both").unwrap();
        client
            .engine
            .handle()
            .subscribe(client.link, vec![(filter, QoS::ExactlyOnce)])
            .unwrap();
        let codes = client.next(|_, kind| match kind {
            OwnedKind::Subscribed { codes, .. } => Some(codes),
            _ => None,
        });
        assert_eq!(codes, [1]);
        clients.push(client);
    }
    for (index, client) in clients.iter().enumerate() {
        let message = OwnedPublish::new(topic("both"), vec![index as u8]).qos(QoS::AtLeastOnce);
        client.engine.handle().publish(client.link, message).unwrap();
        for client in &clients {
            let payload = client.next(|_, kind| match kind {
                OwnedKind::Message(message) => Some(message.payload),
                _ => None,
            });
            assert_eq!(payload[..], [index as u8]);
        }
    }
}
