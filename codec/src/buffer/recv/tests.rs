//! Receiving as a connection does it: read, open, parse, park, with records and reads cut anywhere.

use std::mem::size_of;

use super::super::{HOT_BLOCK_LEN, PoolLimits};
use super::*;

mod any;

const PACKET_LEN_MAX: usize = 256 * 1024;

/// A PUBLISH of `len` bytes in all, whose body tells it from others.
fn frame(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0x30];
    let header_len = (2..=5)
        .find(|header_len| len - header_len < 1 << (7 * (header_len - 1)))
        .unwrap();
    let mut remaining = len - header_len;
    for index in 1..header_len {
        let more = if index + 1 < header_len { 0x80 } else { 0 };
        bytes.push((remaining % 128) as u8 | more);
        remaining /= 128;
    }
    bytes.extend((header_len..len).map(|index| (index as u8).wrapping_mul(31) ^ seed));
    bytes
}

/// A record that is "encrypted" enough to notice when it is not opened, or opened twice.
fn record(plain: &[u8]) -> Vec<u8> {
    let mut bytes = vec![23, 3, 3];
    bytes.extend(((plain.len() + TAG_LEN) as u16).to_be_bytes());
    bytes.extend(plain.iter().map(|byte| byte ^ 0x55));
    bytes.extend([0xee; TAG_LEN]);
    bytes
}

const TAG_LEN: usize = 17;

fn receive(buf: &mut RecvBuf, bytes: &[u8]) {
    buf.spare()[..bytes.len()].copy_from_slice(bytes);
    buf.advance_received(bytes.len());
}

/// Opens every whole record that was received.
fn open(buf: &mut RecvBuf) -> Result<(), DecodeError> {
    loop {
        let sealed = buf.sealed_bytes();
        let [_, _, _, high, low, ..] = *sealed else {
            return Ok(());
        };
        let end = 5 + usize::from(u16::from_be_bytes([high, low]));
        if sealed.len() < end {
            return Ok(());
        }
        let plain = 5..end - TAG_LEN;
        sealed[plain.clone()].iter_mut().for_each(|byte| *byte ^= 0x55);
        buf.opened(end, plain, PACKET_LEN_MAX)?;
    }
}

/// All whole frames, consumed.
fn frames(buf: &mut RecvBuf) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(range) = buf.next_frame(PACKET_LEN_MAX).unwrap() {
        frames.push(buf.bytes(range.clone()).to_vec());
        buf.consume(range.len());
    }
    frames
}

fn pool_and_hot() -> (Pool, RecvBuf) {
    let mut pool = Pool::new(PoolLimits::default());
    let hot = RecvBuf::new(pool.take(HOT_BLOCK_LEN).unwrap());
    (pool, hot)
}

/// One connection and its shard, driven as the engine does it.
struct Shard {
    pool: Pool,
    hot: RecvBuf,
    parked: Option<RecvBuf>,
    link: Link,
}

impl Shard {
    fn new(link: Link) -> Self {
        let (pool, hot) = pool_and_hot();
        Self {
            pool,
            hot,
            parked: None,
            link,
        }
    }

    /// One pass: reads at most `read_max` bytes of `input`, and delivers at most `frames_max` frames.
    fn pass(
        &mut self,
        input: &mut &[u8],
        read_max: usize,
        frames_max: usize,
        mut deliver: impl FnMut(&[u8], &Block),
    ) {
        self.hot.reset(&mut self.pool).unwrap();
        if let Some(parked) = self.parked.take_if(|parked| parked.wants_hot()) {
            assert!(self.hot.unpark(&parked));
            parked.release(&mut self.pool);
        }
        let buf = self.parked.as_mut().unwrap_or(&mut self.hot);
        let spare = buf.spare();
        let len = spare.len().min(read_max).min(input.len());
        assert!(
            len > 0 || read_max == 0 || input.is_empty(),
            "there is always room to read"
        );
        let (read, rest) = input.split_at(len);
        *input = rest;
        spare[..len].copy_from_slice(read);
        buf.advance_received(len);
        match self.link {
            Link::Plain => buf.expose(),
            Link::Tls => open(buf).unwrap(),
        }
        for _ in 0..frames_max {
            let Some(range) = buf.next_frame(PACKET_LEN_MAX).unwrap() else {
                break;
            };
            deliver(buf.bytes(range.clone()), buf.block());
            buf.consume(range.len());
        }
        self.parked = match self.parked.take() {
            Some(parked) => parked.repark(&mut self.pool, self.link, PACKET_LEN_MAX).unwrap(),
            None => self.hot.park(&mut self.pool, self.link, PACKET_LEN_MAX).unwrap(),
        };
        if let Some(parked) = &self.parked {
            assert!(!parked.runs.owns_memory());
            assert!(!parked.is_drained());
        }
    }

