//! What blocks share between threads, under the same names for real threads and for a model of them.
//!
//! `--cfg loom` puts the model in place of the standard library and of the channel in this crate's own unit tests, and
//! nowhere else; `threads.rs` explores it.

#[cfg(not(all(test, loom)))]
mod real {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

    pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};

    /// The bytes of a block.
    pub(crate) type Memory = Box<[u8]>;

    pub(crate) fn zeroed(len: usize) -> Memory {
        vec![0; len].into_boxed_slice()
    }
}
#[cfg(not(all(test, loom)))]
pub(super) use real::*;

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, loom))]
pub(super) use model::*;
