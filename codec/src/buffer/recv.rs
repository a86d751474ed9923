//! What a connection received and has not yet consumed.

use std::mem;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::frame::{self, Measure, Split};
use crate::{DecodeError, Frame};

use super::block::Copied;
use super::{Block, Overload, Pool};

mod park;
pub use park::Link;

mod runs;
use runs::Runs;

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
    /// Runs of whole frames before the current one. They own no memory at rest, nor without TLS.
    runs: Runs,
    /// How long the last read was if it filled the block, so that there is probably more to read; else 0.
    filling_len: u32,
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
            runs: Runs::default(),
            filling_len: 0,
        }
    }

    /// The block that the bytes lie in, to keep parts of.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The bytes at `range`; none if it is out of bounds.
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.block.bytes().get(range).unwrap_or_default()
    }

    /// The plaintext from the next frame on, up to the end of its run: what a malformed frame begins with, and what a
    /// sound one is the first [`Frame::len`] bytes of.
    pub fn unparsed(&self) -> &[u8] {
        self.bytes(self.consumed as usize..self.run_end() as usize)
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

    /// Whether [`spare`](Self::spare) is not empty.
    pub fn has_spare(&self) -> bool {
        (self.received as usize) < self.block.len() && !self.block.is_retained()
    }

    /// Says that `len` bytes were read into [`spare`](Self::spare).
    pub fn advance_received(&mut self, len: usize) {
        let len = len.min(self.block.len() - self.received as usize);
        self.received += len as u32;
        let filled = self.received as usize == self.block.len();
        self.filling_len = if filled { len as u32 } else { 0 };
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
    #[inline]
    pub fn next_frame(&self, packet_len_max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
        let unparsed = self.unparsed();
        if unparsed.is_empty() {
            return Ok(None);
        }
        Ok(match frame::split(unparsed, packet_len_max)? {
            Split::Complete(frame) => Some(frame),
            Split::Partial { .. } => None,
        })
    }

    /// The frame that was received, if it is all that was, and whole, and nothing was done with it yet.
    ///
    /// Then neither [`expose`](Self::expose) nor [`consume`](Self::consume) is needed, and [`reset`](Self::reset) is what
    /// comes next. `None` says nothing of what there is, malformed or too long perhaps.
    #[inline(always)]
    pub fn sole_frame(&self, packet_len_max: usize) -> Option<Frame<'_>> {
        // With nothing before it no cursor has moved but one.
        if self.sealed != 0 {
            return None;
        }
        let received = self.block.bytes().get(..self.received as usize)?;
        match frame::split(received, packet_len_max) {
            Ok(Split::Complete(frame)) if frame.len() == received.len() => Some(frame),
            _ => None,
        }
    }

    /// Moves past the frame that [`next_frame`](Self::next_frame) returned, whose length `len` is; and from the last one of
    /// a run to the next run.
    pub fn consume(&mut self, len: usize) {
        let len = len.min((self.run_end() - self.consumed) as usize);
        self.consumed += len as u32;
        // Without TLS nobody has measured this frame before.
        self.framed = self.framed.max(self.consumed);
        if !self.runs.is_empty() && self.consumed == self.run_end() {
            self.next_run();
        }
        self.invariants();
    }

    /// Whether nothing is left: no frame, no partial frame, no part of a record.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.held_len() == 0
    }

    /// Clears the hot buffer for the next connection, and takes another block if something was kept from this one.
    ///
    /// # Errors
    ///
    /// [`Overload::Memory`]: the pool has no block to give. The buffer is clear but frozen, with no room to read into.
    #[inline]
    pub fn reset(&mut self, pool: &mut Pool) -> Result<(), Overload> {
        self.clear();
        if self.block.is_retained() {
            return self.take_another(pool);
        }
        Ok(())
    }

    #[inline(never)]
    fn take_another(&mut self, pool: &mut Pool) -> Result<(), Overload> {
        let block = pool.take(self.block.len()).ok_or(Overload::Memory)?;
        pool.put(mem::replace(&mut self.block, block));
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
    #[inline]
    fn run_end(&self) -> u32 {
        if self.runs.is_empty() {
            return self.plain;
        }
        let run = self.runs.get(self.run_index as usize);
        run.map_or(self.plain, |run| run.end)
    }

    /// Goes on from an earlier run to the next, or to the current one.
    fn next_run(&mut self) {
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
        (0..).map_while(|index| self.piece(index))
    }

    fn piece(&self, index: usize) -> Option<Range<usize>> {
        let run_index = self.run_index as usize;
        // From the one being parsed on, without the current one.
        let runs_left = self.runs.len() - run_index;
        let piece = match index {
            0 => self.consumed..self.run_end(),
            _ if index < runs_left => self.runs.get(run_index + index)?.clone(),
            _ if index == runs_left => self.run_start..self.plain,
            _ if index == runs_left + 1 => self.sealed..self.received,
            _ => return None,
        };
        Some(piece.start as usize..piece.end as usize)
    }

    /// How many bytes are left, plaintext and sealed.
    #[inline]
    fn held_len(&self) -> usize {
        if self.runs.is_empty() {
            return (self.plain - self.consumed) as usize + (self.received - self.sealed) as usize;
        }
        self.pieces_len()
    }

    #[inline(never)]
    fn pieces_len(&self) -> usize {
        self.pieces().map(|piece| piece.len()).sum()
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
        self.filling_len = 0;
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

const POISON: u8 = 0xdb;
