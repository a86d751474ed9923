//! The shutdown: drain, say good-bye, close.

use std::time::{Duration, Instant};

use fleetwire_codec::ReasonCode;

use super::ShardLoop;
use crate::Handler;
use crate::clock::after;
use crate::driver::Driver;
use crate::link::{CloseWish, Link, Phase};
use crate::outbox::Outbox;

/// How far the shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    /// Waits for acknowledgements until then.
    Draining(Instant),
    /// Every link was told to close; what is left then is dropped.
    Closing(Instant),
}

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    pub(super) fn begin_stop(&mut self, drain: Duration) {
        if self.stop != Stop::No {
            return;
        }
        self.core.draining = true;
        self.stop = Stop::Draining(after(self.core.now, drain));
        self.driver.close_listeners();
        for id in self.core.links.ids() {
            let Some(link) = self.core.links.get_mut(id) else {
                continue;
            };
            link.schedule = None;
            if link.phase != Phase::Up {
                self.core.wish_close(id, CloseWish::Orderly(None), true);
            }
        }
    }

    /// Goes on with a shutdown; true when it is complete.
    pub(super) fn drained(&mut self) -> bool {
        let now = self.core.now;
        match self.stop {
            Stop::No => false,
            Stop::Draining(until) => {
                let idle = |link: &Link| {
                    let session = &link.connection.session;
                    session.in_flight_publishes() == 0
                        && !session.holds_acks()
                        && link.connection.is_flushed()
                };
                if now >= until || self.core.links.iter().all(idle) {
                    self.stop = Stop::Closing(after(now, self.core.limits.linger_timeout));
                    for id in self.core.links.ids() {
                        let server = self.core.links.get_mut(id).is_some_and(|link| !link.is_client());
                        if server {
                            let reason = ReasonCode::ServerShuttingDown;
                            Outbox::new(&mut self.core).disconnect(
                                id,
                                reason,
                                fleetwire_codec::Properties::EMPTY,
                            );
                        }
                        self.core.wish_close(id, CloseWish::Orderly(None), true);
                    }
                    self.flush();
                }
                false
            }
            Stop::Closing(until) => {
                if now >= until {
                    for id in self.core.links.ids() {
                        self.driver.close(id.slot, true);
                        self.after_close(id.slot);
                    }
                }
                self.core.links.len() == 0
            }
        }
    }
}
