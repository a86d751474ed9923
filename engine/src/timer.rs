//! One deadline for each link, in one heap for each shard.
//!
//! Re-arming for later is free: the old entry stays, and when it comes up the link's real deadline is looked at and
//! entered again. Only a deadline that moved nearer is entered at once. So traffic that keeps pushing a keep-alive
//! away costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::LinkId;
use crate::clock::Moment;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, LinkId)>>,
}

impl Timers {
    /// Enters `deadline` if `armed`, the link's nearest entry, is not as near.
    pub(crate) fn arm(&mut self, link: LinkId, armed: &mut Option<Moment>, deadline: Option<Instant>) {
        let Some(deadline) = deadline.map(Moment::from) else {
            return;
        };
        if armed.is_none_or(|armed| deadline < armed) {
            *armed = Some(deadline);
            self.heap.push(Reverse((deadline, link)));
        }
    }

    /// The nearest entry; the link's deadline may be later by now, never earlier.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// An entry is due.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.heap.peek().is_some_and(|Reverse((at, _))| *at <= now)
    }

    /// An entry that is due. The link ignores it unless it is the one that it is armed with.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Moment, LinkId)> {
        if !self.is_due(now.into()) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Entries, out of date ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops the entries that `is_armed` does not know, when they have become most of the heap. One entry is left for
    /// each link, though it may have been armed with the same moment many times: a deadline that is entered, gives
    /// way to a nearer one, and comes back, is entered again.
    pub(crate) fn prune(&mut self, links: usize, is_armed: impl Fn(LinkId, Moment) -> bool) {
        if self.len() > 4 * links + 1024 {
            let mut entries = std::mem::take(&mut self.heap).into_vec();
            entries.retain(|Reverse((at, link))| is_armed(*link, *at));
            entries.sort_unstable();
            entries.dedup();
            self.heap = entries.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LINK: LinkId = LinkId {
        shard: 0,
        slot: 0,
        generation: 0,
    };

    #[test]
    fn only_a_nearer_deadline_is_entered() {
        let (mut timers, mut armed, now) = (Timers::default(), None, Instant::now());
        let second = Duration::from_secs(1);
        timers.arm(LINK, &mut armed, Some(now + 5 * second));
        timers.arm(LINK, &mut armed, Some(now + 9 * second));
        timers.arm(LINK, &mut armed, None);
        assert_eq!(timers.len(), 1);
        timers.arm(LINK, &mut armed, Some(now + 2 * second));
        assert_eq!(
            (timers.len(), timers.next()),
            (2, Some((now + 2 * second).into()))
        );
        assert_eq!(timers.pop_due(now + second), None);
        assert_eq!(
            timers.pop_due(now + 2 * second),
            Some(((now + 2 * second).into(), LINK))
        );
    }

    #[test]
    fn a_heap_of_mostly_dead_entries_is_pruned() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for later in (1..2000).rev() {
            let mut armed = None;
            timers.arm(LINK, &mut armed, Some(now + Duration::from_secs(later)));
        }
        timers.prune(1, |_, at| at.instant() == now + Duration::from_secs(7));
        assert_eq!(
            (timers.len(), timers.next()),
            (1, Some((now + Duration::from_secs(7)).into()))
        );
    }
    #[test]
    fn a_deadline_that_comes_back_again_and_again_leaves_one_entry() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let far = now + Duration::from_secs(60);
        let mut armed = None;
        for millis in 0..2000 {
            timers.arm(LINK, &mut armed, Some(far));
            timers.arm(LINK, &mut armed, Some(now + Duration::from_millis(millis)));
            assert!(timers.pop_due(now + Duration::from_millis(millis)).is_some());
            armed = None;
            timers.prune(1, |_, at| at.instant() == far);
            assert!(timers.len() <= 4 + 1024, "{}", timers.len());
        }
        timers.arm(LINK, &mut armed, Some(far));
        assert_eq!(timers.next(), Some(far.into()));
    }
}
