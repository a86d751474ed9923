//! One socket of a simulation: how bytes get in and out, and what goes wrong on the way.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use fleetwire_codec::buffer::Block;

use super::super::{Completion, Key};
use super::world::{Arrival, OwnerId, SocketId, World};
use super::{SimIncoming, Targets};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    owner: OwnerId,
    /// `None` until it is adopted.
    key: Option<Key>,
    pub(super) peer: SocketId,
    pub(super) peer_address: SocketAddr,
    /// The answer to our SYN is still to come, or to be told.
    connecting: bool,
    answer: Option<Result<(), ErrorKind>>,
    /// What has arrived and was not read.
    inbox: VecDeque<u8>,
    /// Bytes that are on their way here, which count against the window as those of `inbox` do.
    coming: usize,
    /// Nothing sent later arrives before this.
    pub(super) last_arrival: Instant,
    /// The peer sends no more.
    fin: bool,
    /// A reset has arrived.
    broken: Option<ErrorKind>,
    /// What we send goes nowhere, unnoticed; bytes that went there so far.
    silent: Option<usize>,
    /// What we send goes nowhere, since something on the way has ended our direction.
    cut: bool,
    /// No write succeeds before.
    blocked_until: Option<Instant>,
    sending: Option<(Block, Range<usize>)>,
    /// Why nothing more can be sent; told when all that can be read was read.
    write_error: Option<ErrorKind>,
    reading: bool,
    listed: bool,
    ended: bool,
}

impl Socket {
    pub(super) fn new(
        owner: OwnerId,
        key: Option<Key>,
        peer: SocketId,
        peer_address: SocketAddr,
        now: Instant,
    ) -> Self {
        Self {
            owner,
            key,
            peer,
            peer_address,
            // Whoever has the key dials; the other end is connected when it comes to be accepted.
            connecting: key.is_some(),
            answer: None,
            inbox: VecDeque::new(),
            coming: 0,
            last_arrival: now,
            fin: false,
            broken: None,
            silent: None,
            cut: false,
            blocked_until: None,
            sending: None,
            write_error: None,
            reading: true,
            listed: false,
            ended: false,
        }
    }

    /// A turn would find something.
    fn is_readable(&self) -> bool {
        !self.inbox.is_empty() || self.fin || self.broken.is_some() || self.write_error.is_some()
    }
}

impl World {
    /// Puts the socket on its owner's list if a turn would find something.
    fn list(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let wants_turn = if socket.connecting {
            socket.answer.is_some()
        } else {
            socket.reading && !socket.ended && socket.is_readable()
        };
        if socket.key.is_some()
            && wants_turn
            && !std::mem::replace(&mut socket.listed, true)
            && let Some(owner) = self.owners.get_mut(socket.owner)
        {
            owner.ready.push_back(id);
        }
    }

    pub(super) fn arrive(&mut self, to: SocketId, what: Arrival) {
        let Some(socket) = self.sockets.get_mut(&to) else {
            // Data for a socket that is gone is answered with a reset (RFC 9293 section 3.10.7.1).
            if let Arrival::Bytes { from, .. } = what {
                self.schedule(from, Arrival::Reset);
            }
            return;
        };
        match what {
            Arrival::Syn { owner, listener } => return self.syn(to, owner, listener),
            Arrival::Answer(answer) => socket.answer = Some(answer),
            Arrival::Bytes { bytes, .. } => {
                socket.coming -= bytes.len();
                // After a reset nothing counts any more.
                if socket.broken.is_none() {
                    socket.inbox.extend(bytes);
                }
            }
            Arrival::Fin => socket.fin = true,
            Arrival::Reset => {
                socket.broken.get_or_insert(ErrorKind::ConnectionReset);
                let writing = socket.sending.is_some();
                if self.hit(self.faults.reset_discards) {
                    // Whether what has arrived can still be read differs from system to system.
                    self.reached.resets_discarding += 1;
                    if let Some(socket) = self.sockets.get_mut(&to) {
                        socket.inbox.clear();
                    }
                }
                if writing {
                    self.flush_and_tell(to);
                }
            }
            Arrival::Writable => self.flush_and_tell(to),
        }
        self.list(to);
    }

