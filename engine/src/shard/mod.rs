//! The event loop of one shard. Only the shard loops: everything below it returns.
//!
//! One pass: take the application's commands, fire what is due, dial whose turn it is, wait, take every completion
//! that is ready, then send what all of that has produced, as few writes as possible for each connection.

#[cfg(test)]
mod allocations;
mod ending;
mod opening;
mod receiving;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use fleetwire_codec::{Packet, ReasonCode};
use fleetwire_tls::Reason;

use crate::clock::after;
use crate::command::Command;
use crate::core::Core;
use crate::driver::{Completion, Driver, Key};
use crate::failure::Cause;
use crate::link::{CloseWish, Phase};
use crate::outbox::Outbox;
use crate::session::Expired;
use crate::{AcksLate, At, DropReason, Event, Handler, Slug};

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

/// How far the shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Waits for acknowledgements until then.
    Draining(Instant),
    /// Every link was told to close; what is left then is dropped.
    Closing(Instant),
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
        }
    }

    /// Runs until a shutdown is complete, and gives the handler back.
    pub(crate) fn run(mut self) -> io::Result<H> {
        self.start();
        loop {
            if self.work() {
                return Ok(self.handler);
            }
            self.wait()?;
        }
    }

    /// The first of all calls.
    pub(crate) fn start(&mut self) {
        let shard = self.core.shard;
        self.handler.on_start(shard, &mut Outbox::new(&mut self.core));
    }

    /// All of a pass but its completions; true when a shutdown is complete.
    pub(crate) fn work(&mut self) -> bool {
        self.take_commands();
        self.fire_timers();
        self.dial();
        self.look_again();
        self.flush();
        // After everything of the pass, what timers brought included, and before the wait.
        self.handler
            .on_turn(self.core.now, &mut Outbox::new(&mut self.core));
        self.flush();
        let complete = self.drained();
        self.regulate_accepting();
        self.flush();
        self.report();
        if complete {
            // Commands that were taken before are answered by another pass.
            *self.inlets.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        }
        complete && self.inlets.commands.is_empty()
    }

    /// Waits for something to do, and takes every completion that is ready then.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.core.now = self.driver.wait(self.wake_at())?;
        self.core.moment = self.core.now.into();
        while let Some(completion) = self.driver.next(&mut self.core) {
            self.complete(completion);
        }
        Ok(())
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
        let drain = match self.stop {
            Stop::No => None,
            Stop::Draining(until) | Stop::Closing(until) => Some(until.min(self.core.now + DRAIN_CHECK)),
        };
        let commands = (!self.inlets.commands.is_empty() && self.takes_commands()).then_some(self.core.now);
        let again = (!self.core.again.is_empty()).then_some(self.core.now);
        let starved = (!self.core.starved.is_empty()).then(|| self.core.now + STARVED_CHECK);
        [
            self.core.timers.next(),
            self.next_dial(),
            drain,
            commands,
            self.accept_again,
            again,
            starved,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn complete(&mut self, completion: Completion<D::Incoming>) {
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
                Event::Failed(failure) => counters.failed(failure.stage),
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
                return;
            }
            let Ok(command) = self.inlets.commands.try_recv() else {
                return;
            };
            let Some((link, event)) = command.apply(&mut self.core) else {
                continue;
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
    }

    /// At the end every command is answered, whether the handler has room for it or not.
    fn takes_commands(&self) -> bool {
        self.core.draining || self.handler.takes_commands()
    }

    fn fire_timers(&mut self) {
        // Bounded by what is there now: what a handler schedules for this very moment waits for the next pass.
        for _ in 0..self.core.timers.len() {
            let Some((at, id)) = self.core.timers.pop_due(self.core.now) else {
                break;
            };
            self.core.counters.deadlines.add(1);
            let Some(link) = self.core.links.get_mut(id) else {
                continue;
            };
            if link.armed == Some(at) {
                link.armed = None;
                let lag = self.core.now.saturating_duration_since(at.instant());
                self.core.counters.lag_us_max.raise_to(lag.as_micros() as u64);
                self.fire_schedule(id.slot);
                self.fire_phase(id.slot);
                self.core.arm(id.slot);
            }
        }
        let links = &self.core.links;
        self.core.timers.prune(links.len(), |id, at| {
            links
                .at(id.slot)
                .is_some_and(|link| link.id == id && link.armed == Some(at))
        });
    }

    fn fire_schedule(&mut self, key: Key) {
        let now = self.core.now;
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        if let Some(due) = link.schedule.as_mut().and_then(|schedule| schedule.take_due(now)) {
            self.deliver(key, Event::Due(due));
        }
    }

    fn fire_phase(&mut self, key: Key) {
        let now = self.core.now;
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        match link.phase {
            Phase::Backoff(until) if until <= now.into() => self.queue(key, until.instant()),
            Phase::Tcp | Phase::Tls | Phase::Mqtt => self.opening_timeout(key),
            Phase::Up if link.wishes.close.is_none() => self.session_timeout(key),
            Phase::Flushing(until) | Phase::Lingering(until) if until <= now.into() => {
                self.driver.close(key, false);
                self.after_close(key);
            }
            _ => {}
        }
    }

    fn session_timeout(&mut self, key: Key) {
        loop {
            let now = self.core.now;
            let Some((link, mut tools)) = self.core.connection(key) else {
                return;
            };
            match link.connection.session.handle_timeout(now, tools.limits) {
                None => return,
                Some(Expired::SendPing) => {
                    // Without room for it there is output on its way, which says as much as a ping if it moves.
                    match link.connection.send_packet(&Packet::Pingreq, &mut tools) {
                        Ok(()) => link.connection.session.ping_sent(now),
                        Err(_) => link.connection.session.ping_owed(now),
                    }
                    self.core.touch(key);
                }
                Some(Expired::AcksLate { oldest }) => {
                    let in_flight = link.connection.session.in_flight_publishes();
                    self.deliver(key, Event::AcksLate(AcksLate { oldest, in_flight }));
                }
                // We do not read, so we cannot know.
                Some(Expired::PeerSilent) if link.paused || link.held => {
                    link.connection.session.presume_alive(now)
                }
                Some(Expired::PeerSilent) => {
                    let text = if link.is_client() {
                        "no PINGRESP and nothing else came in time"
                    } else {
                        "no packet came within one and a half keep-alives"
                    };
                    let cause =
                        Cause::new(Slug::KEEP_ALIVE_TIMEOUT, text).with_reason(ReasonCode::KeepAliveTimeout);
                    return self.end(key, cause, How::Flush);
                }
            }
        }
    }

    /// Looks again, once in a pass, at links with more to send than one block, and at those whose verbs found no memory.
    fn look_again(&mut self) {
        let mut again = std::mem::take(&mut self.core.again);
        for key in again.drain(..) {
            self.core.touch(key);
        }
        // The same list, so that no pass allocates one.
        self.core.again = again;
        for key in std::mem::take(&mut self.core.starved) {
            if let Some(link) = self.core.links.at_mut(key) {
                link.starved = false;
                self.core.touch(key);
            }
        }
    }

    /// Carries out what handlers and packets have asked of connections, until nothing is left to do.
    fn flush(&mut self) {
        while let Some(key) = self.core.dirty.pop() {
            let Some(link) = self.core.links.at_mut(key) else {
                continue;
            };
            link.dirty = false;
            if let Some(wish) = link.wishes.close.take() {
                self.carry_out_close(key, wish);
            }
            self.sync_reading(key);
            self.send_again(key);
            self.pump(key);
            self.core.arm(key);
        }
    }

    /// Goes on with what a resumed session has to send again.
    fn send_again(&mut self, key: Key) {
        while let Some((link, mut tools)) = self.core.connection(key) {
            if link.phase != Phase::Up {
                return;
            }
            let Some((entry, error)) = link.connection.send_again(&mut tools) else {
                return;
            };
            self.dropped(key, &entry, DropReason::NotAccepted(error));
        }
    }

    /// Hands output to the driver, one block at a time.
    fn pump(&mut self, key: Key) {
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        if !link.phase.has_socket() || link.phase == Phase::Tcp {
            return;
        }
        match link.connection.take_ready(&mut tools) {
            Ok(Some((block, range))) => {
                self.core.counters.bytes_out.add(range.len() as u64);
                self.core.counters.sends.add(1);
                if let Some(block) = self.driver.submit_send(key, block, range)
                    && let Some(link) = self.core.links.at_mut(key)
                {
                    link.connection.sent(block, &mut self.core.pool);
                    if link.has_more_to_do() {
                        self.core.again.push(key);
                    }
                }
            }
            Ok(None) if matches!(link.phase, Phase::Flushing(_)) => self.finish_flushing(key),
            Ok(None) => {
                if link.phase.is_live() && link.connection.has_room_again(&mut tools) {
                    self.deliver(key, Event::Writable);
                } else {
                    self.core.note_full(key);
                }
            }
            // It is over already; the rest cannot be said.
            Err(_) if matches!(link.phase, Phase::Flushing(_)) => {
                self.driver.close(key, false);
                self.after_close(key);
            }
            Err(error) => {
                let mut cause = Cause::new(Slug::of(error.slug()), error.to_string());
                // What no more packets can be sent under can still say close_notify.
                cause.told = true;
                let how = match error.reason() {
                    Reason::KeysExhausted => How::Flush,
                    _ => How::Now,
                };
                self.end(key, cause, how);
            }
        }
    }

    /// Tells the driver whether to read, and takes up what was parked whole meanwhile.
    fn sync_reading(&mut self, key: Key) {
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        if !link.phase.has_socket() {
            return;
        }
        let wanted = link.wants_reading();
        if link.reading != wanted {
            link.reading = wanted;
            self.driver.set_reading(key, wanted);
        }
        if wanted
            && std::mem::take(&mut link.connection.frames_wait)
            && let Some(parked) = self.core.take_parked(key)
        {
            self.process_parked(key, parked);
        }
    }

    fn begin_stop(&mut self, drain: Duration) {
        if self.stop != Stop::No {
            return;
        }
        self.core.draining = true;
        self.stop = Stop::Draining(after(self.core.now, drain));
        self.driver.close_listeners();
        for id in self.core.links.ids() {
            let Some(link) = self.core.links.get_mut(id) else {
                continue;
            };
            link.schedule = None;
            if link.phase != Phase::Up {
                self.core.wish_close(id, CloseWish::Orderly(None), true);
            }
        }
    }

    /// Goes on with a shutdown; true when it is complete.
    fn drained(&mut self) -> bool {
        let now = self.core.now;
        match self.stop {
            Stop::No => false,
            Stop::Draining(until) => {
                let idle = |link: &crate::link::Link| {
                    let session = &link.connection.session;
                    session.in_flight_publishes() == 0
                        && !session.holds_acks()
                        && link.connection.is_flushed()
                };
                if now >= until || self.core.links.iter().all(idle) {
                    self.stop = Stop::Closing(after(now, self.core.limits.linger_timeout));
                    for id in self.core.links.ids() {
                        let server = self.core.links.get_mut(id).is_some_and(|link| !link.is_client());
                        if server {
                            let reason = ReasonCode::ServerShuttingDown;
                            Outbox::new(&mut self.core).disconnect(
                                id,
                                reason,
                                fleetwire_codec::Properties::EMPTY,
                            );
                        }
                        self.core.wish_close(id, CloseWish::Orderly(None), true);
                    }
                    self.flush();
                }
                false
            }
            Stop::Closing(until) => {
                if now >= until {
                    for id in self.core.links.ids() {
                        self.driver.close(id.slot, true);
                        self.after_close(id.slot);
                    }
                }
                self.core.links.len() == 0
            }
        }
    }

    /// Accepts as long as there is room for what it would bring.
    fn regulate_accepting(&mut self) {
        if self.accept_again.is_some_and(|at| at <= self.core.now) {
            self.accept_again = None;
        }
        self.core.take_up_waiting();
        let core = &self.core;
        let room = core.accepting < core.limits.handshakes_max && core.links.len() < core.limits.links_max;
        self.driver
            .set_accepting(room && !core.draining && self.accept_again.is_none());
    }

    fn report(&self) {
        let core = &self.core;
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
        counters.wake_ups.add(1);
    }
}
