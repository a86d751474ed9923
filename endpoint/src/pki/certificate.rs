//! What stands in the certificates: one function for each of the three kinds.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SerialNumber,
};
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::pki::PkiError;
use crate::pki::names::ServerNames;

/// Kind of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on the curve P-256: quick to make and to sign with.
    #[default]
    P256,
    /// RSA with 2048 bits: takes about a tenth of a second to make.
    Rsa2048,
}

impl KeyType {
    pub(crate) fn generate(self) -> Result<KeyPair, PkiError> {
        Ok(KeyPair::generate_for(match self {
            Self::P256 => &PKCS_ECDSA_P256_SHA256,
            Self::Rsa2048 => &PKCS_RSA_SHA256,
        })?)
    }
}

/// A certificate authority that may sign leaves only.
pub(crate) fn authority(now: OffsetDateTime) -> CertificateParams {
    let [first, second] = random();
    let mut params = between(now, now + CA_LIFETIME);
    // The random part keeps two CAs apart in a trust store, which looks them up by this name.
    let name = format!("Fleetwire local CA {:08x}", (first ^ second) as u32);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The endpoint's own certificate.
pub(crate) fn server(names: &ServerNames, now: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = leaf(now, now + LEAF_LIFETIME, ExtendedKeyUsagePurpose::ServerAuth);
    params
        .distinguished_name
        .push(DnType::CommonName, "Fleetwire local endpoint");
    params.subject_alt_names = names.to_san()?;
    Ok(params)
}

/// A device's certificate: its common name is the client id.
pub(crate) fn device(
    client_id: &str,
    now: OffsetDateTime,
    not_after: Option<OffsetDateTime>,
) -> Result<CertificateParams, PkiError> {
    if !(1..=COMMON_NAME_CHARS_MAX).contains(&client_id.chars().count()) {
        return Err(PkiError::CommonName {
            client_id: client_id.to_owned(),
        });
    }
    let end = not_after
        .unwrap_or(now + LEAF_LIFETIME)
        .checked_to_offset(UtcOffset::UTC)
        .filter(|end| *end >= OffsetDateTime::UNIX_EPOCH + CLOCK_SKEW)
        .ok_or(PkiError::NotAfter)?;
    let mut params = leaf(now, end, ExtendedKeyUsagePurpose::ClientAuth);
    // One that has ended is what a test of expired certificates needs; it was valid once.
    params.not_before = params.not_before.min(end - CLOCK_SKEW);
    params.distinguished_name.push(DnType::CommonName, client_id);
    Ok(params)
}

fn leaf(
    now: OffsetDateTime,
    not_after: OffsetDateTime,
    purpose: ExtendedKeyUsagePurpose,
) -> CertificateParams {
    let mut params = between(now, not_after);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn between(now: OffsetDateTime, not_after: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // A device whose clock lags must not take a fresh certificate for one of the future.
    params.not_before = now - CLOCK_SKEW;
    params.not_after = not_after;
    params.serial_number = Some(serial_number());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// 16 random bytes; positive and never shortened, as the first one is between 0x40 and 0x7F (RFC 5280 section 4.1.2.2).
fn serial_number() -> SerialNumber {
    let mut bytes = random().map(u64::to_be_bytes).concat();
    bytes[0] = bytes[0] & 0x3F | 0x40;
    SerialNumber::from(bytes)
}

/// 128 bits from the operating system's random source, by way of the keys that it gives to std's hash maps. They make
/// serial numbers and names unique; no secret is derived from them.
fn random() -> [u64; 2] {
    let state = RandomState::new();
    [state.hash_one(0), state.hash_one(1)]
}

const CLOCK_SKEW: Duration = Duration::days(1);
const CA_LIFETIME: Duration = Duration::days(10 * 365);
const LEAF_LIFETIME: Duration = Duration::days(365);

/// RFC 5280 appendix A: `ub-common-name INTEGER ::= 64`.
const COMMON_NAME_CHARS_MAX: usize = 64;
