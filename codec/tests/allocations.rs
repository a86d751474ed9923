//! Decoding, framing and encoding allocate nothing, counted over all samples of both versions.

use std::hint::black_box;

use fleetwire_codec::buffer::{Framing, HOT_BLOCK_LEN, Link, Pool, PoolLimits, RecvBuf, SendBuf};
use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{Packet, TopicFilter, TopicName, Version};

#[path = "../../benches/samples.rs"]
pub mod samples;

use samples::samples;

/// Runs it, and it must not allocate.
fn without_allocating(what: &str, action: impl FnOnce()) {
    let counted = allocation_counter::measure(action);
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{what}");
}

/// Decodes a whole frame and looks at all that the packet lends.
fn decode_all(bytes: &[u8], version: Version) -> Option<Packet<'_>> {
    let Split::Complete(frame) = frame::split(bytes, bytes.len()).ok()? else {
        return None;
    };
    let packet = match Packet::decode(frame, version) {
        Ok(packet) => packet,
        Err(error) => {
            black_box((error.reason_code(), error.clause(version)));
            return None;
        }
    };
    match packet {
        Packet::Connect(connect) => {
            black_box(connect.properties.iter().count());
            black_box(connect.will.map(|will| will.properties.iter().count()));
        }
        Packet::Subscribe(subscribe) => {
            for (filter, options) in subscribe.filters.iter() {
                black_box((filter.shared(), filter.has_wildcard(), options));
            }
        }
        Packet::Suback(suback) => drop(black_box(suback.reasons().count())),
        Packet::Unsubscribe(unsubscribe) => drop(black_box(unsubscribe.filters.iter().count())),
        Packet::Unsuback(unsuback) => drop(black_box(unsuback.reasons().count())),
        Packet::Publish(publish) => {
            black_box((
                publish.properties.user_properties().count(),
                publish.properties.topic_alias(),
                publish.topic.levels().count(),
            ));
        }
        _ => {}
    }
    Some(packet)
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(black_box(vec![0_u8; 16])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 16));
}

#[test]
fn decoding() {
    for sample in samples() {
        without_allocating(&sample.name, || {
            assert!(decode_all(&sample.bytes, sample.version).is_some());
        });
    }
}

#[test]
fn refusing() {
    let mut refused = 0;
    for sample in samples() {
        let mut bytes = sample.bytes.clone();
        without_allocating(&sample.name, || {
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    bytes[at] ^= 1 << bit;
                    for version in [Version::V311, Version::V5] {
                        refused += usize::from(decode_all(&bytes, version).is_none());
                    }
                    bytes[at] ^= 1 << bit;
                }
            }
        });
    }
    assert!(refused > 1000);
}

#[test]
fn encoding() {
    for sample in samples() {
        let Some(packet) = decode_all(&sample.bytes, sample.version) else {
            panic!("{} is refused", sample.name);
        };
        let mut out = vec![0; sample.bytes.len()];
        let mut scratch = out.clone();
        without_allocating(&sample.name, || {
            assert_eq!(packet.encoded_len(sample.version), Ok(sample.bytes.len()));
            assert_eq!(packet.encode(sample.version, &mut out), Ok(sample.bytes.len()));
            // In the other version too, or refused.
            let other = match sample.version {
                Version::V311 => Version::V5,
                Version::V5 => Version::V311,
            };
            let _ = black_box(packet.encode(other, &mut scratch));
            let _ = black_box(packet.encode(sample.version, &mut scratch[1..]));
            if let Packet::Publish(publish) = packet {
                assert!(publish.encode_header(sample.version, &mut scratch).is_ok());
            }
        });
        assert_eq!(out, sample.bytes);
    }
}

#[test]
fn matching() {
    let topics = ["plant/7/temperature", "$SYS/broker", "a//b"].map(|topic| TopicName::new(topic).unwrap());
    without_allocating("filters", || {
        for filter in ["plant/+/temperature", "#", "$share/group/a/#", "+/+/+"] {
            let filter = TopicFilter::new(filter).unwrap();
            black_box(topics.iter().filter(|topic| filter.matches(**topic)).count());
        }
    });
}

/// All samples of a version, one behind the other.
fn stream(version: Version) -> Vec<u8> {
    let samples = samples().into_iter().filter(|sample| sample.version == version);
    samples.flat_map(|sample| sample.bytes).collect()
}

/// The stream in records of at most so many bytes, each with a header and a tag around it.
fn records(stream: &[u8], plain_max: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for plain in stream.chunks(plain_max) {
        records.extend([23, 3, 3]);
        records.extend(((plain.len() + TAG_LEN) as u16).to_be_bytes());
        records.extend(plain);
        records.extend([0xEE; TAG_LEN]);
    }
    records
}

/// One shard with one connection.
struct Receiver {
    pool: Pool,
    hot: RecvBuf,
    parked: Option<RecvBuf>,
    link: Link,
    version: Version,
    frames: usize,
}

impl Receiver {
    fn new(link: Link, version: Version) -> Self {
        let mut pool = Pool::new(PoolLimits::default());
        Self {
            hot: RecvBuf::new(pool.take(HOT_BLOCK_LEN).unwrap()),
            pool,
            parked: None,
            link,
            version,
            frames: 0,
        }
    }

