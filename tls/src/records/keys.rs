//! The keys of one direction of an established connection.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ConnectionTrafficSecrets;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::{Algorithm, Context, CryptoError, KEY_LEN_MAX, NONCE_LEN, SECRET_LEN_MAX, expand_label};

/// Key, IV and sequence number of one direction, and in TLS 1.3 the secret that the next keys are made of.
///
/// They are filled in where they are to stay and never moved, because a move would leave a copy behind.
pub(super) struct Keys {
    /// Names these keys in caches of expanded ones: each set of keys of the process has another.
    id: u64,
    /// Of the next record.
    sequence: u64,
    /// How many records these keys may protect.
    records_max: u64,
    secret: [u8; SECRET_LEN_MAX],
    key: [u8; KEY_LEN_MAX],
    iv: [u8; NONCE_LEN],
    algorithm: Algorithm,
}

impl Keys {
    /// None yet.
    pub(super) const fn empty() -> Self {
        Self {
            id: 0,
            sequence: 0,
            records_max: 0,
            secret: [0; SECRET_LEN_MAX],
            key: [0; KEY_LEN_MAX],
            iv: [0; NONCE_LEN],
            algorithm: Algorithm::Aes128Gcm,
        }
    }

    /// Takes over what rustls has used up to now. `secret` is the traffic secret of TLS 1.3, with zeros behind it.
    pub(super) fn load(
        &mut self,
        sequence: u64,
        extracted: &ConnectionTrafficSecrets,
        secret: Option<&[u8; SECRET_LEN_MAX]>,
        records_max: u64,
    ) -> Result<(), CryptoError> {
        let (algorithm, key, iv) = match extracted {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Algorithm::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Algorithm::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Algorithm::ChaCha20Poly1305, key, iv),
            _ => return Err(CryptoError),
        };
        self.algorithm = algorithm;
        self.records_max = algorithm.records_max().min(records_max);
        copy(&mut self.key, key.as_ref(), algorithm.key_len())?;
        copy(&mut self.iv, iv.as_ref(), NONCE_LEN)?;
        if let Some(secret) = secret {
            // It was caught. Whether it is that of these keys is seen when it is used: to derive them here would cost a
            // handshake 4 % of its time.
            if secret.iter().all(|byte| *byte == 0) {
                return Err(CryptoError);
            }
            self.secret.copy_from_slice(secret);
        }
        self.sequence = sequence;
        self.id = next_id();
        Ok(())
    }

    /// Replaces the keys by the next ones, RFC 8446 section 7.2, if the secret is that of these keys.
    pub(super) fn update(&mut self) -> Result<(), CryptoError> {
        let mut iv = [0; NONCE_LEN];
        expand_label(self.algorithm, self.traffic_secret()?, "iv", &mut iv)?;
        if iv != self.iv {
            return Err(CryptoError);
        }
        let mut next = zeroize::Zeroizing::new([0; SECRET_LEN_MAX]);
        let length = self.algorithm.secret_len();
        let (Some(secret), Some(next)) = (self.secret.get_mut(..length), next.get_mut(..length)) else {
            return Err(CryptoError);
        };
        expand_label(self.algorithm, secret, "traffic upd", next)?;
        secret.copy_from_slice(next);
        self.derive()?;
        self.sequence = 0;
        self.id = next_id();
        Ok(())
    }

    /// Makes key and IV out of the secret, RFC 8446 section 7.3.
    fn derive(&mut self) -> Result<(), CryptoError> {
        let secret = self.secret.get(..self.algorithm.secret_len());
        let secret = secret.ok_or(CryptoError)?;
        let key = self.key.get_mut(..self.algorithm.key_len()).ok_or(CryptoError)?;
        expand_label(self.algorithm, secret, "key", key)?;
        expand_label(self.algorithm, secret, "iv", &mut self.iv)
    }

    fn traffic_secret(&self) -> Result<&[u8], CryptoError> {
        self.secret.get(..self.algorithm.secret_len()).ok_or(CryptoError)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether as many records were protected as may be. Alerts and key updates still are.
    pub(super) fn are_exhausted(&self) -> bool {
        self.sequence >= self.records_max
    }

    /// The sequence number for one record; no two get the same. It never wraps (RFC 8446 section 5.3).
    pub(super) fn next_sequence(&mut self) -> Result<u64, CryptoError> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(CryptoError)?;
        Ok(sequence)
    }

    /// The IV combined with a sequence number (RFC 8446 section 5.3, RFC 7905 section 2; for AES-GCM in TLS 1.2, where
    /// the sender is free to choose, rustls began to do so in the handshake).
    pub(super) fn nonce(&self, sequence: u64) -> [u8; NONCE_LEN] {
        let [_, _, _, _, last @ ..] = self.iv;
        self.nonce_with((u64::from_be_bytes(last) ^ sequence).to_be_bytes())
    }

    /// The nonce of a record that carries 8 bytes of it (RFC 5288 section 3).
    pub(super) fn nonce_with(&self, explicit: [u8; 8]) -> [u8; NONCE_LEN] {
        let [a, b, c, d, ..] = self.iv;
        let [e, f, g, h, i, j, k, l] = explicit;
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    pub(super) fn expand(&self) -> Result<Context, CryptoError> {
        let key = self.key.get(..self.algorithm.key_len()).ok_or(CryptoError)?;
        Context::new(self.algorithm, key)
    }

    /// Keys that were never negotiated.
    #[cfg(test)]
    pub(super) fn made_up(algorithm: Algorithm, secret: u8) -> Self {
        let mut keys = Self::empty();
        keys.algorithm = algorithm;
        keys.records_max = algorithm.records_max();
        keys.secret = [secret; SECRET_LEN_MAX];
        keys.derive().unwrap();
        keys.id = next_id();
        keys
    }

    #[cfg(test)]
    pub(super) fn set_records_max(&mut self, records_max: u64) {
        self.records_max = records_max;
    }

    #[cfg(test)]
    pub(super) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }
}

