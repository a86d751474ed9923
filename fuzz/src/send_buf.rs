//! `SendBuf` under any list of operations, beside a model that is nothing but a vector of bytes.

use std::ops::Range;

use fleetwire_codec::buffer::{Block, Framing, Pool, PoolLimits, SendBuf, SendError};

use super::input::Input;
use super::link;

/// Three bytes of settings, then operations of an opcode and what they read besides.
pub fn send_buf(input: &[u8]) {
    let mut input = Input(input);
    let mut connection = Connection::new(&mut input);
    while !input.0.is_empty() && connection.step(&mut input) {
        connection.check();
    }
    connection.close();
}

struct Connection {
    pool: Pool,
    buf: SendBuf,
    bytes_max: usize,
    framing: Framing,
    /// What waits: whether it is still to be sealed, and the byte.
    waiting: Vec<(bool, u8)>,
    /// What the driver has.
    in_flight: Option<(Block, usize)>,
    /// Whether room may be held that nothing was written to.
    reserved: bool,
    /// The next byte to send, so that each tells itself from those around it.
    next: u8,
}

impl Connection {
    fn new(input: &mut Input<'_>) -> Self {
        let framing = if input.bool() {
            Framing::PLAIN
        } else {
            link::FRAMING
        };
        let bytes_max = input.one_of(&[100, 20_000, 200_000]);
        let bytes_max_of_pool = input.one_of(&[256 << 20, 64 << 10, 20_000]);
        let limits = PoolLimits {
            bytes_max: bytes_max_of_pool,
            ..PoolLimits::default()
        };
        Self {
            pool: Pool::new(limits),
            buf: SendBuf::new(framing, bytes_max),
            bytes_max: bytes_max as usize,
            framing,
            waiting: Vec::new(),
            in_flight: None,
            reserved: false,
            next: 0,
        }
    }

