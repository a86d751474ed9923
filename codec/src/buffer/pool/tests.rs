use super::*;

#[test]
fn the_smallest_class_that_fits_is_taken() {
    let mut pool = Pool::new(PoolLimits::default());
    for (len_min, len) in [
        (0, 512),
        (512, 512),
        (513, 4096),
        (4097, 18_944),
        (18_945, 65_536),
        (65_537, 163_840),
        (262_144, 327_680),
        (327_681, 327_681),
    ] {
        assert_eq!(pool.take(len_min).unwrap().len(), len);
    }
}

#[test]
fn blocks_are_used_again() {
    let mut pool = Pool::new(PoolLimits::default());
    let block = pool.take(512).unwrap();
    let address = block.bytes().as_ptr();
    pool.put(block);
    let block = pool.take(100).unwrap();
    assert_eq!(block.bytes().as_ptr(), address);
    // Also one that was dropped.
    drop(block);
    assert_eq!(pool.stats().blocks_in_use, 0);
    let block = pool.take(100).unwrap();
    assert_eq!(block.bytes().as_ptr(), address);
    let stats = pool.stats();
    assert_eq!((stats.blocks_in_use, stats.blocks_in_use_max), (1, 1));
    assert_eq!((stats.bytes_in_use, stats.bytes_allocated), (512, 512));
}

#[test]
fn the_bound_counts_unused_blocks_and_frees_them_first() {
    let mut pool = Pool::new(PoolLimits {
        bytes_max: 8192,
        ..PoolLimits::default()
    });
    let (one, two) = (pool.take(4096).unwrap(), pool.take(4096).unwrap());
    assert!(pool.take(1).is_none());
    assert_eq!(pool.stats().takes_refused, 1);
    pool.put(one);
    let small = pool.take(1).unwrap();
    assert_eq!(pool.stats().bytes_allocated, 4096 + 512);
    assert!(pool.take(4096).is_none());
    drop((two, small));
    assert!(pool.take(8193).is_none());
    assert!(pool.take(4096).is_some());
}

#[test]
fn what_lies_on_the_way_home_makes_room_too() {
    let mut pool = Pool::new(PoolLimits {
        bytes_max: LARGEST as u64 + 1,
        ..PoolLimits::default()
    });
    drop(pool.take(512).unwrap());
    assert!(pool.take(LARGEST + 1).is_some());
}

#[test]
fn unused_blocks_are_bounded() {
    let mut pool = Pool::new(PoolLimits::default());
    let blocks: Vec<_> = (0..6).map(|_| pool.take(LARGEST).unwrap()).collect();
    for block in blocks {
        pool.put(block);
    }
    assert_eq!(pool.stats().bytes_allocated, 4 * LARGEST as u64);
    assert_eq!(pool.stats().blocks_in_use, 0);
}

#[test]
fn above_the_biggest_class_nothing_is_pooled() {
    let mut pool = Pool::new(PoolLimits::default());
    let block = pool.take(LARGEST + 1).unwrap();
    pool.put(block);
    assert_eq!(pool.stats().bytes_allocated, 0);
    drop(pool.take(LARGEST + 1).unwrap());
    assert_eq!(pool.stats().bytes_allocated, 0);
    assert!(pool.take(usize::MAX).is_none());
}

#[test]
fn a_full_way_home_frees() {
    let mut pool = Pool::new(PoolLimits {
        blocks_coming_home_max: 1,
        ..PoolLimits::default()
    });
    let blocks = [pool.take(512).unwrap(), pool.take(512).unwrap()];
    drop(blocks);
    let stats = pool.stats();
    assert_eq!((stats.blocks_in_use, stats.bytes_allocated), (0, 512));
}

#[test]
fn a_way_home_without_end_has_one() {
    let mut pool = Pool::new(PoolLimits {
        blocks_coming_home_max: usize::MAX,
        ..PoolLimits::default()
    });
    drop(pool.take(512).unwrap());
    assert_eq!(pool.stats().blocks_in_use, 0);
}

#[test]
fn a_block_of_another_pool_goes_to_its_own() {
    let mut one = Pool::new(PoolLimits::default());
    let mut two = Pool::new(PoolLimits::default());
    two.put(one.take(512).unwrap());
    assert_eq!(one.stats().blocks_in_use, 0);
    assert_eq!(two.stats().bytes_allocated, 0);
    assert_eq!(two.take(512).unwrap().len(), 512);
    assert_eq!(one.stats().bytes_allocated, 512);
}

#[test]
fn a_pool_can_move_to_its_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Pool>();
    assert_send::<Block>();
}
