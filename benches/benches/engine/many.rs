//! What a connection and a message cost when there are 1, 100 or 10,000 connections: the engine, a bare loop, rumqttc.
//!
//! What they do and in what they differ stands in `contenders`. A case is `TRANSPORT-CONNECTIONS`, with the name of who is
//! beside the engine in front. The time is not the clock's: it is CPU time of the thread that holds the connections, in the
//! kernel and outside of it, which waiting and other programs add nothing to. So the elements per second are those of one
//! processor that does nothing else.
//!
//! Connections of `out` and `in` are made once for each case. Criterion asks for some number of messages; `in` comes in
//! rounds of one for each connection, so there may be more, and their mean is told. Each sample of `connect` is a process
//! that connects all of them, whatever number criterion asks for; it tells their mean too.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;

use crate::contenders::{Case, Contender, Held, Job, Spent, pki};

/// How many connect: the kernel counts CPU time in steps of milliseconds.
const CONNECTS: usize = 1000;

/// The connect rate.
pub(crate) fn connect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine/connect");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(100))
        .throughput(Throughput::Elements(1));
    let folder = certificates();
    for (transport, connections) in cases(&[CONNECTS]) {
        for contender in Contender::ALL {
            let job = job(Case::Connect, transport, connections, &folder);
            group.bench_function(id(contender, transport, connections), |bencher| {
                bencher.iter_custom(|connects| {
                    let held = Held::start(contender, &job);
                    let spent = held.connecting();
                    held.end();
                    mean_of(spent, connects)
                });
            });
        }
    }
    group.finish();
}

/// Messages out and in.
pub(crate) fn traffic(criterion: &mut Criterion) {
    let folder = certificates();
    for (name, case) in [("engine/out", Case::Out), ("engine/in", Case::In)] {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(4))
            .throughput(Throughput::Elements(1));
        for (transport, connections) in cases(&[1, 100, 10_000]) {
            for contender in Contender::ALL {
                let job = job(case, transport, connections, &folder);
                // Not started unless its case is asked for.
                let mut held = None;
                group.bench_function(id(contender, transport, connections), |bencher| {
                    let held = held.get_or_insert_with(|| Held::start(contender, &job));
                    bencher.iter_custom(|messages| mean_of(held.round(messages), messages));
                });
                if let Some(held) = held {
                    held.end();
                }
            }
        }
        group.finish();
    }
}

/// Transports and numbers of connections; a few connections in a test.
fn cases(sizes: &[usize]) -> impl Iterator<Item = (&'static str, usize)> {
    let has = |flag| std::env::args().any(|argument| argument == flag);
    let sizes = if has("--bench") && !has("--test") {
        sizes.to_vec()
    } else {
        vec![3]
    };
    ["tcp", "tls"]
        .into_iter()
        .flat_map(move |transport| sizes.clone().into_iter().map(move |size| (transport, size)))
}

fn id(contender: Contender, transport: &str, connections: usize) -> BenchmarkId {
    let case = format!("{transport}-{connections:05}");
    match contender {
        Contender::Engine => BenchmarkId::from_parameter(case),
        Contender::Bare | Contender::Rumqttc => BenchmarkId::new(contender.name(), case),
    }
}

/// A CA and a server certificate.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().expect("there is room for one");
    pki::load(folder.path());
    folder
}

fn job(case: Case, transport: &str, connections: usize, folder: &TempDir) -> Job {
    let folder = folder.path().to_str().expect("it is text").to_owned();
    Job {
        case,
        pki: Some(folder).filter(|_| transport == "tls"),
        connections,
        traffic: Duration::ZERO,
        port: 0,
    }
}

/// What so many would have spent.
fn mean_of(spent: Spent, count: u64) -> Duration {
    // The kernel may not have looked at the thread meanwhile, and criterion takes no measurement of nothing.
    let cpu_ns = spent.cpu_ns.max(1) as f64 / spent.count as f64;
    Duration::from_nanos((cpu_ns * count as f64).ceil() as u64)
}
