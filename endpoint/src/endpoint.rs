#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fleetwire_codec::QoS;
use fleetwire_engine::{Engine, Limits, Listener, StartError, Stats};
use fleetwire_tls::{
    ClientAuth, ConfigError, Identity, IdentityError, Roots, ServerConfig, ServerConfigBuilder,
};
use time::OffsetDateTime;

use crate::broker::BrokerLimits;
use crate::counts::{Counts, Shared};
use crate::front::{Door, Front, Rules};
use crate::pki::{DeviceCertificate, KeyType, Pki, PkiError};
use crate::users::Users;

/// A running endpoint. Dropping it closes its connections without waiting; [`shutdown`](Self::shutdown) lets them drain.
#[derive(Debug)]
pub struct Endpoint {
    engine: Engine<Front>,
    addr: SocketAddr,
    plain_addr: Option<SocketAddr>,
    pki: Pki,
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Settings to start from: TLS on a free port of 127.0.0.1, throw-away certificates, no users.
    pub fn builder() -> EndpointBuilder {
        EndpointBuilder::default()
    }

    /// An endpoint for a test: as the settings of [`builder`](Self::builder) have it, and without TLS on another free port.
    ///
    /// # Errors
    /// See [`EndpointBuilder::start`].
    pub fn for_tests() -> Result<Self, EndpointError> {
        Self::builder()
            .plain(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))
            .start()
    }

    /// Where it listens with TLS, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens without TLS, with the real port.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain_addr
    }

    /// The CA's certificate in PEM: what a client has to trust.
    pub fn ca_pem(&self) -> &str {
        self.pki.ca_pem()
    }

    /// Issues a certificate for a device; see [`Pki::issue_device`].
    ///
    /// # Errors
    /// See [`Pki::issue_device`].
    pub fn issue_device(
        &self,
        client_id: &str,
        key_type: KeyType,
        not_after: Option<OffsetDateTime>,
    ) -> Result<DeviceCertificate, PkiError> {
        self.pki.issue_device(client_id, key_type, not_after)
    }

    /// What it has done so far, as of the last turn of its event loop.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// What its engine has done and holds.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Stops listening, waits up to `drain` for its clients' acknowledgements, ends every connection (5.0 with DISCONNECT
    /// 0x8B), and says what it has done.
    pub fn shutdown(self, drain: Duration) -> Counts {
        let ended = self.engine.shutdown(drain);
        let failure = ended.failed.into_iter().map(|(_, text)| text).next();
        // The handler shows its last counts when it is dropped.
        drop(ended.handlers);
        Counts {
            failure,
            ..self.shared.counts()
        }
    }
}

/// How an endpoint is to be; [`start`](Self::start) makes it.
#[derive(Debug)]
#[must_use]
pub struct EndpointBuilder {
    addr: SocketAddr,
    plain: Option<SocketAddr>,
    pki: Option<Pki>,
    domains: Vec<Domain>,
    users: Vec<(String, Vec<u8>)>,
    limits: Limits,
    broker_limits: BrokerLimits,
}

/// Server names that have a certificate of their own.
#[derive(Debug)]
struct Domain {
    names: Vec<String>,
    identity: Identity,
}

impl Default for EndpointBuilder {
    fn default() -> Self {
        Self {
            addr: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            plain: None,
            pki: None,
            domains: Vec::new(),
            users: Vec::new(),
            limits: Limits::default(),
            broker_limits: BrokerLimits::default(),
        }
    }
}

impl EndpointBuilder {
    /// Where to listen with TLS; port 0 is a free one.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// Where to listen without TLS too; port 0 is a free one. Who connects there has to be one of the users if there are
    /// any; otherwise everybody may.
    pub fn plain(mut self, addr: SocketAddr) -> Self {
        self.plain = Some(addr);
        self
    }

    /// The certificates, instead of throw-away ones for the loopback names.
    pub fn pki(mut self, pki: Pki) -> Self {
        self.pki = Some(pki);
        self
    }

