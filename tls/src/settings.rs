//! What the configurations of both sides have in common.

use std::{fmt, sync::Arc};

use rustls::{
    KeyLog, SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

use crate::{
    config_error::ConfigError,
    key_log::KeyLogFile,
    provider::{Parameters, provider},
    records::RecordLayer,
    secrets::SecretCatcher,
};

/// The settings that both builders have; [`common_settings`] makes the methods that set them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub(crate) versions: Versions,
    pub(crate) parameters: Parameters,
    pub(crate) key_log: Option<KeyLogFile>,
    pub(crate) protection: Protection,
}

impl Common {
    pub(crate) fn provider(&self) -> Result<Arc<CryptoProvider>, ConfigError> {
        provider(&self.parameters)
    }
}

/// How the records after the handshake are protected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Protection {
    pub(crate) record_layer: RecordLayer,
    pub(crate) records_per_key_max: Option<u64>,
}

impl Protection {
    /// Makes rustls give away the secrets of one connection, whose own configuration these two belong to, if the in-place
    /// record layer is to go on with them.
    pub(crate) fn catch_secrets(
        &self,
        key_log: &mut Arc<dyn KeyLog>,
        enable_secret_extraction: &mut bool,
    ) -> Option<Arc<SecretCatcher>> {
        match self.record_layer {
            RecordLayer::InPlace => {
                let records_max = self.records_per_key_max.unwrap_or(u64::MAX);
                let secrets = Arc::new(SecretCatcher::new(Arc::clone(key_log), records_max));
                *key_log = Arc::<SecretCatcher>::clone(&secrets);
                *enable_secret_extraction = true;
                Some(secrets)
            }
            RecordLayer::Rustls => None,
        }
    }
}

/// The methods of a builder that set its `common` settings.
macro_rules! common_settings {
    () => {
        /// The versions of TLS to allow; both unless it is said.
        #[must_use]
        pub fn versions(mut self, versions: $crate::Versions) -> Self {
            self.common.versions = versions;
            self
        }

        /// The cipher suites to allow, by their IANA names (`TLS13_AES_128_GCM_SHA256`), in order of preference; all that
        /// rustls has unless it is said.
        #[must_use]
        pub fn cipher_suites(mut self, names: &[&str]) -> Self {
            self.common.parameters.cipher_suites = names.iter().map(|name| (*name).to_owned()).collect();
            self
        }

        /// The groups for the key exchange, in order of preference; X25519, P-256 and P-384 unless it is said.
        #[must_use]
        pub fn key_exchange_groups(mut self, groups: &[$crate::KeyExchangeGroup]) -> Self {
            self.common.parameters.key_exchange_groups = groups.to_vec();
            self
        }

        /// Writes the secrets of every connection to a file, so that its traffic can be read elsewhere.
        #[must_use]
        pub fn key_log_file(mut self, file: $crate::KeyLogFile) -> Self {
            self.common.key_log = Some(file);
            self
        }

        /// Who protects the records after the handshake.
        #[must_use]
        pub fn record_layer(mut self, record_layer: $crate::RecordLayer) -> Self {
            self.common.protection.record_layer = record_layer;
            self
        }

        /// How many records a key may protect in place, if that is less than its algorithm allows (2^23 for AES-GCM, RFC
        /// 8446 section 5.5); at least 1. Then TLS 1.3 goes over to new keys, and TLS 1.2 has to close.
        #[must_use]
        pub fn records_per_key_max(mut self, records: u64) -> Self {
            self.common.protection.records_per_key_max = Some(records.max(1));
            self
        }
    };
}

pub(crate) use common_settings;

/// The versions of TLS to offer or accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.3 and 1.2.
    #[default]
    Both,
    /// TLS 1.2 only (RFC 5246).
    Tls12,
    /// TLS 1.3 only (RFC 8446).
    Tls13,
}

impl Versions {
    pub(crate) fn as_rustls(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        let [tls13, tls12] = BOTH.each_ref();
        match self {
            Self::Both => &BOTH,
            Self::Tls12 => std::slice::from_ref(tls12),
            Self::Tls13 => std::slice::from_ref(tls13),
        }
    }
}

/// RFC 7301 section 3.1: names are 1 to 255 bytes; a name twice in a list has no meaning.
pub(crate) fn check_alpn(names: &[Vec<u8>]) -> Result<(), ConfigError> {
    for (i, name) in names.iter().enumerate() {
        let repeated = names.iter().take(i).any(|earlier| earlier == name);
        if repeated || name.is_empty() || name.len() > 255 {
            return Err(ConfigError::BadAlpn(name.clone()));
        }
    }
    Ok(())
}

pub(crate) fn refused(error: impl fmt::Display) -> ConfigError {
    ConfigError::Refused {
        detail: error.to_string(),
    }
}
