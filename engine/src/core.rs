//! What a shard is made of, apart from its driver and its handler: what the verbs act upon.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetwire_codec::buffer::{Pool, RecvBuf};
use fleetwire_tls::Scratch;

use crate::clock::{Moment, after};
use crate::connection::{Connection, Tools};
use crate::driver::{Key, Targets};
use crate::link::{ClientLink, CloseWish, Link, Opening, Phase, Wishes};
use crate::links::{Ids, Links};
use crate::parking::Parking;
use crate::session::Session;
use crate::stats::Counters;
use crate::timer::Timers;
use crate::{ConnectForm, Limits, LinkId, OpenError, Plan, Shard};

/// See the module.
///
/// What each message needs lies in the first three lines of the cache, but for one of the limits.
#[repr(C, align(64))]
pub(crate) struct Core {
    pub(crate) counters: Arc<Counters>,
    /// What every socket is received into; `None` only while it is parsed.
    pub(crate) hot: Option<Box<RecvBuf>>,
    /// The link whose parked bytes were copied to the hot block for the read that is under way.
    pub(crate) lent: Option<Key>,
    /// Something may have changed what the links, the pool and TLS count; see [`is_unreported`](Self::is_unreported).
    pub(crate) unreported: bool,
    pub(crate) links: Links,
    pub(crate) now: Instant,
    /// The same as `now`, converted once a pass.
    pub(crate) moment: Moment,
    pub(crate) parking: Parking,
    pub(crate) limits: Limits,
    pub(crate) timers: Timers,
    /// Links that have something to send or to change.
    pub(crate) dirty: Vec<Key>,
    /// Links whose block left at once, and that have more to do in the next pass.
    pub(crate) again: Vec<Key>,
    /// Links whose verbs found no memory, and that nothing else will wake.
    pub(crate) starved: Vec<Key>,
    /// Accepted connections that have spoken and wait for their turn.
    pub(crate) waiting: VecDeque<LinkId>,
    pub(crate) dialer: Dialer,
    /// Client connections that are being opened.
    pub(crate) dialling: usize,
    /// Accepted connections that have spoken, before their CONNACK.
    pub(crate) accepting: usize,
    pub(crate) pool: Pool,
    pub(crate) scratch: Scratch,
    pub(crate) flight: Vec<u8>,
    pub(crate) ids: Ids,
    pub(crate) random: fastrand::Rng,
    /// Bytes of publishes that were copied so that they can be sent again.
    pub(crate) kept_bytes: u64,
    pub(crate) shard: Shard,
    /// No new connections any more.
    pub(crate) draining: bool,
}

