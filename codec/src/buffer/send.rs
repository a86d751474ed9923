//! What a connection has to send.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;

use super::pool::SEND_BLOCK_LEN;
use super::{Block, Pool};

mod framing;
pub use framing::Framing;

#[cfg(test)]
mod tests;

/// The output of one connection, encoded once into pooled blocks, sealed in place, and handed out block by block.
///
/// Under TLS each block holds one record: its plaintext lies behind the room for the record's header and in front
/// of that for its tag, and several packets share it. Bytes that are sent as they are, such as those of the
/// handshake, have blocks of their own.
///
/// An idle connection owns no block. One block is with the driver at a time, meanwhile output goes to a second one.
/// The bytes that are accepted and not yet sent are bounded, the block at the driver included.
#[derive(Debug)]
pub struct SendBuf {
    /// The newest block, with room behind its end.
    open: Option<Output>,
    /// Blocks in front of the open one, oldest first. The queue is the pool's, and goes back when it is empty.
    closed: Option<Queue>,
    /// Bytes in the blocks above.
    queued: u32,
    /// Bytes in the block at the driver.
    in_flight: u32,
    /// Bytes of the open block that were reserved and may be committed.
    reserved: u32,
    bytes_max: u32,
    framing: Framing,
}

/// Blocks of output in a row. It is there only while they wait, and an idle connection pays for the pointer alone.
#[allow(clippy::box_collection, reason = "most of the time there is none")]
pub(super) type Queue = Box<VecDeque<Output>>;

/// A block with output at `head..end`.
#[derive(Debug)]
pub(super) struct Output {
    block: Block,
    end: u32,
    head: u16,
    tail: u16,
}

impl SendBuf {
    /// An empty buffer that accepts up to `bytes_max` bytes until they are sent.
    pub fn new(framing: Framing, bytes_max: u32) -> Self {
        Self {
            open: None,
            closed: None,
            queued: 0,
            in_flight: 0,
            reserved: 0,
            bytes_max,
            framing,
        }
    }

    /// Changes the framing of what is accepted from now on; what was accepted before goes out as it was meant to.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Bytes accepted and not yet handed out.
    pub fn len(&self) -> usize {
        self.queued as usize
    }

    /// Whether there is nothing to hand out.
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Bytes handed out and not yet reported as sent.
    pub fn in_flight_len(&self) -> usize {
        self.in_flight as usize
    }

    /// The most bytes that [`reserve`](Self::reserve) gives in one piece; more goes through
    /// [`append`](Self::append).
    pub fn contiguous_max(&self) -> usize {
        self.framing.plain_len(SEND_BLOCK_LEN)
    }

