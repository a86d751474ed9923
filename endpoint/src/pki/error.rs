use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why certificates could not be made, read or written. Each names the file and says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum PkiError {
    /// A file or folder could not be read.
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A file or folder could not be written.
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A file is there already, and nothing is overwritten unasked.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// One file of a certificate and its key is there, the other is not.
    Missing {
        /// The file that is missing.
        path: PathBuf,
        /// The file that it belongs to.
        beside: PathBuf,
    },
    /// A file does not hold what its name says.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate belongs to another key.
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The server's certificate was not issued by the CA that lies beside it.
    ForeignCertificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// The CA's file.
        ca: PathBuf,
    },
    /// The CA's certificate is no longer valid.
    Expired {
        /// The CA's file.
        path: PathBuf,
    },
    /// A server name is neither a DNS name nor an IP address.
    ServerName {
        /// The name as it was given.
        name: String,
    },
    /// A client id cannot be the common name of a certificate (RFC 5280 appendix A, ub-common-name).
    CommonName {
        /// The client id.
        client_id: String,
    },
    /// A client id cannot be the name of a file.
    FileName {
        /// The client id.
        client_id: String,
    },
    /// A certificate's end lies before 1970-01-02, or too far in the future.
    NotAfter,
    /// The certificate library refused.
    Generate(rcgen::Error),
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::Write { path, error } => write!(f, "cannot write {}: {error}", path.display()),
            Self::Exists { path } => {
                write!(
                    f,
                    "{} is there already and is not overwritten: remove it or force",
                    path.display()
                )
            }
            Self::Missing { path, beside } => write!(
                f,
                "{} is missing but {} is there: bring it back, or remove both to have them made anew",
                path.display(),
                beside.display()
            ),
            Self::Malformed { path, expected } => {
                write!(
                    f,
                    "{} does not hold {expected}: replace it or remove it",
                    path.display()
                )
            }
            Self::KeyMismatch { certificate, key } => write!(
                f,
                "{} does not belong to the key in {}: bring the pair back, or remove both",
                certificate.display(),
                key.display()
            ),
            Self::ForeignCertificate { certificate, ca } => write!(
                f,
                "{} was not issued by {}: remove it and its key to have them issued anew",
                certificate.display(),
                ca.display()
            ),
            Self::Expired { path } => write!(
                f,
                "{} is no longer valid: remove the files beside it too and have all made anew",
                path.display()
            ),
            Self::ServerName { name } => {
                write!(f, "server name {name:?} is neither a DNS name nor an IP address")
            }
            Self::CommonName { client_id } => {
                write!(
                    f,
                    "client id {client_id:?} cannot be a common name: 1 to 64 characters are needed"
                )
            }
            Self::FileName { client_id } => {
                write!(
                    f,
                    "client id {client_id:?} cannot be a file name: '/', NUL, a leading '.' are refused"
                )
            }
            Self::NotAfter => {
                f.write_str("no certificate can end then: choose a date between 1970-01-02 and 9999-12-31")
            }
            Self::Generate(error) => write!(f, "cannot make a certificate: {error}"),
        }
    }
}

impl Error for PkiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { error, .. } | Self::Write { error, .. } => Some(error),
            Self::Generate(error) => Some(error),
            Self::Exists { .. }
            | Self::Missing { .. }
            | Self::Malformed { .. }
            | Self::KeyMismatch { .. }
            | Self::ForeignCertificate { .. }
            | Self::Expired { .. }
            | Self::ServerName { .. }
            | Self::CommonName { .. }
            | Self::FileName { .. }
            | Self::NotAfter => None,
        }
    }
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Generate(error)
    }
}
