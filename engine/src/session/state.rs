//! What of a session outlives its connection.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use fleetwire_codec::Version;

use crate::clock::Moment;

use super::in_flight::{Entry, InFlight};
use super::received::Received;

/// The state of a session between two of its connections: v5 section 4.1. It holds the publishes whose acknowledgement
/// is missing, and the identifiers of received ones at QoS 2 that are not released.
///
/// A client link keeps it by itself, for as long as its Session Expiry Interval says (v5 section 3.1.2.11.2). Of a server
/// link it is taken by
/// [`Outbox::take_session`](crate::Outbox::take_session) and given to the client's next connection with
/// [`Outbox::accept_session`](crate::Outbox::accept_session); the engine keeps none for a server, so when it ends is the
/// application's matter. It may be dropped at any time; the publishes in it then end without a further event.
pub struct SessionState(pub(super) Box<Inner>);

pub(super) struct Inner {
    pub(super) version: Version,
    /// Whose session it is, hashed: client identifiers are not kept.
    pub(super) client: u64,
    pub(super) in_flight: InFlight,
    pub(super) received: Received,
    /// Client: when it ends without a further connection; `None` if it does not.
    pub(super) expires_at: Option<Moment>,
    /// Client: it has ended here, and the server may not have noticed.
    pub(super) has_expired: bool,
}

impl SessionState {
    /// The protocol version that it was begun with; a session does not change it.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Publishes that will be sent again.
    pub fn publishes(&self) -> usize {
        usize::from(self.0.in_flight.publishes())
    }

    /// Whether that client can go on with it.
    pub(crate) fn is_of(&self, version: Version, client_id: &str) -> bool {
        self.0.version == version && self.0.client == hash(client_id)
    }

    /// When it ends, unless a connection goes on with it before.
    pub(crate) fn expires_at(&self) -> Option<Moment> {
        self.0.expires_at
    }

    /// Its time is over. What is left says whose session it was: a server that saw the last connection end later may still
    /// have it, and would take new packet identifiers for those of before.
    pub(crate) fn expire(&mut self) {
        self.0.in_flight = InFlight::new();
        self.0.received.clear();
        self.0.expires_at = None;
        self.0.has_expired = true;
    }

    /// There is nothing to go on with.
    pub(crate) fn has_expired(&self) -> bool {
        self.0.has_expired
    }

    /// Whether that client must begin anew: v5 sections 3.1.2.4 and 4.1.
    pub(crate) fn has_expired_of(&self, client_id: &str) -> bool {
        self.0.has_expired && self.0.client == hash(client_id)
    }

    /// Ends the oldest publish.
    pub(crate) fn pop_dropped(&mut self) -> Option<Entry> {
        self.0.in_flight.pop_oldest_publish()
    }
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState")
            .field("version", &self.version())
            .field("publishes", &self.publishes())
            .finish_non_exhaustive()
    }
}

/// Two client identifiers of one link that are the same in 64 bits of SipHash are taken for one: only an application
/// that gives one link several names could meet that, and then once in 2^64.
pub(super) fn hash(client_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    client_id.hash(&mut hasher);
    hasher.finish()
}
