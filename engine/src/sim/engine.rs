//! An engine within a simulation.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::driver::SimDriver;
use crate::shard::ShardLoop;
use crate::{EngineHandle, Handler, Stats};

/// An engine that [`Sim::start`](super::Sim::start) has started. Dropping it changes nothing: it goes on as long as
/// its simulation does.
pub struct SimEngine<H> {
    shards: Vec<Rc<SimShard<H>>>,
    handle: EngineHandle,
}

impl<H> std::fmt::Debug for SimEngine<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimEngine")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> SimEngine<H> {
    pub(super) fn new(shards: Vec<Rc<SimShard<H>>>, handle: EngineHandle) -> Self {
        Self { shards, handle }
    }

    /// The verbs of other threads, here for whoever runs the simulation.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// What the engine has done and holds.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Looks at a shard's handler, also after the shard has ended. `None` if there is no such shard.
    pub fn with_handler<R>(&self, shard: usize, look: impl FnOnce(&mut H) -> R) -> Option<R> {
        let mut state = self.shards.get(shard)?.state.try_borrow_mut().ok()?;
        match &mut *state {
            State::Running(shard_loop) => Some(look(shard_loop.handler_mut())),
            State::Ended(handler) => Some(look(handler)),
            State::Failed => None,
        }
    }

    /// Begins what [`Engine::shutdown`](crate::Engine::shutdown) does; it takes effect as the simulation goes on.
    pub fn begin_shutdown(&self, drain: Duration) {
        self.handle.stop(drain);
    }

    /// Whether all shards have ended.
    pub fn has_ended(&self) -> bool {
        self.shards.iter().all(|shard| shard.has_ended())
    }
}

/// What the simulation knows of a shard, whatever its handler is.
pub(super) trait Runner {
    /// There is something to do at once.
    fn is_ready(&self) -> bool;
    /// When there is something to do though nothing arrives.
    fn wake_at(&self) -> Option<Instant>;
    /// One pass.
    fn turn(&self) -> io::Result<()>;
    fn has_ended(&self) -> bool;
}

pub(super) struct SimShard<H> {
    state: RefCell<State<H>>,
}

enum State<H> {
    Running(Box<ShardLoop<H, SimDriver>>),
    Ended(H),
    Failed,
}

impl<H: Handler> SimShard<H> {
    pub(super) fn start(mut shard_loop: ShardLoop<H, SimDriver>) -> Rc<Self> {
        shard_loop.start();
        // Nothing has asked it to stop yet, so it cannot be complete.
        shard_loop.work();
        Rc::new(Self {
            state: RefCell::new(State::Running(Box::new(shard_loop))),
        })
    }
}

impl<H: Handler> Runner for SimShard<H> {
    fn is_ready(&self) -> bool {
        match &*self.state.borrow() {
            State::Running(shard_loop) => shard_loop.driver().is_ready(),
            _ => false,
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Running(shard_loop) => [shard_loop.wake_at(), shard_loop.driver().rests_until()]
                .into_iter()
                .flatten()
                .min(),
            _ => None,
        }
    }

    fn turn(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let State::Running(mut shard_loop) = std::mem::replace(&mut *state, State::Failed) else {
            return Ok(());
        };
        shard_loop.wait(None)?;
        *state = if shard_loop.work() {
            State::Ended(shard_loop.into_handler())
        } else {
            State::Running(shard_loop)
        };
        Ok(())
    }

    fn has_ended(&self) -> bool {
        !matches!(&*self.state.borrow(), State::Running(_))
    }
}
