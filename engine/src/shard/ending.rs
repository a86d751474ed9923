//! The end of a connection, whoever brings it about, and what becomes of its link.

use std::time::{Duration, Instant};

use fleetwire_codec::{Disconnect, Packet, ReasonCode, Version};

use super::{How, ShardLoop};
use crate::clock::after;
use crate::connection::Connection;
use crate::driver::{Driver, Key};
use crate::failure::Cause;
use crate::link::{CloseWish, Link, Phase};
use crate::session::{Entry, Session, SessionState, said_by};
use crate::{Disconnected, DropReason, Dropped, Event, Failure, Handler, Slug};

/// A connection that held so long ends a row of failures: the next wait begins at the bottom again.
const LASTING: Duration = Duration::from_secs(30);
/// A take-over within so long of CONNACK is no accident.
const TAKEOVER_WINDOW: Duration = Duration::from_secs(2);
/// After so many of them in a row the link gives up, for both sides would go on for ever.
const TAKEOVERS_MAX: u32 = 3;

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    /// Carries out a close verb.
    pub(super) fn carry_out_close(&mut self, key: Key, wish: CloseWish) {
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        let mut cause = Cause::new(Slug::CLOSED_BY_US, "the application closed the link");
        match link.phase {
            Phase::Idle | Phase::Queued | Phase::Backoff(_) => return self.remove_if_wished(key),
            Phase::Flushing(_) | Phase::Lingering(_) => return,
            Phase::Tcp | Phase::Tls => {
                let how = if matches!(wish, CloseWish::Abort) {
                    How::Reset
                } else {
                    How::Now
                };
                return self.end(key, cause, how);
            }
            Phase::Mqtt | Phase::Up => {}
        }
        match wish {
            CloseWish::Abort => self.end(key, cause, How::Reset),
            CloseWish::Orderly(reason) => {
                // A DISCONNECT with a reason is queued already.
                if reason.is_none() && link.is_client() && link.phase == Phase::Up {
                    let disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
                    // Without room for it the peer sees the end of the stream instead.
                    let _ = link
                        .connection
                        .send_packet(&Packet::Disconnect(disconnect), &mut tools);
                }
                cause.reason = reason;
                cause.told = true;
                self.end(key, cause, How::Flush);
            }
        }
    }

    /// Ends the present connection of a link: completes what was in flight, tells the application once, and sees to
    /// the transport.
    pub(super) fn end(&mut self, key: Key, mut cause: Cause, how: How) {
        let now = self.core.now;
        let linger_until = after(now, self.core.limits.linger_timeout);
        let draining = self.core.draining;
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        let phase = link.phase;
        if !phase.is_open() {
            return;
        }
        if how == How::Flush && !cause.told && !cause.from_peer {
            say_goodbye(link, &cause, &mut tools);
        }
        let known_up = link.is_known_up();
        let connected_for = now.saturating_duration_since(link.up_since.instant());
        link.phase = Phase::Flushing(linger_until.into());
        if !link.is_client() {
            // For the application the link is gone now, though its last bytes are still on their way.
            link.schedule = None;
        }
        let retry_in = retry(
            link,
            &mut cause,
            known_up.then_some(connected_for),
            draining,
            tools.random,
        );
        link.retry_at = retry_in.map(|wait| after(now, wait).into());
        let failure = (!known_up).then(|| failure(link, &cause, phase, retry_in, now));
        let counted = link.opening.take().is_some_and(|opening| opening.counted);
        link.waits = false;
        let is_client = link.is_client();
        let outlives = link.connection.session.outlives();
        self.core.drop_parked(key);
        if phase == Phase::Up {
            self.core.counters.links_up.sub(1);
        } else {
            self.core.uncount_opening(is_client, counted);
        }
        // A server's state is there for the application to take until it has been told of the end.
        let drops = match (is_client, retry_in) {
            (true, Some(_)) => !outlives,
            (true, None) => true,
            (false, _) => !(outlives && known_up),
        };
        if drops {
            self.drop_in_flight(key, retry_in.is_none(), cause.slug);
        }
        log::debug!("link {key}: {} in {:?}: {}", cause.slug, phase, cause.text);
        match failure {
            Some(failure) => self.deliver(key, Event::Failed(failure)),
            None => {
                let disconnected = Disconnected {
                    slug: cause.slug,
                    text: cause.text,
                    reason: cause.reason,
                    clean: cause.clean,
                    session_expiry_secs: cause.session_expiry_secs,
                    connected_for,
                    retry_in,
                };
                self.deliver(key, Event::Disconnected(disconnected));
            }
        }
        if !is_client {
            self.drop_in_flight(key, true, cause.slug);
        }
        match how {
            How::Flush => {
                self.core.arm(key);
                self.core.touch(key);
            }
            How::Now | How::Reset => {
                self.driver.close(key, how == How::Reset);
                self.after_close(key);
            }
        }
    }

    /// Every publish that was accepted ends exactly once: those of the connection, and all that the link has when there will
    /// be no other.
    fn drop_in_flight(&mut self, key: Key, all: bool, slug: Slug) {
        let why = if slug == Slug::CLOSED_BY_US {
            DropReason::Closed
        } else {
            DropReason::ConnectionLost
        };
        while let Some(entry) = self.core.links.at_mut(key).and_then(|link| {
            if all {
                link.pop_dropped()
            } else {
                link.connection.session.pop_dropped()
            }
        }) {
            self.dropped(key, &entry, why);
        }
    }

    /// The server has not kept the session.
    pub(super) fn drop_lost(&mut self, key: Key) {
        while let Some(entry) = self
            .core
            .links
            .at_mut(key)
            .and_then(|link| link.connection.session.pop_lost())
        {
            self.dropped(key, &entry, DropReason::SessionLost);
        }
    }

    /// The link has become another client, which has not got that session.
    pub(super) fn drop_state(&mut self, key: Key, mut state: SessionState) {
        while let Some(entry) = state.pop_dropped() {
            self.dropped(key, &entry, DropReason::SessionLost);
        }
    }

    pub(super) fn dropped(&mut self, key: Key, entry: &Entry, why: DropReason) {
        let (token, intended) = (entry.token, entry.intended);
        self.deliver(key, Event::Dropped(Dropped { token, intended, why }));
    }

    /// Nothing is queued any more: the last bytes of TLS, then the end of our direction.
    pub(super) fn finish_flushing(&mut self, key: Key) {
        let linger_until = after(self.core.now, self.core.limits.linger_timeout);
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        if !link.connection.is_flushed() {
            return;
        }
        if !link.connection.finish(&mut tools) {
            return self.core.touch(key);
        }
        // Closing a socket with unread input resets the connection, and the reset may overtake our last bytes.
        link.phase = Phase::Lingering(linger_until.into());
        self.driver.shutdown_write(key);
    }

    /// The transport is gone: the link is removed, waits for its next attempt, or stays idle.
    pub(super) fn after_close(&mut self, key: Key) {
        // The connection's end has done so; one that comes later with this key must find nothing, whatever brought us here.
        self.core.drop_parked(key);
        let now = self.core.now;
        let fresh = Connection::new(Session::server(now), self.core.limits.output_bytes_max);
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        let mut old = std::mem::replace(&mut link.connection, fresh);
        if let Some(client) = &mut link.client
            && let Some(state) = old.session.suspend(now)
        {
            client.session = Some(state);
        }
        old.release(&mut self.core.pool, &mut self.core.scratch);
        link.reading = true;
        link.phase = match link.retry_at.take() {
            Some(at) => Phase::Backoff(at),
            None => Phase::Idle,
        };
        if !link.is_client() {
            link.wishes.remove = true;
        }
        self.remove_if_wished(key);
        if let Some(link) = self.core.links.at_mut(key)
            && link.phase == Phase::Idle
            && let Some(client) = &mut link.client
        {
            // No connection will go on with it, and its publishes have ended already.
            client.session = None;
        }
        self.core.arm(key);
    }

    /// Lets go of an offline link that the application has closed.
    fn remove_if_wished(&mut self, key: Key) {
        if !self.core.links.at(key).is_some_and(|link| link.wishes.remove) {
            return;
        }
        while let Some(entry) = self.core.links.at_mut(key).and_then(Link::pop_dropped) {
            self.dropped(key, &entry, DropReason::Closed);
        }
        if let Some(link) = self.core.links.remove(key) {
            self.core.ids.release(link.id);
        }
    }
}

