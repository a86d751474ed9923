//! Where the rest of a connection's input waits until more of it comes: moving it, and how much room it gets.

use std::sync::atomic::Ordering::Relaxed;

use crate::frame::Measure;

use super::super::{HOT_BLOCK_LEN, Overload, Pool};
use super::{RecvBuf, Runs};

impl RecvBuf {
    /// Ends a pass of the hot buffer: moves what is left to a block of its own, if anything is, and clears the buffer
    /// for the next connection.
    ///
    /// The new block is the smallest that fits what is there and gives it room to continue: towards the end of the
    /// frame or record, but at most twice what is there, so that an announcement of 256 KiB pins no such block.
    ///
    /// # Errors
    ///
    /// The pool's bound on parked bytes, or on all bytes, is reached. What was left is gone then, so the connection
    /// must be closed.
    pub fn park(
        &mut self,
        pool: &mut Pool,
        link: Link,
        packet_len_max: usize,
    ) -> Result<Option<Self>, Overload> {
        let parked = match self.held_len() {
            0 => Ok(None),
            _ => self.copy_out(pool, link, packet_len_max).map(Some),
        };
        self.clear();
        parked
    }

    /// Ends a pass of a parked buffer: returns its block if nothing is left, otherwise makes room to continue.
    ///
    /// Room is made in place where that suffices, else in another block, as in [`park`](Self::park). While a whole
    /// frame is held, because the connection is paused, no byte moves but to close gaps that TLS left.
    ///
    /// # Errors
    ///
    /// As in [`park`](Self::park).
    pub fn repark(
        mut self,
        pool: &mut Pool,
        link: Link,
        packet_len_max: usize,
    ) -> Result<Option<Self>, Overload> {
        let held_len = self.held_len();
        if held_len == 0 {
            self.release(pool);
            return Ok(None);
        }
        let wanted_len = self.wanted_len(link, packet_len_max);
        let len = self.block.len();
        let must_move = self.block.is_retained() || wanted_len > len;
        // Twice what is wanted, so that no input makes it go back and forth between two sizes.
        let too_big = Pool::block_len(2 * wanted_len) <= len / SHRINK_SHARE;
        if must_move || too_big {
            self.block.end_parking();
            match self.copy_out(pool, link, packet_len_max) {
                Ok(parked) => {
                    self.release(pool);
                    return Ok(Some(parked));
                }
                Err(overload) if must_move => return Err(overload),
                // Too big a block still serves; it counted as parked a moment ago, so it fits the bound again.
                Err(_) => self.block.begin_parking(),
            };
        }
        let room_wanted = wanted_len - held_len;
        if !self.runs.is_empty() || len - (self.received as usize) < room_wanted {
            self.compact();
        }
        // There are none now, and at rest their memory is not kept either.
        self.runs = Runs::default();
        Ok(Some(self))
    }

    /// Whether a parked buffer should be [unparked](Self::unpark) before the next read: the last read filled its block,
    /// so there is probably more than that can take, and brought at least as much as would move.
    pub fn wants_hot(&self) -> bool {
        self.held_len() <= (self.filling_len as usize).min(HOT_BLOCK_LEN / 4)
    }

    /// Copies what a parked buffer holds to the start of this one, the hot buffer after a [`reset`](Self::reset), and
    /// says whether it could: not if this one is not clear, frozen or too small.
    ///
    /// Without this a busy connection that once parked would read through a small block for as long as each read
    /// ends within a frame. The parked buffer is [released](Self::release) when the read has brought something; if it
    /// brings nothing, this one is reset and nothing has changed.
    #[must_use = "if it was not copied, the parked buffer is the one to read into"]
    pub fn unpark(&mut self, parked: &Self) -> bool {
        let usable = self.received == 0 && !self.block.is_retained() && parked.held_len() < self.block.len();
        usable && self.copy_from(parked)
    }

    /// Lends a parked buffer, while it is at work, the memory that the hot one has for what it knows of several records;
    /// and takes it back. At rest neither a parked buffer nor an idle connection has any.
    pub fn swap_memory(&mut self, hot: &mut Self) {
        self.runs.swap_memory(&mut hot.runs);
    }

    /// How long a block should be for what is left and the bytes that it waits for.
    fn wanted_len(&self, link: Link, packet_len_max: usize) -> usize {
        let held_len = self.held_len();
        let sealed_len = (self.received - self.sealed) as usize;
        let plain_len = held_len - sealed_len;
        let missing = match self.measure(self.consumed, packet_len_max) {
            _ if plain_len == 0 => 0,
            Ok(Measure::Partial { missing, .. }) => missing,
            // Whole frames of a paused connection, or nothing that will ever be whole: no room is needed.
            Ok(Measure::Whole(_)) | Err(_) => return held_len + 1,
        };
        let target = match link {
            Link::Plain => held_len + missing,
            Link::Tls => plain_len + self.record_len(missing),
        };
        target.min((2 * held_len).max(PARKED_LEN_MIN)).max(held_len + 1)
    }

