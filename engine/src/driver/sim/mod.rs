//! The simulated driver: connections in memory, a clock that stands still between events, and faults on purpose.
//!
//! All drivers of one simulation share one [`World`], on one thread. Nothing in it depends on anything but its seed
//! and what the shards do, so a run can be repeated exactly. What lies in the network is in `world.rs`, how bytes get
//! in and out of a socket in `transfer.rs`.

mod transfer;
mod world;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleetwire_codec::buffer::Block;

pub(crate) use self::world::World;
use self::world::{OwnerId, SocketId};
use super::{Completion, Driver, Key, Targets, Wake};
use crate::Listener;
use crate::clock::Moment;

/// How long reading rests when there was no memory to read into.
const MEMORY_REST: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct SimDriver {
    world: Rc<RefCell<World>>,
    owner: OwnerId,
    sockets: Vec<Option<SocketId>>,
    pending: Arc<AtomicBool>,
    /// It was set.
    woken: bool,
}

impl SimDriver {
    pub(crate) fn new(world: &Rc<RefCell<World>>, listeners: Vec<Listener>) -> io::Result<(Self, Wake)> {
        let addresses = listeners
            .into_iter()
            .map(Listener::into_simulated)
            .collect::<io::Result<Vec<_>>>()?;
        let pending = Arc::new(AtomicBool::new(false));
        let driver = Self {
            owner: world.borrow_mut().add_owner(&addresses),
            world: Rc::clone(world),
            sockets: Vec::new(),
            pending: Arc::clone(&pending),
            woken: false,
        };
        Ok((driver, Wake::new(None, pending)))
    }

    /// Whether [`Driver::wait`] has a reason to return at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.pending.load(Ordering::Acquire) || self.world.borrow().is_ready(self.owner)
    }

    /// The clock.
    pub(crate) fn now(&self) -> Instant {
        self.world.borrow().now()
    }

    /// When reading that found no memory goes on.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.world.borrow().rests_until(self.owner)
    }

    fn socket(&self, key: Key) -> Option<SocketId> {
        *self.sockets.get(key as usize)?
    }

    fn insert(&mut self, key: Key, socket: SocketId) {
        let index = key as usize;
        if self.sockets.len() <= index {
            self.sockets.resize(index + 1, None);
        }
        if let Some(place) = self.sockets.get_mut(index) {
            debug_assert!(place.is_none(), "a key is used again only after close");
            *place = Some(socket);
        }
    }
}

impl Driver for SimDriver {
    type Incoming = SimIncoming;

    const NAME: &'static str = "sim";

    /// Does not wait: whoever runs the simulation calls it when something is ready or `until` has come.
    fn wait(&mut self, _due: Option<Moment>, _latest: Option<Instant>) -> io::Result<Instant> {
        self.woken |= self.pending.swap(false, Ordering::AcqRel);
        Ok(self.world.borrow_mut().begin_pass(self.owner))
    }

    fn woken(&mut self) -> bool {
        std::mem::take(&mut self.woken) || self.pending.load(Ordering::Acquire)
    }

    fn next(&mut self, targets: &mut impl Targets) -> Option<Completion<SimIncoming>> {
        let mut world = self.world.borrow_mut();
        if let Some(completion) = world.next_of_connections(self.owner, targets) {
            return Some(completion);
        }
        let (listener, accepted) = world.accept(self.owner)?;
        Some(match accepted {
            Ok((socket, peer)) => Completion::Accepted {
                listener,
                peer,
                incoming: SimIncoming {
                    world: Rc::clone(&self.world),
                    socket: Some(socket),
                },
            },
            Err(error) => Completion::AcceptFailed { listener, error },
        })
    }

    fn connect(&mut self, key: Key, address: SocketAddr) -> io::Result<()> {
        let socket = self.world.borrow_mut().connect(self.owner, key, address)?;
        self.insert(key, socket);
        Ok(())
    }

    fn adopt(&mut self, key: Key, mut incoming: SimIncoming) -> io::Result<()> {
        if let Some(socket) = incoming.socket.take() {
            self.world.borrow_mut().adopt(socket, key);
            self.insert(key, socket);
        }
        Ok(())
    }

    fn submit_send(&mut self, key: Key, block: Block, range: Range<usize>) -> Option<Block> {
        let socket = self.socket(key)?;
        self.world.borrow_mut().submit_send(socket, block, range)
    }

    fn set_reading(&mut self, key: Key, reading: bool) {
        if let Some(socket) = self.socket(key) {
            self.world.borrow_mut().set_reading(socket, reading);
        }
    }

    fn shutdown_write(&mut self, key: Key) {
        if let Some(socket) = self.socket(key) {
            self.world.borrow_mut().shutdown_write(socket);
        }
    }

    fn close(&mut self, key: Key, reset: bool) {
        if let Some(socket) = self.sockets.get_mut(key as usize).and_then(Option::take) {
            self.world.borrow_mut().close(socket, reset);
        }
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.world.borrow_mut().set_accepting(self.owner, accepting);
    }

    fn close_listeners(&mut self) {
        self.world.borrow_mut().close_listeners(self.owner);
    }
}

impl Drop for SimDriver {
    /// What the system does for a process that ends.
    fn drop(&mut self) {
        // A panic in the middle of a call leaves the world borrowed; then the whole simulation ends with it.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.close_listeners(self.owner);
            for socket in self.sockets.drain(..).flatten() {
                world.close(socket, false);
            }
        }
    }
}

/// An accepted connection that no shard has taken in; dropping it closes it.
#[derive(Debug)]
pub(crate) struct SimIncoming {
    world: Rc<RefCell<World>>,
    socket: Option<SocketId>,
}

impl Drop for SimIncoming {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take()
            && let Ok(mut world) = self.world.try_borrow_mut()
        {
            world.close(socket, false);
        }
    }
}
