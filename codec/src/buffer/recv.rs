//! What a connection received and has not yet consumed.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::{iter, mem};

use crate::DecodeError;
use crate::frame::{self, Measure};

use super::block::Copied;
use super::{Block, HOT_BLOCK_LEN, Overload, Pool};

#[cfg(test)]
mod tests;

/// A block that is received into, opened and parsed in place.
///
/// Five cursors divide it, and `consumed ≤ framed ≤ plain ≤ sealed ≤ received` always:
///
/// ```text
///     0      consumed     framed       plain      sealed        received      len
///     │ parsed  │ whole frames │ partial │ dead gap  │ TLS records   │ spare     │
/// ```
///
/// On a link without TLS the gap and the records are empty. With TLS, the plaintext of one record starts a new
/// *run* of whole frames where it lies, unless a frame straddles two records: only the bytes that complete that
/// frame then move, left to the partial. Each byte moves at most once, however small the records.
///
/// One pass over a connection's input, with the shard's hot buffer or with the connection's parked one:
///
/// 1. the driver reads into [`spare`](Self::spare), then [`advance_received`](Self::advance_received);
/// 2. without TLS [`expose`](Self::expose), with TLS every whole record of [`sealed_bytes`](Self::sealed_bytes) is
///    opened in place and reported by [`opened`](Self::opened) or [`skipped`](Self::skipped);
/// 3. [`next_frame`](Self::next_frame) and [`consume`](Self::consume), until there is no whole frame any more;
/// 4. [`park`](Self::park) on the hot buffer, [`repark`](Self::repark) on a parked one.
///
/// Nothing is written in step 3, so that handlers may keep parts of the [`block`](Self::block). Keeping freezes it;
/// [`reset`](Self::reset) gives the hot buffer another block before the next pass, `repark` a parked one.
#[derive(Debug)]
pub struct RecvBuf {
    block: Block,
    consumed: u32,
    framed: u32,
    plain: u32,
    sealed: u32,
    received: u32,
    /// Where the current run starts, the one that ends at `framed`.
    run_start: u32,
    /// Which of `runs` is being parsed; the current run is when there are none.
    run_index: u32,
    /// Runs of whole frames before the current one, in order. Never allocated at rest, nor without TLS.
    runs: Vec<Range<u32>>,
    /// Whether the last read filled the block, so that there is probably more to read than fits.
    filled: bool,
}

impl RecvBuf {
    /// An empty buffer on a block.
    pub fn new(block: Block) -> Self {
        Self {
            block,
            consumed: 0,
            framed: 0,
            plain: 0,
            sealed: 0,
            received: 0,
            run_start: 0,
            run_index: 0,
            runs: Vec::new(),
            filled: false,
        }
    }

