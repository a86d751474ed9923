//! Bytes that are no TLS and no MQTT: each gets an answer or an end, never a hang, and the endpoint lives on.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetwire_endpoint::Endpoint;
use fleetwire_engine::Limits;

use crate::support::{Device, PASSWORD, Raw, WAIT, any_port, connect, packet, publish, text};

/// The first bytes of a TLS 1.3 ClientHello, with a record header that announces more.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03AAAAAAAA";

#[test]
fn what_is_no_tls_gets_an_alert_and_an_end() {
    let endpoint = Endpoint::builder().start().unwrap();
    let long = vec![0xff; 100_000];
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &connect(5, "a"),
        &[0; 64],
        &long[..60_000],
    ];
    for bytes in cases {
        let mut raw = Raw::plain(endpoint.addr());
        raw.send(bytes);
        let answer = raw.rest();
        // An alert record (type 21), fatal (2).
        assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "{answer:?}");
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(
        counts.tls_failures.values().sum::<u64>(),
        5,
        "{:?}",
        counts.tls_failures
    );
    assert_eq!((counts.accepted, counts.failure), (0, None));
}

#[test]
fn who_hangs_up_in_the_handshake_is_counted() {
    let endpoint = Endpoint::builder().start().unwrap();
    for bytes in [&b""[..], b"\x16", HALF_A_HELLO] {
        let mut raw = Raw::plain(endpoint.addr());
        raw.send(bytes);
        raw.finish();
        raw.rest();
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.tls_failures, BTreeMap::from([("closed_in_handshake", 3)]));
}

#[test]
fn who_says_nothing_is_cut_off() {
    let limits = Limits::default().accept_timeout(Duration::from_millis(100));
    let endpoint = Endpoint::builder()
        .plain(any_port())
        .limits(limits)
        .start()
        .unwrap();
    for bytes in [&b""[..], HALF_A_HELLO] {
        let mut raw = Raw::plain(endpoint.addr());
        raw.send(bytes);
        raw.rest();
    }
    for bytes in [&b""[..], b"\x10", &connect(5, "a")[..9]] {
        let mut raw = Raw::plain(endpoint.plain_addr().unwrap());
        raw.send(bytes);
        assert_eq!(raw.rest(), []);
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.tls_failures.get("tls_timeout"), Some(&2), "{counts:?}");
    assert_eq!(counts.connects_by_alpn, BTreeMap::new());
}

/// Each in a connection of its own; a bystander sees nothing of it.
#[test]
fn broken_mqtt_ends_its_own_connection_only() {
    let endpoint = Endpoint::for_tests().unwrap();
    let address = endpoint.plain_addr().unwrap();
    let mut bystander = Raw::plain(address);
    bystander.connect(&connect(5, "bystander"));
    assert_eq!(bystander.subscribe(5, "#", 1), 1);

    // Before CONNECT: 5.0 servers close without a CONNACK where the packet cannot be read (v5 section 4.13.1).
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\xc0\x00",
        b"\x10\xff\xff\xff\xff\x7f",
        &packet(
            0x10,
            &[text("MQTT"), vec![5, 3, 0, 60, 0], text("reserved-flag")].concat(),
        ),
        &packet(
            0x10,
            &[text("MQTT"), vec![5, 2, 0, 60, 0], vec![0, 1, 0xff]].concat(),
        ),
        &publish(5, 0, "t", &[], b"too early"),
    ] {
        let mut raw = Raw::plain(address);
        raw.send(bytes);
        let answer = raw.rest();
        assert!(
            answer.is_empty() || (answer[0] == 0x20 && answer[3] >= 0x80),
            "{bytes:?}: {answer:?}"
        );
    }
    // After it: DISCONNECT with the clause's reason, then the end (v5 [MQTT-4.13.1-1]).
    for (bytes, reason) in [
        (connect(5, "twice"), 0x82),
        (publish(5, 0, "a/+", &[], b"wildcard"), 0x81),
        (publish(5, 0x06, "t", &[], b"both QoS bits"), 0x81),
        (packet(0x82, &[0, 0, 0, 0, 1, b'a', 0]), 0x82),
        (packet(0x82, &[0, 1, 0]), 0x82),
        (packet(0x80, &[0, 1, 0, 0, 1, b'a', 0]), 0x81),
        (packet(0xf0, &[0x19, 0]), 0x82),
    ] {
        let mut raw = Raw::plain(address);
        raw.connect(&connect(5, "broken"));
        raw.send(&bytes);
        let answer = raw.rest();
        assert_eq!(
            (answer.first(), answer.get(2)),
            (Some(&0xe0), Some(&reason)),
            "{bytes:?}: {answer:?}"
        );
    }
    // 3.1.1 has no reasons: the connection just ends.
    let mut raw = Raw::plain(address);
    raw.connect(&connect(4, "broken"));
    raw.send(&publish(4, 0x06, "t", &[], b"both QoS bits"));
    assert_eq!(raw.rest(), []);

    bystander.send(&packet(0xc0, &[]));
    assert_eq!(bystander.packet(), [0xd0, 0], "and nothing else came before it");
    let mut late = Raw::plain(address);
    late.connect(&connect(5, "late"));
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.failure, None);
}

/// A packet above Maximum Packet Size: DISCONNECT 0x95 at its head, without waiting for the rest.
#[test]
fn a_packet_that_is_too_large_is_refused_at_its_head() {
    let limits = Limits::default().packet_len_max(10_000);
    let endpoint = Endpoint::builder()
        .plain(any_port())
        .limits(limits)
        .start()
        .unwrap();
    let mut raw = Raw::plain(endpoint.plain_addr().unwrap());
    let connack = raw.connect(&connect(5, "a"));
    // 0x27: Maximum Packet Size.
    let size = 10_000u32.to_be_bytes();
    assert!(
        connack
            .windows(5)
            .any(|window| window[0] == 0x27 && window[1..] == size),
        "{connack:?}"
    );
    let whole = publish(5, 0, "t", &[], &[0; 10_000]);
    assert!(whole.len() > 10_000);
    raw.send(&whole[..100]);
    let answer = raw.rest();
    assert_eq!((answer[0], answer[2]), (0xe0, 0x95), "{answer:?}");
}

#[test]
fn a_flood_of_connections_that_say_little_keeps_nobody_out() {
    let endpoint = Endpoint::builder()
        .plain(any_port())
        .user("ada", "secret")
        .start()
        .unwrap();
    let idle: Vec<_> = (0..100)
        .map(|index| {
            let mut raw = Raw::plain(endpoint.addr());
            // From nothing at all to half a ClientHello.
            raw.send(&HALF_A_HELLO[..index % HALF_A_HELLO.len()]);
            raw
        })
        .collect();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.alpn = vec![PASSWORD];
    device.form.username = Some("ada".to_owned());
    device.form.password = Some(b"secret".to_vec());
    device.connect(endpoint.addr()).unwrap();
    drop(idle);
}
