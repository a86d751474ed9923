//! What both standards demand of a single packet, from outside: which frames are refused, for what, and with which
//! answer. `docs/CONFORMANCE.md` names these tests beside the statements that they prove.

use fleetwire_codec::frame::{self, Split};
use fleetwire_codec::{DecodeError, Packet, Version};

mod faults;
mod fields;

/// A frame with a fixed header that fits the body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).unwrap();
    assert!(len < 0x80, "one byte of remaining length");
    [&[first, len], body].concat()
}

pub(crate) fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    match frame::split(bytes, 10_000)? {
        Split::Complete(frame) => {
            assert_eq!(frame.len(), bytes.len(), "more than one frame");
            Packet::decode(frame, version)
        }
        Split::Partial { missing } => panic!("{missing} bytes are missing of {bytes:x?}"),
    }
}

/// A CONNECT with these flags; `rest` begins with the property length in 5.0.
pub(crate) fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    frame(0x10, &[b"\0\x04MQTT", &[level, flags, 0, 60][..], rest].concat())
}

/// A packet of 5.0 with this block of properties between two parts.
pub(crate) fn with_properties(first: u8, before: &[u8], properties: &[u8], after: &[u8]) -> Vec<u8> {
    let len = [u8::try_from(properties.len()).unwrap()];
    frame(first, &[before, &len[..], properties, after].concat())
}