    /// The block that the bytes lie in, to keep parts of.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The bytes at `range`, as [`next_frame`](Self::next_frame) returned it; none if it is out of bounds.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.block.bytes().get(range).unwrap_or_default()
    }

    /// Where to read the next bytes into.
    ///
    /// Empty when the block is full or frozen by something kept from it; reading nothing must not be taken for the
    /// end of the stream. After `reset`, or `park` and `repark` with all whole frames consumed, it is not empty.
    pub fn spare(&mut self) -> &mut [u8] {
        let received = self.received as usize;
        let bytes = self.block.bytes_mut().unwrap_or_default();
        bytes.get_mut(received..).unwrap_or_default()
    }

    /// Says that `len` bytes were read into [`spare`](Self::spare).
    pub fn advance_received(&mut self, len: usize) {
        let len = len.min(self.block.len() - self.received as usize);
        self.received += len as u32;
        self.filled = self.received as usize == self.block.len();
        self.invariants();
    }

    /// Declares everything received to be plaintext: the link has no TLS.
    pub fn expose(&mut self) {
        self.plain = self.received;
        self.sealed = self.received;
        self.invariants();
    }

    /// The TLS records that were received and not opened; the last one may be incomplete.
    ///
    /// Empty while the block is frozen by something kept from it.
    pub fn sealed_bytes(&mut self) -> &mut [u8] {
        let range = self.sealed as usize..self.received as usize;
        let bytes = self.block.bytes_mut().unwrap_or_default();
        bytes.get_mut(range).unwrap_or_default()
    }

    /// Passes over a record of `record_len` bytes that holds nothing for the layer above.
    pub fn skipped(&mut self, record_len: usize) {
        let len = record_len.min((self.received - self.sealed) as usize);
        self.sealed += len as u32;
        self.invariants();
    }

    /// Says that the first `record_len` bytes of [`sealed_bytes`](Self::sealed_bytes) were a record, that was opened
    /// in place and whose plaintext now lies at `plain`, relative to the same start.
    ///
    /// # Errors
    ///
    /// The plaintext holds a fixed header that is malformed or declares more than `packet_len_max` bytes. The frames
    /// before it are whole and can be parsed; [`next_frame`](Self::next_frame) ends with the same error. Also
    /// [`DecodeError::Truncated`] if something was kept from the block since `sealed_bytes`, which is misuse.
    pub fn opened(
        &mut self,
        record_len: usize,
        plain: Range<usize>,
        packet_len_max: usize,
    ) -> Result<(), DecodeError> {
        let record = self.sealed as usize;
        self.skipped(record_len);
        let end = record.saturating_add(plain.end).min(self.sealed as usize);
        let start = record.saturating_add(plain.start).min(end);
        let mut fresh = start as u32..end as u32;

        while self.framed < self.plain {
            match self.measure(self.framed, packet_len_max)? {
                Measure::Whole(len) => self.framed += len as u32,
                Measure::Partial { missing, .. } => {
                    if fresh.is_empty() {
                        break;
                    }
                    self.join(&mut fresh, missing)?;
                }
            }
        }
        if !fresh.is_empty() {
            self.start_run(fresh);
            while self.framed < self.plain {
                match self.measure(self.framed, packet_len_max)? {
                    Measure::Whole(len) => self.framed += len as u32,
                    Measure::Partial { .. } => break,
                }
            }
        }
        self.invariants();
        Ok(())
    }

    /// Moves up to `missing` bytes of newly opened plaintext left to the partial frame that they continue.
    ///
    /// ```text
    ///           framed    plain         fresh                    sealed
    /// before  ──│ partial ░│  dead gap   │ rest of it ░░│ next ▓▓▓▓│──
    /// after   ──│ partial ░ rest of it ░░│ dead gap     │ next ▓▓▓▓│──
    ///                                    plain          fresh
    /// ```
    ///
    /// The newly opened bytes move, and of them only those of the frame: moving the partial right to meet them would
    /// move its first bytes again with each record, and what follows is whole where it lies.
    fn join(&mut self, fresh: &mut Range<u32>, missing: usize) -> Result<(), DecodeError> {
        let len = fresh.len().min(missing.max(1)) as u32;
        let source = fresh.start as usize..(fresh.start + len) as usize;
        let bytes = self.block.bytes_mut().ok_or(DecodeError::Truncated)?;
        bytes.copy_within(source, self.plain as usize);
        self.copied().joined.fetch_add(u64::from(len), Relaxed);
        self.plain += len;
        fresh.start += len;
        Ok(())
    }

    /// Starts a run with plaintext that begins with a frame, and closes the one before it.
    fn start_run(&mut self, fresh: Range<u32>) {
        if self.runs.is_empty() && self.consumed == self.framed {
            // Nothing is left of the current run, so there is nothing to come back to.
            self.consumed = fresh.start;
        } else if self.run_start < self.framed {
            self.runs.push(self.run_start..self.framed);
        }
        self.run_start = fresh.start;
        self.framed = fresh.start;
        self.plain = fresh.end;
    }

    /// The next whole frame, that is the one at `consumed`; `None` when there is only a partial one or nothing.
    ///
    /// # Errors
    ///
    /// The fixed header is malformed or declares more than `packet_len_max` bytes.
    pub fn next_frame(&mut self, packet_len_max: usize) -> Result<Option<Range<usize>>, DecodeError> {
        if self.consumed == self.run_end() {
            self.next_run();
        }
        if self.consumed == self.run_end() {
            return Ok(None);
        }
        match self.measure(self.consumed, packet_len_max)? {
            Measure::Partial { .. } => Ok(None),
            Measure::Whole(len) => {
                let frame = self.consumed as usize..self.consumed as usize + len;
                // Without TLS nobody has measured this frame before.
                self.framed = self.framed.max(frame.end as u32);
                self.invariants();
                Ok(Some(frame))
            }
        }
    }

    /// Moves past `len` bytes, those of the frame that [`next_frame`](Self::next_frame) returned.
    pub fn consume(&mut self, len: usize) {
        let end = self.run_end().min(self.framed);
        let len = len.min((end - self.consumed) as usize);
        self.consumed += len as u32;
        self.invariants();
    }

    /// Whether nothing is left: no frame, no partial frame, no part of a record.
    pub fn is_drained(&self) -> bool {
        self.held_len() == 0
    }

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
        if self.sealed == self.received {
            // Nothing sealed follows the gap, so the gap is room.
            self.sealed = self.plain;
            self.received = self.plain;
        }
        let must_move = self.block.is_retained() || wanted_len > len;
        let too_big = Pool::block_len(wanted_len) <= len / SHRINK_SHARE;
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
        self.runs = Vec::new();
        Ok(Some(self))
    }

    /// Whether a parked buffer should be [unparked](Self::unpark) before the next read: the last read filled it, so
    /// there is probably more than its small block can take.
    pub fn wants_hot(&self) -> bool {
        self.filled && self.held_len() <= HOT_BLOCK_LEN / 4
    }

    /// Moves what a parked buffer holds to the start of this one, the hot buffer after a [`reset`](Self::reset).
    ///
    /// Without this a busy connection that once parked would read through a small block for as long as each read
    /// ends within a frame. Returns the parked buffer if this one is not clear, frozen or too small.
    #[must_use = "what comes back was not moved"]
    pub fn unpark(&mut self, parked: Self, pool: &mut Pool) -> Option<Self> {
        let held_len = parked.held_len();
        let usable = self.received == 0 && !self.block.is_retained() && held_len < self.block.len();
        if !usable || !self.copy_from(&parked) {
            return Some(parked);
        }
        parked.release(pool);
        None
    }

    /// Clears the hot buffer for the next connection, and takes another block if something was kept from this one.
    ///
    /// # Errors
    ///
    /// [`Overload::Memory`]: the pool has no block to give. The buffer is clear but frozen, with no room to read into.
    pub fn reset(&mut self, pool: &mut Pool) -> Result<(), Overload> {
        self.clear();
        if self.block.is_retained() {
            let block = pool.take(self.block.len()).ok_or(Overload::Memory)?;
            pool.put(mem::replace(&mut self.block, block));
        }
        Ok(())
    }

    /// Gives the block back to its pool.
    pub fn release(self, pool: &mut Pool) {
        pool.put(self.block);
    }

    fn measure(&self, from: u32, packet_len_max: usize) -> Result<Measure, DecodeError> {
        let end = if from < self.run_start {
            self.run_end()
        } else {
            self.plain
        };
        frame::measure(self.bytes(from as usize..end as usize), packet_len_max)
    }

    /// Where the run ends that is being parsed; for the current one, with the partial frame at its end.
    fn run_end(&self) -> u32 {
        let run = self.runs.get(self.run_index as usize);
        run.map_or(self.plain, |run| run.end)
    }

    /// Goes on to the next run, if there is one.
    fn next_run(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        self.run_index += 1;
        if let Some(run) = self.runs.get(self.run_index as usize) {
            self.consumed = run.start;
        } else {
            self.runs.clear();
            self.run_index = 0;
            self.consumed = self.run_start;
        }
    }

    /// What is left, in order: of the run being parsed, the runs behind it, and the records not opened.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let later = self.runs.iter().skip(self.run_index as usize + 1).cloned();
        let current = (!self.runs.is_empty()).then_some(self.run_start..self.plain);
        iter::once(self.consumed..self.run_end())
            .chain(later)
            .chain(current)
            .chain(iter::once(self.sealed..self.received))
            .map(|piece| piece.start as usize..piece.end as usize)
    }

    /// How many bytes are left, plaintext and sealed.
    fn held_len(&self) -> usize {
        self.pieces().map(|piece| piece.len()).sum()
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

    /// How long the record is that was received in part, or may be that brings `missing` bytes of plaintext.
    fn record_len(&self, missing: usize) -> usize {
        let header = self.bytes(self.sealed as usize..self.received as usize);
        // RFC 8446 section 5.1: type, version, length.
        let len = match *header {
            [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
            _ => missing.saturating_add(RECORD_EXPANSION),
        };
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
        parked.filled = self.filled;
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
        self.start_with(held_len, (source.received - source.sealed) as usize);
        true
    }

    /// Moves what is left to the start of the block, without gaps; the drawing of [`copy_from`](Self::copy_from), in
    /// place.
    fn compact(&mut self) {
        let pieces: Vec<_> = self.pieces().collect();
        let sealed_len = (self.received - self.sealed) as usize;
        let Some(bytes) = self.block.bytes_mut() else {
            return;
        };
        let mut held_len = 0;
        for piece in pieces {
            let len = piece.len();
            bytes.copy_within(piece, held_len);
            held_len += len;
        }
        self.start_with(held_len, sealed_len);
    }

    /// Sets the cursors for `held_len` bytes that were moved to the start, the last `sealed_len` of them not opened.
    fn start_with(&mut self, held_len: usize, sealed_len: usize) {
        self.copied().moved.fetch_add(held_len as u64, Relaxed);
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

    fn clear(&mut self) {
        if cfg!(debug_assertions) {
            self.poison();
        }
        self.runs.clear();
        self.run_index = 0;
        self.run_start = 0;
        self.consumed = 0;
        self.framed = 0;
        self.plain = 0;
        self.sealed = 0;
        self.received = 0;
        self.filled = false;
    }

    /// Overwrites what was received, so that a test fails which reads the bytes of the connection before.
    fn poison(&mut self) {
        let received = self.received as usize;
        if let Some(used) = self.block.bytes_mut().and_then(|bytes| bytes.get_mut(..received)) {
            used.fill(POISON);
        }
    }

    fn copied(&self) -> &Copied {
        &self.block.home().copied
    }

    fn invariants(&self) {
        debug_assert!(self.consumed <= self.framed);
        debug_assert!(self.framed <= self.plain);
        debug_assert!(self.plain <= self.sealed);
        debug_assert!(self.sealed <= self.received);
        debug_assert!(self.received as usize <= self.block.len());
        debug_assert!(self.run_start <= self.framed);
        debug_assert!(self.run_index == 0 || (self.run_index as usize) < self.runs.len());
        debug_assert!(
            self.runs
                .last()
                .is_none_or(|run| run.start < run.end && run.end <= self.run_start)
        );
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
const POISON: u8 = 0xdb;
