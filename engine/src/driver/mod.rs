//! The contract between a shard and whatever moves its bytes.
//!
//! Drivers speak completions, pulled one at a time: the shard calls [`Driver::wait`], then [`Driver::next`] until it
//! answers `None`, then submits. What a driver promises:
//!
//! 1. A connection is named by a [`Key`] that the shard chose. Completions of a key stop at [`Driver::close`], so a
//!    key may be used again afterwards.
//! 2. `connect` and `adopt` are answered by one `Connected` (adopted ones are connected already and get none).
//! 3. `Received` says how many bytes now lie at the start of what [`Targets::receive`] lent for that key. It is
//!    asked for at the moment of the read, and never for a paused connection. One completion is one read: the
//!    others' turn comes before the next one of the same connection.
//! 4. `Closed` comes once, after all bytes that the peer sent: `None` for an orderly end of its side (FIN), the
//!    error otherwise. Sending may still work after an orderly end.
//! 5. `submit_send` takes the block; one at a time for each key. It answers the block if the kernel took all of it at
//!    once; otherwise `Sent` gives it back when its last byte has been handed to the kernel. If the connection breaks
//!    meanwhile, `Closed` comes with the error and the block is freed.
//! 6. Nothing is silent: whatever fails becomes a completion. Nothing blocks but `wait`.
//!
//! The script in `conformance.rs` plays all of it on every driver and compares what they tell.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fleetwire_codec::buffer::Block;

use crate::clock::Moment;

mod mio;
pub(crate) mod sim;

#[cfg(test)]
mod conformance;

pub(crate) use self::mio::MioDriver;
pub(crate) use self::sim::SimDriver;

/// The shard's name for a connection: the place of its link.
pub(crate) type Key = u32;

/// Wakes a shard from another thread; many calls before the shard runs cost one system call.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    /// What interrupts the wait; without it the driver looks at `pending` by itself.
    waker: Option<Arc<::mio::Waker>>,
    pending: Arc<AtomicBool>,
}

impl Wake {
    pub(crate) fn new(waker: Option<Arc<::mio::Waker>>, pending: Arc<AtomicBool>) -> Self {
        Self { waker, pending }
    }

    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Some(waker) = &self.waker
        {
            // It fails only if the eventfd is gone, and then nobody is left to wake.
            let _ = waker.wake();
        }
    }
}

/// Lends the memory that a read goes into.
pub(crate) trait Targets {
    /// Where the next bytes of this connection belong: behind its parked part, else the hot block. Empty when there
    /// is no memory; the driver then leaves the bytes where they are and asks again in the next pass.
    fn receive(&mut self, key: Key) -> &mut [u8];
}

/// Something that a driver has done.
#[derive(Debug)]
pub(crate) enum Completion<I> {
    /// A listener has a connection; the shard adopts it or drops it.
    Accepted {
        listener: usize,
        peer: SocketAddr,
        incoming: I,
    },
    /// A listener could not accept.
    AcceptFailed {
        listener: usize,
        error: io::Error,
    },
    Connected {
        key: Key,
        result: io::Result<()>,
    },
    Received {
        key: Key,
        len: usize,
    },
    Closed {
        key: Key,
        error: Option<io::Error>,
    },
    Sent {
        key: Key,
        block: Block,
    },
}

/// See the module.
pub(crate) trait Driver {
    /// A connection that was accepted and is not yet adopted.
    type Incoming;

    /// The name that reports give this driver.
    const NAME: &'static str;

    /// Waits until something is ready, a time has come, or the shard was woken; answers the time.
    ///
    /// Of the two times `due` is when the shard has something to do, and may be heard of again and again; `latest` is the
    /// caller's, for this wait alone.
    fn wait(&mut self, due: Option<Moment>, latest: Option<Instant>) -> io::Result<Instant>;

    /// Whether somebody has woken the shard since this was last asked, or does. Commands that were sent before have arrived;
    /// those that come later wake again.
    fn woken(&mut self) -> bool;

    /// The next completion of this pass; `None` when all that is ready has had its turn.
    fn next(&mut self, targets: &mut impl Targets) -> Option<Completion<Self::Incoming>>;

    /// Starts to connect; `Err` when not even that is possible.
    fn connect(&mut self, key: Key, address: SocketAddr) -> io::Result<()>;

    /// Takes an accepted connection in.
    fn adopt(&mut self, key: Key, incoming: Self::Incoming) -> io::Result<()>;

    /// Sends `block[range]`; answers the block if that is done already, and no `Sent` comes.
    fn submit_send(&mut self, key: Key, block: Block, range: std::ops::Range<usize>) -> Option<Block>;

    /// Stops or resumes reading.
    fn set_reading(&mut self, key: Key, reading: bool);

    /// Says that nothing more will be sent (FIN). Only when everything was `Sent`.
    fn shutdown_write(&mut self, key: Key);

    /// Ends a connection: in order, or with a reset.
    fn close(&mut self, key: Key, reset: bool);

    /// Stops or resumes accepting on all listeners.
    fn set_accepting(&mut self, accepting: bool);

    /// Closes all listeners.
    fn close_listeners(&mut self);
}
