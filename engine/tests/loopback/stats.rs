//! Every counter that tells what an engine has done tells it exactly.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use fleetwire_codec::{PacketType, QoS};
use fleetwire_engine::{Backoff, ConnectForm, Engine, OwnedKind, OwnedPublish};

use crate::support::*;

#[test]
fn counters_tell_what_happened() {
    let (server, address) = echo_server();
    // One that connects, one that is refused, and one that finds nobody.
    let (engine, events, handle, link) =
        device_up(Engine::builder(), 64, address, 0, ConnectForm::new("device"));
    let stranger = handle
        .open_with(&plan(address), 0, ConnectForm::new("stranger"))
        .unwrap();
    let refused = |_, kind: &OwnedKind| matches!(kind, OwnedKind::Failed(_)).then_some(());
    wait_for(&events, refused);
    handle.close(stranger).unwrap();
    let nobody = TcpListener::bind(any_port()).unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    // One attempt: another might be under way when its link is closed, and end unanswered.
    let once = Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600));
    let lost = handle
        .open_with(&plan(closed).backoff(once), 0, ConnectForm::new("lost"))
        .unwrap();
    wait_for(&events, refused);
    handle.close(lost).unwrap();

    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let publish = OwnedPublish::new(topic("t"), &b"x"[..]).qos(qos);
        handle.publish(link, publish).unwrap();
    }
    let (mut acked, mut messages) = (0, 0);
    while (acked, messages) != (1, 2) {
        wait_for(&events, |_, kind| {
            acked += u64::from(matches!(kind, OwnedKind::Acked(_)));
            messages += u64::from(matches!(kind, OwnedKind::Message(_)));
            Some(())
        });
    }
    handle.close(link).unwrap();
    wait_for(&events, |_, kind| {
        matches!(kind, OwnedKind::Disconnected(_)).then_some(())
    });
    while server.stats().links > 0 {
        thread::yield_now();
    }

    let ours = engine.shutdown(WAIT).stats;
    assert_eq!((ours.connected, ours.disconnected, ours.links_up), (1, 1, 0));
    assert!(ours.attempts >= 3 && ours.failed_tcp >= 1, "{ours:?}");
    assert_eq!((ours.failed_connack, ours.failed_tls), (1, 0));
    assert_eq!(
        (ours.failed_refused, ours.failed_timeout),
        (ours.failed_tcp + ours.failed_connack, 0)
    );
    assert_eq!((ours.published, ours.in_flight), (2, 0));
    assert_eq!(ours.packets_in_of(PacketType::Connack), 2);
    assert_eq!(ours.packets_in_of(PacketType::Publish), 2);
    assert_eq!(ours.packets_in_of(PacketType::Puback), 1);
    assert_eq!(ours.packets_in, 5);
    assert_eq!(ours.keep_alive_slack_us_min, None, "nobody was silent");
    assert!((1..=5).contains(&ours.reads) && ours.sends >= 3, "{ours:?}");

    let theirs = server.shutdown(WAIT).stats;
    assert_eq!((theirs.accepted, theirs.connected, theirs.links), (2, 1, 0));
    assert_eq!(theirs.packets_in_of(PacketType::Connect), 2);
    assert_eq!(theirs.packets_in_of(PacketType::Publish), 2);
    assert_eq!(theirs.packets_in_of(PacketType::Puback), 1);
    assert_eq!(theirs.packets_in_of(PacketType::Disconnect), 1);
    // What one has sent the other has received.
    assert_eq!(
        (theirs.bytes_in, theirs.bytes_out),
        (ours.bytes_out, ours.bytes_in)
    );
    for packet_type in (1..16).filter_map(|number: u8| PacketType::from_first_byte(number << 4)) {
        let (sent, received) = (
            ours.packets_out_of(packet_type),
            theirs.packets_in_of(packet_type),
        );
        assert_eq!(sent, received, "{packet_type:?} to the server");
        let (sent, received) = (
            theirs.packets_out_of(packet_type),
            ours.packets_in_of(packet_type),
        );
        assert_eq!(sent, received, "{packet_type:?} to the client");
    }
    assert_eq!(
        (theirs.packets_in, theirs.packets_out),
        (ours.packets_out, ours.packets_in)
    );
}
