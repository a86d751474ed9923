//! What idle connections cost, by counting, and schedules under a clock that leaps.

use std::time::{Duration, Instant};

use fleetwire_codec::{PacketType, Properties};
use fleetwire_engine::sim::{Faults, Sim, SimEngine};
use fleetwire_engine::{
    At, ConnectForm, Engine, EngineBuilder, Event, Handler, Limits, Outbox, Plan, Shard, Stats, Way,
};

const SECOND: Duration = Duration::from_secs(1);
/// The leap of the clock that slots are missed by, at most.
const LEAP: Duration = Duration::from_secs(60);

struct Host;

impl Handler for Host {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        if let Event::Connect(connect) = event {
            out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs)
                .unwrap();
        }
    }
}

struct Idlers {
    links: u64,
    keep_alive: Duration,
}

impl Handler for Idlers {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        let mut way = Way::tcp("10.0.0.1", 1883);
        way.resolve().unwrap();
        let plan = Plan::new(way);
        for index in 0..self.links {
            let mut form = ConnectForm::new(index.to_string());
            form.keep_alive = self.keep_alive;
            out.open_with(&plan, index, form).unwrap();
        }
    }

    fn on_event(&mut self, _: At, event: Event<'_>, _: &mut Outbox<'_>) {
        assert!(
            !matches!(event, Event::Disconnected(_) | Event::Failed(_)),
            "{event:?}"
        );
    }
}

fn server(sim: &mut Sim) -> SimEngine<Host> {
    let builder = Engine::builder().listen(sim.listener("10.0.0.1:1883".parse().unwrap()), None, 0);
    sim.start(builder, |_| Host).unwrap()
}

/// Connects all, and lets them be for a while. Answers what both engines have done in the time that follows.
fn idle(links: u64, keep_alive: Duration, wait: Duration) -> [Stats; 2] {
    let mut sim = Sim::new(1);
    let server = server(&mut sim);
    let builder = EngineBuilder::default().connect_rate(10_000.0);
    let client = sim.start(builder, |_| Idlers { links, keep_alive }).unwrap();
    sim.run_for(60 * SECOND).unwrap();
    let before = [client.stats(), server.stats()];
    assert_eq!(before.map(|stats| stats.links_up), [links; 2]);
    sim.run_for(wait).unwrap();
    let mut after = [client.stats(), server.stats()];
    for (after, before) in after.iter_mut().zip(before) {
        assert_eq!(after.links_up, links);
        after.wake_ups -= before.wake_ups;
        after.deadlines -= before.deadlines;
        after.packets_in -= before.packets_in;
        after.packets_out -= before.packets_out;
        after.bytes_out -= before.bytes_out;
        // Nothing but the block that all sockets are read into.
        assert_eq!(after.buffer_bytes, 64 * 1024);
        assert_eq!(after.parked_bytes, 0);
    }
    after
}

#[test]
fn idle_connections_without_keep_alive_cost_nothing_at_all() {
    for stats in idle(10_000, Duration::ZERO, 3600 * SECOND) {
        assert_eq!((stats.wake_ups, stats.deadlines, stats.bytes_out), (0, 0, 0));
    }
}

/// A PINGREQ is a deadline and a pass to send it in, and its answer one to hear it in; the deadline of that answer comes
/// up once more, and finds that it is there. The server has a pass to answer in, one to hear that the answer was sent,
/// and looks once in one and a half keep-alives whether it still hears something.
#[test]
fn idle_connections_cost_no_more_than_their_pings() {
    // What it costs does not depend on how many there are, and without optimization so many take their time.
    let links = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    let [client, server] = idle(links, 60 * SECOND, 60 * SECOND);
    let pings = links;
    assert_eq!(server.packets_in, pings);
    assert_eq!(client.packets_in, pings);
    assert_eq!((client.packets_out, server.packets_out), (pings, pings));
    assert_eq!((client.bytes_out, server.bytes_out), (2 * pings, 2 * pings));
    // v5 [MQTT-3.1.2-22]: each PINGREQ left on time, with half of the keep-alive to spare.
    assert_eq!(client.keep_alive_slack_us_min, Some(30_000_000));
    assert_eq!((client.keep_alive_late_us_max, client.lag_us_max), (0, 0));
    // Pinging is the client's part.
    assert_eq!(server.keep_alive_slack_us_min, None);
    // Some belong to pings at the edges of that time.
    let edge = links / 100;
    assert!(client.deadlines <= 2 * pings + edge, "{client:?}");
    assert!(server.deadlines <= pings + edge, "{server:?}");
    // Each in a pass of its own at most; those of one moment share it.
    assert!(client.wake_ups <= 3 * pings + edge, "{client:?}");
    assert!(server.wake_ups <= 3 * pings + edge, "{server:?}");
}