    fn receive(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            self.pass(&mut input);
        }
    }

    /// One pass, as `RecvBuf` describes it; reads what there is room for.
    fn pass(&mut self, input: &mut &[u8]) {
        self.hot.reset(&mut self.pool).unwrap();
        let buf = self.parked.as_mut().unwrap_or(&mut self.hot);
        let room = buf.spare();
        let len = room.len().min(input.len());
        room[..len].copy_from_slice(input.split_off(..len).unwrap());
        buf.advance_received(len);
        match self.link {
            Link::Plain => buf.expose(),
            Link::Tls => {
                while let [_, _, _, high, low, ..] = *buf.sealed_bytes() {
                    let end = 5 + usize::from(u16::from_be_bytes([high, low]));
                    if buf.sealed_bytes().len() < end {
                        break;
                    }
                    buf.opened(end, 5..end - TAG_LEN, PACKET_LEN_MAX).unwrap();
                }
            }
        }
        while let Some(frame) = buf.next_frame(PACKET_LEN_MAX).unwrap() {
            let len = frame.len();
            assert!(decode_all(&buf.unparsed()[..len], self.version).is_some());
            buf.consume(len);
            self.frames += 1;
        }
        self.parked = match self.parked.take() {
            Some(parked) => parked.repark(&mut self.pool, self.link, PACKET_LEN_MAX).unwrap(),
            None => self.hot.park(&mut self.pool, self.link, PACKET_LEN_MAX).unwrap(),
        };
    }
}

/// After a first time, in which blocks are allocated, the same passes again must take none.
fn receives_without_allocating(what: &str, link: Link, version: Version, passes: &[&[u8]], frames: usize) {
    let mut receiver = Receiver::new(link, version);
    passes.iter().for_each(|input| receiver.receive(input));
    assert_eq!((receiver.frames, receiver.parked.is_none()), (frames, true));
    without_allocating(what, || {
        for _ in 0..3 {
            passes.iter().for_each(|input| receiver.receive(input));
        }
    });
    assert_eq!(receiver.frames, 4 * frames);
}

#[test]
fn framing() {
    for version in [Version::V311, Version::V5] {
        let stream = stream(version);
        let frames = samples()
            .iter()
            .filter(|sample| sample.version == version)
            .count();
        receives_without_allocating("all at once", Link::Plain, version, &[&stream], frames);
        for piece in [1, 7, 100, 500] {
            let passes: Vec<_> = stream.chunks(piece).collect();
            receives_without_allocating("in pieces", Link::Plain, version, &passes, frames);
        }
        for plain_max in [1, 13, 200, 16_384] {
            let records = records(&stream, plain_max);
            receives_without_allocating("records at once", Link::Tls, version, &[&records], frames);
            // Read through a parked block. With many records in one read of it their list would take an allocation.
            for piece in [1, 7, 5 + TAG_LEN + plain_max]
                .into_iter()
                .filter(|piece| *piece < 500)
            {
                let passes: Vec<_> = records.chunks(piece).collect();
                receives_without_allocating("records in pieces", Link::Tls, version, &passes, frames);
            }
        }
    }
}

#[test]
fn sending() {
    let records = Framing {
        head: 5,
        tail: 17,
        plain_max: 16_384,
    };
    for framing in [Framing::PLAIN, records] {
        let mut pool = Pool::new(PoolLimits::default());
        let mut out = SendBuf::new(framing, 256 * 1024);
        let samples = samples();
        let packets: Vec<_> = samples
            .iter()
            .map(|sample| (decode_all(&sample.bytes, sample.version).unwrap(), sample.version))
            .collect();
        let mut pass = || {
            for (packet, version) in &packets {
                let len = packet.encoded_len(*version).unwrap();
                let room = out.reserve(&mut pool, len).unwrap();
                packet.encode(*version, room).unwrap();
                out.commit(len);
                // A payload goes behind its header without being encoded with it.
                if let Packet::Publish(publish) = packet {
                    let len = publish.header_len(*version).unwrap();
                    let room = out.reserve(&mut pool, len).unwrap();
                    publish.encode_header(*version, room).unwrap();
                    out.commit(len);
                    out.append(&mut pool, publish.payload).unwrap();
                }
                // What the driver does when the socket is free after each packet or two.
                if out.len() > 100 {
                    let (block, range) = out.take_ready(seal).unwrap().unwrap();
                    black_box(&block.bytes()[range]);
                    out.sent(&mut pool, block);
                }
            }
        };
        pass();
        without_allocating("steady output", || (0..10).for_each(|_| pass()));
    }
}

/// More output than one block holds.
#[test]
fn sending_in_bursts() {
    let mut pool = Pool::new(PoolLimits::default());
    let mut out = SendBuf::new(Framing::PLAIN, 256 * 1024);
    let mut burst = || {
        for _ in 0..100 {
            out.append(&mut pool, &[7; 1000]).unwrap();
        }
        while let Some((block, _)) = out.take_ready(seal).unwrap() {
            out.sent(&mut pool, block);
        }
        assert!(out.is_empty());
    };
    burst();
    without_allocating("bursts", || (0..10).for_each(|_| burst()));
}

/// Leaves the plaintext as it is and shows the record around it.
fn seal(block: &mut [u8], plain: std::ops::Range<usize>) -> Result<std::ops::Range<usize>, ()> {
    block[plain.end..plain.end + 17].fill(0xEE);
    Ok(plain.start - 5..plain.end + 17)
}

const TAG_LEN: usize = 17;
const PACKET_LEN_MAX: usize = 256 * 1024;