    /// One turn of one listed socket.
    pub(super) fn turn(
        &mut self,
        id: SocketId,
        targets: &mut impl Targets,
    ) -> Option<Completion<SimIncoming>> {
        let spurious = self.hit(self.faults.read_would_block);
        let shortened = self.hit(self.faults.short_read);
        let socket = self.sockets.get_mut(&id)?;
        socket.listed = false;
        let key = socket.key?;
        if socket.connecting {
            let answer = socket.answer.take()?;
            socket.connecting = false;
            self.list(id);
            let result = answer.map_err(Into::into);
            return Some(Completion::Connected { key, result });
        }
        if !socket.reading || socket.ended {
            return None;
        }
        if spurious {
            self.reached.reads_would_block += 1;
            self.list(id);
            return None;
        }
        if socket.inbox.is_empty() {
            let error = socket.write_error.or(socket.broken);
            if error.is_none() && !socket.fin {
                return None;
            }
            socket.ended = true;
            return Some(Completion::Closed {
                key,
                error: error.map(Into::into),
            });
        }
        let owner = socket.owner;
        let target = targets.receive(key);
        if target.is_empty() {
            self.rest(owner);
            self.list(id);
            return None;
        }
        let mut len = target.len().min(socket.inbox.len());
        if shortened && len > 1 {
            len = self.random.usize(1..len);
            self.reached.short_reads += 1;
        }
        // Reading from a queue of bytes cannot fail, and brings as many as there is room for.
        if let Some(target) = target.get_mut(..len) {
            let _ = socket.inbox.read_exact(target);
        }
        let peer = socket.peer;
        // The window opens: whoever waits for it hears of it.
        if self.sockets.get(&peer).is_some_and(|peer| peer.sending.is_some()) {
            self.schedule(peer, Arrival::Writable);
        }
        self.list(id);
        Some(Completion::Received { key, len })
    }

