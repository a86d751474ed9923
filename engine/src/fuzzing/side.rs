//! One of the two machines with what is known of it, the input that moves them, and how they speak.

use std::collections::{BTreeMap, VecDeque};

use fleetwire_codec::{Packet, Version};

use crate::session::{Entry, Session, SessionState};

/// The bytes that are not used yet. After their end all choices are zero.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// One machine with what lies between it and the other.
pub(super) struct Side {
    pub(super) session: Session,
    /// The state between two connections.
    pub(super) state: Option<SessionState>,
    /// Packets on their way to the other side.
    pub(super) out: VecDeque<Vec<u8>>,
    /// What became of each publish of this side, by its token.
    pub(super) ends: BTreeMap<u64, End>,
    pub(super) next_token: u64,
    /// Acknowledgements that are held, by their number, with the token of the other side's publish.
    pub(super) held: Vec<(u64, Option<u64>)>,
}

#[derive(Default)]
pub(super) struct End {
    pub(super) qos: u8,
    /// How often the other side has acknowledged it.
    pub(super) taken: u32,
    pub(super) ended: u32,
}

impl Side {
    /// The other side has acknowledged the publish of this token.
    pub(super) fn take(&mut self, token: Option<u64>, hostile: bool) {
        if let Some(end) = token.and_then(|token| self.ends.get_mut(&token)) {
            end.taken += 1;
            let once = end.qos < 2 || end.taken == 1;
            assert!(hostile || once, "QoS 2 was delivered twice");
        }
    }

    pub(super) fn end(&mut self, entry: &Entry) {
        let end = self.ends.get_mut(&entry.token).expect("it was published");
        end.ended += 1;
        assert_eq!(end.ended, 1, "it ended twice");
    }
}

pub(super) fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let len = packet.encoded_len(version).expect("it can be sent");
    let mut bytes = vec![0; len];
    packet.encode(version, &mut bytes).expect("it has room");
    bytes
}