    /// False when the connection has ended.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        let operation = input.byte() % 16;
        match operation {
            0..=2 => self.write(usize::from(input.byte()), usize::MAX),
            3 => self.write(usize::from(input.u16()), usize::from(input.u16())),
            4 => self.append(usize::from(input.u16()), false),
            5 => self.append(usize::from(input.byte()), false),
            6 => self.append(usize::from(input.byte()), true),
            7 => self.append(usize::from(input.u16()), true),
            8 => self.retract(usize::from(input.byte())),
            9 => self.retract(usize::from(input.u16())),
            // The handshake is over; the way back does not exist.
            10 => {
                self.framing = link::FRAMING;
                self.buf.set_framing(self.framing);
            }
            11..=13 => self.take(),
            14 => self.sent(),
            _ if input.byte() == 0 => return self.fail_to_seal(),
            _ => self.sent(),
        }
        true
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let bytes = (0..len)
            .map(|index| self.next.wrapping_add(index as u8))
            .collect();
        self.next = self.next.wrapping_add(len as u8);
        bytes
    }

    fn is_sealed(&self) -> bool {
        self.framing != Framing::PLAIN
    }

    /// Reserves, writes there, and accepts some of it.
    fn write(&mut self, len: usize, accepted_max: usize) {
        let bytes = self.bytes(len);
        let refused = self.pool.stats().takes_refused;
        let expected = match self.buf.check(len) {
            Ok(()) if len > self.buf.contiguous_max() => Err(SendError::TooLarge),
            checked => checked,
        };
        match self.buf.reserve(&mut self.pool, len) {
            Ok(room) => {
                assert_eq!((expected, room.len()), (Ok(()), len));
                room.copy_from_slice(&bytes);
                let accepted = &bytes[..accepted_max.min(len)];
                self.buf.commit(accepted.len());
                self.reserved = self.reserved || accepted.is_empty();
                let sealed = self.is_sealed();
                self.waiting.extend(accepted.iter().map(|&byte| (sealed, byte)));
            }
            Err(error) => self.refused(error, expected, refused),
        }
    }

    fn append(&mut self, len: usize, raw: bool) {
        let bytes = self.bytes(len);
        let refused = self.pool.stats().takes_refused;
        let expected = self.buf.check(len);
        let appended = if raw {
            self.buf.append_raw(&mut self.pool, &bytes)
        } else {
            self.buf.append(&mut self.pool, &bytes)
        };
        if let Err(error) = appended {
            return self.refused(error, expected, refused);
        }
        assert_eq!(expected, Ok(()));
        let sealed = !raw && self.is_sealed();
        // What is sealed already goes in front of what is not.
        let unsealed = self.waiting.iter().position(|(sealed, _)| *sealed);
        let at = unsealed.filter(|_| raw).unwrap_or(self.waiting.len());
        self.waiting
            .splice(at..at, bytes.into_iter().map(|byte| (sealed, byte)));
    }

    /// Nothing is refused without a reason.
    fn refused(&self, error: SendError, expected: Result<(), SendError>, refused_before: u64) {
        let stats = self.pool.stats();
        match (error, expected) {
            (SendError::NoMemory, Ok(())) => assert!(stats.takes_refused > refused_before),
            // Blocks are bounded besides the bytes in them.
            (SendError::Full, Ok(())) => assert!(stats.blocks_in_use > 8),
            (error, expected) => assert_eq!(Err(error), expected),
        }
    }

    fn retract(&mut self, len: usize) {
        self.buf.retract(&mut self.pool, len);
        self.waiting.truncate(self.waiting.len().saturating_sub(len));
    }

    fn take(&mut self) {
        let waiting = &self.waiting;
        let mut sealed = false;
        let seal = |block: &mut [u8], plain: Range<usize>| -> Result<_, ()> {
            sealed = true;
            assert!(plain.len() <= link::FRAMING.plain_max as usize);
            Ok(link::seal(block, plain))
        };
        let taken = self.buf.take_ready(seal).expect("sealing succeeds");
        let Some((block, range)) = taken else {
            assert!(waiting.is_empty() || self.in_flight.is_some());
            return;
        };
        assert!(self.in_flight.is_none());
        let mut bytes = block.bytes()[range].to_vec();
        if sealed {
            let plain = link::first_plain(&bytes).expect("it is a whole record");
            assert_eq!(plain.end + usize::from(link::FRAMING.tail), bytes.len());
            bytes = bytes[plain].to_vec();
            link::unmask(&mut bytes);
        }
        assert!(!bytes.is_empty());
        let expected: Vec<_> = self.waiting.drain(..bytes.len()).collect();
        assert_eq!(
            bytes.into_iter().map(|byte| (sealed, byte)).collect::<Vec<_>>(),
            expected
        );
        self.in_flight = Some((block, expected.len()));
    }

    fn sent(&mut self) {
        if let Some((block, _)) = self.in_flight.take() {
            self.buf.sent(&mut self.pool, block);
        }
    }

    /// Sealing fails, which ends the connection. Only plaintext can fail.
    fn fail_to_seal(&mut self) -> bool {
        if self.in_flight.is_some() || !self.waiting.first().is_some_and(|(sealed, _)| *sealed) {
            return true;
        }
        assert_eq!(self.buf.take_ready(|_, _| Err(7)).expect_err("it fails"), 7);
        false
    }

    fn check(&self) {
        assert_eq!(self.buf.len(), self.waiting.len());
        assert_eq!(self.buf.is_empty(), self.waiting.is_empty());
        let in_flight = self.in_flight.as_ref().map_or(0, |(_, len)| *len);
        assert_eq!(self.buf.in_flight_len(), in_flight);
        assert!(in_flight + self.waiting.len() <= self.bytes_max);
        if in_flight + self.waiting.len() == 0 && !self.reserved {
            assert_eq!(
                self.pool.stats().blocks_in_use,
                0,
                "an idle connection owns a block"
            );
        }
    }

    fn close(mut self) {
        self.sent();
        self.buf.clear(&mut self.pool);
        assert_eq!((self.buf.len(), self.buf.in_flight_len()), (0, 0));
        assert_eq!(self.pool.stats().blocks_in_use, 0);
    }
}