    /// Whether `len` more bytes are within the bound of this connection.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] and [`SendError::Full`].
    pub fn check(&self, len: usize) -> Result<(), SendError> {
        let bound = self.bytes_max as usize;
        if len > bound {
            return Err(SendError::TooLarge);
        }
        if self.in_flight as usize + self.queued as usize + len > bound {
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Contiguous room for one packet of `len` bytes, to be encoded there and then committed.
    ///
    /// Without [`commit`](Self::commit) nothing was accepted.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] and [`SendError::NoMemory`] pass; [`SendError::TooLarge`] does not: `len` is above this
    /// connection's bound or [`contiguous_max`](Self::contiguous_max).
    pub fn reserve(&mut self, pool: &mut Pool, len: usize) -> Result<&mut [u8], SendError> {
        self.check(len)?;
        if len > self.contiguous_max() {
            return Err(SendError::TooLarge);
        }
        self.open_with_room(pool, self.framing, len)?;
        self.reserved = len as u32;
        let room = self.open.as_mut().and_then(Output::room);
        room.and_then(|room| room.get_mut(..len))
            .ok_or(SendError::NoMemory)
    }

    /// Accepts the first `len` bytes of what was reserved, and of more only as many: what lies behind may be another
    /// connection's. Whatever changes the output in between takes the reservation back.
    pub fn commit(&mut self, len: usize) {
        let len = len.min(mem::take(&mut self.reserved) as usize) as u32;
        if let Some(output) = &mut self.open {
            output.end += len;
            self.queued += len;
        }
    }

    /// Accepts all of `bytes`, or nothing, over as many records as it takes.
    ///
    /// A packet of a reserved header and an appended payload is checked as a whole before, and its header
    /// [retracted](Self::retract) if appending fails.
    ///
    /// # Errors
    ///
    /// Any [`SendError`].
    pub fn append(&mut self, pool: &mut Pool, bytes: &[u8]) -> Result<(), SendError> {
        self.append_framed(pool, self.framing, bytes)
    }

    /// Accepts all of `bytes`, or nothing, to be sent as they are: flights of the handshake, alerts, key updates.
    ///
    /// They go out behind everything that was handed out or needs no sealing, but in front of plaintext that is not
    /// sealed yet. A record that comes here sealed has its sequence number already, and those of that plaintext are
    /// given later, by [`take_ready`](Self::take_ready) (RFC 8446 section 5.3). So `close_notify`, which must come
    /// last, is made only when this buffer [is empty](Self::is_empty).
    ///
    /// # Errors
    ///
    /// Any [`SendError`].
    pub fn append_raw(&mut self, pool: &mut Pool, bytes: &[u8]) -> Result<(), SendError> {
        let unsealed = |output: &Output| !output.is_framed(Framing::PLAIN);
        // Nothing takes no block of its own, which would be handed out as output that is none.
        if bytes.is_empty() || !self.open.as_ref().is_some_and(unsealed) {
            return self.append_framed(pool, Framing::PLAIN, bytes);
        }
        self.check(bytes.len())?;
        self.check_blocks()?;
        let mut block = pool.take(bytes.len()).ok_or(SendError::NoMemory)?;
        let room = block.bytes_mut().and_then(|room| room.get_mut(..bytes.len()));
        room.ok_or(SendError::NoMemory)?.copy_from_slice(bytes);
        let mut output = Output::new(block, Framing::PLAIN);
        output.end = bytes.len() as u32;
        self.queued += output.end;
        let closed = self.closed.get_or_insert_with(|| pool.take_queue());
        let index = closed.iter().position(unsealed).unwrap_or(closed.len());
        closed.insert(index, output);
        Ok(())
    }

    /// Takes back the last `len` bytes that were accepted and not handed out.
    pub fn retract(&mut self, pool: &mut Pool, len: usize) {
        let mut left = len.min(self.len()) as u32;
        self.queued -= left;
        while let Some(mut output) = self.pop_newest() {
            let taken = left.min(output.len());
            output.end -= taken;
            left -= taken;
            if output.len() > 0 {
                self.open = Some(output);
                break;
            }
            pool.put(output.block);
        }
        self.return_queue(pool);
    }

    /// Hands out the oldest block with the range of it that is to be sent, sealed before if it holds plaintext of a
    /// record. `None` when there is nothing, or when the block before was not reported as [`sent`](Self::sent).
    ///
    /// `seal` is given the whole block and where the plaintext lies in it, with the framing's room around it, and
    /// returns where the sealed record lies.
    ///
    /// # Errors
    ///
    /// That of `seal`. The block's bytes are gone then, so the connection must be closed.
    pub fn take_ready<E>(
        &mut self,
        seal: impl FnOnce(&mut [u8], Range<usize>) -> Result<Range<usize>, E>,
    ) -> Result<Option<(Block, Range<usize>)>, E> {
        if self.in_flight > 0 || self.queued == 0 {
            return Ok(None);
        }
        let Some(mut output) = self.pop_oldest() else {
            return Ok(None);
        };
        let len = output.len();
        self.queued -= len;
        let plain = usize::from(output.head)..output.end as usize;
        let ready = if output.is_framed(Framing::PLAIN) {
            plain
        } else {
            let bytes = output.block.bytes_mut();
            seal(bytes.expect("a block of output is lent to nobody"), plain)?
        };
        self.in_flight = len;
        Ok(Some((output.block, ready)))
    }

    /// Says that the block last handed out was sent, or will never be, and gives it back.
    pub fn sent(&mut self, pool: &mut Pool, block: Block) {
        self.in_flight = 0;
        pool.put(block);
        self.return_queue(pool);
    }

    /// Drops all output that was not handed out.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.retract(pool, usize::MAX);
    }

    fn append_framed(&mut self, pool: &mut Pool, framing: Framing, bytes: &[u8]) -> Result<(), SendError> {
        self.check(bytes.len())?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.open_with_room(pool, framing, 1) {
                Ok(output) => {
                    let len = output.push(framing, rest);
                    rest = &rest[len..];
                    self.queued += len as u32;
                }
                Err(error) => {
                    self.retract(pool, bytes.len() - rest.len());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The open block, or another one, with room for at least `len` bytes.
    fn open_with_room(
        &mut self,
        pool: &mut Pool,
        framing: Framing,
        len: usize,
    ) -> Result<&mut Output, SendError> {
        self.reserved = 0;
        let fits = |output: &Output| output.is_framed(framing) && output.room_len(framing) >= len;
        if !self.open.as_ref().is_some_and(fits) {
            self.open_another(pool, framing, len)?;
        }
        self.open.as_mut().ok_or(SendError::NoMemory)
    }

    fn open_another(&mut self, pool: &mut Pool, framing: Framing, len: usize) -> Result<(), SendError> {
        if len > framing.plain_len(SEND_BLOCK_LEN) {
            return Err(SendError::TooLarge);
        }
        self.check_blocks()?;
        let first = self.queued == 0 && len <= framing.plain_len(FIRST_BLOCK_LEN);
        let block_len = if first { FIRST_BLOCK_LEN } else { SEND_BLOCK_LEN };
        let block = pool.take(block_len).ok_or(SendError::NoMemory)?;
        match self.open.replace(Output::new(block, framing)) {
            // Something was reserved and not committed.
            Some(before) if before.len() == 0 => pool.put(before.block),
            Some(before) => {
                let closed = self.closed.get_or_insert_with(|| pool.take_queue());
                closed.push_back(before);
            }
            None => {}
        }
        Ok(())
    }

    /// Bounds the number of blocks: two in a row hold more than one could, unless the framing changes between them.
    fn check_blocks(&self) -> Result<(), SendError> {
        let needed_max = 2 * self.bytes_max as usize / self.contiguous_max().max(1);
        let waiting = self.closed.as_ref().map_or(0, |closed| closed.len());
        if waiting > needed_max + FRAMING_CHANGES_MAX {
            return Err(SendError::Full);
        }
        Ok(())
    }

    fn pop_oldest(&mut self) -> Option<Output> {
        self.reserved = 0;
        let closed = self.closed.as_mut().and_then(|closed| closed.pop_front());
        closed.or_else(|| self.open.take())
    }

    fn pop_newest(&mut self) -> Option<Output> {
        self.reserved = 0;
        let open = self.open.take();
        open.or_else(|| self.closed.as_mut()?.pop_back())
    }

    /// Gives the queue back if nothing is in it.
    fn return_queue(&mut self, pool: &mut Pool) {
        if let Some(closed) = self.closed.take_if(|closed| closed.is_empty()) {
            pool.put_queue(closed);
        }
    }
}

impl Output {
    fn new(block: Block, framing: Framing) -> Self {
        Self {
            block,
            end: u32::from(framing.head),
            head: framing.head,
            tail: framing.tail,
        }
    }

    fn len(&self) -> u32 {
        self.end - u32::from(self.head)
    }

    fn is_framed(&self, framing: Framing) -> bool {
        (self.head, self.tail) == (framing.head, framing.tail)
    }

    /// How many more bytes a record of `framing` can take in this block.
    fn room_len(&self, framing: Framing) -> usize {
        framing
            .plain_len(self.block.len())
            .saturating_sub(self.len() as usize)
    }

    /// What is behind the output in the block.
    fn room(&mut self) -> Option<&mut [u8]> {
        let end = self.end as usize;
        self.block.bytes_mut()?.get_mut(end..)
    }

    /// Takes as many of `bytes` as there is room for, and returns their number.
    fn push(&mut self, framing: Framing, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room_len(framing));
        let Some(room) = self.room().and_then(|room| room.get_mut(..len)) else {
            return 0;
        };
        room.copy_from_slice(&bytes[..len]);
        self.end += len as u32;
        len
    }
}

/// Why output was not accepted. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has as much unsent output as it may.
    Full,
    /// It could not be accepted even if nothing else waited.
    TooLarge,
    /// The shard's blocks hold all the memory that they may.
    NoMemory,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the connection's output is full",
            Self::TooLarge => "longer than the connection's output may ever be",
            Self::NoMemory => "the shard's buffers hold all the memory that they may",
        })
    }
}

impl std::error::Error for SendError {}

/// The first block of output: most devices send a few small packets at a time.
const FIRST_BLOCK_LEN: usize = 4096;
/// How many blocks may wait beyond those that the byte bound explains.
const FRAMING_CHANGES_MAX: usize = 8;
