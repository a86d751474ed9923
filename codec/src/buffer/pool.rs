//! The blocks of one shard, by size class.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::Block;
use super::block::{Copied, Home};
use super::send::Queue;
use super::sync::{Arc, AtomicU64, Memory, Receiver, bounded, zeroed};

/// The blocks of one shard.
///
/// A pool is owned by its shard's thread; only blocks that were kept from come back from others, through a
/// bounded channel. Every block comes in one of a few sizes, except that more than the biggest is allocated as
/// exactly as it was asked for, and freed afterwards.
#[derive(Debug)]
pub struct Pool {
    free: [Vec<Block>; CLASSES.len()],
    arrivals: Receiver<Memory>,
    /// Empty ones, for connections whose output takes more than one block.
    queues: Vec<Queue>,
    home: Arc<Home>,
    limits: PoolLimits,
    blocks_taken: u64,
    bytes_taken: u64,
    blocks_put: u64,
    bytes_put: u64,
    /// Bytes allocated so far, less those that the pool freed itself.
    bytes_allocated: u64,
    blocks_in_use_max: u64,
    bytes_in_use_max: u64,
    takes_refused: u64,
}

impl Pool {
    /// A pool without any block yet.
    pub fn new(limits: PoolLimits) -> Self {
        let (sender, arrivals) = bounded(limits.blocks_coming_home_max.min(COMING_HOME_BOUND));
        let home = Home {
            sender,
            pooled_len_max: LARGEST,
            retain_len_min: limits.retain_len_min,
            bytes_retained_max: limits.bytes_retained_max,
            bytes_parked_max: limits.bytes_parked_max,
            retained: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            dropped_blocks: AtomicU64::new(0),
            dropped_bytes: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
            copied: Copied::default(),
        };
        Self {
            free: Default::default(),
            arrivals,
            queues: Vec::new(),
            home: Arc::new(home),
            limits,
            blocks_taken: 0,
            bytes_taken: 0,
            blocks_put: 0,
            bytes_put: 0,
            bytes_allocated: 0,
            blocks_in_use_max: 0,
            bytes_in_use_max: 0,
            takes_refused: 0,
        }
    }

    /// A writable block of at least `len_min` bytes; what is in it is arbitrary.
    ///
    /// `None` when it would pass [`PoolLimits::bytes_max`].
    pub fn take(&mut self, len_min: usize) -> Option<Block> {
        let block = match class_of(len_min) {
            Some(class) => match self.take_free(class) {
                Some(block) => Some(block),
                None => self.allocate(CLASSES[class].len),
            },
            None => self.allocate(len_min),
        };
        let Some(block) = block else {
            self.takes_refused += 1;
            return None;
        };
        self.blocks_taken += 1;
        self.bytes_taken += block.len() as u64;
        self.blocks_in_use_max = self.blocks_in_use_max.max(self.blocks_in_use());
        self.bytes_in_use_max = self.bytes_in_use_max.max(self.bytes_in_use());
        Some(block)
    }

    /// Whether [`take`](Self::take) would give a block now.
    pub fn has_room(&mut self, len_min: usize) -> bool {
        // Taking and putting back is the same question without a second set of rules; it costs no allocation when
        // there is a free block, and the new one is kept for the next `take` otherwise.
        self.take(len_min).map(|block| self.put(block)).is_some()
    }

    /// Takes a block back. One that something was kept from comes home later, by itself.
    pub fn put(&mut self, mut block: Block) {
        block.end_parking();
        if block.bytes_mut().is_none() || !self.owns(&block) {
            return;
        }
        self.blocks_put += 1;
        self.bytes_put += block.len() as u64;
        self.put_free(block);
    }

