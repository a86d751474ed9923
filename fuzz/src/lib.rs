//! What the fuzz targets call: each function takes any input and panics where a promise of the code is broken.
//!
//! `cargo test --workspace` includes this file in a test of stable Rust that replays the corpora.

mod build;
mod cutting;
pub mod differential;
mod frame;
mod input;
mod link;
mod naive;
mod packet;
mod recv_buf;
mod round_trip;
mod send_buf;
mod tls;
mod topics;

pub use cutting::cutting;
pub use differential::differential;
pub use fleetwire_engine::fuzzing::session;
pub use frame::frame;
pub use packet::packet;
pub use recv_buf::recv_buf;
pub use round_trip::round_trip;
pub use send_buf::send_buf;
pub use tls::{tls_hello, tls_records, tls_session};