    /// Shows clients that ask for one of these server names (SNI) another certificate than that of the [`Pki`], as a custom
    /// domain of AWS IoT Core has one; `*.iot.example` is each name of one label more. Who may connect is the same.
    ///
    /// Whether the certificate stands for the names, and whether its issuer is known to anybody, is for clients to find out.
    pub fn domain(mut self, names: &[&str], identity: Identity) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.domains.push(Domain { names, identity });
        self
    }

    /// Adds a user for ALPN `mqtt` and for connections without TLS.
    pub fn user(mut self, name: &str, password: impl Into<Vec<u8>>) -> Self {
        self.users.push((name.to_owned(), password.into()));
        self
    }

    /// The bounds of connections and buffers.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The bounds of subscriptions, queues and retained messages.
    pub fn broker_limits(mut self, limits: BrokerLimits) -> Self {
        self.broker_limits = limits;
        self
    }

    /// The highest quality of service, in place of QoS 1; see [`BrokerLimits::qos_max`].
    pub fn qos_max(mut self, qos: QoS) -> Self {
        self.broker_limits.qos_max = qos;
        self
    }

    /// Starts the endpoint on a thread of its own.
    ///
    /// # Errors
    /// A port that cannot be had, a user name or a domain that cannot be used, certificates or a thread that cannot be made: see
    /// [`EndpointError`].
    pub fn start(self) -> Result<Endpoint, EndpointError> {
        let mut users = Users::default();
        for (name, password) in self.users {
            if !users.add(&name, &password) {
                return Err(EndpointError::UserName { name });
            }
        }
        let pki = match self.pki {
            Some(pki) => pki,
            None => Pki::throw_away::<&str>([])?,
        };
        let tls = tls(&pki, self.domains)?;
        let (listener, addr) = bind(self.addr)?;
        let mut engine = Engine::builder()
            .limits(self.limits.clone())
            .listen(listener, Some(tls), 0);
        let mut plain_addr = None;
        if let Some(wanted) = self.plain {
            let (listener, addr) = bind(wanted)?;
            engine = engine.listen(listener, None, 0);
            plain_addr = Some(addr);
        }
        let rules = Rules {
            users,
            limits: self.broker_limits,
            packet_len_max: u32::try_from(self.limits.packet_len_max).unwrap_or(u32::MAX),
            // Client ids that it assigns differ from those of the run before.
            seed: RandomState::new().hash_one(()),
        };
        let shared = Arc::new(Shared::default());
        let engine = engine.start(|_| Front::new(rules.clone(), Arc::clone(&shared)))?;
        Ok(Endpoint {
            engine,
            addr,
            plain_addr,
            pki,
            shared,
        })
    }
}

fn bind(wanted: SocketAddr) -> Result<(Listener, SocketAddr), EndpointError> {
    let listener = Listener::bind(wanted);
    let bound = listener.and_then(|listener| listener.local_addr().map(|addr| (listener, addr)));
    bound.map_err(|error| EndpointError::Listen { addr: wanted, error })
}

/// The one-port table: each ALPN name with whether it asks for a client certificate, and each domain with its certificate. A
/// client that offers neither name is refused with alert 120; one that offers none at all is closed after the handshake.
fn tls(pki: &Pki, domains: Vec<Domain>) -> Result<ServerConfig, EndpointError> {
    let key = pki.server_key_der().secret_pkcs8_der().to_vec();
    let identity = Identity::from_der(vec![pki.server_der().to_vec()], key)?;
    let roots = Roots::from_der([pki.ca_der().to_vec()])?;
    let table = |identity| {
        ServerConfigBuilder::new(identity)
            .alpn(Door::Certificate.name(), ClientAuth::Required(roots.clone()))
            .alpn(Door::Password.name(), ClientAuth::None)
    };
    let mut config = table(identity);
    for domain in domains {
        config = config.domain(table(domain.identity).server_names(domain.names).build()?);
    }
    Ok(config.build()?)
}

/// Why an endpoint could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointError {
    /// It cannot listen there.
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// A user name is empty, holds `?`, or was given twice.
    UserName {
        /// The name.
        name: String,
    },
    /// The throw-away certificates could not be made.
    Pki(PkiError),
    /// The endpoint's certificate cannot be used.
    Identity(IdentityError),
    /// The TLS settings cannot be used.
    Tls(ConfigError),
    /// The engine did not start.
    Start(StartError),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { addr, error } => write!(f, "cannot listen on {addr}: {error}"),
            Self::UserName { name } => {
                write!(
                    f,
                    "user name {name:?} cannot be used: it is empty, holds '?', or was given twice"
                )
            }
            Self::Pki(error) => error.fmt(f),
            Self::Identity(error) => write!(f, "the endpoint's certificate: {error}"),
            Self::Tls(error) => write!(f, "the endpoint's TLS settings: {error}"),
            Self::Start(error) => error.fmt(f),
        }
    }
}

impl Error for EndpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Listen { error, .. } => Some(error),
            Self::UserName { .. } => None,
            Self::Pki(error) => Some(error),
            Self::Identity(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Start(error) => Some(error),
        }
    }
}

impl From<PkiError> for EndpointError {
    fn from(error: PkiError) -> Self {
        Self::Pki(error)
    }
}

impl From<IdentityError> for EndpointError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<ConfigError> for EndpointError {
    fn from(error: ConfigError) -> Self {
        Self::Tls(error)
    }
}

impl From<StartError> for EndpointError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}
