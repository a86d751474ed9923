//! An engine's verbs for other threads.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use fleetwire_codec::{PropertiesBuf, QoS, ReasonCode, SubscriptionOptions, TopicFilterBuf};

use crate::command::Command;
use crate::driver::Wake;
use crate::links::Ids;
use crate::stats::Counters;
use crate::{AckTicket, ConnectForm, LinkId, OpenError, OwnedPublish, Plan, Stats};

/// How one shard is reached.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) commands: Sender<Command>,
    pub(crate) stop: Sender<Duration>,
    /// The shard takes no commands any more. Whoever sends one holds it for reading, so that none slips in behind the
    /// shard's last look at its queue, and every command that was taken is answered.
    pub(crate) closed: Arc<RwLock<bool>>,
    pub(crate) wake: Wake,
    pub(crate) ids: Ids,
    pub(crate) counters: Arc<Counters>,
}

/// An engine's verbs for other threads: owned data over bounded channels. No call blocks. Commands of one handle for
/// one link are carried out in their order; what goes wrong afterwards is an event of the link.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    doors: Arc<[Door]>,
    next: Arc<AtomicUsize>,
}

impl EngineHandle {
    pub(crate) fn new(doors: Vec<Door>) -> Self {
        Self {
            doors: doors.into(),
            next: Arc::new(AtomicUsize::new(0)),
        }
    }

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
        let filters = filters
            .into_iter()
            .map(|(filter, qos)| (filter, SubscriptionOptions::new(qos)))
            .collect();
        self.subscribe_to(link, filters, None)
    }

    /// As [`Outbox::subscribe_with`](crate::Outbox::subscribe_with): with options for each filter, and with properties, a
    /// Subscription Identifier among them. `Subscribed` or `Rejected` follows.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn subscribe_with(
        &self,
        link: LinkId,
        filters: Vec<(TopicFilterBuf, SubscriptionOptions)>,
        properties: PropertiesBuf,
    ) -> Result<(), HandleError> {
        self.subscribe_to(link, filters, Some(properties))
    }

    fn subscribe_to(
        &self,
        link: LinkId,
        filters: Vec<(TopicFilterBuf, SubscriptionOptions)>,
        properties: Option<PropertiesBuf>,
    ) -> Result<(), HandleError> {
        let command = Command::Subscribe {
            link,
            filters,
            properties,
        };
        self.send(link, command).map_err(|(error, _)| error)
    }

    /// Unsubscribes; `Unsubscribed` or `Rejected` follows.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped.
    pub fn unsubscribe(&self, link: LinkId, filters: Vec<TopicFilterBuf>) -> Result<(), HandleError> {
        self.send(link, Command::Unsubscribe { link, filters })
            .map_err(|(error, _)| error)
    }

    /// As [`Outbox::ack`](crate::Outbox::ack); `Rejected` follows if it could not be done.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped; the acknowledgement is still held.
    pub fn ack(&self, ticket: AckTicket) -> Result<(), HandleError> {
        self.ack_with(ticket, ReasonCode::Success)
    }

    /// As [`Outbox::ack_with`](crate::Outbox::ack_with); `Rejected` follows if it could not be done.
    ///
    /// # Errors
    /// Too many commands wait, or the engine has stopped; the acknowledgement is still held.
    pub fn ack_with(&self, ticket: AckTicket, reason: ReasonCode) -> Result<(), HandleError> {
        self.send(ticket.link, Command::Ack { ticket, reason })
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

    pub(crate) fn stop(&self, drain: Duration) {
        for door in self.doors.iter() {
            // The first one counts; without a shard there is nothing to stop.
            let _ = door.stop.try_send(drain);
            door.wake.wake();
        }
    }
}

impl Door {
    fn send(&self, command: Command) -> Result<(), (HandleError, Command)> {
        // Nobody panics while holding it.
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err((HandleError::Stopped, command));
        }
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
