//! What a pass has produced goes to the driver, and reading stops and goes on.

use fleetwire_tls::Reason;

use super::{How, ShardLoop};
use crate::driver::{Driver, Key};
use crate::failure::Cause;
use crate::link::Phase;
use crate::{DropReason, Event, Handler, Slug};

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    /// Looks again, once in a pass, at links with more to send than one block, and at those whose verbs found no memory.
    pub(super) fn look_again(&mut self) {
        let mut again = std::mem::take(&mut self.core.again);
        for key in again.drain(..) {
            self.core.touch(key);
        }
        // The same list, so that no pass allocates one.
        self.core.again = again;
        for key in std::mem::take(&mut self.core.starved) {
            if let Some(link) = self.core.links.at_mut(key) {
                link.starved = false;
                self.core.touch(key);
            }
        }
    }

    /// Carries out what handlers and packets have asked of connections, until nothing is left to do.
    pub(super) fn flush(&mut self) {
        while let Some(key) = self.core.dirty.pop() {
            let Some(link) = self.core.links.at_mut(key) else {
                continue;
            };
            link.dirty = false;
            if let Some(wish) = link.wishes.close.take() {
                self.carry_out_close(key, wish);
            }
            self.sync_reading(key);
            self.send_again(key);
            self.pump(key);
            self.core.arm(key);
        }
    }

    /// Goes on with what a resumed session has to send again.
    fn send_again(&mut self, key: Key) {
        while let Some((link, mut tools)) = self.core.connection(key) {
            if link.phase != Phase::Up {
                return;
            }
            let Some((entry, error)) = link.connection.send_again(&mut tools) else {
                return;
            };
            self.dropped(key, &entry, DropReason::NotAccepted(error));
        }
    }

    /// Hands output to the driver, one block at a time.
    pub(super) fn pump(&mut self, key: Key) {
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        if !link.phase.has_socket() || link.phase == Phase::Tcp {
            return;
        }
        match link.connection.take_ready(&mut tools) {
            Ok(Some((block, range))) => {
                self.core.counters.bytes_out.add(range.len() as u64);
                self.core.counters.sends.add(1);
                if let Some(block) = self.driver.submit_send(key, block, range)
                    && let Some(link) = self.core.links.at_mut(key)
                {
                    link.connection.sent(block, &mut self.core.pool);
                    if link.has_more_to_do() {
                        self.core.again.push(key);
                    }
                }
            }
            Ok(None) if matches!(link.phase, Phase::Flushing(_)) => self.finish_flushing(key),
            Ok(None) => {
                if link.phase.is_live() && link.connection.has_room_again(&mut tools) {
                    self.deliver(key, Event::Writable);
                } else {
                    self.core.note_full(key);
                }
            }
            // It is over already; the rest cannot be said.
            Err(_) if matches!(link.phase, Phase::Flushing(_)) => {
                self.driver.close(key, false);
                self.after_close(key);
            }
            Err(error) => {
                let mut cause = Cause::new(Slug::of(error.slug()), error.to_string());
                // What no more packets can be sent under can still say close_notify.
                cause.told = true;
                let how = match error.reason() {
                    Reason::KeysExhausted => How::Flush,
                    _ => How::Now,
                };
                self.end(key, cause, how);
            }
        }
    }

    /// Tells the driver whether to read, and takes up what was parked whole meanwhile.
    fn sync_reading(&mut self, key: Key) {
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        if !link.phase.has_socket() {
            return;
        }
        let wanted = link.wants_reading();
        if link.reading != wanted {
            link.reading = wanted;
            self.driver.set_reading(key, wanted);
        }
        if wanted
            && std::mem::take(&mut link.connection.frames_wait)
            && let Some(parked) = self.core.parking.take(key)
        {
            self.process_parked(key, parked);
        }
    }
}
