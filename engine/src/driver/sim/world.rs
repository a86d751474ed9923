//! The network of a simulation: who listens where, which connections there are, and what is on its way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::{Completion, Key};
use super::transfer::Socket;
use super::{MEMORY_REST, SimIncoming};
use crate::sim::{Faults, Reached};

/// Names a socket; never used again within a world.
pub(super) type SocketId = u64;
/// Names a driver.
pub(super) type OwnerId = usize;

/// Connections that wait to be accepted, for each listener; what comes beyond is not answered.
const BACKLOG: usize = 4096;
/// Connections that may be accepted in one pass.
const ACCEPTS_PER_PASS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) now: Instant,
    pub(super) random: fastrand::Rng,
    pub(super) faults: Faults,
    pub(super) reached: Reached,
    pub(super) sockets: HashMap<SocketId, Socket>,
    next_socket: SocketId,
    /// What is on its way, nearest first; equal moments in the order of sending.
    events: BinaryHeap<Reverse<Scheduled>>,
    next_event: u64,
    pub(super) owners: Vec<Owner>,
    ports: BTreeMap<SocketAddr, Vec<(OwnerId, usize)>>,
}

/// What one driver has to tell its shard.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) ready: VecDeque<SocketId>,
    pub(super) done: VecDeque<(SocketId, Completion<SimIncoming>)>,
    turns_left: usize,
    accepts_left: usize,
    accepting: bool,
    listeners: Vec<VecDeque<SocketId>>,
    pub(super) rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    serial: u64,
    to: SocketId,
    what: Arrival,
}

/// What reaches a socket.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The peer's SYN: a connection for that listener.
    Syn {
        owner: OwnerId,
        listener: usize,
    },
    /// The answer to our SYN.
    Answer(Result<(), ErrorKind>),
    Bytes {
        from: SocketId,
        bytes: Vec<u8>,
    },
    Fin,
    Reset,
    /// There may be room to send.
    Writable,
}

impl World {
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        Self {
            now,
            random: fastrand::Rng::with_seed(seed),
            faults: Faults::none(),
            reached: Reached::default(),
            sockets: HashMap::new(),
            next_socket: 0,
            events: BinaryHeap::new(),
            next_event: 0,
            owners: Vec::new(),
            ports: BTreeMap::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn reached(&self) -> Reached {
        self.reached
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(crate) fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// Sockets that exist, those that wait to be accepted included.
    pub(crate) fn sockets_len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn next_event_at(&self) -> Option<Instant> {
        self.events.peek().map(|Reverse(event)| event.at)
    }

    /// Moves the clock, and lets everything arrive that is due then.
    pub(crate) fn advance(&mut self, to: Instant) {
        // Leaping over a moment is one thing, and turning back another: clocks of this kind never do.
        self.now = self.now.max(to);
        if self.hit(self.faults.clock_jump) {
            let jump = self.random_within(self.faults.clock_jump_max);
            self.now += jump;
            self.reached.clock_jumps += 1;
        }
        while self
            .events
            .peek()
            .is_some_and(|Reverse(event)| event.at <= self.now)
        {
            if let Some(Reverse(event)) = self.events.pop() {
                self.arrive(event.to, event.what);
            }
        }
    }

    pub(super) fn hit(&mut self, chance: f64) -> bool {
        // No draw for what never happens, so that a fault which is switched off changes nothing else.
        chance > 0.0 && self.random.f64() < chance
    }

    pub(super) fn random_within(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }

    pub(super) fn add_owner(&mut self, addresses: &[SocketAddr]) -> OwnerId {
        let owner = self.owners.len();
        self.owners.push(Owner {
            accepting: true,
            listeners: addresses.iter().map(|_| VecDeque::new()).collect(),
            ..Owner::default()
        });
        for (index, address) in addresses.iter().enumerate() {
            self.ports.entry(*address).or_default().push((owner, index));
        }
        owner
    }

    pub(super) fn begin_pass(&mut self, owner: OwnerId) -> Instant {
        if self.hit(self.faults.slow_pass) {
            // What this pass sees has been there for a while.
            let late = self.random_within(self.faults.slow_pass_max);
            self.advance(self.now + late);
            self.reached.slow_passes += 1;
        }
        let Some(owner) = self.owners.get_mut(owner) else {
            return self.now;
        };
        owner.rests_until = owner.rests_until.filter(|until| *until > self.now);
        owner.turns_left = owner.ready.len();
        owner.accepts_left = ACCEPTS_PER_PASS;
        self.now
    }

    pub(super) fn is_ready(&self, owner: OwnerId) -> bool {
        self.owners.get(owner).is_some_and(|owner| {
            let accepts = owner.accepting && owner.listeners.iter().any(|queue| !queue.is_empty());
            !owner.done.is_empty() || accepts || (!owner.ready.is_empty() && owner.rests_until.is_none())
        })
    }

    pub(super) fn rests_until(&self, owner: OwnerId) -> Option<Instant> {
        self.owners.get(owner)?.rests_until
    }

    /// There was nowhere to read into.
    pub(super) fn rest(&mut self, owner: OwnerId) {
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.rests_until = Some(self.now + MEMORY_REST);
            self.reached.reads_without_memory += 1;
        }
    }

    pub(super) fn next_of_connections(
        &mut self,
        owner: OwnerId,
        targets: &mut impl super::Targets,
    ) -> Option<Completion<SimIncoming>> {
        while let Some((socket, done)) = self.owners.get_mut(owner)?.done.pop_front() {
            if self.sockets.contains_key(&socket) {
                return Some(done);
            }
        }
        loop {
            let state = self.owners.get_mut(owner)?;
            state.turns_left = state.turns_left.checked_sub(1)?;
            let socket = state.ready.pop_front()?;
            if let Some(completion) = self.turn(socket, targets) {
                return Some(completion);
            }
        }
    }

    /// The next connection of a listener, and which listener's.
    pub(super) fn accept(&mut self, owner: OwnerId) -> Option<(usize, io::Result<(SocketId, SocketAddr)>)> {
        let state = self.owners.get_mut(owner)?;
        if !state.accepting {
            return None;
        }
        let listener = state.listeners.iter().position(|queue| !queue.is_empty())?;
        state.accepts_left = state.accepts_left.checked_sub(1)?;
        if self.hit(self.faults.accept_failure) {
            self.reached.accept_failures += 1;
            self.owners.get_mut(owner)?.accepts_left = 0;
            // EMFILE, as Linux numbers it.
            return Some((listener, Err(io::Error::from_raw_os_error(24))));
        }
        let queue = self.owners.get_mut(owner)?.listeners.get_mut(listener)?;
        let socket = queue.pop_front()?;
        let peer = self.sockets.get(&socket)?.peer_address;
        Some((listener, Ok((socket, peer))))
    }

    pub(super) fn set_accepting(&mut self, owner: OwnerId, accepting: bool) {
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.accepting = accepting;
        }
    }

