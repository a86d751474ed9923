//! The runs of whole frames that lie before the current one.

use std::mem;
use std::ops::Range;

/// Ranges in order, none of them empty. The first needs no allocation: it is the usual case that one frame ends in a
/// record and the next one starts there.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Ends at 0 if there are none.
    first: Range<u32>,
    more: Vec<Range<u32>>,
}

impl Runs {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.end == 0
    }

    pub(super) fn len(&self) -> usize {
        usize::from(!self.is_empty()) + self.more.len()
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Range<u32>> {
        match index.checked_sub(1) {
            None => (!self.is_empty()).then_some(&self.first),
            Some(index) => self.more.get(index),
        }
    }

    /// Adds a run, which is not empty, behind the last.
    pub(super) fn push(&mut self, run: Range<u32>) {
        debug_assert!(!run.is_empty());
        debug_assert!(self.last().is_none_or(|last| last.end <= run.start));
        if self.is_empty() {
            self.first = run;
        } else {
            self.more.push(run);
        }
    }

    pub(super) fn last(&self) -> Option<&Range<u32>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// Forgets them, and keeps the memory for others.
    pub(super) fn clear(&mut self) {
        self.first = 0..0;
        self.more.clear();
    }

    /// Swaps the memory of lists in which there is none; else nothing happens.
    pub(super) fn swap_memory(&mut self, other: &mut Self) {
        if self.more.is_empty() && other.more.is_empty() {
            mem::swap(&mut self.more, &mut other.more);
        }
    }

    #[cfg(test)]
    pub(super) fn owns_memory(&self) -> bool {
        self.more.capacity() > 0
    }
}
