//! Engines that their caller turns too late, never, or from within another one.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fleetwire_codec::{Properties, QoS, ReasonCode};
use fleetwire_engine::{
    At, ConnectForm, DropReason, Engine, EngineHandle, Event, HandleError, Handler, Limits, LinkId, Listener,
    LocalEngine, OpenError, Outbox, OwnedPublish, Publish, PublishError, Slug, Turn, VerbError,
};

use crate::support::*;

/// Notes what it is told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Handler for Notes {
    fn on_event(&mut self, at: At, event: Event<'_>, _: &mut Outbox<'_>) {
        self.0.push(match event {
            Event::Connected(_) => format!("connected {}", at.token),
            Event::Dropped(dropped) => {
                assert_eq!(dropped.why, DropReason::NotAccepted(PublishError::Offline));
                format!("dropped {}", dropped.token)
            }
            Event::Disconnected(end) => format!("disconnected {}", end.slug),
            Event::Failed(failure) => format!("failed {}", failure.slug),
            event => format!("{event:?}"),
        });
    }
}

fn message(token: u64) -> OwnedPublish {
    OwnedPublish::new(topic("t"), "x")
        .qos(QoS::AtLeastOnce)
        .token(token)
}

/// Fills its queue of commands: four links, to somebody who never answers.
fn never_turned() -> (LocalEngine<Notes>, EngineHandle, Vec<LinkId>, TcpListener) {
    let silent = TcpListener::bind(any_port()).unwrap();
    let address = silent.local_addr().unwrap();
    let builder = Engine::builder().limits(Limits::default().commands_max(4));
    let engine = builder.start_local(|_| Notes::default()).unwrap();
    let handle = engine.handle();
    let open = |token| handle.open_with(&plan(address), token, ConnectForm::new(token.to_string()));
    let links = (0..4).map(|token| open(token).unwrap()).collect();
    // Nobody takes them.
    assert_eq!(open(4), Err(OpenError::Full));
    (engine, handle, links, silent)
}

#[test]
fn commands_from_before_the_first_turn_are_bounded_and_carried_out_by_it_in_their_order() {
    let (mut engine, handle, links, _silent) = never_turned();
    assert_eq!(
        handle.publish(links[0], message(0)).unwrap_err().error,
        HandleError::Full
    );
    assert_eq!(engine.stats().links, 0);
    assert!(
        engine.next_deadline().is_some_and(|at| at <= Instant::now()),
        "there are commands"
    );
    assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    assert_eq!(engine.stats().links, 4);
    for (token, link) in (1..).zip(&links) {
        handle.publish(*link, message(token)).unwrap();
    }
    assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    let dropped = |notes: &mut Notes| {
        notes
            .0
            .iter()
            .filter(|note| note.starts_with("dropped"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        engine.with(|notes, _| dropped(notes)).unwrap(),
        ["dropped 1", "dropped 2", "dropped 3", "dropped 4"]
    );
}

/// An id may have come from anywhere: here from the second shard of an engine that has one.
#[test]
fn ids_of_another_engine_are_no_links_and_change_nothing() {
    let (other, _events) = channel_engine(Engine::builder().shards(2), 64);
    let silent = TcpListener::bind(any_port()).unwrap();
    let open = || {
        let form = ConnectForm::new("a");
        let plan = plan(silent.local_addr().unwrap());
        other.handle().open_with(&plan, 0, form).unwrap()
    };
    let foreign = [open(), open()].into_iter().find(|link| link.shard() == 1);
    let foreign = foreign.expect("shards take turns");
    let mut engine = Engine::builder().start_local(|_| Notes::default()).unwrap();
    assert_eq!(engine.handle().close(foreign), Err(HandleError::Stopped));
    let verbs = |_: &mut Notes, out: &mut Outbox<'_>| {
        let name = topic("t");
        let publish = Publish::new(name.as_topic_name(), b"x");
        assert_eq!(out.publish(foreign, publish), Err(PublishError::NoSuchLink));
        assert_eq!(out.every(foreign, out.now(), WAIT), Err(VerbError::NoSuchLink));
        assert_eq!(
            out.accept(foreign, false, Properties::EMPTY, 0),
            Err(VerbError::NoSuchLink)
        );
        assert!(out.take_session(foreign).is_none());
        out.close(foreign);
        out.abort(foreign);
        out.refuse(foreign, ReasonCode::NotAuthorized);
        out.pause_reading(foreign);
        out.cancel_schedule(foreign);
    };
    engine.with(verbs).unwrap();
    assert_eq!(engine.turn(Some(Duration::ZERO)).unwrap(), Turn::GoesOn);
    let end = engine.shutdown(WAIT);
    assert!(end.handlers[0].0.is_empty() && end.failed.is_empty());
    assert_eq!((end.stats.links, end.stats.packets_out), (0, 0));
}

#[test]
fn one_that_is_never_turned_can_be_dropped() {
    let (engine, handle, links, _silent) = never_turned();
    drop(engine);
    assert_eq!(handle.close(links[0]), Err(HandleError::Stopped));
    assert_eq!(
        handle.publish(links[0], message(0)).unwrap_err().error,
        HandleError::Stopped
    );
    assert_eq!((handle.stats().links, handle.stats().buffer_bytes), (0, 0));
}

#[test]
fn one_that_is_never_turned_can_be_shut_down() {
    let (engine, handle, links, _silent) = never_turned();
    let begun = Instant::now();
    let end = engine.shutdown(WAIT);
    assert!(begun.elapsed() < WAIT / 2, "there is nothing to wait for");
    assert!(end.failed.is_empty(), "{:?}", end.failed);
    assert_eq!(
        (end.handlers.len(), end.stats.links, end.stats.attempts),
        (1, 0, 0)
    );
    assert_eq!(handle.close(links[0]), Err(HandleError::Stopped));
}

#[test]
fn dropped_in_the_middle_of_its_shutdown_it_ends_at_once() {
    let (server, address) = echo_server();
    let mut engine = Engine::builder().start_local(|_| Notes::default()).unwrap();
    let link = engine
        .with(|_, out| out.open_with(&plan(address), 0, ConnectForm::new("a")).unwrap())
        .unwrap();
    while engine.stats().links_up == 0 {
        assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    }
    // The acknowledgement has not been read, so the shutdown has something to wait for.
    let handle = engine.handle();
    handle.publish(link, message(1)).unwrap();
    engine.begin_shutdown(WAIT);
    assert_eq!(engine.turn(Some(Duration::ZERO)).unwrap(), Turn::GoesOn);
    drop(engine);
    assert_eq!(handle.close(link), Err(HandleError::Stopped));
    while server.stats().links > 0 {
        std::thread::yield_now();
    }
    let ended = &server.shutdown(WAIT).handlers[0].ended;
    assert_eq!(ended.values().sum::<u64>(), 1, "{ended:?}");
}

/// A client whose handler has the server: the other engine of the conversation.
struct Outer {
    server: Option<LocalEngine<Echo>>,
    acked: u64,
    ended: Vec<Slug>,
}

impl Handler for Outer {
    fn on_event(&mut self, _: At, event: Event<'_>, _: &mut Outbox<'_>) {
        match event {
            // In the middle of a conversation with it.
            Event::Acked(_) => {
                self.acked += 1;
                self.server = None;
            }
            Event::Disconnected(end) => self.ended.push(end.slug),
            _ => {}
        }
    }

    fn on_turn(&mut self, _: Instant, _: &mut Outbox<'_>) {
        if let Some(server) = &mut self.server {
            assert_eq!(server.turn(Some(Duration::ZERO)).unwrap(), Turn::GoesOn);
        }
    }
}

#[test]
fn a_handler_may_turn_another_engine_and_drop_it() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Engine::builder().listen(listener, None, 0);
    let mut server = Some(server.start_local(|_| Echo::default()).unwrap());
    let mut engine = Engine::builder()
        .start_local(|_| Outer {
            server: server.take(),
            acked: 0,
            ended: Vec::new(),
        })
        .unwrap();
    let link = engine
        .with(|_, out| out.open_with(&plan(address), 0, ConnectForm::new("a")).unwrap())
        .unwrap();
    let patience = Instant::now() + WAIT;
    let mut published = false;
    while engine.with(|outer, _| outer.ended.is_empty()).unwrap() {
        assert!(Instant::now() < patience, "nothing comes of it");
        // The server moves only when this one does.
        assert_eq!(engine.turn(Some(Duration::from_millis(1))).unwrap(), Turn::GoesOn);
        if engine.stats().links_up == 1 && !std::mem::replace(&mut published, true) {
            engine.handle().publish(link, message(1)).unwrap();
        }
    }
    let end = engine.shutdown(WAIT);
    let outer = &end.handlers[0];
    assert_eq!((outer.acked, &outer.ended[..]), (1, &[Slug::CONNECTION_LOST][..]));
}

