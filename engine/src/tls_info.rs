//! What a TLS handshake agreed on, owned, for the events that tell of it.

use fleetwire_tls::{HandshakeInfo, TlsVersion};

/// What a TLS handshake agreed on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The TLS version.
    pub version: TlsVersion,
    /// The cipher suite's IANA name.
    pub cipher_suite: &'static str,
    /// The ALPN name (RFC 7301).
    pub alpn: Option<Box<[u8]>>,
    /// Server role: the client's SNI.
    pub server_name: Option<Box<str>>,
    /// The peer's leaf certificate as DER.
    pub peer_certificate: Option<Box<[u8]>>,
    /// SHA-256 of the peer's leaf certificate.
    pub peer_fingerprint: Option<[u8; 32]>,
}

impl TlsInfo {
    pub(crate) fn of(info: &HandshakeInfo<'_>) -> Self {
        Self {
            version: info.version,
            cipher_suite: info.cipher_suite,
            alpn: info.alpn.map(Box::from),
            server_name: info.server_name.map(Box::from),
            peer_certificate: info.peer_certificate.map(Box::from),
            peer_fingerprint: info.peer_fingerprint(),
        }
    }

    /// The ALPN name for a person; `none` without one.
    pub fn alpn_text(&self) -> String {
        match &self.alpn {
            Some(name) => String::from_utf8_lossy(name).into_owned(),
            None => "none".to_owned(),
        }
    }
}
