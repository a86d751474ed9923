//! Handshake messages after the handshake: joined out of several records, told apart within one.

use rustls::AlertDescription;

use crate::{diagnosis, error::TlsError};

/// One message (RFC 8446 section 4).
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
    /// Whether the record ends with it.
    pub(super) ends_record: bool,
}

/// The beginning of a message whose end has not come yet; empty nearly always.
#[derive(Default)]
pub(super) struct Messages {
    partial: Vec<u8>,
}

impl Messages {
    /// Whether the next record must go on with a message.
    pub(super) fn are_split(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes the content of a handshake record and hands out each message that is complete with it.
    pub(super) fn feed(
        &mut self,
        content: &[u8],
        mut handle: impl FnMut(Message<'_>) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if self.partial.is_empty() {
            let rest = split(content, &mut handle)?;
            self.partial.extend_from_slice(rest);
        } else {
            self.partial.extend_from_slice(content);
            let rest = split(&self.partial, &mut handle)?.len();
            if rest == 0 {
                self.partial = Vec::new();
            } else {
                self.partial.drain(..self.partial.len() - rest);
            }
        }
        Ok(())
    }
}

/// Hands out the complete messages; what is left is the beginning of one.
fn split<'a>(
    mut bytes: &'a [u8],
    handle: &mut impl FnMut(Message<'_>) -> Result<(), TlsError>,
) -> Result<&'a [u8], TlsError> {
    while let Some((&[kind, high, middle, low], after)) = bytes.split_first_chunk() {
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > MESSAGE_LEN_MAX {
            let detail = "a handshake message is longer than is accepted here";
            let alert = AlertDescription::DecodeError.into();
            return Err(diagnosis::protocol(detail, Some(alert)));
        }
        let Some((body, after)) = after.split_at_checked(length) else {
            break;
        };
        handle(Message {
            kind,
            body,
            ends_record: after.is_empty(),
        })?;
        bytes = after;
    }
    Ok(bytes)
}

/// Tickets and key updates are much shorter. With a record behind it this also bounds what is kept of a split one.
const MESSAGE_LEN_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, length: usize) -> Vec<u8> {
        let mut message = vec![kind, 0, (length >> 8) as u8, length as u8];
        message.extend(vec![kind; length]);
        message
    }

    fn all(messages: &mut Messages, content: &[u8]) -> Vec<(u8, usize, bool)> {
        let mut seen = Vec::new();
        messages
            .feed(content, |message| {
                assert!(message.body.iter().all(|byte| *byte == message.kind));
                seen.push((message.kind, message.body.len(), message.ends_record));
                Ok(())
            })
            .unwrap();
        seen
    }

    #[test]
    fn several_in_one_record_and_one_in_several() {
        let bytes = [message(1, 0), message(2, 5), message(3, 300)].concat();
        let mut messages = Messages::default();
        let whole = all(&mut messages, &bytes);
        assert_eq!(whole, [(1, 0, false), (2, 5, false), (3, 300, true)]);
        for cut in 1..bytes.len() {
            let mut seen = all(&mut messages, &bytes[..cut]);
            assert_eq!(messages.are_split(), !(cut == 4 || cut == 13), "cut at {cut}");
            seen.extend(all(&mut messages, &bytes[cut..]));
            assert!(!messages.are_split());
            let seen: Vec<_> = seen.iter().map(|(kind, length, _)| (*kind, *length)).collect();
            assert_eq!(seen, [(1, 0), (2, 5), (3, 300)]);
        }
    }

    #[test]
    fn a_message_is_at_most_16_kib() {
        let mut messages = Messages::default();
        assert!(all(&mut messages, &message(1, 1 << 14)[..100]).is_empty());
        assert!(messages.feed(&[0; 4], |_| Ok(())).is_ok());
        let too_long = Messages::default().feed(&[4, 0, 0x40, 1], |_| Ok(()));
        assert_eq!(too_long.unwrap_err().alert(), Some(50));
    }
}
