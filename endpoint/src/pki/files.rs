//! Writing certificates and keys: the mode is right from the first byte, and nothing is overwritten unasked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::pki::PkiError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Mode 0600: private keys.
    Private,
    /// Mode 0644: certificates.
    Public,
}

/// Writes a new file. A file of that name that is there already stays as it is.
pub(crate) fn write_new(path: &Path, contents: &str, secrecy: Secrecy) -> Result<(), PkiError> {
    let file = match create(path, secrecy) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(PkiError::Exists {
                path: path.to_owned(),
            });
        }
        Err(error) => {
            return Err(PkiError::Write {
                path: path.to_owned(),
                error,
            });
        }
    };
    fill(file, contents).map_err(|error| {
        // Half a key is worse than none: the next start would stumble over it.
        let _ = fs::remove_file(path);
        PkiError::Write {
            path: path.to_owned(),
            error,
        }
    })
}

/// Writes a file, in place of one of that name. The new one appears whole or not at all, and it never takes over the
/// mode of the old one.
pub(crate) fn replace(path: &Path, contents: &str, secrecy: Secrecy) -> Result<(), PkiError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = create(&beside, secrecy)
        .and_then(|file| fill(file, contents))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        PkiError::Write {
            path: path.to_owned(),
            error,
        }
    })
}

/// The file's text, or `None` where there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PkiError::Read {
            path: path.to_owned(),
            error,
        }),
    }
}

/// Makes a folder, with those above it, that only its owner may enter. One that is there stays as it is.
pub(crate) fn make_folder(path: &Path) -> Result<(), PkiError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| PkiError::Write {
        path: path.to_owned(),
        error,
    })
}

fn create(path: &Path, secrecy: Secrecy) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match secrecy {
            Secrecy::Private => 0o600,
            Secrecy::Public => 0o644,
        },
    );
    #[cfg(not(unix))]
    let _ = secrecy;
    options.open(path)
}

fn fill(mut file: File, contents: &str) -> io::Result<()> {
    file.write_all(contents.as_bytes())?;
    file.sync_all()
}
