//! Every counter that tells what an engine has done tells it exactly.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fleetwire_codec::{PacketType, Properties, QoS};
use fleetwire_engine::{
    At, Backoff, ConnectForm, Engine, Event, Handler, LinkId, Listener, LocalEngine, Outbox, OwnedKind,
    OwnedPublish, Publish, Turn,
};

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

/// A server that keeps every payload, where the test sees it without a verb.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<(Option<LinkId>, Vec<Bytes>)>>);

impl Handler for Keeper {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
                self.0.lock().unwrap().0 = Some(at.link);
            }
            Event::Message(message) => self.0.lock().unwrap().1.push(message.retain()),
            _ => {}
        }
    }
}

#[test]
fn buffers_are_counted_with_the_pass_that_takes_them_or_after_which_they_come_home() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let keeper = Keeper::default();
    let mut engine = Engine::builder()
        .listen(listener, None, 0)
        .start_local(|_| keeper.clone())
        .unwrap();
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01k")
        .unwrap();
    let link = || keeper.0.lock().unwrap().0;
    let kept = || keeper.0.lock().unwrap().1.len();
    while link().is_none() {
        assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    }
    let settle = |engine: &mut LocalEngine<Keeper>| {
        for _ in 0..3 {
            assert_eq!(engine.turn(Some(Duration::ZERO)).unwrap(), Turn::GoesOn);
        }
    };
    settle(&mut engine);
    let block = engine.stats().buffer_bytes;
    // What a verb between turns has taken is home again before the next.
    let before = engine.stats().buffer_bytes_max;
    let (link, name) = (link().unwrap(), topic("t"));
    let long = Publish::new(name.as_topic_name(), &[0; 20_000]);
    engine.with(|_, out| out.publish(link, long)).unwrap().unwrap();
    settle(&mut engine);
    let stats = engine.stats();
    assert!(stats.buffer_bytes_max > before, "{stats:?}");

    let mut receive = |engine: &mut LocalEngine<Keeper>, payload_len: u16| {
        let remaining_len = payload_len + 3;
        let len = [remaining_len as u8 | 0x80, (remaining_len >> 7) as u8];
        let payload = vec![b'x'; payload_len.into()];
        peer.write_all(&[&[0x30][..], &len, b"\x00\x01t", &payload].concat())
            .unwrap();
        let before = kept();
        while kept() == before {
            assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
        }
        let stats = engine.stats();
        (stats.bytes_copied, stats.buffer_bytes)
    };
    assert_eq!(receive(&mut engine, 200), (200, block), "it is not worth a block");
    assert_eq!(receive(&mut engine, 4000), (200, 2 * block));
    // It comes home between two passes, the second of which has nothing to do.
    settle(&mut engine);
    keeper.0.lock().unwrap().1.clear();
    settle(&mut engine);
    assert_eq!(engine.stats().buffer_bytes, block);
}
