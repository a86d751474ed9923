//! A link: one device's way to the broker, or one accepted connection, with all that a shard knows of it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::after;
use crate::connection::Connection;
use crate::failure::Cause;
use fleetwire_codec::ReasonCode;
use fleetwire_codec::buffer::Link as Protection;

use crate::{At, ConnectForm, Due, Limits, LinkId, Plan, Slug, Stage, TlsInfo};

/// How far a link's present connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Client: offline, and nothing is planned.
    Idle,
    /// Client: waits for its turn to dial.
    Queued,
    /// Client: waits until then, and then for its turn.
    Backoff(Instant),
    Tcp,
    Tls,
    /// Between the transport and CONNACK.
    Mqtt,
    Up,
    /// The connection is over; its last bytes are on their way until then.
    Flushing(Instant),
    /// All was sent; waits for the peer to close, so that no reset overtakes the last bytes.
    Lingering(Instant),
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

    /// The driver knows a connection of this link.
    pub(crate) fn has_socket(self) -> bool {
        self.is_opening() || matches!(self, Self::Up | Self::Flushing(_) | Self::Lingering(_))
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
    pub(crate) queued_at: Instant,
    /// What `on_dial` is asked for otherwise.
    pub(crate) template: Option<Box<ConnectForm>>,
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

/// A periodic schedule; see [`Outbox::every`](crate::Outbox::every).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    first: Instant,
    period: Duration,
    seq: u64,
    pub(crate) next: Instant,
}

impl Schedule {
    pub(crate) fn new(first: Instant, period: Duration) -> Self {
        Self {
            first,
            period,
            seq: 0,
            next: first,
        }
    }

    /// The slot that is due: the last one that has come, and how many earlier ones were passed over.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let late = now.checked_duration_since(self.next)?;
        let missed = (late.as_nanos() / self.period.as_nanos().max(1)) as u64;
        let seq = self.seq + missed;
        let intended = self.slot(seq);
        self.seq = seq + 1;
        self.next = self.slot(self.seq);
        Some(Due {
            seq,
            intended,
            missed,
        })
    }

    fn slot(&self, seq: u64) -> Instant {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(seq));
        let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        after(self.first, Duration::new(secs, (nanos % 1_000_000_000) as u32))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) token: u64,
    pub(crate) epoch: u32,
    pub(crate) listener: u32,
    pub(crate) phase: Phase,
    pub(crate) connection: Connection,
    pub(crate) client: Option<Box<ClientLink>>,
    pub(crate) opening: Option<Box<Opening>>,
    pub(crate) schedule: Option<Box<Schedule>>,
    pub(crate) up_since: Instant,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) armed: Option<Instant>,
    pub(crate) wishes: Wishes,
    /// The application does not want to read.
    pub(crate) paused: bool,
    /// The queue of a channel engine is full.
    pub(crate) held: bool,
    /// The driver reads from the connection.
    pub(crate) reading: bool,
    /// In the shard's list of links that wait for memory.
    pub(crate) starved: bool,
    /// In the shard's list of links that have something to send or to change.
    pub(crate) dirty: bool,
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

    /// What the connection's input is made of.
    pub(crate) fn protection(&self) -> Protection {
        if self.connection.tls.is_some() {
            Protection::Tls
        } else {
            Protection::Plain
        }
    }

    /// No further frame may be delivered.
    pub(crate) fn is_stopped(&self) -> bool {
        self.wishes.close.is_some() || !self.phase.is_live() || !self.wants_reading()
    }

    /// The nearest of all reasons to wake.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Idle | Phase::Queued => None,
            Phase::Backoff(until) | Phase::Flushing(until) | Phase::Lingering(until) => Some(until),
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

/// The links of one shard by their place.
#[derive(Debug, Default)]
pub(crate) struct Links {
    places: Vec<Option<Link>>,
    len: usize,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The link, if it is still the one that the id names.
    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.at_mut(id.slot).filter(|link| link.id == id)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Link> {
        self.places.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Link> {
        self.places.get(slot as usize)?.as_ref()
    }

    pub(crate) fn insert(&mut self, link: Link) {
        let slot = link.id.slot as usize;
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.places.get_mut(slot) {
            *place = Some(link);
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Link> {
        let link = self.places.get_mut(slot as usize)?.take();
        self.len -= usize::from(link.is_some());
        link
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.places.iter().flatten().map(|link| link.id).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.places.iter().flatten()
    }
}

/// Hands out the ids of one shard: to the shard itself, and to handles that reserve one before the shard knows.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    shard: u32,
    inner: Arc<Mutex<IdsInner>>,
}

#[derive(Debug)]
struct IdsInner {
    generations: Vec<u32>,
    free: Vec<u32>,
    links_max: usize,
}

impl Ids {
    pub(crate) fn new(shard: usize, links_max: usize) -> Self {
        let inner = IdsInner {
            generations: Vec::new(),
            free: Vec::new(),
            links_max,
        };
        Self {
            shard: shard as u32,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// A new id; `None` at the bound.
    pub(crate) fn reserve(&self) -> Option<LinkId> {
        let mut inner = self.lock();
        let slot = match inner.free.pop() {
            Some(slot) => slot,
            None if inner.generations.len() < inner.links_max => {
                inner.generations.push(0);
                (inner.generations.len() - 1) as u32
            }
            None => return None,
        };
        let generation = *inner.generations.get(slot as usize)?;
        Some(LinkId {
            shard: self.shard,
            slot,
            generation,
        })
    }

    /// The link is gone: its id is never given again. A place whose generations are used up stays empty.
    pub(crate) fn release(&self, id: LinkId) {
        let mut inner = self.lock();
        let Some(generation) = inner.generations.get_mut(id.slot as usize) else {
            return;
        };
        if *generation == id.generation && *generation < u32::MAX {
            *generation += 1;
            inner.free.push(id.slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdsInner> {
        // Nothing in a critical section panics half-way, so a poisoned lock still holds sound data.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        _ => Cause::new(
            Slug::CONNECTION_LOST,
            format!("the peer {how} without DISCONNECT"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_link_is_small() {
        // Without TLS there is nothing else; the budget is 512 bytes for an idle connection.
        assert!(size_of::<Option<Link>>() <= 384, "{}", size_of::<Option<Link>>());
    }

    #[test]
    fn a_slot_never_moves_and_passed_over_ones_are_counted() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut schedule = Schedule::new(start + ms(100), ms(1000));
        assert!(schedule.take_due(start).is_none());
        let due = schedule.take_due(start + ms(150)).unwrap();
        assert_eq!((due.seq, due.intended, due.missed), (0, start + ms(100), 0));
        assert!(schedule.take_due(start + ms(1099)).is_none());
        let due = schedule.take_due(start + ms(4200)).unwrap();
        assert_eq!((due.seq, due.intended, due.missed), (4, start + ms(4100), 3));
        assert_eq!(schedule.next, start + ms(5100));
    }

    #[test]
    fn ids_are_bounded_and_never_come_twice() {
        let ids = Ids::new(3, 2);
        let (first, second) = (ids.reserve().unwrap(), ids.reserve().unwrap());
        assert_eq!(first.shard(), 3);
        assert_eq!(ids.reserve(), None);
        ids.release(first);
        ids.release(first);
        let third = ids.reserve().unwrap();
        assert_ne!(first, third);
        assert_eq!(first.slot, third.slot);
        assert_ne!(second, third);
        assert_eq!(ids.reserve(), None);
    }
}
