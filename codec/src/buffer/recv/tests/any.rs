//! Any input, cut and handled in any way.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// What the next pass does: how much is read at most, how many frames are delivered at most, which are kept.
fn passes() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    let read_max = prop_oneof![Just(0), 1..40_usize, 1..3000_usize, Just(70_000)];
    let frames_max = prop_oneof![3 => Just(usize::MAX), 1 => 0..3_usize];
    prop::collection::vec((read_max, frames_max, any::<u8>()), 1..40)
}

fn frame_lens() -> impl Strategy<Value = Vec<usize>> {
    let len = prop_oneof![4 => 2..200_usize, 2 => 200..6000_usize, 1 => 6000..90_000_usize];
    prop::collection::vec(len, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the cuts, the pauses and what is kept: the same frames in the same order, nothing lost or changed.
    #[test]
    fn frames_come_out_as_they_went_in(
        lens in frame_lens(),
        record_lens in prop::collection::vec(prop_oneof![0..30_usize, 1..16_384_usize], 1..20),
        passes in passes(),
        tls in any::<bool>(),
    ) {
        let expected: Vec<_> = lens.iter().enumerate().map(|(seed, &len)| frame(len, seed as u8)).collect();
        let plain = expected.concat();
        let mut shard = Shard::new(if tls { Link::Tls } else { Link::Plain });
        let mut input = Vec::new();
        if tls {
            let (mut rest, mut lens) = (&plain[..], record_lens.iter().cycle());
            let progress = record_lens.iter().any(|&len| len > 0);
            while !rest.is_empty() {
                let len = if progress { *lens.next().unwrap() } else { 100 }.min(rest.len());
                input.extend(record(&rest[..len]));
                rest = &rest[len..];
            }
        } else {
            input.clone_from(&plain);
        }

        let mut delivered = Vec::new();
        let mut kept: Vec<Bytes> = Vec::new();
        let mut rest = &input[..];
        for (read_max, frames_max, keep) in passes {
            shard.pass(&mut rest, read_max, frames_max, |frame, block| {
                delivered.push(frame.to_vec());
                if delivered.len() as u8 % 8 == keep % 16 {
                    kept.push(block.keep(frame));
                }
            });
        }
        // Each pass reads at least one byte.
        for _ in 0..100 + input.len() {
            if rest.is_empty() && shard.parked.is_none() {
                break;
            }
            shard.pass(&mut rest, usize::MAX, usize::MAX, |frame, _| delivered.push(frame.to_vec()));
        }
        prop_assert_eq!(&delivered, &expected);
        for kept in &kept {
            prop_assert!(expected.iter().any(|frame| kept == frame));
        }

        drop(kept);
        let Shard { mut pool, mut hot, .. } = shard;
        hot.reset(&mut pool).unwrap();
        let stats = pool.stats();
        prop_assert_eq!((stats.blocks_in_use, stats.bytes_parked, stats.bytes_retained), (1, 0, 0));
        prop_assert!(stats.bytes_joined <= plain.len() as u64);
        drop(hot);
        prop_assert_eq!(pool.stats().bytes_in_use, 0);
    }

    /// No call, in whatever order and with whatever lengths, breaks the cursors or panics.
    #[test]
    fn any_calls_keep_the_invariants(
        calls in prop::collection::vec((0..10_u8, 0..70_000_usize, 0..70_000_usize), 0..60),
        fill in any::<u8>(),
    ) {
        let (mut pool, mut hot) = pool_and_hot();
        let mut kept = Vec::new();
        for (call, one, two) in calls {
            match call {
                0 => {
                    let has_spare = hot.has_spare();
                    let spare = hot.spare();
                    prop_assert_eq!(has_spare, !spare.is_empty());
                    let len = one.min(spare.len());
                    spare[..len].fill(fill);
                    hot.advance_received(one);
                }
                1 => hot.expose(),
                2 => hot.skipped(one),
                3 | 4 => drop(hot.opened(one, two..one, PACKET_LEN_MAX)),
                5 => _ = hot.next_frame(two),
                6 => hot.consume(one),
                7 => kept.push(hot.block().keep(hot.bytes(one..two))),
                8 => {
                    if let Ok(Some(parked)) = hot.park(&mut pool, Link::Tls, PACKET_LEN_MAX) {
                        drop(parked.repark(&mut pool, Link::Plain, PACKET_LEN_MAX));
                    }
                }
                _ => drop(hot.reset(&mut pool)),
            }
            hot.invariants();
        }
    }
}
