//! A throw-away public key infrastructure: a CA, the endpoint's certificate, and one certificate for each device.

mod certificate;
mod device;
mod error;
mod files;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pki::files::{Secrecy, make_folder, read, replace, write_new};
use crate::pki::names::ServerNames;

pub use certificate::KeyType;
pub use device::DeviceCertificate;
pub use error::PkiError;

/// A CA with its key, and the endpoint's certificate with its key; both keys are P-256.
///
/// It is for tests and simulations: nobody guards the CA's key, which lies in memory or in a file of mode 0600.
/// Certificates are valid from a day ago, the CA's for ten years, the others for one.
pub struct Pki {
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    server_der: CertificateDer<'static>,
    server_key: KeyPair,
}

impl Pki {
    /// Makes everything anew, in memory. The server's certificate stands for `localhost`, 127.0.0.1, ::1 and the DNS names
    /// and IP addresses in `names`.
    ///
    /// # Errors
    /// [`PkiError::ServerName`] for what is neither; [`PkiError::Generate`].
    pub fn throw_away<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, PkiError> {
        let names = ServerNames::with(names)?;
        let authority = Authority::create()?;
        let server_key = KeyType::P256.generate()?;
        let server_der = authority.issue_server(&names, &server_key)?.der().clone();
        Ok(Self::new(authority, server_der, server_key))
    }

    /// Reads `ca.crt`, `ca.key`, `server.crt` and `server.key` from a folder. What is missing is made, the folder too; a
    /// `server.crt` that has expired or does not stand for each of the names (as in [`throw_away`](Self::throw_away)) is
    /// issued again for its key. No other file is overwritten.
    ///
    /// # Errors
    /// A pair of which one file is missing, files that do not belong together or do not hold what their names say, a CA
    /// that has expired, names that are none, and what the operating system refuses: see [`PkiError`].
    pub fn load_or_create<S: AsRef<str>>(
        folder: &Path,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self, PkiError> {
        let names = ServerNames::with(names)?;
        make_folder(folder)?;
        let authority = match read_pair(folder, "ca.crt", "ca.key")? {
            Some(pair) => Authority::load(pair)?,
            None => {
                let authority = Authority::create()?;
                write_new(
                    &folder.join("ca.key"),
                    &authority.issuer.key().serialize_pem(),
                    Secrecy::Private,
                )?;
                write_new(&folder.join("ca.crt"), &authority.pem, Secrecy::Public)?;
                authority
            }
        };
        let path = folder.join("server.crt");
        let (server_der, server_key) = match read_pair(folder, "server.crt", "server.key")? {
            Some(pair) if pair.serves(&names, &authority, folder)? => (pair.der, pair.key),
            Some(pair) => {
                let certificate = authority.issue_server(&names, &pair.key)?;
                replace(&path, &certificate.pem(), Secrecy::Public)?;
                (certificate.der().clone(), pair.key)
            }
            None => {
                let key = KeyType::P256.generate()?;
                let certificate = authority.issue_server(&names, &key)?;
                write_new(&folder.join("server.key"), &key.serialize_pem(), Secrecy::Private)?;
                write_new(&path, &certificate.pem(), Secrecy::Public)?;
                (certificate.der().clone(), key)
            }
        };
        Ok(Self::new(authority, server_der, server_key))
    }

    fn new(authority: Authority, server_der: CertificateDer<'static>, server_key: KeyPair) -> Self {
        let Authority { pem, der, issuer } = authority;
        Self {
            ca_pem: pem,
            ca_der: der,
            issuer,
            server_der,
            server_key,
        }
    }

    /// The CA's certificate in PEM: what a client has to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA's certificate in DER.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// When the CA's validity ends, and with it that of all it signs.
    pub fn ca_not_after(&self) -> Option<OffsetDateTime> {
        let (_, certificate) = X509Certificate::from_der(&self.ca_der).ok()?;
        Some(certificate.validity().not_after.to_datetime())
    }

    /// The endpoint's certificate in DER. The CA signed it directly, so it is the whole chain.
    pub fn server_der(&self) -> &CertificateDer<'static> {
        &self.server_der
    }

