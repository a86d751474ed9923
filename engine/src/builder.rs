//! What an engine is made of, and its start.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use crossbeam_channel::bounded;
use fleetwire_codec::buffer::{HOT_BLOCK_LEN, Pool, PoolLimits, RecvBuf};
use fleetwire_tls::{Scratch, ServerConfig};

use crate::core::{Core, Dialer};
use crate::driver::{Driver, MioDriver, Wake};
use crate::handle::Door;
use crate::links::{Ids, Links};
use crate::parking::Parking;
use crate::shard::{Inlets, ListenerOptions, ShardLoop};
use crate::stats::Counters;
use crate::timer::Timers;
use crate::{Engine, EngineHandle, Handler, Limits, Listener, Shard, pinning};

/// Listeners that one engine may have.
const LISTENERS_MAX: usize = 64;
/// Shards that one engine may have.
const SHARDS_MAX: usize = 1024;

/// How an engine is to be; [`start`](Self::start) makes it.
#[derive(Debug)]
pub struct EngineBuilder {
    shards: usize,
    pins_threads: bool,
    connect_rate: f64,
    limits: Limits,
    seed: u64,
    listeners: Vec<(Listener, Option<ServerConfig>, u64)>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            shards: 1,
            pins_threads: false,
            connect_rate: f64::INFINITY,
            limits: Limits::default(),
            seed: 0,
            listeners: Vec::new(),
        }
    }
}

impl EngineBuilder {
    /// How many shards, that is threads; 1 unless said otherwise, 1,024 at most.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Keeps each shard's thread on one processor: the shards in turn on those that the thread that calls
    /// [`start`](Self::start) may use, from the lowest number on. Off unless said otherwise, for the system moves threads to
    /// where there is room, and only who has measured knows better.
    ///
    /// A second engine, or another process, begins with the same processor, unless it is started where others are allowed
    /// (`taskset`). Threads that a handler starts stay on its processor. If the system refuses, the thread stays free, and a
    /// warning is logged. On Linux; elsewhere `start` is an error. An engine that its caller turns has no thread to pin.
    #[must_use]
    pub fn pin_threads(mut self, pin: bool) -> Self {
        self.pins_threads = pin;
        self
    }

    /// Attempts to connect a second, over all shards; without a limit unless said otherwise.
    #[must_use]
    pub fn connect_rate(mut self, per_second: f64) -> Self {
        self.connect_rate = per_second;
        self
    }

    /// The bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Seeds everything random, which today is the jitter of the backoff.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Accepts connections, with TLS or without; they carry `token`. With several shards the listener has to be one of
    /// [`Listener::bind_shared`].
    #[must_use]
    pub fn listen(mut self, listener: Listener, tls: Option<ServerConfig>, token: u64) -> Self {
        self.listeners.push((listener, tls, token));
        self
    }

    pub(crate) fn has_shards(&self) -> usize {
        self.shards
    }

    pub(crate) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Starts the shards, each with a handler of its own.
    ///
    /// # Errors
    /// The settings contradict each other, the system refuses threads or descriptors, or threads are to be pinned where that
    /// is not possible.
    pub fn start<H: Handler>(self, make: impl FnMut(Shard) -> H) -> Result<Engine<H>, StartError> {
        let processors = if self.pins_threads {
            pinning::processors().map_err(StartError::Io)?
        } else {
            Vec::new()
        };
        let mut processors = processors.into_iter().cycle();
        let parts = self.build(Instant::now(), MioDriver::new, make)?;
        // From here on a failure drops the engine, which stops the shards that run already.
        let mut engine = Engine::new(parts.handle);
        for shard_loop in parts.loops {
            engine
                .spawn(shard_loop, processors.next())
                .map_err(StartError::Io)?;
        }
        Ok(engine)
    }

