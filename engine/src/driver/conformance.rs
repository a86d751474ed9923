//! One script of the driver contract; every driver has to give the same events.
//!
//! The numbers in the script are those of the contract in the module documentation of `driver`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fleetwire_codec::buffer::{Block, Pool, PoolLimits};

use super::sim::World;
use super::{Completion, Driver, Key, MioDriver, SimDriver, Targets, Wake};
use crate::Listener;
use crate::sim::Faults;

/// How long the slower of the drivers may take for one step.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lends as many bytes as the script wants.
struct Memory {
    bytes: Vec<u8>,
    asked: Vec<Key>,
}

impl Targets for Memory {
    fn receive(&mut self, key: Key) -> &mut [u8] {
        self.asked.push(key);
        &mut self.bytes
    }
}

/// One of the two drivers, and what it has told of each connection.
struct Side<D: Driver> {
    name: &'static str,
    driver: D,
    memory: Memory,
    received: BTreeMap<Key, Vec<u8>>,
    incoming: Vec<D::Incoming>,
    /// How long the block is that the driver has.
    submitted: BTreeMap<Key, usize>,
    /// Everything but bytes, in order.
    told: Vec<String>,
}

impl<D: Driver> Side<D> {
    fn new(name: &'static str, driver: D) -> Self {
        let memory = Memory {
            bytes: vec![0; 4096],
            asked: Vec::new(),
        };
        Self {
            name,
            driver,
            memory,
            received: BTreeMap::new(),
            incoming: Vec::new(),
            submitted: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// One pass; answers which connections were read from.
    fn pass(&mut self) -> Vec<Key> {
        self.driver
            .wait(None, Some(Instant::now() + Duration::from_millis(5)))
            .unwrap();
        let mut read = Vec::new();
        while let Some(completion) = self.driver.next(&mut self.memory) {
            let told = match completion {
                Completion::Received { key, len } => {
                    assert!(self.memory.asked.contains(&key), "3: the target was asked for");
                    let bytes = self.memory.bytes.get(..len).expect("3: no more than was lent");
                    self.received.entry(key).or_default().extend_from_slice(bytes);
                    read.push(key);
                    continue;
                }
                Completion::Accepted {
                    listener, incoming, ..
                } => {
                    self.incoming.push(incoming);
                    format!("listener {listener} accepted")
                }
                Completion::AcceptFailed { error, .. } => panic!("cannot accept: {error}"),
                Completion::Connected { key, result } => {
                    format!("{key} connected {:?}", result.map_err(|error| error.kind()))
                }
                Completion::Closed { key, error: None } => format!("{key} closed in order"),
                Completion::Closed { key, error: Some(_) } => format!("{key} closed by an error"),
                Completion::Sent { key, block } => {
                    self.sent(key, &block);
                    continue;
                }
            };
            self.told.push(told);
        }
        read
    }

    /// Whether a block came back at once or later is the driver's affair.
    fn sent(&mut self, key: Key, block: &Block) {
        assert_eq!(
            self.submitted.remove(&key),
            Some(block.len()),
            "5: the same block, once"
        );
        self.told.push(format!("{key} sent"));
    }

    fn heard(&self, key: Key) -> &[u8] {
        self.received.get(&key).map_or(&[], Vec::as_slice)
    }

    fn has_told(&self, what: &str) -> bool {
        self.told.iter().any(|told| told == what)
    }

    fn send(&mut self, key: Key, bytes: &[u8]) {
        let (block, range) = block_of(bytes);
        self.submitted.insert(key, block.len());
        if let Some(block) = self.driver.submit_send(key, block, range) {
            self.sent(key, &block);
        }
    }

    fn adopt(&mut self, key: Key) {
        let incoming = self.incoming.pop().expect("something was accepted");
        self.driver.adopt(key, incoming).unwrap();
    }
}

/// The bytes in the middle of a block.
fn block_of(bytes: &[u8]) -> (Block, std::ops::Range<usize>) {
    let mut pool = Pool::new(PoolLimits::default());
    let mut block = pool.take(bytes.len() + 8).expect("within the bound");
    let range = 5..5 + bytes.len();
    block.bytes_mut().expect("nobody else has it")[range.clone()].copy_from_slice(bytes);
    (block, range)
}

/// Two drivers with a network between them.
struct Stage<D: Driver> {
    client: Side<D>,
    server: Side<D>,
    address: SocketAddr,
    nowhere: SocketAddr,
    wake: Wake,
    /// More bytes than the network of one connection holds.
    large: usize,
    /// Lets what is on its way go on.
    carry: Box<dyn FnMut()>,
}

impl<D: Driver> Stage<D> {
    /// Passes on both sides until it has happened.
    fn until(&mut self, what: &str, mut happened: impl FnMut(&mut Side<D>, &mut Side<D>) -> bool) {
        let patience = Instant::now() + PATIENCE;
        while !happened(&mut self.client, &mut self.server) {
            assert!(
                Instant::now() < patience,
                "{what} did not happen; told: {:?} {:?}",
                self.client.told,
                self.server.told
            );
            (self.carry)();
            self.client.pass();
            self.server.pass();
        }
    }

    /// Connects `key` on both sides.
    fn connect(&mut self, key: Key) {
        self.client.driver.connect(key, self.address).unwrap();
        let connected = format!("{key} connected Ok(())");
        self.until("connecting", |client, server| {
            client.has_told(&connected) && !server.incoming.is_empty()
        });
        self.server.adopt(key);
    }

    /// Whatever was on its way before this call has arrived when it returns: a fence sent on a connection that is
    /// otherwise silent.
    fn fence(&mut self, key: Key) {
        let heard = self.server.heard(key).len();
        self.client.send(key, b"|");
        self.until("the fence", |_, server| server.heard(key).len() > heard);
        self.server.pass();
    }

    /// What both sides have told since the last call.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for side in [&mut self.client, &mut self.server] {
            told.extend(side.told.drain(..).map(|what| format!("{}: {what}", side.name)));
        }
        told.sort();
        told
    }
}

