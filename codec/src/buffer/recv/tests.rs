//! Receiving as a connection does it: read, open, parse, park, with records and reads cut anywhere.

use std::mem::size_of;

use super::super::{HOT_BLOCK_LEN, PoolLimits};
use super::*;

mod any;
mod blocks;
mod park;

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
    while let Some(frame) = next_frame(buf).map(<[u8]>::to_vec) {
        buf.consume(frame.len());
        frames.push(frame);
    }
    frames
}

/// The bytes of the next whole frame.
fn next_frame(buf: &RecvBuf) -> Option<&[u8]> {
    let frame = buf.next_frame(PACKET_LEN_MAX).unwrap()?;
    Some(&buf.unparsed()[..frame.len()])
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
        if let Some(parked) = &mut self.parked {
            parked.swap_memory(&mut self.hot);
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
            let Some(frame) = next_frame(buf) else {
                break;
            };
            deliver(frame, buf.block());
            let len = frame.len();
            buf.consume(len);
        }
        if let Some(parked) = &mut self.parked {
            parked.swap_memory(&mut self.hot);
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
            let frame = next_frame(&hot).unwrap();
            assert!(filled.contains(&frame.as_ptr()));
            assert_eq!(frame, expected);
            hot.consume(expected.len());
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
    assert_eq!(next_frame(&hot), Some(&expected[..]));
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
    assert_eq!(next_frame(&hot), Some(&expected[..]));
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
fn a_frame_is_the_sole_one_only_if_it_is_whole_and_nothing_is_around_it() {
    let (mut pool, mut hot) = pool_and_hot();
    let (one, other) = (frame(200, 1), frame(30, 2));
    let sole = |hot: &RecvBuf| hot.sole_frame(PACKET_LEN_MAX).map(|frame| frame.len());
    assert_eq!(sole(&hot), None, "nothing was received");
    receive(&mut hot, &one[..150]);
    assert_eq!(sole(&hot), None, "it is not whole");
    receive(&mut hot, &one[150..]);
    assert_eq!(sole(&hot), Some(200));
    assert_eq!(hot.sole_frame(199), None, "it is too long");
    // The usual way is still open.
    hot.expose();
    assert_eq!(sole(&hot), None, "something was done with it");
    assert_eq!(next_frame(&hot), Some(&one[..]));
    hot.consume(200);
    receive(&mut hot, &other);
    assert_eq!(sole(&hot), None, "another was before it");
    hot.reset(&mut pool).unwrap();
    receive(&mut hot, &other);
    assert_eq!(sole(&hot), Some(30));
    receive(&mut hot, &one[..1]);
    assert_eq!(sole(&hot), None, "there is more");
    hot.reset(&mut pool).unwrap();
    receive(&mut hot, &[0x00, 0x00]);
    assert_eq!(sole(&hot), None, "packet type 0 is forbidden");
}