impl Core {
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.moment = now.into();
    }

    /// The counters may be other than what they were when they were last told. Blocks may come home at any time, from any
    /// thread.
    pub(crate) fn is_unreported(&self) -> bool {
        self.unreported || self.pool.bytes_in_use() != self.counters.buffer_bytes.read()
    }

    /// No verb has left anything to do.
    pub(crate) fn verbs_left_nothing(&self) -> bool {
        self.dirty.is_empty() && self.starved.is_empty() && self.dialer.queue.is_empty()
    }

    /// The link's connection, with what it works with.
    pub(crate) fn connection(&mut self, key: Key) -> Option<(&mut Link, Tools<'_>)> {
        let link = self.links.at_mut(key)?;
        let tools = Tools {
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            flight: &mut self.flight,
            random: &mut self.random,
            kept_bytes: &mut self.kept_bytes,
            counters: &self.counters,
            limits: &self.limits,
            now: self.now,
            moment: self.moment,
        };
        Some((link, tools))
    }

    /// Puts the link on the list of those that have something to send or to change.
    pub(crate) fn touch(&mut self, key: Key) {
        if let Some(link) = self.links.at_mut(key)
            && !std::mem::replace(&mut link.dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// Gives back what the link's connection has parked.
    pub(crate) fn drop_parked(&mut self, key: Key) {
        if let Some(parked) = self.parking.take(key) {
            parked.release(&mut self.pool);
        }
    }

    /// A verb of the link has answered `Full`: makes sure that `Writable` will come.
    pub(crate) fn note_full(&mut self, key: Key) {
        let Self {
            links,
            limits,
            starved,
            ..
        } = self;
        if let Some(link) = links.at_mut(key)
            && link.connection.is_starved(limits)
            && !std::mem::replace(&mut link.starved, true)
        {
            starved.push(key);
        }
    }

    /// Enters the link's nearest deadline.
    pub(crate) fn arm(&mut self, key: Key) {
        if let Some(link) = self.links.at_mut(key) {
            let deadline = link.deadline(&self.limits);
            self.timers.arm(link.id, &mut link.armed, deadline);
        }
    }

    /// Makes a client link and puts it in the queue of those that wait to dial.
    pub(crate) fn open(&mut self, plan: &Plan, token: u64) -> Result<LinkId, OpenError> {
        if self.draining {
            return Err(OpenError::ShuttingDown);
        }
        let id = self.ids.reserve().ok_or(OpenError::TooManyLinks)?;
        self.open_reserved(id, plan, token, None);
        Ok(id)
    }

    pub(crate) fn open_reserved(
        &mut self,
        id: LinkId,
        plan: &Plan,
        token: u64,
        template: Option<Box<ConnectForm>>,
    ) {
        let client = ClientLink {
            plan: plan.clone(),
            failures: 0,
            takeovers: 0,
            queued_at: self.now.into(),
            template,
            session: None,
        };
        let link = self.new_link(id, token, Phase::Queued, Some(Box::new(client)));
        self.links.insert(link);
        self.dialer.queue.push_back(id);
        self.prune_dialer();
    }

    pub(crate) fn new_link(
        &self,
        id: LinkId,
        token: u64,
        phase: Phase,
        client: Option<Box<ClientLink>>,
    ) -> Link {
        Link {
            id,
            token,
            epoch: 0,
            listener: 0,
            phase,
            connection: Connection::new(Session::server(self.now), self.limits.output_bytes_max),
            client,
            opening: None,
            schedule: None,
            up_since: self.now.into(),
            retry_at: None,
            armed: None,
            wishes: Wishes::default(),
            paused: false,
            held: false,
            waits: false,
            reading: true,
            dirty: false,
            starved: false,
        }
    }

    /// The CONNACK that accepts has been sent or received. Answers what only the opening needed.
    pub(crate) fn mark_up(&mut self, key: Key) -> Option<Box<Opening>> {
        let link = self.links.at_mut(key).filter(|link| link.phase == Phase::Mqtt)?;
        link.phase = Phase::Up;
        link.up_since = self.now.into();
        let opening = link.opening.take()?;
        let is_client = link.is_client();
        self.uncount_opening(is_client, opening.counted);
        self.counters.links_up.add(1);
        self.counters.connected.add(1);
        // It has another deadline now.
        self.touch(key);
        Some(opening)
    }

    /// A connection is no longer being opened.
    pub(crate) fn uncount_opening(&mut self, is_client: bool, counted: bool) {
        let opening = if is_client {
            &mut self.dialling
        } else {
            &mut self.accepting
        };
        *opening -= usize::from(counted);
    }

    /// The first byte of an accepted connection is there. Answers whether it may be handled now: otherwise too many
    /// are being opened, and it waits for its turn.
    pub(crate) fn count_opening(&mut self, key: Key) -> bool {
        let Some(link) = self.links.at_mut(key) else {
            return true;
        };
        let Some(opening) = link.opening.as_mut().filter(|opening| !opening.counted) else {
            return true;
        };
        if self.accepting < self.limits.handshakes_max {
            opening.counted = true;
            self.accepting += 1;
            return true;
        }
        link.waits = true;
        link.connection.frames_wait = true;
        self.waiting.push_back(link.id);
        let Self { links, waiting, .. } = self;
        if waiting.len() > 2 * links.len() + 1024 {
            waiting.retain(|id| links.at(id.slot).is_some_and(|link| link.id == *id && link.waits));
        }
        false
    }

    /// Takes up those that wait for their turn, as long as there is room.
    pub(crate) fn take_up_waiting(&mut self) {
        while self.accepting < self.limits.handshakes_max {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            let Some(link) = self.links.get_mut(id).filter(|link| link.waits) else {
                continue;
            };
            link.waits = false;
            if let Some(opening) = &mut link.opening {
                opening.counted = true;
                self.accepting += 1;
            }
            self.touch(id.slot);
        }
    }

    /// Drops ids from the dialler's queue whose links are gone, when they have become most of it.
    pub(crate) fn prune_dialer(&mut self) {
        let Self { links, dialer, .. } = self;
        if dialer.queue.len() > 2 * links.len() + 1024 {
            let waits = |id: &LinkId| {
                links
                    .at(id.slot)
                    .is_some_and(|link| link.id == *id && link.phase == Phase::Queued)
            };
            dialer.queue.retain(waits);
        }
    }

    /// Where the next bytes of a connection go that may have some already, or when there may be no room.
    #[inline(never)]
    fn receive_more(&mut self, key: Key) -> &mut [u8] {
        let Self {
            parking,
            hot,
            pool,
            lent,
            unreported,
            ..
        } = self;
        let Some(hot) = hot.as_mut() else { return &mut [] };
        if lent.take().is_some() || !hot.has_spare() {
            // A copy that no read followed must not be seen by the next connection, and a block that the application
            // keeps is replaced as soon as there is memory.
            let _ = hot.reset(pool);
        }
        if let Some(parked) = parking.get_mut(key) {
            *unreported = true;
            // A busy connection goes on in the hot block, where one read takes more.
            if !(parked.wants_hot() && hot.unpark(parked)) {
                return parked.spare();
            }
            *lent = Some(key);
        }
        hot.spare()
    }

    /// Asks for the end of a link, or of its present connection.
    pub(crate) fn wish_close(&mut self, id: LinkId, how: CloseWish, remove: bool) {
        if let Some(link) = self.links.get_mut(id) {
            link.wishes.close.get_or_insert(how);
            if remove {
                // For the application it is gone already, whatever is still on its way.
                link.wishes.remove = true;
                link.schedule = None;
            }
            self.touch(id.slot);
        }
    }
}

impl Targets for Core {
    #[inline]
    fn receive(&mut self, key: Key) -> &mut [u8] {
        let has_spare = self.hot.as_ref().is_some_and(|hot| hot.has_spare());
        if !has_spare || self.lent.is_some() || !self.parking.is_empty() {
            return self.receive_more(key);
        }
        self.hot.as_mut().map_or(&mut [], |hot| hot.spare())
    }
}

/// Who dials when: a queue, one slot every interval.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) queue: VecDeque<LinkId>,
    interval: Duration,
    next: Instant,
}

