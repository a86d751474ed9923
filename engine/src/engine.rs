//! Starting, steering and stopping an engine.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};
use fleetwire_codec::buffer::{HOT_BLOCK_LEN, Pool, PoolLimits, RecvBuf};
use fleetwire_codec::{QoS, TopicFilterBuf};
use fleetwire_tls::{Scratch, ServerConfig};

use crate::command::Command;
use crate::core::{Core, Dialer};
use crate::driver::{Driver, MioDriver, Wake};
use crate::link::{Ids, Links};
use crate::shard::{ListenerOptions, ShardLoop};
use crate::stats::Counters;
use crate::timer::Timers;
use crate::{ConnectForm, Handler, Limits, LinkId, Listener, OpenError, OwnedPublish, Plan, Shard, Stats};

/// Listeners that one engine may have.
const LISTENERS_MAX: usize = 64;

/// How an engine is to be; [`start`](Self::start) makes it.
#[derive(Debug)]
pub struct EngineBuilder {
    shards: usize,
    connect_rate: f64,
    limits: Limits,
    seed: u64,
    listeners: Vec<(Listener, Option<ServerConfig>, u64)>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            shards: 1,
            connect_rate: f64::INFINITY,
            limits: Limits::default(),
            seed: 0,
            listeners: Vec::new(),
        }
    }
}

impl EngineBuilder {
    /// How many shards, that is threads; 1 unless said otherwise.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
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

    /// Accepts connections, with TLS or without; they carry `token`.
    #[must_use]
    pub fn listen(mut self, listener: Listener, tls: Option<ServerConfig>, token: u64) -> Self {
        self.listeners.push((listener, tls, token));
        self
    }

    pub(crate) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Starts the shards, each with a handler of its own.
    ///
    /// # Errors
    /// The settings contradict each other, or the system refuses threads or descriptors.
    pub fn start<H: Handler>(self, mut make: impl FnMut(Shard) -> H) -> Result<Engine<H>, StartError> {
        if self.shards == 0 {
            return Err(StartError::NoShards);
        }
        if self.shards > 1 && !self.listeners.is_empty() {
            return Err(StartError::ListenersNeedOneShard);
        }
        if self.listeners.len() > LISTENERS_MAX {
            return Err(StartError::TooManyListeners);
        }
        let limits = self.limits.at_least_one();
        let (mut sockets, mut options) = (Vec::new(), Vec::new());
        for (listener, tls, token) in self.listeners {
            sockets.push(listener);
            options.push(ListenerOptions { tls, token });
        }
        let mut loops = Vec::with_capacity(self.shards);
        let mut doors = Vec::with_capacity(self.shards);
        for index in 0..self.shards {
            let shard = Shard {
                index,
                count: self.shards,
                seed: self.seed,
            };
            let (commands, receiver) = bounded(limits.commands_max);
            let (stop, stops) = bounded(1);
            let (driver, wake) = MioDriver::new(std::mem::take(&mut sockets)).map_err(StartError::Io)?;
            let ids = Ids::new(index, limits.links_max);
            let counters = Arc::new(Counters::default());
            let rate = self.connect_rate / self.shards as f64;
            let core = core(shard, &limits, rate, ids.clone(), Arc::clone(&counters))?;
            let options = std::mem::take(&mut options);
            loops.push(ShardLoop::new(
                core,
                driver,
                make(shard),
                receiver,
                stops,
                options,
            ));
            doors.push(Door {
                commands,
                stop,
                wake,
                ids,
                counters,
            });
        }
        let handle = EngineHandle {
            doors: doors.into(),
            next: Arc::new(AtomicUsize::new(0)),
        };
        // From here on a failure drops the engine, which stops the shards that run already.
        let mut engine = Engine {
            threads: Vec::with_capacity(loops.len()),
            handle,
        };
        for (index, shard_loop) in loops.into_iter().enumerate() {
            let thread = thread::Builder::new()
                .name(format!("fleetwire-{index}"))
                .spawn(move || run(shard_loop))
                .map_err(StartError::Io)?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }
}

fn core(
    shard: Shard,
    limits: &Limits,
    connect_rate: f64,
    ids: Ids,
    counters: Arc<Counters>,
) -> Result<Core, StartError> {
    let now = Instant::now();
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
        hot: Some(RecvBuf::new(hot)),
        lent: None,
        pool,
        scratch: Scratch::new(),
        flight: Vec::new(),
        links: Links::default(),
        ids,
        timers: Timers::default(),
        dialer: Dialer::new(connect_rate, now),
        dirty: Vec::new(),
        starved: Vec::new(),
        dialling: 0,
        accepting: 0,
        random: fastrand::Rng::with_seed(
            shard.seed ^ (shard.index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        ),
        counters,
        draining: false,
    })
}

