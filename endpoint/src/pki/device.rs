use std::fmt;
use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::pki::PkiError;
use crate::pki::files::{Secrecy, make_folder, replace, write_new};

/// A device's certificate with its private key.
#[non_exhaustive]
pub struct DeviceCertificate {
    /// The client id that it was issued for: its common name.
    pub client_id: String,
    /// The certificate in PEM.
    pub cert_pem: String,
    /// The private key in PEM, PKCS#8.
    pub key_pem: String,
    /// The certificate in DER.
    pub cert_der: CertificateDer<'static>,
    /// The private key in DER, PKCS#8.
    pub key_der: PrivatePkcs8KeyDer<'static>,
}

impl DeviceCertificate {
    /// Writes `CLIENT_ID.crt` (mode 0644) and `CLIENT_ID.key` (mode 0600) into a folder, which is made if it is missing,
    /// and returns the two paths. With `overwrite`, files of these names are replaced.
    ///
    /// # Errors
    /// [`PkiError::Exists`] where one of the files is there and `overwrite` is off, and then neither is written;
    /// [`PkiError::FileName`] where the client id cannot name a file; [`PkiError::Write`].
    pub fn write(&self, folder: &Path, overwrite: bool) -> Result<(PathBuf, PathBuf), PkiError> {
        if self.client_id.starts_with('.') || self.client_id.contains(['/', '\\', '\0']) {
            return Err(PkiError::FileName {
                client_id: self.client_id.clone(),
            });
        }
        let certificate = folder.join(format!("{}.crt", self.client_id));
        let key = folder.join(format!("{}.key", self.client_id));
        make_folder(folder)?;
        if overwrite {
            replace(&key, &self.key_pem, Secrecy::Private)?;
            replace(&certificate, &self.cert_pem, Secrecy::Public)?;
        } else {
            // Looked at before the first is written, so that no key is left without its certificate.
            for path in [&key, &certificate] {
                if path.exists() {
                    return Err(PkiError::Exists { path: path.clone() });
                }
            }
            write_new(&key, &self.key_pem, Secrecy::Private)?;
            write_new(&certificate, &self.cert_pem, Secrecy::Public)?;
        }
        Ok((certificate, key))
    }
}

impl fmt::Debug for DeviceCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCertificate")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