    /// The endpoint's private key in DER, PKCS#8.
    pub fn server_key_der(&self) -> PrivatePkcs8KeyDer<'static> {
        self.server_key.serialize_der().into()
    }

    /// Issues a certificate for a device, with a key of its own: common name `client_id`, for client authentication only.
    /// It ends at `not_after`, or after a year, and begins a day ago, or a day before an end that is further back.
    ///
    /// # Errors
    /// [`PkiError::CommonName`] unless the client id has 1 to 64 characters; [`PkiError::NotAfter`] for an end before
    /// 1970-01-02 or after 9999 (UTC); [`PkiError::Generate`].
    pub fn issue_device(
        &self,
        client_id: &str,
        key_type: KeyType,
        not_after: Option<OffsetDateTime>,
    ) -> Result<DeviceCertificate, PkiError> {
        let params = certificate::device(client_id, OffsetDateTime::now_utc(), not_after)?;
        let key = key_type.generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(DeviceCertificate {
            client_id: client_id.to_owned(),
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cert_der: certificate.der().clone(),
            key_der: key.serialize_der().into(),
        })
    }
}

impl fmt::Debug for Pki {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki")
            .field("ca_pem", &self.ca_pem)
            .finish_non_exhaustive()
    }
}

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn create() -> Result<Self, PkiError> {
        let params = certificate::authority(OffsetDateTime::now_utc());
        let key = KeyType::P256.generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    fn load(pair: Pair) -> Result<Self, PkiError> {
        let malformed = || PkiError::Malformed {
            path: pair.path.clone(),
            expected: "a CA certificate in PEM",
        };
        let certificate = pair.certificate()?;
        if !certificate.is_ca() {
            return Err(malformed());
        }
        if ends_by_now(&certificate) {
            return Err(PkiError::Expired { path: pair.path });
        }
        let issuer = Issuer::from_ca_cert_der(&pair.der, pair.key).map_err(|_| malformed())?;
        Ok(Self {
            pem: pair.pem,
            der: pair.der,
            issuer,
        })
    }

    fn issue_server(&self, names: &ServerNames, key: &KeyPair) -> Result<rcgen::Certificate, PkiError> {
        let params = certificate::server(names, OffsetDateTime::now_utc())?;
        Ok(params.signed_by(key, &self.issuer)?)
    }
}

/// A certificate and its key, as read.
struct Pair {
    path: PathBuf,
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Pair {
    fn certificate(&self) -> Result<X509Certificate<'_>, PkiError> {
        match X509Certificate::from_der(&self.der) {
            Ok((_, certificate)) => Ok(certificate),
            Err(_) => Err(PkiError::Malformed {
                path: self.path.clone(),
                expected: "an X.509 certificate in PEM",
            }),
        }
    }

    /// Whether this is a server certificate that can be used as it is; `false` asks for a new one.
    fn serves(&self, names: &ServerNames, authority: &Authority, folder: &Path) -> Result<bool, PkiError> {
        let certificate = self.certificate()?;
        let issued_here = X509Certificate::from_der(&authority.der)
            .is_ok_and(|(_, ca)| ca.subject().as_raw() == certificate.issuer().as_raw());
        if !issued_here {
            return Err(PkiError::ForeignCertificate {
                certificate: self.path.clone(),
                ca: folder.join("ca.crt"),
            });
        }
        Ok(names.all_in(&certificate) && !ends_by_now(&certificate))
    }
}

/// Reads a certificate and its key; `None` where neither is there.
fn read_pair(folder: &Path, certificate: &str, key: &str) -> Result<Option<Pair>, PkiError> {
    let (path, key_path) = (folder.join(certificate), folder.join(key));
    let (pem, key_pem) = match (read(&path)?, read(&key_path)?) {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(PkiError::Missing {
                path: key_path,
                beside: path,
            });
        }
        (None, Some(_)) => {
            return Err(PkiError::Missing {
                path,
                beside: key_path,
            });
        }
        (Some(pem), Some(key_pem)) => (pem, key_pem),
    };
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return Err(PkiError::Malformed {
            path,
            expected: "an X.509 certificate in PEM",
        });
    };
    let Ok(key) = KeyPair::from_pem(&key_pem) else {
        return Err(PkiError::Malformed {
            path: key_path,
            expected: "a private key in PEM",
        });
    };
    let pair = Pair { path, pem, der, key };
    if pair.certificate()?.public_key().raw != pair.key.subject_public_key_info() {
        return Err(PkiError::KeyMismatch {
            certificate: pair.path,
            key: key_path,
        });
    }
    Ok(Some(pair))
}

fn ends_by_now(certificate: &X509Certificate<'_>) -> bool {
    certificate.validity().not_after.timestamp() <= OffsetDateTime::now_utc().unix_timestamp()
}
