//! What the mio driver knows of one connection.

use std::io;

use mio::event::Event;
use mio::net::TcpStream;

/// What each pass needs of a connection, in sixteen bytes: thousands take turns, and each is looked for in memory.
#[derive(Debug)]
pub(super) struct Socket {
    /// Tells this connection from earlier ones of the same key, in lists that are not searched at each close.
    pub(super) serial: u32,
    pub(super) stream: TcpStream,
    pub(super) connecting: bool,
    pub(super) readable: bool,
    /// The kernel says that the peer has finished or failed: read to the end.
    pub(super) read_closed: bool,
    /// `Closed` was told.
    pub(super) ended: bool,
    pub(super) reading: bool,
    pub(super) listed: bool,
    /// The kernel took no more: the rest is in `unsent`.
    pub(super) blocked: bool,
    /// Nothing more can be sent: `write_errors` says why, until `Closed` tells it when all that can be read was read.
    pub(super) broken: bool,
}

impl Socket {
    /// Takes in what the poll has told.
    #[inline]
    pub(super) fn note(&mut self, edge: &Event) {
        if edge.is_read_closed() || edge.is_error() {
            self.readable = true;
            self.read_closed = true;
        } else if edge.is_readable() {
            self.readable = true;
        }
    }

    /// The result of connecting, when the poll has said that the socket is writable, or has failed: it says so of none that
    /// still waits for an answer.
    pub(super) fn finish_connect(&mut self) -> io::Result<()> {
        self.connecting = false;
        match self.stream.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_small() {
        // In debug builds mio's part is longer than a descriptor.
        let len = (size_of::<TcpStream>() + 12).next_multiple_of(align_of::<Socket>());
        assert_eq!(size_of::<Option<Socket>>(), len);
    }
}
