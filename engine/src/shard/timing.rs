//! Deadlines that have come: schedules, time-outs of connections that are opened, used or ended.

use fleetwire_codec::{Packet, ReasonCode};

use super::{How, ShardLoop};
use crate::driver::{Driver, Key};
use crate::failure::Cause;
use crate::link::Phase;
use crate::session::Expired;
use crate::{AcksLate, DropReason, Event, Handler, Slug};

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    pub(super) fn fire_timers(&mut self) {
        // Bounded by what is there now: what a handler schedules for this very moment waits for the next pass.
        for _ in 0..self.core.timers.len() {
            let Some((at, id)) = self.core.timers.pop_due(self.core.now) else {
                break;
            };
            self.core.counters.deadlines.add(1);
            let Some(link) = self.core.links.get_mut(id) else {
                continue;
            };
            if link.armed == Some(at) {
                link.armed = None;
                let lag = self.core.now.saturating_duration_since(at.instant());
                self.core.counters.lag_us_max.raise_to(lag.as_micros() as u64);
                self.fire_schedule(id.slot);
                self.fire_phase(id.slot);
                self.core.arm(id.slot);
            }
        }
        let links = &self.core.links;
        self.core.timers.prune(links.len(), |id, at| {
            links
                .at(id.slot)
                .is_some_and(|link| link.id == id && link.armed == Some(at))
        });
    }

    fn fire_schedule(&mut self, key: Key) {
        let now = self.core.now;
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        if let Some(due) = link.schedule.as_mut().and_then(|schedule| schedule.take_due(now)) {
            self.deliver(key, Event::Due(due));
        }
    }

    fn fire_phase(&mut self, key: Key) {
        let now = self.core.now;
        self.expire_session(key);
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        match link.phase {
            Phase::Backoff(until) if until <= now.into() => self.queue(key, until.instant()),
            Phase::Tcp | Phase::Tls | Phase::Mqtt => self.opening_timeout(key),
            Phase::Up if link.wishes.close.is_none() => self.session_timeout(key),
            Phase::Flushing(until) | Phase::Lingering(until) if until <= now.into() => {
                self.driver.close(key, false);
                self.after_close(key);
            }
            _ => {}
        }
    }

    /// The Session Expiry Interval has passed without a connection: v5 section 3.1.2.11.2. During an attempt the state is
    /// the connection's, and the server's answer decides.
    fn expire_session(&mut self, key: Key) {
        let now = self.core.moment;
        while let Some(entry) = self.core.links.at_mut(key).and_then(|link| link.pop_expired(now)) {
            self.dropped(key, &entry, DropReason::SessionExpired);
        }
    }

    fn session_timeout(&mut self, key: Key) {
        loop {
            let now = self.core.now;
            let Some((link, mut tools)) = self.core.connection(key) else {
                return;
            };
            match link.connection.session.handle_timeout(now, tools.limits) {
                None => return,
                Some(Expired::SendPing) => {
                    // Without room for it there is output on its way, which says as much as a ping if it moves.
                    match link.connection.send_packet(&Packet::Pingreq, &mut tools) {
                        Ok(()) => link.connection.session.ping_sent(now),
                        Err(_) => link.connection.session.ping_owed(now),
                    }
                    self.core.touch(key);
                }
                Some(Expired::AcksLate { oldest }) => {
                    let in_flight = link.connection.session.in_flight_publishes();
                    self.deliver(key, Event::AcksLate(AcksLate { oldest, in_flight }));
                }
                // We do not read, so we cannot know.
                Some(Expired::PeerSilent) if link.paused || link.held => {
                    link.connection.session.presume_alive(now)
                }
                Some(Expired::PeerSilent) => {
                    let text = if link.is_client() {
                        "no PINGRESP and nothing else came in time"
                    } else {
                        "no packet came within one and a half keep-alives"
                    };
                    let cause =
                        Cause::new(Slug::KEEP_ALIVE_TIMEOUT, text).with_reason(ReasonCode::KeepAliveTimeout);
                    return self.end(key, cause, How::Flush);
                }
            }
        }
    }
}
