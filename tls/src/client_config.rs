use std::{fmt, sync::Arc};

use rustls::{
    client::{Resumption, WebPkiServerVerifier},
    crypto::CryptoProvider,
    sign::SingleCertAndKey,
};

#[cfg(test)]
use crate::resumption::DeviceSessions;
use crate::{
    config_error::ConfigError,
    identity::Identity,
    resumption::{Credentials, SessionCache},
    roots::Roots,
    secrets::SecretCatcher,
    settings::{Common, Protection, Versions, check_alpn, common_settings, refused},
    verifier::{AcceptAnyServer, NotingVerifier},
};

/// How clients connect: whom they trust, what they offer. One for a whole fleet; cheap to clone.
///
/// A device's own certificate is not part of it: it is given with each connection, which gets a shallow copy of this
/// configuration with that certificate in it.
#[derive(Clone)]
pub struct ClientConfig {
    inner: Arc<Inner>,
}

struct Inner {
    base: rustls::ClientConfig,
    /// `None` when verification is switched off.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    protection: Protection,
    /// `None` when nothing is resumed.
    sessions: Option<SessionCache>,
}

/// What one connection is made with.
pub(crate) struct ForConnection {
    pub(crate) rustls: Arc<rustls::ClientConfig>,
    pub(crate) verifier: Option<Arc<NotingVerifier>>,
    /// What the in-place record layer goes on with; `None` if rustls's is used.
    pub(crate) secrets: Option<Arc<SecretCatcher>>,
}

impl ClientConfig {
    /// The ALPN names that are offered, in order of preference.
    pub fn alpn(&self) -> &[Vec<u8>] {
        &self.inner.base.alpn_protocols
    }

    /// Whether devices resume their sessions.
    pub(crate) fn resumes(&self) -> bool {
        self.inner.sessions.is_some()
    }

    /// A device's store.
    #[cfg(test)]
    pub(crate) fn sessions_of(&self, server: &str, identity: &Identity) -> Arc<DeviceSessions> {
        let server = ServerName::parse(server).unwrap().name;
        let sessions = self.inner.sessions.as_ref().unwrap();
        sessions.of_device(Some(identity), &server, || unreachable!("this device has one"))
    }

    /// The configuration of one connection: the shared one with this device's certificate and a verifier of its own; or,
    /// if it may resume, with the device's own of both, without which rustls does not.
    pub(crate) fn for_connection(
        &self,
        server: &rustls_pki_types::ServerName<'static>,
        identity: Option<&Identity>,
    ) -> Result<ForConnection, rustls::Error> {
        let mut config = self.inner.base.clone();
        let new_verifier = || {
            let verifier = self.inner.verifier.as_ref()?;
            Some(Arc::new(NotingVerifier::new(Arc::clone(verifier))))
        };
        let verifier = if let Some(sessions) = &self.inner.sessions {
            let device = sessions.of_device(identity, server, new_verifier);
            if let Some(credentials) = &device.credentials {
                config.client_auth_cert_resolver = Arc::<Credentials>::clone(credentials);
            }
            let verifier = device.verifier.clone();
            config.resumption = Resumption::store(device);
            verifier
        } else {
            if let Some(identity) = identity {
                config.client_auth_cert_resolver =
                    Arc::new(SingleCertAndKey::from(identity.certified_key()?));
            }
            new_verifier()
        };
        if let Some(verifier) = &verifier {
            config
                .dangerous()
                .set_certificate_verifier(Arc::<NotingVerifier>::clone(verifier));
        }
        let protection = &self.inner.protection;
        let secrets = protection.catch_secrets(&mut config.key_log, &mut config.enable_secret_extraction);
        Ok(ForConnection {
            rustls: Arc::new(config),
            verifier,
            secrets,
        })
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").finish_non_exhaustive()
    }
}

/// Makes a [`ClientConfig`].
///
/// Resumption is off unless [`Self::resumption`] switches it on.
#[derive(Clone, Debug, Default)]
pub struct ClientConfigBuilder {
    roots: Option<Roots>,
    alpn: Vec<Vec<u8>>,
    no_verification: bool,
    common: Common,
    resumption_devices_max: usize,
}