/// Plays the whole script; answers what was told, step by step.
fn play<D: Driver>(stage: &mut Stage<D>) -> Vec<Vec<String>> {
    let mut told = Vec::new();
    const FENCE: Key = 9;

    // 2: one `Connected` for who dials, none for who adopts; a refusal is one too.
    stage.connect(FENCE);
    stage.connect(0);
    stage.client.driver.connect(1, stage.nowhere).unwrap();
    let refused = "1 connected Err(ConnectionRefused)";
    stage.until("a refusal", |client, _| client.has_told(refused));
    stage.client.driver.close(1, false);
    stage.fence(FENCE);
    told.push(stage.told());

    // 3 and 5: bytes go into what is lent; the block comes back when they are with the kernel.
    stage.client.send(0, b"over the sea");
    stage.until("receiving", |client, server| {
        server.heard(0) == b"over the sea" && client.has_told("0 sent")
    });
    told.push(stage.told());

    // 3: one read for each connection in a pass, however much is there.
    stage.connect(2);
    stage.server.memory.bytes = vec![0; 16];
    for key in [0, 2] {
        stage.server.driver.set_reading(key, false);
        stage.client.send(key, &[7; 200]);
    }
    stage.fence(FENCE);
    assert_eq!(
        stage.server.heard(0).len(),
        12,
        "3: nothing is read from a paused connection"
    );
    for key in [0, 2] {
        stage.server.driver.set_reading(key, true);
    }
    stage.until("many reads", |_, server| {
        let read = server.pass();
        assert!(read.iter().filter(|key| **key == 0).count() <= 1, "3: {read:?}");
        assert!(read.iter().filter(|key| **key == 2).count() <= 1, "3: {read:?}");
        server.heard(0).len() == 212 && server.heard(2).len() == 200
    });
    told.push(stage.told());

    // Without memory the bytes stay where they are.
    stage.server.memory.bytes.clear();
    stage.server.memory.asked.clear();
    stage.client.send(0, b"later");
    stage.until("asking for memory", |_, server| server.memory.asked.contains(&0));
    assert_eq!(stage.server.heard(0).len(), 212);
    stage.server.memory.bytes = vec![0; 65_536];
    stage.until("reading at last", |_, server| server.heard(0).ends_with(b"later"));
    told.push(stage.told());

    // 5: more than the network holds is sent as the peer reads, and given back once, at the end.
    let large: Vec<u8> = (0..stage.large).map(|index| (index % 251) as u8).collect();
    stage.server.driver.set_reading(2, false);
    stage.client.send(2, &large);
    stage.fence(FENCE);
    assert!(!stage.client.has_told("2 sent"));
    stage.server.driver.set_reading(2, true);
    stage.until("a large block", |client, server| {
        server.heard(2).len() == 200 + large.len() && client.has_told("2 sent")
    });
    assert!(stage.server.heard(2)[200..] == large[..]);
    told.push(stage.told());

    // 4: the end comes once, behind all bytes, and sending goes on.
    stage.client.send(0, b"the last");
    stage.until("sending", |client, _| client.has_told("0 sent"));
    stage.client.driver.shutdown_write(0);
    stage.until("the end of the stream", |_, server| {
        server.has_told("0 closed in order")
    });
    assert!(stage.server.heard(0).ends_with(b"the last"));
    stage.server.send(0, b"the answer");
    stage.until("an answer", |client, _| client.heard(0) == b"the answer");
    stage.server.driver.close(0, false);
    stage.until("its end", |client, _| client.has_told("0 closed in order"));
    stage.client.driver.close(0, false);
    stage.fence(FENCE);
    told.push(stage.told());

    // 1: a key that was closed says nothing more, and can be used again.
    stage.received_nothing_of_old(0);
    stage.connect(0);
    stage.client.send(0, b"anew");
    stage.until("the same key", |_, server| server.heard(0) == b"anew");
    told.push(stage.told());

    // 4: a reset is an error; and when it breaks a send, 5: the block is gone, and 6: the end is still told.
    stage.server.driver.set_reading(0, false);
    stage.client.send(0, &large);
    stage.fence(FENCE);
    stage.server.driver.close(0, true);
    stage.until("a reset", |client, _| client.has_told("0 closed by an error"));
    stage.client.driver.close(0, false);
    stage.fence(FENCE);
    told.push(stage.told());

    // 6: also to a side that does not read and has something to send.
    stage.client.driver.set_reading(2, false);
    stage.server.driver.set_reading(2, false);
    stage.client.send(2, &large);
    stage.fence(FENCE);
    stage.server.driver.close(2, true);
    stage.until("a reset that only a write meets", |client, _| {
        client.has_told("2 closed by an error")
    });
    stage.client.driver.close(2, false);
    stage.fence(FENCE);
    told.push(stage.told());

    // Accepting rests and goes on; what waits then is not lost.
    stage.server.driver.set_accepting(false);
    stage.client.driver.connect(3, stage.address).unwrap();
    stage.until("connecting to who does not accept", |client, _| {
        client.has_told("3 connected Ok(())")
    });
    stage.fence(FENCE);
    assert!(stage.server.incoming.is_empty());
    stage.server.driver.set_accepting(true);
    stage.until("accepting again", |_, server| !server.incoming.is_empty());
    // One that nobody adopts is closed.
    stage.server.incoming.clear();
    stage.until("the end of what nobody took", |client, _| {
        client.has_told("3 closed in order")
    });
    stage.client.driver.close(3, false);
    told.push(stage.told());

    // Without listeners there is nobody.
    stage.server.driver.close_listeners();
    stage.client.driver.connect(4, stage.address).unwrap();
    stage.until("a refusal", |client, _| {
        client.has_told("4 connected Err(ConnectionRefused)")
    });
    stage.client.driver.close(4, false);
    told.push(stage.told());

    // A wait without an end is woken.
    stage.wake.wake();
    stage.wake.wake();
    stage.server.driver.wait(None, None).unwrap();
    told
}

