//! An engine without threads, turned by its caller.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::after;
use crate::driver::MioDriver;
use crate::engine::Shutdown;
use crate::shard::ShardLoop;
use crate::stats::Counters;
use crate::{EngineBuilder, EngineHandle, Handler, Outbox, Shard, StartError, Stats};

impl EngineBuilder {
    /// Starts an engine of one shard without a thread: it does something when its caller [turns](LocalEngine::turn) it.
    /// [`Handler::on_start`] is called before this returns.
    ///
    /// # Errors
    /// The settings contradict each other or ask for several shards, or the system refuses descriptors.
    pub fn start_local<H: Handler>(self, make: impl FnMut(Shard) -> H) -> Result<LocalEngine<H>, StartError> {
        if self.has_shards() > 1 {
            return Err(StartError::LocalShards);
        }
        let parts = self.build(Instant::now(), MioDriver::new, make)?;
        let mut shard_loop = parts.loops.into_iter().next().ok_or(StartError::NoShards)?;
        let poll = shard_loop.driver().as_fd().try_clone_to_owned();
        let poll = poll.map_err(StartError::Io)?;
        let holdings = Holdings(Arc::clone(&shard_loop.core.counters));
        shard_loop.start();
        // Nothing has asked it to stop yet, so it cannot be complete.
        shard_loop.work();
        let running = Running {
            shard_loop: Box::new(shard_loop),
            _holdings: holdings,
        };
        Ok(LocalEngine {
            state: State::Running(running),
            handle: parts.handle,
            poll,
        })
    }
}

/// An engine on its caller's own thread: one shard over real sockets, which moves only within [`turn`](Self::turn). For
/// programs that have an event loop of their own, and for tests that want no threads.
///
/// It is steered by the verbs of its handler, by [`with`](Self::with) between two turns, and from other threads by
/// [`handle`](Self::handle), which ends the wait of a turn. It may move to another thread between two turns.
///
/// ```
/// use std::time::Duration;
/// use fleetwire_codec::{Properties, QoS, TopicName};
/// use fleetwire_engine::{At, ConnectForm, Engine, Event, Handler, Listener, Outbox, Plan, Publish, Way};
///
/// /// Both ends of a conversation: the server says yes to everything, the device waits for its acknowledgement.
/// #[derive(Default)]
/// struct Ends { connected: bool, acked: bool }
///
/// impl Handler for Ends {
///     fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
///         match event {
///             Event::Connect(connect) => {
///                 out.accept(at.link, false, Properties::EMPTY, connect.keep_alive_secs).expect("it waits for this");
///             }
///             Event::Connected(_) => self.connected = true,
///             Event::Acked(_) => self.acked = true,
///             _ => {}
///         }
///     }
/// }
///
/// let listener = Listener::bind("127.0.0.1:0".parse()?)?;
/// let mut way = Way::tcp("127.0.0.1", listener.local_addr()?.port());
/// way.resolve()?;
/// // One engine has both ends here; two, turned one after the other, would do as well.
/// let mut engine = Engine::builder().listen(listener, None, 0).start_local(|_| Ends::default())?;
/// let link = engine
///     .with(|_, out| out.open_with(&Plan::new(way), 0, ConnectForm::new("device")))
///     .expect("it has not ended")?;
/// while !engine.with(|ends, _| ends.connected).unwrap_or(true) {
///     engine.turn(Some(Duration::from_secs(1)))?;
/// }
/// let publish = Publish::new(TopicName::new("heat")?, b"21.5").qos(QoS::AtLeastOnce);
/// engine.with(|_, out| out.publish(link, publish)).expect("it has not ended")?;
/// while !engine.with(|ends, _| ends.acked).unwrap_or(true) {
///     engine.turn(Some(Duration::from_secs(1)))?;
/// }
/// let end = engine.shutdown(Duration::from_secs(5));
/// assert!(end.failed.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Within another event loop
///
/// The engine's descriptor ([`AsFd`], [`AsRawFd`]) is an epoll instance. Register it for reading in a poll of your own, which
/// may be level- or edge-triggered, and wait there until it is readable or [`next_deadline`](Self::next_deadline) has come;
/// then `turn(Some(Duration::ZERO))`. Ask for the deadline directly before you wait: verbs and turns change it, and when a
/// pass has left something to do it is past already. `examples/own_loop.rs` is a whole program of that kind.
///
/// # Its end
///
/// [`shutdown`](Self::shutdown) turns it until it has ended. In an event loop [`begin_shutdown`](Self::begin_shutdown) begins,
/// and `turn` says when it is done. Dropped without that, it closes its sockets at once: nobody is told anything, and
/// handles answer [`Stopped`](crate::HandleError::Stopped).
///
/// A panic of the handler comes out of the call in which it happened. Who catches it has an engine that has ended as if it
/// had been dropped, and whose `turn` is an error.
pub struct LocalEngine<H> {
    state: State<H>,
    handle: EngineHandle,
    /// The driver's epoll instance under a descriptor of its own, which is there as long as this value is.
    poll: OwnedFd,
}