    /// Passes until all is read; the frames.
    fn drain(&mut self, mut input: &[u8], read_max: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut frames, mut passes) = (Vec::new(), 0);
        let passes_max = 100 + 2 * input.len();
        while !input.is_empty() {
            self.pass(&mut input, read_max, usize::MAX, |frame, _| {
                frames.push(frame.to_vec())
            });
            passes += 1;
            assert!(passes < passes_max, "it comes to an end");
        }
        (frames, passes)
    }
}

#[test]
fn it_is_small() {
    assert!(size_of::<Option<RecvBuf>>() <= 72);
}

#[test]
fn whole_frames_are_lent_from_the_block_that_the_driver_filled() {
    let input: Vec<_> = (0..9)
        .map(|seed| frame(100 * usize::from(seed) + 2, seed))
        .collect();
    for link in [Link::Plain, Link::Tls] {
        let (pool, mut hot) = pool_and_hot();
        let filled = hot.spare().as_ptr_range();
        for frame in &input {
            match link {
                Link::Plain => receive(&mut hot, frame),
                Link::Tls => receive(&mut hot, &record(frame)),
            }
        }
        match link {
            Link::Plain => hot.expose(),
            Link::Tls => open(&mut hot).unwrap(),
        }
        for expected in &input {
            let range = hot.next_frame(PACKET_LEN_MAX).unwrap().unwrap();
            let payload = hot.bytes(range.clone());
            assert!(filled.contains(&payload.as_ptr()));
            assert_eq!(payload, expected);
            hot.consume(range.len());
        }
        assert_eq!(hot.next_frame(PACKET_LEN_MAX), Ok(None));
        assert!(hot.is_drained());
        assert_eq!(pool.stats().bytes_copied(), 0);
    }
}

#[test]
fn a_frame_over_many_records_moves_each_byte_once() {
    for records in [1, 8, 64] {
        let (pool, mut hot) = pool_and_hot();
        let expected = frame(16_000, 1);
        let part_len = expected.len() / records;
        for part in expected.chunks(part_len) {
            receive(&mut hot, &record(part));
        }
        open(&mut hot).unwrap();
        assert_eq!(frames(&mut hot), [&expected[..]]);
        // The first record's part stays where it is.
        assert_eq!(pool.stats().bytes_copied(), (expected.len() - part_len) as u64);
    }
}

#[test]
fn a_drip_of_tiny_records_stays_linear() {
    let (pool, mut hot) = pool_and_hot();
    let expected = [frame(1000, 1), frame(2, 2), frame(1000, 3)];
    let input = expected.concat();
    for byte in &input {
        receive(&mut hot, &record(&[*byte]));
        open(&mut hot).unwrap();
    }
    assert_eq!(frames(&mut hot), expected);
    assert_eq!(pool.stats().bytes_copied(), (input.len() - expected.len()) as u64);
}

#[test]
fn only_the_straddling_frame_moves() {
    let (pool, mut hot) = pool_and_hot();
    let (first, second, third) = (frame(300, 1), frame(400, 2), frame(500, 3));
    receive(&mut hot, &record(&first[..100]));
    receive(
        &mut hot,
        &record(&[&first[100..], &second, &third[..450]].concat()),
    );
    receive(&mut hot, &record(&[&third[450..], &first[..]].concat()));
    open(&mut hot).unwrap();
    assert_eq!(frames(&mut hot), [&first[..], &second, &third, &first]);
    assert_eq!(pool.stats().bytes_joined, 200 + 50);
    assert!(hot.is_drained());
}

#[test]
fn a_fixed_header_may_be_cut() {
    let expected = frame(20_000, 1);
    for cut in 1..5 {
        let (pool, mut hot) = pool_and_hot();
        receive(&mut hot, &record(&expected[..cut]));
        receive(&mut hot, &record(&expected[cut..cut + 1]));
        receive(&mut hot, &record(&expected[cut + 1..15_000]));
        receive(&mut hot, &record(&expected[15_000..]));
        open(&mut hot).unwrap();
        assert_eq!(frames(&mut hot), [&expected[..]]);
        assert_eq!(pool.stats().bytes_joined, (expected.len() - cut) as u64);
    }
}

