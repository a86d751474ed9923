//! Turns of connections: what the poll has told, reads, and the end of reading.

use std::io::{self, ErrorKind, Read};

use mio::event::Event;
use mio::net::TcpStream;

use super::MioDriver;
use crate::driver::{Completion, Key, Targets};

impl MioDriver {
    /// Takes in what is new about a connection, and gives it its turn, unless it is among those that wait for one.
    #[inline]
    pub(super) fn turn_of_edge(
        &mut self,
        edge: &Event,
        targets: &mut impl Targets,
    ) -> Option<Completion<TcpStream>> {
        let key = edge.token().0;
        let Some(Some(socket)) = self.sockets.get_mut(key) else {
            self.note_other(edge.token());
            return None;
        };
        socket.note(edge);
        if socket.connecting {
            return if edge.is_writable() || edge.is_error() {
                self.connected(key as Key)
            } else {
                None
            };
        }
        self.turn(key as Key, targets)
    }

    /// One turn of a connection.
    #[inline]
    fn turn(&mut self, key: Key, targets: &mut impl Targets) -> Option<Completion<TcpStream>> {
        let socket = self.sockets.get_mut(key as usize)?.as_mut()?;
        if socket.listed {
            return None;
        }
        if !socket.readable || !socket.reading || socket.connecting || socket.ended {
            return None;
        }
        let target = targets.receive(key);
        let wanted = target.len();
        if wanted == 0 {
            self.no_memory = true;
            self.list(key);
            return None;
        }
        match socket.stream.read(target) {
            Ok(len) if len > 0 => {
                socket.readable = len == wanted || socket.read_closed;
                if socket.readable {
                    self.list(key);
                }
                Some(Completion::Received { key, len })
            }
            read => self.not_received(key, read),
        }
    }

    /// A read brought nothing.
    #[cold]
    fn not_received(&mut self, key: Key, read: io::Result<usize>) -> Option<Completion<TcpStream>> {
        let socket = self.socket(key)?;
        match read {
            Ok(_) => self.end_of(key, None),
            Err(error) if error.kind() == ErrorKind::WouldBlock && !socket.broken => {
                socket.readable = false;
                None
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.list(key);
                None
            }
            Err(error) => self.end_of(key, Some(error)),
        }
    }

    #[cold]
    fn connected(&mut self, key: Key) -> Option<Completion<TcpStream>> {
        let socket = self.socket(key)?;
        let result = socket.finish_connect();
        if socket.readable && socket.reading {
            self.list(key);
        }
        Some(Completion::Connected { key, result })
    }

    /// It has another turn in the next pass.
    #[cold]
    pub(super) fn list(&mut self, key: Key) {
        if let Some(Some(socket)) = self.sockets.get_mut(key as usize)
            && !std::mem::replace(&mut socket.listed, true)
        {
            self.ready.push_back((key, socket.serial));
        }
    }

    /// One turn of the first that waits for one, if it is still there.
    pub(super) fn turn_of_next(&mut self, targets: &mut impl Targets) -> Option<Completion<TcpStream>> {
        let (key, serial) = self.ready.pop_front()?;
        let socket = self.socket(key).filter(|socket| socket.serial == serial)?;
        socket.listed = false;
        self.turn(key, targets)
    }

    #[cold]
    pub(super) fn pop_done(&mut self) -> Option<Completion<TcpStream>> {
        let (key, serial, done) = self.done.pop_front()?;
        self.is_current(key, serial).then_some(done)
    }

    /// The last that is heard of a connection.
    fn end_of(&mut self, key: Key, error: Option<io::Error>) -> Option<Completion<TcpStream>> {
        let socket = self.socket(key)?;
        socket.readable = false;
        socket.ended = true;
        let error = self.write_errors.remove(&key).or(error);
        Some(Completion::Closed { key, error })
    }
}