enum State<H> {
    Running(Running<H>),
    Ended(H),
    Failed,
}

struct Running<H> {
    shard_loop: Box<ShardLoop<H, MioDriver>>,
    _holdings: Holdings,
}

/// Whatever ends the shard, it holds nothing any more.
struct Holdings(Arc<Counters>);

impl Drop for Holdings {
    fn drop(&mut self) {
        self.0.forget_holdings();
    }
}

/// Whether an engine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// There may be more to do.
    GoesOn,
    /// A shutdown is complete.
    Ended,
}

impl<H: Handler> LocalEngine<H> {
    /// One pass: waits until something is ready, a deadline has come or a handle has a command, at most for `timeout`, and
    /// does all that there is to do then. `None` waits as long as it takes, zero does not wait.
    ///
    /// After the end it answers [`Turn::Ended`] at once.
    ///
    /// # Errors
    /// The system's poll failed, or a handler has panicked before: the engine has ended, and so it is with every later call.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        // What a panic or an error leaves behind is a failed engine, with its sockets closed.
        let mut running = match std::mem::replace(&mut self.state, State::Failed) {
            State::Running(running) => running,
            State::Ended(handler) => {
                self.state = State::Ended(handler);
                return Ok(Turn::Ended);
            }
            State::Failed => return Err(io::Error::other("the engine has ended by an error or a panic")),
        };
        running
            .shard_loop
            .wait(timeout.map(|timeout| after(Instant::now(), timeout)))?;
        if running.shard_loop.work() {
            self.state = State::Ended(running.shard_loop.into_handler());
            Ok(Turn::Ended)
        } else {
            self.state = State::Running(running);
            Ok(Turn::GoesOn)
        }
    }

    /// Calls `act` with the handler and its verbs, as if something had happened; what they lead to is sent before this
    /// returns. `None` after the end.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut H, &mut Outbox<'_>) -> R) -> Option<R> {
        let mut running = match std::mem::replace(&mut self.state, State::Failed) {
            State::Running(running) => running,
            over => {
                self.state = over;
                return None;
            }
        };
        let acted = running.shard_loop.act(Instant::now(), act);
        self.state = State::Running(running);
        Some(acted)
    }

    /// When it is to be turned though its descriptor is not readable; it may be past already. `None`: nothing is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Running(running) => {
                let now = Instant::now();
                let driver = running.shard_loop.driver().wakes_at(now);
                driver.into_iter().chain(running.shard_loop.wake_at()).min()
            }
            State::Ended(_) | State::Failed => None,
        }
    }

    /// Stops dialling and accepting, and lets the following turns do what [`Engine::shutdown`](crate::Engine::shutdown) does,
    /// with up to `drain` for acknowledgements. The first call counts.
    pub fn begin_shutdown(&self, drain: Duration) {
        self.handle.stop(drain);
    }

    /// Shuts down, turning the engine until that is complete, and gives the handler back. At once if it has ended before.
    pub fn shutdown(mut self, drain: Duration) -> Shutdown<H> {
        self.begin_shutdown(drain);
        let failed = loop {
            match self.turn(None) {
                Ok(Turn::GoesOn) => {}
                Ok(Turn::Ended) => break None,
                Err(error) => break Some((0, error.to_string())),
            }
        };
        let handler = match self.state {
            State::Ended(handler) => Some(handler),
            State::Running(_) | State::Failed => None,
        };
        Shutdown {
            handlers: handler.into_iter().collect(),
            failed: failed.into_iter().collect(),
            stats: self.handle.stats(),
        }
    }
}

impl<H> LocalEngine<H> {
    /// For other threads; also for this one, whose commands are carried out by the next turn.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// What the engine has done and holds.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }
}

impl<H> AsFd for LocalEngine<H> {
    /// Readable when there is something to do; see [`LocalEngine`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

impl<H> AsRawFd for LocalEngine<H> {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl<H> fmt::Debug for LocalEngine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running(_) => "running",
            State::Ended(_) => "ended",
            State::Failed => "failed",
        };
        f.debug_struct("LocalEngine")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
