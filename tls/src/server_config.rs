use std::{fmt, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};

use crate::key_log::KeyLogFile;
use crate::provider::{KeyExchangeGroup, Parameters, provider};
use crate::{
    client_config::{Versions, check_alpn, refused},
    error::ConfigError,
    identity::Identity,
    records::RecordLayer,
    roots::Roots,
    secrets::SecretCatcher,
    verifier::DeviceVerifier,
};

/// How a server accepts: a table from ALPN name to whether a client certificate is required; cheap to clone.
#[derive(Clone)]
pub struct ServerConfig {
    inner: Arc<Inner>,
}

struct Inner {
    table: Vec<Entry>,
    /// For clients that offer no ALPN.
    no_alpn: NoAlpn,
    record_layer: RecordLayer,
    records_per_key_max: Option<u64>,
    names: ServerNames,
    check_client: Option<ClientCheck>,
}

/// Which server names clients may ask for.
#[derive(Clone, Debug, Default)]
struct ServerNames {
    required: bool,
    /// In lower case; any if it is empty.
    served: Vec<String>,
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
    /// The DNS name in its SNI.
    pub server_name: Option<&'a str>,
    /// The ALPN name that was negotiated.
    pub alpn: Option<&'a [u8]>,
}

/// One ALPN name's configuration. Each has one of its own, so that nothing of one, such as a session ticket, counts
/// for another.
struct Entry {
    name: Vec<u8>,
    rustls: Arc<rustls::ServerConfig>,
    client_auth: bool,
}

enum NoAlpn {
    CloseAfterHandshake(Arc<rustls::ServerConfig>),
    /// An index into the table.
    Use(usize),
}

