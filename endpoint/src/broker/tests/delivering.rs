use proptest::prelude::*;

use super::*;

#[test]
fn the_lower_qos_counts() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    bench.subscribe_with(1, &[("a", SubscriptionOptions::new(QoS::AtMostOnce))]);
    bench.subscribe_with(2, &[("a", SubscriptionOptions::new(QoS::ExactlyOnce))]);
    bench.publish(1, post("a", "x"));
    assert_eq!(
        bench.sent(),
        [publish(1, "a", "x", 0, false), publish(2, "a", "x", 1, false)]
    );
    bench.publish(1, post("a", "y").at_most_once());
    assert_eq!(
        bench.sent(),
        [publish(1, "a", "y", 0, false), publish(2, "a", "y", 0, false)]
    );
}

// v5 [MQTT-3.2.2-11].
#[test]
fn qos_2_ends_the_connection() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench.subscribe(1, "a");
    bench.publish(
        1,
        Post {
            qos: QoS::ExactlyOnce,
            ..post("a", "x")
        },
    );
    assert_eq!(bench.sent(), [(1, Sent::Disconnect(ReasonCode::QoSNotSupported))]);
    assert_eq!(bench.counts().published_in, 0);
}

// v5 [MQTT-3.3.4-6].
#[test]
fn a_subscription_identifier_from_a_client_ends_the_connection() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench.subscribe(1, "a");
    let given = properties(Carrier::Publish, &[Property::SubscriptionIdentifier(1)]);
    bench.publish(
        1,
        Post {
            properties: given.as_properties(),
            ..post("a", "x")
        },
    );
    assert_eq!(bench.sent(), [(1, Sent::Disconnect(ReasonCode::ProtocolError))]);
}

// v5 [MQTT-3.3.4-2], v3.1.1 [MQTT-3.3.5-1].
#[test]
fn a_client_with_several_matching_filters_gets_one_message() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    bench.subscribe_with(1, &[("a/#", SubscriptionOptions::new(QoS::AtMostOnce))]);
    bench.subscribe_with(1, &[("+/b", SubscriptionOptions::new(QoS::AtLeastOnce))]);
    bench.subscribe_with(1, &[("a/b", SubscriptionOptions::new(QoS::AtMostOnce))]);
    bench.publish(2, post("a/b", "x"));
    assert_eq!(bench.sent(), [publish(1, "a/b", "x", 1, false)]);
}

// v5 [MQTT-3.8.3-3].
#[test]
fn no_local_leaves_out_the_clients_own_messages() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    };
    bench.subscribe_with(1, &[("a", options)]);
    bench.publish(1, post("a", "own"));
    bench.publish(2, post("a", "other"));
    assert_eq!(bench.payloads(1), ["other"]);
    // Another filter that does not say so still wins.
    bench.subscribe(1, "+");
    bench.publish(1, post("a", "own"));
    assert_eq!(bench.payloads(1), ["own"]);
}

// v5 [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-20], [MQTT-3.3.2-4].
#[test]
fn properties_go_on_unaltered() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench.subscribe(1, "a");
    let list = [
        Property::UserProperty(("b", "2")),
        Property::PayloadFormatIndicator(true),
        Property::UserProperty(("a", "1")),
        Property::MessageExpiryInterval(100),
        Property::ContentType("text/plain"),
        Property::ResponseTopic(TopicName::new("r").unwrap()),
        Property::CorrelationData(&[0, 255]),
        Property::UserProperty(("a", "1")),
    ];
    let given = properties(Carrier::Publish, &list);
    let post = Post {
        properties: given.as_properties(),
        ..post("a", "x")
    };
    bench.publish(1, post);
    // Once more by way of the queue.
    bench.outlet.room.insert(1, 0);
    bench.publish(1, post);
    bench.writable(1, 9);
    let sent = bench.sent();
    assert_eq!(sent.len(), 2);
    for (_, sent) in sent {
        let Sent::Publish { properties, .. } = sent else {
            panic!("{sent:?}")
        };
        assert_eq!(properties, given.as_properties().as_bytes());
    }
}