/// Event loops that are held up by no more than half of a keep-alive in all ping late, and no server complains.
#[test]
fn how_late_a_ping_is_and_how_much_time_was_left_is_told() {
    let mut sim = Sim::new(1);
    let server = server(&mut sim);
    let (links, keep_alive) = (1, 60 * SECOND);
    let client = sim
        .start(Engine::builder(), |_| Idlers { links, keep_alive })
        .unwrap();
    sim.run_for(59 * SECOND).unwrap();
    assert_eq!((client.stats().links_up, client.stats().packets_out), (1, 1));
    assert_eq!(
        client.stats().keep_alive_slack_us_min,
        None,
        "it has said CONNECT"
    );
    let mut faults = Faults::none();
    faults.slow_pass = 1.0;
    faults.slow_pass_max = 10 * SECOND;
    sim.set_faults(faults);
    sim.run_for(3600 * SECOND).unwrap();
    let stats = client.stats();
    assert!(stats.packets_out_of(PacketType::Pingreq) > 30, "{stats:?}");
    assert_eq!((stats.connected, server.stats().links_up), (1, 1));
    assert!(
        (5_000_000..=20_000_000).contains(&stats.keep_alive_late_us_max),
        "{stats:?}"
    );
    assert_eq!(
        stats.keep_alive_slack_us_min,
        Some(30_000_000 - stats.keep_alive_late_us_max as i64)
    );
    assert!(stats.lag_us_max >= stats.keep_alive_late_us_max, "{stats:?}");
}

/// Links that publish periodically, and remember their slots.
struct Clocks {
    period: Duration,
    slots: Vec<(Instant, u64)>,
    missed: u64,
    fired: u64,
}

impl Handler for Clocks {
    fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
        // Nobody is there; schedules go on while links are offline.
        let mut way = Way::tcp("10.0.0.9", 1883);
        way.resolve().unwrap();
        let plan = Plan::new(way).reconnect(false);
        for index in 0..1000 {
            let link = out.open_with(&plan, index, ConnectForm::new("")).unwrap();
            let first = out.phase(self.period);
            out.every(link, first, self.period).unwrap();
            self.slots.push((first, 0));
        }
    }

    fn on_event(&mut self, at: At, event: Event<'_>, _: &mut Outbox<'_>) {
        if let Event::Due(due) = event {
            let (first, next) = &mut self.slots[at.token as usize];
            assert_eq!(
                due.seq,
                *next + due.missed,
                "slots are taken or counted as missed"
            );
            assert_eq!(
                due.intended,
                *first + self.period * due.seq as u32,
                "a slot never moves"
            );
            assert!(due.intended <= at.now && at.now < due.intended + self.period);
            *next = due.seq + 1;
            self.missed += due.missed;
            self.fired += 1;
        }
    }
}

fn clocks(sim: &mut Sim) -> SimEngine<Clocks> {
    let clocks = || Clocks {
        period: 10 * SECOND,
        slots: Vec::new(),
        missed: 0,
        fired: 0,
    };
    sim.start(Engine::builder().limits(Limits::default()).seed(7), |_| clocks())
        .unwrap()
}

#[test]
fn phases_are_spread_over_the_period() {
    let mut sim = Sim::new(1);
    let start = sim.now();
    let engine = clocks(&mut sim);
    engine.with_handler(0, |clocks| {
        let mut tenths = [0; 10];
        for (first, _) in &clocks.slots {
            tenths[(*first - start).as_secs() as usize] += 1;
        }
        assert!(tenths.iter().all(|links| (60..140).contains(links)), "{tenths:?}");
    });
    sim.run_for(100 * SECOND).unwrap();
    engine.with_handler(0, |clocks| assert_eq!((clocks.fired, clocks.missed), (10_000, 0)));
}

#[test]
fn slots_that_a_leap_of_the_clock_passes_over_are_counted() {
    let mut sim = Sim::new(1);
    let mut faults = Faults::none();
    faults.clock_jump = 0.002;
    faults.clock_jump_max = LEAP;
    sim.set_faults(faults);
    let engine = clocks(&mut sim);
    sim.run_for(3600 * SECOND).unwrap();
    assert!(sim.reached().clock_jumps > 10);
    let (fired, missed) = engine
        .with_handler(0, |clocks| (clocks.fired, clocks.missed))
        .unwrap();
    assert!(missed > 10_000, "{missed}");
    // Every slot is one or the other, but for those of the last leap, which are still to be told.
    let slots = 1000 * (sim.elapsed().as_secs() / 10);
    let (told, leap) = (fired + missed, 100 * LEAP.as_secs());
    assert!(
        told + leap + 1000 >= slots && told <= slots + 1000,
        "{fired} + {missed} of {slots}"
    );
}