impl<D: Driver> Stage<D> {
    fn received_nothing_of_old(&mut self, key: Key) {
        self.server.received.remove(&key);
        self.client.received.remove(&key);
        self.client.pass();
        self.server.pass();
        assert!(self.server.heard(key).is_empty() && self.client.heard(key).is_empty());
    }
}

fn on_mio() -> Stage<MioDriver> {
    let bind = || Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = bind();
    let address = listener.local_addr().unwrap();
    // A port of this moment that nobody listens on any more.
    let nowhere = bind().local_addr().unwrap();
    let (server, wake) = MioDriver::new(vec![listener]).unwrap();
    let (client, _) = MioDriver::new(Vec::new()).unwrap();
    Stage {
        client: Side::new("client", client),
        server: Side::new("server", server),
        address,
        nowhere,
        wake,
        large: 24 * 1024 * 1024,
        carry: Box::new(|| {}),
    }
}

fn on_sim(seed: u64, faults: Faults) -> io::Result<Stage<SimDriver>> {
    let world = Rc::new(RefCell::new(World::new(seed, Instant::now())));
    world.borrow_mut().set_faults(faults);
    let address = SocketAddr::from(([10, 0, 0, 1], 1883));
    let (server, wake) = SimDriver::new(&world, vec![Listener::simulated(address)])?;
    let (client, _) = SimDriver::new(&world, Vec::new())?;
    let carry = move || {
        let mut world = world.borrow_mut();
        if let Some(next) = world.next_event_at() {
            world.advance(next);
        }
    };
    Ok(Stage {
        client: Side::new("client", client),
        server: Side::new("server", server),
        address,
        nowhere: SocketAddr::from(([10, 0, 0, 2], 1883)),
        wake,
        large: 256 * 1024,
        carry: Box::new(carry),
    })
}

#[test]
fn every_driver_tells_the_same() {
    let of_mio = play(&mut on_mio());
    let of_sim = play(&mut on_sim(1, Faults::none()).unwrap());
    assert_eq!(of_mio, of_sim);
    assert!(of_sim.iter().flatten().count() > 20, "{of_sim:?}");
}

/// Whatever a network may do without breaking a connection changes nothing of what is told.
#[test]
fn short_reads_and_full_sockets_tell_the_same_too() {
    let smooth = play(&mut on_sim(1, Faults::none()).unwrap());
    for seed in 0..4 {
        let mut faults = Faults::none();
        faults.short_read = 0.3;
        faults.short_write = 0.3;
        faults.read_would_block = 0.2;
        faults.write_would_block = 0.1;
        faults.jitter = Duration::from_millis(20);
        assert_eq!(play(&mut on_sim(seed, faults).unwrap()), smooth, "seed {seed}");
    }
}

#[test]
fn listeners_belong_to_their_network() {
    let simulated = Listener::simulated(([10, 0, 0, 1], 1883).into());
    assert!(MioDriver::new(vec![simulated]).is_err());
    let real = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let world = Rc::new(RefCell::new(World::new(0, Instant::now())));
    assert!(SimDriver::new(&world, vec![real]).is_err());
}
