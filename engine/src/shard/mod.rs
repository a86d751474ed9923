//! The event loop of one shard. Only the shard loops: everything below it returns.
//!
//! One pass: take the application's commands, fire what is due, dial whose turn it is, wait, take every completion
//! that is ready, then send what all of that has produced, as few writes as possible for each connection.

#[cfg(test)]
mod allocations;
mod ending;
mod opening;
mod receiving;
mod sending;
mod stopping;
mod timing;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::clock::Moment;
use crate::command::Command;
use crate::core::Core;
use crate::driver::{Completion, Driver, Key};
use crate::outbox::Outbox;
use crate::{At, Event, Handler};

use stopping::Stop;

/// Commands that one pass takes, so that a flood of them does not starve the network.
const COMMANDS_PER_PASS: usize = 1024;
/// How often a draining shard looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(5);
/// How often links that found no memory look whether there is some.
const STARVED_CHECK: Duration = Duration::from_millis(5);
/// How long accepting rests after the system refused it.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// What is queued is still sent.
    Flush,
    /// At once; nothing could be sent any more.
    Now,
    /// With a TCP reset.
    Reset,
}

/// See the module.
pub(crate) struct ShardLoop<H, D> {
    pub(crate) core: Core,
    driver: D,
    handler: H,
    inlets: Inlets,
    listeners: Vec<ListenerOptions>,
    stop: Stop,
    accept_again: Option<Instant>,
    /// The last pass has left nothing to do but what is in `Core::timers`.
    quiet: bool,
    /// The shard was woken for commands, or has not taken all.
    commands_left: bool,
    /// How many links there were, and how many were being accepted, when it was last decided whether to accept.
    regulated_at: Option<(usize, usize)>,
}

/// What handles send.
pub(crate) struct Inlets {
    pub(crate) commands: Receiver<Command>,
    pub(crate) stops: Receiver<Duration>,
    /// No more commands are taken; see [`Door`](crate::handle::Door).
    pub(crate) closed: Arc<RwLock<bool>>,
}

