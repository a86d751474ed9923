//! Accepting, some connections in each pass and from each listener in turn.

use std::io::{self, ErrorKind};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::TOKEN_LISTENERS;
use crate::Listener;
use crate::driver::Completion;

/// Connections that may be accepted in one pass, so that a storm of them does not starve those that are there.
const ACCEPTS_PER_PASS: usize = 64;

/// The listeners of a shard.
#[derive(Debug)]
pub(super) struct Listeners {
    listeners: Vec<TcpListener>,
    ready: Vec<bool>,
    accepting: bool,
    /// Connections that may still be accepted in this pass.
    left: usize,
    /// Which listener is asked first, so that a storm on one does not starve the others.
    next: usize,
}

impl Listeners {
    pub(super) fn new(listeners: Vec<Listener>, registry: &Registry) -> io::Result<Self> {
        let mut listeners = listeners
            .into_iter()
            .map(|listener| listener.into_std().map(TcpListener::from_std))
            .collect::<io::Result<Vec<_>>>()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            registry.register(listener, Token(TOKEN_LISTENERS + index), Interest::READABLE)?;
        }
        Ok(Self {
            ready: vec![false; listeners.len()],
            listeners,
            accepting: true,
            left: 0,
            next: 0,
        })
    }

    /// Somebody may be accepted before the system's poll has anything new.
    pub(super) fn is_busy(&self) -> bool {
        self.accepting && self.ready.contains(&true)
    }

    /// The system's poll has found somebody who waits there.
    pub(super) fn note(&mut self, index: usize) {
        if let Some(ready) = self.ready.get_mut(index) {
            *ready = true;
        }
    }

    pub(super) fn begin_pass(&mut self) {
        self.left = ACCEPTS_PER_PASS;
    }

    pub(super) fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.ready.clear();
    }

    pub(super) fn accept(&mut self) -> Option<Completion<TcpStream>> {
        while self.accepting && self.left > 0 {
            let count = self.ready.len();
            let mut turns = (0..count).map(|turn| (self.next + turn) % count);
            let index = turns.find(|index| self.ready.get(*index) == Some(&true))?;
            self.next = index + 1;
            let listener = self.listeners.get(index)?;
            match listener.accept() {
                Ok((incoming, peer)) => {
                    self.left -= 1;
                    return Some(Completion::Accepted {
                        listener: index,
                        peer,
                        incoming,
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.unready(index),
                // The peer left between the SYN and now.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    // Still to be accepted: the shard decides when to try again.
                    self.left = 0;
                    return Some(Completion::AcceptFailed {
                        listener: index,
                        error,
                    });
                }
            }
        }
        None
    }

    fn unready(&mut self, listener: usize) {
        if let Some(ready) = self.ready.get_mut(listener) {
            *ready = false;
        }
    }
}