    /// How long the record is that was received in part, or those may be that bring `missing` bytes of plaintext.
    fn record_len(&self, missing: usize) -> usize {
        let header = self.bytes(self.sealed as usize..self.received as usize);
        // RFC 8446 section 5.1: type, version, length.
        let announced = match *header {
            [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let len = announced.max(missing.saturating_add(RECORD_EXPANSION));
        len.saturating_add(RECORD_HEADER_LEN).min(RECORD_LEN_MAX)
    }

    /// Copies what is left to a parked block of its own.
    fn copy_out(&self, pool: &mut Pool, link: Link, packet_len_max: usize) -> Result<Self, Overload> {
        let wanted_len = self.wanted_len(link, packet_len_max);
        let block = pool.take(wanted_len).ok_or(Overload::Memory)?;
        if !block.begin_parking() {
            pool.put(block);
            return Err(Overload::Parked);
        }
        let mut parked = Self::new(block);
        // A block from the pool is writable, and it was asked for long enough.
        let copied = parked.copy_from(self);
        debug_assert!(copied);
        parked.filling_len = self.filling_len;
        Ok(parked)
    }

    /// Copies what is left in `source` to the start of this buffer, without gaps. False if it does not fit.
    ///
    /// ```text
    ///              consumed         plain        sealed      received
    /// source  ──────│ frames ░░│ gap │ partial ░░│  gap  │ record ▓▓│──
    /// self    │ frames ░░ partial ░░ record ▓▓│ spare
    ///     consumed                 sealed     received
    /// ```
    fn copy_from(&mut self, source: &Self) -> bool {
        let held_len = source.held_len();
        let Some(bytes) = self.block.bytes_mut().and_then(|bytes| bytes.get_mut(..held_len)) else {
            return false;
        };
        let mut rest = bytes;
        for piece in source.pieces() {
            let (target, next) = rest.split_at_mut(piece.len());
            target.copy_from_slice(source.bytes(piece));
            rest = next;
        }
        self.count_moved(held_len);
        self.start_with(held_len, (source.received - source.sealed) as usize);
        true
    }

    /// Moves what is left to the start of the block, without gaps; the drawing of [`copy_from`](Self::copy_from), in
    /// place. What lies there already does not move: behind a long partial frame each small record would cost it.
    fn compact(&mut self) {
        let sealed_len = (self.received - self.sealed) as usize;
        let (mut held_len, mut moved_len) = (0, 0);
        for index in 0.. {
            let Some(piece) = self.piece(index) else {
                break;
            };
            let len = piece.len();
            if piece.start != held_len {
                let Some(bytes) = self.block.bytes_mut() else {
                    return;
                };
                bytes.copy_within(piece, held_len);
                moved_len += len;
            }
            held_len += len;
        }
        self.count_moved(moved_len);
        self.start_with(held_len, sealed_len);
    }

    fn count_moved(&self, len: usize) {
        self.copied().moved.fetch_add(len as u64, Relaxed);
    }

    /// Sets the cursors for `held_len` bytes at the start of the block, the last `sealed_len` of them not opened.
    fn start_with(&mut self, held_len: usize, sealed_len: usize) {
        self.runs.clear();
        self.run_index = 0;
        self.run_start = 0;
        self.consumed = 0;
        // Frames that were whole are found again.
        self.framed = 0;
        self.plain = (held_len - sealed_len) as u32;
        self.sealed = self.plain;
        self.received = held_len as u32;
        self.invariants();
    }
}

/// What protects a link, and so what its input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// Frames follow each other.
    Plain,
    /// Frames lie in TLS records, cut anywhere.
    Tls,
}

/// A parked block is left for a smaller one when a block of this part of its length suffices.
const SHRINK_SHARE: usize = 4;
/// No parked block is shorter: the pool's smallest class.
const PARKED_LEN_MIN: usize = 512;
/// RFC 8446 section 5.1.
const RECORD_HEADER_LEN: usize = 5;
/// What an AEAD adds to a record: at most an explicit nonce of 8, a content type of 1 and a tag of 16 bytes.
const RECORD_EXPANSION: usize = 8 + 1 + 16;
/// RFC 5246 section 6.2.3: 2^14 bytes of plaintext and 2,048 of expansion.
const RECORD_LEN_MAX: usize = RECORD_HEADER_LEN + 16_384 + 2_048;
