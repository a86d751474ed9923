//! What a protected record looks like in each version.

use std::ops::Range;

use rustls::AlertDescription;

use super::{PLAIN_LEN_MAX, keys::Keys};
use crate::{
    crypto::{Algorithm, Context, CryptoError, TAG_LEN},
    diagnosis,
    error::TlsError,
};

/// The form of records (RFC 8446 section 5.2, RFC 5246 section 6.2.3.3).
///
/// ```text
/// TLS 1.3            23 3 3 length │ plaintext, its type, zeros │ tag
/// TLS 1.2, AES-GCM   type 3 3 length │ nonce, 8 bytes │ plaintext │ tag      RFC 5288 section 3
/// TLS 1.2, ChaCha20  type 3 3 length │ plaintext │ tag                      RFC 7905 section 2
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Tls13,
    Tls12Gcm,
    Tls12ChaCha,
}

impl Format {
    pub(super) fn of(tls13: bool, algorithm: Algorithm) -> Self {
        match algorithm {
            _ if tls13 => Self::Tls13,
            Algorithm::Aes128Gcm | Algorithm::Aes256Gcm => Self::Tls12Gcm,
            Algorithm::ChaCha20Poly1305 => Self::Tls12ChaCha,
        }
    }

    pub(super) fn is_tls12(self) -> bool {
        self != Self::Tls13
    }

    /// Bytes in front of the plaintext.
    pub(super) fn head(self) -> usize {
        match self {
            Self::Tls12Gcm => HEADER_LEN + EXPLICIT_NONCE_LEN,
            Self::Tls13 | Self::Tls12ChaCha => HEADER_LEN,
        }
    }

    /// Bytes behind it.
    pub(super) fn tail(self) -> usize {
        match self {
            Self::Tls13 => 1 + TAG_LEN,
            Self::Tls12Gcm | Self::Tls12ChaCha => TAG_LEN,
        }
    }

    /// The length of the record at the front with its header; `None` while the header is not there.
    pub(super) fn record_len(self, bytes: &[u8]) -> Result<Option<usize>, TlsError> {
        let Some(&[content_type, major, _, high, low]) = bytes.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        if !matches!(content_type, 20..=24) || major != 3 {
            let alert = Some(AlertDescription::DecodeError.into());
            return Err(diagnosis::protocol("what came is no record", alert));
        }
        // RFC 8446 section 5: everything is encrypted now, and says so. An attacker can add a change_cipher_spec or an
        // alert in the clear at any time; it only ends the connection, as any change of a byte does.
        if self == Self::Tls13 && content_type != APPLICATION_DATA {
            let alert = Some(AlertDescription::UnexpectedMessage.into());
            return Err(diagnosis::protocol("a record is not encrypted", alert));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        // RFC 8446 section 5.2, RFC 5246 section 6.2.3.
        let length_max = match self {
            Self::Tls13 => (1 << 14) + 256,
            Self::Tls12Gcm | Self::Tls12ChaCha => (1 << 14) + 2048,
        };
        if length > length_max {
            let alert = Some(AlertDescription::RecordOverflow.into());
            return Err(diagnosis::protocol("a record is longer than any may be", alert));
        }
        Ok(Some(HEADER_LEN + length))
    }

    /// Opens a whole record where it lies; answers the content's type and where the content is.
    ///
    /// In TLS 1.3 a record without a type in it is answered as of type 0, which there is not (RFC 8446 section 5.4).
    pub(super) fn open(
        self,
        keys: &Keys,
        sequence: u64,
        context: &Context,
        record: &mut [u8],
    ) -> Result<(u8, Range<usize>), CryptoError> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_LEN>().ok_or(CryptoError)?;
        match self {
            Self::Tls13 => {
                let length = context.open(keys.nonce(sequence), header, body)?;
                // RFC 8446 section 5.4: padding counts too. The caller refuses what is so long.
                if length > PLAIN_LEN_MAX + 1 {
                    return Ok((0, HEADER_LEN..HEADER_LEN + length));
                }
                let inner = body.get(..length).ok_or(CryptoError)?;
                let padded = inner.iter().rposition(|byte| *byte != 0);
                Ok(match padded.and_then(|at| Some((*inner.get(at)?, at))) {
                    Some((content_type, length)) => (content_type, HEADER_LEN..HEADER_LEN + length),
                    None => (0, HEADER_LEN..HEADER_LEN),
                })
            }
            Self::Tls12Gcm => {
                let (explicit, body) = body
                    .split_first_chunk_mut::<EXPLICIT_NONCE_LEN>()
                    .ok_or(CryptoError)?;
                let plain_len = body.len().checked_sub(TAG_LEN).ok_or(CryptoError)?;
                let aad = tls12_aad(sequence, header, plain_len);
                let length = context.open(keys.nonce_with(*explicit), &aad, body)?;
                let start = HEADER_LEN + EXPLICIT_NONCE_LEN;
                Ok((header[0], start..start + length))
            }
            Self::Tls12ChaCha => {
                let plain_len = body.len().checked_sub(TAG_LEN).ok_or(CryptoError)?;
                let aad = tls12_aad(sequence, header, plain_len);
                let length = context.open(keys.nonce(sequence), &aad, body)?;
                Ok((header[0], HEADER_LEN..HEADER_LEN + length))
            }
        }
    }

    /// Seals the content that lies in `record` between the room for what goes around it.
    pub(super) fn seal(
        self,
        keys: &Keys,
        sequence: u64,
        context: &Context,
        content_type: u8,
        record: &mut [u8],
    ) -> Result<(), CryptoError> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_LEN>().ok_or(CryptoError)?;
        let [high, low] = u16::try_from(body.len()).map_err(|_| CryptoError)?.to_be_bytes();
        let (plain, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(CryptoError)?;
        let nonce = keys.nonce(sequence);
        match self {
            Self::Tls13 => {
                *header = [APPLICATION_DATA, 3, 3, high, low];
                *plain.last_mut().ok_or(CryptoError)? = content_type;
                context.seal(nonce, header, plain, tag)
            }
            Self::Tls12Gcm => {
                *header = [content_type, 3, 3, high, low];
                let (explicit, plain) = plain
                    .split_first_chunk_mut::<EXPLICIT_NONCE_LEN>()
                    .ok_or(CryptoError)?;
                let aad = tls12_aad(sequence, header, plain.len());
                let [_, _, _, _, sent @ ..] = nonce;
                *explicit = sent;
                context.seal(nonce, &aad, plain, tag)
            }
            Self::Tls12ChaCha => {
                *header = [content_type, 3, 3, high, low];
                let aad = tls12_aad(sequence, header, plain.len());
                context.seal(nonce, &aad, plain, tag)
            }
        }
    }
}

/// RFC 5246 section 6.2.3.3: sequence number, type, version, and the length of the plaintext.
fn tls12_aad(sequence: u64, header: &[u8; HEADER_LEN], plain_len: usize) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    let [content_type, major, minor, ..] = *header;
    let [high, low] = (plain_len as u16).to_be_bytes();
    [a, b, c, d, e, f, g, h, content_type, major, minor, high, low]
}

pub(super) const HEADER_LEN: usize = 5;
pub(super) const APPLICATION_DATA: u8 = 23;
const EXPLICIT_NONCE_LEN: usize = 8;
/// Header, message of 5 bytes, content type, tag.
pub(super) const KEY_UPDATE_RECORD_LEN: usize = HEADER_LEN + 5 + 1 + TAG_LEN;
