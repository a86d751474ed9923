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
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use criterion::{BenchmarkId, Criterion, Throughput};
use fleetwire_endpoint::pki::{KeyType, Pki};
use fleetwire_tls::{
    ClientAuth, ClientConfigBuilder, ClientHello, Identity, Opened, Peek, Roots, Scratch,
    ServerConfigBuilder, ServerName, TlsSession, Versions,
};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{ClientConnection, RootCertStore, ServerConnection};

use crate::handshake::carry;

const ALPN: &[u8] = b"x-amzn-mqtt-ca";
const SIZES: [usize; 3] = [64, 1024, 16 * 1024];
/// Records that are sealed beforehand to be opened.
const BATCH: u64 = 64;

/// Runs one side of an unbuffered handshake over what has come.
macro_rules! drive {
    ($side:ident, $received:ident, $out:ident) => {
        loop {
            let status = $side.process_tls_records(&mut $received);
            let discard = status.discard;
            let settled = match status.state.expect("the handshake succeeds") {
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = $out.len();
                    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
                        panic!("there is something to send");
                    };
                    $out.resize(start + size.required_size, 0);
                    data.encode(&mut $out[start..]).expect("there is room");
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                _ => true,
            };
            $received.drain(..discard);
            if settled {
                break;
            }
        }
    };
}

pub(crate) fn peek(criterion: &mut Criterion) {
    let world = World::new();
    let (mut client, _) = world.ours();
    let mut hello = Vec::new();
    client.start(&mut hello).expect("there is randomness");
    criterion.bench_function("tls/peek", |bencher| {
        bencher.iter(|| {
            let Peek::Hello(hello) = ClientHello::peek(black_box(&hello)) else {
                panic!("it is whole");
            };
            (
                hello.alpn().next().map(<[u8]>::len),
                hello.server_name().map(str::len),
            )
        });
    });
}

pub(crate) fn seal(criterion: &mut Criterion) {
    let world = World::new();
    // They take seconds to make, so they are made when they are needed first.
    let mut clients: Option<Vec<TlsSession>> = None;
    for size in SIZES {
        let mut group = criterion.benchmark_group("tls/seal");
        group.throughput(Throughput::Bytes(size as u64));

        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("16 bytes"));
        let mut block = vec![7; size + 17];
        let mut sequence = 0_u64;
        group.bench_function(BenchmarkId::new("aead", size), |bencher| {
            bencher.iter(|| {
                sequence += 1;
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&sequence.to_be_bytes());
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from([23_u8; 5]), &mut block[..=size]);
                tag.expect("it is short enough")
            });
        });

        let (mut client, _) = world.established();
        let mut scratch = Scratch::new();
        let framing = client.framing();
        let mut block = vec![7; framing.head + size + framing.tail];
        let place = framing.head..framing.head + size;
        group.bench_function(BenchmarkId::new("in-place", size), |bencher| {
            bencher.iter(|| {
                client
                    .seal(&mut scratch, &mut block, place.clone())
                    .expect("there is room")
            });
        });

        let mut scratch = Scratch::with_keys_max(1);
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("in-place-miss", size), |bencher| {
            let clients =
                clients.get_or_insert_with(|| (0..sessions()).map(|_| world.established().0).collect());
            bencher.iter(|| {
                turn = (turn + 1) % clients.len();
                let client = &mut clients[turn];
                client
                    .seal(&mut scratch, &mut block, place.clone())
                    .expect("there is room")
            });
        });

        let (mut client, _) = world.unbuffered();
        let plain = vec![7; size];
        let mut out = vec![0; size + 100];
        group.bench_function(BenchmarkId::new("rustls-unbuffered", size), |bencher| {
            bencher.iter(|| encrypt(&mut client, &plain, &mut out));
        });
        let (mut client, _) = world.buffered();
        let mut out = Vec::with_capacity(size + 100);
        group.bench_function(BenchmarkId::new("rustls-buffered", size), |bencher| {
            bencher.iter(|| {
                client.writer().write_all(&plain).expect("it is buffered");
                out.clear();
                while client.wants_write() {
                    client.write_tls(&mut out).expect("a vector takes all");
                }
            });
        });
        group.finish();
    }
}

