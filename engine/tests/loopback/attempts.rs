//! Attempts that fail, connections that end, and what comes after.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use fleetwire_codec::{ReasonCode, Version};
use fleetwire_engine::{ConnectForm, Engine, Listener, OwnedKind, OwnedPublish, Slug};

use crate::support::*;

#[test]
fn a_refusing_connack_is_a_failure_with_its_code_and_is_not_retried() {
    let (_server, address) = echo_server();
    for (version, code) in [(Version::V5, 0x87), (Version::V311, 5)] {
        let (engine, events) = channel_engine(Engine::builder(), 8);
        let mut form = ConnectForm::new("stranger");
        form.version = version;
        engine.handle().open_with(&plan(address), 0, form).unwrap();
        let failure = wait_for(&events, |_, kind| match kind {
            OwnedKind::Failed(failure) => Some(failure.clone()),
            _ => None,
        });
        assert_eq!(
            (failure.slug, failure.reason, failure.retry_in),
            (Slug::CONNACK_REFUSED, Some(code), None)
        );
        assert_eq!(failure.stage.as_str(), "connack");
    }
}

#[test]
fn a_refused_connection_is_dialled_again_until_somebody_listens() {
    let place = TcpListener::bind(any_port()).unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    engine
        .handle()
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    let failure = wait_for(&events, |at, kind| match kind {
        OwnedKind::Failed(failure) if at.epoch == 3 => Some(failure.clone()),
        _ => None,
    });
    assert_eq!((failure.slug, failure.stage.as_str()), (Slug::TCP_REFUSED, "tcp"));
    assert!(failure.retry_in.is_some());
    let listener = Listener::bind(address).unwrap();
    let _server = Engine::builder()
        .listen(listener, None, 0)
        .start(|_| Echo::default())
        .unwrap();
    wait_for(&events, connected);
}

#[test]
fn a_link_that_the_server_ends_reconnects_and_its_publishes_are_dropped_once() {
    let (_server, address) = echo_server();
    let (_engine, events, handle, link) =
        device_up(Engine::builder().seed(1), 64, address, 0, ConnectForm::new("a"));
    handle
        .publish(link, OwnedPublish::new(topic("t"), "kick"))
        .unwrap();
    let end = wait_for(&events, |_, kind| match kind {
        OwnedKind::Disconnected(end) => Some(end.clone()),
        _ => None,
    });
    assert_eq!(
        (end.slug, end.reason),
        (Slug::DISCONNECTED_BY_PEER, Some(ReasonCode::AdministrativeAction))
    );
    assert!(end.retry_in.is_some());
    let epoch = wait_for(&events, |at, kind| {
        matches!(kind, OwnedKind::Connected { .. }).then_some(at.epoch)
    });
    assert_eq!(epoch, 2);
}

#[test]
fn a_link_that_is_cut_off_again_and_again_right_after_connack_gives_up() {
    let (_server, address) = echo_server();
    let (engine, events) = channel_engine(Engine::builder().seed(1), 64);
    let handle = engine.handle();
    let mut form = ConnectForm::new("a");
    form.version = Version::V311;
    let link = handle.open_with(&plan(address), 0, form).unwrap();
    let mut ends = Vec::new();
    for _ in 0..3 {
        wait_for(&events, connected);
        handle
            .publish(link, OwnedPublish::new(topic("t"), "kick"))
            .unwrap();
        ends.push(wait_for(&events, |_, kind| match kind {
            OwnedKind::Disconnected(end) => Some((end.slug, end.retry_in.is_some())),
            _ => None,
        }));
    }
    let lost = (Slug::CONNECTION_LOST, true);
    assert_eq!(ends, [lost, lost, (Slug::CLIENT_ID_TAKEN_OVER, false)]);
}

/// What a server that is no engine answers to whoever connects.
fn serve_once(answer: &'static [u8], read_first: bool) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut start = vec![0; 4];
        if read_first {
            stream.read_exact(&mut start).unwrap();
        }
        stream.write_all(answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    (address, thread)
}

fn failure_against(answer: &'static [u8]) -> fleetwire_engine::Failure {
    let (address, thread) = serve_once(answer, true);
    let (engine, events) = channel_engine(Engine::builder(), 8);
    engine
        .handle()
        .open_with(&plan(address).reconnect(false), 0, ConnectForm::new("a"))
        .unwrap();
    let failure = wait_for(&events, |_, kind| match kind {
        OwnedKind::Failed(failure) => Some(failure.clone()),
        _ => None,
    });
    thread.join().unwrap();
    failure
}

#[test]
fn garbage_and_silence_before_the_connack_are_named() {
    let failure = failure_against(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(failure.slug, Slug::NOT_MQTT, "{failure:?}");
    assert!(
        failure.text.contains("\"HTTP/1.1 400 Bad\": this is HTTP"),
        "{failure:?}"
    );
    let failure = failure_against(b"\x15\x03\x01\x00\x02\x02\x46");
    assert_eq!(failure.slug, Slug::NOT_MQTT, "{failure:?}");
    assert!(failure.text.ends_with("this is TLS"), "{failure:?}");
    let failure = failure_against(b"");
    assert_eq!(failure.slug, Slug::CLOSED_BEFORE_CONNACK, "{failure:?}");
    let failure = failure_against(b"\xd0\x00");
    assert_eq!(failure.slug, Slug::PROTOCOL_VIOLATION, "{failure:?}");
    assert!(failure.text.contains("v5 [MQTT-3.2.0-1]"), "{failure:?}");
}

#[test]
fn a_broker_that_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let (engine, events) = channel_engine(Engine::builder(), 8);
    let plan = plan(address)
        .reconnect(false)
        .connect_timeout(Duration::from_millis(50));
    engine
        .handle()
        .open_with(&plan, 0, ConnectForm::new("a"))
        .unwrap();
    let failure = wait_for(&events, |_, kind| match kind {
        OwnedKind::Failed(failure) => Some(failure.clone()),
        _ => None,
    });
    assert_eq!(
        (failure.slug, failure.stage.as_str()),
        (Slug::CONNACK_TIMEOUT, "connack")
    );
}
