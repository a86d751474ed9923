//! What goes wrong in a simulated network.

use std::time::Duration;

/// What goes wrong, and how often. Chances are between 0 (never) and 1 (always), each drawn anew at the moment that
/// its description names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Faults {
    /// How long everything is on its way, one way.
    pub delay: Duration,
    /// At most so much more, evenly drawn.
    pub jitter: Duration,
    /// Bytes that one direction of a connection holds, on their way or unread. Beyond it a write finds no room.
    pub window: usize,
    /// A read brings fewer bytes than are there.
    pub short_read: f64,
    /// A write takes fewer bytes than there is room for.
    pub short_write: f64,
    /// A read finds nothing though it was announced.
    pub read_would_block: f64,
    /// A write finds no room for a while.
    pub write_would_block: f64,
    /// How long that lasts at most.
    pub write_would_block_max: Duration,
    /// A write is the last: somewhere within it the connection is reset, in both directions.
    pub reset: f64,
    /// A reset throws away what had arrived and was not read.
    pub reset_discards: f64,
    /// A write is the last of its direction: somewhere within it the peer sees the end of the stream, and what is
    /// sent later is lost. The other direction goes on.
    pub half_close: f64,
    /// From within a write on, nothing arrives any more in either direction, and nobody is told.
    pub silence: f64,
    /// Something is held up on its way, and all behind it.
    pub stall: f64,
    /// For how long at most.
    pub stall_max: Duration,
    /// Connecting fails at once, for want of a source port.
    pub connect_error: f64,
    /// Connecting is refused.
    pub connect_refused: f64,
    /// Connecting is not answered.
    pub connect_silence: f64,
    /// Accepting fails, for want of a file descriptor.
    pub accept_failure: f64,
    /// A pass of an event loop comes late, as on a busy machine.
    pub slow_pass: f64,
    /// How late at most.
    pub slow_pass_max: Duration,
    /// The clock leaps when it moves, as on a machine that slept.
    pub clock_jump: f64,
    /// How far at most.
    pub clock_jump_max: Duration,
}

impl Faults {
    /// A network in which nothing goes wrong: everything takes a millisecond, and 64 KiB fit into a direction.
    pub fn none() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            window: 64 * 1024,
            short_read: 0.0,
            short_write: 0.0,
            read_would_block: 0.0,
            write_would_block: 0.0,
            write_would_block_max: Duration::from_millis(100),
            reset: 0.0,
            reset_discards: 0.0,
            half_close: 0.0,
            silence: 0.0,
            stall: 0.0,
            stall_max: Duration::from_secs(1),
            connect_error: 0.0,
            connect_refused: 0.0,
            connect_silence: 0.0,
            accept_failure: 0.0,
            slow_pass: 0.0,
            slow_pass_max: Duration::from_millis(50),
            clock_jump: 0.0,
            clock_jump_max: Duration::from_secs(60),
        }
    }
}

macro_rules! reached {
    ($($name:ident $doc:literal;)*) => {
        /// How often what has happened, so that a test can tell whether it met what it is meant to survive.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Reached {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Reached {
            /// Adds what another run has reached.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Each with its name.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

reached! {
    short_reads "[`Faults::short_read`].";
    short_writes "[`Faults::short_write`].";
    reads_would_block "[`Faults::read_would_block`].";
    writes_would_block "[`Faults::write_would_block`].";
    windows_full "A write found [`Faults::window`] full.";
    writes_failed "A write met a connection that was reset.";
    reads_without_memory "A read found no memory to read into.";
    resets "[`Faults::reset`].";
    resets_discarding "[`Faults::reset_discards`].";
    half_closes "[`Faults::half_close`].";
    silences "[`Faults::silence`].";
    stalls "[`Faults::stall`].";
    closes_with_reset "A side closed with a reset, or with unread input, which resets too.";
    connect_errors "[`Faults::connect_error`].";
    connects_refused "A connection was refused, by [`Faults::connect_refused`] or because nobody listened.";
    connect_silences "[`Faults::connect_silence`].";
    accept_failures "[`Faults::accept_failure`].";
    slow_passes "[`Faults::slow_pass`].";
    clock_jumps "[`Faults::clock_jump`].";
}