pub(crate) fn open(criterion: &mut Criterion) {
    let world = World::new();
    let mut pairs: Option<(Vec<TlsSession>, Vec<TlsSession>)> = None;
    for size in SIZES {
        let mut group = criterion.benchmark_group("tls/open");
        group.throughput(Throughput::Bytes(size as u64));

        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("16 bytes"));
        let nonce = || Nonce::assume_unique_for_key([0; 12]);
        let mut sealed = vec![7; size + 1];
        key.seal_in_place_append_tag(nonce(), Aad::from([23_u8; 5]), &mut sealed)
            .expect("it is short enough");
        group.bench_function(BenchmarkId::new("aead", size), |bencher| {
            let open = |record: &mut Vec<u8>| {
                let (ciphertext, tag) = record.split_at_mut(size + 1);
                let opened = key.open_in_place_separate_tag(nonce(), Aad::from([23_u8; 5]), tag, ciphertext);
                black_box(opened.expect("it was sealed").len());
            };
            bencher.iter_custom(|count| time(count, || sealed.clone(), open));
        });

        let (mut client, mut server) = world.established();
        let (mut client_scratch, mut scratch, mut out) = (Scratch::new(), Scratch::new(), Vec::new());
        group.bench_function(BenchmarkId::new("in-place", size), |bencher| {
            let mut seal = || seal_ours(&mut client, &mut client_scratch, size);
            let mut open = |record: &mut Vec<u8>| open_ours(&mut server, &mut scratch, record, &mut out);
            bencher.iter_custom(|count| time(count, &mut seal, &mut open));
        });

        let mut scratch = Scratch::with_keys_max(1);
        let (mut sealing, mut opening) = (0, 0);
        group.bench_function(BenchmarkId::new("in-place-miss", size), |bencher| {
            let (clients, servers) =
                pairs.get_or_insert_with(|| (0..sessions()).map(|_| world.established()).unzip());
            let mut seal = || {
                sealing = (sealing + 1) % clients.len();
                seal_ours(&mut clients[sealing], &mut client_scratch, size)
            };
            let mut open = |record: &mut Vec<u8>| {
                opening = (opening + 1) % servers.len();
                open_ours(&mut servers[opening], &mut scratch, record, &mut out);
            };
            bencher.iter_custom(|count| time(count, &mut seal, &mut open));
        });

        let (mut client, mut server) = world.unbuffered();
        let (plain, mut room) = (vec![7; size], vec![0; size + 100]);
        group.bench_function(BenchmarkId::new("rustls-unbuffered", size), |bencher| {
            let mut seal = || {
                let length = encrypt(&mut client, &plain, &mut room);
                room[..length].to_vec()
            };
            bencher.iter_custom(|count| time(count, &mut seal, |record| decrypt(&mut server, record)));
        });

        let (mut client, mut server) = world.buffered();
        let mut data = vec![0; size];
        group.bench_function(BenchmarkId::new("rustls-buffered", size), |bencher| {
            let mut seal = || {
                client.writer().write_all(&plain).expect("it is buffered");
                let mut record = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut record).expect("a vector takes all");
                }
                record
            };
            let mut open = |record: &mut Vec<u8>| {
                let mut rest = record.as_slice();
                while !rest.is_empty() {
                    server.read_tls(&mut rest).expect("there is room");
                    server.process_new_packets().expect("it was sealed");
                }
                server.reader().read_exact(&mut data).expect("all of it is there");
            };
            bencher.iter_custom(|count| time(count, &mut seal, &mut open));
        });
        group.finish();
    }
}

