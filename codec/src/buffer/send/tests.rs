//! Sending: packets packed into records, bounds, and the order in which bytes reach the driver.

use std::convert::Infallible;
use std::mem::size_of;

use super::super::PoolLimits;
use super::*;

mod any;
mod raw;

const TLS: Framing = Framing {
    head: 5,
    tail: 17,
    plain_max: 16_384,
};
const BYTES_MAX: u32 = 1 << 20;

/// What arrives at the other end.
#[derive(Default)]
struct Peer {
    bytes: Vec<u8>,
    records: usize,
}

impl Peer {
    /// Takes one block as the driver does, and opens the record in it. False if there was nothing.
    fn take(&mut self, pool: &mut Pool, output: &mut SendBuf) -> bool {
        let Some((block, range)) = take(output) else {
            return false;
        };
        let sent = &block.bytes()[range];
        if sent.starts_with(&[23, 3, 3]) {
            let (header, sealed) = sent.split_at(5);
            assert_eq!(
                usize::from(u16::from_be_bytes([header[3], header[4]])),
                sealed.len()
            );
            let (plain, tag) = sealed.split_at(sealed.len() - 17);
            assert_eq!(tag, [0xee; 17]);
            self.bytes.extend(plain.iter().map(|byte| byte ^ 0x55));
            self.records += 1;
        } else {
            self.bytes.extend(sent);
        }
        output.sent(pool, block);
        true
    }
}

fn take(output: &mut SendBuf) -> Option<(Block, Range<usize>)> {
    let ready: Result<_, Infallible> = output.take_ready(|block, plain| {
        let len = plain.len() + 17;
        block[plain.clone()].iter_mut().for_each(|byte| *byte ^= 0x55);
        let header = plain.start - 5;
        block[header..plain.start].copy_from_slice(&[23, 3, 3, (len >> 8) as u8, len as u8]);
        block[plain.end..plain.end + 17].fill(0xee);
        Ok(header..plain.end + 17)
    });
    ready.unwrap()
}

fn write(pool: &mut Pool, output: &mut SendBuf, packet: &[u8]) -> Result<(), SendError> {
    output.reserve(pool, packet.len())?.copy_from_slice(packet);
    output.commit(packet.len());
    Ok(())
}

#[test]
fn an_idle_connection_owns_nothing() {
    assert!(size_of::<SendBuf>() <= 48);
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    assert!(take(&mut output).is_none());
    for _ in 0..20 {
        write(&mut pool, &mut output, &[7; 5000]).unwrap();
    }
    let mut peer = Peer::default();
    while peer.take(&mut pool, &mut output) {}
    assert_eq!(peer.bytes, [7; 100_000]);
    assert_eq!(pool.stats().blocks_in_use, 0);
    assert!(output.open.is_none() && output.closed.is_none());
    assert_eq!((output.len(), output.in_flight_len()), (0, 0));
}

#[test]
fn several_packets_share_a_record_sealed_in_place() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    let room = output.reserve(&mut pool, 100).unwrap();
    room.fill(1);
    let encoded_at = room.as_ptr();
    output.commit(100);
    write(&mut pool, &mut output, &[2; 50]).unwrap();
    assert_eq!(output.len(), 150);
    let (block, range) = take(&mut output).unwrap();
    assert_eq!(range, 0..5 + 150 + 17);
    assert_eq!(block.len(), FIRST_BLOCK_LEN);
    assert_eq!(block.bytes()[5..].as_ptr(), encoded_at);
    assert_eq!(
        block.bytes()[5..155],
        [[1 ^ 0x55; 100].as_slice(), &[2 ^ 0x55; 50]].concat()
    );
    output.sent(&mut pool, block);
    assert_eq!(pool.stats().blocks_in_use_max, 1);
}

#[test]
fn without_tls_nothing_is_sealed() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(Framing::PLAIN, BYTES_MAX);
    write(&mut pool, &mut output, b"packet").unwrap();
    output.append(&mut pool, b" and payload").unwrap();
    let ready: Result<_, ()> = output.take_ready(|_, _| Err(()));
    let (block, range) = ready.unwrap().unwrap();
    assert_eq!(&block.bytes()[range], b"packet and payload");
    output.sent(&mut pool, block);
}

