//! A server's configurations, and which of them a client gets.

mod builder;
mod names;

use std::{fmt, sync::Arc};

use rustls::{server::ResolvesServerCert, sign::CertifiedKey};

use crate::{error::Reason, secrets::SecretCatcher, settings::Protection};

pub use self::builder::{ClientAuth, Fallback, ServerConfigBuilder};
use self::names::Names;
pub(crate) use self::names::host_name;

/// How a server accepts: a table from server name and ALPN name to certificate and client authentication, for one port;
/// cheap to clone. See [`ServerConfigBuilder`].
#[derive(Clone)]
pub struct ServerConfig {
    inner: Arc<Inner>,
}

struct Inner {
    table: Vec<Entry>,
    /// For clients that offer no ALPN.
    no_alpn: Other,
    /// For clients that offer only names that are not in the table.
    unknown_alpn: Other,
    protection: Protection,
    /// The names of this configuration, which have `None`, and of its domains.
    names: Names<Option<ServerConfig>>,
    /// Whether clients get it that ask for another name.
    takes_unknown_names: bool,
    /// Whether clients get it that ask for none.
    takes_no_name: bool,
    check_client: Option<ClientCheck>,
}

/// See [`ServerConfigBuilder::check_client`].
#[derive(Clone)]
struct ClientCheck(Arc<CheckClient>);

type CheckClient = dyn Fn(&VerifiedClient<'_>) -> Result<(), String> + Send + Sync;

impl fmt::Debug for ClientCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCheck")
    }
}

/// A client whose certificate was verified, for [`ServerConfigBuilder::check_client`].
#[derive(Clone, Copy, Debug)]
pub struct VerifiedClient<'a> {
    /// Its certificate as DER.
    pub certificate: &'a [u8],
    /// SHA-256 of that: AWS's certificateId.
    pub fingerprint: [u8; 32],
    /// The DNS name in its SNI, in lower case and without a dot at its end.
    pub server_name: Option<&'a str>,
    /// The ALPN name that was negotiated.
    pub alpn: Option<&'a [u8]>,
}

/// One ALPN name's configuration. Each has one of its own, so that nothing of one, such as a session ticket, counts
/// for another.
struct Entry {
    name: Vec<u8>,
    service: Service,
}

/// How clients are served.
#[derive(Clone)]
struct Service {
    rustls: Arc<rustls::ServerConfig>,
    client_auth: bool,
    server_name_required: bool,
}

/// What becomes of clients for whom the table has no name.
enum Other {
    Refuse,
    CloseAfterHandshake(Service),
    Serve(Service),
}

/// What one connection was chosen to be served by.
pub(crate) struct Choice {
    config: ServerConfig,
    service: Service,
    /// What must have been negotiated in the end.
    pub(crate) alpn: Option<Vec<u8>>,
    /// With what the connection is closed when the handshake is done.
    pub(crate) close_with: Option<Reason>,
}

impl Choice {
    /// Whether a client certificate must have been seen in the end.
    pub(crate) fn client_auth(&self) -> bool {
        self.service.client_auth
    }

    /// Whether the client must have named the server that it wants.
    pub(crate) fn server_name_required(&self) -> bool {
        self.service.server_name_required
    }

    /// rustls's configuration for the one connection of a client that asks for this server, named as [`host_name`] has it;
    /// and what the in-place record layer goes on with, if that is to be used.
    ///
    /// The secrets are logged long before the handshake is over. With a configuration of its own they can only be this
    /// connection's.
    pub(crate) fn for_connection(
        &self,
        server_name: Option<Box<str>>,
    ) -> (Arc<rustls::ServerConfig>, Option<Arc<SecretCatcher>>) {
        let mut config = rustls::ServerConfig::clone(&self.service.rustls);
        config.cert_resolver = Arc::new(CertificateOf {
            server_name,
            resolver: config.cert_resolver,
        });
        let protection = &self.config.inner.protection;
        let secrets = protection.catch_secrets(&mut config.key_log, &mut config.enable_secret_extraction);
        (Arc::new(config), secrets)
    }

    /// What the application says of a client with a certificate that was verified.
    pub(crate) fn check_client<'a>(&self, client: impl FnOnce() -> VerifiedClient<'a>) -> Result<(), String> {
        match &self.config.inner.check_client {
            Some(check) => (check.0)(&client()),
            None => Ok(()),
        }
    }
}

impl ServerConfig {
    /// The configuration for a client that asks for this server; `None` if there is none. It allocates nothing.
    pub(crate) fn of_server(&self, name: Option<&str>) -> Option<&Self> {
        let inner = &self.inner;
        match name.map(|name| inner.names.find(name)) {
            Some(Some(Some(domain))) => Some(domain),
            Some(Some(None)) => Some(self),
            Some(None) => inner.takes_unknown_names.then_some(self),
            None => inner.takes_no_name.then_some(self),
        }
    }

    /// The configuration for a client that offers these names: the first of the table that is among them, so the
    /// server's order decides.
    ///
    /// # Errors
    /// Why such a client is refused.
    pub(crate) fn choose<'a>(
        &self,
        offered: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Choice, Reason> {
        let table = &self.inner.table;
        if let Some(entry) = table
            .iter()
            .find(|entry| offered.clone().any(|name| name == entry.name))
        {
            return Ok(Choice {
                config: self.clone(),
                service: entry.service.clone(),
                alpn: Some(entry.name.clone()),
                close_with: None,
            });
        }
        let (other, reason) = match offered.clone().next() {
            None => (&self.inner.no_alpn, Reason::AlpnMissing),
            Some(_) => {
                let offered = offered.take(OFFERED_SHOWN).map(<[u8]>::to_vec).collect();
                (&self.inner.unknown_alpn, Reason::AlpnRefused { offered })
            }
        };
        let (service, close_with) = match other {
            Other::Refuse => return Err(reason),
            Other::CloseAfterHandshake(service) => (service, Some(reason)),
            Other::Serve(service) => (service, None),
        };
        Ok(Choice {
            config: self.clone(),
            service: service.clone(),
            alpn: None,
            close_with,
        })
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inner.table.iter().map(|entry| entry.name.escape_ascii());
        f.debug_list()
            .entries(names.map(|name| name.to_string()))
            .finish()
    }
}

/// Shows the certificate to those alone who ask for the server that it was chosen for, in each ClientHello that rustls
/// sees.
#[derive(Debug)]
struct CertificateOf {
    server_name: Option<Box<str>>,
    resolver: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for CertificateOf {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name().map(host_name) != self.server_name {
            return None;
        }
        self.resolver.resolve(hello)
    }
}

/// How many offered names an error keeps.
const OFFERED_SHOWN: usize = 8;