/// What opening `count` records takes, which are sealed some at a time and outside of it.
fn time(count: u64, mut seal: impl FnMut() -> Vec<u8>, mut open: impl FnMut(&mut Vec<u8>)) -> Duration {
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

/// How many sessions a shard has in the runs that miss. As a test, without `--bench`, a few will do.
fn sessions() -> usize {
    if std::env::args().any(|argument| argument == "--bench") {
        15_000
    } else {
        3
    }
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

/// Configurations of both kinds for the same certificates.
struct World {
    client: fleetwire_tls::ClientConfig,
    server: fleetwire_tls::ServerConfig,
    device: Identity,
    rustls_client: Arc<rustls::ClientConfig>,
    rustls_server: Arc<rustls::ServerConfig>,
}

impl World {
    fn new() -> Self {
        let pki = Pki::throw_away(["localhost"]).expect("certificates can be made");
        let device = pki
            .issue_device("device-0", KeyType::P256, None)
            .expect("a certificate can be made");
        let roots = Roots::from_pem(pki.ca_pem().as_bytes()).expect("it is a CA");
        let server_key = pki.server_key_der().secret_pkcs8_der().to_vec();
        let server = Identity::from_der(vec![pki.server_der().to_vec()], server_key).expect("they fit");
        let crypto = Arc::new(CryptoProvider {
            cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..provider::default_provider()
        });
        let mut trusted = RootCertStore::empty();
        trusted.add(pki.ca_der().clone()).expect("it is a CA");
        let mut rustls_client = rustls::ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_safe_default_protocol_versions()
            .expect("there is a suite")
            .with_root_certificates(trusted)
            .with_no_client_auth();
        rustls_client.resumption = rustls::client::Resumption::disabled();
        let chain: Vec<CertificateDer<'static>> = vec![pki.server_der().clone()];
        let mut rustls_server = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .expect("there is a suite")
            .with_no_client_auth()
            .with_single_cert(chain, pki.server_key_der().into())
            .expect("they fit");
        rustls_server.send_tls13_tickets = 0;
        Self {
            client: ClientConfigBuilder::new()
                .roots(roots.clone())
                .alpn(vec![ALPN.to_vec()])
                .versions(Versions::Tls13)
                .cipher_suites(&["TLS13_AES_128_GCM_SHA256"])
                .build()
                .expect("the settings are sound"),
            server: ServerConfigBuilder::new(server)
                .alpn(ALPN, ClientAuth::Required(roots))
                .build()
                .expect("the settings are sound"),
            device: Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes())
                .expect("they fit"),
            rustls_client: Arc::new(rustls_client),
            rustls_server: Arc::new(rustls_server),
        }
    }

    fn ours(&self) -> (TlsSession, TlsSession) {
        let name = ServerName::parse("localhost").expect("it is a DNS name");
        let client = TlsSession::client(&self.client, &name, Some(&self.device));
        (
            client.expect("the key can be parsed"),
            TlsSession::server(&self.server),
        )
    }

    fn established(&self) -> (TlsSession, TlsSession) {
        let (mut client, mut server) = self.ours();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut scratch = Scratch::with_keys_max(1);
        client.start(&mut to_server).expect("there is randomness");
        while !to_server.is_empty() || !to_client.is_empty() {
            deliver(&mut server, &mut scratch, &mut to_server, &mut to_client);
            deliver(&mut client, &mut scratch, &mut to_client, &mut to_server);
        }
        (client, server)
    }

    fn unbuffered(&self) -> (UnbufferedClientConnection, UnbufferedServerConnection) {
        let name = "localhost".try_into().expect("it is a DNS name");
        let mut client = UnbufferedClientConnection::new(Arc::clone(&self.rustls_client), name)
            .expect("the settings are sound");
        let mut server =
            UnbufferedServerConnection::new(Arc::clone(&self.rustls_server)).expect("the settings are sound");
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            drive!(client, to_client, to_server);
            drive!(server, to_server, to_client);
        }
        (client, server)
    }

    fn buffered(&self) -> (ClientConnection, ServerConnection) {
        let name = "localhost".try_into().expect("it is a DNS name");
        let mut client =
            ClientConnection::new(Arc::clone(&self.rustls_client), name).expect("the settings are sound");
        let mut server =
            ServerConnection::new(Arc::clone(&self.rustls_server)).expect("the settings are sound");
        let mut bytes = Vec::new();
        while client.wants_write() || server.wants_write() {
            carry(&mut client, &mut bytes, &mut server);
            carry(&mut server, &mut bytes, &mut client);
        }
        (client, server)
    }
}

fn deliver(session: &mut TlsSession, scratch: &mut Scratch, bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut start = 0;
    loop {
        let opened = session.open(scratch, &mut bytes[start..], out);
        start += match opened.expect("the handshake succeeds") {
            Opened::NeedMore => break,
            Opened::Handshake { consumed }
            | Opened::Nothing { consumed }
            | Opened::Established { consumed } => consumed,
            other => panic!("not part of a handshake: {other:?}"),
        };
    }
    bytes.clear();
}
