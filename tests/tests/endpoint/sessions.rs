//! From CONNECT to DISCONNECT: CONNACK, take-over, wills, and the end.

use fleetwire_codec::{QoS, ReasonCode, TopicName, Version};
use fleetwire_endpoint::Endpoint;
use fleetwire_engine::{ConnectForm, OwnedKind, Slug, WillForm};

use crate::support::{
    Client, Device, Raw, WAIT, connect, connect_with, identity, packet, plain_plan, publish, text,
};

/// v5 sections 3.2.2.3.4 and 3.2.2.3.11: QoS 1 at most, no Subscription Identifiers.
#[test]
fn connack_tells_a_5_0_client_what_there_is() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut raw = Raw::plain(endpoint.plain_addr().unwrap());
    let connack = raw.connect(&connect(5, ""));
    assert_eq!(connack[..2], [0, 0], "no session present, success");
    let properties = &connack[3..];
    assert_eq!(usize::from(connack[2]), properties.len());
    for expected in [&[0x24, 1][..], &[0x29, 0], &[0x2a, 0]] {
        assert!(
            properties
                .windows(expected.len())
                .any(|window| window == expected),
            "{expected:?} in {properties:?}"
        );
    }
    // v5 [MQTT-3.2.2-16]: an empty client id is answered with the one that was given.
    assert!(
        properties.windows(2).any(|window| window == [0x12, 0]),
        "{properties:?}"
    );

    let mut old = Raw::plain(endpoint.plain_addr().unwrap());
    assert_eq!(old.connect(&connect(4, "old")), [0, 0]);
    // v3.1.1 [MQTT-3.1.3-8]: an empty one without Clean Session is refused with 2.
    let mut old = Raw::plain(endpoint.plain_addr().unwrap());
    assert_eq!(old.connect(&connect_with(4, "", 0, &[])), [0, 2]);
    assert_eq!(old.rest(), []);
}

/// v5 [MQTT-3.1.4-3]: the older connection gets DISCONNECT 0x8E, 3.1.1 a plain end.
#[test]
fn a_newcomer_with_the_same_client_id_takes_over() {
    let endpoint = Endpoint::for_tests().unwrap();
    let address = endpoint.plain_addr().unwrap();
    let mut first = Raw::plain(address);
    first.connect(&connect(5, "twin"));
    let mut second = Raw::plain(address);
    second.connect(&connect(4, "twin"));
    let end = first.rest();
    assert_eq!((end[0], end[2]), (0xe0, 0x8e), "{end:?}");
    let mut third = Raw::plain(address);
    third.connect(&connect(5, "twin"));
    assert_eq!(second.rest(), []);
    third.send(&packet(0xc0, &[]));
    assert_eq!(third.packet(), [0xd0, 0]);
    drop((first, second, third));
    assert_eq!(endpoint.shutdown(WAIT).broker.taken_over, 2);
}

#[test]
fn our_engine_names_a_take_over() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(identity(&endpoint, "device-0"));
    let first = device.connect(endpoint.addr()).unwrap();
    let _second = device.connect(endpoint.addr()).unwrap();
    let end = first.next(|_, kind| match kind {
        OwnedKind::Disconnected(end) => Some(end),
        _ => None,
    });
    assert_eq!(
        (end.slug, end.reason),
        (Slug::CLIENT_ID_TAKEN_OVER, Some(ReasonCode::SessionTakenOver))
    );
}

/// CONNECT with a will at `will/{id}`: QoS 1, retained if asked for.
fn with_will(version: u8, id: &str, retain: bool) -> Vec<u8> {
    let mut more = if version == 5 { vec![0] } else { vec![] };
    more.extend(text(&format!("will/{id}")));
    more.extend(text("gone"));
    connect_with(version, id, 0x02 | 0x04 | 0x08 | u8::from(retain) << 5, &more)
}

#[test]
fn a_will_is_published_unless_the_client_took_its_leave() {
    let endpoint = Endpoint::for_tests().unwrap();
    let address = endpoint.plain_addr().unwrap();
    let mut watcher = Raw::plain(address);
    watcher.connect(&connect(5, "watcher"));
    assert_eq!(watcher.subscribe(5, "will/+", 0), 0);
    let expected = |id: &str| publish(5, 0, &format!("will/{id}"), &[], b"gone");

    // Cut off; v5 [MQTT-3.1.2-8].
    for version in [4, 5] {
        let mut raw = Raw::plain(address);
        raw.connect(&with_will(version, "cut", false));
        drop(raw);
        assert_eq!(watcher.packet(), expected("cut"));
    }
    // DISCONNECT 0x04 asks for it; v5 section 3.14.2.1.
    let mut raw = Raw::plain(address);
    raw.connect(&with_will(5, "asked", false));
    raw.send(&packet(0xe0, &[4]));
    assert_eq!(watcher.packet(), expected("asked"));
    // Taken over.
    let mut raw = Raw::plain(address);
    raw.connect(&with_will(5, "twin", false));
    let mut twin = Raw::plain(address);
    twin.connect(&connect(5, "twin"));
    assert_eq!(watcher.packet(), expected("twin"));
    // A violation ends it like a cut.
    let mut raw = Raw::plain(address);
    raw.connect(&with_will(5, "violator", false));
    raw.send(&publish(5, 0x06, "t", &[], b""));
    assert_eq!(watcher.packet(), expected("violator"));
    // Good-byes: nothing. The marker after them is the next that comes.
    for version in [4, 5] {
        let mut raw = Raw::plain(address);
        raw.connect(&with_will(version, "polite", false));
        raw.send(&packet(0xe0, &[]));
        assert_eq!(raw.rest(), []);
    }
    twin.send(&publish(5, 0, "will/marker", &[], b"gone"));
    assert_eq!(watcher.packet(), expected("marker"));
}