#[test]
fn records_without_plaintext_are_passed_over() {
    let (_, mut hot) = pool_and_hot();
    let expected = frame(50, 1);
    receive(&mut hot, &record(&expected[..20]));
    receive(&mut hot, &record(&[]));
    open(&mut hot).unwrap();
    let ticket = record(b"not for MQTT");
    receive(&mut hot, &ticket);
    hot.skipped(ticket.len());
    receive(&mut hot, &record(&expected[20..]));
    open(&mut hot).unwrap();
    assert_eq!(frames(&mut hot), [&expected[..]]);
    assert!(hot.is_drained());
}

#[test]
fn what_is_whole_comes_before_what_is_malformed() {
    let malformed = [0x30, 0xff, 0xff, 0xff, 0xff];
    let expected = frame(50, 1);
    let (_, mut hot) = pool_and_hot();
    receive(&mut hot, &[&expected[..], &malformed].concat());
    hot.expose();
    assert_eq!(hot.next_frame(PACKET_LEN_MAX), Ok(Some(0..50)));
    hot.consume(50);
    assert_eq!(
        hot.next_frame(PACKET_LEN_MAX),
        Err(DecodeError::RemainingLengthTooLong)
    );

    let (_, mut hot) = pool_and_hot();
    receive(&mut hot, &record(&[&expected[..], &malformed[..2]].concat()));
    receive(&mut hot, &record(&malformed[2..]));
    receive(&mut hot, &record(&expected));
    assert_eq!(open(&mut hot), Err(DecodeError::RemainingLengthTooLong));
    // Going on all the same does not change it.
    assert_eq!(open(&mut hot), Err(DecodeError::RemainingLengthTooLong));
    let range = hot.next_frame(PACKET_LEN_MAX).unwrap().unwrap();
    assert_eq!(hot.bytes(range), expected);
    hot.consume(50);
    assert_eq!(
        hot.next_frame(PACKET_LEN_MAX),
        Err(DecodeError::RemainingLengthTooLong)
    );
}

#[test]
fn a_frame_that_is_too_long_is_refused_by_its_header() {
    let (_, mut hot) = pool_and_hot();
    receive(&mut hot, &record(&frame(200, 1)[..2]));
    let sealed_len = hot.sealed_bytes().len();
    hot.sealed_bytes()[5..7].iter_mut().for_each(|byte| *byte ^= 0x55);
    let outcome = hot.opened(sealed_len, 5..7, 1000);
    assert_eq!(outcome, Ok(()));
    receive(&mut hot, &record(&[1]));
    let outcome = hot.opened(23, 5..6, 100);
    assert_eq!(outcome, Err(DecodeError::PacketTooLarge));
}

#[test]
fn lengths_out_of_bounds_are_clamped() {
    let (_, mut hot) = pool_and_hot();
    hot.advance_received(usize::MAX);
    assert!(hot.spare().is_empty());
    hot.skipped(10);
    assert_eq!(
        hot.opened(usize::MAX, usize::MAX - 1..usize::MAX, PACKET_LEN_MAX),
        Ok(())
    );
    hot.skipped(usize::MAX);
    hot.consume(usize::MAX);
    assert!(hot.is_drained());
    assert!(hot.bytes(usize::MAX - 1..usize::MAX).is_empty());
}

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

#[test]
fn a_frozen_hot_block_is_replaced() {
    let (mut pool, mut hot) = pool_and_hot();
    let expected = frame(2000, 1);
    receive(&mut hot, &[&expected[..], &expected[..30]].concat());
    hot.expose();
    let range = hot.next_frame(PACKET_LEN_MAX).unwrap().unwrap();
    let kept = hot.block().keep(hot.bytes(range.clone()));
    hot.consume(range.len());
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
    let range = parked.next_frame(PACKET_LEN_MAX).unwrap().unwrap();
    let kept = parked.block().keep(parked.bytes(range.clone()));
    assert_eq!(kept.as_ptr(), parked.bytes(range.clone()).as_ptr());
    parked.consume(range.len());
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
