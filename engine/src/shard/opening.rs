//! From the plan to the CONNACK: dialling, accepting, the TLS handshake, time-outs on the way.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use fleetwire_tls::TlsSession;

use super::{How, ShardLoop};
use crate::clock::after;
use crate::connection::Connection;
use crate::dial::{ConnectForm, Dial};
use crate::driver::{Driver, Key};
use crate::failure::{Cause, connect_cause};
use crate::link::{Opening, Phase};
use crate::session::Session;
use crate::{Accepted, Event, Handler, Slug, TlsInfo};

/// Links that one pass takes off the queue, so that attempts which fail at once do not starve the others.
const DIALS_PER_PASS: usize = 256;

impl<H: Handler, D: Driver> ShardLoop<H, D> {
    /// Puts a link at the end of those that wait to dial.
    pub(super) fn queue(&mut self, key: Key, since: Instant) {
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        let Some(client) = &mut link.client else { return };
        client.queued_at = since.into();
        link.phase = Phase::Queued;
        self.core.dialer.queue.push_back(link.id);
    }

    /// When the next link may dial; `None` when none waits, or when too many connections are being opened.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        if self.core.dialling >= self.core.limits.handshakes_max {
            return None;
        }
        let id = self.core.dialer.queue.front()?;
        let waits_since = match self.core.links.at(id.slot) {
            Some(link) if link.id == *id && link.phase == Phase::Queued => {
                link.client.as_ref().map(|client| client.queued_at.instant())
            }
            _ => None,
        };
        // A link that is gone is to be taken off the queue at once.
        Some(waits_since.map_or(self.core.now, |since| self.core.dialer.slot(since)))
    }

    /// Dials whoever's turn it is.
    pub(super) fn dial(&mut self) {
        for _ in 0..DIALS_PER_PASS {
            let Some(slot) = self.next_dial().filter(|slot| *slot <= self.core.now) else {
                return;
            };
            let Some(id) = self.core.dialer.queue.front().copied() else {
                return;
            };
            if self
                .core
                .links
                .get_mut(id)
                .is_some_and(|link| link.phase == Phase::Queued)
            {
                self.core.dialer.take(slot);
                self.attempt(id.slot, slot);
            } else {
                self.core.dialer.queue.pop_front();
            }
        }
    }

    fn attempt(&mut self, key: Key, scheduled: Instant) {
        let now = self.core.now;
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        let Some(client) = &link.client else { return };
        let timeout = client.plan.inner().connect_timeout;
        link.epoch += 1;
        link.phase = Phase::Tcp;
        link.opening = Some(Box::new(Opening {
            connect: Vec::new(),
            address_next: 0,
            peer: None,
            scheduled,
            deadline: after(now, timeout),
            address_deadline: after(now, timeout),
            connect_sent: None,
            tls: None,
            accepted: false,
            counted: true,
        }));
        self.core.dialling += 1;
        self.core.counters.attempts.add(1);
        if let Err(cause) = self.prepare(key) {
            return self.end(key, cause, How::Now);
        }
        let never_resolved = "the way has no address: it was never resolved";
        self.connect_next(key, Cause::new(Slug::DIAL_REFUSED, never_resolved));
    }

    /// Asks the handler who the link is this time, and makes the CONNECT and the TLS session of it.
    fn prepare(&mut self, key: Key) -> Result<(), Cause> {
        let now = self.core.now;
        let gone = || Cause::new(Slug::DIAL_REFUSED, "the link is gone");
        let link = self.core.links.at_mut(key).ok_or_else(gone)?;
        let at = link.at(now);
        let client = link.client.as_ref().ok_or_else(gone)?;
        let (plan, attempt) = (client.plan.clone(), client.failures + 1);
        let has_session = client.session.as_ref().is_some_and(|state| !state.has_expired());
        let mut form = match &client.template {
            Some(form) => (**form).clone(),
            None => {
                let mut form = ConnectForm::default();
                self.handler
                    .on_dial(at, &mut Dial::new(&mut form, attempt, has_session))
                    .map_err(|error| Cause::new(Slug::DIAL_REFUSED, error.to_string()))?;
                form
            }
        };
        // The server's half may live on, and what is new must not be taken for what was before.
        form.clean_start |= client
            .session
            .as_ref()
            .is_some_and(|state| state.has_expired_of(&form.client_id));
        let refused = |why: &dyn std::fmt::Display| {
            Cause::new(Slug::DIAL_REFUSED, format!("no CONNECT can be made of it: {why}"))
        };
        let properties = form.all_properties().map_err(|error| refused(&error))?;
        let connect = form.connect(&properties);
        let mut bytes = vec![
            0;
            connect
                .encoded_len(form.version)
                .map_err(|error| refused(&error))?
        ];
        connect
            .encode(form.version, &mut bytes)
            .map_err(|error| refused(&error))?;
        let tls = match plan.inner().way.tls_parts() {
            None => None,
            Some((config, name)) => {
                let session = TlsSession::client(config, name, form.identity.as_ref())
                    .map_err(|error| Cause::new(Slug::of(error.slug()), error.to_string()))?;
                Some(Box::new(session))
            }
        };
        let output_bytes_max = self.core.limits.output_bytes_max;
        let link = self.core.links.at_mut(key).ok_or_else(gone)?;
        let state = link.client.as_mut().map(|client| &mut client.session);
        let mut state = state.and_then(|state| state.take_if(|state| !state.has_expired()));
        if let Some(other) = state.take_if(|state| !state.is_of(form.version, &form.client_id)) {
            self.drop_state(key, other);
        }
        let session = Session::client(&connect, state, now);
        let link = self.core.links.at_mut(key).ok_or_else(gone)?;
        link.connection = Connection::new(session, output_bytes_max);
        link.connection.tls = tls;
        if let Some(opening) = &mut link.opening {
            opening.connect = bytes;
        }
        Ok(())
    }

    /// Dials the next address of the way; `cause` is why the one before it failed.
    fn connect_next(&mut self, key: Key, mut cause: Cause) {
        let now = self.core.now;
        loop {
            let Some(link) = self.core.links.at_mut(key) else {
                return;
            };
            let (Some(client), Some(opening)) = (&link.client, &mut link.opening) else {
                return;
            };
            let addresses = client.plan.inner().way.addresses();
            let Some(address) = addresses.get(opening.address_next).copied() else {
                return self.end(key, cause, How::Now);
            };
            // What is left of the time is shared with the addresses that are still to come.
            let left = (addresses.len() - opening.address_next) as u32;
            opening.address_deadline = now + opening.deadline.saturating_duration_since(now) / left;
            opening.address_next += 1;
            opening.peer = Some(address);
            match self.driver.connect(key, address) {
                Ok(()) => return self.core.arm(key),
                Err(error) => cause = connect_cause(&error, Some(address)),
            }
        }
    }

    pub(super) fn connected(&mut self, key: Key, result: io::Result<()>) {
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        if link.phase != Phase::Tcp {
            return;
        }
        if let Err(error) = result {
            let cause = connect_cause(&error, link.opening.as_ref().and_then(|opening| opening.peer));
            self.driver.close(key, false);
            return self.connect_next(key, cause);
        }
        let Some(tls) = &mut link.connection.tls else {
            return self.begin_mqtt(key);
        };
        link.phase = Phase::Tls;
        let started = tls.start(tools.flight);
        let sent = link.connection.send_flight(&mut tools);
        let cause = match (started, sent) {
            (Ok(()), Ok(())) => {
                self.core.arm(key);
                return self.core.touch(key);
            }
            (Err(error), _) => Cause::new(Slug::of(error.slug()), error.to_string()),
            (_, Err(error)) => Cause::new(Slug::OVERLOADED, error.to_string()),
        };
        self.end(key, cause, How::Now);
    }

    /// The client's transport is there: CONNECT goes out.
    fn begin_mqtt(&mut self, key: Key) {
        let Some((link, mut tools)) = self.core.connection(key) else {
            return;
        };
        let Some(opening) = &mut link.opening else { return };
        link.phase = Phase::Mqtt;
        opening.connect_sent = Some(tools.now);
        let connect = std::mem::take(&mut opening.connect);
        match link.connection.send_connect(&connect, &mut tools) {
            Ok(()) => {
                self.core.arm(key);
                // At once, for nothing joins it before its CONNACK: with hundreds that come up in one pass each would hold a
                // block to its end.
                self.pump(key);
                self.core.touch(key);
            }
            Err(error) => self.end(key, Cause::new(Slug::OVERLOADED, error.to_string()), How::Now),
        }
    }

    pub(super) fn accepted(&mut self, listener: usize, peer: SocketAddr, incoming: D::Incoming) {
        let now = self.core.now;
        let Some(options) = self.listeners.get(listener) else {
            return;
        };
        let Some(id) = self.core.ids.reserve() else {
            // Handles have reserved what the links themselves leave.
            self.core.counters.accept_errors.add(1);
            self.regulated_at = None;
            return self.driver.set_accepting(false);
        };
        let mut link = self.core.new_link(id, options.token, Phase::Mqtt, None);
        if let Some(config) = &options.tls {
            link.phase = Phase::Tls;
            link.connection.tls = Some(Box::new(TlsSession::server(config)));
        }
        link.listener = listener as u32;
        link.epoch = 1;
        link.opening = Some(Box::new(Opening {
            connect: Vec::new(),
            address_next: 0,
            peer: Some(peer),
            scheduled: now,
            deadline: after(now, self.core.limits.accept_timeout),
            address_deadline: after(now, self.core.limits.accept_timeout),
            connect_sent: None,
            tls: None,
            accepted: false,
            counted: false,
        }));
        if let Err(error) = self.driver.adopt(id.slot, incoming) {
            log::warn!("cannot take in the connection of {peer}: {error}");
            self.core.counters.accept_errors.add(1);
            return self.core.ids.release(id);
        }
        let plain = link.phase == Phase::Mqtt;
        self.core.links.insert(link);
        self.core.counters.accepted.add(1);
        self.core.arm(id.slot);
        if plain {
            self.tell_accepted(id.slot);
        }
        self.regulate_accepting();
    }

    /// The TLS handshake of a connection is over.
    pub(super) fn established(&mut self, key: Key) {
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        link.connection.switch_to_records();
        let info = link
            .connection
            .tls
            .as_ref()
            .and_then(|tls| tls.info())
            .map(|info| TlsInfo::of(&info));
        if let Some(opening) = &mut link.opening {
            opening.tls = info;
        }
        if link.is_client() {
            self.begin_mqtt(key);
        } else {
            link.phase = Phase::Mqtt;
            self.tell_accepted(key);
        }
    }

    fn tell_accepted(&mut self, key: Key) {
        let Some(link) = self.core.links.at_mut(key) else {
            return;
        };
        let listener = link.listener as usize;
        let Some(mut opening) = link.opening.take() else {
            return;
        };
        opening.accepted = true;
        if let Some(peer) = opening.peer {
            self.deliver(
                key,
                Event::Accepted(Accepted {
                    peer,
                    tls: opening.tls.as_ref(),
                    listener,
                }),
            );
        }
        // The CONNACK needs none of what was told.
        opening.tls = None;
        if let Some(link) = self.core.links.at_mut(key) {
            link.opening = Some(opening);
        }
    }

    /// A connection that is being opened has come to a deadline.
    pub(super) fn opening_timeout(&mut self, key: Key) {
        let now = self.core.now;
        let Some(link) = self.core.links.at(key) else {
            return;
        };
        let Some(opening) = &link.opening else { return };
        let whole = opening.deadline <= now;
        let elapsed = now.saturating_duration_since(opening.scheduled).as_secs_f64();
        match link.phase {
            Phase::Tcp if whole || opening.address_deadline <= now => {
                let at = opening.peer.map_or_else(String::new, |peer| format!("{peer}: "));
                let text = format!("{at}no answer in {elapsed:.1} s, neither refused nor reset");
                let cause = Cause::new(Slug::TCP_TIMEOUT, text);
                if whole {
                    return self.end(key, cause, How::Now);
                }
                self.driver.close(key, false);
                self.connect_next(key, cause);
            }
            Phase::Tls if whole => {
                let tls = link.connection.tls.as_ref();
                let stage = tls.map_or_else(String::new, |tls| format!(": {}", tls.stage()));
                let text = format!("the TLS handshake did not end in {elapsed:.1} s{stage}");
                self.end(key, Cause::new(Slug::TLS_TIMEOUT, text), How::Now);
            }
            Phase::Mqtt if whole && link.is_client() => {
                let text = format!("CONNECT was sent and no CONNACK came within {elapsed:.1} s");
                self.end(key, Cause::new(Slug::CONNACK_TIMEOUT, text), How::Now);
            }
            Phase::Mqtt if whole => {
                let text = format!("no CONNECT, or no answer to it, within {elapsed:.1} s");
                self.end(key, Cause::new(Slug::CONNECT_TIMEOUT, text), How::Flush);
            }
            _ => {}
        }
    }
}
