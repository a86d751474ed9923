//! Blocks that are frozen, not to be had, or were another connection's before.

use super::*;

#[test]
fn a_frozen_hot_block_is_replaced() {
    let (mut pool, mut hot) = pool_and_hot();
    let expected = frame(2000, 1);
    receive(&mut hot, &[&expected[..], &expected[..30]].concat());
    hot.expose();
    let kept = hot.block().keep(next_frame(&hot).unwrap());
    hot.consume(kept.len());
    assert!(hot.spare().is_empty() && hot.sealed_bytes().is_empty());
    let mut parked = hot.park(&mut pool, Link::Plain, PACKET_LEN_MAX).unwrap().unwrap();
    hot.reset(&mut pool).unwrap();
    assert_eq!(hot.spare().len(), HOT_BLOCK_LEN);
    hot.spare().fill(0);
    assert_eq!(kept, expected);
    assert_eq!(pool.stats().bytes_retained, HOT_BLOCK_LEN as u64);
    // The connection goes on in its own block.
    receive(&mut parked, &expected[30..400]);
    parked.expose();
    assert_eq!(parked.next_frame(PACKET_LEN_MAX), Ok(None));
    drop(kept);
    assert_eq!(pool.stats().blocks_in_use, 2);
}

#[test]
fn a_frozen_parked_block_is_left_behind() {
    let (mut pool, mut hot) = pool_and_hot();
    let expected = frame(300, 1);
    receive(&mut hot, &expected[..10]);
    hot.expose();
    let mut parked = hot.park(&mut pool, Link::Plain, PACKET_LEN_MAX).unwrap().unwrap();
    receive(&mut parked, &[&expected[10..], &expected[..10]].concat());
    parked.expose();
    let frame = next_frame(&parked).unwrap();
    let kept = parked.block().keep(frame);
    assert_eq!(kept.as_ptr(), frame.as_ptr());
    parked.consume(kept.len());
    let mut parked = parked
        .repark(&mut pool, Link::Plain, PACKET_LEN_MAX)
        .unwrap()
        .unwrap();
    assert_eq!(pool.stats().bytes_parked, 512);
    receive(&mut parked, &expected[10..]);
    parked.expose();
    assert_eq!(frames(&mut parked), [&expected[..]]);
    assert_eq!(kept, expected);
}

#[test]
fn no_block_left_for_the_hot_buffer_is_an_overload() {
    let mut pool = Pool::new(PoolLimits {
        bytes_max: HOT_BLOCK_LEN as u64,
        ..PoolLimits::default()
    });
    let mut hot = RecvBuf::new(pool.take(HOT_BLOCK_LEN).unwrap());
    let kept = hot.block().keep(&hot.block().bytes()[..2000]);
    assert_eq!(hot.reset(&mut pool), Err(Overload::Memory));
    assert!(hot.spare().is_empty());
    drop(kept);
    assert_eq!(hot.reset(&mut pool), Ok(()));
    assert_eq!(hot.spare().len(), HOT_BLOCK_LEN);
}

#[test]
fn unparking_needs_a_clear_buffer() {
    let (mut pool, mut hot) = pool_and_hot();
    receive(&mut hot, &[0x30, 0x7f, 1]);
    hot.expose();
    let parked = hot.park(&mut pool, Link::Plain, PACKET_LEN_MAX).unwrap().unwrap();
    receive(&mut hot, &[0x30]);
    assert!(!hot.unpark(&parked));
    hot.reset(&mut pool).unwrap();
    let kept = hot.block().keep(&hot.block().bytes()[..2000]);
    assert!(!hot.unpark(&parked));
    drop(kept);
    assert!(hot.unpark(&parked));
    parked.release(&mut pool);
    assert_eq!(hot.sealed_bytes().len(), 0);
    assert_eq!(hot.bytes(0..3), [0x30, 0x7f, 1]);
    assert_eq!(pool.stats().bytes_parked, 0);
}

#[test]
fn the_bytes_of_the_connection_before_are_gone() {
    let (mut pool, mut hot) = pool_and_hot();
    receive(&mut hot, &frame(100, 1));
    hot.expose();
    hot.reset(&mut pool).unwrap();
    assert_eq!(hot.spare()[..100], [POISON; 100]);
}
