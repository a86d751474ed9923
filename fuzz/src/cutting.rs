//! However a stream is cut on its way through the buffers, the same frames come out.

use bytes::Bytes;
use fleetwire_codec::DecodeError;
use fleetwire_codec::buffer::{HOT_BLOCK_LEN, Link, Pool, PoolLimits, RecvBuf};
use fleetwire_codec::frame::Split;

use super::frame::split;
use super::input::Input;
use super::link;

/// A byte that says how, a byte for the number of cuts, two for each cut, and the stream.
///
/// The stream is read in pieces of these lengths, over and over. With TLS it lies in records besides, of the same
/// lengths in the other order. Frames are kept, and the connection is paused after each, if the first byte says so.
pub fn cutting(input: &[u8]) {
    let mut input = Input(input);
    let how = input.byte();
    let cuts: Vec<_> = (0..input.byte() % 32).map(|_| usize::from(input.u16())).collect();
    let stream = input.0;
    let link = if how & 1 == 0 { Link::Plain } else { Link::Tls };
    let (keeping, pausing) = (how & 2 != 0, how & 4 != 0);
    let packet_len_max = [128, 4096, 256 * 1024, usize::MAX][usize::from(how >> 6)];

    let expected = Whole::of(stream, packet_len_max);
    let mut connection = Connection::new(link, packet_len_max);
    let wire = match link {
        Link::Plain => stream.to_vec(),
        Link::Tls => records(stream, &cuts),
    };
    let mut wire = &wire[..];
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut kept: Vec<(usize, Bytes)> = Vec::new();
    let mut read_lens = cuts.iter().copied().filter(|&len| len > 0).cycle();
    let mut end = Ok(());
    while end.is_ok() && (!wire.is_empty() || connection.has_whole_frames) {
        let before = (wire.len(), frames.len());
        let read_max = read_lens.next().unwrap_or(usize::MAX);
        let frames_max = if pausing { 1 } else { usize::MAX };
        end = connection.pass(&mut wire, read_max, frames_max, |buf, frame| {
            if keeping && frames.len().is_multiple_of(3) {
                kept.push((frames.len(), buf.block().keep(frame)));
            }
            frames.push(frame.to_vec());
        });
        assert!(
            (wire.len(), frames.len()) != before || end.is_err(),
            "it goes no further"
        );
    }

    assert_eq!(frames, expected.frames);
    assert_eq!(end.err(), expected.error);
    if expected.error.is_none() {
        let parked = connection.parked.as_ref();
        assert_eq!(parked.map_or(&[][..], RecvBuf::unparsed), expected.rest);
    }
    for (index, kept) in &kept {
        assert_eq!(*kept, expected.frames[*index]);
    }
    drop(kept);
    connection.close(stream.len());
}

/// What the stream holds when nothing is cut.
struct Whole<'a> {
    frames: Vec<&'a [u8]>,
    rest: &'a [u8],
    error: Option<DecodeError>,
}

impl<'a> Whole<'a> {
    fn of(stream: &'a [u8], packet_len_max: usize) -> Self {
        let mut whole = Self {
            frames: Vec::new(),
            rest: stream,
            error: None,
        };
        loop {
            match split(whole.rest, packet_len_max) {
                Ok(Split::Complete(frame)) => {
                    let (frame, rest) = whole.rest.split_at(frame.len());
                    whole.frames.push(frame);
                    whole.rest = rest;
                }
                Ok(Split::Partial { .. }) => return whole,
                Err(error) => {
                    whole.error = Some(error);
                    return whole;
                }
            }
        }
    }
}

/// The stream in records of these lengths in turn, some of which may be empty.
fn records(stream: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut lens = cuts.iter().rev().copied().cycle();
    let any_progress = cuts.iter().any(|&len| len > 0);
    let (mut rest, mut wire) = (stream, Vec::new());
    while !rest.is_empty() {
        let len = lens.next().filter(|_| any_progress).unwrap_or(16_384);
        let (plain, behind) = rest.split_at(len.min(16_384).min(rest.len()));
        wire.extend(link::sealed(plain));
        rest = behind;
    }
    wire
}

/// One connection and what its shard owns.
struct Connection {
    pool: Pool,
    hot: RecvBuf,
    parked: Option<RecvBuf>,
    /// Whether the last pass ended before all whole frames were delivered.
    has_whole_frames: bool,
    link: Link,
    packet_len_max: usize,
}

impl Connection {
    fn new(link: Link, packet_len_max: usize) -> Self {
        let mut pool = Pool::new(PoolLimits::default());
        let hot = RecvBuf::new(pool.take(HOT_BLOCK_LEN).expect("the pool is empty"));
        Self {
            pool,
            hot,
            parked: None,
            has_whole_frames: false,
            link,
            packet_len_max,
        }
    }

    /// The four steps that `RecvBuf` documents, as an engine takes them.
    fn pass(
        &mut self,
        wire: &mut &[u8],
        read_max: usize,
        frames_max: usize,
        mut deliver: impl FnMut(&RecvBuf, &[u8]),
    ) -> Result<(), DecodeError> {
        self.hot.reset(&mut self.pool).expect("there is memory");
        if let Some(parked) = self.parked.take_if(|parked| parked.wants_hot()) {
            assert!(self.hot.unpark(&parked));
            parked.release(&mut self.pool);
        }
        let buf = self.parked.as_mut().unwrap_or(&mut self.hot);
        let spare = buf.spare();
        assert!(!spare.is_empty(), "there is always room to read");
        let (read, rest) = wire.split_at(spare.len().min(read_max).min(wire.len()));
        *wire = rest;
        spare[..read.len()].copy_from_slice(read);
        buf.advance_received(read.len());
        let opened = match self.link {
            Link::Plain => {
                buf.expose();
                Ok(())
            }
            Link::Tls => loop {
                match link::open(buf, self.packet_len_max) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
            },
        };
        // What came before a malformed frame is delivered, and then the connection ends.
        let frames_max = if opened.is_ok() { frames_max } else { usize::MAX };
        self.has_whole_frames = false;
        for delivered in 0.. {
            let Some(frame) = buf.next_frame(self.packet_len_max)? else {
                break;
            };
            if delivered == frames_max {
                self.has_whole_frames = true;
                break;
            }
            let len = frame.len();
            deliver(buf, &buf.unparsed()[..len]);
            buf.consume(len);
        }
        assert_eq!(opened, Ok(()), "the error is found again where the frame begins");
        self.parked = match self.parked.take() {
            Some(parked) => parked.repark(&mut self.pool, self.link, self.packet_len_max),
            None => self.hot.park(&mut self.pool, self.link, self.packet_len_max),
        }
        .expect("there is memory");
        Ok(())
    }

    /// Nothing stays in use, and no byte of plaintext was moved twice to join frames.
    fn close(mut self, plain_len: usize) {
        if let Some(parked) = self.parked.take() {
            parked.release(&mut self.pool);
        }
        self.hot.reset(&mut self.pool).expect("there is memory");
        let stats = self.pool.stats();
        assert_eq!(
            (stats.blocks_in_use, stats.bytes_parked, stats.bytes_retained),
            (1, 0, 0)
        );
        assert!(stats.bytes_joined <= plain_len as u64);
        drop(self.hot);
        assert_eq!(self.pool.stats().bytes_in_use, 0);
    }
}
