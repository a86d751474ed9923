//! A handler that blocks: what waits meanwhile, what tells of it, and that nothing is lost.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fleetwire_codec::QoS;
use fleetwire_engine::{At, ConnectForm, Engine, Event, Handler, LinkId, Outbox, OwnedPublish, Shard, Slug};

use crate::support::{WAIT, echo_server, plan, topic};

/// How often the link's schedule is due.
const PERIOD: Duration = Duration::from_millis(1);
/// How long the handler blocks at least.
const BLOCKED: Duration = Duration::from_millis(30);
/// Slots that pass by meanwhile, at least.
const MISSED: u64 = 25;
/// Messages before the handler blocks, and as many while it does.
const MESSAGES: u64 = 50;

/// Blocks on the echo of `stop` until it is released.
struct Blocking {
    address: SocketAddr,
    opened: Sender<LinkId>,
    begun: Sender<()>,
    released: Receiver<()>,
    finished: Sender<()>,
    echoes: Vec<String>,
    acked: Vec<u64>,
    slots: u64,
    /// The most slots that were passed over in a row.
    missed_at_once: u64,
}

impl Blocking {
    /// Says when all has come, what was missed among it.
    fn count(&self) {
        let all = 2 * MESSAGES as usize + 1;
        if self.acked.len() == all && self.echoes.len() == all && self.missed_at_once >= MISSED {
            let _ = self.finished.send(());
        }
    }
}

impl Handler for Blocking {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let link = out
            .open_with(&plan(self.address), 0, ConnectForm::new("a"))
            .unwrap();
        self.opened.send(link).unwrap();
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connected(_) => out.every(at.link, at.now, PERIOD).unwrap(),
            Event::Message(message) => {
                let text = std::str::from_utf8(message.payload).unwrap();
                if text == "stop" {
                    self.begun.send(()).unwrap();
                    self.released.recv_timeout(WAIT).unwrap();
                }
                self.echoes.push(text.to_owned());
                self.count();
            }
            Event::Acked(ack) => {
                self.acked.push(ack.token);
                self.count();
            }
            Event::Due(due) => {
                assert_eq!(due.seq, self.slots + due.missed, "each slot is told or counted");
                self.slots = due.seq + 1;
                self.missed_at_once = self.missed_at_once.max(due.missed);
                self.count();
            }
            Event::Disconnected(end) => assert_eq!(end.slug, Slug::CLOSED_BY_US, "{end:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_handler_that_blocks_makes_everything_late_and_loses_nothing() {
    let (server, address) = echo_server();
    let (opened, link) = channel();
    let (begun, has_begun) = channel();
    let (release, released) = channel();
    let (finished, has_finished) = channel();
    let mut handler = Some(Blocking {
        address,
        opened,
        begun,
        released,
        finished,
        echoes: Vec::new(),
        acked: Vec::new(),
        slots: 0,
        missed_at_once: 0,
    });
    let engine = Engine::builder().start(|_| handler.take().unwrap()).unwrap();
    let (handle, link) = (engine.handle(), link.recv_timeout(WAIT).unwrap());
    let patience = Instant::now() + WAIT;
    while engine.stats().links_up == 0 {
        assert!(Instant::now() < patience, "{:?}", engine.stats());
        thread::yield_now();
    }
    let send = |text: String, token| {
        let publish = OwnedPublish::new(topic("t"), text)
            .qos(QoS::AtLeastOnce)
            .token(token);
        handle.publish(link, publish).unwrap();
    };
    // Most of the echoes arrive while the handler blocks on the first one.
    send("stop".to_owned(), 0);
    (1..=MESSAGES).for_each(|token| send(token.to_string(), token));
    has_begun.recv_timeout(WAIT).unwrap();
    let blocked = Instant::now();
    (MESSAGES + 1..=2 * MESSAGES).for_each(|token| send(token.to_string(), token));
    while blocked.elapsed() < BLOCKED {
        // It stands still, and yet its counters can be read.
        let stats = engine.stats();
        assert_eq!((stats.links_up, stats.disconnected), (1, 0));
        assert!(
            stats.published <= MESSAGES + 1,
            "the commands of this time wait: {stats:?}"
        );
        thread::yield_now();
    }
    release.send(()).unwrap();
    has_finished.recv_timeout(WAIT).unwrap();

    let end = engine.shutdown(WAIT);
    // The slot that came due in the first millisecond was told when all was over.
    let least = (BLOCKED - 2 * PERIOD).as_micros() as u64;
    assert!(end.stats.lag_us_max >= least, "{:?}", end.stats);
    assert_eq!((end.stats.published, end.stats.in_flight), (2 * MESSAGES + 1, 0));
    assert!(end.failed.is_empty(), "{:?}", end.failed);
    let handler = &end.handlers[0];
    assert!(handler.acked.iter().copied().eq(0..=2 * MESSAGES));
    let echoes = (1..=2 * MESSAGES).map(|token| token.to_string());
    assert!(
        handler
            .echoes
            .iter()
            .eq(["stop".to_owned()].iter().chain(&echoes.collect::<Vec<_>>()))
    );
    assert_eq!(server.shutdown(WAIT).handlers[0].messages, 2 * MESSAGES + 1);
}
