//! Criterion over the cases: `codec/decode/<case>`, `codec/encode/<case>`, `codec/stream/<case>`, each with all
//! contenders.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fleetwire_codec_benches::{CONTENDERS, Case, Contender, Pass, cases};

/// How a contender begins to work on a case.
type Start = fn(&Contender, &Case) -> Option<Pass>;

fn decode(criterion: &mut Criterion) {
    compare(criterion, "codec/decode", &cases(), |contender, case| {
        (contender.decode)(case)
    });
}

fn encode(criterion: &mut Criterion) {
    compare(criterion, "codec/encode", &cases(), |contender, case| {
        (contender.encode)(case)
    });
}

/// A receive block full of small publishes, back to back, counted by its bytes and not by packets.
fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/stream");
    for case in cases().iter().filter(|case| case.name.ends_with("publish_qos0")) {
        group.throughput(Throughput::Bytes(case.stream.len() as u64));
        for contender in CONTENDERS {
            let Some(mut pass) = (contender.decode)(case) else {
                continue;
            };
            group.bench_function(BenchmarkId::new(&case.name, contender.name), |bencher| {
                bencher.iter_custom(|passes| (0..passes).map(|_| pass()).sum());
            });
        }
    }
    group.finish();
}

/// All contenders on all cases, one packet being the unit.
fn compare(criterion: &mut Criterion, name: &str, cases: &[Case], start: Start) {
    let mut group = criterion.benchmark_group(name);
    // There are many of them, and each takes nanoseconds.
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(800));
    for case in cases {
        group.throughput(Throughput::Bytes(case.packet.len() as u64));
        for contender in CONTENDERS {
            let Some(mut pass) = start(&contender, case) else {
                continue;
            };
            group.bench_function(BenchmarkId::new(&case.name, contender.name), |bencher| {
                bencher.iter_custom(|packets| passes(&mut pass, case, packets));
            });
        }
    }
    group.finish();
}

/// The time that so many packets take, from as many whole passes as they need.
fn passes(pass: &mut Pass, case: &Case, packets: u64) -> Duration {
    let count = case.count as u64;
    let needed = packets.div_ceil(count);
    let time: Duration = (0..needed).map(|_| pass()).sum();
    time.mul_f64(packets as f64 / (needed * count) as f64)
}

criterion_group!(benches, decode, encode, stream);
criterion_main!(benches);
