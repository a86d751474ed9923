//! The default driver: readiness from mio (epoll, edge-triggered), turned into completions.
//!
//! A connection that the poll names has its turn in the order of the edges. One that may have more to read then goes on a
//! ready list, whose turns come behind the edges of the next pass. It leaves the list when a read answered `WouldBlock` or
//! came back short: a short read of a stream means that the socket is drained, and whatever arrives later is a new edge, so
//! the second system call that would only say `WouldBlock` is saved. When the read side is closed no further edge will come,
//! so it is read to its end.

mod alarm;
mod listeners;
mod socket;
mod turns;
mod writes;

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
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
use self::socket::Socket;
use super::{Completion, Driver, Key, Targets, Wake};
use crate::Listener;
use crate::clock::Moment;

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

/// See the module.
///
/// What each read needs lies in the first line of the cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct MioDriver {
    sockets: Vec<Option<Socket>>,
    /// What the system's poll has told in this pass, and how much of it has had its turn. epoll names each descriptor once, and a
    /// key is closed only by a completion of its own and given away only when all turns are over: so what is told of a key
    /// here is told of the connection that has it.
    edges: Vec<Event>,
    edges_taken: usize,
    /// How many of `ready` have not had their turn in this pass.
    turns_left: usize,
    /// Connections that have more to do, with their serials.
    ready: VecDeque<(Key, u32)>,
    /// Completions that a submission or an edge has made, with the connection's serial.
    done: VecDeque<(Key, u32, Completion<TcpStream>)>,
    poll: Poll,
    events: Events,
    listeners: Listeners,
    alarm: Alarm,
    /// The system's poll brought as many events as it may at a time.
    more: bool,
    /// A read found nowhere to read into in this pass.
    no_memory: bool,
    /// The waker has rung.
    woken: bool,
    serial: u32,
    unsent: HashMap<Key, (Block, Range<usize>)>,
    write_errors: HashMap<Key, io::Error>,
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
            edges: Vec::with_capacity(EVENTS_PER_POLL),
            edges_taken: 0,
            ready: VecDeque::new(),
            done: VecDeque::new(),
            listeners,
            alarm,
            more: false,
            no_memory: false,
            woken: false,
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

    /// Something of the driver's own, or of a connection that is gone.
    #[cold]
    fn note_other(&mut self, token: Token) {
        match token {
            TOKEN_WAKER => {
                // Not a store, which the look at the commands that follows could overtake: whoever has seen it set before,
                // and wakes nobody, has put his command there by now.
                self.pending.swap(false, Ordering::AcqRel);
                self.woken = true;
            }
            TOKEN_ALARM => self.alarm.rang(),
            Token(token) => {
                if let Some(index) = token.checked_sub(TOKEN_LISTENERS) {
                    self.listeners.note(index);
                }
            }
        }
    }

    /// How long the system's poll may wait, if not without end.
    #[cold]
    fn timeout(&mut self, due: Option<Moment>, latest: Option<Instant>, rests: bool) -> Option<Duration> {
        let due = due.and_then(|due| self.alarm.timeout(due, Instant::now));
        let latest = latest.map(|latest| latest.saturating_duration_since(Instant::now()));
        let rest = rests.then_some(MEMORY_REST);
        let all = [due, latest, rest].into_iter().flatten();
        all.min().map(|timeout| timeout.min(WAIT_MAX))
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

    fn wait(&mut self, due: Option<Moment>, latest: Option<Instant>) -> io::Result<Instant> {
        debug_assert_eq!(
            self.edges_taken,
            self.edges.len(),
            "every pass is taken to its end"
        );
        let rests = std::mem::take(&mut self.no_memory);
        let timeout = if !rests && self.is_busy() {
            Some(Duration::ZERO)
        } else if !rests && latest.is_none() && due.is_none_or(|due| self.alarm.rings_by(due)) {
            None
        } else {
            self.timeout(due, latest, rests)
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        self.edges.clear();
        self.edges.extend(self.events.iter().cloned());
        self.edges_taken = 0;
        if !self.unsent.is_empty() {
            self.send_all_on();
        }
        self.more = self.edges.len() == EVENTS_PER_POLL;
        self.turns_left = self.ready.len();
        self.listeners.begin_pass();
        Ok(now)
    }

    fn woken(&mut self) -> bool {
        // Who sets it may have been stopped before he rings, and what he rings may lie behind others in the poll.
        std::mem::take(&mut self.woken) || self.pending.load(Ordering::Acquire)
    }

    fn next(&mut self, targets: &mut impl Targets) -> Option<Completion<TcpStream>> {
        loop {
            if !self.done.is_empty() {
                if let Some(done) = self.pop_done() {
                    return Some(done);
                }
            } else if let Some(edge) = self.edges.get(self.edges_taken).cloned() {
                self.edges_taken += 1;
                if let Some(completion) = self.turn_of_edge(&edge, targets) {
                    return Some(completion);
                }
            } else if self.turns_left > 0 {
                self.turns_left -= 1;
                if let Some(completion) = self.turn_of_next(targets) {
                    return Some(completion);
                }
            } else {
                return self.listeners.accept();
            }
        }
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
        if reading && socket.readable {
            self.list(key);
        } else if !reading
            && socket.broken
            && let Some(error) = self.write_errors.remove(&key)
        {
            self.tell_closed(key, error);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_read_needs_lies_together() {
        assert!(std::mem::offset_of!(MioDriver, turns_left) + size_of::<usize>() <= 64);
    }

    struct Nowhere;

    impl Targets for Nowhere {
        fn receive(&mut self, _: Key) -> &mut [u8] {
            &mut []
        }
    }

    #[test]
    fn the_end_of_one_wait_ends_no_other() {
        let (mut driver, wake) = MioDriver::new(Vec::new()).unwrap();
        let mut wait = |due: Option<Instant>, latest| {
            let now = driver.wait(due.map(Moment::from), latest).unwrap();
            assert!(driver.next(&mut Nowhere).is_none());
            (now, driver.woken())
        };
        let ms = Duration::from_millis;
        wake.wake();
        assert!(wait(None, Some(Instant::now() + ms(30))).1);
        // Nothing of that is left, unlike of a deadline of the shard.
        let latest = Instant::now() + ms(60);
        let (now, woken) = wait(None, Some(latest));
        assert!(now >= latest && !woken);
        // A deadline's own alarm may ring a little early, while it is set.
        let due = Instant::now() + ms(60);
        assert!(wait(Some(due), None).0 >= due - ms(30));
        assert!(wait(Some(due), None).0 >= due);
    }
}
