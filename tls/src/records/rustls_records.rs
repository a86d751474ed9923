//! rustls's own record layer.

use std::ops::Range;

use super::{Framing, Opened, RECORD_LEN_MAX, Records, Scratch};
use crate::{
    connection::{Connection, Fed},
    error::TlsError,
};

/// It copies each record's plaintext to the heap; here it is copied back over its record.
pub(crate) struct RustlsRecords {
    // Boxed: it comes so from the handshake, and is not moved again.
    connection: Box<Connection>,
}

impl RustlsRecords {
    /// Takes over a connection whose handshake is complete.
    pub(crate) fn new(mut connection: Box<Connection>) -> Self {
        connection.stay();
        Self { connection }
    }
}

impl Records for RustlsRecords {
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
        range: &mut Range<usize>,
    ) -> Result<(), TlsError> {
        *range = self
            .connection
            .seal(scratch, block, range.clone(), self.framing())
            .map_err(|failure| self.connection.diagnose(failure, None))?;
        Ok(())
    }

    fn framing(&self) -> Framing {
        self.connection.framing()
    }

    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.connection
            .close_notify(out)
            .map_err(|failure| self.connection.diagnose(failure, None))
    }

    fn fatal_alert(&mut self, _: u8, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.close_notify(out)
    }

    fn release(&mut self, _: &mut Scratch) {}
}