    /// What the pool holds and did, counted.
    pub fn stats(&self) -> PoolStats {
        // First: of a block that another thread frees meanwhile, no other counter may be older than this one.
        let bytes_allocated = self.bytes_allocated();
        let copied = &self.home.copied;
        PoolStats {
            blocks_in_use: self.blocks_in_use(),
            blocks_in_use_max: self.blocks_in_use_max,
            bytes_in_use: self.bytes_in_use(),
            bytes_in_use_max: self.bytes_in_use_max,
            bytes_allocated,
            bytes_parked: self.home.parked.load(Relaxed),
            bytes_retained: self.home.retained.load(Relaxed),
            bytes_joined: copied.joined.load(Relaxed),
            bytes_moved: copied.moved.load(Relaxed),
            bytes_kept_as_copy: copied.kept.load(Relaxed),
            takes_refused: self.takes_refused,
        }
    }

    pub(super) fn take_queue(&mut self) -> Queue {
        self.queues.pop().unwrap_or_default()
    }

    pub(super) fn put_queue(&mut self, queue: Queue) {
        if self.queues.len() < QUEUES_MAX && queue.capacity() <= QUEUE_LEN_MAX {
            self.queues.push(queue);
        }
    }

    /// How long the block is that [`take`](Self::take) gives for `len_min`.
    pub(super) fn block_len(len_min: usize) -> usize {
        class_of(len_min).map_or(len_min, |class| CLASSES[class].len)
    }

    fn take_free(&mut self, class: usize) -> Option<Block> {
        if self.free[class].is_empty() {
            self.welcome_arrivals();
        }
        self.free[class].pop()
    }

    /// A new block, made room for by freeing unused ones of other sizes.
    fn allocate(&mut self, len: usize) -> Option<Block> {
        u32::try_from(len).ok()?; // cursors are 32 bits wide
        if self.bytes_allocated() + len as u64 > self.limits.bytes_max {
            self.welcome_arrivals();
        }
        let fits = |pool: &Self| pool.bytes_allocated() + len as u64 <= pool.limits.bytes_max;
        while !fits(self) {
            let unused = self.free.iter_mut().rev().find_map(Vec::pop)?;
            self.release(unused);
        }
        self.bytes_allocated += len as u64;
        Some(Block::new(zeroed(len), Arc::clone(&self.home)))
    }

    fn welcome_arrivals(&mut self) {
        // At most as many as were in the channel at the start, so that other threads cannot keep the shard here.
        for _ in 0..self.arrivals.len() {
            let Ok(bytes) = self.arrivals.try_recv() else {
                break;
            };
            self.put_free(Block::new(bytes, Arc::clone(&self.home)));
        }
    }

    fn put_free(&mut self, block: Block) {
        let class = class_of(block.len()).filter(|&class| CLASSES[class].len == block.len());
        match class {
            Some(class) if self.free[class].len() < CLASSES[class].free_max => {
                self.free[class].push(block);
            }
            _ => self.release(block),
        }
    }

    fn release(&mut self, block: Block) {
        if let Some(bytes) = block.into_memory() {
            self.bytes_allocated -= bytes.len() as u64;
        }
    }

    fn owns(&self, block: &Block) -> bool {
        std::ptr::eq(block.home(), &*self.home)
    }

    fn blocks_in_use(&self) -> u64 {
        self.blocks_taken - self.blocks_put - self.home.dropped_blocks.load(Relaxed)
    }

    /// Bytes of the blocks that are in use: [`PoolStats::bytes_in_use`] alone.
    #[inline]
    pub fn bytes_in_use(&self) -> u64 {
        self.bytes_taken - self.bytes_put - self.home.dropped_bytes.load(Relaxed)
    }

    fn bytes_allocated(&self) -> u64 {
        self.bytes_allocated - self.home.freed_bytes.load(Acquire)
    }
}

/// The bounds of one shard's pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// The most bytes in blocks, used and unused; [`Pool::take`] gives none past it.
    pub bytes_max: u64,
    /// The most bytes in blocks that hold one connection's unfinished input; past it parking is an
    /// [`Overload::Parked`].
    pub bytes_parked_max: u64,
    /// The most bytes in blocks that are held by what was kept from them; past it [`Block::keep`] copies.
    pub bytes_retained_max: u64,
    /// A part below this many bytes is copied by [`Block::keep`] when its block is much bigger.
    pub retain_len_min: usize,
    /// The most blocks on their way home from [`Block::keep`]; past it they are freed where they are dropped. Room for
    /// them is allocated at once, so it is at most 65,536.
    pub blocks_coming_home_max: usize,
}