/// What one connection was chosen to be served by.
pub(crate) struct Choice {
    pub(crate) rustls: Arc<rustls::ServerConfig>,
    /// What must have been negotiated in the end.
    pub(crate) alpn: Option<Vec<u8>>,
    /// Whether a client certificate must have been seen in the end.
    pub(crate) client_auth: bool,
    pub(crate) close_after_handshake: bool,
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
                let mut config = rustls::ServerConfig::clone(&choice.rustls);
                let records_max = self.inner.records_per_key_max.unwrap_or(u64::MAX);
                let secrets = Arc::new(SecretCatcher::new(Arc::clone(&config.key_log), records_max));
                config.key_log = Arc::<SecretCatcher>::clone(&secrets);
                config.enable_secret_extraction = true;
                (Arc::new(config), Some(secrets))
            }
            RecordLayer::Rustls => (Arc::clone(&choice.rustls), None),
        }
    }

    /// Whether a client may ask for this server.
    pub(crate) fn serves(&self, name: Option<&str>) -> bool {
        let names = &self.inner.names;
        match name {
            None => !names.required,
            Some(name) => {
                names.served.is_empty()
                    || names
                        .served
                        .iter()
                        .any(|served| served.eq_ignore_ascii_case(name))
            }
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
    /// server's order decides. `None` if there is none in common.
    pub(crate) fn choose<'a>(&self, offered: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Choice> {
        let table = &self.inner.table;
        if offered.clone().next().is_none() {
            return match &self.inner.no_alpn {
                NoAlpn::CloseAfterHandshake(rustls) => Some(Choice {
                    rustls: Arc::clone(rustls),
                    alpn: None,
                    client_auth: false,
                    close_after_handshake: true,
                }),
                NoAlpn::Use(index) => table.get(*index).map(|entry| Choice {
                    rustls: Arc::clone(&entry.rustls),
                    alpn: None,
                    client_auth: entry.client_auth,
                    close_after_handshake: false,
                }),
            };
        }
        table
            .iter()
            .find(|entry| offered.clone().any(|name| name == entry.name))
            .map(|entry| Choice {
                rustls: Arc::clone(&entry.rustls),
                alpn: Some(entry.name.clone()),
                client_auth: entry.client_auth,
                close_after_handshake: false,
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

/// Makes a [`ServerConfig`].
///
/// A client that offers only names that are not in the table is refused with alert 120 `no_application_protocol`
/// (RFC 7301 section 3.2). Resumption is off: no tickets, no ticketer, no session store.
#[derive(Clone, Debug)]
pub struct ServerConfigBuilder {
    identity: Identity,
    table: Vec<(Vec<u8>, ClientAuth)>,
    no_alpn: Absent,
    versions: Versions,
    record_layer: RecordLayer,
    records_per_key_max: Option<u64>,
    names: ServerNames,
    check_client: Option<ClientCheck>,
    parameters: Parameters,
    key_log: Option<KeyLogFile>,
}

impl ServerConfigBuilder {
    /// A server that shows this certificate and serves no ALPN name yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            table: Vec::new(),
            no_alpn: Absent::CloseAfterHandshake,
            versions: Versions::Both,
            record_layer: RecordLayer::default(),
            records_per_key_max: None,
            names: ServerNames::default(),
            check_client: None,
            parameters: Parameters::default(),
            key_log: None,
        }
    }

    /// Serves an ALPN name. Of several names that a client offers, the one that was added first here is selected,
    /// whatever the client's order is.
    #[must_use]
    pub fn alpn(mut self, name: impl Into<Vec<u8>>, client_auth: ClientAuth) -> Self {
        self.table.push((name.into(), client_auth));
        self
    }

    /// What a client gets that offers no ALPN; [`Absent::CloseAfterHandshake`] unless it is said.
    #[must_use]
    pub fn no_alpn(mut self, absent: Absent) -> Self {
        self.no_alpn = absent;
        self
    }

    /// The versions of TLS to accept.
    #[must_use]
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Refuses clients that name no server (SNI), with alert 109. Unless it is said they are served.
    #[must_use]
    pub fn require_server_name(mut self) -> Self {
        self.names.required = true;
        self
    }

    /// Refuses clients that name another server (SNI) than one of these, with alert 112. Unless it is said any name is
    /// served.
    #[must_use]
    pub fn server_names(mut self, names: &[&str]) -> Self {
        self.names.served = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Asks `check` about each client whose certificate was verified: the reason that it gives refuses the client, with
    /// alert 49 `access_denied` after the handshake. It runs on the thread of the session and should not take long.
    #[must_use]
    pub fn check_client(
        mut self,
        check: impl Fn(&VerifiedClient<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check_client = Some(ClientCheck(Arc::new(check)));
        self
    }

    /// The cipher suites to allow, by their IANA names (`TLS13_AES_128_GCM_SHA256`), in order of preference; all that
    /// rustls has unless it is said.
    #[must_use]
    pub fn cipher_suites(mut self, names: &[&str]) -> Self {
        self.parameters.cipher_suites = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// The groups for the key exchange, in order of preference; X25519, P-256 and P-384 unless it is said.
    #[must_use]
    pub fn key_exchange_groups(mut self, groups: &[KeyExchangeGroup]) -> Self {
        self.parameters.key_exchange_groups = groups.to_vec();
        self
    }

    /// Writes the secrets of every connection to a file, so that its traffic can be read elsewhere.
    #[must_use]
    pub fn key_log_file(mut self, file: KeyLogFile) -> Self {
        self.key_log = Some(file);
        self
    }

    /// Who protects the records after the handshake.
    #[must_use]
    pub fn record_layer(mut self, record_layer: RecordLayer) -> Self {
        self.record_layer = record_layer;
        self
    }

    /// How many records a key may protect in place, if that is less than its algorithm allows (2^23 for AES-GCM, RFC 8446
    /// section 5.5); at least 1. Then TLS 1.3 goes over to new keys, and TLS 1.2 has to close.
    #[must_use]
    pub fn records_per_key_max(mut self, records: u64) -> Self {
        self.records_per_key_max = Some(records.max(1));
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// If the table is empty, a name is not usable or unknown, or rustls refuses something.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        let names: Vec<_> = self.table.iter().map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return Err(ConfigError::NoAlpn);
        }
        check_alpn(&names)?;
        let maker = Maker::new(&self.identity, self.versions, &self.parameters, self.key_log)?;
        let mut table = Vec::with_capacity(names.len());
        for (name, client_auth) in self.table {
            let rustls = maker.make(Some(&name), &client_auth)?;
            let client_auth = matches!(client_auth, ClientAuth::Required(_));
            table.push(Entry {
                name,
                rustls,
                client_auth,
            });
        }
        let no_alpn = match self.no_alpn {
            Absent::CloseAfterHandshake => NoAlpn::CloseAfterHandshake(maker.make(None, &ClientAuth::None)?),
            Absent::Use(name) => match names.iter().position(|known| *known == name) {
                Some(index) => NoAlpn::Use(index),
                None => return Err(ConfigError::UnknownAlpn(name)),
            },
        };
        Ok(ServerConfig {
            inner: Arc::new(Inner {
                table,
                no_alpn,
                record_layer: self.record_layer,
                records_per_key_max: self.records_per_key_max,
                names: self.names,
                check_client: self.check_client,
            }),
        })
    }
}

/// Whether an ALPN name's clients are asked for a certificate.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// A certificate issued by one of these authorities is required.
    Required(Roots),
    /// None is asked for: no CertificateRequest is sent.
    None,
}

/// What a client gets that offers no ALPN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The handshake is completed without asking for a client certificate, then the connection is closed with
    /// close_notify, and [`crate::TlsSession::open`] says `alpn_missing`.
    CloseAfterHandshake,
    /// The configuration of this name of the table; no name is negotiated.
    Use(Vec<u8>),
}

/// Makes rustls configurations that differ in name and client authentication.
struct Maker {
    provider: Arc<CryptoProvider>,
    versions: Versions,
    certificate: Arc<SingleCertAndKey>,
    key_log: Option<Arc<KeyLogFile>>,
}

impl Maker {
    fn new(
        identity: &Identity,
        versions: Versions,
        parameters: &Parameters,
        key_log: Option<KeyLogFile>,
    ) -> Result<Self, ConfigError> {
        let certified_key = identity.certified_key().map_err(refused)?;
        Ok(Self {
            provider: provider(parameters)?,
            versions,
            certificate: Arc::new(SingleCertAndKey::from(certified_key)),
            key_log: key_log.map(Arc::new),
        })
    }

    fn make(
        &self,
        alpn: Option<&[u8]>,
        client_auth: &ClientAuth,
    ) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.versions.as_rustls())
            .map_err(refused)?;
        let builder = match client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Required(roots) => {
                let (roots, provider) = (Arc::clone(&roots.store), Arc::clone(&self.provider));
                let inner = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(refused)?;
                builder.with_client_cert_verifier(Arc::new(DeviceVerifier { inner }))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::<SingleCertAndKey>::clone(&self.certificate));
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        // Resumption off: a ticket of one configuration must never open another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        if let Some(file) = &self.key_log {
            config.key_log = Arc::<KeyLogFile>::clone(file);
        }
        Ok(Arc::new(config))
    }
}