    pub(super) fn adopt(&mut self, id: SocketId, key: Key) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.key = Some(key);
            self.list(id);
        }
    }

    pub(super) fn set_reading(&mut self, id: SocketId, reading: bool) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.reading = reading;
        if !reading && let Some(error) = socket.write_error.take() {
            // Nobody will read on to its end.
            self.tell_closed(id, error);
        }
        self.list(id);
    }

    pub(super) fn submit_send(&mut self, id: SocketId, block: Block, range: Range<usize>) -> Option<Block> {
        let socket = self.sockets.get_mut(&id)?;
        debug_assert!(socket.sending.is_none(), "one block at a time");
        socket.sending = Some((block, range));
        self.flush(id)
    }

    /// The network takes something again, or nothing more at all.
    fn flush_and_tell(&mut self, id: SocketId) {
        if let Some(block) = self.flush(id)
            && let Some(socket) = self.sockets.get(&id)
            && let (Some(owner), Some(key)) = (self.owners.get_mut(socket.owner), socket.key)
        {
            owner.done.push_back((id, Completion::Sent { key, block }));
        }
    }

    /// Writes what waits, as far as the network takes it; answers the block when that was all of it.
    fn flush(&mut self, id: SocketId) -> Option<Block> {
        loop {
            let socket = self.sockets.get_mut(&id)?;
            let (block, range) = socket.sending.as_ref()?;
            if range.is_empty() {
                return socket.sending.take().map(|(block, _)| block);
            }
            if socket.broken.is_some() {
                socket.sending = None;
                self.break_write(id, ErrorKind::BrokenPipe);
                return None;
            }
            if socket.blocked_until.is_some_and(|until| until > self.now) {
                return None;
            }
            let bytes = block.bytes().get(range.clone()).unwrap_or_default().to_vec();
            let written = self.write(id, bytes)?;
            if let Some(socket) = self.sockets.get_mut(&id)
                && let Some((_, range)) = &mut socket.sending
            {
                range.start += written;
            }
        }
    }

    /// One write of a socket: how many bytes it took, `None` for `WouldBlock`.
    fn write(&mut self, id: SocketId, mut bytes: Vec<u8>) -> Option<usize> {
        if self.hit(self.faults.write_would_block) {
            self.reached.writes_would_block += 1;
            let until = self.now + self.random_within(self.faults.write_would_block_max);
            self.sockets.get_mut(&id)?.blocked_until = Some(until);
            self.schedule_at(until, id, Arrival::Writable);
            return None;
        }
        let socket = self.sockets.get(&id)?;
        let (peer, lost) = (socket.peer, socket.cut);
        let waiting = match (socket.silent, self.sockets.get(&peer)) {
            (Some(gone), _) => gone,
            (None, Some(peer)) => peer.inbox.len() + peer.coming,
            (None, None) => 0,
        };
        let room = self.faults.window.max(1).saturating_sub(waiting).min(bytes.len());
        if room == 0 {
            self.reached.windows_full += 1;
            return None;
        }
        bytes.truncate(room);
        if bytes.len() > 1 && self.hit(self.faults.short_write) {
            bytes.truncate(self.random.usize(1..bytes.len()));
            self.reached.short_writes += 1;
        }
        let taken = bytes.len();
        if lost {
            return Some(taken);
        }
        let socket = self.sockets.get_mut(&id)?;
        if let Some(gone) = &mut socket.silent {
            *gone += taken;
            return Some(taken);
        }
        let fault = if self.hit(self.faults.reset) {
            self.reached.resets += 1;
            Some(Fault::Reset)
        } else if self.hit(self.faults.half_close) {
            self.reached.half_closes += 1;
            Some(Fault::HalfClose)
        } else if self.hit(self.faults.silence) {
            self.reached.silences += 1;
            Some(Fault::Silence)
        } else {
            None
        };
        if fault.is_some() {
            // It strikes at any byte, the first one included.
            bytes.truncate(self.random.usize(0..=bytes.len()));
        }
        if !bytes.is_empty() {
            match self.sockets.get_mut(&peer) {
                Some(peer) => peer.coming += bytes.len(),
                None => self.schedule(id, Arrival::Reset),
            }
            self.schedule(peer, Arrival::Bytes { from: id, bytes });
        }
        match fault {
            None => {}
            Some(Fault::Reset) => {
                self.schedule(peer, Arrival::Reset);
                self.schedule(id, Arrival::Reset);
            }
            Some(Fault::HalfClose) => {
                self.schedule(peer, Arrival::Fin);
                self.sockets.get_mut(&id)?.cut = true;
            }
            Some(Fault::Silence) => {
                for end in [id, peer] {
                    if let Some(socket) = self.sockets.get_mut(&end) {
                        socket.silent = Some(0);
                    }
                }
            }
        }
        Some(taken)
    }

    /// A write failed: the reading side tells the end, unless nobody reads.
    fn break_write(&mut self, id: SocketId, error: ErrorKind) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        self.reached.writes_failed += 1;
        if socket.reading {
            socket.write_error = Some(error);
            self.list(id);
        } else {
            self.tell_closed(id, error);
        }
    }

    fn tell_closed(&mut self, id: SocketId, error: ErrorKind) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut socket.ended, true)
            && let (Some(owner), Some(key)) = (self.owners.get_mut(socket.owner), socket.key)
        {
            let error = Some(error.into());
            owner.done.push_back((id, Completion::Closed { key, error }));
        }
    }

    pub(super) fn shutdown_write(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id)
            && socket.broken.is_none()
        {
            let (peer, told) = (socket.peer, socket.cut || socket.silent.is_some());
            socket.cut = true;
            if !told {
                self.schedule(peer, Arrival::Fin);
            }
        }
    }

    pub(super) fn close(&mut self, id: SocketId, reset: bool) {
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        if socket.silent.is_some() {
            return;
        }
        // RFC 1122 section 4.2.2.13: closing with unread input resets the connection.
        if reset || !socket.inbox.is_empty() {
            self.reached.closes_with_reset += 1;
            self.schedule(socket.peer, Arrival::Reset);
        } else if !socket.cut {
            self.schedule(socket.peer, Arrival::Fin);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Reset,
    HalfClose,
    Silence,
}
