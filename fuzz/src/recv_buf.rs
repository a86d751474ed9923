//! `RecvBuf` and `Pool` under any list of operations, beside a model that is nothing but vectors of bytes.

use bytes::Bytes;
use fleetwire_codec::DecodeError;
use fleetwire_codec::buffer::{Block, HOT_BLOCK_LEN, Link, Pool, PoolLimits, RecvBuf};
use fleetwire_codec::frame::Split;

use super::frame::split;
use super::input::Input;
use super::link;
use super::packet::with_header;

/// Three bytes of settings, then operations of an opcode and what they read besides.
pub fn recv_buf(input: &[u8]) {
    let mut input = Input(input);
    let mut shard = Shard::new(&mut input);
    while !input.0.is_empty() {
        shard.step(&mut input);
        shard.check();
    }
    shard.close();
}

/// Two connections that share a shard.
struct Shard {
    pool: Pool,
    limits: PoolLimits,
    hot: RecvBuf,
    /// Which connection the hot buffer holds something of.
    hot_user: Option<usize>,
    parked: [Option<RecvBuf>; 2],
    models: [Model; 2],
    link: Link,
    packet_len_max: usize,
    /// What applications keep, and a copy of what it must be.
    kept: Vec<(Bytes, Vec<u8>)>,
    /// Blocks that others of the shard use.
    others: Vec<Block>,
    bytes_read: u64,
}

/// What must be in the buffer of one connection.
#[derive(Default)]
struct Model {
    /// What the peer has sent and nobody has read.
    wire: Vec<u8>,
    /// What was opened and not consumed.
    plain: Vec<u8>,
    /// What was read and not opened.
    sealed: Vec<u8>,
}

impl Model {
    fn held_len(&self) -> usize {
        self.plain.len() + self.sealed.len()
    }

    /// The first frame that is whole.
    fn frame(&self, packet_len_max: usize) -> Result<Option<Vec<u8>>, DecodeError> {
        Ok(match split(&self.plain, packet_len_max)? {
            Split::Complete(frame) => Some(self.plain[..frame.len()].to_vec()),
            Split::Partial { .. } => None,
        })
    }

    /// The error that ends the plaintext, if one does.
    fn error(&self, packet_len_max: usize) -> Option<DecodeError> {
        let mut rest = &self.plain[..];
        loop {
            match split(rest, packet_len_max) {
                Ok(Split::Complete(frame)) => rest = &rest[frame.len()..],
                Ok(Split::Partial { .. }) => return None,
                Err(error) => return Some(error),
            }
        }
    }
}

