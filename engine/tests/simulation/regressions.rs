//! What the simulation has found, each in the smallest scene that shows it.

use std::time::Duration;

use fleetwire_codec::{Properties, QoS, TopicName};
use fleetwire_engine::sim::{Faults, Sim};
use fleetwire_engine::{
    At, ConnectForm, Engine, Event, Handler, Limits, LinkId, Outbox, Plan, Publish, PublishError, Shard,
    StartError, Way,
};

const SECOND: Duration = Duration::from_secs(1);

fn plan() -> Plan {
    let mut way = Way::tcp("10.0.0.1", 1883);
    way.resolve().unwrap();
    Plan::new(way).reconnect(false)
}

/// Accepts everybody, and notes what comes when.
#[derive(Default)]
struct Host {
    ended: u32,
    due_after_end: u32,
    pauses: bool,
}

impl Handler for Host {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => {
                out.accept(at.link, false, Properties::EMPTY, 0).unwrap();
                out.every(at.link, at.now, SECOND / 100).unwrap();
                if self.pauses {
                    out.pause_reading(at.link);
                }
            }
            Event::Due(_) => self.due_after_end += self.ended,
            Event::Disconnected(_) => self.ended += 1,
            _ => {}
        }
    }
}

fn host(sim: &mut Sim, pauses: bool) -> fleetwire_engine::sim::SimEngine<Host> {
    let builder = Engine::builder().listen(sim.listener("10.0.0.1:1883".parse().unwrap()), None, 0);
    let host = || Host {
        pauses,
        ..Host::default()
    };
    sim.start(builder, |_| host()).unwrap()
}

/// A client that publishes as much as it may, once it is connected.
#[derive(Default)]
struct Guest {
    link: Option<LinkId>,
    fills: bool,
    closes: bool,
    full: u32,
    due: u32,
    ends: Vec<&'static str>,
}

impl Handler for Guest {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let mut form = ConnectForm::new("guest");
        form.keep_alive = 10 * SECOND;
        let link = out.open_with(&plan(), 0, form).unwrap();
        let period = if self.closes { SECOND / 100 } else { SECOND };
        out.every(link, out.now() + SECOND, period).unwrap();
        self.link = Some(link);
    }

    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Due(_) => {
                self.due += 1;
                let topic = TopicName::new("a").unwrap();
                // Each is of 8 bytes, so that what is full has no room for a PINGREQ's two.
                while self.fills && out.publish(at.link, Publish::new(topic, &[0; 2])).is_ok() {}
                self.full += u32::from(self.fills);
                if self.closes {
                    out.close(at.link);
                }
            }
            Event::Disconnected(end) => self.ends.push(end.slug.as_str()),
            _ => {}
        }
    }
}

/// Output that is full has no room for a PINGREQ either, and a peer that takes none of it is as dead as one that does
/// not answer (v5 section 3.1.2.10, non-normative: the Client SHOULD close).
#[test]
fn a_dead_peer_is_noticed_though_output_is_full() {
    for limits in [
        Limits::default().output_bytes_max(4096),
        // The same for want of memory.
        Limits::default().buffer_bytes_max(Limits::BUFFER_BYTES_MIN),
    ] {
        let mut sim = Sim::new(1);
        let _host = host(&mut sim, true);
        let guest = || Guest {
            fills: true,
            ..Guest::default()
        };
        let engine = sim.start(Engine::builder().limits(limits), |_| guest()).unwrap();
        sim.run_for(300 * SECOND).unwrap();
        engine.with_handler(0, |guest| {
            assert!(guest.full > 0);
            assert_eq!(guest.ends, ["keep_alive_timeout"]);
        });
    }
}

/// A peer that is slow but takes what we send is alive.
#[test]
fn a_slow_peer_is_not_a_dead_one() {
    let mut sim = Sim::new(1);
    let mut faults = Faults::none();
    faults.write_would_block = 0.9;
    faults.write_would_block_max = 10 * SECOND;
    faults.window = 1024;
    sim.set_faults(faults);
    let _host = host(&mut sim, false);
    let guest = || Guest {
        fills: true,
        ..Guest::default()
    };
    let limits = Limits::default()
        .output_bytes_max(4096)
        .pingresp_timeout(300 * SECOND);
    let engine = sim.start(Engine::builder().limits(limits), |_| guest()).unwrap();
    sim.run_for(600 * SECOND).unwrap();
    engine.with_handler(0, |guest| {
        assert!(guest.full > 100);
        assert_eq!(guest.ends, [""; 0]);
    });
}

/// `every`: until the link is closed; a server's link is gone with `Disconnected`.
#[test]
fn no_schedule_outlives_its_link() {
    let mut sim = Sim::new(1);
    // The connection's last bytes take longer than many slots.
    let mut faults = Faults::none();
    faults.delay = SECOND / 20;
    sim.set_faults(faults);
    let host = host(&mut sim, false);
    let guest = || Guest {
        closes: true,
        ..Guest::default()
    };
    let engine = sim.start(Engine::builder(), |_| guest()).unwrap();
    sim.run_for(10 * SECOND).unwrap();
    engine.with_handler(0, |guest| assert_eq!((guest.due, guest.ends.len()), (1, 1)));
    host.with_handler(0, |host| assert_eq!((host.due_after_end, host.ended), (0, 1)));
}

/// What no memory can ever hold is `TooLarge`, and what may be held one day is `Full`.
#[test]
fn full_is_never_for_ever() {
    struct Heavy {
        answers: Vec<Option<PublishError>>,
    }
    impl Handler for Heavy {
        fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
            out.open_with(&plan(), 0, ConnectForm::new("heavy")).unwrap();
        }
        fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
            if let Event::Connected(_) = event {
                let topic = TopicName::new("a").unwrap();
                for len in [40_000, 30_000, 30_000] {
                    let payload = vec![0; len];
                    let publish = Publish::new(topic, &payload).qos(QoS::AtMostOnce);
                    self.answers.push(out.publish(at.link, publish).err());
                }
            }
        }
    }
    let mut sim = Sim::new(1);
    let _host = host(&mut sim, false);
    let limits = |bytes| Limits::default().buffer_bytes_max(bytes);
    let builder = Engine::builder().limits(limits(Limits::BUFFER_BYTES_MIN));
    let heavy = sim.start(builder, |_| Heavy { answers: Vec::new() }).unwrap();
    sim.run_for(SECOND).unwrap();
    heavy.with_handler(0, |heavy| {
        let expected = [Some(PublishError::TooLarge), None, Some(PublishError::Full)];
        assert_eq!(heavy.answers, expected);
    });
    let builder = Engine::builder().limits(limits(Limits::BUFFER_BYTES_MIN - 1));
    let refused = sim.start(builder, |_| Heavy { answers: Vec::new() });
    assert!(matches!(refused, Err(StartError::NoBuffers)));
}
