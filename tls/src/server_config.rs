//! A server's configurations, and which of them a client gets.

mod builder;

use std::{fmt, sync::Arc};

use crate::{error::Reason, records::RecordLayer, secrets::SecretCatcher};

pub use self::builder::{ClientAuth, Fallback, ServerConfigBuilder};

/// How a server accepts: a table from ALPN name to whether a client certificate is required; cheap to clone.
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
    record_layer: RecordLayer,
    records_per_key_max: Option<u64>,
    names: ServerNames,
    check_client: Option<ClientCheck>,
}

/// Which server names clients may ask for.
#[derive(Clone, Debug, Default)]
struct ServerNames {
    required: bool,
    /// As [`host_name`] has them; any if it is empty.
    served: Vec<Box<str>>,
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
}

impl ServerConfig {
    /// The chosen configuration for one connection, and what the in-place record layer goes on with, if that is to be
    /// used.
    ///
    /// The secrets are logged long before the handshake is over. With a configuration of its own they can only be this
    /// connection's.
    pub(crate) fn for_connection(
        &self,
        choice: &Choice,
    ) -> (Arc<rustls::ServerConfig>, Option<Arc<SecretCatcher>>) {
        match self.inner.record_layer {
            RecordLayer::InPlace => {
                let mut config = rustls::ServerConfig::clone(&choice.service.rustls);
                let records_max = self.inner.records_per_key_max.unwrap_or(u64::MAX);
                let secrets = Arc::new(SecretCatcher::new(Arc::clone(&config.key_log), records_max));
                config.key_log = Arc::<SecretCatcher>::clone(&secrets);
                config.enable_secret_extraction = true;
                (Arc::new(config), Some(secrets))
            }
            RecordLayer::Rustls => (Arc::clone(&choice.service.rustls), None),
        }
    }

    /// Whether a client may ask for this server, named as [`host_name`] has it.
    pub(crate) fn serves(&self, name: Option<&str>) -> bool {
        let names = &self.inner.names;
        match name {
            None => !names.required,
            Some(name) => names.served.is_empty() || names.served.iter().any(|served| **served == *name),
        }
    }

    /// What the application says of a client with a certificate that was verified.
    pub(crate) fn check_client(&self, client: &VerifiedClient<'_>) -> Result<(), String> {
        match &self.inner.check_client {
            Some(check) => (check.0)(client),
            None => Ok(()),
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

/// A DNS name as names are compared (RFC 6066 section 3): in lower case, without the dot that makes it absolute.
pub(crate) fn host_name(name: &str) -> Box<str> {
    name.strip_suffix('.')
        .unwrap_or(name)
        .to_ascii_lowercase()
        .into_boxed_str()
}

/// How many offered names an error keeps.
const OFFERED_SHOWN: usize = 8;