impl Zeroize for Keys {
    fn zeroize(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for Keys {}

fn copy(to: &mut [u8], from: &[u8], length: usize) -> Result<(), CryptoError> {
    if from.len() != length {
        return Err(CryptoError);
    }
    to.get_mut(..length).ok_or(CryptoError)?.copy_from_slice(from);
    Ok(())
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_zeroized() {
        fn on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let mut keys = Keys::empty();
        keys.secret = [1; SECRET_LEN_MAX];
        keys.key = [2; KEY_LEN_MAX];
        keys.iv = [3; NONCE_LEN];
        on_drop(&keys);
        keys.zeroize();
        assert_eq!((keys.secret, keys.key, keys.iv), ([0; 48], [0; 32], [0; 12]));
    }

    /// rustls tells secrets and keys in different ways; what does not fit together is never used.
    #[test]
    fn a_secret_of_other_keys_is_found_out() {
        let mut keys = Keys::made_up(Algorithm::Aes256Gcm, 1);
        keys.update().unwrap();
        keys.secret[47] ^= 1;
        assert_eq!(keys.update(), Err(CryptoError));
        let extracted = ConnectionTrafficSecrets::Aes256Gcm {
            key: [1; 32].into(),
            iv: [2; NONCE_LEN].into(),
        };
        assert_eq!(
            Keys::empty().load(0, &extracted, Some(&[0; SECRET_LEN_MAX]), 1),
            Err(CryptoError)
        );
    }

    #[test]
    fn a_sequence_number_is_given_once_and_never_wraps() {
        let mut keys = Keys::empty();
        keys.set_sequence(u64::MAX - 1);
        assert_eq!(keys.next_sequence(), Ok(u64::MAX - 1));
        assert_eq!(keys.next_sequence(), Err(CryptoError));
        assert_eq!(keys.next_sequence(), Err(CryptoError));
    }

    #[test]
    fn nonces() {
        let mut keys = Keys::empty();
        keys.iv = [0xff; NONCE_LEN];
        assert_eq!(
            keys.nonce(0x0102),
            [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 254, 253]
        );
        assert_eq!(
            keys.nonce_with([7; 8]),
            [255, 255, 255, 255, 7, 7, 7, 7, 7, 7, 7, 7]
        );
    }
}
