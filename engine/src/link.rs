//! A link: one device's way to the broker, or one accepted connection, with all that a shard knows of it.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use fleetwire_codec::ReasonCode;
use fleetwire_codec::buffer::Link as Protection;
use fleetwire_tls::TlsSession;

use crate::clock::Moment;
use crate::connection::Connection;
use crate::failure::Cause;
use crate::schedule::Schedule;
use crate::session::{Entry, SessionState};
use crate::{At, ConnectForm, Limits, LinkId, Plan, Slug, Stage, TlsInfo};

/// How far a link's present connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Client: offline, and nothing is planned.
    Idle,
    /// Client: waits for its turn to dial.
    Queued,
    /// Client: waits until then, and then for its turn.
    Backoff(Moment),
    Tcp,
    Tls,
    /// Between the transport and CONNACK.
    Mqtt,
    Up,
    /// The connection is over; its last bytes are on their way until then.
    Flushing(Moment),
    /// All was sent; waits for the peer to close, so that no reset overtakes the last bytes.
    Lingering(Moment),
}

impl Phase {
    pub(crate) fn stage(self) -> Stage {
        match self {
            Self::Idle | Self::Queued | Self::Backoff(_) => Stage::Dial,
            Self::Tcp => Stage::Tcp,
            Self::Tls => Stage::Tls,
            Self::Mqtt => Stage::Connack,
            Self::Up | Self::Flushing(_) | Self::Lingering(_) => Stage::Up,
        }
    }

    /// Counts against `Limits::handshakes_max`.
    pub(crate) fn is_opening(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls | Self::Mqtt)
    }

    /// A connection is there and not over.
    pub(crate) fn is_open(self) -> bool {
        self.is_opening() || self == Self::Up
    }

    /// The driver knows a connection of this link.
    pub(crate) fn has_socket(self) -> bool {
        self.is_open() || matches!(self, Self::Flushing(_) | Self::Lingering(_))
    }

    /// MQTT packets may be read and written.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Mqtt | Self::Up)
    }
}

/// What only a connection that is being opened needs; freed at CONNACK.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Client: the encoded CONNECT.
    pub(crate) connect: Vec<u8>,
    /// Client: which of the way's addresses is next.
    pub(crate) address_next: usize,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) scheduled: Instant,
    /// When the whole attempt is given up.
    pub(crate) deadline: Instant,
    /// When the present address is given up.
    pub(crate) address_deadline: Instant,
    pub(crate) connect_sent: Option<Instant>,
    pub(crate) tls: Option<TlsInfo>,
    /// Server: `Accepted` was told.
    pub(crate) accepted: bool,
    /// It counts against `Limits::handshakes_max`: a client's from its dial, an accepted one from its first byte.
    pub(crate) counted: bool,
}

/// What only a client link has.
#[derive(Debug)]
pub(crate) struct ClientLink {
    pub(crate) plan: Plan,
    /// Attempts without a lasting connection, in a row.
    pub(crate) failures: u32,
    /// Connections that somebody else's took over within moments, in a row.
    pub(crate) takeovers: u32,
    /// When the link began to wait for its turn.
    pub(crate) queued_at: Moment,
    /// What `on_dial` is asked for otherwise.
    pub(crate) template: Option<Box<ConnectForm>>,
    /// What waits for the next connection, of a session that may be resumed.
    pub(crate) session: Option<SessionState>,
}

/// What the application's verbs have asked of a connection; carried out when the handler has returned.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) close: Option<CloseWish>,
    /// The link ends with its connection.
    pub(crate) remove: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CloseWish {
    /// In order; with the reason of a DISCONNECT that was queued, if one was.
    Orderly(Option<ReasonCode>),
    /// With a TCP reset.
    Abort,
}

