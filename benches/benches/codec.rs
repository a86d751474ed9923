//! Decoding in place, beside a memcpy of the same bytes: what the simplest parser that owns what it hands on would
//! have to do at least.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{Packet, Publish, TopicName, Version};

#[path = "../samples.rs"]
pub mod samples;

use samples::samples;

const STREAM_LEN: usize = 64 * 1024;
const PACKET_LEN_MAX: usize = 256 * 1024;

/// Each sample alone.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/decode");
    // There are many samples, and each takes nanoseconds.
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(800));
    for sample in samples() {
        compare(&mut group, &sample.name, &sample.bytes, sample.version);
    }
    group.finish();
}

/// A receive block full of publishes, back to back.
fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/stream");
    compare(&mut group, "publish_q0_0064", &publishes(64), Version::V5);
    group.finish();
}

/// Splits and decodes all packets in the bytes; beside it, copies the bytes.
fn compare(group: &mut BenchmarkGroup<'_, WallTime>, case: &str, bytes: &[u8], version: Version) {
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(case, |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(bytes);
            while !rest.is_empty() {
                let Ok(Split::Complete(frame)) = frame::split(rest, PACKET_LEN_MAX) else {
                    panic!("{case} holds whole packets")
                };
                black_box(Packet::decode(frame, version)).expect("they are sound");
                rest = &rest[frame.len()..];
            }
        });
    });
    let mut copy = vec![0; bytes.len()];
    group.bench_function(BenchmarkId::new("memcpy", case), |bencher| {
        bencher.iter(|| {
            copy.copy_from_slice(black_box(bytes));
            black_box(&mut copy);
        });
    });
}

/// As many publishes of QoS 0 as fit into the stream.
fn publishes(payload_len: usize) -> Vec<u8> {
    let topic = TopicName::new("fleet/device-0042/telemetry").expect("it has no wildcards");
    let payload = vec![b'x'; payload_len];
    let publish = Publish::new(topic, &payload);
    let mut packet = vec![0; publish.encoded_len(Version::V5).expect("it is short")];
    publish.encode(Version::V5, &mut packet).expect("it was measured");
    packet.repeat(STREAM_LEN / packet.len())
}

criterion_group!(benches, decode, stream);
criterion_main!(benches);
