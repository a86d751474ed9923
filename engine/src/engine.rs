//! A running engine and its end.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::driver::{Driver, MioDriver};
use crate::shard::ShardLoop;
use crate::{EngineBuilder, EngineHandle, Handler, Stats, pinning};

/// A running engine. Dropping it closes everything without waiting; [`shutdown`](Self::shutdown) drains.
#[derive(Debug)]
pub struct Engine<H> {
    threads: Vec<JoinHandle<Result<H, String>>>,
    handle: EngineHandle,
}

impl Engine<()> {
    /// Settings to start from.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }
}

impl<H: Handler> Engine<H> {
    /// Without shards yet.
    pub(crate) fn new(handle: EngineHandle) -> Self {
        Self {
            threads: Vec::new(),
            handle,
        }
    }

    /// Runs a shard on a thread of its own, which stays on a processor if one is given.
    pub(crate) fn spawn<D: Driver + Send + 'static>(
        &mut self,
        shard_loop: ShardLoop<H, D>,
        processor: Option<usize>,
    ) -> io::Result<()> {
        let name = format!("fleetwire-{}", self.threads.len());
        let thread = thread::Builder::new().name(name).spawn(move || {
            if let Some(processor) = processor {
                pinning::pin(processor);
            }
            run(shard_loop)
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl<H> Engine<H> {
    /// For other threads.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Which driver moves the bytes.
    pub fn driver(&self) -> &'static str {
        MioDriver::NAME
    }

    /// What the engine has done and holds, without stopping it.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Stops dialling and accepting, waits up to `drain` for acknowledgements, says DISCONNECT on every link, closes
    /// them, and gives the handlers back.
    pub fn shutdown(mut self, drain: Duration) -> Shutdown<H> {
        self.handle.stop(drain);
        let (mut handlers, mut failed) = (Vec::new(), Vec::new());
        for (index, thread) in self.threads.drain(..).enumerate() {
            match thread.join() {
                Ok(Ok(handler)) => handlers.push(handler),
                Ok(Err(text)) => failed.push((index, text)),
                Err(panic) => failed.push((index, format!("panicked: {}", panic_text(&*panic)))),
            }
        }
        Shutdown {
            handlers,
            failed,
            stats: self.handle.stats(),
        }
    }
}

impl<H> Drop for Engine<H> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop(Duration::ZERO);
        }
    }
}

/// What is left of an engine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shutdown<H> {
    /// The handlers in the order of their shards; those of failed shards are missing.
    pub handlers: Vec<H>,
    /// Shards that ended by a panic of their handler or an error of the system: index and text.
    pub failed: Vec<(usize, String)>,
    /// The counters at the end.
    pub stats: Stats,
}

fn run<H: Handler, D: Driver>(shard_loop: ShardLoop<H, D>) -> Result<H, String> {
    let (index, counters) = (shard_loop.core.shard.index, Arc::clone(&shard_loop.core.counters));
    let text = match catch_unwind(AssertUnwindSafe(|| shard_loop.run())) {
        Ok(Ok(handler)) => return Ok(handler),
        Ok(Err(error)) => format!("the event loop failed: {error}"),
        Err(panic) => format!("panicked: {}", panic_text(&*panic)),
    };
    // Its sockets and listeners are closed by now, and its buffers freed.
    counters.forget_holdings();
    log::error!("shard {index} has ended: {text}");
    Err(text)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a text",
    }
}
