//! What is read from certificates for people and for checks; verification itself is webpki's.

use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    time::ASN1Time,
};

/// The issuer's distinguished name.
pub(crate) fn issuer(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.issuer().to_string())
}

/// When the certificate's validity ends, and that as text; `None` if it is no certificate.
pub(crate) fn not_after(der: &[u8]) -> Option<(SystemTime, String)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let end = certificate.validity().not_after;
    let seconds = u64::try_from(end.timestamp()).unwrap_or(0);
    // A date beyond what the system's clock can hold never comes.
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some((time, end.to_string()))
}

/// A time in seconds since 1970 as text, as in the dates of certificates.
pub(crate) fn date(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// SHA-256 of a certificate's DER, which is AWS's certificateId.
pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        let digest = suite.common.hash_provider.hash(der);
        if let Some(digest) = digest.as_ref().first_chunk() {
            fingerprint = *digest;
        }
    }
    fingerprint
}
