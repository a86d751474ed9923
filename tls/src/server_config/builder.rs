use std::sync::Arc;

use rustls::{
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};

use super::{ClientCheck, Entry, Inner, Names, Other, ServerConfig, Service, VerifiedClient, host_name};
use crate::{
    config_error::ConfigError,
    identity::Identity,
    key_log::KeyLogFile,
    roots::Roots,
    settings::{Common, Versions, check_alpn, common_settings, refused},
    verifier::DeviceVerifier,
};

/// Makes a [`ServerConfig`]: what the clients of one port get, by the server that they ask for (SNI) and the ALPN names
/// that they offer.
///
/// The server name comes first. It picks a domain ([`Self::domain`]), which is a configuration of its own with another
/// certificate, for example, or this one. Then the ALPN names pick an entry of its table, and with it whether a client
/// certificate is asked for.
///
/// | the client | gets | unless it is said |
/// |---|---|---|
/// | asks for a name of a domain | that domain | |
/// | asks for a name of [`Self::server_names`], if there are any | this configuration | |
/// | asks for another name | alert 112 if there are such names, otherwise this configuration | |
/// | asks for no name | this configuration | [`Self::require_server_name`] |
/// | offers a name of the table ([`Self::alpn`]) | that entry, of several the first | [`Self::require_server_name_for`] |
/// | offers other names alone | alert 120 | [`Self::unknown_alpn`] |
/// | offers no names | a handshake, then close_notify | [`Self::no_alpn`] |
///
/// What was negotiated in the end, after a second ClientHello perhaps, is compared with what the configuration was
/// chosen for. Resumption is off: no tickets, no ticketer, no session store.
///
/// ```
/// use fleetwire_tls::{ClientAuth, ConfigError, Fallback, Identity, Roots, ServerConfig, ServerConfigBuilder};
///
/// /// One port for devices with a certificate, users with a password, and a domain that has its own certificate.
/// fn port_443(account: Identity, domain: Identity, devices: Roots) -> Result<ServerConfig, ConfigError> {
///     let table = |identity| {
///         ServerConfigBuilder::new(identity)
///             .alpn("x-amzn-mqtt-ca", ClientAuth::Required(devices.clone()))
///             .alpn("mqtt", ClientAuth::None)
///     };
///     let domain = table(domain).server_names(["iot.fleet.example"]).build()?;
///     table(account).domain(domain).build()
/// }
///
/// /// A port without ALPN.
/// fn port_8883(account: Identity, devices: Roots) -> Result<ServerConfig, ConfigError> {
///     ServerConfigBuilder::new(account)
///         .no_alpn(Fallback::Serve(ClientAuth::Required(devices)))
///         .build()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ServerConfigBuilder {
    identity: Identity,
    table: Vec<(Vec<u8>, ClientAuth)>,
    no_alpn: Fallback,
    unknown_alpn: Fallback,
    common: Common,
    server_names: Vec<Box<str>>,
    domains: Vec<ServerConfig>,
    name_required: bool,
    names_required_for: Vec<Vec<u8>>,
    check_client: Option<ClientCheck>,
}

impl ServerConfigBuilder {
    /// A server that shows this certificate and serves no ALPN name yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            table: Vec::new(),
            no_alpn: Fallback::CloseAfterHandshake,
            unknown_alpn: Fallback::Refuse,
            common: Common::default(),
            server_names: Vec::new(),
            domains: Vec::new(),
            name_required: false,
            names_required_for: Vec::new(),
            check_client: None,
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

    common_settings!();

    /// Refuses clients that name no server (SNI), with alert 109. Unless it is said they are served.
    #[must_use]
    pub fn require_server_name(mut self) -> Self {
        self.name_required = true;
        self
    }

    /// Refuses clients that get this ALPN name of the table and name no server (SNI), with alert 109.
    #[must_use]
    pub fn require_server_name_for(mut self, alpn: impl Into<Vec<u8>>) -> Self {
        self.names_required_for.push(alpn.into());
        self
    }

    /// The names that this configuration is for, in place of any: clients that ask for another (SNI), which no
    /// [`domain`](Self::domain) has either, are refused with alert 112.
    ///
    /// `*.example.org` is for each name of one label more than `example.org`, as in certificates; where the name itself
    /// is listed too, that counts. Upper and lower case are the same, and so is a name with a dot at its end.
    #[must_use]
    pub fn server_names(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.server_names = names.into_iter().map(|name| host_name(name.as_ref())).collect();
        self
    }

