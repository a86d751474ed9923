use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetwire_engine::Slug;

use crate::broker::BrokerCounts;
use crate::front::Door;

/// What an endpoint has done since it was started, and how things stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that came through: TCP and, where there is TLS, its handshake.
    pub accepted: u64,
    /// CONNECTs that were accepted, by the ALPN name of their connection; those without TLS are under `none`.
    pub connects_by_alpn: BTreeMap<&'static str, u64>,
    /// CONNECTs that were refused.
    pub refused: u64,
    /// Client certificates that were seen, each counted once. Counting stops at 1,048,576.
    pub client_certificates: u64,
    /// Connections that ended before they came through, by cause.
    pub tls_failures: BTreeMap<&'static str, u64>,
    /// Connections that ended after they came through, by cause.
    pub disconnects: BTreeMap<&'static str, u64>,
    /// What the broker counted.
    pub broker: BrokerCounts,
    /// Why the endpoint stopped by itself, if it did; known after its shutdown.
    pub failure: Option<String>,
}

/// The counts of the front, on its own thread.
#[derive(Debug)]
pub(crate) struct Ledger {
    numbers: Numbers,
    fingerprints: HashSet<[u8; 32]>,
    shared: Arc<Shared>,
}

/// The counts as other threads see them: as of the end of the last turn of the event loop.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    numbers: Mutex<Numbers>,
    /// Changes with connections only, not with messages.
    ends: Mutex<Ends>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    connects: [u64; Door::ALL.len()],
    client_certificates: u64,
    broker: BrokerCounts,
}

#[derive(Debug, Clone, Default)]
struct Ends {
    tls_failures: BTreeMap<&'static str, u64>,
    disconnects: BTreeMap<&'static str, u64>,
}

impl Ledger {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            numbers: Numbers::default(),
            fingerprints: HashSet::new(),
            shared,
        }
    }

    pub(crate) fn accepted(&mut self, fingerprint: Option<[u8; 32]>) {
        self.numbers.accepted += 1;
        if let Some(fingerprint) = fingerprint
            && self.fingerprints.len() < FINGERPRINTS_MAX
        {
            self.fingerprints.insert(fingerprint);
            self.numbers.client_certificates = self.fingerprints.len() as u64;
        }
    }

    pub(crate) fn connected(&mut self, door: Door) {
        self.numbers.connects[door as usize] += 1;
    }

    pub(crate) fn refused(&mut self) {
        self.numbers.refused += 1;
    }

    pub(crate) fn failed(&self, slug: Slug) {
        *lock(&self.shared.ends)
            .tls_failures
            .entry(slug.as_str())
            .or_default() += 1;
    }

    pub(crate) fn disconnected(&self, slug: Slug) {
        *lock(&self.shared.ends)
            .disconnects
            .entry(slug.as_str())
            .or_default() += 1;
    }

    /// Shows the numbers to other threads. They hold the lock only to copy them.
    pub(crate) fn publish(&mut self, broker: BrokerCounts) {
        self.numbers.broker = broker;
        *lock(&self.shared.numbers) = self.numbers;
    }
}

impl Shared {
    pub(crate) fn counts(&self) -> Counts {
        let numbers = *lock(&self.numbers);
        let ends = lock(&self.ends).clone();
        let connects = Door::ALL
            .into_iter()
            .map(|door| (door.name(), numbers.connects[door as usize]));
        Counts {
            accepted: numbers.accepted,
            connects_by_alpn: connects.filter(|(_, count)| *count > 0).collect(),
            refused: numbers.refused,
            client_certificates: numbers.client_certificates,
            tls_failures: ends.tls_failures,
            disconnects: ends.disconnects,
            broker: numbers.broker,
            failure: None,
        }
    }
}

/// Nothing panics while it holds one of these locks, and what they guard is never half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 32 MiB of fingerprints, twice that with the table around them.
const FINGERPRINTS_MAX: usize = 1 << 20;
