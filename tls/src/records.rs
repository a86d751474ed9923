//! The record layer: what stands between an established session and the bytes on the wire.

mod contexts;
mod format;
mod in_place;
mod keys;
mod messages;
mod rustls_records;

use std::{fmt, ops::Range};

use crate::error::TlsError;
use contexts::Contexts;

pub(crate) use self::{in_place::InPlaceRecords, rustls_records::RustlsRecords};

/// The largest record there can be: a header, 2^14 bytes and 2,048 of expansion (RFC 5246 section 6.2.3).
///
/// An established session never needs more unconsumed bytes than this to make progress.
pub const RECORD_LEN_MAX: usize = 5 + (1 << 14) + 2048;

/// The most plaintext that fits into one record (RFC 8446 section 5.1).
pub(crate) const PLAIN_LEN_MAX: usize = 1 << 14;

/// Who protects the records after the handshake; a setting of both configurations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordLayer {
    /// This crate: records are opened and sealed in the caller's buffers, and a session at rest keeps its keys and
    /// little else.
    #[default]
    InPlace,
    /// rustls: it copies each record through the heap and keeps several kilobytes for each session.
    Rustls,
}

/// The protection of records after the handshake.
///
/// Everything that arrives or leaves passes through one `open` and one `seal`, so that sequence numbers have one place.
pub(crate) trait Records: Send {
    /// Handles the first record of `sealed`, which is exactly what is unconsumed; appends what must be sent to `out`,
    /// alerts included, also when it fails.
    fn open(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError>;

    /// Seals the plaintext in `range` of `block` where it lies, using the room around it that [`Self::framing`] asks
    /// for; then `range` is what to send. (It is written before the work: an answer that is written in two pieces right
    /// before it is read in one has to be waited for, which is 4 % of a small record.)
    fn seal(
        &mut self,
        scratch: &mut Scratch,
        block: &mut [u8],
        range: &mut Range<usize>,
    ) -> Result<(), TlsError>;

    /// The room that `seal` needs.
    fn framing(&self) -> Framing;

    /// Appends a close_notify alert.
    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError>;

    /// Appends a fatal alert of that number; rustls cannot, and says close_notify. Nothing may follow.
    fn fatal_alert(&mut self, alert: u8, out: &mut Vec<u8>) -> Result<(), TlsError>;

    /// Drops what the scratch keeps for this session.
    fn release(&mut self, scratch: &mut Scratch);
}

/// What [`crate::TlsSession::open`] did with the first bytes that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// No whole record, or not the last one of a message: call again when more bytes have arrived behind these.
    NeedMore,
    /// A part of the handshake was handled.
    Handshake {
        /// So many bytes at the front are done with.
        consumed: usize,
    },
    /// The handshake ended well. This is said once.
    Established {
        /// So many bytes at the front are done with.
        consumed: usize,
    },
    /// Application data.
    Data {
        /// So many bytes at the front are done with, the plaintext's among them.
        consumed: usize,
        /// Where the plaintext lies, within the bytes given.
        plain: Range<usize>,
    },
    /// A record that carried nothing for the application: a post-handshake message, an empty one.
    Nothing {
        /// So many bytes at the front are done with.
        consumed: usize,
    },
    /// The peer's close_notify: nothing more will come, and what does is ignored (RFC 8446 section 6.1). After our own
    /// one this is said of whatever arrives.
    Closed {
        /// So many bytes at the front are done with.
        consumed: usize,
    },
}

/// The room around plaintext that [`crate::TlsSession::seal`] needs in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Bytes before the plaintext.
    pub head: usize,
    /// Bytes behind it.
    pub tail: usize,
    /// The most plaintext at once.
    pub plain_max: usize,
}

/// What all sessions of a thread share while one of them is at work: an idle session keeps none of it.
///
/// It holds expanded keys of the sessions that were at work last, up to a bound, because to expand a key takes longer
/// than to protect a short record with it; and with rustls's record layer one record's bytes.
pub struct Scratch {
    pub(crate) bytes: Vec<u8>,
    bytes_copied: u64,
    contexts: Contexts,
}

impl Scratch {
    /// How many expanded keys are kept unless it is said: those of 512 sessions, each of which has two.
    pub const KEYS_MAX: usize = 1024;

    /// An empty one for [`Self::KEYS_MAX`] expanded keys; it allocates what it needs when it is used first.
    pub fn new() -> Self {
        Self::with_keys_max(Self::KEYS_MAX)
    }

    /// An empty one that keeps at least `keys_max` expanded keys, the next power of two. Each takes about 640 bytes; a
    /// session has two, one for each direction.
    pub fn with_keys_max(keys_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_copied: 0,
            contexts: Contexts::new(keys_max),
        }
    }

    /// How many bytes of plaintext the record layer has copied since the beginning, in both directions: none in place.
    /// Each direction of rustls's record layer counts a byte once, though it copies more often inside.
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_copied
    }

    /// The memory that expanded keys take now, those on the C heap included.
    pub fn keys_bytes(&self) -> usize {
        self.contexts.bytes()
    }

    /// How often a key was not there and had to be expanded, since the beginning.
    pub fn keys_expanded(&self) -> u64 {
        self.contexts.expanded()
    }

    /// Replaces what is in it.
    pub(crate) fn copy_in(&mut self, plain: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(plain);
        self.bytes_copied += plain.len() as u64;
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch")
            .field("bytes_copied", &self.bytes_copied)
            .field("keys_bytes", &self.keys_bytes())
            .finish_non_exhaustive()
    }
}
