use std::{fmt, path::Path, sync::Arc, time::SystemTime};

use rustls::{
    InconsistentKeys, SignatureAlgorithm,
    crypto::aws_lc_rs::{
        default_provider,
        sign::{any_ecdsa_type, any_supported_type},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{config_error::IdentityError, files, x509};

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
    algorithm: SignatureAlgorithm,
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
        let chain = chain_of_pem(cert_pem, &sources)?;
        Self::check(chain, key_of_pem(key_pem, &sources)?, now, &sources)
    }

    /// Makes an identity from two files, which may be one and the same: certificates (the leaf first), and a PKCS#8,
    /// PKCS#1 or SEC1 private key, each as PEM or as DER.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, see [`IdentityError`].
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, IdentityError> {
        let sources = Sources {
            cert: cert.display().to_string(),
            key: key.display().to_string(),
        };
        let (cert, key) = (read(cert)?, read(key)?);
        let chain = if files::is_der(&cert) {
            vec![CertificateDer::from(cert)]
        } else {
            chain_of_pem(&cert, &sources)?
        };
        let key = if files::is_der(&key) {
            key_of_der(key, &sources)?
        } else {
            key_of_pem(&key, &sources)?
        };
        Self::check(chain, key, SystemTime::now(), &sources)
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
        let key = key_of_der(key, &sources)?;
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

    /// Whether both show the same certificates, the intermediate ones included.
    pub(crate) fn has_chain_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.inner.chain == other.inner.chain
    }

    /// The chain with the parsed key, for one handshake. The check of key against certificate was done at creation.
    pub(crate) fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        // Trying all types parses an EC key twice, and that is a twelfth of a handshake.
        let parsed = match self.inner.algorithm {
            SignatureAlgorithm::ECDSA => any_ecdsa_type(&self.inner.key),
            _ => any_supported_type(&self.inner.key),
        };
        Ok(CertifiedKey::new(self.inner.chain.clone(), parsed?))
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
                found: "it is empty".into(),
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
        let parsed = any_supported_type(&key).map_err(|error| IdentityError::BadKey {
            source: sources.key.clone(),
            detail: error.to_string(),
        })?;
        let algorithm = parsed.algorithm();
        match CertifiedKey::new(chain.clone(), parsed).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self {
                inner: Arc::new(Inner {
                    chain,
                    key,
                    algorithm,
                }),
            }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch {
                leaf_is_not_first: fits_a_later_one(chain, &key),
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

/// What certificate and key are called in errors.
struct Sources {
    cert: String,
    key: String,
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    files::read(path).map_err(|detail| IdentityError::Unreadable {
        path: path.to_owned(),
        detail,
    })
}

fn chain_of_pem(pem: &[u8], sources: &Sources) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err(IdentityError::NoCertificate {
            source: sources.cert.clone(),
            found: files::describe(pem),
        }),
        Ok(chain) => Ok(chain),
        Err(error) => Err(IdentityError::BadCertificate {
            source: sources.cert.clone(),
            detail: error.to_string(),
        }),
    }
}

fn key_of_pem(pem: &[u8], sources: &Sources) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        _ if files::is_encrypted(pem) => IdentityError::EncryptedKey {
            source: sources.key.clone(),
        },
        rustls_pki_types::pem::Error::NoItemsFound => IdentityError::NoKey {
            source: sources.key.clone(),
            found: files::describe(pem),
        },
        error => IdentityError::BadKey {
            source: sources.key.clone(),
            detail: error.to_string(),
        },
    })
}

fn key_of_der(der: Vec<u8>, sources: &Sources) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let found = files::describe(&der);
    PrivateKeyDer::try_from(der).map_err(|_| IdentityError::NoKey {
        source: sources.key.clone(),
        found,
    })
}

/// Whether the key is that of a certificate behind the first.
fn fits_a_later_one(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> bool {
    let mut later = chain.into_iter().skip(1);
    later.any(|certificate| {
        CertifiedKey::from_der(vec![certificate], key.clone_key(), &default_provider()).is_ok()
    })
}
