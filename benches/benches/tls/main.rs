//! TLS in memory: handshakes, records, and the look into a ClientHello.

mod handshake;
mod records;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    handshake::handshake,
    records::peek,
    records::seal,
    records::open
);
criterion_main!(benches);
