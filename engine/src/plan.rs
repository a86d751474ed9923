//! How a link reaches its broker, and what it does when it cannot.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use fleetwire_tls::{ClientConfig, ServerName};

/// One way to a broker: an address to dial and, for TLS, the configuration and the name to verify.
#[derive(Clone, Debug)]
pub struct Way {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    tls: Option<(ClientConfig, ServerName)>,
}

impl Way {
    /// MQTT over TCP, without TLS.
    pub fn tcp(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            addresses: Vec::new(),
            tls: None,
        }
    }

    /// MQTT over TLS; `name` is sent as SNI (RFC 6066 section 3) and is the name that the certificate must carry.
    pub fn tls(host: &str, port: u16, config: ClientConfig, name: ServerName) -> Self {
        Self {
            host: host.to_owned(),
            port,
            addresses: Vec::new(),
            tls: Some((config, name)),
        }
    }

    /// Dials another address; SNI and verification stay as they are.
    #[must_use]
    pub fn connect_to(mut self, host: &str, port: u16) -> Self {
        self.host = host.to_owned();
        self.port = port;
        self.addresses.clear();
        self
    }

    /// Looks the host up, blocking; every address is kept, to be tried in the resolver's order.
    ///
    /// # Errors
    /// The system's resolver failed or gave no address.
    pub fn resolve(&mut self) -> Result<(), ResolveError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let failed = |error: Option<io::Error>| ResolveError {
            host: host.to_owned(),
            error,
        };
        let mut found: Vec<SocketAddr> = (host, self.port)
            .to_socket_addrs()
            .map_err(|error| failed(Some(error)))?
            .collect();
        if found.is_empty() {
            return Err(failed(None));
        }
        let mut seen = Vec::with_capacity(found.len());
        found.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        self.addresses = found;
        Ok(())
    }

    /// What [`resolve`](Self::resolve) found.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn tls_parts(&self) -> Option<(&ClientConfig, &ServerName)> {
        self.tls.as_ref().map(|(config, name)| (config, name))
    }
}

/// A host name that could not be resolved.
#[derive(Debug)]
pub struct ResolveError {
    host: String,
    error: Option<io::Error>,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "cannot resolve {}: {error}", self.host),
            None => write!(f, "cannot resolve {}: the resolver gave no address", self.host),
        }
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.as_ref().map(|error| error as _)
    }
}

/// Waiting time before attempt n + 1: uniform in `[0, min(cap, base * 2^n)]` ("full jitter"), so that a fleet that
/// lost its broker at one moment does not come back at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// `base` is the first ceiling, `cap` the last; both are at least a millisecond, or attempts that fail at once would
    /// keep a processor busy.
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.max(Duration::from_millis(1));
        Self {
            base,
            cap: cap.max(base),
        }
    }

    /// The wait after `failures` attempts in a row (from 1).
    pub(crate) fn wait(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        ceiling.mul_f64(random.f64())
    }
}

impl Default for Backoff {
    /// From 1 s to 120 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(120))
    }
}

/// A way to the broker with its time-outs; cheap to clone and shared by any number of links.
#[derive(Clone, Debug)]
pub struct Plan(Arc<PlanInner>);

#[derive(Clone, Debug)]
pub(crate) struct PlanInner {
    pub(crate) way: Way,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect: bool,
    pub(crate) backoff: Backoff,
}

impl Plan {
    /// A plan with one way, 10 s for each attempt, and reconnecting after [`Backoff::default`].
    pub fn new(way: Way) -> Self {
        Self(Arc::new(PlanInner {
            way,
            connect_timeout: Duration::from_secs(10),
            reconnect: true,
            backoff: Backoff::default(),
        }))
    }

    /// How long one attempt may take from its dial to its CONNACK, over all addresses.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.0).connect_timeout = timeout;
        self
    }

    /// Whether a link tries again after a failure.
    #[must_use]
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        Arc::make_mut(&mut self.0).reconnect = reconnect;
        self
    }

    /// How long a link waits between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        Arc::make_mut(&mut self.0).backoff = backoff;
        self
    }

    /// The way to the broker.
    pub fn way(&self) -> &Way {
        &self.0.way
    }

    pub(crate) fn inner(&self) -> &PlanInner {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_its_ceiling_up_to_the_cap_and_uses_all_of_it() {
        let backoff = Backoff::default();
        let mut random = fastrand::Rng::with_seed(1);
        for (failures, ceiling) in [(1, 1.0), (2, 2.0), (3, 4.0), (7, 64.0), (8, 120.0), (60, 120.0)] {
            let waits: Vec<f64> = (0..1000)
                .map(|_| backoff.wait(failures, &mut random).as_secs_f64())
                .collect();
            let (least, most) = waits
                .iter()
                .fold((f64::MAX, 0f64), |(l, m), w| (l.min(*w), m.max(*w)));
            assert!(
                most <= ceiling && most > 0.95 * ceiling,
                "after {failures}: {most} of {ceiling}"
            );
            assert!(least < 0.05 * ceiling, "after {failures}: {least} of {ceiling}");
        }
    }

    #[test]
    fn literal_addresses_resolve_without_a_resolver() {
        for (host, expected) in [
            ("127.0.0.1", "127.0.0.1:8883"),
            ("::1", "[::1]:8883"),
            ("[::1]", "[::1]:8883"),
        ] {
            let mut way = Way::tcp(host, 8883);
            way.resolve().unwrap();
            assert_eq!(way.addresses(), [expected.parse().unwrap()]);
        }
    }
}
