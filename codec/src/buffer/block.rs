//! One block of memory that can be lent to readers on other threads and finds its way home.

use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::atomic::Ordering::{Relaxed, Release};

use bytes::Bytes;

use super::sync::{Arc, AtomicBool, AtomicU64, Memory, Sender};

/// A block of bytes from a [`Pool`](super::Pool).
///
/// A block is written by its one owner and lent out from there. [`keep`](Self::keep) freezes it: as long as
/// anything kept lives, the block cannot be written again. The memory goes home to its pool when the block and
/// everything kept from it are gone, whichever thread drops the last of them.
pub struct Block {
    slot: Arc<Slot>,
}

/// Without the bytes: what has been read into a shared block may be of any connection.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len())
            .field("is_retained", &self.is_retained())
            .finish_non_exhaustive()
    }
}

impl Block {
    pub(super) fn new(bytes: Memory, home: Arc<Home>) -> Self {
        let slot = Slot {
            bytes,
            home,
            retained: AtomicBool::new(false),
            parked: AtomicBool::new(false),
        };
        Self { slot: Arc::new(slot) }
    }

    /// The whole block.
    pub fn bytes(&self) -> &[u8] {
        &self.slot.bytes
    }

    /// The whole block for writing; `None` while something kept from it lives.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let slot = Arc::get_mut(&mut self.slot)?;
        // Being the only holder again means that all that was kept is gone.
        slot.end_retention();
        Some(&mut slot.bytes)
    }

    /// The number of bytes in the block.
    #[allow(clippy::len_without_is_empty, reason = "a block of the pool is never empty")]
    pub fn len(&self) -> usize {
        self.slot.bytes.len()
    }

    /// Whether something kept from this block lives, so that it cannot be written.
    pub fn is_retained(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }

    /// Keeps `part`, a slice of this block, beyond the block's next use.
    ///
    /// Normally this copies nothing: the returned [`Bytes`] holds the block, at the price of one small
    /// allocation. It copies, and counts that in
    /// [`PoolStats::bytes_kept_as_copy`](super::PoolStats::bytes_kept_as_copy), where holding the block would
    /// cost too much: when the part is below [`PoolLimits::retain_len_min`](super::PoolLimits::retain_len_min) in
    /// a much bigger block, when the shard's blocks would pass
    /// [`PoolLimits::bytes_retained_max`](super::PoolLimits::bytes_retained_max), and when `part` does not lie in
    /// this block at all.
    pub fn keep(&self, part: &[u8]) -> Bytes {
        if part.is_empty() {
            return Bytes::new();
        }
        match self.range_of(part) {
            Some(range) if self.worth_retaining(part.len()) && self.slot.begin_retention() => {
                Bytes::from_owner(Kept {
                    slot: Arc::clone(&self.slot),
                    range,
                })
            }
            _ => {
                self.home().copied.kept.fetch_add(part.len() as u64, Relaxed);
                Bytes::copy_from_slice(part)
            }
        }
    }

    /// Where `part` lies in this block, if it does.
    fn range_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.bytes().as_ptr().addr())?;
        let end = start.checked_add(part.len())?;
        (end <= self.len()).then_some(start..end)
    }

    fn worth_retaining(&self, len: usize) -> bool {
        len >= self.home().retain_len_min || self.len() / RETAIN_SHARE_MIN <= len
    }

    /// Counts this block as parked, until it is put back or dropped. False if it would pass the shard's bound.
    pub(super) fn begin_parking(&self) -> bool {
        let home = self.home();
        let within = home.parked.load(Relaxed) + self.len() as u64 <= home.bytes_parked_max;
        if within && !self.slot.parked.swap(true, Relaxed) {
            home.parked.fetch_add(self.len() as u64, Relaxed);
        }
        within
    }

    pub(super) fn end_parking(&self) {
        if self.slot.parked.load(Relaxed) && self.slot.parked.swap(false, Relaxed) {
            self.home().parked.fetch_sub(self.len() as u64, Relaxed);
        }
    }

    /// Takes the memory out for good; `None` while something kept from the block lives.
    pub(super) fn into_memory(mut self) -> Option<Memory> {
        self.end_parking();
        let slot = Arc::get_mut(&mut self.slot)?;
        slot.end_retention();
        Some(mem::take(&mut slot.bytes))
    }

    pub(super) fn home(&self) -> &Home {
        &self.slot.home
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.end_parking();
    }
}

