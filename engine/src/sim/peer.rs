//! The other side of a connection, without an engine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use fleetwire_codec::buffer::{Pool, PoolLimits};

use super::engine::Runner;
use crate::driver::{Completion, Driver, Key, SimDriver, Targets};

/// Bytes that one read brings at most, and one write takes.
const CHUNK: usize = 4096;

/// Whatever speaks over connections of a simulation and is no engine: another implementation of MQTT, or a script.
pub trait Peer: 'static {
    /// A connection is there that somebody has made.
    fn on_accepted(&mut self, connection: u32, io: &mut PeerIo);

    /// A connection is there that this side has made with [`PeerIo::dial`].
    fn on_connected(&mut self, connection: u32, io: &mut PeerIo) {
        let _ = (connection, io);
    }

    /// Bytes have come, cut anywhere.
    fn on_bytes(&mut self, connection: u32, bytes: &[u8], io: &mut PeerIo);

    /// The other side has ended the connection, in order or not, and it is closed, or it never came about; not after
    /// this side's own [`PeerIo::close`].
    fn on_closed(&mut self, connection: u32, io: &mut PeerIo);

    /// The moment has come that [`PeerIo::wake_at`] has named.
    fn on_timer(&mut self, io: &mut PeerIo) {
        let _ = io;
    }
}

/// What a [`Peer`] can do. Connections are numbered from 0, and no number comes twice.
#[derive(Debug)]
pub struct PeerIo {
    now: Instant,
    connections: BTreeMap<Key, Output>,
    next_key: Key,
    dials: Vec<(Key, SocketAddr)>,
    wake_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Output {
    waiting: Vec<u8>,
    /// It is not connected yet.
    dialling: bool,
    sending: bool,
    /// Whether it is to be read from here on, if that is to change.
    reading: Option<bool>,
    /// The end of this direction is to be said behind all that waits.
    finish: bool,
    /// To be closed: in order, or with a reset.
    close: Option<bool>,
}

impl PeerIo {
    /// The clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Makes a connection; [`Peer::on_connected`] or [`Peer::on_closed`] says what came of it. What is sent meanwhile waits.
    pub fn dial(&mut self, address: SocketAddr) -> u32 {
        let key = self.next_key;
        self.next_key += 1;
        let output = Output {
            dialling: true,
            ..Output::default()
        };
        self.connections.insert(key, output);
        self.dials.push((key, address));
        key
    }

    /// Sends bytes behind all that wait already. There is no bound.
    pub fn send(&mut self, connection: u32, bytes: &[u8]) {
        if let Some(output) = self.connections.get_mut(&connection)
            && output.close.is_none()
        {
            output.waiting.extend_from_slice(bytes);
        }
    }

    /// Stops reading from the connection, or goes on.
    pub fn set_reading(&mut self, connection: u32, reading: bool) {
        if let Some(output) = self.connections.get_mut(&connection) {
            output.reading = Some(reading);
        }
    }

    /// Ends this direction behind all that waits, and goes on reading.
    pub fn shutdown_write(&mut self, connection: u32) {
        if let Some(output) = self.connections.get_mut(&connection) {
            output.finish = true;
        }
    }

    /// Closes the connection; of what waits, only what the network takes at once is still sent.
    pub fn close(&mut self, connection: u32) {
        if let Some(output) = self.connections.get_mut(&connection) {
            output.close.get_or_insert(false);
        }
    }

    /// Breaks the connection with a reset.
    pub fn abort(&mut self, connection: u32) {
        if let Some(output) = self.connections.get_mut(&connection) {
            output.close = Some(true);
        }
    }

    /// Asks for [`Peer::on_timer`] at that moment, instead of the one that was asked for before.
    pub fn wake_at(&mut self, at: Option<Instant>) {
        self.wake_at = at;
    }
}

pub(super) struct PeerShard<P> {
    state: RefCell<State<P>>,
}

struct State<P> {
    driver: SimDriver,
    pool: Pool,
    buffer: Buffer,
    io: PeerIo,
    peer: P,
}

struct Buffer([u8; CHUNK]);

impl Targets for Buffer {
    fn receive(&mut self, _key: Key) -> &mut [u8] {
        &mut self.0
    }
}

impl<P: Peer> PeerShard<P> {
    pub(super) fn new(driver: SimDriver, peer: P, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                driver,
                pool: Pool::new(PoolLimits::default()),
                buffer: Buffer([0; CHUNK]),
                io: PeerIo {
                    now,
                    connections: BTreeMap::new(),
                    next_key: 0,
                    dials: Vec::new(),
                    wake_at: None,
                },
                peer,
            }),
        })
    }

    pub(super) fn with_peer<R>(&self, look: impl FnOnce(&mut P, &mut PeerIo) -> R) -> Option<R> {
        let mut state = self.state.try_borrow_mut().ok()?;
        let state = &mut *state;
        state.io.now = state.driver.now();
        let answer = look(&mut state.peer, &mut state.io);
        state.flush();
        Some(answer)
    }
}

