use super::*;

fn broker(url: &str) -> Broker {
    Broker::parse(url, BrokerFlags::default()).unwrap()
}

fn usage(url: &str, flags: BrokerFlags<'_>) -> String {
    match Broker::parse(url, flags) {
        Err(Problem::Usage(text)) => text,
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn ports_follow_the_scheme() {
    assert_eq!(broker("mqtt://broker.example").port, 1883);
    assert_eq!(broker("mqtts://broker.example").port, 8883);
    assert_eq!(broker("MQTTS://broker.example:443/").port, 443);
    assert_eq!(broker("mqtt://broker.example").tls, None);
}

#[test]
fn ipv6_hosts_stand_in_brackets() {
    let with_port = broker("mqtts://[2001:db8::1]:443");
    assert_eq!((with_port.host.as_str(), with_port.port), ("2001:db8::1", 443));
    assert_eq!(with_port.to_string(), "mqtts://[2001:db8::1]:443");
    let without = broker("mqtt://[::1]");
    assert_eq!((without.host.as_str(), without.port), ("::1", 1883));
    for wrong in [
        "mqtt://::1",
        "mqtt://::1:1883",
        "mqtt://[::1",
        "mqtt://[host]:1883",
        "mqtt://[::1]x:1",
    ] {
        usage(wrong, BrokerFlags::default());
    }
}

#[test]
fn the_query_carries_alpn_and_sni() {
    let tls = broker("mqtts://10.0.0.7:443?alpn=x-amzn-mqtt-ca,mqtt&sni=iot.example")
        .tls
        .unwrap();
    assert_eq!(tls.alpn, ["x-amzn-mqtt-ca", "mqtt"]);
    assert_eq!(tls.server_name, "iot.example");
    assert!(!tls.alpn_by_aws_rule);
    assert_eq!(
        broker("mqtts://iot.example").tls.unwrap().server_name,
        "iot.example"
    );
}

#[test]
fn what_is_not_understood_is_a_usage_error_that_says_what_to_write() {
    for (url, part) in [
        ("broker.example:1883", "no scheme"),
        ("ws://broker.example", "WebSocket"),
        ("tcp://broker.example", "mqtt://"),
        ("ssl://broker.example", "mqtts://"),
        ("http://broker.example", "unknown scheme"),
        ("mqtt://", "host"),
        ("mqtt://:1883", "host"),
        ("mqtt://a b", "host"),
        ("mqtt://host:0", "port"),
        ("mqtt://host:65536", "port"),
        ("mqtt://host:", "port"),
        ("mqtt://user:secret@host", "--username"),
        ("mqtt://host/topic", "path"),
        ("mqtts://host#x", "fragment"),
        ("mqtts://host?keepalive=3", "unknown query `keepalive`"),
        ("mqtts://host?alpn=a&alpn=b", "twice"),
        ("mqtts://host?alpn=", "1 to 255 bytes"),
        ("mqtts://host?alpn=a,,b", "1 to 255 bytes"),
        ("mqtts://host?sni=", "sni=HOST"),
        ("mqtt://host?alpn=mqtt", "needs TLS"),
    ] {
        let text = usage(url, BrokerFlags::default());
        assert!(text.contains(part), "{url}: {text}");
    }
}

#[test]
fn flags_join_the_url_and_may_not_contradict_it() {
    let mqtt = ["mqtt".to_owned()];
    let flags = BrokerFlags {
        alpn: &mqtt,
        sni: Some("other.example"),
        ..BrokerFlags::default()
    };
    let tls = Broker::parse("mqtts://host", flags).unwrap().tls.unwrap();
    assert_eq!(
        (tls.alpn, tls.server_name),
        (vec!["mqtt".to_owned()], "other.example".to_owned())
    );
    assert!(Broker::parse("mqtts://host?alpn=mqtt&sni=other.example", flags).is_ok());
    assert_eq!(
        usage("mqtts://host?alpn=x-amzn-mqtt-ca", flags),
        "--alpn mqtt and the URL's alpn=x-amzn-mqtt-ca disagree: keep one of them"
    );
    assert!(usage("mqtts://host?sni=host", flags).contains("--sni other.example"));
}

#[test]
fn a_flag_of_tls_needs_tls() {
    let flags = BrokerFlags {
        tls_only_flag: Some("--ca"),
        ..BrokerFlags::default()
    };
    assert!(usage("mqtt://host", flags).starts_with("--ca needs TLS"));
    assert!(Broker::parse("mqtts://host", flags).is_ok());
}

#[test]
fn another_address_can_be_dialled() {
    let other = ("127.0.0.1".to_owned(), 9443);
    let flags = BrokerFlags {
        connect_to: Some(&other),
        ..BrokerFlags::default()
    };
    let broker = Broker::parse("mqtts://iot.example:443", flags).unwrap();
    assert_eq!(broker.dialled(), ("127.0.0.1", 9443));
    assert_eq!(broker.tls.unwrap().server_name, "iot.example");
}

#[test]
fn aws_on_port_443_gets_the_alpn_of_its_own_builders() {
    let by_password = BrokerFlags {
        authenticates_by_password: true,
        ..BrokerFlags::default()
    };
    for (url, flags, alpn) in [
        (
            "mqtts://a1b2-ats.iot.eu-west-1.amazonaws.com:443",
            BrokerFlags::default(),
            Some("x-amzn-mqtt-ca"),
        ),
        (
            "mqtts://A1B2.IOT.cn-north-1.amazonaws.com.cn:443",
            BrokerFlags::default(),
            Some("x-amzn-mqtt-ca"),
        ),
        (
            "mqtts://a1b2-ats.iot.eu-west-1.amazonaws.com:443",
            by_password,
            Some("mqtt"),
        ),
        (
            "mqtts://a1b2-ats.iot.eu-west-1.amazonaws.com",
            BrokerFlags::default(),
            None,
        ),
        (
            "mqtts://iot.eu-west-1.amazonaws.com:443",
            BrokerFlags::default(),
            None,
        ),
        (
            "mqtts://a.iot.eu-west-1.amazonaws.com.example:443",
            BrokerFlags::default(),
            None,
        ),
        ("mqtts://iot.example:443", BrokerFlags::default(), None),
    ] {
        let tls = Broker::parse(url, flags).unwrap().tls.unwrap();
        assert_eq!(tls.alpn.first().map(String::as_str), alpn, "{url}");
        assert_eq!(tls.alpn_by_aws_rule, alpn.is_some(), "{url}");
    }
    let chosen = broker("mqtts://a-ats.iot.eu-west-1.amazonaws.com:443?alpn=mqtt")
        .tls
        .unwrap();
    assert_eq!(chosen.alpn, ["mqtt"]);
    assert!(!chosen.alpn_by_aws_rule);
}
