//! What the tests of several files need: the sample packets, and ways to make malformed ones.

use std::fs;
use std::path::Path;

use crate::frame::{self, Split};
use crate::wire::Sink;
use crate::{DecodeError, Packet, Version};

/// A packet from `tests/samples`, in the shortest form that says what it says.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) bytes: Vec<u8>,
}

/// All samples of both versions.
pub(crate) fn samples() -> Vec<Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/samples");
    let mut samples = Vec::new();
    for (folder, version) in [("v311", Version::V311), ("v5", Version::V5)] {
        for file in fs::read_dir(root.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let name = format!("{folder}/{}", path.file_stem().unwrap().display());
            let bytes = from_hex(&fs::read_to_string(path).unwrap());
            samples.push(Sample { name, version, bytes });
        }
    }
    assert!(samples.len() > 50, "the samples are gone");
    samples
}

/// The bytes of one sample, such as `v5/puback`.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    samples()
        .into_iter()
        .find(|sample| sample.name == name)
        .unwrap()
        .bytes
}

/// Pairs of hexadecimal digits; `#` begins a comment.
fn from_hex(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap().split_whitespace())
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Decodes bytes that are exactly one frame.
pub(crate) fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    match frame::split(bytes, usize::MAX)? {
        Split::Complete(frame) => {
            assert_eq!(frame.len(), bytes.len(), "more than one frame");
            Packet::decode(frame, version)
        }
        Split::Partial { missing } => panic!("{missing} bytes are missing"),
    }
}

/// A frame with a fixed header that fits the body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.put_varint(body.len());
    bytes.extend_from_slice(body);
    bytes
}

/// Why this frame is refused. Panics if it is not.
pub(crate) fn refusal(first: u8, body: &[u8], version: Version) -> DecodeError {
    match decode(&frame(first, body), version) {
        Ok(packet) => panic!("accepted: {packet:?}"),
        Err(error) => error,
    }
}

/// The packet's encoding.
pub(crate) fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = vec![0; packet.encoded_len(version).unwrap()];
    assert_eq!(packet.encode(version, &mut out), Ok(out.len()));
    out
}
