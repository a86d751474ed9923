//! Records of an established session, sealed and opened, beside three others: the AEAD by itself with its key expanded,
//! which is the limit; rustls's unbuffered interface; and rustls's buffered one.
//!
//! `in-place` works with expanded keys that are in the cache. `in-place-miss` has as many sessions as a shard has devices,
//! one after the other, and a cache that never holds the key that is needed. What is sealed is given in a buffer of the
//! caller's, and so is the record; only opening is timed where records are opened.
//!
//! TLS 1.3 with AES-128-GCM, plaintext of 64 bytes, 1 KiB and 16 KiB. Each iteration is one record.

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::{BenchmarkId, Criterion, Throughput};
use fleetwire_tls::{ClientHello, Opened, Peek, Scratch, TlsSession};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;

use crate::world::World;

pub(crate) const SIZES: [usize; 3] = [64, 1024, 16 * 1024];
/// Records that are sealed beforehand to be opened.
const BATCH: u64 = 64;

/// One way of doing it: what so many iterations take.
pub(crate) type Case<'a> = (&'static str, Box<dyn FnMut(u64) -> Duration + 'a>);

/// Both ends of many sessions. They take seconds to make, so they are made when they are needed first.
#[derive(Default)]
pub(crate) struct Sessions {
    clients: Vec<TlsSession>,
    servers: Vec<TlsSession>,
}

impl Sessions {
    fn make(&mut self, world: &World) {
        if self.clients.is_empty() {
            // As a test, without `--bench`, a few will do.
            let full = std::env::args().any(|argument| argument == "--bench");
            let count = if full { 15_000 } else { 3 };
            (self.clients, self.servers) = (0..count).map(|_| world.established()).unzip();
        }
    }
}

pub(crate) fn peek(criterion: &mut Criterion) {
    let mut run = peek_case(&World::new());
    criterion.bench_function("tls/peek", |bencher| bencher.iter_custom(&mut run));
}

pub(crate) fn seal(criterion: &mut Criterion) {
    let (world, mut sessions) = (World::new(), Sessions::default());
    for size in SIZES {
        bench(
            criterion,
            "tls/seal",
            size,
            seal_cases(&world, &mut sessions, size),
        );
    }
}

pub(crate) fn open(criterion: &mut Criterion) {
    let (world, mut sessions) = (World::new(), Sessions::default());
    for size in SIZES {
        bench(
            criterion,
            "tls/open",
            size,
            open_cases(&world, &mut sessions, size),
        );
    }
}

fn bench(criterion: &mut Criterion, name: &str, size: usize, cases: Vec<Case<'_>>) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(size as u64));
    for (case, mut run) in cases {
        group.bench_function(BenchmarkId::new(case, size), |bencher| {
            bencher.iter_custom(&mut run);
        });
    }
    group.finish();
}

pub(crate) fn peek_case(world: &World) -> impl FnMut(u64) -> Duration + use<> {
    let (mut client, _) = world.ours();
    let mut hello = Vec::new();
    client.start(&mut hello).expect("there is randomness");
    move |count| {
        time(count, || {
            let Peek::Hello(hello) = ClientHello::peek(black_box(&hello)) else {
                panic!("it is whole");
            };
            black_box((
                hello.alpn().next().map(<[u8]>::len),
                hello.server_name().map(str::len),
            ));
        })
    }
}

pub(crate) fn seal_cases<'a>(world: &'a World, sessions: &'a mut Sessions, size: usize) -> Vec<Case<'a>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("16 bytes"));
    let mut block = vec![7; size + 17];
    let mut sequence = 0_u64;
    let aead = move |count| {
        time(count, || {
            sequence += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&sequence.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from([23_u8; 5]), &mut block[..=size]);
            black_box(tag.expect("it is short enough").as_ref().len());
        })
    };

    let (mut client, _) = world.established();
    let framing = client.framing();
    let place = framing.head..framing.head + size;
    let block_len = framing.head + size + framing.tail;
    let (mut scratch, mut block, range) = (Scratch::new(), vec![7; block_len], place.clone());
    let in_place = move |count| {
        time(count, || {
            let sealed = client.seal(&mut scratch, &mut block, range.clone());
            black_box(sealed.expect("there is room"));
        })
    };

    let (mut scratch, mut block, mut turn) = (Scratch::with_keys_max(1), vec![7; block_len], 0);
    let miss = move |count| {
        sessions.make(world);
        let clients = &mut sessions.clients;
        time(count, || {
            turn = (turn + 1) % clients.len();
            let sealed = clients[turn].seal(&mut scratch, &mut block, place.clone());
            black_box(sealed.expect("there is room"));
        })
    };

    let (mut client, _) = world.unbuffered();
    let (plain, mut out) = (vec![7; size], vec![0; size + 100]);
    let unbuffered = move |count| {
        time(count, || {
            black_box(encrypt(&mut client, &plain, &mut out));
        })
    };

    let (mut client, _) = world.buffered();
    let (plain, mut out) = (vec![7; size], Vec::with_capacity(size + 100));
    let buffered = move |count| {
        time(count, || {
            client.writer().write_all(&plain).expect("it is buffered");
            out.clear();
            while client.wants_write() {
                client.write_tls(&mut out).expect("a vector takes all");
            }
        })
    };

    vec![
        ("aead", Box::new(aead)),
        ("in-place", Box::new(in_place)),
        ("in-place-miss", Box::new(miss)),
        ("rustls-unbuffered", Box::new(unbuffered)),
        ("rustls-buffered", Box::new(buffered)),
    ]
}