// v5 [MQTT-3.3.2-5], [MQTT-3.3.2-6].
#[test]
fn waiting_shortens_a_messages_expiry() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench.subscribe(1, "a");
    bench.outlet.room.insert(1, 0);
    for secs in [100, 7] {
        let list = [Property::MessageExpiryInterval(secs), Property::ContentType("c")];
        let given = properties(Carrier::Publish, &list);
        bench.publish(
            1,
            Post {
                properties: given.as_properties(),
                ..post("a", "x")
            },
        );
    }
    bench.now += Duration::from_millis(7_900);
    bench.writable(1, 9);
    let list = [Property::MessageExpiryInterval(93), Property::ContentType("c")];
    let expected = properties(Carrier::Publish, &list)
        .as_properties()
        .as_bytes()
        .to_vec();
    let sent = bench.sent();
    assert!(
        matches!(&sent[..], [(1, Sent::Publish { properties, .. })] if *properties == expected),
        "{sent:?}"
    );
    assert_eq!(
        (bench.counts().dropped_expired, bench.counts().queued_bytes_now),
        (1, 0)
    );
}

#[test]
fn a_message_is_kept_once_and_only_if_it_has_to_wait() {
    let mut bench = Bench::new();
    bench.connect_all(1..=4);
    for key in 1..=3 {
        bench.subscribe(key, "a");
    }
    assert_eq!(bench.publish(4, post("a", "0")), 0);
    bench.outlet.room.extend([(1, 0), (2, 0)]);
    assert_eq!(bench.publish(4, post("a", "1").retained()), 1);
    assert_eq!(bench.payloads(3), ["0", "1"]);
}

// v5 [MQTT-4.6.0-6], v3.1.1 [MQTT-4.6.0-6].
#[test]
fn messages_that_wait_keep_their_order() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    bench.subscribe(1, "a");
    bench.outlet.room.insert(1, 1);
    for (payload, at_most_once) in [("0", false), ("1", false), ("2", true), ("3", false)] {
        let post = post("a", payload);
        bench.publish(2, if at_most_once { post.at_most_once() } else { post });
    }
    assert_eq!(bench.payloads(1), ["0"]);
    bench.writable(1, 1);
    assert_eq!(bench.payloads(1), ["1"]);
    // There is room for one, but another one comes before the engine has told: it must not overtake.
    bench.outlet.room.insert(1, 9);
    bench.publish(2, post("a", "4"));
    assert_eq!(bench.payloads(1), [""; 0]);
    bench.writable(1, 9);
    assert_eq!(bench.payloads(1), ["2", "3", "4"]);
    bench.publish(2, post("a", "5"));
    assert_eq!(bench.payloads(1), ["5"]);
    assert_eq!(bench.counts().queued_bytes_now, 0);
}

#[test]
fn a_full_queue_drops_qos_0_and_ends_the_subscriber_at_qos_1() {
    let mut bench = Bench::with(BrokerLimits {
        queue_messages_max: 4,
        ..BrokerLimits::default()
    });
    bench.connect_all([1, 2]);
    bench
        .connect(
            3,
            Connect {
                will: Some(will("a", "gone")),
                ..hello("c")
            },
        )
        .unwrap();
    bench.subscribe(1, "a");
    bench.subscribe(3, "a");
    bench.outlet.room.insert(3, 0);
    // QoS 0 fills half of the queue, QoS 1 the rest.
    for payload in ["0", "1", "2"] {
        bench.publish(2, post("a", payload).at_most_once());
    }
    assert_eq!(bench.counts().dropped_queue_full, 1);
    bench.publish(2, post("a", "3"));
    bench.publish(2, post("a", "4"));
    assert_eq!(bench.payloads(1), ["0", "1", "2", "3", "4"]);
    assert_eq!((bench.counts().overfull, bench.counts().connected_now), (0, 3));
    bench.publish(2, post("a", "5"));
    assert_eq!(
        bench.sent(),
        [
            publish(1, "a", "5", 1, false),
            (3, Sent::Disconnect(ReasonCode::QuotaExceeded)),
            publish(1, "a", "gone", 1, false)
        ]
    );
    let counts = bench.counts();
    assert_eq!(
        (counts.overfull, counts.connected_now, counts.queued_bytes_now),
        (1, 2, 0)
    );
}

#[test]
fn the_queues_are_bounded_in_bytes_too() {
    let mut bench = Bench::with(BrokerLimits {
        queue_bytes_max: 4096,
        ..BrokerLimits::default()
    });
    bench.connect_all([1, 2]);
    bench.subscribe(1, "a");
    bench.outlet.room.insert(1, 0);
    bench.publish(2, post("a", &"x".repeat(2000)));
    assert_eq!(bench.counts().overfull, 0);
    bench.publish(2, post("a", &"x".repeat(2000)));
    assert_eq!(bench.counts().overfull, 1);

    let mut bench = Bench::with(BrokerLimits {
        queued_bytes_max: 4096,
        ..BrokerLimits::default()
    });
    bench.connect_all([1, 2, 3]);
    for key in [1, 2] {
        bench.subscribe(key, "a");
        bench.outlet.room.insert(key, 0);
    }
    bench.publish(3, post("a", &"x".repeat(2000)));
    // The second of the two finds no room.
    assert_eq!((bench.counts().overfull, bench.counts().connected_now), (1, 2));
}