/// See the module.
///
/// Thousands of links take turns, so each is looked for in memory anew. Its own order, that of its connection's parts
/// included, puts what a message needs into the first three of five cache lines, at QoS 0 both ways all of it, and what is
/// rare behind it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Link {
    pub(crate) token: u64,
    pub(crate) id: LinkId,
    pub(crate) epoch: u32,
    pub(crate) opening: Option<Box<Opening>>,
    pub(crate) phase: Phase,
    pub(crate) wishes: Wishes,
    /// The application does not want to read.
    pub(crate) paused: bool,
    /// The queue of a channel engine is full.
    pub(crate) held: bool,
    /// Server: it has spoken, and waits until fewer connections are being opened.
    pub(crate) waits: bool,
    /// The driver reads from the connection.
    pub(crate) reading: bool,
    /// In the shard's list of links that wait for memory.
    pub(crate) starved: bool,
    /// In the shard's list of links that have something to send or to change.
    pub(crate) dirty: bool,
    pub(crate) connection: Connection,
    pub(crate) client: Option<Box<ClientLink>>,
    pub(crate) schedule: Option<Box<Schedule>>,
    pub(crate) armed: Option<Moment>,
    pub(crate) up_since: Moment,
    pub(crate) retry_at: Option<Moment>,
    pub(crate) listener: u32,
}

impl Link {
    pub(crate) fn at(&self, now: Instant) -> At {
        At {
            link: self.id,
            token: self.token,
            epoch: self.epoch,
            now,
        }
    }

    pub(crate) fn is_client(&self) -> bool {
        self.client.is_some()
    }

    /// The application has been told that this connection is there, so it is to be told that it ended.
    pub(crate) fn is_known_up(&self) -> bool {
        match &self.opening {
            Some(opening) => opening.accepted,
            None => self.phase == Phase::Up,
        }
    }

    /// Whether the driver should read: not while the application does not want to or has not answered CONNECT, but
    /// always when a connection that is over waits for the peer's end of it.
    pub(crate) fn wants_reading(&self) -> bool {
        match self.phase {
            Phase::Tls | Phase::Mqtt if self.waits => false,
            // A client has to hear its CONNACK.
            Phase::Mqtt if self.is_client() => true,
            Phase::Mqtt | Phase::Up => {
                !self.paused
                    && !self.held
                    && self.connection.session.state() != crate::session::State::Deciding
            }
            _ => true,
        }
    }

    /// When the session that waits for a connection ends.
    fn session_expires_at(&self) -> Option<Instant> {
        let state = self.client.as_ref()?.session.as_ref()?;
        state.expires_at().map(Moment::instant)
    }

    /// Ends the oldest publish of the session that waits for a connection, if its time is over.
    pub(crate) fn pop_expired(&mut self, now: Moment) -> Option<Entry> {
        let state = self.client.as_mut()?.session.as_mut()?;
        if state.expires_at().is_none_or(|at| at > now) {
            return None;
        }
        let entry = state.pop_dropped();
        if entry.is_none() {
            state.expire();
        }
        entry
    }

    /// Ends the oldest publish that will have no acknowledgement: of the connection, or of what waits for the next one.
    pub(crate) fn pop_dropped(&mut self) -> Option<Entry> {
        if let Some(entry) = self.connection.session.pop_dropped() {
            return Some(entry);
        }
        let state = &mut self.client.as_mut()?.session;
        let entry = state.as_mut()?.pop_dropped();
        if entry.is_none() {
            *state = None;
        }
        entry
    }

    /// A block has left, and there is more to send, or somebody waits for that.
    pub(crate) fn has_more_to_do(&self) -> bool {
        matches!(self.phase, Phase::Flushing(_)) || self.connection.has_more_to_do()
    }

    /// What was received has left something to do. It can only have moved a deadline away, unless the phase changed.
    pub(crate) fn needs_attention(&self) -> bool {
        self.phase != Phase::Up
            || self.wishes.close.is_some()
            || self.reading != self.wants_reading()
            || self.connection.frames_wait
            || self.connection.has_more_to_do()
    }

