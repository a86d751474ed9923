//! A record layer that is no secret, but notices when a record is not opened, or opened twice.

use std::ops::Range;

use fleetwire_codec::DecodeError;
use fleetwire_codec::buffer::{Framing, RecvBuf};

/// As TLS 1.3 has them: a header of five bytes, a content type and a tag of 16.
pub(super) const FRAMING: Framing = Framing {
    head: 5,
    tail: 17,
    plain_max: 16_384,
};

/// Makes a record of the plaintext at `plain` in `block`, with the room around it, and returns where it lies.
pub(super) fn seal(block: &mut [u8], plain: Range<usize>) -> Range<usize> {
    let len = plain.len() + usize::from(FRAMING.tail);
    let record = plain.start - usize::from(FRAMING.head)..plain.end + usize::from(FRAMING.tail);
    block[plain.clone()].iter_mut().for_each(|byte| *byte ^= MASK);
    block[record.start..plain.start].copy_from_slice(&[23, 3, 3, (len >> 8) as u8, len as u8]);
    block[plain.end..record.end].fill(TAG);
    record
}

/// A record of its own with this plaintext.
pub(super) fn sealed(plain: &[u8]) -> Vec<u8> {
    let start = usize::from(FRAMING.head);
    let mut block = vec![0; start + plain.len() + usize::from(FRAMING.tail)];
    block[start..start + plain.len()].copy_from_slice(plain);
    let record = seal(&mut block, start..start + plain.len());
    assert_eq!(record, 0..block.len());
    block
}

/// Where the first record's plaintext lies, once all of the record is there; the record ends 17 bytes behind it.
pub(super) fn first_plain(bytes: &[u8]) -> Option<Range<usize>> {
    let (&[_, _, _, high, low], _) = bytes.split_first_chunk()?;
    let end = usize::from(FRAMING.head) + usize::from(u16::from_be_bytes([high, low]));
    let tail = usize::from(FRAMING.tail);
    let record = bytes.get(..end)?;
    assert!(record.starts_with(&[23, 3, 3]), "the records are out of step");
    assert_eq!(record[end - tail..], [TAG; 17], "not a sealed record");
    Some(usize::from(FRAMING.head)..end - tail)
}

/// Opens the first record in place. False if it is not whole yet.
pub(super) fn open(buf: &mut RecvBuf, packet_len_max: usize) -> Result<bool, DecodeError> {
    let sealed = buf.sealed_bytes();
    let Some(plain) = first_plain(sealed) else {
        return Ok(false);
    };
    let len = plain.end + usize::from(FRAMING.tail);
    unmask(&mut sealed[plain.clone()]);
    sealed[plain.end..len].fill(0);
    buf.opened(len, plain, packet_len_max)?;
    Ok(true)
}

pub(super) fn unmask(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte ^= MASK);
}

const MASK: u8 = 0x55;
const TAG: u8 = 0xee;