#[test]
fn a_retained_will_waits_for_those_who_come_later() {
    let endpoint = Endpoint::for_tests().unwrap();
    let address = endpoint.plain_addr().unwrap();
    let mut raw = Raw::plain(address);
    raw.connect(&with_will(5, "cut", true));
    let mut twin = Raw::plain(address);
    // The take-over publishes the will before this CONNACK comes.
    twin.connect(&connect(5, "cut"));
    assert_eq!(twin.subscribe(5, "will/#", 0), 0);
    // v5 [MQTT-3.3.1-8]: RETAIN is set on what was there before.
    assert_eq!(twin.packet(), publish(5, 1, "will/cut", &[], b"gone"));
}

#[test]
fn our_engine_leaves_a_will_when_it_is_cut_off() {
    let endpoint = Endpoint::for_tests().unwrap();
    let address = endpoint.plain_addr().unwrap();
    let mut watcher = Raw::plain(address);
    watcher.connect(&connect(4, "watcher"));
    assert_eq!(watcher.subscribe(4, "will/#", 1), 1);
    for version in [Version::V311, Version::V5] {
        let mut form = ConnectForm::new("mortal");
        form.version = version;
        form.will = Some(will());
        let client = Client::connect(&plain_plan(address), form.clone()).unwrap();
        client.engine.handle().abort(client.link).unwrap();
        let will = watcher.packet();
        assert_eq!(will[0], 0x32);
        assert!(will.ends_with(b"gone"));

        // Closing is good-bye.
        let client = Client::connect(&plain_plan(address), form).unwrap();
        client.engine.shutdown(WAIT);
    }
    watcher.send(&packet(0xc0, &[]));
    assert_eq!(watcher.packet(), [0xd0, 0], "no will of those who closed");
}

fn will() -> WillForm {
    WillForm::new(TopicName::new("will/mortal").unwrap(), b"gone").qos(QoS::AtLeastOnce)
}

/// v5 [MQTT-3.1.2-24]: one and a half keep-alives without a packet end the connection.
#[test]
fn who_falls_silent_is_cut_off() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut body = text("MQTT");
    body.extend_from_slice(&[5, 2, 0, 1, 0]);
    body.extend(text("silent"));
    let mut raw = Raw::plain(endpoint.plain_addr().unwrap());
    let since = std::time::Instant::now();
    raw.connect(&packet(0x10, &body));
    let end = raw.rest();
    assert_eq!((end[0], end[2]), (0xe0, 0x8d), "{end:?}");
    let elapsed = since.elapsed();
    assert!(elapsed >= std::time::Duration::from_millis(1400), "{elapsed:?}");
    drop(raw);
    assert_eq!(
        endpoint.shutdown(WAIT).disconnects.get("keep_alive_timeout"),
        Some(&1)
    );
}

/// v5 section 4.13: a server that goes says so.
#[test]
fn a_shutdown_says_good_bye() {
    let endpoint = Endpoint::for_tests().unwrap();
    let mut new = Raw::plain(endpoint.plain_addr().unwrap());
    new.connect(&connect(5, "new"));
    let mut old = Raw::plain(endpoint.plain_addr().unwrap());
    old.connect(&connect(4, "old"));
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(identity(&endpoint, "device-0"));
    let client = device.connect(endpoint.addr()).unwrap();
    let counts = endpoint.shutdown(WAIT);
    let end = new.rest();
    assert_eq!((end[0], end[2]), (0xe0, 0x8b), "{end:?}");
    assert_eq!(old.rest(), []);
    let end = client.next(|_, kind| match kind {
        OwnedKind::Disconnected(end) => Some(end),
        _ => None,
    });
    assert_eq!(
        (end.slug, end.reason),
        (Slug::DISCONNECTED_BY_PEER, Some(ReasonCode::ServerShuttingDown))
    );
    assert_eq!(counts.disconnects.get("closed_by_us"), Some(&3));
}