/// A part of a block that outlives the block's owner; the `Bytes` of [`Block::keep`] owns it.
struct Kept {
    slot: Arc<Slot>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // The range was found inside the block when this was made, and a slot's bytes never shrink.
        self.slot.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// The memory and its way home, shared by a block and what is kept from it.
struct Slot {
    /// Empty only after the pool has taken the memory out.
    bytes: Memory,
    home: Arc<Home>,
    /// Whether this block counts as retained.
    retained: AtomicBool,
    /// Whether this block counts as parked.
    parked: AtomicBool,
}

impl Slot {
    /// Counts this block as retained, once. False if it would pass the shard's bound.
    fn begin_retention(&self) -> bool {
        if self.retained.load(Relaxed) {
            return true;
        }
        let len = self.bytes.len() as u64;
        if self.home.retained.load(Relaxed) + len > self.home.bytes_retained_max {
            return false;
        }
        if !self.retained.swap(true, Relaxed) {
            self.home.retained.fetch_add(len, Relaxed);
        }
        true
    }

    /// For the only holder, who knows that nothing is kept any more.
    fn end_retention(&self) {
        if self.retained.load(Relaxed) {
            self.retained.store(false, Relaxed);
            let len = self.bytes.len() as u64;
            self.home.retained.fetch_sub(len, Relaxed);
        }
    }
}

/// Runs once, on the thread of the last holder: the `Arc` sees to both.
impl Drop for Slot {
    fn drop(&mut self) {
        self.end_retention();
        let bytes = mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            self.home.receive(bytes);
        }
    }
}

/// The pool's end that blocks carry with them: the way home, the counters, and the bounds of keeping.
///
/// All counters are statistics or soft bounds of one shard, and none of them orders memory: `Relaxed` suffices, but for
/// `freed_bytes`, so that who sees that a block was freed sees it leave all other counters too.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) sender: Sender<Memory>,
    /// Blocks longer than this are not worth a place in the channel: the pool would free them.
    pub(super) pooled_len_max: usize,
    pub(super) retain_len_min: usize,
    pub(super) bytes_retained_max: u64,
    pub(super) bytes_parked_max: u64,
    /// Bytes of blocks that something kept holds.
    pub(super) retained: AtomicU64,
    /// Bytes of blocks that hold what one connection has not finished sending.
    pub(super) parked: AtomicU64,
    /// Blocks that ended without being put back, and their bytes.
    pub(super) dropped_blocks: AtomicU64,
    pub(super) dropped_bytes: AtomicU64,
    /// Bytes of those that were freed because the way home was full or the pool gone.
    pub(super) freed_bytes: AtomicU64,
    pub(super) copied: Copied,
}

/// Bytes that were copied, by reason.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Moved left to join a frame that lay in several records.
    pub(super) joined: AtomicU64,
    /// Moved to park or to make room.
    pub(super) moved: AtomicU64,
    /// Copied because keeping the block was not worth it or not possible.
    pub(super) kept: AtomicU64,
}

impl Home {
    /// Takes the memory of a dropped block: into the channel, or freed when that is full or the pool is gone.
    fn receive(&self, bytes: Memory) {
        let len = bytes.len() as u64;
        self.dropped_blocks.fetch_add(1, Relaxed);
        self.dropped_bytes.fetch_add(len, Relaxed);
        if bytes.len() > self.pooled_len_max || self.sender.try_send(bytes).is_err() {
            self.freed_bytes.fetch_add(len, Release);
        }
    }
}