impl<P: Peer> State<P> {
    fn turn(&mut self) -> io::Result<()> {
        self.io.now = self.driver.wait(None, None)?;
        while let Some(completion) = self.driver.next(&mut self.buffer) {
            match completion {
                Completion::Accepted { incoming, .. } => {
                    let key = self.io.next_key;
                    self.io.next_key += 1;
                    self.driver.adopt(key, incoming)?;
                    self.io.connections.insert(key, Output::default());
                    self.peer.on_accepted(key, &mut self.io);
                }
                Completion::Received { key, len } => {
                    let bytes = self.buffer.0.get(..len).unwrap_or_default();
                    if self
                        .io
                        .connections
                        .get(&key)
                        .is_some_and(|output| output.close.is_none())
                    {
                        self.peer.on_bytes(key, bytes, &mut self.io);
                    }
                }
                Completion::Sent { key, block } => {
                    self.pool.put(block);
                    if let Some(output) = self.io.connections.get_mut(&key) {
                        output.sending = false;
                    }
                }
                Completion::Connected { key, result: Ok(()) } => {
                    if let Some(output) = self.io.connections.get_mut(&key) {
                        output.dialling = false;
                        self.peer.on_connected(key, &mut self.io);
                    }
                }
                Completion::Connected { key, .. } | Completion::Closed { key, .. } => self.ended(key),
                // What cannot be accepted now waits.
                Completion::AcceptFailed { .. } => {}
            }
        }
        if self.io.wake_at.is_some_and(|at| at <= self.io.now) {
            self.io.wake_at = None;
            self.peer.on_timer(&mut self.io);
        }
        self.flush();
        Ok(())
    }

    fn ended(&mut self, key: Key) {
        let output = self.io.connections.remove(&key);
        self.driver.close(key, false);
        if output.is_some_and(|output| output.close.is_none()) {
            self.peer.on_closed(key, &mut self.io);
        }
    }

    /// Dials, hands output to the driver, and closes what is to be closed.
    fn flush(&mut self) {
        while let Some((key, address)) = self.io.dials.pop() {
            if self.driver.connect(key, address).is_err() {
                self.ended(key);
            }
        }
        let Self { driver, pool, io, .. } = self;
        io.connections.retain(|key, output| {
            while !output.waiting.is_empty()
                && !output.sending
                && !output.dialling
                && output.close != Some(true)
                && let len = output.waiting.len().min(CHUNK)
                && let Some(mut block) = pool.take(len)
                && let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(..len))
            {
                for (place, byte) in room.iter_mut().zip(output.waiting.drain(..len)) {
                    *place = byte;
                }
                match driver.submit_send(*key, block, 0..len) {
                    Some(block) => pool.put(block),
                    None => output.sending = true,
                }
            }
            if let Some(reading) = output.reading.take_if(|_| !output.dialling) {
                driver.set_reading(*key, reading);
            }
            let sent = output.waiting.is_empty() && !output.sending && !output.dialling;
            if sent && std::mem::take(&mut output.finish) {
                driver.shutdown_write(*key);
            }
            if let Some(reset) = output.close {
                driver.close(*key, reset);
            }
            output.close.is_none()
        });
    }
}

impl<P: Peer> Runner for PeerShard<P> {
    fn is_ready(&self) -> bool {
        self.state.borrow().driver.is_ready()
    }

    fn wake_at(&self) -> Option<Instant> {
        self.state.borrow().io.wake_at
    }

    fn turn(&self) -> io::Result<()> {
        self.state.borrow_mut().turn()
    }

    fn has_ended(&self) -> bool {
        false
    }
}

/// A peer that [`Sim::serve`](super::Sim::serve) has put into the network.
pub struct SimPeer<P> {
    shard: Rc<PeerShard<P>>,
}

impl<P: Peer> SimPeer<P> {
    pub(super) fn new(shard: Rc<PeerShard<P>>) -> Self {
        Self { shard }
    }

    /// Looks at the peer, or has it do something. `None` from within its own calls.
    pub fn with<R>(&self, look: impl FnOnce(&mut P, &mut PeerIo) -> R) -> Option<R> {
        self.shard.with_peer(look)
    }
}

impl<P> std::fmt::Debug for SimPeer<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimPeer").finish_non_exhaustive()
    }
}