fn run<H: Handler, D: Driver>(shard_loop: ShardLoop<H, D>) -> Result<H, String> {
    match catch_unwind(AssertUnwindSafe(|| shard_loop.run())) {
        Ok(Ok(handler)) => Ok(handler),
        Ok(Err(error)) => Err(format!("the event loop failed: {error}")),
        Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a text",
    }
}

/// Why an engine could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An engine needs at least one shard.
    NoShards,
    /// Listeners work with one shard for now.
    ListenersNeedOneShard,
    /// A channel engine has no listeners: only a handler can answer a CONNECT.
    ListenersNeedHandler,
    /// At most 64 listeners.
    TooManyListeners,
    /// `Limits::buffer_bytes_max` is too small for one receive block.
    NoBuffers,
    /// The system refused a thread or a descriptor.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShards => f.write_str("an engine needs at least one shard"),
            Self::ListenersNeedOneShard => f.write_str("listeners need an engine with one shard"),
            Self::ListenersNeedHandler => f.write_str("listeners need a handler to answer CONNECT"),
            Self::TooManyListeners => write!(f, "more than {LISTENERS_MAX} listeners"),
            Self::NoBuffers => write!(
                f,
                "the buffer bound is below one receive block of {HOT_BLOCK_LEN} bytes"
            ),
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

/// A running engine. Dropping it closes everything without waiting; [`shutdown`](Self::shutdown) drains.
#[derive(Debug)]
pub struct Engine<H> {
    threads: Vec<JoinHandle<Result<H, String>>>,
    handle: EngineHandle,
}

impl Engine<()> {
    /// Settings to start from.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }
}

impl<H> Engine<H> {
    /// For other threads.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Which driver moves the bytes.
    pub fn driver(&self) -> &'static str {
        MioDriver::NAME
    }

    /// What the engine has done and holds, without stopping it.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Stops dialling and accepting, waits up to `drain` for acknowledgements, says DISCONNECT on every link, closes
    /// them, and gives the handlers back.
    pub fn shutdown(mut self, drain: Duration) -> Shutdown<H> {
        self.handle.stop(drain);
        let (mut handlers, mut failed) = (Vec::new(), Vec::new());
        for (index, thread) in self.threads.drain(..).enumerate() {
            match thread.join() {
                Ok(Ok(handler)) => handlers.push(handler),
                Ok(Err(text)) => failed.push((index, text)),
                Err(panic) => failed.push((index, format!("panicked: {}", panic_text(&*panic)))),
            }
        }
        Shutdown {
            handlers,
            failed,
            stats: self.handle.stats(),
        }
    }
}

impl<H> Drop for Engine<H> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop(Duration::ZERO);
        }
    }
}

/// What is left of an engine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shutdown<H> {
    /// The handlers in the order of their shards; those of failed shards are missing.
    pub handlers: Vec<H>,
    /// Shards that ended by a panic of their handler or an error of the system: index and text.
    pub failed: Vec<(usize, String)>,
    /// The counters at the end.
    pub stats: Stats,
}

/// How one shard is reached.
#[derive(Debug)]
struct Door {
    commands: Sender<Command>,
    stop: Sender<Duration>,
    wake: Wake,
    ids: Ids,
    counters: Arc<Counters>,
}

/// An engine's verbs for other threads: owned data over bounded channels. No call blocks. Commands of one handle for
/// one link are carried out in their order; what goes wrong afterwards is an event of the link.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    doors: Arc<[Door]>,
    next: Arc<AtomicUsize>,
}

impl EngineHandle {
    /// Opens a client link on the next shard; its `on_dial` is asked at each attempt. The id is valid at once.
    ///
    /// # Errors
    /// The bound of links or of waiting commands is reached, or the engine has stopped.
    pub fn open(&self, plan: &Plan, token: u64) -> Result<LinkId, OpenError> {
        self.open_link(plan, token, None)
    }

    /// As [`open`](Self::open), with a form that is used at every attempt instead of asking `on_dial`.
    ///
    /// # Errors
    /// The bound of links or of waiting commands is reached, or the engine has stopped.
    pub fn open_with(&self, plan: &Plan, token: u64, form: ConnectForm) -> Result<LinkId, OpenError> {
        self.open_link(plan, token, Some(Box::new(form)))
    }

