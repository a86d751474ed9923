//! The channel API.

use std::thread;
use std::time::Duration;

use fleetwire_codec::{QoS, TopicFilterBuf};
use fleetwire_engine::{ConnectForm, Engine, Limits, OwnedKind, OwnedPublish, Slug};

use crate::support::*;

#[test]
fn the_channel_api_publishes_subscribes_and_receives() {
    let (_server, address) = echo_server();
    let (_engine, events, handle, link) = device_up(Engine::builder(), 64, address, 7, ConnectForm::new("a"));
    let filter = TopicFilterBuf::new("echo/#").unwrap();
    handle.subscribe(link, vec![(filter, QoS::AtLeastOnce)]).unwrap();
    let codes = wait_for(&events, |at, kind| match kind {
        OwnedKind::Subscribed { codes, .. } => {
            assert_eq!((at.link, at.token, at.epoch), (link, 7, 1));
            Some(codes.clone())
        }
        _ => None,
    });
    assert_eq!(codes, [1]);
    let large = vec![b'x'; 200_000];
    handle
        .publish(
            link,
            OwnedPublish::new(topic("big"), large.clone())
                .qos(QoS::AtLeastOnce)
                .token(9),
        )
        .unwrap();
    let (mut acked, mut echoed) = (false, false);
    while !(acked && echoed) {
        wait_for(&events, |_, kind| match kind {
            OwnedKind::Acked(ack) => {
                assert_eq!(ack.token, 9);
                acked = true;
                Some(())
            }
            OwnedKind::Message(message) => {
                assert_eq!((&*message.topic, message.payload.len()), ("echo/big", 200_000));
                assert_eq!(message.payload, large);
                echoed = true;
                Some(())
            }
            _ => None,
        });
    }
    handle.close(link).unwrap();
    let slug = wait_for(&events, |_, kind| match kind {
        OwnedKind::Disconnected(end) => Some((end.slug, end.retry_in)),
        _ => None,
    });
    assert_eq!(slug, (Slug::CLOSED_BY_US, None));
}

#[test]
fn a_full_event_queue_stops_reading_and_loses_nothing() {
    let (_server, address) = echo_server();
    let (_engine, events, handle, link) = device_up(Engine::builder(), 8, address, 0, ConnectForm::new("a"));
    for token in 0..500 {
        let publish = OwnedPublish::new(topic("t"), token.to_string()).token(token);
        handle.publish(link, publish).unwrap();
    }
    // Nobody reads until a stall was counted.
    while events.stalls() == 0 {
        thread::yield_now();
    }
    for expected in 0..500 {
        let payload = wait_for(&events, |_, kind| match kind {
            OwnedKind::Message(message) => Some(message.payload.clone()),
            _ => None,
        });
        assert_eq!(payload, expected.to_string());
    }
}

#[test]
fn a_publish_to_a_link_that_is_gone_comes_back() {
    let (_server, address) = echo_server();
    let (engine, events, handle, gone) = device_up(Engine::builder(), 64, address, 1, ConnectForm::new("a"));
    handle.close(gone).unwrap();
    wait_for(&events, |_, kind| {
        matches!(kind, OwnedKind::Disconnected(_)).then_some(())
    });
    while engine.stats().links > 0 {
        thread::yield_now();
    }
    let next = handle
        .open_with(&plan(address), 2, ConnectForm::new("b"))
        .unwrap();
    wait_for(&events, connected);
    assert_ne!(gone, next);
    handle
        .publish(gone, OwnedPublish::new(topic("t"), "x").token(9))
        .unwrap();
    wait_for(&events, |at, kind| match kind {
        OwnedKind::Dropped(dropped) => {
            assert_eq!((at.link, at.token, dropped.token), (gone, 0, 9));
            Some(())
        }
        _ => None,
    });
}

#[test]
fn commands_wait_while_nobody_takes_events_and_the_last_events_come_back_with_the_handler() {
    let (_server, address) = echo_server();
    let limits = Limits::default().commands_max(16);
    let (engine, events, handle, link) = device_up(
        Engine::builder().limits(limits),
        4,
        address,
        0,
        ConnectForm::new("a"),
    );
    let mut accepted = 0;
    let refused = loop {
        match handle.publish(
            link,
            OwnedPublish::new(topic("t"), "x")
                .qos(QoS::AtLeastOnce)
                .token(accepted),
        ) {
            Ok(()) => accepted += 1,
            // Full for good: the events are not taken.
            Err(returned) if events.stalls() > 0 => break returned,
            Err(_) => thread::yield_now(),
        }
    };
    assert_eq!(refused.error, fleetwire_engine::HandleError::Full);
    assert_eq!(refused.publish.token, accepted);
    let end = engine.shutdown(Duration::ZERO);
    let mut ended = vec![0; accepted as usize];
    let taken: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    let undelivered = end
        .handlers
        .into_iter()
        .flat_map(fleetwire_engine::ChannelHandler::undelivered);
    for event in taken.into_iter().chain(undelivered) {
        match event.kind {
            OwnedKind::Acked(ack) => ended[ack.token as usize] += 1,
            OwnedKind::Dropped(dropped) => ended[dropped.token as usize] += 1,
            _ => {}
        }
    }
    assert!(ended.iter().all(|count| *count == 1), "{ended:?}");
}
