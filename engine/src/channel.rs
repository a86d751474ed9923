//! The channel API: events as owned values, for applications that keep their state on threads of their own.
//!
//! When the queue is full, links that bring events by being read stop being read; the network then holds the peer's
//! output back. Pings go on, commands wait. No event is lost: what does not fit into the queue waits in the shard,
//! where the stopped reading bounds it to a few events of each link and its in-flight window, and at a shutdown it comes
//! back with the handler ([`ChannelHandler::undelivered`]).

mod owned;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::limits::QUEUE_LEN_MAX;
use crate::{At, Engine, EngineBuilder, EngineHandle, Event, Handler, LinkId, Outbox, StartError};

use owned::owned;
pub use owned::{OwnedEvent, OwnedKind, OwnedMessage};

impl EngineBuilder {
    /// Starts an engine whose events come through a queue of `capacity`, at least 2 and at most 262,144, and that is steered by its handle. Links are
    /// opened with [`EngineHandle::open_with`].
    ///
    /// # Errors
    /// As [`start`](Self::start); listeners are refused, because only a handler can answer a CONNECT.
    pub fn start_channel(self, capacity: usize) -> Result<(Engine<ChannelHandler>, Events), StartError> {
        self.start_channel_as(capacity, false)
    }

    /// As [`start_channel`](Self::start_channel), with messages above QoS 0 that are acknowledged when
    /// [`EngineHandle::ack`] says so: each brings its [ticket](OwnedMessage::ticket). All that
    /// [`Outbox::hold_ack`] says of them holds here.
    ///
    /// # Errors
    /// As `start_channel`.
    pub fn start_channel_holding_acks(
        self,
        capacity: usize,
    ) -> Result<(Engine<ChannelHandler>, Events), StartError> {
        self.start_channel_as(capacity, true)
    }

    fn start_channel_as(
        self,
        capacity: usize,
        holds_acks: bool,
    ) -> Result<(Engine<ChannelHandler>, Events), StartError> {
        if self.has_listeners() {
            return Err(StartError::ListenersNeedHandler);
        }
        let capacity = capacity.clamp(2, QUEUE_LEN_MAX);
        let (sender, receiver) = bounded(capacity);
        let shared = Arc::new(Shared::default());
        let engine = self.start(|_| ChannelHandler {
            events: sender.clone(),
            waiting: VecDeque::new(),
            stopped: Vec::new(),
            holds_acks,
            shared: Arc::clone(&shared),
        })?;
        let events = Events {
            receiver,
            shared,
            handle: engine.handle(),
            resume_below: capacity / 2,
        };
        Ok((engine, events))
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// A shard waits for room in the queue.
    stalled: AtomicBool,
    stalls: AtomicU64,
}

/// The receiving end of a channel engine's events; see [`EngineBuilder::start_channel`].
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<OwnedEvent>,
    shared: Arc<Shared>,
    handle: EngineHandle,
    resume_below: usize,
}

impl Events {
    /// The next event; waits for it up to `timeout`. `None` when none came, or when the engine has stopped and all
    /// were taken.
    pub fn next_timeout(&self, timeout: Duration) -> Option<OwnedEvent> {
        let event = self.receiver.recv_timeout(timeout).ok();
        self.make_room();
        event
    }

    /// The next event if there is one.
    pub fn try_next(&self) -> Option<OwnedEvent> {
        let event = self.receiver.try_recv().ok();
        self.make_room();
        event
    }

    /// How often a full queue has stopped the reading of a link.
    pub fn stalls(&self) -> u64 {
        self.shared.stalls.load(Ordering::Relaxed)
    }

    fn make_room(&self) {
        if self.receiver.len() < self.resume_below
            && self.shared.stalled.load(Ordering::SeqCst)
            && self.shared.stalled.swap(false, Ordering::SeqCst)
        {
            self.handle.wake_all();
        }
    }
}

/// The handler behind a channel engine.
#[derive(Debug)]
pub struct ChannelHandler {
    events: Sender<OwnedEvent>,
    /// What did not fit into the queue, in order.
    waiting: VecDeque<OwnedEvent>,
    /// Links that are not read because of it.
    stopped: Vec<LinkId>,
    holds_acks: bool,
    shared: Arc<Shared>,
}

impl ChannelHandler {
    /// What did not fit into the queue before the engine was shut down, in order: it comes after all that
    /// [`Events`] still holds.
    pub fn undelivered(self) -> impl Iterator<Item = OwnedEvent> {
        self.waiting.into_iter()
    }

    /// Queues an event; false when it has to wait.
    fn push(&mut self, event: OwnedEvent) -> bool {
        self.waiting.push_back(event);
        self.send_waiting()
    }

    /// Moves what waits into the queue; true when nothing waits any more.
    fn send_waiting(&mut self) -> bool {
        while let Some(event) = self.waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    // Told before the queue is looked at again: either the reader sees it, or there is room already.
                    self.shared.stalled.store(true, Ordering::SeqCst);
                    if self.events.is_full() {
                        return false;
                    }
                }
                // Nobody listens any more, and nobody will.
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
        true
    }
}

impl Handler for ChannelHandler {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        // What reading brings stops when reading stops; the rest is bounded by the links and their windows.
        let by_reading = matches!(
            event,
            Event::Message(_)
                | Event::Acked(_)
                | Event::Refused(_)
                | Event::Subscribed(_)
                | Event::Unsubscribed(_)
        );
        let ticket = match &event {
            Event::Message(message) if self.holds_acks => out.hold_ack(message),
            _ => None,
        };
        let Some(kind) = owned(event, ticket) else { return };
        if !self.push(OwnedEvent { at, kind }) && by_reading {
            out.hold_reading(at.link, true);
            self.stopped.push(at.link);
            self.shared.stalls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn takes_commands(&self) -> bool {
        self.waiting.is_empty()
    }

    fn on_turn(&mut self, _now: Instant, out: &mut Outbox<'_>) {
        if !self.send_waiting() {
            return;
        }
        for link in self.stopped.drain(..) {
            out.hold_reading(link, false);
        }
    }
}