    fn open_link(
        &self,
        plan: &Plan,
        token: u64,
        form: Option<Box<ConnectForm>>,
    ) -> Result<LinkId, OpenError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut answer = OpenError::ShuttingDown;
        let mut form = form;
        // Any shard will do, so one that is full is passed over.
        for turn in 0..self.doors.len() {
            let Some(door) = self.doors.get((first.wrapping_add(turn)) % self.doors.len()) else {
                continue;
            };
            let Some(id) = door.ids.reserve() else {
                answer = OpenError::TooManyLinks;
                continue;
            };
            let command = Command::Open {
                id,
                plan: plan.clone(),
                token,
                form: form.take(),
            };
            let Err((error, command)) = door.send(command) else {
                return Ok(id);
            };
            door.ids.release(id);
            if let Command::Open { form: back, .. } = command {
                form = back;
            }
            answer = match error {
                HandleError::Full => OpenError::Full,
                HandleError::Stopped => OpenError::ShuttingDown,
            };
        }
        Err(answer)
    }

    /// Publishes. If the link does not accept it, `Dropped` says why.
    ///
    /// # Errors
    /// The message comes back.
    pub fn publish(&self, link: LinkId, publish: OwnedPublish) -> Result<(), Returned> {
        match self.send(link, Command::Publish { link, publish }) {
            Err((error, Command::Publish { publish, .. })) => Err(Returned {
                error,
                publish: Box::new(publish),
            }),
            _ => Ok(()),
        }
    }

    /// Subscribes; `Subscribed` or `Rejected` follows.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn subscribe(&self, link: LinkId, filters: Vec<(TopicFilterBuf, QoS)>) -> Result<(), HandleError> {
        self.send(link, Command::Subscribe { link, filters })
            .map_err(|(error, _)| error)
    }

    /// Unsubscribes; `Unsubscribed` or `Rejected` follows.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn unsubscribe(&self, link: LinkId, filters: Vec<TopicFilterBuf>) -> Result<(), HandleError> {
        self.send(link, Command::Unsubscribe { link, filters })
            .map_err(|(error, _)| error)
    }

    /// As [`Outbox::close`](crate::Outbox::close).
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn close(&self, link: LinkId) -> Result<(), HandleError> {
        self.send(link, Command::Close { link })
            .map_err(|(error, _)| error)
    }

    /// As [`Outbox::abort`](crate::Outbox::abort).
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn abort(&self, link: LinkId) -> Result<(), HandleError> {
        self.send(link, Command::Abort { link })
            .map_err(|(error, _)| error)
    }

    /// Stops or resumes reading from the link.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn set_reading(&self, link: LinkId, reading: bool) -> Result<(), HandleError> {
        self.send(link, Command::SetReading { link, reading })
            .map_err(|(error, _)| error)
    }

    /// Changes the application's 64 bits.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn set_token(&self, link: LinkId, token: u64) -> Result<(), HandleError> {
        self.send(link, Command::SetToken { link, token })
            .map_err(|(error, _)| error)
    }

    /// What the engine has done and holds.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for door in self.doors.iter() {
            stats.add(&door.counters);
        }
        stats
    }

    pub(crate) fn wake_all(&self) {
        for door in self.doors.iter() {
            door.wake.wake();
        }
    }

    fn send(&self, link: LinkId, command: Command) -> Result<(), (HandleError, Command)> {
        match self.doors.get(link.shard()) {
            Some(door) => door.send(command),
            None => Err((HandleError::Stopped, command)),
        }
    }

    fn stop(&self, drain: Duration) {
        for door in self.doors.iter() {
            // The first one counts; without a shard there is nothing to stop.
            let _ = door.stop.try_send(drain);
            door.wake.wake();
        }
    }
}

impl Door {
    fn send(&self, command: Command) -> Result<(), (HandleError, Command)> {
        match self.commands.try_send(command) {
            Ok(()) => {
                self.wake.wake();
                Ok(())
            }
            Err(TrySendError::Full(command)) => Err((HandleError::Full, command)),
            Err(TrySendError::Disconnected(command)) => Err((HandleError::Stopped, command)),
        }
    }
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// `Limits::commands_max` commands wait for the shard.
    Full,
    /// The engine, or the link's shard, has stopped.
    Stopped,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many commands wait for the shard; try again later",
            Self::Stopped => "the engine has stopped",
        })
    }
}

impl std::error::Error for HandleError {}

/// A publish that was not taken comes back whole.
#[derive(Debug)]
pub struct Returned {
    /// Why.
    pub error: HandleError,
    /// The message.
    pub publish: Box<OwnedPublish>,
}

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Returned {}
