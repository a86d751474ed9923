use std::{fmt, fs, path::Path, sync::Arc};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::error::ConfigError;

/// Certificate authorities that are trusted; cheap to clone.
#[derive(Clone)]
pub struct Roots {
    pub(crate) store: Arc<RootCertStore>,
}

impl Roots {
    /// The system's trusted authorities. Those that cannot be parsed are left out.
    ///
    /// # Errors
    /// [`ConfigError::NoRoots`] if the system has none.
    pub fn system() -> Result<Self, ConfigError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::checked(store, "the system's certificate store")
    }

    /// All certificates of a PEM file.
    ///
    /// # Errors
    /// If the file cannot be read, holds no certificate, or one that cannot be used.
    pub fn from_pem_file(path: &Path) -> Result<Self, ConfigError> {
        let pem = fs::read(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        Self::parse(&pem, &path.display().to_string())
    }

    /// All certificates of a PEM file, or the one of a DER file; which it is, its first bytes tell.
    ///
    /// # Errors
    /// As [`Self::from_pem_file`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let bytes = fs::read(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        let source = path.display().to_string();
        // DER begins with a SEQUENCE whose length takes more than one byte; no text has such bytes.
        match bytes.as_slice() {
            [0x30, 0x80..=0xff, ..] => Self::add([CertificateDer::from(bytes)], &source),
            _ => Self::parse(&bytes, &source),
        }
    }

    /// All certificates in PEM bytes.
    ///
    /// # Errors
    /// If there is no certificate, or one that cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        Self::parse(pem, "the PEM given")
    }

    /// Certificates as DER.
    ///
    /// # Errors
    /// If there is no certificate, or one that cannot be used.
    pub fn from_der<D: Into<Vec<u8>>>(
        certificates: impl IntoIterator<Item = D>,
    ) -> Result<Self, ConfigError> {
        let certificates = certificates
            .into_iter()
            .map(|der| CertificateDer::from(der.into()));
        Self::add(certificates, "the DER given")
    }

    /// How many authorities there are.
    pub fn count(&self) -> usize {
        self.store.len()
    }

    fn parse(pem: &[u8], source: &str) -> Result<Self, ConfigError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ConfigError::BadRoot {
                source: source.into(),
                detail: error.to_string(),
            })?;
        Self::add(certificates, source)
    }

    fn add(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
        source: &str,
    ) -> Result<Self, ConfigError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate).map_err(|error| ConfigError::BadRoot {
                source: source.into(),
                detail: error.to_string(),
            })?;
        }
        Self::checked(store, source)
    }

    fn checked(store: RootCertStore, source: &str) -> Result<Self, ConfigError> {
        if store.is_empty() {
            return Err(ConfigError::NoRoots {
                source: source.into(),
            });
        }
        Ok(Self {
            store: Arc::new(store),
        })
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.count())
    }
}