impl Default for PoolLimits {
    /// 256 MiB in all, of which 64 MiB for parked and 64 MiB for retained blocks.
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            bytes_parked_max: 64 << 20,
            bytes_retained_max: 64 << 20,
            retain_len_min: 1024,
            blocks_coming_home_max: 256,
        }
    }
}

/// What one pool holds and did. `_max` is the highest value so far; the copies are totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Blocks taken and not yet home, retained ones included.
    pub blocks_in_use: u64,
    /// The most blocks that were in use at once.
    pub blocks_in_use_max: u64,
    /// Bytes of the blocks in use.
    pub bytes_in_use: u64,
    /// The most bytes that were in use at once.
    pub bytes_in_use_max: u64,
    /// Bytes of all blocks, used and unused.
    pub bytes_allocated: u64,
    /// Bytes of blocks that hold one connection's unfinished input.
    pub bytes_parked: u64,
    /// Bytes of blocks that are held by what was kept from them.
    pub bytes_retained: u64,
    /// Payload bytes that were moved to join a frame from several TLS records.
    pub bytes_joined: u64,
    /// Bytes that were moved to park a partial frame or to give it room.
    pub bytes_moved: u64,
    /// Bytes that [`Block::keep`] copied instead of holding the block.
    pub bytes_kept_as_copy: u64,
    /// How often no block was given because of [`PoolLimits::bytes_max`].
    pub takes_refused: u64,
}

impl PoolStats {
    /// All bytes that were copied on their way in, for whatever reason. Whole frames add nothing to it.
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_joined + self.bytes_moved + self.bytes_kept_as_copy
    }
}

/// A bound of the pool was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overload {
    /// The shard's blocks hold all the memory that they may: [`PoolLimits::bytes_max`].
    Memory,
    /// The shard's connections hold all the unfinished input that they may: [`PoolLimits::bytes_parked_max`].
    Parked,
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "the shard's buffers hold all the memory that they may",
            Self::Parked => "the shard's connections hold all the unfinished input that they may",
        })
    }
}

impl std::error::Error for Overload {}

/// A block size, and how many unused blocks of it stay with the pool.
struct Class {
    len: usize,
    free_max: usize,
}

/// The block sizes, smallest first. All free lists full are 8.3 MiB.
const CLASSES: [Class; 6] = [
    // A partial frame of an ordinary device: 1 MiB unused at most.
    Class {
        len: 512,
        free_max: 2048,
    },
    // The output of a device between two sends, a partial frame of a few KiB: 2 MiB.
    Class {
        len: 4096,
        free_max: 512,
    },
    // A full TLS record, at most 16,384 + 2,048 + 5 bytes (RFC 5246 section 6.2.3), behind a partial frame: 2.3 MiB.
    Class {
        len: SEND_BLOCK_LEN,
        free_max: 128,
    },
    // The hot block of the shard, and those that take its place when it is kept from: 1 MiB.
    Class {
        len: HOT_BLOCK_LEN,
        free_max: 16,
    },
    // Halfway to the biggest: 640 KiB.
    Class {
        len: 160 * 1024,
        free_max: 4,
    },
    // A frame of the default packet limit, 256 KiB, and the record that ends it: 1.25 MiB.
    Class {
        len: LARGEST,
        free_max: 4,
    },
];

/// How many empty queues stay with the pool, and how long they may have been: 64 * 64 * 16 bytes are 64 KiB.
const QUEUES_MAX: usize = 64;
const QUEUE_LEN_MAX: usize = 64;
const COMING_HOME_BOUND: usize = 65_536;
/// The length of a shard's hot block, in bytes.
pub const HOT_BLOCK_LEN: usize = 65_536;
/// The length of a block of output of a busy connection, in bytes.
pub(super) const SEND_BLOCK_LEN: usize = 18_944;
const LARGEST: usize = 320 * 1024;

fn class_of(len_min: usize) -> Option<usize> {
    CLASSES.iter().position(|class| len_min <= class.len)
}

#[cfg(test)]
mod tests;
