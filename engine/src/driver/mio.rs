//! The default driver: readiness from mio (epoll, edge-triggered), turned into completions.
//!
//! Edges are remembered in flags and a ready list of its own. A connection leaves the list when a read answered
//! `WouldBlock` or came back short: a short read of a stream means that the socket is drained, and whatever arrives
//! later is a new edge, so the second system call that would only say `WouldBlock` is saved. When the read side is
//! closed no further edge will come, so it is read to its end.

mod alarm;
mod listeners;

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleetwire_codec::buffer::Block;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::SockRef;

use self::alarm::Alarm;
use self::listeners::Listeners;
use super::{Completion, Driver, Key, Targets, Wake};
use crate::Listener;

/// Events that one call of the system's poll may bring.
const EVENTS_PER_POLL: usize = 1024;
/// How long reading rests when there was no memory to read into.
const MEMORY_REST: Duration = Duration::from_millis(5);
/// Longer waits are cut: epoll counts milliseconds in 31 bits.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Tokens from here on are not connections.
const TOKEN_WAKER: Token = Token(usize::MAX);
const TOKEN_ALARM: Token = Token(usize::MAX - 1);
const TOKEN_LISTENERS: usize = usize::MAX - 1024;

/// What each pass needs of a connection, in sixteen bytes: thousands take turns, and each is looked for in memory.
#[derive(Debug)]
struct Socket {
    /// Tells this connection from earlier ones of the same key, in lists that are not searched at each close.
    serial: u32,
    stream: TcpStream,
    connecting: bool,
    readable: bool,
    /// The kernel says that the peer has finished or failed: read to the end.
    read_closed: bool,
    /// `Closed` was told.
    ended: bool,
    reading: bool,
    listed: bool,
    /// The kernel took no more: the rest is in `unsent`.
    blocked: bool,
    /// Nothing more can be sent: `write_errors` says why, until `Closed` tells it when all that can be read was read.
    broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct MioDriver {
    poll: Poll,
    events: Events,
    sockets: Vec<Option<Socket>>,
    unsent: HashMap<Key, (Block, Range<usize>)>,
    write_errors: HashMap<Key, io::Error>,
    serial: u32,
    ready: VecDeque<(Key, u32)>,
    /// Completions that a submission or an edge has made, with the connection's serial.
    done: VecDeque<(Key, u32, Completion<TcpStream>)>,
    listeners: Listeners,
    alarm: Alarm,
    /// The system's poll brought as many events as it may at a time.
    more: bool,
    /// A read found nowhere to read into in this pass.
    no_memory: bool,
    /// How many of `ready` have not had their turn in this pass.
    turns_left: usize,
    pending: Arc<AtomicBool>,
}

impl MioDriver {
    pub(crate) fn new(listeners: Vec<Listener>) -> io::Result<(Self, Wake)> {
        let poll = Poll::new()?;
        let pending = Arc::new(AtomicBool::new(false));
        let waker = Arc::new(Waker::new(poll.registry(), TOKEN_WAKER)?);
        let listeners = Listeners::new(listeners, poll.registry())?;
        let alarm = Alarm::new(poll.registry(), TOKEN_ALARM);
        let driver = Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            sockets: Vec::new(),
            unsent: HashMap::new(),
            write_errors: HashMap::new(),
            serial: 0,
            ready: VecDeque::new(),
            done: VecDeque::new(),
            listeners,
            alarm,
            more: false,
            no_memory: false,
            turns_left: 0,
            pending: Arc::clone(&pending),
        };
        Ok((driver, Wake::new(Some(waker), pending)))
    }

