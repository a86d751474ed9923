use std::{fmt, path::Path, sync::Arc};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{config_error::ConfigError, files};

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
        Self::checked(store, "the system's certificate store", || "it is empty".into())
    }

    /// All certificates of a PEM file, or the one of a DER file.
    ///
    /// # Errors
    /// If the file cannot be read, holds no certificate, or one that cannot be used.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let bytes = files::read(path).map_err(|detail| ConfigError::Unreadable {
            path: path.to_owned(),
            detail,
        })?;
        let source = path.display().to_string();
        match files::is_der(&bytes) {
            true => Self::add([CertificateDer::from(bytes)], &source),
            false => Self::parse(&bytes, &source),
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
        let store = store_of(certificates, source)?;
        Self::checked(store, source, || files::describe(pem))
    }

    fn add(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
        source: &str,
    ) -> Result<Self, ConfigError> {
        Self::checked(store_of(certificates, source)?, source, || "it is empty".into())
    }

    fn checked(
        store: RootCertStore,
        source: &str,
        found: impl FnOnce() -> String,
    ) -> Result<Self, ConfigError> {
        if store.is_empty() {
            return Err(ConfigError::NoRoots {
                source: source.into(),
                found: found(),
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

fn store_of(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    source: &str,
) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate).map_err(|error| ConfigError::BadRoot {
            source: source.into(),
            detail: error.to_string(),
        })?;
    }
    Ok(store)
}
