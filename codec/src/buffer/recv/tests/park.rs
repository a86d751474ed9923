//! Where the rest waits, how much room it gets, and when it goes back to the hot block.

use super::*;

#[test]
fn nothing_left_parks_nothing() {
    let (mut pool, mut hot) = pool_and_hot();
    receive(&mut hot, &frame(50, 1));
    hot.expose();
    assert_eq!(frames(&mut hot).len(), 1);
    assert!(
        hot.park(&mut pool, Link::Plain, PACKET_LEN_MAX)
            .unwrap()
            .is_none()
    );
    assert_eq!(pool.stats().blocks_in_use, 1);
    assert_eq!(pool.stats().bytes_copied(), 0);
}

#[test]
fn an_announced_frame_pins_only_what_came() {
    let (mut pool, mut hot) = pool_and_hot();
    let announced = frame(PACKET_LEN_MAX, 1);
    let mut slow = Vec::new();
    for _ in 0..1000 {
        receive(&mut hot, &announced[..10]);
        hot.expose();
        assert_eq!(hot.next_frame(PACKET_LEN_MAX), Ok(None));
        slow.extend(hot.park(&mut pool, Link::Plain, PACKET_LEN_MAX).unwrap());
        receive(&mut hot, &record(&announced[..10]));
        receive(&mut hot, &record(&announced[..16_384])[..10]);
        open(&mut hot).unwrap();
        slow.extend(hot.park(&mut pool, Link::Tls, PACKET_LEN_MAX).unwrap());
    }
    assert_eq!(pool.stats().bytes_parked, 2000 * 512);
    assert_eq!(pool.stats().bytes_moved, 1000 * (10 + 10 + 10));
    for parked in slow.drain(..1000) {
        parked.release(&mut pool);
    }
    assert_eq!(pool.stats().bytes_parked, 1000 * 512);
    drop(slow);
    assert_eq!(pool.stats().bytes_parked, 0);
    assert_eq!(pool.stats().blocks_in_use, 1);
}

#[test]
fn parking_is_bounded() {
    let mut pool = Pool::new(PoolLimits {
        bytes_parked_max: 1023,
        bytes_max: HOT_BLOCK_LEN as u64 + 1024,
        ..PoolLimits::default()
    });
    let mut hot = RecvBuf::new(pool.take(HOT_BLOCK_LEN).unwrap());
    let mut park = |pool: &mut Pool| {
        receive(&mut hot, &[0x30]);
        hot.expose();
        let parked = hot.park(pool, Link::Plain, PACKET_LEN_MAX);
        assert!(hot.is_drained());
        parked
    };
    let one = park(&mut pool).unwrap();
    assert_eq!(park(&mut pool).unwrap_err(), Overload::Parked);
    assert_eq!(pool.stats().bytes_parked, 512);
    let rest = pool.take(512).unwrap();
    assert_eq!(park(&mut pool).unwrap_err(), Overload::Memory);
    drop((one, rest));
    assert!(park(&mut pool).unwrap().is_some());
}

#[test]
fn moving_to_a_bigger_block_counts_one_of_the_two() {
    let mut pool = Pool::new(PoolLimits {
        bytes_parked_max: 4096,
        ..PoolLimits::default()
    });
    let mut hot = RecvBuf::new(pool.take(HOT_BLOCK_LEN).unwrap());
    let announced = frame(3000, 1);
    receive(&mut hot, &announced[..100]);
    hot.expose();
    let mut parked = hot.park(&mut pool, Link::Plain, PACKET_LEN_MAX).unwrap().unwrap();
    assert_eq!(pool.stats().bytes_parked, 512);
    receive(&mut parked, &announced[100..512]);
    parked.expose();
    let mut parked = parked
        .repark(&mut pool, Link::Plain, PACKET_LEN_MAX)
        .unwrap()
        .unwrap();
    assert_eq!(pool.stats().bytes_parked, 4096);
    receive(&mut parked, &announced[512..]);
    parked.expose();
    assert_eq!(frames(&mut parked), [&announced[..]]);
}

#[test]
fn under_tls_there_is_room_for_the_record_that_is_missing() {
    let (mut pool, mut hot) = pool_and_hot();
    receive(&mut hot, &record(&frame(1000, 1)[..400]));
    open(&mut hot).unwrap();
    let mut parked = hot.park(&mut pool, Link::Tls, PACKET_LEN_MAX).unwrap().unwrap();
    assert!(parked.spare().len() >= record(&[0; 600]).len());
}

