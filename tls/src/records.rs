//! The record layer: what stands between an established session and the bytes on the wire.

use std::ops::Range;

use crate::{connection::Connection, connection::Fed, error::TlsError};

/// The largest record there can be: a header, 2^14 bytes and 2,048 of expansion (RFC 5246 section 6.2.3).
///
/// An established session never needs more unconsumed bytes than this to make progress.
pub const RECORD_LEN_MAX: usize = 5 + (1 << 14) + 2048;

/// The most plaintext that fits into one record (RFC 8446 section 5.1).
pub(crate) const PLAIN_LEN_MAX: usize = 1 << 14;

/// The protection of records after the handshake.
///
/// Everything that arrives or leaves passes through one `open` and one `seal`, so that sequence numbers have one place.
pub(crate) trait RecordLayer {
    /// Handles the first record of `sealed`, which is exactly what is unconsumed; appends what must be sent to `out`,
    /// alerts included, also when it fails.
    fn open(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError>;

    /// Seals `plain` of `block` where it lies, using the room around it that [`Self::framing`] asks for.
    fn seal(
        &mut self,
        scratch: &mut Scratch,
        block: &mut [u8],
        plain: Range<usize>,
    ) -> Result<Range<usize>, TlsError>;

    /// The room that `seal` needs.
    fn framing(&self) -> Framing;

    /// Appends a close_notify alert.
    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError>;
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

/// Working memory for records, one for all sessions of a thread: an idle session keeps none.
///
/// It holds at most one record.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) bytes: Vec<u8>,
    bytes_copied: u64,
}

impl Scratch {
    /// An empty one; it grows to one record when it is used first.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes of plaintext the record layer has copied since the beginning, in both directions. Each direction
    /// of rustls's record layer counts a byte once, though it copies more often inside.
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_copied
    }

    /// Replaces what is in it.
    pub(crate) fn copy_in(&mut self, plain: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(plain);
        self.bytes_copied += plain.len() as u64;
    }
}

/// rustls's own record layer. It copies each record's plaintext to the heap; here it is copied back over its record.
pub(crate) struct RustlsRecords {
    // Boxed: a rustls connection is a kilobyte, and the session is moved about.
    connection: Box<Connection>,
}

impl RustlsRecords {
    /// Takes over a connection whose handshake is complete.
    pub(crate) fn new(connection: Box<Connection>) -> Self {
        Self { connection }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl RecordLayer for RustlsRecords {
    fn open(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        match self.connection.feed(scratch, sealed, out, RECORD_LEN_MAX) {
            Ok(Fed::NeedMore) => Ok(Opened::NeedMore),
            Ok(Fed::Message { consumed }) => Ok(Opened::Nothing { consumed }),
            Ok(Fed::Data { consumed, plain }) => Ok(Opened::Data { consumed, plain }),
            Ok(Fed::PeerClosed { consumed }) => Ok(Opened::Closed { consumed }),
            Err(failure) => Err(self.connection.diagnose(failure, None)),
        }
    }

    fn seal(
        &mut self,
        scratch: &mut Scratch,
        block: &mut [u8],
        plain: Range<usize>,
    ) -> Result<Range<usize>, TlsError> {
        self.connection
            .seal(scratch, block, plain, self.framing())
            .map_err(|failure| self.connection.diagnose(failure, None))
    }

    fn framing(&self) -> Framing {
        self.connection.framing()
    }

    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.connection
            .close_notify(out)
            .map_err(|failure| self.connection.diagnose(failure, None))
    }
}