/// Uses its engine's handle within its events, and as it is dropped.
struct Own {
    handle: Receiver<EngineHandle>,
    kept: Option<(EngineHandle, LinkId)>,
    full: bool,
    at_the_end: Sender<Result<(), HandleError>>,
}

impl Handler for Own {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if let Event::Connect(_) = event {
            out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
            let handle = self.handle.recv_timeout(WAIT).unwrap();
            // More than there is room for: nobody takes them before this returns, and it must not wait for that.
            let sent = (0..100).map(|token| handle.publish(at.link, message(token)));
            self.full = sent.filter(Result::is_err).count() == 96;
            self.kept = Some((handle, at.link));
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some((handle, link)) = &self.kept {
            let _ = self.at_the_end.send(handle.close(*link));
        }
    }
}

#[test]
fn a_handler_may_use_the_handle_of_its_own_engine_even_at_its_end() {
    let listener = Listener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let ((give, handle), (at_the_end, end)) = (channel(), channel());
    let mut own = Some(Own {
        handle,
        kept: None,
        full: false,
        at_the_end,
    });
    let builder = Engine::builder().limits(Limits::default().commands_max(4));
    let mut engine = builder
        .listen(listener, None, 0)
        .start_local(|_| own.take().unwrap())
        .unwrap();
    give.send(engine.handle()).unwrap();
    let (device, events) = channel_engine(Engine::builder(), 64);
    device
        .handle()
        .open_with(&plan(address), 0, ConnectForm::new("a"))
        .unwrap();
    while engine.stats().published < 4 {
        assert_eq!(engine.turn(Some(WAIT)).unwrap(), Turn::GoesOn);
    }
    for _ in 0..4 {
        wait_for(&events, |_, kind| {
            matches!(kind, fleetwire_engine::OwnedKind::Message(_)).then_some(())
        });
    }
    assert!(engine.with(|own, _| own.full).unwrap());
    drop(engine);
    // Whether there was still somebody to take it or not: it has not waited.
    let _ = end.recv_timeout(WAIT).unwrap();
}