/// Each client's end publishes a will that ends the next one: all within one call, without recursion.
#[test]
fn a_chain_of_wills_comes_to_its_end() {
    let mut bench = Bench::with(BrokerLimits {
        queue_messages_max: 0,
        ..BrokerLimits::default()
    });
    let clients = 5_000;
    for key in 0..clients {
        let (id, topic) = (format!("client-{key}"), format!("chain/{}", key + 1));
        bench
            .connect(
                key,
                Connect {
                    will: Some(will(&topic, "gone")),
                    ..hello(&id)
                },
            )
            .unwrap();
        bench.subscribe(key, &format!("chain/{key}"));
        bench.outlet.room.insert(key, 0);
    }
    bench.disconnected(0, false);
    let counts = bench.counts();
    assert_eq!((counts.wills, counts.connected_now), (clients.into(), 0));
}

// v5 [MQTT-3.1.2-24], [MQTT-3.1.2-25].
#[test]
fn a_message_that_is_too_large_for_a_subscriber_is_dropped() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    bench.subscribe(1, "a");
    bench.subscribe(2, "a");
    bench.outlet.packet_len_max.insert(1, 3);
    bench.publish(2, post("a", "long"));
    bench.publish(2, post("a", "abc"));
    let sent = bench.sent();
    assert_eq!(
        sent,
        [
            publish(2, "a", "long", 1, false),
            publish(1, "a", "abc", 1, false),
            publish(2, "a", "abc", 1, false)
        ]
    );
    assert_eq!(
        (bench.counts().dropped_too_large, bench.counts().dropped()),
        (1, 1)
    );
}

#[derive(Debug, Clone)]
enum Step {
    /// A client publishes to a topic, at QoS 1 or 0.
    Publish(u32, &'static str, bool),
    /// A connection has room for so many messages, and the broker is told or is not yet.
    Room(u32, usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..CLIENTS, prop_oneof![Just("a"), Just("b")], any::<bool>())
            .prop_map(|(from, topic, qos)| Step::Publish(from, topic, qos)),
        1 => (0..CLIENTS, 0..5usize, any::<bool>()).prop_map(|(to, room, told)| Step::Room(to, room, told)),
    ];
    proptest::collection::vec(step, 0..80)
}

const CLIENTS: u32 = 3;

proptest! {
    // v5 and v3.1.1 [MQTT-4.6.0-6], and a little more: here a subscriber sees one order of all messages.
    #[test]
    fn every_subscriber_gets_every_message_once_and_in_order(steps in steps()) {
        let mut bench = Bench::new();
        bench.connect_all(0..CLIENTS);
        for key in 0..CLIENTS {
            bench.subscribe(key, if key == 0 { "#" } else { "a" });
        }
        let mut published: Vec<(&str, String)> = Vec::new();
        for step in steps {
            match step {
                Step::Publish(from, topic, at_least_once) => {
                    let payload = published.len().to_string();
                    let post = post(topic, &payload);
                    bench.publish(from, if at_least_once { post } else { post.at_most_once() });
                    published.push((topic, payload));
                }
                Step::Room(key, room, true) => bench.writable(key, room),
                Step::Room(key, room, false) => drop(bench.outlet.room.insert(key, room)),
            }
        }
        for key in 0..CLIENTS {
            bench.writable(key, usize::MAX);
        }
        let sent = bench.sent();
        for key in 0..CLIENTS {
            let got: Vec<&str> = sent
                .iter()
                .filter(|(to, _)| *to == key)
                .map(|(_, sent)| match sent {
                    Sent::Publish { payload, .. } => payload.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            let expected: Vec<&str> = published
                .iter()
                .filter(|(topic, _)| key == 0 || *topic == "a")
                .map(|(_, payload)| payload.as_str())
                .collect();
            prop_assert_eq!(got, expected, "client {}", key);
        }
        prop_assert_eq!((bench.counts().dropped(), bench.counts().queued_bytes_now), (0, 0));
    }
}
