//! Engines in a simulated network, on one thread, under a clock of their own: an hour passes in milliseconds, and a
//! run that went wrong goes wrong in the same way again.
//!
//! A [`Sim`] holds a network, a clock and any number of engines. The engines are the real ones, with the same
//! handlers as over sockets; only what moves their bytes is simulated. The network can be made as bad as one likes
//! by [`Faults`], and [`Reached`] counts what it really did. Everything random comes from the seed, so a test which
//! prints its seed can be repeated exactly. (Keys of TLS do not come from it: with TLS the bytes differ from run to
//! run.)
//!
//! ```
//! use std::time::Duration;
//! use fleetwire_codec::{Properties, QoS, TopicName};
//! use fleetwire_engine::sim::{Faults, Sim};
//! use fleetwire_engine::{At, ConnectForm, Engine, Event, Handler, Outbox, Plan, Publish, Shard, Way};
//!
//! /// Publishes once a minute, and counts what is acknowledged.
//! struct Device { plan: Plan, acked: u64 }
//!
//! impl Handler for Device {
//!     fn on_start(&mut self, _: Shard, out: &mut Outbox<'_>) {
//!         out.open_with(&self.plan, 0, ConnectForm::new("device")).expect("one link is within the limits");
//!     }
//!     fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
//!         match event {
//!             Event::Connected(_) => out.every(at.link, at.now, Duration::from_secs(60)).expect("the link is there"),
//!             Event::Due(_) => {
//!                 let topic = TopicName::new("heat").expect("it has no wildcards");
//!                 // While it is offline there is nobody to publish to.
//!                 let _ = out.publish(at.link, Publish::new(topic, b"21.5").qos(QoS::AtLeastOnce));
//!             }
//!             Event::Acked(_) => self.acked += 1,
//!             _ => {}
//!         }
//!     }
//! }
//!
//! struct Server;
//!
//! impl Handler for Server {
//!     fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
//!         if let Event::Connect(connect) = event {
//!             out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs).expect("it waits for this");
//!         }
//!     }
//! }
//!
//! let mut sim = Sim::new(42);
//! let mut faults = Faults::none();
//! faults.short_read = 0.5;
//! sim.set_faults(faults);
//! let address = "10.0.0.1:1883".parse()?;
//! let server = Engine::builder().listen(sim.listener(address), None, 0);
//! let _server = sim.start(server, |_| Server)?;
//!
//! let mut way = Way::tcp("10.0.0.1", 1883);
//! way.resolve()?;
//! let plan = Plan::new(way);
//! let device = sim.start(Engine::builder(), |_| Device { plan: plan.clone(), acked: 0 })?;
//! sim.run_for(Duration::from_secs(3600))?;
//! let acked = device.with_handler(0, |device| device.acked);
//! assert!(acked.is_some_and(|acked| acked >= 59), "{acked:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod engine;
mod faults;
mod peer;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::driver::SimDriver;
use crate::driver::sim::World;
use crate::{EngineBuilder, Handler, Listener, Shard, StartError};

pub use self::engine::SimEngine;
use self::engine::{Runner, SimShard};
pub use self::faults::{Faults, Reached};
use self::peer::PeerShard;
pub use self::peer::{Peer, PeerIo, SimPeer};

/// Passes at one moment of the clock after which a run counts as stuck: somebody asks to be called again at once and
/// has nothing to do.
const PASSES_AT_ONCE_MAX: u32 = 100_000;

/// See the module. It lives on one thread.
pub struct Sim {
    world: Rc<RefCell<World>>,
    shards: Vec<Rc<dyn Runner>>,
    started: Instant,
    passes: u64,
    passes_at_once: u32,
}

impl Sim {
    /// A network without engines and without faults.
    pub fn new(seed: u64) -> Self {
        // Only differences between moments are ever looked at, so it does not matter which one is the first.
        let started = Instant::now();
        Self {
            world: Rc::new(RefCell::new(World::new(seed, started))),
            shards: Vec::new(),
            started,
            passes: 0,
            passes_at_once: 0,
        }
    }