    /// Makes the shards over drivers that `make_driver` makes; nothing runs yet.
    pub(crate) fn build<H: Handler, D: Driver>(
        self,
        now: Instant,
        mut make_driver: impl FnMut(Vec<Listener>) -> io::Result<(D, Wake)>,
        mut make: impl FnMut(Shard) -> H,
    ) -> Result<Parts<H, D>, StartError> {
        if self.shards == 0 {
            return Err(StartError::NoShards);
        }
        if self.shards > SHARDS_MAX {
            return Err(StartError::TooManyShards);
        }
        if self.listeners.len() > LISTENERS_MAX {
            return Err(StartError::TooManyListeners);
        }
        let limits = self.limits.workable();
        if limits.buffer_bytes_max < Limits::BUFFER_BYTES_MIN {
            return Err(StartError::NoBuffers);
        }
        // Every shard has a socket of its own for each listener.
        let mut sockets: Vec<Vec<Listener>> = (0..self.shards).map(|_| Vec::new()).collect();
        let mut options = Vec::new();
        for (listener, tls, token) in self.listeners {
            for of_shard in sockets.iter_mut().skip(1) {
                let another = listener
                    .for_another_shard()
                    .ok_or(StartError::ListenersNotShared)?;
                of_shard.push(another.map_err(StartError::Io)?);
            }
            if let Some(first) = sockets.first_mut() {
                first.push(listener);
            }
            options.push(ListenerOptions { tls, token });
        }
        let mut loops = Vec::with_capacity(self.shards);
        let mut doors = Vec::with_capacity(self.shards);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let shard = Shard {
                index,
                count: self.shards,
                seed: self.seed,
            };
            let (commands, receiver) = bounded(limits.commands_max);
            let (stop, stops) = bounded(1);
            let closed = Arc::new(RwLock::new(false));
            let (driver, wake) = make_driver(sockets).map_err(StartError::Io)?;
            let ids = Ids::new(index, limits.links_max);
            let counters = Arc::new(Counters::default());
            let rate = self.connect_rate / self.shards as f64;
            let core = core(shard, &limits, rate, now, ids.clone(), Arc::clone(&counters))?;
            loops.push(ShardLoop::new(
                core,
                driver,
                make(shard),
                Inlets {
                    commands: receiver,
                    stops,
                    closed: Arc::clone(&closed),
                },
                options.clone(),
            ));
            doors.push(Door {
                commands,
                stop,
                closed,
                wake,
                ids,
                counters,
            });
        }
        Ok(Parts {
            loops,
            handle: EngineHandle::new(doors),
        })
    }
}

/// An engine that does not run yet.
pub(crate) struct Parts<H, D> {
    pub(crate) loops: Vec<ShardLoop<H, D>>,
    pub(crate) handle: EngineHandle,
}

fn core(
    shard: Shard,
    limits: &Limits,
    connect_rate: f64,
    now: Instant,
    ids: Ids,
    counters: Arc<Counters>,
) -> Result<Core, StartError> {
    let mut pool = Pool::new(PoolLimits {
        bytes_max: limits.buffer_bytes_max as u64,
        bytes_parked_max: limits.buffer_bytes_max as u64 / 2,
        bytes_retained_max: limits.retained_bytes_max as u64,
        ..PoolLimits::default()
    });
    let hot = pool.take(HOT_BLOCK_LEN).ok_or(StartError::NoBuffers)?;
    Ok(Core {
        shard,
        limits: limits.clone(),
        now,
        moment: now.into(),
        hot: Some(Box::new(RecvBuf::new(hot))),
        parking: Parking::default(),
        lent: None,
        unreported: true,
        pool,
        scratch: Scratch::with_keys_max(limits.tls_keys_max),
        flight: Vec::new(),
        links: Links::default(),
        ids,
        timers: Timers::default(),
        dialer: Dialer::new(connect_rate, now),
        dirty: Vec::new(),
        again: Vec::new(),
        starved: Vec::new(),
        dialling: 0,
        accepting: 0,
        waiting: VecDeque::new(),
        kept_bytes: 0,
        random: fastrand::Rng::with_seed(
            shard.seed ^ (shard.index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        ),
        counters,
        draining: false,
    })
}

/// Why an engine could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An engine needs at least one shard.
    NoShards,
    /// An engine of several shards needs listeners of [`Listener::bind_shared`].
    ListenersNotShared,
    /// A channel engine has no listeners: only a handler can answer a CONNECT.
    ListenersNeedHandler,
    /// At most 1,024 shards.
    TooManyShards,
    /// An engine that its caller turns has one shard.
    LocalShards,
    /// At most 64 listeners.
    TooManyListeners,
    /// `Limits::buffer_bytes_max` is below [`Limits::BUFFER_BYTES_MIN`].
    NoBuffers,
    /// The system refused a thread or a descriptor.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShards => f.write_str("an engine needs at least one shard"),
            Self::ListenersNotShared => {
                f.write_str("an engine of several shards needs listeners that were bound to be shared")
            }
            Self::ListenersNeedHandler => f.write_str("listeners need a handler to answer CONNECT"),
            Self::TooManyShards => write!(f, "more than {SHARDS_MAX} shards"),
            Self::LocalShards => f.write_str(
                "an engine that its caller turns has one shard; start several, or one with threads",
            ),
            Self::TooManyListeners => write!(f, "more than {LISTENERS_MAX} listeners"),
            Self::NoBuffers => write!(f, "the buffer bound is below {} bytes", Limits::BUFFER_BYTES_MIN),
            Self::Io(error) => write!(f, "cannot start a shard: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}