impl Shard {
    fn new(input: &mut Input<'_>) -> Self {
        let link = if input.bool() { Link::Tls } else { Link::Plain };
        let packet_len_max = input.one_of(&[64, 4096, 256 * 1024]);
        let limits = limits(input.byte());
        let mut pool = Pool::new(limits);
        let hot = RecvBuf::new(pool.take(HOT_BLOCK_LEN).expect("it is the first"));
        Self {
            pool,
            limits,
            hot,
            hot_user: None,
            parked: [None, None],
            models: Default::default(),
            link,
            packet_len_max,
            kept: Vec::new(),
            others: Vec::new(),
            bytes_read: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        let who = usize::from(operation >> 7);
        match operation & 0x0F {
            0 | 1 => self.peer_sends(who, input),
            2 | 3 => self.read(who, usize::from(input.u16())),
            4 => while self.open(who) {},
            5 => drop(self.open(who)),
            6 | 7 => self.deliver(who, usize::from(input.byte()), input.byte()),
            8 | 9 => self.end_pass(who),
            10 => self.unpark(who),
            11 => self.close_connection(who),
            12 => self.let_go(usize::from(input.byte() % 4)),
            13 if self.others.len() < 8 => self.others.extend(self.pool.take(usize::from(input.u16()) * 8)),
            14 => {
                if let Some(block) = self.others.pop() {
                    self.pool.put(block);
                }
            }
            _ => drop(self.others.pop()),
        }
    }

    /// The fuzzer's own bytes, or a PUBLISH of some length; under TLS in records.
    fn peer_sends(&mut self, who: usize, input: &mut Input<'_>) {
        let wire = &mut self.models[who].wire;
        let own = input.bool();
        let len = usize::from(input.u16());
        let plain = if own {
            input.binary().to_vec()
        } else {
            with_header(0x30, &vec![len as u8; len])
        };
        if wire.len() > 2 * HOT_BLOCK_LEN {
            return;
        }
        match self.link {
            Link::Plain => wire.extend(plain),
            Link::Tls if plain.is_empty() => wire.extend(link::sealed(&plain)),
            // Not so small that their tags are most of it.
            Link::Tls => plain
                .chunks(20 + len % 16_000)
                .for_each(|chunk| wire.extend(link::sealed(chunk))),
        }
    }

    /// The buffer that the connection reads into. What another has in the hot one is parked before.
    fn buf(&mut self, who: usize) -> Option<(&mut RecvBuf, &mut Model)> {
        if self.parked[who].is_none() && self.hot_user != Some(who) {
            if let Some(other) = self.hot_user {
                self.end_pass(other);
            }
            // If something was kept from it and there is no other, nobody can read now.
            self.hot.reset(&mut self.pool).ok()?;
            assert_eq!(self.hot.spare().len(), HOT_BLOCK_LEN);
            self.hot_user = Some(who);
        }
        let buf = self.parked[who].as_mut().unwrap_or(&mut self.hot);
        Some((buf, &mut self.models[who]))
    }

    fn read(&mut self, who: usize, len_max: usize) {
        let (link, packet_len_max) = (self.link, self.packet_len_max);
        let Some((buf, model)) = self.buf(who) else {
            return;
        };
        let frozen = buf.block().is_retained();
        let spare = buf.spare();
        assert!(!frozen || spare.is_empty());
        let len = len_max.min(spare.len()).min(model.wire.len());
        spare[..len].copy_from_slice(&model.wire[..len]);
        model.sealed.extend(model.wire.drain(..len));
        buf.advance_received(len);
        if link == Link::Plain
            && let Some(frame) = buf.sole_frame(packet_len_max)
        {
            assert!(model.plain.is_empty());
            assert_eq!(split(&model.sealed, packet_len_max), Ok(Split::Complete(frame)));
            assert_eq!(frame.len(), model.sealed.len());
        }
        self.bytes_read += len as u64;
    }

    /// Opens the next record; without TLS everything. False if there is no more.
    fn open(&mut self, who: usize) -> bool {
        let (link, packet_len_max) = (self.link, self.packet_len_max);
        let Some((buf, model)) = self.buf(who) else {
            return false;
        };
        if link == Link::Plain {
            buf.expose();
            model.plain.append(&mut model.sealed);
            return false;
        }
        if buf.block().is_retained() {
            assert!(buf.sealed_bytes().is_empty());
            return false;
        }
        let Some(plain) = link::first_plain(&model.sealed) else {
            assert_eq!(link::open(buf, packet_len_max), Ok(false));
            return false;
        };
        let mut record: Vec<_> = model
            .sealed
            .drain(..plain.end + usize::from(link::FRAMING.tail))
            .collect();
        link::unmask(&mut record[plain.clone()]);
        model.plain.extend(&record[plain]);
        let opened = link::open(buf, packet_len_max);
        assert_eq!(opened.err(), model.error(packet_len_max));
        if opened.is_err() {
            // What came before the malformed frame is delivered, and then the connection ends.
            self.deliver(who, usize::MAX, 0);
            assert_eq!(self.models[who].held_len(), 0);
        }
        opened == Ok(true)
    }

    /// Frames, of which those are kept that have a bit.
    fn deliver(&mut self, who: usize, frames_max: usize, keep: u8) {
        let packet_len_max = self.packet_len_max;
        for index in 0..frames_max {
            let Some((buf, model)) = self.buf(who) else {
                return;
            };
            let found = buf.next_frame(packet_len_max);
            let expected = model.frame(packet_len_max);
            let frame = match (found, expected) {
                (Ok(Some(found)), Ok(Some(frame))) => {
                    assert_eq!(&buf.unparsed()[..found.len()], frame);
                    assert!(frame.ends_with(found.body()));
                    frame
                }
                (Ok(None), Ok(None)) => return,
                (Err(error), Err(expected)) => {
                    assert_eq!(error, expected);
                    return self.close_connection(who);
                }
                (found, expected) => panic!("{found:?}, but {expected:?}"),
            };
            let len = frame.len();
            let kept = (keep >> (index % 8) & 1 == 1).then(|| {
                let kept = buf.block().keep(&buf.unparsed()[..len]);
                (kept, model.plain[..len].to_vec())
            });
            buf.consume(len);
            model.plain.drain(..len);
            self.kept.extend(kept);
        }
    }

    fn end_pass(&mut self, who: usize) {
        let (link, packet_len_max) = (self.link, self.packet_len_max);
        let ended = if let Some(parked) = self.parked[who].take() {
            parked.repark(&mut self.pool, link, packet_len_max)
        } else if self.hot_user == Some(who) {
            self.hot_user = None;
            self.hot.park(&mut self.pool, link, packet_len_max)
        } else {
            return;
        };
        let model = &mut self.models[who];
        match ended {
            Ok(Some(mut parked)) => {
                assert!(model.held_len() > 0);
                assert!(!parked.spare().is_empty(), "there is always room to read");
                self.parked[who] = Some(parked);
            }
            Ok(None) => assert_eq!(model.held_len(), 0),
            // The connection must be closed; another takes its place.
            Err(_) => *model = Model::default(),
        }
    }

    fn unpark(&mut self, who: usize) {
        if self.hot_user.is_some() || self.hot.reset(&mut self.pool).is_err() {
            return;
        }
        let Some(parked) = self.parked[who].take() else {
            return;
        };
        let unparked = self.hot.unpark(&parked);
        assert_eq!(unparked, self.models[who].held_len() < HOT_BLOCK_LEN);
        if unparked {
            parked.release(&mut self.pool);
            self.hot_user = Some(who);
        } else {
            self.parked[who] = Some(parked);
        }
    }

    fn close_connection(&mut self, who: usize) {
        if let Some(parked) = self.parked[who].take() {
            parked.release(&mut self.pool);
        } else if self.hot_user == Some(who) {
            self.hot_user = None;
            // Frozen at worst, and then the next user sees to it.
            let _frozen = self.hot.reset(&mut self.pool);
        }
        self.models[who] = Model::default();
    }

    /// Drops what is kept beyond so many, after a last look at all of it.
    fn let_go(&mut self, kept_max: usize) {
        for (kept, expected) in &self.kept {
            assert_eq!(kept, expected, "kept bytes have changed");
        }
        self.kept.truncate(kept_max);
    }

    /// What must hold between any two operations.
    fn check(&mut self) {
        for who in 0..2 {
            let model = &self.models[who];
            let buf = match &mut self.parked[who] {
                Some(parked) => parked,
                None if self.hot_user == Some(who) => &mut self.hot,
                None => {
                    assert_eq!(model.held_len(), 0);
                    continue;
                }
            };
            assert_eq!(buf.is_drained(), model.held_len() == 0);
            assert!(model.plain.starts_with(buf.unparsed()));
            if !buf.block().is_retained() {
                assert_eq!(buf.sealed_bytes(), model.sealed);
            }
        }
        let (stats, limits) = (self.pool.stats(), &self.limits);
        let parked = self.parked.iter().flatten();
        assert_eq!(
            stats.bytes_parked,
            parked.clone().map(|buf| buf.block().len() as u64).sum::<u64>()
        );
        assert!(stats.bytes_parked <= limits.bytes_parked_max);
        assert!(stats.bytes_retained <= limits.bytes_retained_max);
        assert!(stats.bytes_in_use <= stats.bytes_allocated && stats.bytes_allocated <= limits.bytes_max);
        assert!(stats.blocks_in_use >= (1 + parked.count() + self.others.len()) as u64);
        assert!(
            stats.bytes_joined <= self.bytes_read,
            "a byte was moved twice to join frames"
        );
    }

    /// Everything comes home.
    fn close(mut self) {
        for who in 0..2 {
            self.close_connection(who);
        }
        self.let_go(0);
        self.others.clear();
        drop(self.hot);
        let stats = self.pool.stats();
        assert_eq!((stats.blocks_in_use, stats.bytes_in_use), (0, 0));
        assert_eq!((stats.bytes_parked, stats.bytes_retained), (0, 0));
    }
}

/// Bounds that are as they are by default, or each so low that it is reached.
fn limits(tight: u8) -> PoolLimits {
    let mut limits = PoolLimits::default();
    if tight & 1 != 0 {
        limits.bytes_max = 2 * HOT_BLOCK_LEN as u64 + 8192;
    }
    if tight & 2 != 0 {
        limits.bytes_parked_max = 8192;
    }
    if tight & 4 != 0 {
        limits.bytes_retained_max = 70_000;
    }
    if tight & 8 != 0 {
        limits.retain_len_min = 1;
    }
    if tight & 16 != 0 {
        limits.blocks_coming_home_max = 1;
    }
    limits
}