    /// Nothing listens any more; connections that wait to be accepted are reset.
    pub(super) fn close_listeners(&mut self, owner: OwnerId) {
        for listeners in self.ports.values_mut() {
            listeners.retain(|(of, _)| *of != owner);
        }
        let Some(state) = self.owners.get_mut(owner) else {
            return;
        };
        for socket in std::mem::take(&mut state.listeners).into_iter().flatten() {
            self.close(socket, true);
        }
    }

    /// Sends a SYN.
    pub(super) fn connect(&mut self, owner: OwnerId, key: Key, address: SocketAddr) -> io::Result<SocketId> {
        if self.hit(self.faults.connect_error) {
            self.reached.connect_errors += 1;
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let listeners = self.ports.get(&address).map(Vec::len).unwrap_or_default();
        let chosen = (listeners > 0).then(|| self.random.usize(0..listeners));
        let listener = chosen
            .and_then(|chosen| self.ports.get(&address)?.get(chosen))
            .copied();
        let (here, there) = (self.next_socket, self.next_socket + 1);
        self.next_socket += 2;
        // Source ports need not differ where nothing looks at them; that they do helps whoever reads a log.
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + (here % 64_000) as u16));
        self.sockets
            .insert(here, Socket::new(owner, Some(key), there, address, self.now));
        if self.hit(self.faults.connect_silence) {
            self.reached.connect_silences += 1;
            return Ok(here);
        }
        let refused = listener.is_none() || self.hit(self.faults.connect_refused);
        if refused {
            self.reached.connects_refused += 1;
            self.schedule(here, Arrival::Answer(Err(ErrorKind::ConnectionRefused)));
            return Ok(here);
        }
        if let Some((of, listener)) = listener {
            self.sockets
                .insert(there, Socket::new(of, None, here, from, self.now));
            self.schedule(there, Arrival::Syn { owner: of, listener });
        }
        Ok(here)
    }

    /// A SYN has come: it waits to be accepted, and is answered.
    pub(super) fn syn(&mut self, socket: SocketId, owner: OwnerId, listener: usize) {
        let Some(client) = self.sockets.get(&socket).map(|socket| socket.peer) else {
            return;
        };
        let queue = self
            .owners
            .get_mut(owner)
            .and_then(|owner| owner.listeners.get_mut(listener));
        match queue {
            Some(queue) if queue.len() < BACKLOG && self.sockets.contains_key(&client) => {
                queue.push_back(socket);
                self.schedule(client, Arrival::Answer(Ok(())));
            }
            Some(_) => drop(self.sockets.remove(&socket)),
            // The listener was closed meanwhile.
            None => {
                self.sockets.remove(&socket);
                self.schedule(client, Arrival::Answer(Err(ErrorKind::ConnectionRefused)));
            }
        }
    }

    /// Something sets out for a socket, behind all that is on its way there.
    pub(super) fn schedule(&mut self, to: SocketId, what: Arrival) {
        let mut delay = self.faults.delay;
        if !self.faults.jitter.is_zero() {
            delay += self.random_within(self.faults.jitter);
        }
        if self.hit(self.faults.stall) {
            delay += self.random_within(self.faults.stall_max);
            self.reached.stalls += 1;
        }
        let Some(socket) = self.sockets.get_mut(&to) else {
            return;
        };
        let at = socket.last_arrival.max(self.now + delay);
        socket.last_arrival = at;
        self.schedule_at(at, to, what);
    }

    pub(super) fn schedule_at(&mut self, at: Instant, to: SocketId, what: Arrival) {
        let serial = self.next_event;
        self.next_event += 1;
        self.events.push(Reverse(Scheduled { at, serial, to, what }));
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}
