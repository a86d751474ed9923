//! What every scenario has: a network, habits drawn from the seed, ledgers of both directions, bad weather, calm, and an
//! end at which nothing is left over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetwire_codec::QoS;
use fleetwire_codec::buffer::HOT_BLOCK_LEN;
use fleetwire_engine::sim::{Faults, Sim, SimEngine};
use fleetwire_engine::{Backoff, Handler, Limits, Plan, Stats, Way};
use fleetwire_tls::{ClientConfig, ServerName};

use super::ledger::{Ledger, Shared};
use super::seeds::Tally;

/// What a scenario has drawn for its devices.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) devices: u32,
    pub(crate) qos_max: QoS,
    pub(crate) payload_max: usize,
    pub(crate) period: Duration,
    pub(crate) keep_alive: Duration,
    /// Chance of doing something rude at each turn of the schedule.
    pub(crate) mischief: f64,
    /// Sessions outlive their connections.
    pub(crate) keeps_sessions: bool,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) habits: Habits,
    pub(crate) up: Shared,
    pub(crate) down: Shared,
    /// Nothing goes wrong on purpose any more.
    calm: Arc<AtomicBool>,
}

impl Scene {
    pub(crate) fn new(random: &mut fastrand::Rng) -> (Self, Sim) {
        let sim = Sim::new(random.u64(..));
        let habits = draw_habits(random);
        let ledgers = ["up", "down"].map(Ledger::shared);
        for ledger in &ledgers {
            ledger.lock().unwrap().redelivers = habits.keeps_sessions;
        }
        let [up, down] = ledgers;
        let calm = Arc::new(AtomicBool::new(false));
        let scene = Self {
            habits,
            up,
            down,
            calm,
        };
        (scene, sim)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Bad weather, with something to do now and then.
    pub(crate) fn storm(
        &self,
        sim: &mut Sim,
        random: &mut fastrand::Rng,
        mut now_and_then: impl FnMut(&mut fastrand::Rng),
    ) {
        sim.set_faults(faults(random));
        for _ in 0..random.u32(5..60) {
            sim.run_for(Duration::from_millis(random.u64(10..2000))).unwrap();
            now_and_then(random);
        }
    }

    /// The weather clears up, and all comes to rest: then nothing is left of `unrest`. Answers false if it does not clear up,
    /// for an engine may also be shut down while everything goes wrong.
    pub(crate) fn calm_down(
        &self,
        sim: &mut Sim,
        random: &mut fastrand::Rng,
        unrest: impl Fn() -> Vec<String>,
    ) -> bool {
        let clears_up = random.u8(0..3) > 0;
        if clears_up {
            sim.set_faults(Faults::none());
            self.calm.store(true, Ordering::Relaxed);
        }
        for ledger in [&self.up, &self.down] {
            ledger.lock().unwrap().keep_nothing();
        }
        if clears_up {
            let pending = || [&self.up, &self.down].map(|ledger| ledger.lock().unwrap().pending());
            let at_rest = sim
                .run_until(Duration::from_secs(300), || {
                    unrest().is_empty() && pending() == [0, 0]
                })
                .unwrap();
            assert!(
                at_rest,
                "no rest: {:?}; {:?} pending; {:?}",
                unrest(),
                pending(),
                self.habits
            );
        }
        clears_up
    }

    pub(crate) fn shut_down<H: Handler>(&self, sim: &mut Sim, engine: &SimEngine<H>) {
        engine.begin_shutdown(Duration::from_secs(5));
        let ended = sim
            .run_until(Duration::from_secs(200), || engine.has_ended())
            .unwrap();
        assert!(ended, "the engine does not end");
    }

    /// The end of the engines with these counters: nothing is open, held or lost.
    pub(crate) fn settle(&self, sim: &mut Sim, engines: &[Stats], tally: &mut Tally) {
        // What was held up on its way arrives at last.
        sim.set_faults(Faults::none());
        sim.run_for(Duration::from_secs(60)).unwrap();
        for ledger in [&self.up, &self.down] {
            let ledger = ledger.lock().unwrap();
            ledger.assert_settled();
            tally.add("messages", ledger.received);
            tally.add("acknowledged", ledger.acked);
            tally.add("dropped", ledger.dropped);
            tally.add("received again", ledger.again);
        }
        assert_eq!(sim.sockets(), 0, "sockets are left");
        for stats in engines {
            assert_nothing_held(stats);
        }
        for (what, count) in sim.reached().each() {
            tally.add(what, count);
        }
    }
}

/// The engine has ended with what it began with.
pub(crate) fn assert_nothing_held(stats: &Stats) {
    assert_eq!((stats.links, stats.links_up, stats.in_flight), (0, 0, 0));
    assert_eq!(
        stats.buffer_bytes, HOT_BLOCK_LEN as u64,
        "buffers are lost: {stats:?}"
    );
    assert_eq!(stats.parked_bytes, 0);
}

/// Evenly over the orders of magnitude: a fault now and then finds other things than a fault each time.
pub(crate) fn chance(random: &mut fastrand::Rng, most: f64) -> f64 {
    if random.bool() {
        return 0.0;
    }
    most * 10f64.powf(-3.0 * random.f64())
}

pub(crate) fn faults(random: &mut fastrand::Rng) -> Faults {
    let millis = |random: &mut fastrand::Rng, most| Duration::from_millis(random.u64(0..=most));
    let mut faults = Faults::none();
    faults.delay = millis(random, 50);
    faults.jitter = millis(random, 200);
    faults.window = 1 << random.u32(8..17);
    faults.short_read = chance(random, 0.9);
    faults.short_write = chance(random, 0.9);
    faults.read_would_block = chance(random, 0.5);
    faults.write_would_block = chance(random, 0.5);
    faults.write_would_block_max = millis(random, 3000);
    faults.reset = chance(random, 0.05);
    faults.reset_discards = chance(random, 1.0);
    faults.half_close = chance(random, 0.05);
    faults.silence = chance(random, 0.05);
    faults.stall = chance(random, 0.05);
    faults.stall_max = millis(random, 20_000);
    faults.connect_error = chance(random, 0.2);
    faults.connect_refused = chance(random, 0.3);
    faults.connect_silence = chance(random, 0.2);
    faults.accept_failure = chance(random, 0.2);
    faults.slow_pass = chance(random, 0.1);
    faults.slow_pass_max = millis(random, 500);
    faults.clock_jump = chance(random, 0.01);
    faults.clock_jump_max = millis(random, 60_000);
    faults
}

pub(crate) fn limits(random: &mut fastrand::Rng) -> Limits {
    let some = |random: &mut fastrand::Rng, low: u32, high: u32| 1usize << random.u32(low..=high);
    Limits::default()
        .handshakes_max(random.usize(1..10))
        .output_bytes_max(some(random, 11, 18))
        .in_flight_max(random.u16(1..50))
        .buffer_bytes_max(Limits::BUFFER_BYTES_MIN + some(random, 0, 20))
        .retained_bytes_max(some(random, 10, 20))
        .ack_timeout(Duration::from_millis(random.u64(1..10_000)))
        .accept_timeout(Duration::from_millis(random.u64(500..10_000)))
        .pingresp_timeout(Duration::from_millis(random.u64(500..10_000)))
        .linger_timeout(Duration::from_millis(random.u64(10..3_000)))
        .commands_max(random.usize(1..50))
}

fn draw_habits(random: &mut fastrand::Rng) -> Habits {
    Habits {
        devices: random.u32(1..8),
        qos_max: [QoS::AtLeastOnce, QoS::ExactlyOnce][random.usize(0..2)],
        payload_max: 1 << random.u32(6..15),
        period: Duration::from_millis(random.u64(100..2000)),
        keep_alive: Duration::from_secs(random.u64(1..20)),
        mischief: chance(random, 0.3),
        keeps_sessions: random.bool(),
    }
}

/// The way to the server of a scene.
pub(crate) fn way_to_server(tls: Option<ClientConfig>) -> Way {
    let mut way = match tls {
        Some(config) => Way::tls(
            "10.0.0.1",
            1883,
            config,
            ServerName::parse("server.test").unwrap(),
        ),
        None => Way::tcp("10.0.0.1", 1883),
    };
    way.resolve().unwrap();
    way
}

pub(crate) fn draw_plan(random: &mut fastrand::Rng, tls: Option<ClientConfig>) -> Plan {
    Plan::new(way_to_server(tls))
        .connect_timeout(Duration::from_millis(random.u64(500..10_000)))
        .backoff(Backoff::new(
            Duration::from_millis(random.u64(1..500)),
            Duration::from_millis(random.u64(500..5_000)),
        ))
}
