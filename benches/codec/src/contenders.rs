use std::time::{Duration, Instant};

use crate::Case;

mod bytes_mut;
mod limits;
mod mqtt_codec_kit;
mod mqtt_protocol_core;
mod mqttbytes;
mod mqttrs;
mod ntex_mqtt;
mod ours;
mod rumqttc;

/// Works once through a case, every packet of its stream, and says how long that took.
pub type Pass = Box<dyn FnMut() -> Duration>;

/// A codec, or a limit, that takes part.
#[derive(Clone, Copy)]
pub struct Contender {
    /// The crate and its version.
    pub name: &'static str,
    /// What it does otherwise than the others, for whoever reads its numbers.
    pub note: &'static str,
    /// Splits and decodes each packet of the stream; `None` if it cannot.
    pub decode: fn(&Case) -> Option<Pass>,
    /// Encodes the packet as often, back to back, into memory that is there; `None` if it cannot.
    pub encode: fn(&Case) -> Option<Pass>,
}

/// All contenders: ours, those of others, and at last the least that the work can cost, without doing it.
pub const CONTENDERS: [Contender; 9] = [
    ours::CONTENDER,
    mqttrs::CONTENDER,
    mqtt_codec_kit::CONTENDER,
    mqtt_protocol_core::CONTENDER,
    mqttbytes::CONTENDER,
    rumqttc::CONTENDER,
    ntex_mqtt::CONTENDER,
    limits::MEMCPY,
    limits::SPLIT,
];

/// A pass whose preparation does not count, nor does giving back what was prepared.
fn pass<I>(mut prepare: impl FnMut() -> I + 'static, mut work: impl FnMut(&mut I) + 'static) -> Pass {
    Box::new(move || {
        let mut prepared = prepare();
        let start = Instant::now();
        work(&mut prepared);
        start.elapsed()
    })
}

/// What an encoder wrote must be the case's stream, or there is nothing to compare.
fn is_stream(case: &Case, written: &[u8]) -> bool {
    case.stream == written
}

/// The first byte of a packet, its body, and what is behind it: for codecs that do not find that by themselves.
#[inline(always)]
fn split_packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (first, after) = bytes.split_first()?;
    let mut remaining_len = 0;
    for (index, byte) in after.iter().take(4).enumerate() {
        remaining_len |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let (body, behind) = after.get(index + 1..)?.split_at_checked(remaining_len)?;
            return Some((*first, body, behind));
        }
    }
    None
}