/// What connections of one listener get.
#[derive(Clone)]
pub(crate) struct ListenerOptions {
    pub(crate) tls: Option<fleetwire_tls::ServerConfig>,
    pub(crate) token: u64,
}

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    pub(crate) fn new(
        core: Core,
        driver: D,
        handler: H,
        inlets: Inlets,
        listeners: Vec<ListenerOptions>,
    ) -> Self {
        Self {
            core,
            driver,
            handler,
            inlets,
            listeners,
            stop: Stop::No,
            accept_again: None,
            quiet: false,
            commands_left: false,
            regulated_at: None,
        }
    }

    /// Runs until a shutdown is complete, and gives the handler back.
    pub(crate) fn run(mut self) -> io::Result<H> {
        self.start();
        loop {
            if self.work() {
                return Ok(self.handler);
            }
            self.wait(None)?;
        }
    }

    /// The first of all calls.
    pub(crate) fn start(&mut self) {
        let shard = self.core.shard;
        self.handler.on_start(shard, &mut Outbox::new(&mut self.core));
    }

    /// All of a pass but its completions; true when a shutdown is complete.
    pub(crate) fn work(&mut self) -> bool {
        let woken = self.driver.woken();
        let quiet = self.is_quiet(woken);
        if quiet {
            self.turned();
            if self.core.verbs_left_nothing() {
                if self.core.is_unreported() {
                    self.report();
                }
                self.core.counters.wake_ups.add(1);
                self.quiet = true;
                return false;
            }
        }
        self.work_through(quiet)
    }

    #[inline(never)]
    fn work_through(&mut self, turned: bool) -> bool {
        if !turned {
            self.take_commands();
            self.fire_timers();
            self.dial();
            self.look_again();
            self.flush();
            self.turned();
        }
        self.flush();
        let complete = self.drained();
        self.regulate_accepting();
        self.flush();
        self.report();
        self.core.counters.wake_ups.add(1);
        if complete {
            // Commands that were taken before are answered by another pass.
            *self.inlets.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        }
        complete && self.inlets.commands.is_empty()
    }

    /// Tells the handler that the pass is over: after everything in it, what timers brought included, and before the wait.
    fn turned(&mut self) {
        self.handler
            .on_turn(self.core.now, &mut Outbox::new(&mut self.core));
    }

    /// Receiving is all that there was since the last pass, and it has led to nothing: with thousands of connections
    /// that take turns this is most passes, and what a pass costs is shared by few messages.
    fn is_quiet(&self, woken: bool) -> bool {
        let core = &self.core;
        core.verbs_left_nothing()
            && !(woken || self.commands_left)
            && core.again.is_empty()
            && core.waiting.is_empty()
            && self.accept_again.is_none()
            && self.regulated_at == Some((core.links.len(), core.accepting))
            && self.stop == Stop::No
            && !core.timers.is_due(core.moment)
    }

    /// Waits for something to do, at the longest until `latest`, and takes every completion that is ready then.
    pub(crate) fn wait(&mut self, latest: Option<Instant>) -> io::Result<()> {
        let due = if std::mem::take(&mut self.quiet) {
            self.core.timers.next()
        } else {
            self.wake_at().map(Moment::from)
        };
        let now = self.driver.wait(due, latest)?;
        self.core.set_now(now);
        while let Some(completion) = self.driver.next(&mut self.core) {
            self.complete(completion);
        }
        Ok(())
    }

    /// Lets the application act, at the time `now`, and does what that leads to.
    pub(crate) fn act<R>(&mut self, now: Instant, act: impl FnOnce(&mut H, &mut Outbox<'_>) -> R) -> R {
        self.core.set_now(now);
        self.quiet = false;
        self.core.unreported = true;
        let acted = act(&mut self.handler, &mut Outbox::new(&mut self.core));
        self.flush();
        acted
    }

    pub(crate) fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    pub(crate) fn driver(&self) -> &D {
        &self.driver
    }

    pub(crate) fn into_handler(self) -> H {
        self.handler
    }

    /// When [`wait`](Self::wait) is to return though nothing is ready.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let now = self.core.now;
        let mut at = self.core.timers.next().map(Moment::instant);
        let mut also = |other: Instant| at = Some(at.map_or(other, |at| at.min(other)));
        if let Some(dial) = self.next_dial() {
            also(dial);
        }
        if let Stop::Draining(until) | Stop::Closing(until) = self.stop {
            also(until.min(now + DRAIN_CHECK));
        }
        let commands = !self.inlets.commands.is_empty() && self.takes_commands();
        if commands || !self.core.again.is_empty() {
            also(now);
        }
        if !self.core.starved.is_empty() {
            also(now + STARVED_CHECK);
        }
        if let Some(accept) = self.accept_again {
            also(accept);
        }
        at
    }

    fn complete(&mut self, completion: Completion<D::Incoming>) {
        if !matches!(completion, Completion::Received { .. }) {
            self.core.unreported = true;
        }
        match completion {
            Completion::Received { key, len } => self.received(key, len),
            Completion::Sent { key, block } => {
                if let Some(link) = self.core.links.at_mut(key) {
                    link.connection.sent(block, &mut self.core.pool);
                    self.core.touch(key);
                }
            }
            Completion::Closed { key, error } => self.closed(key, error.as_ref()),
            Completion::Connected { key, result } => self.connected(key, result),
            Completion::Accepted {
                listener,
                peer,
                incoming,
            } => self.accepted(listener, peer, incoming),
            Completion::AcceptFailed { listener, error } => {
                log::warn!("listener {listener} cannot accept: {error}; trying again in {ACCEPT_REST:?}");
                self.core.counters.accept_errors.add(1);
                self.accept_again = Some(self.core.now + ACCEPT_REST);
            }
        }
    }

    fn deliver(&mut self, key: Key, event: Event<'_>) {
        if let Some(link) = self.core.links.at(key) {
            let counters = &self.core.counters;
            match &event {
                Event::Acked(_) | Event::Refused(_) | Event::Dropped(_) => counters.in_flight.sub(1),
                Event::Failed(failure) => counters.failed(failure.stage, failure.slug),
                Event::Disconnected(_) => counters.disconnected.add(1),
                _ => {}
            }
            let at = link.at(self.core.now);
            self.handler.on_event(at, event, &mut Outbox::new(&mut self.core));
        }
    }

    fn take_commands(&mut self) {
        if let Ok(drain) = self.inlets.stops.try_recv() {
            self.begin_stop(drain);
        }
        for _ in 0..COMMANDS_PER_PASS {
            if !self.takes_commands() {
                break;
            }
            let Ok(command) = self.inlets.commands.try_recv() else {
                break;
            };
            self.apply(command);
        }
        self.commands_left = !self.inlets.commands.is_empty();
    }

    fn apply(&mut self, command: Command) {
        let Some((link, event)) = command.apply(&mut self.core) else {
            return;
        };
        // The link may be gone, and its place taken.
        let now = self.core.now;
        let nobody = At {
            link,
            token: 0,
            epoch: 0,
            now,
        };
        let at = self.core.links.get_mut(link).map_or(nobody, |link| link.at(now));
        self.handler.on_event(at, event, &mut Outbox::new(&mut self.core));
    }

    /// At the end every command is answered, whether the handler has room for it or not.
    fn takes_commands(&self) -> bool {
        self.core.draining || self.handler.takes_commands()
    }

    /// Accepts as long as there is room for what it would bring.
    fn regulate_accepting(&mut self) {
        if self.accept_again.is_some_and(|at| at <= self.core.now) {
            self.accept_again = None;
        }
        self.core.take_up_waiting();
        let core = &self.core;
        self.regulated_at = Some((core.links.len(), core.accepting));
        let room = core.accepting < core.limits.handshakes_max && core.links.len() < core.limits.links_max;
        self.driver
            .set_accepting(room && !core.draining && self.accept_again.is_none());
    }

    /// Says what the links, the pool and TLS have counted.
    #[inline(never)]
    fn report(&mut self) {
        let core = &mut self.core;
        core.unreported = false;
        let pool = core.pool.stats();
        let counters = &core.counters;
        counters.links.set(core.links.len() as u64);
        counters
            .bytes_copied
            .set(pool.bytes_copied() + core.scratch.bytes_copied() + core.kept_bytes);
        counters.buffer_bytes.set(pool.bytes_in_use);
        counters.buffer_bytes_max.set(pool.bytes_in_use_max);
        counters.tls_keys_bytes.set(core.scratch.keys_bytes() as u64);
        counters.tls_keys_expanded.set(core.scratch.keys_expanded());
        counters.parked_bytes.set(pool.bytes_parked);
    }
}
