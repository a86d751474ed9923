//! The room around the plaintext of a record.

use super::super::pool::SEND_BLOCK_LEN;

/// What sealing a record needs around its plaintext, and how much plaintext a record may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Bytes in front of the plaintext: the record's header and explicit nonce.
    pub head: u16,
    /// Bytes behind the plaintext: its content type and tag.
    pub tail: u16,
    /// The most bytes of plaintext in one record.
    pub plain_max: u32,
}

impl Framing {
    /// No records: the bytes are sent as they are.
    pub const PLAIN: Self = Self {
        head: 0,
        tail: 0,
        plain_max: SEND_BLOCK_LEN as u32,
    };

    /// How much plaintext a block of `block_len` bytes takes.
    pub(super) fn plain_len(self, block_len: usize) -> usize {
        let around = usize::from(self.head) + usize::from(self.tail);
        block_len.saturating_sub(around).min(self.plain_max as usize)
    }
}
