use super::*;

#[test]
fn granted_is_at_most_qos_1() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    let filters = [
        ("a", SubscriptionOptions::new(QoS::AtMostOnce)),
        ("b", SubscriptionOptions::new(QoS::AtLeastOnce)),
        ("c", SubscriptionOptions::new(QoS::ExactlyOnce)),
    ];
    assert_eq!(bench.subscribe_with(1, &filters), [0, 1, 1]);
}

#[test]
fn shared_subscriptions_are_refused_one_by_one() {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    for (version, code) in [(Version::V5, 0x9E), (Version::V311, 0x80)] {
        let mut bench = Bench::new();
        bench
            .connect(
                1,
                Connect {
                    version,
                    ..hello("a")
                },
            )
            .unwrap();
        assert_eq!(
            bench.subscribe_with(1, &[("$share/g/a", options), ("a", options)]),
            [code, 1]
        );
        bench.publish(1, post("a", "x"));
        assert_eq!(bench.payloads(1), ["x"]);
    }
}

// v5 section 3.2.2.3.12.
#[test]
fn a_subscription_identifier_ends_the_connection() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    let mut filters = FiltersBuf::new();
    filters
        .push(
            TopicFilter::new("a").unwrap(),
            SubscriptionOptions::new(QoS::AtMostOnce),
        )
        .unwrap();
    let properties = properties(Carrier::Subscribe, &[Property::SubscriptionIdentifier(1)]);
    let subscribe = Subscribe {
        packet_id: PACKET_ID,
        properties: properties.as_properties(),
        filters: filters.as_filters(),
    };
    bench
        .broker
        .handle_subscribe(bench.now, 1, &subscribe, &mut bench.outlet);
    let reason = ReasonCode::SubscriptionIdentifiersNotSupported;
    assert_eq!(bench.sent(), [(1, Sent::Disconnect(reason))]);
    assert_eq!(bench.counts().connected_now, 0);
}

#[test]
fn filters_beyond_the_bounds_are_refused() {
    let limits = BrokerLimits {
        subscriptions_per_connection_max: 2,
        filter_levels_max: 4,
        ..BrokerLimits::default()
    };
    let mut bench = Bench::with(limits);
    bench.connect_all([1, 2]);
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    assert_eq!(
        bench.subscribe_with(1, &[("a", options), ("b", options), ("c", options)]),
        [0, 0, 0x97]
    );
    // One that is there already needs no further room.
    assert_eq!(bench.subscribe_with(1, &[("b", options)]), [0]);
    assert_eq!(
        bench.subscribe_with(2, &[("c/d/e", options), ("c/d", options)]),
        [0x97, 0]
    );
    bench.disconnected(1, true);
    assert_eq!(bench.subscribe_with(2, &[("c/d/e/f", options)]), [0]);
}

#[test]
fn one_packet_subscribes_to_so_many_filters() {
    let mut bench = Bench::with(BrokerLimits {
        filters_per_subscribe_max: 2,
        ..BrokerLimits::default()
    });
    bench.connect_all([1]);
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    assert_eq!(
        bench.subscribe_with(1, &[("a", options), ("a", options), ("a", options)]),
        [0, 0, 0x97]
    );
    assert_eq!(bench.counts().subscriptions, 2);
}

#[test]
fn unsubscribing_ends_the_messages() {
    let mut bench = Bench::new();
    bench.connect_all([1]);
    bench
        .connect(
            2,
            Connect {
                version: Version::V311,
                ..hello("old")
            },
        )
        .unwrap();
    for key in [1, 2] {
        bench.subscribe(key, "a/+");
        bench.publish(1, post("a/b", "x"));
        assert_eq!(bench.payloads(key), ["x"]);
        bench.unsubscribe(key, &["a/b", "a/+"]);
    }
    // v5 section 3.11.3; v3.1.1 section 3.11: no codes.
    assert_eq!(bench.sent(), [(2, Sent::Unsuback(vec![]))]);
    bench.unsubscribe(1, &["a/+", "a/b"]);
    bench.publish(1, post("a/b", "x"));
    assert_eq!(bench.sent(), [(1, Sent::Unsuback(vec![0x11, 0x11]))]);
    bench.subscribe(1, "a/+");
    bench.unsubscribe(1, &["a/+"]);
    assert_eq!(bench.sent(), [(1, Sent::Unsuback(vec![0]))]);
}

#[test]
fn a_connection_that_is_unknown_is_ignored() {
    let mut bench = Bench::new();
    let mut filters = FiltersBuf::new();
    filters
        .push(
            TopicFilter::new("a").unwrap(),
            SubscriptionOptions::new(QoS::AtMostOnce),
        )
        .unwrap();
    let subscribe = Subscribe {
        packet_id: PACKET_ID,
        properties: Properties::EMPTY,
        filters: filters.as_filters(),
    };
    bench
        .broker
        .handle_subscribe(bench.now, 9, &subscribe, &mut bench.outlet);
    bench.unsubscribe(9, &["a"]);
    bench.publish(9, post("a", "x"));
    bench.writable(9, 1);
    bench.disconnected(9, false);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.counts(), BrokerCounts::default());
}
