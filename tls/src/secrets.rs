//! The traffic secrets of one handshake, which rustls gives away through its key log alone.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::KeyLog;
use zeroize::Zeroize;

use crate::crypto::SECRET_LEN_MAX;

/// The key log of one connection's own configuration. It keeps the two secrets that TLS 1.3's key updates begin with
/// (RFC 8446 section 7.2) until the record layer takes them, and passes everything on to the user's key log.
pub(crate) struct SecretCatcher {
    secrets: Mutex<TrafficSecrets>,
    next: Arc<dyn KeyLog>,
    records_max: u64,
}

/// What was caught; zeros before that.
pub(crate) struct TrafficSecrets {
    client: [u8; SECRET_LEN_MAX],
    server: [u8; SECRET_LEN_MAX],
}

impl SecretCatcher {
    pub(crate) fn new(next: Arc<dyn KeyLog>, records_max: u64) -> Self {
        Self {
            secrets: Mutex::new(TrafficSecrets {
                client: [0; SECRET_LEN_MAX],
                server: [0; SECRET_LEN_MAX],
            }),
            next,
            records_max,
        }
    }

    /// How many records the configuration lets one key protect, besides what the algorithm does.
    pub(crate) fn records_max(&self) -> u64 {
        self.records_max
    }

    /// Lends the secrets of client and server, and forgets them.
    pub(crate) fn take<R>(&self, take: impl FnOnce(&[u8; SECRET_LEN_MAX], &[u8; SECRET_LEN_MAX]) -> R) -> R {
        // Bytes that were copied are sound whatever happened to the thread that did it.
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = take(&secrets.client, &secrets.server);
        secrets.zeroize();
        taken
    }
}

impl KeyLog for SecretCatcher {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if is_caught(label) {
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            let place = match label {
                CLIENT_SECRET => &mut secrets.client,
                _ => &mut secrets.server,
            };
            if let Some(place) = place.get_mut(..secret.len()) {
                place.copy_from_slice(secret);
            }
        }
        if self.next.will_log(label) {
            self.next.log(label, client_random, secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        is_caught(label) || self.next.will_log(label)
    }
}

impl fmt::Debug for SecretCatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretCatcher")
    }
}

impl Zeroize for TrafficSecrets {
    fn zeroize(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

impl Drop for TrafficSecrets {
    fn drop(&mut self) {
        self.zeroize();
    }
}

fn is_caught(label: &str) -> bool {
    label == CLIENT_SECRET || label == SERVER_SECRET
}

const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_once_and_passed_on() {
        let last = Arc::new(SecretCatcher::new(Arc::new(rustls::NoKeyLog), 1));
        let catcher = SecretCatcher::new(Arc::<SecretCatcher>::clone(&last), 1);
        assert!(catcher.will_log(CLIENT_SECRET) && !catcher.will_log("EXPORTER_SECRET"));
        catcher.log(CLIENT_SECRET, b"random", &[1; 32]);
        catcher.log(SERVER_SECRET, b"random", &[2; 48]);
        catcher.log(CLIENT_SECRET, b"random", &[3; 49]);
        for catcher in [&catcher, &*last] {
            catcher.take(|client, server| {
                assert_eq!((&client[..32], client[32]), (&[1; 32][..], 0));
                assert_eq!(*server, [2; 48]);
            });
            catcher.take(|client, server| assert_eq!((*client, *server), ([0; 48], [0; 48])));
        }
    }
}
