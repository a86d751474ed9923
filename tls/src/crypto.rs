//! AEADs and key derivation: the one file that names aws-lc-rs's interface for them.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk},
};

/// The AEAD of a cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Algorithm {
    pub(crate) fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// The length of TLS 1.3's traffic secrets with the hash that belongs to this AEAD (RFC 8446 appendix B.4).
    pub(crate) fn secret_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => 32,
            Self::Aes256Gcm => 48,
        }
    }

    /// How many records one key may protect (RFC 8446 section 5.5). For AES-GCM that is 2^24.5 full records, and the
    /// half of the power below leaves a margin. With ChaCha20-Poly1305 the sequence numbers would run out first.
    pub(crate) fn records_max(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 23,
            Self::ChaCha20Poly1305 => u64::MAX - (1 << 16),
        }
    }
}

/// An expanded key, on the C heap: about 600 bytes. It is zeroized when it is dropped, by aws-lc's free.
pub(crate) struct Context(LessSafeKey);

impl Context {
    /// Expands a key of the algorithm's length.
    pub(crate) fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, CryptoError> {
        let aead = match algorithm {
            Algorithm::Aes128Gcm => &AES_128_GCM,
            Algorithm::Aes256Gcm => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(aead, key).map_err(|_| CryptoError)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Decrypts `sealed`, which ends with the tag, where it lies; answers how many bytes of plaintext there are now at
    /// its front. When it fails, nothing of the ciphertext's decryption is left.
    pub(crate) fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let (ciphertext, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(CryptoError)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, ciphertext)
            .map(|plain| plain.len())
            .map_err(|_| CryptoError)
    }

    /// Encrypts `plain` where it lies, and writes the tag to where it belongs.
    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plain: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), CryptoError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_scatter(nonce, Aad::from(aad), plain, &[], tag)
            .map_err(|_| CryptoError)
    }
}

/// HKDF-Expand-Label of RFC 8446 section 7.1 with an empty context; it fills `out`.
pub(crate) fn expand_label(
    algorithm: Algorithm,
    secret: &[u8],
    label: &str,
    out: &mut [u8],
) -> Result<(), CryptoError> {
    let hash = match algorithm {
        Algorithm::Aes128Gcm | Algorithm::ChaCha20Poly1305 => HKDF_SHA256,
        Algorithm::Aes256Gcm => HKDF_SHA384,
    };
    if secret.len() != algorithm.secret_len() {
        return Err(CryptoError);
    }
    let out_len = u16::try_from(out.len()).map_err(|_| CryptoError)?;
    let label_len = u8::try_from(LABEL_PREFIX.len() + label.len()).map_err(|_| CryptoError)?;
    let info: [&[u8]; 5] = [
        &out_len.to_be_bytes(),
        &[label_len],
        LABEL_PREFIX.as_bytes(),
        label.as_bytes(),
        &[0],
    ];
    Prk::new_less_safe(hash, secret)
        .expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| CryptoError)
}

/// The library refused. For `open` that means a record that is not what was sealed; else it is a fault in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CryptoError;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;
pub(crate) const KEY_LEN_MAX: usize = 32;
pub(crate) const SECRET_LEN_MAX: usize = 48;
const LABEL_PREFIX: &str = "tls13 ";

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// RFC 8448 section 3: the server's application traffic secret and what is derived from it.
    #[test]
    fn keys_of_the_trace_of_rfc_8448() {
        let secret = hex(
            "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43",
        );
        let (mut key, mut iv) = ([0; 16], [0; 12]);
        expand_label(Algorithm::Aes128Gcm, &secret, "key", &mut key).unwrap();
        expand_label(Algorithm::Aes128Gcm, &secret, "iv", &mut iv).unwrap();
        assert_eq!(
            key.to_vec(),
            hex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56")
        );
        assert_eq!(iv.to_vec(), hex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
    }

    #[test]
    fn secrets_and_keys_of_a_wrong_length_are_refused() {
        assert!(expand_label(Algorithm::Aes256Gcm, &[0; 32], "key", &mut [0; 32]).is_err());
        assert!(Context::new(Algorithm::Aes128Gcm, &[0; 32]).is_err());
        let context = Context::new(Algorithm::Aes128Gcm, &[0; 16]).unwrap();
        assert!(context.open([0; 12], b"", &mut [0; 15]).is_err());
    }
}
