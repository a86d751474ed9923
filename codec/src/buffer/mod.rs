//! The pooled blocks that a connection's bytes lie in, on their way in and out.
//!
//! ```text
//! IN    driver reads into RecvBuf::spare ─▶ opened in place ─▶ frames ─▶ views of the block, lent
//! OUT   packets encoded into SendBuf::reserve ─▶ sealed in place ─▶ the block, by value, to the driver
//! ```
//!
//! A shard owns one [`Pool`]. Its connections own no block while they are idle: all of them receive into the
//! shard's hot [`RecvBuf`], and only a partial frame is parked in a block of its own. What is copied on any of
//! these ways is counted in [`PoolStats`], and for whole frames nothing is.

mod block;
mod pool;
mod recv;
mod send;
mod sync;

#[cfg(all(test, loom))]
mod threads;

pub use block::Block;
pub use pool::{HOT_BLOCK_LEN, Overload, Pool, PoolLimits, PoolStats};
pub use recv::{Link, RecvBuf};
pub use send::{Framing, SendBuf, SendError};
