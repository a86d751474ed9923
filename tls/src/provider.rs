//! The crypto provider: aws-lc-rs, as a value of each configuration and never of the process.

use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider, SupportedKxGroup,
    aws_lc_rs::{self, kx_group},
};

use crate::{ConfigError, key_block::keeping_suite};

/// Which parts of the provider a configuration uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    /// IANA names; all that there are if it is empty.
    pub(crate) cipher_suites: Vec<String>,
    /// In order of preference; all but the post-quantum one if it is empty.
    pub(crate) key_exchange_groups: Vec<KeyExchangeGroup>,
}

/// A group for the key exchange (RFC 8446 section 4.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyExchangeGroup {
    /// X25519 (RFC 7748).
    X25519,
    /// P-256.
    Secp256r1,
    /// P-384.
    Secp384r1,
    /// X25519 together with ML-KEM-768, TLS 1.3 only: what is recorded today stays secret from the quantum computers of
    /// tomorrow. The ClientHello grows by 1.2 KB. It is offered only if it is asked for.
    X25519MlKem768,
}

impl KeyExchangeGroup {
    fn as_rustls(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => kx_group::X25519,
            Self::Secp256r1 => kx_group::SECP256R1,
            Self::Secp384r1 => kx_group::SECP384R1,
            Self::X25519MlKem768 => kx_group::X25519MLKEM768,
        }
    }
}

/// A provider that is ready to work.
///
/// The first random bytes of a process take aws-lc about 30 ms, to gather entropy from the jitter of the clock. Here,
/// where a configuration is made, that hurts less than in the first handshake of an event loop.
///
/// # Errors
/// If there is no randomness to be had, or there is no cipher suite of a name.
pub(crate) fn provider(parameters: &Parameters) -> Result<Arc<CryptoProvider>, ConfigError> {
    let mut provider = aws_lc_rs::default_provider();
    if !parameters.cipher_suites.is_empty() {
        let suite = |name: &String| {
            let mut suites = aws_lc_rs::ALL_CIPHER_SUITES.iter();
            let found = suites.find(|suite| suite.suite().as_str() == Some(name));
            found
                .copied()
                .ok_or_else(|| ConfigError::UnknownCipherSuite(name.clone()))
        };
        provider.cipher_suites = parameters
            .cipher_suites
            .iter()
            .map(suite)
            .collect::<Result<_, _>>()?;
    }
    for suite in &mut provider.cipher_suites {
        *suite = keeping_suite(*suite);
    }
    let groups = match parameters.key_exchange_groups.as_slice() {
        [] => &[
            KeyExchangeGroup::X25519,
            KeyExchangeGroup::Secp256r1,
            KeyExchangeGroup::Secp384r1,
        ],
        groups => groups,
    };
    provider.kx_groups = groups.iter().map(|group| group.as_rustls()).collect();
    let mut seed = [0; 1];
    let filled = provider.secure_random.fill(&mut seed);
    filled.map_err(|_| ConfigError::Refused {
        detail: "the system gives no random bytes".to_owned(),
    })?;
    Ok(Arc::new(provider))
}
