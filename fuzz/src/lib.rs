//! What the fuzz targets call: each function takes any input and panics where a promise of the code is broken.
//!
//! `cargo test --workspace` includes this file in a test of stable Rust that replays the corpora.

mod frame;
mod packet;
mod topics;

pub use frame::frame;
pub use packet::packet;