#[test]
fn output_goes_on_while_a_block_is_with_the_driver() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    write(&mut pool, &mut output, b"one").unwrap();
    let (block, _) = take(&mut output).unwrap();
    assert_eq!((output.len(), output.in_flight_len()), (0, 3));
    write(&mut pool, &mut output, b"two").unwrap();
    assert!(take(&mut output).is_none());
    output.sent(&mut pool, block);
    let (block, range) = take(&mut output).unwrap();
    assert_eq!(range.len(), 5 + 3 + 17);
    output.sent(&mut pool, block);
}

#[test]
fn no_more_is_committed_than_was_reserved() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut secret = pool.take(4096).unwrap();
    secret.bytes_mut().unwrap().fill(0x5E);
    pool.put(secret);
    let mut output = SendBuf::new(Framing::PLAIN, 10_000);
    output.reserve(&mut pool, 3).unwrap().copy_from_slice(b"abc");
    output.commit(4000);
    output.commit(4000);
    assert_eq!(output.len(), 3);
    // Nor what was written over since.
    output.reserve(&mut pool, 100).unwrap();
    output.append(&mut pool, b"d").unwrap();
    output.commit(100);
    output.reserve(&mut pool, 100).unwrap();
    output.retract(&mut pool, 1);
    output.commit(100);
    assert_eq!(output.len(), 3);
    output.reserve(&mut pool, 100).unwrap();
    let sealed = output.take_ready(|_, plain| Ok::<_, ()>(plain));
    let (block, range) = sealed.unwrap().unwrap();
    assert_eq!(block.bytes()[range], *b"abc");
    output.commit(100);
    assert_eq!(output.len(), 0);
    output.sent(&mut pool, block);
}

#[test]
fn what_is_reserved_is_accepted_by_commit_alone() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    output.commit(5);
    assert!(output.is_empty());
    output.reserve(&mut pool, 100).unwrap().fill(9);
    assert!(output.is_empty());
    assert!(take(&mut output).is_none());
    // Another size of block is needed now; the empty one is not left behind.
    output.reserve(&mut pool, 10_000).unwrap()[..2].copy_from_slice(b"ok");
    assert_eq!(pool.stats().blocks_in_use, 1);
    output.commit(2);
    let mut peer = Peer::default();
    assert!(peer.take(&mut pool, &mut output));
    assert_eq!(peer.bytes, b"ok");
    output.reserve(&mut pool, 1).unwrap();
    output.clear(&mut pool);
    assert_eq!(pool.stats().blocks_in_use, 0);
}

#[test]
fn the_first_block_is_small_and_the_others_take_a_whole_record() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    for _ in 0..10 {
        write(&mut pool, &mut output, &[1; 4000]).unwrap();
    }
    let mut lens = Vec::new();
    while let Some((block, range)) = take(&mut output) {
        lens.push((block.len(), range.len() - 22));
        output.sent(&mut pool, block);
    }
    assert_eq!(
        lens,
        [(4096, 4000), (18_944, 16_000), (18_944, 16_000), (18_944, 4000)]
    );
}

#[test]
fn a_long_payload_fills_one_record_after_another() {
    let mut pool = Pool::new(PoolLimits::default());
    let payload: Vec<_> = (0..100_000_u32).map(|index| (index * 7) as u8).collect();
    for framing in [TLS, Framing::PLAIN] {
        let mut output = SendBuf::new(framing, BYTES_MAX);
        output.check(4 + payload.len()).unwrap();
        write(&mut pool, &mut output, b"head").unwrap();
        output.append(&mut pool, &payload).unwrap();
        let mut peer = Peer::default();
        while peer.take(&mut pool, &mut output) {}
        assert_eq!(peer.bytes, [b"head", &payload[..]].concat());
        assert!(peer.records <= 7);
    }
}