/// A part of at least one in this many of its block is worth holding the block for, however small it is.
const RETAIN_SHARE_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::{Pool, PoolLimits};

    #[test]
    fn keeping_holds_the_block_and_copies_nothing() {
        let mut pool = Pool::new(PoolLimits::default());
        let mut block = pool.take(4096).unwrap();
        block.bytes_mut().unwrap()[100..1124].fill(7);
        let kept = block.keep(&block.bytes()[100..1124]);
        assert_eq!(kept.as_ptr(), block.bytes()[100..].as_ptr());
        assert_eq!(kept, [7; 1024][..]);
        assert!(block.is_retained());
        assert!(block.bytes_mut().is_none());
        assert_eq!(pool.stats().bytes_retained, 4096);
        assert_eq!(pool.stats().bytes_copied(), 0);
        drop(kept);
        assert!(block.bytes_mut().is_some());
        assert_eq!(pool.stats().bytes_retained, 0);
    }

    #[test]
    fn a_block_kept_twice_counts_once() {
        let mut pool = Pool::new(PoolLimits::default());
        let block = pool.take(512).unwrap();
        let first = block.keep(&block.bytes()[..300]);
        let second = block.keep(&block.bytes()[300..]);
        assert_eq!(pool.stats().bytes_retained, 512);
        drop(first);
        assert_eq!(pool.stats().bytes_retained, 512);
        let third = block.keep(&block.bytes()[..300]);
        assert_eq!(pool.stats().bytes_retained, 512);
        drop((second, third, block));
        assert_eq!(pool.stats().bytes_retained, 0);
        assert_eq!(pool.stats().blocks_in_use, 0);
    }

    #[test]
    fn a_small_part_of_a_big_block_is_copied() {
        let mut pool = Pool::new(PoolLimits::default());
        let block = pool.take(65_536).unwrap();
        let kept = block.keep(&block.bytes()[..1023]);
        assert!(!block.is_retained());
        assert_eq!(kept.len(), 1023);
        assert_eq!(pool.stats().bytes_kept_as_copy, 1023);
        let kept = block.keep(&block.bytes()[..1024]);
        assert!(block.is_retained());
        assert_eq!(pool.stats().bytes_kept_as_copy, 1023);
        drop(kept);

        // In a block of its own size even a small part is worth it.
        let small = pool.take(512).unwrap();
        let kept = small.keep(&small.bytes()[..64]);
        assert!(small.is_retained());
        assert_eq!(kept.len(), 64);
    }

    #[test]
    fn past_the_bound_keeping_copies() {
        let mut pool = Pool::new(PoolLimits {
            bytes_retained_max: 4096 + 511,
            ..PoolLimits::default()
        });
        let (one, two) = (pool.take(4096).unwrap(), pool.take(512).unwrap());
        let first = one.keep(one.bytes());
        let second = two.keep(two.bytes());
        assert!(one.is_retained() && !two.is_retained());
        assert_eq!(pool.stats().bytes_kept_as_copy, 512);
        drop((first, one));
        let third = two.keep(two.bytes());
        assert!(two.is_retained());
        assert_eq!(second, third);
    }

    #[test]
    fn a_foreign_slice_and_an_empty_one_are_answered() {
        let mut pool = Pool::new(PoolLimits::default());
        let block = pool.take(512).unwrap();
        assert_eq!(block.keep(b"elsewhere"), b"elsewhere"[..]);
        assert!(block.keep(&block.bytes()[512..]).is_empty());
        // One of the two lies above the other in memory.
        let other = pool.take(512).unwrap();
        assert_eq!(block.keep(other.bytes()), *other.bytes());
        assert_eq!(other.keep(block.bytes()), *block.bytes());
        assert!(!block.is_retained() && !other.is_retained());
        assert_eq!(pool.stats().bytes_kept_as_copy, 9 + 2 * 512);
    }

    #[test]
    fn blocks_come_home_from_another_thread() {
        let mut pool = Pool::new(PoolLimits::default());
        let block = pool.take(4096).unwrap();
        let address = block.bytes().as_ptr().addr();
        let kept = block.keep(block.bytes());
        pool.put(block);
        assert_eq!(pool.stats().blocks_in_use, 1);
        assert_eq!(pool.stats().bytes_retained, 4096);
        let other = pool.take(4096).unwrap();
        assert_ne!(other.bytes().as_ptr().addr(), address);

        thread::spawn(move || drop(kept)).join().unwrap();
        assert_eq!(pool.stats().bytes_retained, 0);
        assert_eq!(pool.stats().blocks_in_use, 1);
        let again = pool.take(4096).unwrap();
        assert_eq!(again.bytes().as_ptr().addr(), address);
    }

    #[test]
    fn the_last_of_many_threads_brings_it_home_once() {
        let mut pool = Pool::new(PoolLimits::default());
        for _ in 0..50 {
            let block = pool.take(512).unwrap();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let kept = block.keep(block.bytes());
                    thread::spawn(move || drop(kept))
                })
                .collect();
            pool.put(block);
            for thread in threads {
                thread.join().unwrap();
            }
            let stats = pool.stats();
            assert_eq!((stats.blocks_in_use, stats.bytes_retained), (0, 0));
            assert_eq!(stats.bytes_allocated, 512);
        }
    }

    #[test]
    fn what_is_kept_outlives_the_pool() {
        let mut pool = Pool::new(PoolLimits::default());
        let mut block = pool.take(512).unwrap();
        block.bytes_mut().unwrap().fill(9);
        let kept = block.keep(block.bytes());
        drop(pool);
        drop(block);
        assert_eq!(kept, [9; 512][..]);
    }
}
