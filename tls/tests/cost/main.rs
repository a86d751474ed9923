//! What established sessions cost: memory by the resident set, since the crypto library allocates where a Rust allocator
//! does not see it, and allocations of records by a counting allocator.

mod c_heap;
mod world;

use fleetwire_tls::{Opened, RecordLayer, Scratch, TlsSession, Versions};

use world::{End, World};

const VERSIONS: [Versions; 2] = [Versions::Tls12, Versions::Tls13];

/// The budget for an established connection of either side, whatever certificates it has seen.
const SESSION_LEN_MAX: u64 = 512;

/// One test, because the resident set is that of all threads.
#[test]
fn established_sessions_are_small() {
    // They are all kept: memory that one of them gave back would hide what another takes.
    let mut kept = Vec::new();
    for (chain, world) in [
        ("one certificate", World::small()),
        ("four RSA certificates", World::rsa_chain()),
    ] {
        for versions in VERSIONS {
            for client in [false, true] {
                let keep = |count: usize| -> Vec<TlsSession> {
                    (0..count)
                        .map(|_| {
                            let (of_client, of_server) = world.established(versions, RecordLayer::InPlace);
                            if client { of_client } else { of_server }.into_session()
                        })
                        .collect()
                };
                // What handshakes leave behind, in the allocator and in the library, is there after some of them.
                kept.extend(keep(100));
                let before = resident_bytes();
                let sessions = keep(SESSIONS);
                let each = resident_bytes().saturating_sub(before) / SESSIONS as u64;
                println!("{chain}, {versions:?}, client {client}: {each} bytes");
                assert!(
                    each <= SESSION_LEN_MAX,
                    "{chain}, {versions:?}, client {client}: {each} bytes"
                );
                kept.extend(sessions);
            }
        }
    }
}

/// With the key expanded, and without.
#[test]
fn records_allocate_nothing() {
    let world = World::small();
    for versions in VERSIONS {
        for keys_max in [Scratch::KEYS_MAX, 1] {
            let (mut client, mut server) = world.established(versions, RecordLayer::InPlace);
            let mut scratch = Scratch::with_keys_max(keys_max);
            let framing = client.session.framing();
            let mut block = vec![7; framing.head + 1000 + framing.tail];
            let mut out = Vec::new();
            let mut exchange = |scratch: &mut Scratch| {
                let plain = framing.head..framing.head + 1000;
                let range = client.session.seal(scratch, &mut block, plain).unwrap();
                let opened = server.session.open(scratch, &mut block[range], &mut out).unwrap();
                assert!(matches!(opened, Opened::Data { .. }));
            };
            exchange(&mut scratch);
            let expanded = scratch.keys_expanded();
            let counted = allocation_counter::measure(|| {
                for _ in 0..1000 {
                    exchange(&mut scratch);
                }
            });
            assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
            // A hit does not go to the C heap either: that is where expanding does.
            let misses = if keys_max == 1 { 2000 } else { 0 };
            assert_eq!(scratch.keys_expanded() - expanded, misses);
            assert_eq!(scratch.bytes_copied(), 0);
        }
    }
}

/// That the counter counts.
#[test]
fn rustls_allocates_for_every_record() {
    let world = World::small();
    let (mut client, mut server) = world.established(Versions::Tls13, RecordLayer::Rustls);
    let counted = allocation_counter::measure(|| {
        let records = client.seal(&[7; 1000]);
        server.deliver(&records);
    });
    assert!(counted.count_total > 2, "{counted:?}");
}

/// The peek into a ClientHello has no heap to use.
#[test]
fn the_peek_allocates_nothing() {
    let world = World::small();
    let mut client: End = world.client(Versions::Both, RecordLayer::InPlace);
    let hello = client.start();
    let counted = allocation_counter::measure(|| {
        let peek = fleetwire_tls::ClientHello::peek(&hello);
        let fleetwire_tls::Peek::Hello(hello) = peek else {
            panic!("{peek:?}");
        };
        assert_eq!(
            (hello.alpn().count(), hello.server_name()),
            (1, Some("localhost"))
        );
    });
    assert_eq!(counted.count_total, 0);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

const SESSIONS: usize = 500;
