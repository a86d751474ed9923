use super::*;

// v5 [MQTT-3.3.1-5] to [MQTT-3.3.1-8], v3.1.1 [MQTT-3.3.1-5] to [MQTT-3.3.1-10].
#[test]
fn the_last_retained_message_of_a_topic_is_kept() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    bench.publish(1, post("a", "old").retained());
    bench.publish(1, post("a", "new").retained().at_most_once());
    bench.publish(1, post("a", "passing"));
    bench.subscribe(2, "a");
    assert_eq!(bench.sent(), [publish(2, "a", "new", 0, true)]);
    // To those who are subscribed it is an ordinary message; without payload it clears the topic.
    bench.publish(1, post("a", "").retained());
    assert_eq!(bench.sent(), [publish(2, "a", "", 1, false)]);
    bench.subscribe(1, "a");
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.counts().retained_now, 0);
}

#[test]
fn a_wildcard_finds_all_that_are_retained() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    for topic in ["a", "a/b", "a/b/c", "ab", "b", "$a/b", "/", "a!"] {
        bench.publish(1, post(topic, topic).retained());
    }
    for (filter, expected) in [
        ("a", vec!["a"]),
        ("a/#", vec!["a", "a/b", "a/b/c"]),
        ("a/+", vec!["a/b"]),
        ("+/b", vec!["a/b"]),
        ("+", vec!["a", "a!", "ab", "b"]),
        ("#", vec!["/", "a", "a!", "a/b", "a/b/c", "ab", "b"]),
        ("$a/#", vec!["$a/b"]),
        ("/#", vec!["/"]),
        ("c", vec![]),
    ] {
        bench.subscribe(1, filter);
        assert_eq!(bench.payloads(1), expected, "{filter}");
        bench.unsubscribe(1, &[filter]);
    }
}

// v5 [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
#[test]
fn retain_handling_says_when_they_are_sent() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    bench.publish(2, post("a", "x").retained());
    for (retain_handling, at_first, again) in [
        (RetainHandling::SendAtSubscribe, 1, 1),
        (RetainHandling::SendIfNew, 1, 0),
        (RetainHandling::DoNotSend, 0, 0),
    ] {
        let options = SubscriptionOptions {
            retain_handling,
            ..SubscriptionOptions::new(QoS::AtLeastOnce)
        };
        for expected in [at_first, again] {
            bench.subscribe_with(1, &[("a", options)]);
            assert_eq!(bench.payloads(1).len(), expected, "{retain_handling:?}");
        }
        bench.unsubscribe(1, &["a"]);
    }
}

// v5 [MQTT-3.3.1-12], [MQTT-3.3.1-13].
#[test]
fn retain_as_published_keeps_the_flag() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    let options = SubscriptionOptions {
        retain_as_published: true,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    };
    bench.subscribe_with(1, &[("a", options)]);
    bench.publish(1, post("a", "x").retained());
    bench.publish(1, post("a", "y"));
    assert_eq!(
        bench.sent(),
        [publish(1, "a", "x", 1, true), publish(1, "a", "y", 1, false)]
    );
}

#[test]
fn retained_messages_wait_their_turn_too() {
    let mut bench = Bench::new();
    bench.connect_all([1, 2]);
    for topic in ["a/1", "a/2", "a/3"] {
        bench.publish(2, post(topic, topic).retained());
    }
    bench.outlet.room.insert(1, 1);
    bench.subscribe(1, "a/+");
    bench.publish(2, post("a/1", "new"));
    assert_eq!(bench.payloads(1), ["a/1"]);
    bench.writable(1, 9);
    assert_eq!(
        bench.sent(),
        [
            publish(1, "a/2", "a/2", 1, true),
            publish(1, "a/3", "a/3", 1, true),
            publish(1, "a/1", "new", 1, false)
        ]
    );
}

#[test]
fn more_retained_messages_than_the_queue_holds_end_the_subscriber() {
    let mut bench = Bench::with(BrokerLimits {
        queue_messages_max: 2,
        ..BrokerLimits::default()
    });
    bench.connect_all([1, 2]);
    for topic in ["a/1", "a/2", "a/3", "a/4", "a/5"] {
        bench.publish(2, post(topic, topic).retained());
    }
    bench.outlet.room.insert(1, 1);
    bench.subscribe(1, "a/+");
    let reason = ReasonCode::QuotaExceeded;
    assert_eq!(
        bench.sent(),
        [publish(1, "a/1", "a/1", 1, true), (1, Sent::Disconnect(reason))]
    );
    assert_eq!(
        (bench.counts().dropped_queue_full, bench.counts().queued_bytes_now),
        (1, 0)
    );
}

#[test]
fn retained_messages_expire() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    let given = properties(Carrier::Publish, &[Property::MessageExpiryInterval(10)]);
    bench.publish(
        1,
        Post {
            properties: given.as_properties(),
            ..post("a", "x").retained()
        },
    );
    bench.now += Duration::from_secs(10);
    bench.subscribe(1, "a");
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.counts().retained_now, 0);
}

#[test]
fn the_store_is_bounded() {
    let mut bench = Bench::with(BrokerLimits {
        retained_messages_max: 2,
        ..BrokerLimits::default()
    });
    bench.connect_all([1]);
    for topic in ["a", "b", "c", "a"] {
        bench.publish(1, post(topic, topic).retained());
    }
    assert_eq!(
        (bench.counts().retained_now, bench.counts().retained_refused),
        (2, 1)
    );

    let mut bench = Bench::with(BrokerLimits {
        retained_bytes_max: 4096,
        ..BrokerLimits::default()
    });
    bench.connect_all([1]);
    bench.publish(1, post("a", "small").retained());
    // The old message is no longer true, so it does not stay in place of the one that has no room.
    bench.publish(1, post("a", &"x".repeat(4000)).retained());
    bench.subscribe(1, "a");
    assert_eq!(bench.payloads(1), [""; 0]);
    assert_eq!(
        (bench.counts().retained_now, bench.counts().retained_refused),
        (0, 1)
    );
    for _ in 0..5 {
        bench.publish(1, post("a", &"x".repeat(3000)).retained());
    }
    assert_eq!(
        (bench.counts().retained_now, bench.counts().retained_refused),
        (1, 1)
    );
}