    /// Gives clients that ask for one of the [`server_names`](Self::server_names) of `domain` that configuration in place
    /// of this one: nothing that is set here counts for them. Domains that it has itself come with it.
    #[must_use]
    pub fn domain(mut self, domain: ServerConfig) -> Self {
        self.domains.push(domain);
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

    /// Checks the settings.
    ///
    /// # Errors
    /// If nobody could be served, an ALPN name is not usable or unknown, a server name is no name or is given twice, a
    /// domain has none, or rustls refuses something.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        let alpn_names: Vec<_> = self.table.iter().map(|(name, _)| name.clone()).collect();
        let serves = |fallback: &Fallback| matches!(fallback, Fallback::Serve(_));
        if alpn_names.is_empty() && !serves(&self.no_alpn) && !serves(&self.unknown_alpn) {
            return Err(ConfigError::NoAlpn);
        }
        check_alpn(&alpn_names)?;
        if let Some(unknown) = self
            .names_required_for
            .iter()
            .find(|name| !alpn_names.contains(name))
        {
            return Err(ConfigError::UnknownAlpn(unknown.clone()));
        }
        let maker = Maker::new(&self.identity, &self.common)?;
        let service = |name: Option<&[u8]>, client_auth: &ClientAuth| {
            Ok(Service {
                rustls: maker.make(name, client_auth)?,
                client_auth: matches!(client_auth, ClientAuth::Required(_)),
                server_name_required: name
                    .is_some_and(|name| self.names_required_for.iter().any(|required| required == name)),
            })
        };
        let other = |fallback: &Fallback| {
            Ok(match fallback {
                Fallback::Refuse => Other::Refuse,
                Fallback::CloseAfterHandshake => {
                    Other::CloseAfterHandshake(service(None, &ClientAuth::None)?)
                }
                Fallback::Serve(client_auth) => Other::Serve(service(None, client_auth)?),
            })
        };
        let entry = |(name, client_auth): &(Vec<u8>, ClientAuth)| {
            Ok(Entry {
                name: name.clone(),
                service: service(Some(name), client_auth)?,
            })
        };
        Ok(ServerConfig {
            inner: Arc::new(Inner {
                table: self.table.iter().map(entry).collect::<Result<_, _>>()?,
                no_alpn: other(&self.no_alpn)?,
                unknown_alpn: other(&self.unknown_alpn)?,
                protection: self.common.protection,
                takes_unknown_names: self.server_names.is_empty(),
                takes_no_name: !self.name_required,
                names: names(self.server_names, &self.domains)?,
                check_client: self.check_client,
            }),
        })
    }
}

/// The table of the configuration's own names and those of its domains.
fn names(own: Vec<Box<str>>, domains: &[ServerConfig]) -> Result<Names<Option<ServerConfig>>, ConfigError> {
    let mut names: Vec<_> = own.into_iter().map(|name| (name, None)).collect();
    for domain in domains {
        if domain.inner.takes_unknown_names {
            return Err(ConfigError::UnnamedDomain);
        }
        for (name, further) in domain.inner.names.iter() {
            let config = further.as_ref().unwrap_or(domain);
            names.push((name.clone(), Some(config.clone())));
        }
    }
    Names::new(names)
}

/// Whether an ALPN name's clients are asked for a certificate.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// A certificate issued by one of these authorities is required.
    Required(Roots),
    /// None is asked for: no CertificateRequest is sent.
    None,
}

/// What a client gets for whom the table has no ALPN name.
#[derive(Clone, Debug)]
pub enum Fallback {
    /// Alert 120 `no_application_protocol`.
    Refuse,
    /// The handshake is completed without asking for a client certificate, then the connection is closed with
    /// close_notify, and [`crate::TlsSession::open`] says `alpn_missing` or `alpn_refused`.
    CloseAfterHandshake,
    /// It is served, and no name is negotiated.
    Serve(ClientAuth),
}

/// Makes rustls configurations that differ in name and client authentication.
struct Maker {
    provider: Arc<CryptoProvider>,
    versions: Versions,
    certificate: Arc<SingleCertAndKey>,
    key_log: Option<Arc<KeyLogFile>>,
}

impl Maker {
    fn new(identity: &Identity, common: &Common) -> Result<Self, ConfigError> {
        let certified_key = identity.certified_key().map_err(refused)?;
        Ok(Self {
            provider: common.provider()?,
            versions: common.versions,
            certificate: Arc::new(SingleCertAndKey::from(certified_key)),
            key_log: common.key_log.clone().map(Arc::new),
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
