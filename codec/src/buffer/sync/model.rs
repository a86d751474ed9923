//! The model that loom explores: its own `Arc` and atomics, a channel, and memory that notes who reads and writes it.

use std::collections::VecDeque;
use std::mem;
use std::ops::{Deref, DerefMut};

use loom::sync::Mutex;
use loom::sync::atomic::Ordering::Relaxed;

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};

/// The bytes of a block. Loom fails where a write or the end of it does not happen after every other access, or a
/// read not after every write.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes: Box<[u8]>,
    /// Loom wants exclusive access to an atomic to come after all shared ones, which is what bytes need too.
    accesses: AtomicU64,
}

pub(crate) fn zeroed(len: usize) -> Memory {
    Memory {
        bytes: vec![0; len].into_boxed_slice(),
        accesses: AtomicU64::new(0),
    }
}

impl Default for Memory {
    fn default() -> Self {
        zeroed(0)
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.accesses.load(Relaxed);
        &self.bytes
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.accesses.with_mut(|_| ());
        &mut self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.accesses.with_mut(|_| ());
    }
}

/// A channel that keeps what crossbeam's promises: what is sent is received once and in order, sending happens before
/// receiving, neither waits, and sending fails when the channel is full or its receiver gone.
pub(crate) fn bounded<T>(len_max: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue {
        waiting: VecDeque::new(),
        len_max,
        is_gone: false,
    };
    let queue = Arc::new(Mutex::new(queue));
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Mutex<Queue<T>>>);

#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Mutex<Queue<T>>>);

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    len_max: usize,
    /// Whether the receiver is.
    is_gone: bool,
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, value: T) -> Result<(), T> {
        let mut queue = self.0.lock().unwrap();
        if queue.is_gone || queue.waiting.len() >= queue.len_max {
            return Err(value);
        }
        queue.waiting.push_back(value);
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().waiting.len()
    }

    pub(crate) fn try_recv(&self) -> Result<T, ()> {
        self.0.lock().unwrap().waiting.pop_front().ok_or(())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock().unwrap();
        queue.is_gone = true;
        let waiting = mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
    }
}
