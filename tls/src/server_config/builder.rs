use std::sync::Arc;

use rustls::{
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use rustls_pki_types::DnsName;

use super::{
    ClientCheck, Entry, Inner, Other, ServerConfig, ServerNames, Service, VerifiedClient, host_name,
};
use crate::{
    client_config::{Versions, check_alpn, refused},
    config_error::ConfigError,
    identity::Identity,
    key_log::KeyLogFile,
    provider::{KeyExchangeGroup, Parameters, provider},
    records::RecordLayer,
    roots::Roots,
    verifier::DeviceVerifier,
};

/// Makes a [`ServerConfig`].
///
/// A client that offers only names that are not in the table is refused with alert 120 `no_application_protocol`
/// (RFC 7301 section 3.2), unless it is said otherwise. Resumption is off: no tickets, no ticketer, no session store.
#[derive(Clone, Debug)]
pub struct ServerConfigBuilder {
    identity: Identity,
    table: Vec<(Vec<u8>, ClientAuth)>,
    no_alpn: Fallback,
    unknown_alpn: Fallback,
    versions: Versions,
    record_layer: RecordLayer,
    records_per_key_max: Option<u64>,
    names: ServerNames,
    names_required_for: Vec<Vec<u8>>,
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
            no_alpn: Fallback::CloseAfterHandshake,
            unknown_alpn: Fallback::Refuse,
            versions: Versions::Both,
            record_layer: RecordLayer::default(),
            records_per_key_max: None,
            names: ServerNames::default(),
            names_required_for: Vec::new(),
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

    /// What a client gets that offers no ALPN; [`Fallback::CloseAfterHandshake`] unless it is said.
    #[must_use]
    pub fn no_alpn(mut self, fallback: Fallback) -> Self {
        self.no_alpn = fallback;
        self
    }

    /// What a client gets that offers only names that are not in the table; [`Fallback::Refuse`] unless it is said.
    #[must_use]
    pub fn unknown_alpn(mut self, fallback: Fallback) -> Self {
        self.unknown_alpn = fallback;
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

    /// Refuses clients that get this ALPN name of the table and name no server (SNI), with alert 109.
    #[must_use]
    pub fn require_server_name_for(mut self, alpn: impl Into<Vec<u8>>) -> Self {
        self.names_required_for.push(alpn.into());
        self
    }

    /// Refuses clients that name another server (SNI) than one of these, with alert 112. Unless it is said any name is
    /// served. Upper and lower case are the same, and so is a name with a dot at its end.
    #[must_use]
    pub fn server_names(mut self, names: &[&str]) -> Self {
        self.names.served = names.iter().map(|name| host_name(name)).collect();
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
        if let Some(unknown) = self.names_required_for.iter().find(|name| !names.contains(name)) {
            return Err(ConfigError::UnknownAlpn(unknown.clone()));
        }
        if let Some(bad) = self
            .names
            .served
            .iter()
            .find(|name| DnsName::try_from(&***name).is_err())
        {
            return Err(ConfigError::BadHostName(bad.to_string()));
        }
        let maker = Maker::new(&self.identity, self.versions, &self.parameters, self.key_log)?;
        let service = |name: Option<&[u8]>, of: &[u8], client_auth: &ClientAuth| {
            Ok(Service {
                rustls: maker.make(name, client_auth)?,
                client_auth: matches!(client_auth, ClientAuth::Required(_)),
                server_name_required: self.names_required_for.iter().any(|name| name == of),
            })
        };
        let other = |fallback: &Fallback| {
            Ok(match fallback {
                Fallback::Refuse => Other::Refuse,
                Fallback::CloseAfterHandshake => {
                    Other::CloseAfterHandshake(service(None, &[], &ClientAuth::None)?)
                }
                Fallback::Use(name) => match self.table.iter().find(|(known, _)| known == name) {
                    Some((name, client_auth)) => Other::Serve(service(None, name, client_auth)?),
                    None => return Err(ConfigError::UnknownAlpn(name.clone())),
                },
            })
        };
        let entry = |(name, client_auth): &(Vec<u8>, ClientAuth)| {
            Ok(Entry {
                name: name.clone(),
                service: service(Some(name), name, client_auth)?,
            })
        };
        Ok(ServerConfig {
            inner: Arc::new(Inner {
                table: self.table.iter().map(entry).collect::<Result<_, _>>()?,
                no_alpn: other(&self.no_alpn)?,
                unknown_alpn: other(&self.unknown_alpn)?,
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

/// What a client gets for whom the table has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Alert 120 `no_application_protocol`.
    Refuse,
    /// The handshake is completed without asking for a client certificate, then the connection is closed with
    /// close_notify, and [`crate::TlsSession::open`] says `alpn_missing` or `alpn_refused`.
    CloseAfterHandshake,
    /// What this name of the table asks of its clients; no name is negotiated.
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
