//! Any output, taken and sent in any order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Append(usize),
    Raw(usize),
    Retract(usize),
    Reserve(usize),
    Take,
    Sent,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5000_usize).prop_map(Step::Write),
        1 => (1..40_000_usize).prop_map(Step::Append),
        1 => (1..600_usize).prop_map(Step::Raw),
        1 => (0..9000_usize).prop_map(Step::Retract),
        1 => (1..20_000_usize).prop_map(Step::Reserve),
        3 => Just(Step::Take),
        2 => Just(Step::Sent),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a plain `Vec<u8>` without TLS, where raw bytes keep their place too.
    #[test]
    fn the_stream_is_what_was_accepted(steps in steps(), tls in any::<bool>()) {
        let framing = if tls { TLS } else { Framing::PLAIN };
        let mut pool = Pool::new(PoolLimits { bytes_max: 150_000, ..PoolLimits::default() });
        let mut output = SendBuf::new(framing, 100_000);
        let (mut model, mut peer) = (Vec::new(), Vec::new());
        let mut with_driver: Option<(Block, Range<usize>)> = None;
        let mut counter = 0_u8;
        let mut bytes = |len: usize| {
            counter = counter.wrapping_add(1);
            vec![counter; len]
        };
        for step in steps.into_iter().chain([Step::Sent, Step::Take].into_iter().cycle().take(40)) {
            match step {
                Step::Write(len) => {
                    let packet = bytes(len);
                    if write(&mut pool, &mut output, &packet).is_ok() {
                        model.extend(packet);
                    }
                }
                Step::Append(len) => {
                    let payload = bytes(len);
                    if output.append(&mut pool, &payload).is_ok() {
                        model.extend(payload);
                    }
                }
                Step::Raw(len) if !tls => {
                    let raw = bytes(len);
                    if output.append_raw(&mut pool, &raw).is_ok() {
                        model.extend(raw);
                    }
                }
                Step::Raw(_) => {}
                Step::Retract(len) => {
                    let len = len.min(output.len());
                    output.retract(&mut pool, len);
                    model.truncate(model.len() - len);
                }
                Step::Reserve(len) => drop(output.reserve(&mut pool, len)),
                Step::Take => {
                    if let Some(ready) = take_framed(&mut output, tls) {
                        prop_assert!(with_driver.is_none());
                        peer.extend_from_slice(&ready.0.bytes()[ready.1.clone()]);
                        with_driver = Some(ready);
                    }
                }
                Step::Sent => {
                    if let Some((block, _)) = with_driver.take() {
                        output.sent(&mut pool, block);
                    }
                }
            }
            prop_assert_eq!(peer.len() + output.len(), model.len());
            prop_assert!(output.len() + output.in_flight_len() <= 100_000);
        }
        prop_assert!(output.is_empty());
        prop_assert_eq!(peer, model);
        output.clear(&mut pool);
        drop(with_driver);
        prop_assert_eq!(pool.stats().blocks_in_use, 0);
    }
}

/// Takes a block, and says where its plaintext lies.
fn take_framed(output: &mut SendBuf, tls: bool) -> Option<(Block, Range<usize>)> {
    let ready: Result<_, Infallible> = output.take_ready(|block, plain| {
        assert!(tls && plain.start == 5 && plain.end + 17 <= block.len() && plain.len() <= 16_384);
        Ok(plain)
    });
    ready.unwrap()
}