pub(crate) fn open_cases<'a>(world: &'a World, sessions: &'a mut Sessions, size: usize) -> Vec<Case<'a>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("16 bytes"));
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut sealed = vec![7; size + 1];
    key.seal_in_place_append_tag(nonce(), Aad::from([23_u8; 5]), &mut sealed)
        .expect("it is short enough");
    let aead = move |count| {
        time_opening(
            count,
            || sealed.clone(),
            |record| {
                let (ciphertext, tag) = record.split_at_mut(size + 1);
                let opened = key.open_in_place_separate_tag(nonce(), Aad::from([23_u8; 5]), tag, ciphertext);
                black_box(opened.expect("it was sealed").len());
            },
        )
    };

    let (mut client, mut server) = world.established();
    let (mut client_scratch, mut scratch, mut out) = (Scratch::new(), Scratch::new(), Vec::new());
    let in_place = move |count| {
        time_opening(
            count,
            || seal_ours(&mut client, &mut client_scratch, size),
            |record| open_ours(&mut server, &mut scratch, record, &mut out),
        )
    };

    let (mut client_scratch, mut scratch) = (Scratch::new(), Scratch::with_keys_max(1));
    let (mut sealing, mut opening, mut out) = (0, 0, Vec::new());
    let miss = move |count| {
        sessions.make(world);
        let Sessions { clients, servers } = &mut *sessions;
        time_opening(
            count,
            || {
                sealing = (sealing + 1) % clients.len();
                seal_ours(&mut clients[sealing], &mut client_scratch, size)
            },
            |record| {
                opening = (opening + 1) % servers.len();
                open_ours(&mut servers[opening], &mut scratch, record, &mut out);
            },
        )
    };

    let (mut client, mut server) = world.unbuffered();
    let (plain, mut room) = (vec![7; size], vec![0; size + 100]);
    let unbuffered = move |count| {
        time_opening(
            count,
            || {
                let length = encrypt(&mut client, &plain, &mut room);
                room[..length].to_vec()
            },
            |record| decrypt(&mut server, record),
        )
    };

    let (mut client, mut server) = world.buffered();
    let (plain, mut data) = (vec![7; size], vec![0; size]);
    let buffered = move |count| {
        time_opening(
            count,
            || {
                client.writer().write_all(&plain).expect("it is buffered");
                let mut record = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut record).expect("a vector takes all");
                }
                record
            },
            |record| {
                let mut rest = record.as_slice();
                while !rest.is_empty() {
                    server.read_tls(&mut rest).expect("there is room");
                    server.process_new_packets().expect("it was sealed");
                }
                server.reader().read_exact(&mut data).expect("all of it is there");
            },
        )
    };

    vec![
        ("aead", Box::new(aead)),
        ("in-place", Box::new(in_place)),
        ("in-place-miss", Box::new(miss)),
        ("rustls-unbuffered", Box::new(unbuffered)),
        ("rustls-buffered", Box::new(buffered)),
    ]
}

fn time(count: u64, mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        run();
    }
    start.elapsed()
}

/// What opening `count` records takes, which are sealed some at a time and outside of it.
fn time_opening(
    count: u64,
    mut seal: impl FnMut() -> Vec<u8>,
    mut open: impl FnMut(&mut Vec<u8>),
) -> Duration {
    let (mut elapsed, mut left) = (Duration::ZERO, count);
    while left > 0 {
        let mut records: Vec<_> = (0..left.min(BATCH)).map(|_| seal()).collect();
        left -= records.len() as u64;
        let start = Instant::now();
        records.iter_mut().for_each(&mut open);
        elapsed += start.elapsed();
    }
    elapsed
}

fn seal_ours(session: &mut TlsSession, scratch: &mut Scratch, size: usize) -> Vec<u8> {
    let framing = session.framing();
    let mut block = vec![7; framing.head + size + framing.tail];
    let place = framing.head..framing.head + size;
    let range = session.seal(scratch, &mut block, place).expect("there is room");
    block[range].to_vec()
}

/// The record, and a KeyUpdate that may be in front of it.
fn open_ours(session: &mut TlsSession, scratch: &mut Scratch, record: &mut [u8], out: &mut Vec<u8>) {
    let mut start = 0;
    loop {
        match session
            .open(scratch, &mut record[start..], out)
            .expect("it was sealed")
        {
            Opened::Nothing { consumed } => start += consumed,
            Opened::Data { plain, .. } => {
                black_box(&record[start..][plain]);
                return;
            }
            other => panic!("not in the middle of a session: {other:?}"),
        }
    }
}

fn encrypt(client: &mut UnbufferedClientConnection, plain: &[u8], out: &mut [u8]) -> usize {
    match client
        .process_tls_records(&mut [])
        .state
        .expect("it is established")
    {
        ConnectionState::WriteTraffic(mut traffic) => traffic.encrypt(plain, out).expect("there is room"),
        other => panic!("not in the middle of a session: {other:?}"),
    }
}

fn decrypt(server: &mut UnbufferedServerConnection, record: &mut [u8]) {
    let status = server.process_tls_records(record);
    match status.state.expect("it was sealed") {
        ConnectionState::ReadTraffic(mut traffic) => {
            let record = traffic
                .next_record()
                .expect("one is there")
                .expect("it was sealed");
            black_box(record.payload);
        }
        other => panic!("not in the middle of a session: {other:?}"),
    }
}