    /// What goes wrong from here on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.world.borrow_mut().set_faults(faults);
    }

    /// What has gone wrong so far.
    pub fn reached(&self) -> Reached {
        self.world.borrow().reached()
    }

    /// The clock.
    pub fn now(&self) -> Instant {
        self.world.borrow().now()
    }

    /// Since the simulation was made.
    pub fn elapsed(&self) -> Duration {
        self.now().saturating_duration_since(self.started)
    }

    /// Passes of all event loops so far.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// Ends of connections that exist in the network, those that wait to be accepted included.
    pub fn sockets(&self) -> usize {
        self.world.borrow().sockets_len()
    }

    /// A number below `bound` out of the simulation's own random source, or 0 if there is none.
    pub fn random(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        self.world.borrow_mut().random().u64(0..bound)
    }

    /// For [`EngineBuilder::listen`] of an engine that is started here. Any address will do; engines that listen on
    /// the same one share its connections.
    pub fn listener(&self, address: SocketAddr) -> Listener {
        Listener::simulated(address)
    }

    /// Starts an engine in this network. Its shards run when the simulation does.
    ///
    /// # Errors
    /// As [`EngineBuilder::start`]; and listeners have to come from [`listener`](Self::listener).
    pub fn start<H: Handler>(
        &mut self,
        builder: EngineBuilder,
        make: impl FnMut(Shard) -> H,
    ) -> Result<SimEngine<H>, StartError> {
        let now = self.now();
        let world = Rc::clone(&self.world);
        let parts = builder.build(now, |listeners| SimDriver::new(&world, listeners), make)?;
        let shards: Vec<Rc<SimShard<H>>> = parts.loops.into_iter().map(SimShard::start).collect();
        for shard in &shards {
            self.shards.push(Rc::<SimShard<H>>::clone(shard));
        }
        Ok(SimEngine::new(shards, parts.handle))
    }

    /// Puts something into this network that listens on an address and is no engine.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn serve<P: Peer>(&mut self, address: SocketAddr, peer: P) -> Result<SimPeer<P>, StartError> {
        let listeners = vec![self.listener(address)];
        self.add_peer(listeners, peer)
    }

    /// Puts something into this network that is no engine and listens on nothing: it [dials](PeerIo::dial).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn join<P: Peer>(&mut self, peer: P) -> Result<SimPeer<P>, StartError> {
        self.add_peer(Vec::new(), peer)
    }

    fn add_peer<P: Peer>(&mut self, listeners: Vec<Listener>, peer: P) -> Result<SimPeer<P>, StartError> {
        let (driver, _) = SimDriver::new(&self.world, listeners).map_err(StartError::Io)?;
        let shard = PeerShard::new(driver, peer, self.now());
        self.shards.push(Rc::<PeerShard<P>>::clone(&shard));
        Ok(SimPeer::new(shard))
    }

    /// Runs for that long by the simulation's clock.
    ///
    /// # Errors
    /// See [`SimError`].
    pub fn run_for(&mut self, wait: Duration) -> Result<(), SimError> {
        self.run_until(wait, || false).map(drop)
    }

    /// Runs until `done` says so, or for that long; answers what `done` said last.
    ///
    /// # Errors
    /// See [`SimError`].
    pub fn run_until(&mut self, wait: Duration, mut done: impl FnMut() -> bool) -> Result<bool, SimError> {
        let end = crate::clock::after(self.now(), wait);
        loop {
            if done() {
                return Ok(true);
            }
            if !self.step(end)? {
                return Ok(false);
            }
        }
    }

    /// One pass of one shard, or the way to the next moment at which there is something to do. Answers false at
    /// `end`.
    fn step(&mut self, end: Instant) -> Result<bool, SimError> {
        let now = self.now();
        self.shards.retain(|shard| !shard.has_ended());
        let ready: Vec<_> = self
            .shards
            .iter()
            .filter(|shard| shard.is_ready() || shard.wake_at().is_some_and(|at| at <= now))
            .collect();
        if let Some(last) = ready.len().checked_sub(1) {
            let chosen = match last {
                0 => 0,
                last => self.world.borrow_mut().random().usize(0..=last),
            };
            self.passes += 1;
            self.passes_at_once += 1;
            if self.passes_at_once > PASSES_AT_ONCE_MAX {
                return Err(SimError::Stuck);
            }
            if let Some(shard) = ready.get(chosen) {
                shard.turn().map_err(SimError::Shard)?;
            }
            return Ok(self.now() <= end);
        }
        let wakes = self.shards.iter().filter_map(|shard| shard.wake_at());
        let next = wakes.chain(self.world.borrow().next_event_at()).min();
        let to = next.filter(|next| *next <= end);
        self.world.borrow_mut().advance(to.unwrap_or(end));
        self.passes_at_once = 0;
        Ok(to.is_some() && self.now() <= end)
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("elapsed", &self.elapsed())
            .field("passes", &self.passes)
            .field("sockets", &self.sockets())
            .finish_non_exhaustive()
    }
}

/// Why a simulation cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum SimError {
    /// Event loops turn for ever at one moment of the clock: over real sockets they would keep a processor busy.
    Stuck,
    /// A shard ended with an error of its driver.
    Shard(io::Error),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck => write!(
                f,
                "{PASSES_AT_ONCE_MAX} passes at one moment: an event loop spins"
            ),
            Self::Shard(error) => write!(f, "a shard ended: {error}"),
        }
    }
}

impl std::error::Error for SimError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shard(error) => Some(error),
            Self::Stuck => None,
        }
    }
}
