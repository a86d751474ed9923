//! The application's side of a shard.

use std::time::Instant;

use crate::{At, Dial, DialError, Event, Outbox, Shard};

/// The application's value on a shard: one per shard, called on the shard's thread, handed back at shutdown.
///
/// Calls never nest: a verb of the [`Outbox`] never calls the handler, so a handler may publish, open and close from
/// anywhere.
///
/// A handler that blocks, on a lock, a file or a long computation, stalls every link of its shard for so long, and no other
/// shard. Nothing is lost by it: what peers send waits in the kernel's buffers and then with them, commands wait in their
/// queue, of which handles answer [`Full`](crate::HandleError::Full) when there is no room in it, and what was published
/// before it in the same pass has not left. All deadlines are late by it: slots of a schedule that pass by meanwhile are
/// told as [missed](crate::Due::missed), and so much of a PINGREQ's time is gone that a block of more than half of a
/// keep-alive may cost the connection (v5 `[MQTT-3.1.2-22]`). [`Stats::lag_us_max`](crate::Stats::lag_us_max) and
/// [`Stats::keep_alive_slack_us_min`](crate::Stats::keep_alive_slack_us_min) tell of it, though only when it is over.
///
/// A handler that panics ends its shard, and only that: the shard's connections and listeners are closed, nothing more is
/// delivered, commands that wait for it are lost, handles answer [`Stopped`](crate::HandleError::Stopped) for its links,
/// the other shards go on, and [`Engine::shutdown`](crate::Engine::shutdown) reports it without waiting. (With
/// `panic = "abort"` the process ends instead.)
pub trait Handler: Send + 'static {
    /// The shard has started; the place to open links.
    fn on_start(&mut self, shard: Shard, out: &mut Outbox<'_>) {
        let _ = (shard, out);
    }

    /// A client link is about to dial, at first or again: fills in who it is this time.
    ///
    /// # Errors
    /// An error makes the attempt fail as `dial_refused`.
    fn on_dial(&mut self, at: At, dial: &mut Dial<'_>) -> Result<(), DialError> {
        let _ = (at, dial);
        Err(DialError::new("this handler does not implement on_dial"))
    }

    /// Something happened on a link.
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>);

    /// Whether commands of [`EngineHandle`](crate::EngineHandle)s may be carried out now. Otherwise they wait, and the
    /// handles answer `Full` in the end. During a shutdown nobody is asked.
    fn takes_commands(&self) -> bool {
        true
    }

    /// A pass of the event loop is over: its events have been delivered, and the shard is about to wait.
    fn on_turn(&mut self, now: Instant, out: &mut Outbox<'_>) {
        let _ = (now, out);
    }
}