    /// There is something to do before the system's poll has anything new.
    fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.done.is_empty() || self.more || self.listeners.is_busy()
    }

    /// When a wait that begins now ends though the system's poll has nothing new.
    pub(crate) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        match (self.no_memory, self.is_busy()) {
            (true, _) => Some(now + MEMORY_REST),
            (false, busy) => busy.then_some(now),
        }
    }

    fn note(&mut self, event: &Event) {
        let token = event.token();
        if token == TOKEN_WAKER {
            self.pending.store(false, Ordering::Release);
            return;
        }
        if token == TOKEN_ALARM {
            return self.alarm.rang();
        }
        if let Some(index) = token.0.checked_sub(TOKEN_LISTENERS) {
            return self.listeners.note(index);
        }
        let Some(Some(socket)) = self.sockets.get_mut(token.0) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            socket.readable = true;
            socket.read_closed |= event.is_read_closed() || event.is_error();
        }
        let wants_turn = socket.connecting || (socket.readable && socket.reading);
        if wants_turn && !socket.listed {
            socket.listed = true;
            self.ready.push_back((token.0 as Key, socket.serial));
        }
        if event.is_writable() && socket.blocked {
            socket.blocked = false;
            let (key, serial) = (token.0 as Key, socket.serial);
            if let Some((block, range)) = self.unsent.remove(&key)
                && let Some(block) = self.send(key, block, range)
            {
                self.done
                    .push_back((key, serial, Completion::Sent { key, block }));
            }
        }
    }

    fn is_current(&self, key: Key, serial: u32) -> bool {
        matches!(self.sockets.get(key as usize), Some(Some(socket)) if socket.serial == serial)
    }

    fn socket(&mut self, key: Key) -> Option<&mut Socket> {
        self.sockets.get_mut(key as usize)?.as_mut()
    }

    fn insert(&mut self, key: Key, mut stream: TcpStream, connecting: bool) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(key as usize), interest)?;
        self.serial = self.serial.wrapping_add(1);
        let socket = Socket {
            serial: self.serial,
            stream,
            connecting,
            readable: false,
            read_closed: false,
            ended: false,
            reading: true,
            listed: false,
            blocked: false,
            broken: false,
        };
        let index = key as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        if let Some(place) = self.sockets.get_mut(index) {
            debug_assert!(place.is_none(), "a key is used again only after close");
            *place = Some(socket);
        }
        Ok(())
    }

    /// Writes a part of a block, and answers the block when all of it is written; the rest stays for the next writable
    /// edge.
    fn send(&mut self, key: Key, block: Block, mut range: Range<usize>) -> Option<Block> {
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
            if !std::mem::replace(&mut socket.ended, true) {
                self.done.push_back((
                    key,
                    socket.serial,
                    Completion::Closed {
                        key,
                        error: Some(error),
                    },
                ));
            }
            return;
        }
        socket.broken = true;
        self.write_errors.insert(key, error);
        socket.readable = true;
        socket.read_closed = true;
        if !std::mem::replace(&mut socket.listed, true) {
            self.ready.push_back((key, socket.serial));
        }
    }

    /// One turn of one ready connection, if it is still the one with that serial.
    fn turn(&mut self, key: Key, serial: u32, targets: &mut impl Targets) -> Option<Completion<TcpStream>> {
        let socket = self.sockets.get_mut(key as usize)?.as_mut()?;
        if socket.serial != serial {
            return None;
        }
        socket.listed = false;
        if socket.connecting {
            let connected = finish_connect(socket, key);
            if socket.readable && socket.reading {
                socket.listed = true;
                self.ready.push_back((key, socket.serial));
            }
            return connected;
        }
        if !socket.readable || !socket.reading || socket.ended {
            return None;
        }
        let target = targets.receive(key);
        let wanted = target.len();
        if wanted == 0 {
            self.no_memory = true;
            socket.listed = true;
            self.ready.push_back((key, socket.serial));
            return None;
        }
        loop {
            match socket.stream.read(target) {
                Ok(0) => return self.end_of(key, None),
                Ok(len) => {
                    socket.readable = len == wanted || socket.read_closed;
                    if socket.readable {
                        socket.listed = true;
                        self.ready.push_back((key, socket.serial));
                    }
                    return Some(Completion::Received { key, len });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && !socket.broken => {
                    socket.readable = false;
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.end_of(key, Some(error)),
            }
        }
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

impl AsFd for MioDriver {
    /// Readable when the system's poll has something new.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl Driver for MioDriver {
    type Incoming = TcpStream;

    const NAME: &'static str = "mio";

    fn wait(&mut self, due: Option<Instant>, latest: Option<Instant>) -> io::Result<Instant> {
        let rests = std::mem::take(&mut self.no_memory);
        let timeout = if !rests && self.is_busy() {
            Some(Duration::ZERO)
        } else {
            let due = due.and_then(|due| self.alarm.timeout(due, Instant::now));
            let latest = latest.map(|latest| latest.saturating_duration_since(Instant::now()));
            let rest = rests.then_some(MEMORY_REST);
            let all = [due, latest, rest].into_iter().flatten();
            all.min().map(|timeout| timeout.min(WAIT_MAX))
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            self.note(event);
            count += 1;
        }
        self.events = events;
        self.more = count == EVENTS_PER_POLL;
        self.turns_left = self.ready.len();
        self.listeners.begin_pass();
        Ok(now)
    }

    fn next(&mut self, targets: &mut impl Targets) -> Option<Completion<TcpStream>> {
        while let Some((key, serial, done)) = self.done.pop_front() {
            if self.is_current(key, serial) {
                return Some(done);
            }
        }
        while self.turns_left > 0 {
            self.turns_left -= 1;
            let (key, serial) = self.ready.pop_front()?;
            if let Some(completion) = self.turn(key, serial, targets) {
                return Some(completion);
            }
        }
        self.listeners.accept()
    }

    fn connect(&mut self, key: Key, address: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect(address)?;
        // Coalescing is done here, in one write per pass; the kernel's would only add delay.
        stream.set_nodelay(true)?;
        self.insert(key, stream, true)
    }

    fn adopt(&mut self, key: Key, incoming: TcpStream) -> io::Result<()> {
        incoming.set_nodelay(true)?;
        self.insert(key, incoming, false)
    }

    fn submit_send(&mut self, key: Key, block: Block, range: Range<usize>) -> Option<Block> {
        debug_assert!(!self.unsent.contains_key(&key), "one block at a time");
        self.send(key, block, range)
    }

    fn set_reading(&mut self, key: Key, reading: bool) {
        let Some(Some(socket)) = self.sockets.get_mut(key as usize) else {
            return;
        };
        socket.reading = reading;
        if !reading
            && socket.broken
            && let Some(error) = self.write_errors.remove(&key)
            && !std::mem::replace(&mut socket.ended, true)
        {
            // Nobody will read on to its end.
            self.done.push_back((
                key,
                socket.serial,
                Completion::Closed {
                    key,
                    error: Some(error),
                },
            ));
        }
        if reading && socket.readable && !socket.listed {
            socket.listed = true;
            self.ready.push_back((key, socket.serial));
        }
    }

    fn shutdown_write(&mut self, key: Key) {
        if let Some(socket) = self.socket(key) {
            // It fails only when the connection is already gone, which the next read tells.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, key: Key, reset: bool) {
        let Some(place) = self.sockets.get_mut(key as usize) else {
            return;
        };
        let Some(mut socket) = place.take() else { return };
        self.unsent.remove(&key);
        self.write_errors.remove(&key);
        if reset {
            // Zero linger makes the kernel send RST (tcp(7), SO_LINGER); if it can't, the close is an orderly one.
            let _ = SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
        }
        // Closing the descriptor removes it from epoll in any case.
        let _ = self.poll.registry().deregister(&mut socket.stream);
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.listeners.set_accepting(accepting);
    }

    fn close_listeners(&mut self) {
        self.listeners.close();
    }
}

fn finish_connect(socket: &mut Socket, key: Key) -> Option<Completion<TcpStream>> {
    let result = match socket.stream.take_error() {
        Ok(None) => match socket.stream.peer_addr() {
            Ok(_) => Ok(()),
            // An early edge: the answer is still on its way.
            Err(error) if error.kind() == ErrorKind::NotConnected => return None,
            Err(error) => Err(error),
        },
        Ok(Some(error)) | Err(error) => Err(error),
    };
    socket.connecting = false;
    Some(Completion::Connected { key, result })
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

    #[test]
    fn the_end_of_one_wait_ends_no_other() {
        let (mut driver, wake) = MioDriver::new(Vec::new()).unwrap();
        let ms = Duration::from_millis;
        wake.wake();
        driver.wait(None, Some(Instant::now() + ms(30))).unwrap();
        // Nothing of that is left, unlike of a deadline of the shard.
        let latest = Instant::now() + ms(60);
        assert!(driver.wait(None, Some(latest)).unwrap() >= latest);
        // A deadline's own alarm may ring a little early, while it is set.
        let due = Instant::now() + ms(60);
        assert!(driver.wait(Some(due), None).unwrap() >= due - ms(30));
        assert!(driver.wait(Some(due), None).unwrap() >= due);
    }
}
