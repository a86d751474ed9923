//! The crypto provider: aws-lc-rs, as a value of each configuration and never of the process.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::ConfigError;

/// A provider that is ready to work.
///
/// The first random bytes of a process take aws-lc about 30 ms, to gather entropy from the jitter of the clock. Here,
/// where a configuration is made, that hurts less than in the first handshake of an event loop.
///
/// # Errors
/// If there is no randomness to be had.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>, ConfigError> {
    let provider = aws_lc_rs::default_provider();
    let mut seed = [0; 1];
    let filled = provider.secure_random.fill(&mut seed);
    filled.map_err(|_| ConfigError::Refused {
        detail: "the system gives no random bytes".to_owned(),
    })?;
    Ok(Arc::new(provider))
}
