//! Writes, and what becomes of a connection that can't be written to.

use std::io::{self, ErrorKind, Write};
use std::ops::Range;

use fleetwire_codec::buffer::Block;
use mio::event::Event;

use super::{MioDriver, TOKEN_LISTENERS};
use crate::driver::{Completion, Key};

impl MioDriver {
    /// Writes a part of a block, and answers the block when all of it is written; the rest stays for the next writable
    /// edge.
    pub(super) fn send(&mut self, key: Key, block: Block, mut range: Range<usize>) -> Option<Block> {
        let socket = self.sockets.get_mut(key as usize)?.as_mut()?;
        while !range.is_empty() {
            let bytes = block.bytes().get(range.clone()).unwrap_or_default();
            match socket.stream.write(bytes) {
                Ok(written) => range.start += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.blocked = true;
                    self.unsent.insert(key, (block, range));
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken(key, error);
                    return None;
                }
            }
        }
        Some(block)
    }

    /// A write failed. What the peer has said before, a reason perhaps, may still lie in the socket, so the reading
    /// side tells the end, unless nobody reads.
    fn broken(&mut self, key: Key, error: io::Error) {
        let Some(Some(socket)) = self.sockets.get_mut(key as usize) else {
            return;
        };
        if !socket.reading {
            return self.tell_closed(key, error);
        }
        socket.broken = true;
        self.write_errors.insert(key, error);
        socket.readable = true;
        socket.read_closed = true;
        self.list(key);
    }

    /// Nobody will read on to the connection's end, so that is told now, if it was not.
    pub(super) fn tell_closed(&mut self, key: Key, error: io::Error) {
        if let Some(Some(socket)) = self.sockets.get_mut(key as usize)
            && !std::mem::replace(&mut socket.ended, true)
        {
            let error = Some(error);
            self.done
                .push_back((key, socket.serial, Completion::Closed { key, error }));
        }
    }

    /// Goes on with each connection that the kernel takes bytes of again, before anything is received: the blocks that come
    /// home may be needed for that.
    #[cold]
    pub(super) fn send_all_on(&mut self) {
        for index in 0..self.edges.len() {
            if let Some(key) = self.edges.get(index).and_then(writable) {
                self.send_on(key);
            }
        }
    }

    fn send_on(&mut self, key: Key) {
        let Some(socket) = self.socket(key).filter(|socket| socket.blocked) else {
            return;
        };
        socket.blocked = false;
        let serial = socket.serial;
        if let Some((block, range)) = self.unsent.remove(&key)
            && let Some(block) = self.send(key, block, range)
        {
            self.done
                .push_back((key, serial, Completion::Sent { key, block }));
        }
    }
}

/// The connection, if it is one that takes bytes.
fn writable(edge: &Event) -> Option<Key> {
    let token = edge.token().0;
    (edge.is_writable() && token < TOKEN_LISTENERS).then_some(token as Key)
}