impl Dialer {
    /// `rate` is in attempts a second; infinite, or not positive, means no limit.
    pub(crate) fn new(rate: f64, now: Instant) -> Self {
        let interval = if rate > 0.0 {
            Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX)
        } else {
            Duration::ZERO
        };
        Self {
            queue: VecDeque::new(),
            interval,
            next: now,
        }
    }

    /// When the first of the queue, which waits since `queued_at`, may dial.
    pub(crate) fn slot(&self, queued_at: Instant) -> Instant {
        self.next.max(queued_at)
    }

    /// The slot is taken.
    pub(crate) fn take(&mut self, slot: Instant) {
        self.queue.pop_front();
        self.next = after(slot, self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_message_needs_lies_together() {
        assert!(std::mem::offset_of!(Core, parking) + size_of::<Parking>() <= 3 * 64);
    }

    #[test]
    fn slots_are_an_interval_apart_and_saved_up_ones_are_not() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut dialer = Dialer::new(100.0, start);
        let mut slots = Vec::new();
        for queued_at in [0, 0, 0, 500, 500].map(ms) {
            let slot = dialer.slot(start + queued_at);
            slots.push(slot - start);
            dialer.take(slot);
        }
        assert_eq!(slots, [0, 10, 20, 500, 510].map(ms));
    }
}