#[test]
fn the_bound_counts_what_is_with_the_driver() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, 1000);
    write(&mut pool, &mut output, &[1; 600]).unwrap();
    let (block, _) = take(&mut output).unwrap();
    assert_eq!(output.check(400), Ok(()));
    assert_eq!(output.check(401), Err(SendError::Full));
    assert_eq!(output.check(1001), Err(SendError::TooLarge));
    assert_eq!(write(&mut pool, &mut output, &[1; 401]), Err(SendError::Full));
    assert_eq!(output.append(&mut pool, &[1; 401]), Err(SendError::Full));
    assert_eq!(output.append_raw(&mut pool, &[1; 401]), Err(SendError::Full));
    assert_eq!(output.append(&mut pool, &[1; 2000]), Err(SendError::TooLarge));
    output.sent(&mut pool, block);
    assert_eq!(write(&mut pool, &mut output, &[1; 1000]), Ok(()));
    assert_eq!(write(&mut pool, &mut output, &[1]), Err(SendError::Full));
}

#[test]
fn more_than_a_record_is_not_contiguous() {
    let mut pool = Pool::new(PoolLimits::default());
    for (framing, contiguous_max) in [(TLS, 16_384), (Framing::PLAIN, 18_944)] {
        let mut output = SendBuf::new(framing, BYTES_MAX);
        assert_eq!(output.contiguous_max(), contiguous_max);
        assert_eq!(
            output.reserve(&mut pool, contiguous_max + 1).unwrap_err(),
            SendError::TooLarge
        );
        assert_eq!(
            output.reserve(&mut pool, contiguous_max).unwrap().len(),
            contiguous_max
        );
    }
    // A framing that leaves no room for anything is answered, not looped on.
    let mut output = SendBuf::new(
        Framing {
            head: u16::MAX,
            tail: u16::MAX,
            plain_max: 1,
        },
        BYTES_MAX,
    );
    assert_eq!(output.append(&mut pool, b"x"), Err(SendError::TooLarge));
}

#[test]
fn without_memory_nothing_of_it_is_accepted() {
    let mut pool = Pool::new(PoolLimits {
        bytes_max: 4096 + 2 * SEND_BLOCK_LEN as u64,
        ..PoolLimits::default()
    });
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    write(&mut pool, &mut output, b"before").unwrap();
    write(&mut pool, &mut output, b"head").unwrap();
    assert_eq!(output.append(&mut pool, &[1; 60_000]), Err(SendError::NoMemory));
    assert_eq!(output.len(), 10);
    output.retract(&mut pool, 4);
    assert_eq!(pool.stats().blocks_in_use, 1);
    write(&mut pool, &mut output, b" after").unwrap();
    let mut peer = Peer::default();
    while peer.take(&mut pool, &mut output) {}
    assert_eq!((peer.bytes.as_slice(), peer.records), (&b"before after"[..], 1));

    let all: Vec<_> = std::iter::from_fn(|| pool.take(1)).collect();
    assert_eq!(write(&mut pool, &mut output, b"x"), Err(SendError::NoMemory));
    assert_eq!(output.append_raw(&mut pool, b"x"), Err(SendError::NoMemory));
    drop(all);
    assert_eq!(write(&mut pool, &mut output, b"x"), Ok(()));
}

#[test]
fn a_failed_seal_is_the_end() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, BYTES_MAX);
    write(&mut pool, &mut output, b"secret").unwrap();
    assert_eq!(output.take_ready(|_, _| Err("no key")).unwrap_err(), "no key");
    assert_eq!((output.len(), output.in_flight_len()), (0, 0));
    assert_eq!(pool.stats().blocks_in_use, 0);
}

#[test]
fn the_number_of_blocks_is_bounded() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut output = SendBuf::new(TLS, 100_000);
    write(&mut pool, &mut output, b"x").unwrap();
    let accepted = (0..1000)
        .take_while(|_| output.append_raw(&mut pool, b"y").is_ok())
        .count();
    assert_eq!(accepted, 2 * 100_000 / 16_384 + FRAMING_CHANGES_MAX + 1);
    assert_eq!(output.append_raw(&mut pool, b"y"), Err(SendError::Full));
    // Packets that just do not share a record still reach the bound in bytes.
    let mut output = SendBuf::new(TLS, 100_000);
    for _ in 0..12 {
        write(&mut pool, &mut output, &[1; 8193]).unwrap();
    }
    assert_eq!(write(&mut pool, &mut output, &[1; 8193]), Err(SendError::Full));
}