impl ClientConfigBuilder {
    /// TLS 1.2 and 1.3, no ALPN, and no trusted authorities yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whom to trust.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// The ALPN names to offer, in order of preference. If it is not empty, the server must select one of them.
    #[must_use]
    pub fn alpn(mut self, names: Vec<Vec<u8>>) -> Self {
        self.alpn = names;
        self
    }

    common_settings!();

    /// Lets devices resume their sessions, at most so many devices; 0, as it is unless it is said, switches it off.
    ///
    /// What may be resumed is kept in memory by this configuration, for each pair of a device's certificate and a server
    /// name (devices without a certificate are one), and no device is ever offered another's. At the bound the pair that
    /// came first is forgotten: its next handshake is a full one. A pair keeps one session for each version, from which
    /// one connection is resumed; each connection leaves the next. With TLS 1.3 the first ticket of a connection is kept,
    /// unless its lifetime is zero.
    ///
    /// It costs about 1.5 KB for each pair, and in TLS 1.3 about 2.5 KB more for a connection until its server has sent a
    /// ticket; if the server shows four RSA certificates, 4 KB more in both. In a resumed handshake no certificate is sent or checked: what has
    /// expired or was revoked since is noticed in the next full one. Tickets end after 7 days at the latest (RFC 8446
    /// section 4.6.1); a session of TLS 1.2 for which the server names no lifetime ends when the server forgets it. There is
    /// no early data.
    #[must_use]
    pub fn resumption(mut self, devices_max: usize) -> Self {
        self.resumption_devices_max = devices_max;
        self
    }

    /// Takes any server certificate, whoever issued it and whatever its names and dates are. Whoever can answer the
    /// connection can then read and change everything.
    #[must_use]
    pub fn dangerous_no_server_verification(mut self) -> Self {
        self.no_verification = true;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// If there are no roots and verification is not switched off, an ALPN name is not usable, there is no such cipher suite, or
    /// rustls refuses something.
    pub fn build(self) -> Result<ClientConfig, ConfigError> {
        check_alpn(&self.alpn)?;
        let provider = self.common.provider()?;
        let verifier = if self.no_verification {
            None
        } else {
            let roots = self.roots.ok_or(ConfigError::NoVerification)?;
            let builder = WebPkiServerVerifier::builder_with_provider(roots.store, Arc::clone(&provider));
            Some(builder.build().map_err(refused)?)
        };
        let mut base = base(&provider, self.common.versions, verifier.clone())?;
        base.alpn_protocols = self.alpn;
        // The session compares the selected name itself, to say which one it was.
        base.check_selected_alpn = false;
        base.resumption = Resumption::disabled();
        if let Some(file) = self.common.key_log {
            base.key_log = Arc::new(file);
        }
        Ok(ClientConfig {
            inner: Arc::new(Inner {
                base,
                verifier,
                protection: self.common.protection,
                sessions: (self.resumption_devices_max > 0)
                    .then(|| SessionCache::new(self.resumption_devices_max)),
            }),
        })
    }
}

/// The name that a server's certificate must carry. A DNS name is also sent as SNI (RFC 6066 section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ServerName {
    pub(crate) name: rustls_pki_types::ServerName<'static>,
}

impl ServerName {
    /// Takes a DNS name or an IP address.
    ///
    /// # Errors
    /// [`ConfigError::BadServerName`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        rustls_pki_types::ServerName::try_from(text)
            .map(|name| Self {
                name: name.to_owned(),
            })
            .map_err(|_| ConfigError::BadServerName(text.into()))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.to_str())
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerName({self})")
    }
}

fn base(
    provider: &Arc<CryptoProvider>,
    versions: Versions,
    verifier: Option<Arc<WebPkiServerVerifier>>,
) -> Result<rustls::ClientConfig, ConfigError> {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions.as_rustls())
        .map_err(refused)?;
    Ok(match verifier {
        Some(verifier) => builder.with_webpki_verifier(verifier),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyServer {
                provider: Arc::clone(provider),
            })),
    }
    .with_no_client_auth())
}
