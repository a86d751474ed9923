//! Bytes of certificates and keys: read from files up to a bound, told apart, and described when they are something else.

use std::{fs::File, io::Read, path::Path};

use crate::x509;

/// Reads a whole file, if it is not larger than any file of certificates.
///
/// # Errors
/// Why it cannot be read, as the end of a sentence.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err("it is a directory, and a file is needed".to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more shows that there is more.
    let limit = FILE_LEN_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_LEN_MAX {
        return Err(format!(
            "it is larger than {} MiB, so it holds something else than certificates",
            FILE_LEN_MAX >> 20
        ));
    }
    Ok(bytes)
}

/// Whether it is DER: a SEQUENCE whose length takes more than one byte, as no text has it, or a short one, which can only be a
/// key and begins with its version then.
pub(crate) fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x80..=0xff, ..] => true,
        [0x30, length, content @ ..] => {
            usize::from(*length) == content.len() && content.first() == Some(&0x02)
        }
        _ => false,
    }
}

/// Whether a key in PEM is protected by a passphrase: by PKCS#8 (RFC 7468 section 11), or in the older way of RFC 1421
/// section 4.6.1.1.
pub(crate) fn is_encrypted(pem: &[u8]) -> bool {
    let holds = |marker: &[u8]| pem.windows(marker.len()).any(|window| window == marker);
    holds(b"BEGIN ENCRYPTED") || holds(b"Proc-Type: 4,ENCRYPTED")
}

/// What bytes are that are not what was looked for, as the end of a sentence.
pub(crate) fn describe(bytes: &[u8]) -> String {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return "it is empty".to_owned();
    }
    if is_der(bytes) {
        return match x509::issuer(bytes) {
            Some(_) => "it is a certificate as DER",
            None => "it is binary (DER)",
        }
        .to_owned();
    }
    let sections: Vec<_> = bytes.split(|byte| *byte == b'\n').filter_map(section).collect();
    match sections.as_slice() {
        [] => "it is no PEM".to_owned(),
        sections => {
            let shown: Vec<_> = sections.iter().take(SECTIONS_SHOWN).map(String::as_str).collect();
            format!("it holds {}", shown.join(", "))
        }
    }
}

/// The label of a line that begins a section of PEM (RFC 7468 section 2).
fn section(line: &[u8]) -> Option<String> {
    let label = line
        .trim_ascii()
        .strip_prefix(b"-----BEGIN ")?
        .strip_suffix(b"-----")?;
    let shown = label.get(..LABEL_SHOWN.min(label.len()))?;
    Some(format!("\"{}\"", shown.escape_ascii()))
}

/// The system's bundles of authorities are 200 KiB.
const FILE_LEN_MAX: usize = 16 << 20;
const SECTIONS_SHOWN: usize = 4;
const LABEL_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_instead() {
        for (bytes, told) in [
            (b"".as_slice(), "it is empty"),
            (b" \r\n", "it is empty"),
            (b"\x30\x82\x01\x00", "it is binary (DER)"),
            (b"hello", "it is no PEM"),
            (
                b"-----BEGIN PUBLIC KEY-----\r\nAAAA\r\n-----END PUBLIC KEY-----\r\n",
                "it holds \"PUBLIC KEY\"",
            ),
            (
                b"-----BEGIN A-----\n-----BEGIN \xff-----\n",
                "it holds \"A\", \"\\xff\"",
            ),
        ] {
            assert_eq!(describe(bytes), told);
        }
    }

    /// /dev/zero never ends.
    #[test]
    fn a_file_without_end_is_refused() {
        let told = read(Path::new("/dev/zero")).unwrap_err();
        assert!(told.contains("larger than 16 MiB"), "{told}");
        let told = read(Path::new("/")).unwrap_err();
        assert!(told.contains("directory"), "{told}");
    }
}