#[test]
fn a_long_frame_grows_geometrically() {
    let expected = frame(250_000, 1);
    for link in [Link::Plain, Link::Tls] {
        let input = match link {
            Link::Plain => expected.clone(),
            Link::Tls => expected.chunks(16_384).flat_map(record).collect(),
        };
        for read_max in [300, 1460, 65_536] {
            let mut shard = Shard::new(link);
            let (frames, _) = shard.drain(&input, read_max);
            assert_eq!(frames, [&expected[..]]);
            assert!(shard.parked.is_none());
            let stats = shard.pool.stats();
            assert_eq!(stats.bytes_parked, 0);
            assert!(
                stats.bytes_moved < 2 * expected.len() as u64,
                "{link:?} {read_max} {stats:?}"
            );
            assert!(stats.bytes_joined <= expected.len() as u64);
        }
    }
}

#[test]
fn a_drip_of_tiny_records_into_a_full_block_stays_linear() {
    // Just fits its block, so that at the end there is room for a few records only.
    let expected = frame(18_900, 1);
    let input: Vec<_> = expected.iter().flat_map(|byte| record(&[*byte])).collect();
    for read_max in [10, 22, 24, 1000] {
        let mut shard = Shard::new(Link::Tls);
        let (frames, _) = shard.drain(&input, read_max);
        assert_eq!(frames, [&expected[..]]);
        let stats = shard.pool.stats();
        assert!(stats.bytes_joined <= expected.len() as u64);
        assert!(stats.bytes_moved < input.len() as u64 / 4, "{read_max} {stats:?}");
    }
}

#[test]
fn after_a_long_frame_the_big_block_is_given_back() {
    let mut shard = Shard::new(Link::Plain);
    let input = [frame(200_000, 1), frame(100, 2)].concat();
    let (frames, _) = shard.drain(&input[..200_010], 10_000);
    assert_eq!(frames.len(), 1);
    assert_eq!(shard.pool.stats().bytes_parked, 512);
    let (frames, _) = shard.drain(&input[200_010..], 10_000);
    assert_eq!(frames, [frame(100, 2)]);
}

#[test]
fn a_busy_connection_goes_back_to_the_hot_block() {
    let all: Vec<_> = (0..4000).map(|index| frame(1000, index as u8)).collect();
    for link in [Link::Plain, Link::Tls] {
        let plain = all.concat();
        let input = match link {
            Link::Plain => plain.clone(),
            Link::Tls => plain.chunks(4000).flat_map(record).collect(),
        };
        let mut shard = Shard::new(link);
        // Once it is parked in a small block, then everything comes as fast as it can be read.
        let (mut frames, _) = shard.drain(&input[..500], 500);
        assert_eq!(shard.pool.stats().bytes_parked, 4096);
        let (more, passes) = shard.drain(&input[500..], usize::MAX);
        frames.extend(more);
        assert_eq!(frames, all);
        assert!(passes < 75, "{passes} passes for {} bytes", input.len());
        assert!(shard.pool.stats().bytes_moved < input.len() as u64 / 5);
    }
}

#[test]
fn a_pause_keeps_whole_frames() {
    let all: Vec<_> = (0..20).map(|index| frame(700, index)).collect();
    for link in [Link::Plain, Link::Tls] {
        let plain = all.concat();
        let input = match link {
            Link::Plain => plain.clone(),
            Link::Tls => plain.chunks(450).flat_map(record).collect(),
        };
        let mut shard = Shard::new(link);
        let mut frames = Vec::new();
        let mut input = &input[..];
        shard.pass(&mut input, usize::MAX, 3, |frame, _| frames.push(frame.to_vec()));
        let moved = shard.pool.stats().bytes_moved;
        assert_eq!(moved, 17 * 700);
        assert_eq!(shard.pool.stats().bytes_parked, 18_944);
        // Resumed and paused again, frame by frame: they stay where they are, until a far smaller block does.
        for _ in 0..12 {
            shard.pass(&mut input, 0, 1, |frame, _| frames.push(frame.to_vec()));
        }
        assert!(shard.pool.stats().bytes_moved - moved <= 4096);
        shard.pass(&mut input, 0, usize::MAX, |frame, _| frames.push(frame.to_vec()));
        assert_eq!(frames, all);
        assert!(shard.parked.is_none());
    }
}
