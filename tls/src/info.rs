use std::fmt;

use crate::x509;

/// What a handshake negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeInfo<'a> {
    /// The version.
    pub version: TlsVersion,
    /// The cipher suite's IANA name.
    pub cipher_suite: &'static str,
    /// Whether it went on with an earlier session: the peer's certificate is then the one that it showed in that one.
    pub resumed: bool,
    /// The ALPN name.
    pub alpn: Option<&'a [u8]>,
    /// Server: the DNS name in the client's SNI, in lower case and without a dot at its end (RFC 6066 section 3).
    pub server_name: Option<&'a str>,
    /// The peer's leaf certificate as DER.
    pub peer_certificate: Option<&'a [u8]>,
}

impl HandshakeInfo<'_> {
    /// SHA-256 of the peer's leaf certificate: AWS's certificateId.
    pub fn peer_fingerprint(&self) -> Option<[u8; 32]> {
        self.peer_certificate.map(x509::fingerprint)
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    Tls12,
    /// TLS 1.3, RFC 8446.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

/// What is kept for [`crate::TlsSession::info`].
pub(crate) struct Info {
    pub(crate) version: TlsVersion,
    pub(crate) cipher_suite: &'static str,
    pub(crate) resumed: bool,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) peer_certificate: Option<Box<[u8]>>,
}
