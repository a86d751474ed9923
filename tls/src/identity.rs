use std::{
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    crypto::aws_lc_rs::{default_provider, sign::any_supported_type},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::x509;

/// A certificate chain and its private key, as DER; cheap to clone.
///
/// Everything is checked when it is made: the chain has a certificate, the key can be parsed and fits the leaf, and the
/// leaf has not expired. The parsed key is not kept: it is made anew for each handshake, so that an identity at rest
/// costs its DER and nothing else.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Makes an identity from PEM: certificates (the leaf first), and a PKCS#8, PKCS#1 or SEC1 private key.
    ///
    /// # Errors
    /// Says what is wrong with which of the two, see [`IdentityError`].
    pub fn from_pem(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, IdentityError> {
        Self::from_pem_at(cert_pem, key_pem, SystemTime::now())
    }

    /// [`Self::from_pem`] with another clock for the check of the validity.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_pem_at(cert_pem: &[u8], key_pem: &[u8], now: SystemTime) -> Result<Self, IdentityError> {
        let sources = Sources {
            cert: "the certificate's PEM".into(),
            key: "the key's PEM".into(),
        };
        Self::parse(cert_pem, key_pem, now, &sources)
    }

    /// Makes an identity from two PEM files.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, see [`IdentityError`].
    pub fn from_pem_files(cert: &Path, key: &Path) -> Result<Self, IdentityError> {
        let sources = Sources {
            cert: cert.display().to_string(),
            key: key.display().to_string(),
        };
        let cert_pem = read(cert)?;
        let key_pem = read(key)?;
        Self::parse(&cert_pem, &key_pem, SystemTime::now(), &sources)
    }

    /// Makes an identity from DER: certificates, the leaf first, and a PKCS#8, PKCS#1 or SEC1 private key.
    ///
    /// # Errors
    /// Says what is wrong with which of the two, see [`IdentityError`].
    pub fn from_der(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Result<Self, IdentityError> {
        let sources = Sources {
            cert: "the certificate chain".into(),
            key: "the key".into(),
        };
        let key = PrivateKeyDer::try_from(key).map_err(|_| IdentityError::NoKey {
            source: sources.key.clone(),
            encrypted: false,
        })?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self::check(chain, key, SystemTime::now(), &sources)
    }

    /// SHA-256 of the leaf certificate's DER: what AWS calls the certificateId.
    pub fn fingerprint(&self) -> [u8; 32] {
        x509::fingerprint(self.leaf())
    }

    /// The leaf certificate's DER.
    pub fn leaf(&self) -> &[u8] {
        // `check` refuses an empty chain.
        self.inner.chain.first().map_or(&[], |leaf| leaf.as_ref())
    }

    /// The chain with the parsed key, for one handshake. The check of key against certificate was done at creation.
    pub(crate) fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        let key = any_supported_type(&self.inner.key)?;
        Ok(CertifiedKey::new(self.inner.chain.clone(), key))
    }

    fn parse(
        cert_pem: &[u8],
        key_pem: &[u8],
        now: SystemTime,
        sources: &Sources,
    ) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(cert_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::BadCertificate {
                source: sources.cert.clone(),
                detail: error.to_string(),
            })?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
            _ if is_encrypted(key_pem) => IdentityError::NoKey {
                source: sources.key.clone(),
                encrypted: true,
            },
            rustls_pki_types::pem::Error::NoItemsFound => IdentityError::NoKey {
                source: sources.key.clone(),
                encrypted: false,
            },
            error => IdentityError::BadKey {
                source: sources.key.clone(),
                detail: error.to_string(),
            },
        })?;
        Self::check(chain, key, now, sources)
    }

    fn check(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        now: SystemTime,
        sources: &Sources,
    ) -> Result<Self, IdentityError> {
        let Some(leaf) = chain.first() else {
            return Err(IdentityError::NoCertificate {
                source: sources.cert.clone(),
            });
        };
        let Some((not_after, ended)) = x509::not_after(leaf) else {
            return Err(IdentityError::BadCertificate {
                source: sources.cert.clone(),
                detail: "it is no X.509 certificate".into(),
            });
        };
        if now > not_after {
            return Err(IdentityError::Expired {
                source: sources.cert.clone(),
                ended,
            });
        }
        if let Err(error) = any_supported_type(&key) {
            return Err(IdentityError::BadKey {
                source: sources.key.clone(),
                detail: error.to_string(),
            });
        }
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider()) {
            Ok(_) => Ok(Self {
                inner: Arc::new(Inner { chain, key }),
            }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch {
                cert: sources.cert.clone(),
                key: sources.key.clone(),
            }),
            Err(error) => Err(IdentityError::BadCertificate {
                source: sources.cert.clone(),
                detail: error.to_string(),
            }),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(")?;
        for byte in self.fingerprint() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

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
        /// Whether it is protected by a passphrase.
        encrypted: bool,
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
            Self::NoCertificate { source } => write!(
                f,
                "{source} holds no certificate: it needs a \"BEGIN CERTIFICATE\" section"
            ),
            Self::BadCertificate { source, detail } => {
                write!(f, "{source} cannot be used as certificate: {detail}")
            }
            Self::NoKey {
                source,
                encrypted: true,
            } => write!(
                f,
                "the private key in {source} is encrypted: decrypt it with `openssl pkey -in FILE -out DECRYPTED_FILE`"
            ),
            Self::NoKey { source, .. } => write!(
                f,
                "{source} holds no private key: it needs a PKCS#8, PKCS#1 or SEC1 \"PRIVATE KEY\" section"
            ),
            Self::BadKey { source, detail } => write!(f, "{source} cannot be used as private key: {detail}"),
            Self::Mismatch { cert, key } => write!(
                f,
                "{key} is not the private key of {cert}: the pair must come from the same request"
            ),
            Self::Expired { source, ended } => write!(f, "{source} ended {ended}: renew the certificate"),
        }
    }
}

impl Error for IdentityError {}

/// What certificate and key are called in errors.
struct Sources {
    cert: String,
    key: String,
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|error| IdentityError::Unreadable {
        path: path.to_owned(),
        detail: error.to_string(),
    })
}

/// By PKCS#8 (RFC 7468 section 11), or in the older way of RFC 1421 section 4.6.1.1.
fn is_encrypted(pem: &[u8]) -> bool {
    let holds = |marker: &[u8]| pem.windows(marker.len()).any(|window| window == marker);
    holds(b"BEGIN ENCRYPTED") || holds(b"Proc-Type: 4,ENCRYPTED")
}
