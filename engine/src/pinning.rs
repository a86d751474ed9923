//! Threads that stay on one processor.

use std::io;

/// The processors that the calling thread may use; not known everywhere.
#[cfg(target_os = "linux")]
pub(crate) fn processors() -> io::Result<Vec<usize>> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|processor| allowed.is_set(*processor))
        .collect())
}

/// Keeps the calling thread on that processor, if the system lets it.
#[cfg(target_os = "linux")]
pub(crate) fn pin(processor: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut only = CpuSet::new();
    only.set(processor);
    if let Err(error) = sched_setaffinity(None, &only) {
        log::warn!("cannot pin a thread to processor {processor}, so it stays free: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn processors() -> io::Result<Vec<usize>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "threads can be pinned on Linux only",
    ))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_processor: usize) {}
