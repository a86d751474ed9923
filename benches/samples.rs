//! The sample packets, as benches and fuzz corpora want them.

use std::fs;
use std::path::Path;

use fleetwire_codec::Version;

/// A packet from `tests/samples`.
pub struct Sample {
    /// Folder and file name, such as `v5_puback`.
    pub name: String,
    /// The version that it is in.
    pub version: Version,
    /// The packet, whole.
    pub bytes: Vec<u8>,
}

/// All samples, the shortest first.
pub fn samples() -> Vec<Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/samples"))
        .find(|folder| folder.is_dir())
        .expect("the samples lie in a folder above");
    let mut samples = Vec::new();
    for (folder, version) in [("v311", Version::V311), ("v5", Version::V5)] {
        for file in fs::read_dir(root.join(folder)).expect("the samples are there") {
            let path = file.expect("the folder can be read").path();
            let stem = path.file_stem().expect("a file has a name").to_string_lossy();
            let text = fs::read_to_string(&path).expect("a sample can be read");
            samples.push(Sample {
                name: format!("{folder}_{stem}"),
                version,
                bytes: from_hex(&text),
            });
        }
    }
    samples.sort_by(|a, b| (a.bytes.len(), &a.name).cmp(&(b.bytes.len(), &b.name)));
    samples
}

/// Pairs of hexadecimal digits; `#` begins a comment.
fn from_hex(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|pair| u8::from_str_radix(pair, 16).expect("pairs of hexadecimal digits"))
        .collect()
}
