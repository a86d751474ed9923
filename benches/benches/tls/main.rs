//! TLS in memory: handshakes, records, and the look into a ClientHello.
//!
//! `cargo bench -p fleetwire-benches --bench tls -- --table` prints what the README's table has: all take turns there,
//! so that a busy machine is busy for all.

#[path = "../shared/bare_rustls.rs"]
mod bare_rustls;
mod handshake;
mod records;
mod table;
mod world;

use criterion::criterion_group;

criterion_group!(
    benches,
    handshake::handshake,
    records::peek,
    records::seal,
    records::open
);

fn main() {
    if std::env::args().any(|argument| argument == "--table") {
        return table::print();
    }
    benches();
    criterion::Criterion::default()
        .configure_from_args()
        .final_summary();
}