    /// It is up, without TLS, and reads, so that messages can be delivered. Nothing else is to be done for those that get no
    /// acknowledgement: what the verbs of their handler have done or found no room for is in a list of the shard already.
    #[inline]
    pub(crate) fn takes_plain_messages(&self) -> bool {
        self.phase == Phase::Up
            && self.connection.tls.is_none()
            && self.wishes.close.is_none()
            && !(self.paused | self.held)
            && self.connection.session.is_up()
    }

    /// What the connection's input is made of.
    pub(crate) fn protection(&self) -> Protection {
        if self.connection.tls.is_some() {
            Protection::Tls
        } else {
            Protection::Plain
        }
    }

    /// What was received may be continued.
    pub(crate) fn goes_on(&self) -> bool {
        self.phase.is_open() && self.wishes.close.is_none()
    }

    /// No further frame may be delivered.
    pub(crate) fn is_stopped(&self) -> bool {
        self.wishes.close.is_some() || !self.phase.is_live() || !self.wants_reading()
    }

    /// The nearest of all reasons to wake.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Idle | Phase::Queued => self.session_expires_at(),
            Phase::Backoff(until) => self
                .session_expires_at()
                .into_iter()
                .chain([until.instant()])
                .min(),
            Phase::Flushing(until) | Phase::Lingering(until) => Some(until.instant()),
            Phase::Tcp => self
                .opening
                .as_ref()
                .map(|opening| opening.deadline.min(opening.address_deadline)),
            Phase::Tls | Phase::Mqtt => self.opening.as_ref().map(|opening| opening.deadline),
            Phase::Up => self.connection.session.deadline(limits),
        };
        let schedule = self.schedule.as_ref().map(|schedule| schedule.next);
        [phase, schedule].into_iter().flatten().min()
    }
}

/// Why the transport's end is what it is, as far as the phase tells.
pub(crate) fn closed_cause(link: &Link, error: Option<&io::Error>, now: Instant) -> Cause {
    let how = match error {
        Some(error) => format!("broke the connection ({error})"),
        None => "closed the connection".to_owned(),
    };
    let opening = link.opening.as_deref();
    match link.phase {
        Phase::Tls => {
            let slug = if error.is_some() {
                Slug::TCP_RESET
            } else {
                Slug::CLOSED_IN_HANDSHAKE
            };
            Cause::new(
                slug,
                format!("the peer {how} during the TLS handshake, without an alert"),
            )
        }
        Phase::Mqtt if link.is_client() => {
            let sent = opening.and_then(|opening| opening.connect_sent).unwrap_or(now);
            let millis = now.saturating_duration_since(sent).as_millis();
            let done = match opening.and_then(|opening| opening.tls.as_ref()) {
                Some(tls) => format!("{} done, ALPN {}, ", tls.version, tls.alpn_text()),
                None => String::new(),
            };
            let text = format!("{done}CONNECT sent, the peer {how} after {millis} ms, no alert, no CONNACK");
            Cause::new(Slug::CLOSED_BEFORE_CONNACK, text)
        }
        _ => {
            let tls = link.connection.tls.as_deref();
            // RFC 8446 section 6.1: without close_notify it may not have been the peer that ended the stream.
            let without = match tls.filter(|_| error.is_none()).map(TlsSession::eof) {
                Some(Err(_)) => "without DISCONNECT and without close_notify",
                _ => "without DISCONNECT",
            };
            Cause::new(Slug::CONNECTION_LOST, format!("the peer {how} {without}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;

    #[test]
    fn an_idle_link_is_small() {
        // Without TLS there is nothing else; the budget is 512 bytes for an idle connection.
        assert!(size_of::<Option<Link>>() <= 320, "{}", size_of::<Option<Link>>());
    }

    #[test]
    fn what_every_message_needs_lies_together() {
        let session = std::mem::offset_of!(Link, connection.session);
        assert!(session + Session::HOT_LEN <= 3 * 64, "{session}");
    }
}
