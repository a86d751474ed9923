use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::config_error::ConfigError;

/// A file that the secrets of every connection are written to, in the format that Wireshark and others read
/// (`SSLKEYLOGFILE`). Whoever has it can decrypt everything. Cheap to clone.
#[derive(Clone)]
pub struct KeyLogFile {
    file: Arc<Mutex<File>>,
}

impl KeyLogFile {
    /// Opens the file to append to it; one that is made is for its owner alone.
    ///
    /// # Errors
    /// [`ConfigError::Unwritable`].
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path);
        let file = file.map_err(|error| ConfigError::Unwritable {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
        })
    }
}

impl rustls::KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        for (bytes, end) in [(client_random, ' '), (secret, '\n')] {
            for byte in bytes {
                // Writing into a String does not fail.
                let _ = write!(line, "{byte:02x}");
            }
            line.push(end);
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // rustls has no way to be told; without its line that connection cannot be decrypted, which is no fault of it.
        let _ = file.write_all(line.as_bytes());
    }
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogFile")
    }
}
