//! What other threads may do to a pool's blocks, in every order that loom finds: they hold parts of blocks, read them,
//! and drop them, last or not, while the shard goes on.
//!
//! Explored are our reference counts, flags and counters with the orderings they are given, and that a block's memory
//! is written, used again or freed only after every reader of it is done. The channel home is modelled by what
//! crossbeam-channel promises, and the reference count inside `Bytes` is the real one: both have models of their own.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p fleetwire-codec --lib --target-dir target/loom buffer::threads
//! ```

use bytes::Bytes;
use loom::thread;

use super::sync::Arc;
use super::{Block, Pool, PoolLimits, PoolStats};

const LEN: usize = 512;

/// Explores all orders, with at most so many switches away from a thread that could go on.
fn explore(preemptions_max: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions_max));
    builder.check(model);
}

fn pool(blocks_coming_home_max: usize) -> Pool {
    Pool::new(PoolLimits {
        blocks_coming_home_max,
        ..PoolLimits::default()
    })
}

/// A block filled with `byte`.
fn filled(pool: &mut Pool, byte: u8) -> Block {
    let mut block = pool.take(LEN).unwrap();
    block.bytes_mut().unwrap().fill(byte);
    block
}

fn keep(block: &Block) -> Bytes {
    block.keep(block.bytes())
}

/// Reads what was kept, all of which must still be `byte`, and lets it go.
fn read_and_drop(kept: Bytes, byte: u8) {
    assert!(kept.iter().all(|found| *found == byte));
}

/// What holds in the middle of anything. A counter from which more was taken than had been added would overflow.
fn assert_sane(stats: PoolStats) {
    assert!(stats.bytes_in_use <= stats.bytes_allocated);
    assert!(stats.bytes_retained <= stats.bytes_allocated);
    assert!(stats.bytes_parked <= stats.bytes_allocated);
}

fn assert_all_home(pool: &Pool, allocated: usize) {
    let stats = pool.stats();
    assert_eq!((stats.blocks_in_use, stats.bytes_in_use), (0, 0));
    assert_eq!((stats.bytes_retained, stats.bytes_parked), (0, 0));
    assert_eq!(stats.bytes_allocated, allocated as u64);
}

#[test]
fn a_block_is_written_only_when_its_readers_are_done() {
    explore(5, || {
        let mut pool = pool(4);
        let mut block = filled(&mut pool, 1);
        let kept = keep(&block);
        let reader = thread::spawn(move || read_and_drop(kept, 1));
        if let Some(bytes) = block.bytes_mut() {
            bytes.fill(2);
            assert!(!block.is_retained());
        }
        assert_sane(pool.stats());
        pool.put(block);
        reader.join().unwrap();
        // Whether the shard put it back or the reader sent it home, it is the one block that there is.
        filled(&mut pool, 3);
        assert_all_home(&pool, LEN);
    });
}

#[test]
fn a_block_goes_home_once_whoever_drops_it_last() {
    explore(3, || {
        let mut pool = pool(4);
        let block = filled(&mut pool, 1);
        let (one, two) = (keep(&block), keep(&block));
        let readers = [one, two].map(|kept| thread::spawn(move || read_and_drop(kept, 1)));
        pool.put(block);
        assert_sane(pool.stats());
        // Another one or the same one, written while the readers read.
        let other = filled(&mut pool, 2);
        pool.put(other);
        for reader in readers {
            reader.join().unwrap();
        }
        let allocated = pool.stats().bytes_allocated as usize;
        assert!(allocated == LEN || allocated == 2 * LEN);
        assert_all_home(&pool, allocated);
    });
}

#[test]
fn a_full_way_home_frees_and_both_are_counted() {
    explore(2, || {
        let mut pool = pool(1);
        let blocks = [filled(&mut pool, 1), filled(&mut pool, 1)];
        let readers = blocks.map(|block| {
            let kept = keep(&block);
            pool.put(block);
            thread::spawn(move || read_and_drop(kept, 1))
        });
        let other = filled(&mut pool, 2);
        assert_sane(pool.stats());
        pool.put(other);
        for reader in readers {
            reader.join().unwrap();
        }
        let allocated = pool.stats().bytes_allocated as usize;
        assert!((LEN..=3 * LEN).contains(&allocated));
        assert_all_home(&pool, allocated);
    });
}

#[test]
fn the_bound_on_memory_holds_while_blocks_come_home() {
    explore(3, || {
        let mut pool = Pool::new(PoolLimits {
            bytes_max: 2 * LEN as u64,
            blocks_coming_home_max: 1,
            ..PoolLimits::default()
        });
        let blocks = [filled(&mut pool, 1), filled(&mut pool, 1)];
        let readers = blocks.map(|block| {
            let kept = keep(&block);
            pool.put(block);
            thread::spawn(move || read_and_drop(kept, 1))
        });
        let third = pool.take(LEN);
        assert!(pool.stats().bytes_allocated <= 2 * LEN as u64);
        for reader in readers {
            reader.join().unwrap();
        }
        // Now there is room, whichever way they went.
        assert!(third.is_some() || pool.take(LEN).is_some());
    });
}

#[test]
fn a_pool_may_end_before_its_blocks() {
    // Loom fails if the pool's end of the way home, or a block, were left over.
    explore(5, || {
        let mut pool = pool(4);
        let block = filled(&mut pool, 1);
        let kept = keep(&block);
        let reader = thread::spawn(move || read_and_drop(kept, 1));
        pool.put(block);
        drop(pool);
        reader.join().unwrap();
    });
}

#[test]
fn keeping_from_two_threads_counts_the_block_once() {
    explore(3, || {
        let mut pool = pool(4);
        let block = Arc::new(filled(&mut pool, 1));
        let same = Arc::clone(&block);
        let other = thread::spawn(move || {
            let kept = keep(&same);
            drop(same);
            read_and_drop(kept, 1);
        });
        let kept = keep(&block);
        assert!(pool.stats().bytes_retained <= LEN as u64);
        drop(block);
        read_and_drop(kept, 1);
        other.join().unwrap();
        assert_all_home(&pool, LEN);
    });
}

#[test]
fn a_parked_block_may_end_on_another_thread() {
    explore(5, || {
        let mut pool = pool(4);
        let block = filled(&mut pool, 1);
        assert!(block.begin_parking());
        let kept = keep(&block);
        let other = thread::spawn(move || drop(block));
        assert!(pool.stats().bytes_parked <= LEN as u64);
        read_and_drop(kept, 1);
        other.join().unwrap();
        filled(&mut pool, 2);
        assert_all_home(&pool, LEN);
    });
}
