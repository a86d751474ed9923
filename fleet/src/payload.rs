//! What the devices publish: a header that says which message it is, and seeded filler.

use std::time::{Duration, Instant, SystemTime};

/// A payload of one size, written anew in its header for each message.
///
/// With 24 bytes or more it begins with run (4), device (4), sequence number (8) and intended time in nanoseconds since
/// 1970 (8), all big endian, so that a subscriber can tell what is missing, doubled, out of order and how old.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    origin: Instant,
    origin_since_1970: Duration,
}

impl Payload {
    /// `origin` and `origin_wall` are the same moment on the two clocks.
    pub(crate) fn new(len: usize, seed: u64, origin: Instant, origin_wall: SystemTime) -> Self {
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        if let Some(run) = bytes.get_mut(..4).filter(|_| len >= HEADER_LEN) {
            run.copy_from_slice(&(seed as u32).to_be_bytes());
        }
        let origin_since_1970 = origin_wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            bytes,
            origin,
            origin_since_1970,
        }
    }

    /// The payload of a device's slot.
    pub(crate) fn of(&mut self, device: u64, seq: u64, intended: Instant) -> &[u8] {
        if let Some(header) = self.bytes.get_mut(4..HEADER_LEN) {
            let since_1970 = self.origin_since_1970 + intended.saturating_duration_since(self.origin);
            let (device_bytes, rest) = header.split_at_mut(4);
            let (seq_bytes, time_bytes) = rest.split_at_mut(8);
            device_bytes.copy_from_slice(&(device as u32).to_be_bytes());
            seq_bytes.copy_from_slice(&seq.to_be_bytes());
            time_bytes.copy_from_slice(&(since_1970.as_nanos() as u64).to_be_bytes());
        }
        &self.bytes
    }
}

const HEADER_LEN: usize = 4 + 4 + 8 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_message_and_the_filler_stays() {
        let origin = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let mut payload = Payload::new(30, 0x1_0000_0007, origin, wall);
        let first = payload.of(17, 3, origin + Duration::from_nanos(5)).to_vec();
        assert_eq!(first.len(), 30);
        assert_eq!(first[..4], 7u32.to_be_bytes());
        assert_eq!(first[4..8], 17u32.to_be_bytes());
        assert_eq!(first[8..16], 3u64.to_be_bytes());
        assert_eq!(first[16..24], 1_000_000_005u64.to_be_bytes());
        let second = payload.of(18, 4, origin).to_vec();
        assert_eq!(first[24..], second[24..]);
        assert_eq!(
            Payload::new(30, 0x1_0000_0007, origin, wall).of(18, 4, origin),
            second
        );
    }

    #[test]
    fn small_payloads_have_no_header() {
        let now = Instant::now();
        for len in [0, 1, 4, 23] {
            let mut payload = Payload::new(len, 1, now, SystemTime::now());
            let first = payload.of(1, 1, now).to_vec();
            assert_eq!(first.len(), len);
            assert_eq!(payload.of(2, 2, now), first);
        }
    }
}
