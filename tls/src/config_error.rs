//! What is wrong with settings and files, for the person who gave them.

use std::{error::Error, fmt, path::PathBuf};

/// Why a configuration cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// A file could not be opened for writing.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// A source of trusted certificates holds none.
    NoRoots {
        /// Which one: a file, the system's store, the bytes given.
        source: String,
        /// What there is instead, as the end of a sentence.
        found: String,
    },
    /// A trusted certificate cannot be used.
    BadRoot {
        /// Where it came from.
        source: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Neither roots nor the switch that turns verification off were given.
    NoVerification,
    /// An ALPN name is empty, longer than 255 bytes, or given twice (RFC 7301 section 3.1).
    BadAlpn(Vec<u8>),
    /// A name is referred to that is not in the table.
    UnknownAlpn(Vec<u8>),
    /// A server has no ALPN name, and serves no clients without one either.
    NoAlpn,
    /// There is no cipher suite of this name.
    UnknownCipherSuite(String),
    /// The text is neither a DNS name nor an IP address.
    BadServerName(String),
    /// The text is no DNS name, with `*.` in front or not, and only such can be in a client's SNI (RFC 6066 section 3).
    BadHostName(String),
    /// A server name is given twice, so that the second of its configurations could never be reached.
    RepeatedHostName(String),
    /// A domain has no server name by which it could be reached.
    UnnamedDomain,
    /// rustls refused the configuration.
    Refused {
        /// What it said.
        detail: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, detail } => write!(f, "{} cannot be read: {detail}", path.display()),
            Self::Unwritable { path, detail } => {
                write!(f, "{} cannot be written to: {detail}", path.display())
            }
            Self::NoRoots { source, found } => write!(f, "{source} holds no certificate, {found}"),
            Self::BadRoot { source, detail } => write!(
                f,
                "a certificate of {source} cannot be used as a trusted authority: {detail}"
            ),
            Self::NoVerification => {
                f.write_str("no trusted authorities were given to verify the server with")
            }
            Self::BadAlpn(name) => write!(
                f,
                "ALPN name \"{}\" is empty, longer than 255 bytes or given twice",
                name.escape_ascii()
            ),
            Self::UnknownAlpn(name) => write!(f, "ALPN name \"{}\" is not in the table", name.escape_ascii()),
            Self::NoAlpn => {
                f.write_str("a server needs an ALPN name, or has to serve clients that offer none")
            }
            Self::UnknownCipherSuite(name) => write!(
                f,
                "there is no cipher suite \"{name}\"; one is called TLS13_AES_128_GCM_SHA256, for example"
            ),
            Self::BadServerName(name) => write!(f, "\"{name}\" is neither a DNS name nor an IP address"),
            Self::BadHostName(name) => write!(
                f,
                "\"{name}\" is neither a DNS name nor one like *.example.org, and clients ask for nothing else (an \
                 address is not sent)"
            ),
            Self::RepeatedHostName(name) => write!(
                f,
                "server name \"{name}\" is given twice, and only one configuration can be that of its clients"
            ),
            Self::UnnamedDomain => {
                f.write_str("a domain needs server names: without any, no client could reach it")
            }
            Self::Refused { detail } => write!(f, "the TLS configuration is not usable: {detail}"),
        }
    }
}

impl Error for ConfigError {}

/// Why an identity cannot be used: which file, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// There is no certificate in it.
    NoCertificate {
        /// The file.
        source: String,
        /// What there is instead, as the end of a sentence.
        found: String,
    },
    /// The certificate cannot be parsed.
    BadCertificate {
        /// The file.
        source: String,
        /// What is wrong.
        detail: String,
    },
    /// There is no private key in it that could be used.
    NoKey {
        /// The file.
        source: String,
        /// What there is instead, as the end of a sentence.
        found: String,
    },
    /// The private key is protected by a passphrase.
    EncryptedKey {
        /// The file.
        source: String,
    },
    /// The key cannot be parsed or is of an unknown kind.
    BadKey {
        /// The file.
        source: String,
        /// What is wrong.
        detail: String,
    },
    /// The key is not the one of the certificate.
    Mismatch {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
        /// Whether it is that of a later certificate of the chain.
        leaf_is_not_first: bool,
    },
    /// The certificate has expired.
    Expired {
        /// The file.
        source: String,
        /// When it ended.
        ended: String,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, detail } => write!(f, "{} cannot be read: {detail}", path.display()),
            Self::NoCertificate { source, found } => write!(
                f,
                "{source} holds no certificate, {found}: it needs a \"BEGIN CERTIFICATE\" section"
            ),
            Self::BadCertificate { source, detail } => {
                write!(f, "{source} cannot be used as certificate: {detail}")
            }
            Self::EncryptedKey { source } => write!(
                f,
                "the private key in {source} is encrypted: decrypt it with `openssl pkey -in FILE -out DECRYPTED_FILE`"
            ),
            Self::NoKey { source, found } => write!(
                f,
                "{source} holds no private key that could be used, {found}: it needs a PKCS#8, PKCS#1 or SEC1 \
                 \"PRIVATE KEY\" section, not encrypted"
            ),
            Self::BadKey { source, detail } => write!(f, "{source} cannot be used as private key: {detail}"),
            Self::Mismatch {
                cert,
                key,
                leaf_is_not_first: false,
            } => write!(
                f,
                "{key} is not the private key of {cert}: the pair must come from the same request"
            ),
            Self::Mismatch { cert, key, .. } => write!(
                f,
                "{key} is the private key of a later certificate of {cert}: the device's own must come first, its \
                 authorities behind it"
            ),
            Self::Expired { source, ended } => write!(f, "{source} ended {ended}: renew the certificate"),
        }
    }
}

impl Error for IdentityError {}