/// Tells the peer why, as far as its version and state have words for it.
fn say_goodbye(link: &mut Link, cause: &Cause, tools: &mut crate::connection::Tools<'_>) {
    let (session, is_client) = (&link.connection.session, link.is_client());
    if let Some(reason) = cause.reason
        && session.is_up()
        && session.version() == Version::V5
    {
        let reason = said_by(is_client, reason);
        // Without room for it the peer sees the end of the stream instead.
        let _ = link
            .connection
            .send_packet(&Packet::Disconnect(Disconnect::new(reason)), tools);
    }
}

/// How long the link waits before its next attempt; `None` when there is none.
fn retry(
    link: &mut Link,
    cause: &mut Cause,
    connected_for: Option<Duration>,
    draining: bool,
    random: &mut fastrand::Rng,
) -> Option<Duration> {
    let removed = link.wishes.remove;
    let version = link.connection.session.version();
    let client = link.client.as_mut()?;
    let cut_off = connected_for.is_some_and(|connected_for| connected_for < TAKEOVER_WINDOW);
    // A server of 3.1.1 has no word for it.
    let inferred = version == Version::V311 && cause.slug == Slug::CONNECTION_LOST;
    let taken_over = cut_off && (inferred || cause.slug == Slug::CLIENT_ID_TAKEN_OVER);
    client.takeovers = if taken_over { client.takeovers + 1 } else { 0 };
    if client.takeovers >= TAKEOVERS_MAX {
        cause.give_up = true;
        cause.text.push_str(
            "; that was 3 times in a row right after CONNACK, so somebody else uses this client id",
        );
        if inferred {
            cause.slug = Slug::CLIENT_ID_TAKEN_OVER;
            cause.text.push_str(" (inferred: 3.1.1 does not say)");
        }
    }
    if connected_for.is_some_and(|connected_for| connected_for >= LASTING) {
        client.failures = 0;
    }
    client.failures = client.failures.saturating_add(1);
    let plan = client.plan.inner();
    let again = plan.reconnect && !cause.give_up && !removed && !draining;
    again.then(|| plan.backoff.wait(client.failures, random))
}

fn failure(link: &Link, cause: &Cause, phase: Phase, retry_in: Option<Duration>, now: Instant) -> Failure {
    let opening = link.opening.as_deref();
    Failure {
        stage: phase.stage(),
        slug: cause.slug,
        text: cause.text.clone(),
        address: opening.and_then(|opening| opening.peer),
        elapsed: opening.map_or(Duration::ZERO, |opening| {
            now.saturating_duration_since(opening.scheduled)
        }),
        reason: cause.connack_code,
        retry_in,
    }
}
