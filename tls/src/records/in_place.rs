//! Records in the caller's buffers: what goes on after the hand-over from rustls.

use std::ops::Range;

use rustls::AlertDescription;

use super::{
    Framing, Opened, PLAIN_LEN_MAX, Records, Scratch,
    format::{APPLICATION_DATA, Format, KEY_UPDATE_RECORD_LEN},
    keys::Keys,
    messages::{Message, Messages},
};
use crate::{
    connection::{Connection, HandedOver, TicketTaker},
    crypto::{Context, CryptoError, SECRET_LEN_MAX},
    diagnosis::{self, Role},
    error::{Reason, TlsError},
    reader::Reader,
    secrets::SecretCatcher,
};

#[cfg(test)]
mod tests;

/// The record protection of an established connection.
///
/// At rest it is its keys; what they are expanded to for use lies in the [`Scratch`], as long as there is room. It goes on
/// with the keys and sequence numbers that rustls had reached.
pub(crate) struct InPlaceRecords {
    rx: Keys,
    tx: Keys,
    messages: Messages,
    /// A client that resumes, until a ticket has come.
    tickets: Option<Box<TicketTaker>>,
    format: Format,
    role: Role,
    /// Records without application data since the last that had some.
    idle: u8,
    /// A KeyUpdate must go out before the next application data: the peer asked for one, or the keys have done enough.
    update_due: bool,
    /// TLS 1.2: a renegotiation was refused.
    refused_renegotiation: bool,
}

impl InPlaceRecords {
    /// Takes over a connection whose handshake is complete, at a boundary of records, with nothing left to send.
    pub(crate) fn take_over(
        connection: Connection,
        secrets: &SecretCatcher,
        wants_tickets: bool,
    ) -> Result<Box<Self>, TlsError> {
        let role = connection.role();
        let HandedOver {
            version,
            secrets: extracted,
            tickets,
        } = connection
            .into_secrets(wants_tickets)
            .map_err(diagnosis::internal)?;
        let mut records = Box::new(Self {
            rx: Keys::empty(),
            tx: Keys::empty(),
            messages: Messages::default(),
            tickets,
            format: Format::Tls13,
            role,
            idle: 0,
            update_due: false,
            refused_renegotiation: false,
        });
        let tls13 = version == rustls::ProtocolVersion::TLSv1_3;
        let load = |client: &[u8; SECRET_LEN_MAX], server: &[u8; SECRET_LEN_MAX]| {
            let (rx, tx) = match role {
                Role::Client => (server, client),
                Role::Server => (client, server),
            };
            let ((rx_sequence, rx_keys), (tx_sequence, tx_keys)) = (&extracted.rx, &extracted.tx);
            let records_max = secrets.records_max();
            records
                .rx
                .load(*rx_sequence, rx_keys, tls13.then_some(rx), records_max)?;
            records
                .tx
                .load(*tx_sequence, tx_keys, tls13.then_some(tx), records_max)
        };
        secrets
            .take(load)
            .map_err(|_| diagnosis::internal("the secrets of the handshake are not those of its keys"))?;
        records.format = Format::of(tls13, records.tx.algorithm());
        Ok(records)
    }

    fn open_record(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        let Some(end) = self.format.record_len(sealed)? else {
            return Ok(Opened::NeedMore);
        };
        let Some(record) = sealed.get_mut(..end) else {
            return Ok(Opened::NeedMore);
        };
        let context = scratch.contexts.get(&self.rx).map_err(broken)?;
        let sequence = self.rx.next_sequence().map_err(broken)?;
        let Ok((content_type, plain)) = self.format.open(&self.rx, sequence, context, record) else {
            let bad_record_mac = AlertDescription::BadRecordMac.into();
            return Err(TlsError::ours(Reason::BadRecord, Some(bad_record_mac)));
        };
        // RFC 8446 section 5.4, RFC 5246 section 6.2.1.
        if plain.len() > PLAIN_LEN_MAX {
            let detail = "a record holds more than 16,384 bytes";
            return Err(protocol(detail, AlertDescription::RecordOverflow));
        }
        // RFC 8446 section 5.1: no other record comes between those of one handshake message.
        if self.messages.are_split() && content_type != HANDSHAKE {
            return Err(unexpected("another record within a handshake message"));
        }
        if content_type == APPLICATION_DATA && !plain.is_empty() {
            self.idle = 0;
            return Ok(Opened::Data { consumed: end, plain });
        }
        if self.idle == IDLE_RECORDS_MAX {
            return Err(unexpected("too many records without application data"));
        }
        self.idle += 1;
        let content = record.get(plain).unwrap_or_default();
        // RFC 8446 section 5.4, RFC 5246 section 6.2.1.
        if content.is_empty() && content_type != APPLICATION_DATA {
            return Err(unexpected("an empty record that is not application data"));
        }
        match content_type {
            APPLICATION_DATA => {}
            HANDSHAKE => self.handle_messages(scratch, content, out)?,
            ALERT => {
                if self.handle_alert(content)? {
                    return Ok(Opened::Closed { consumed: end });
                }
            }
            // RFC 8446 section 5: change_cipher_spec too, once the handshake is over; and so in TLS 1.2, where a new one
            // would need a new handshake.
            _ => return Err(unexpected("a record of a type that has no place here")),
        }
        Ok(Opened::Nothing { consumed: end })
    }

    /// Answers whether the alert is close_notify.
    fn handle_alert(&self, content: &[u8]) -> Result<bool, TlsError> {
        // RFC 8446 section 5.1: one alert in one record, whole.
        let &[level, description] = content else {
            return Err(protocol("a malformed alert", AlertDescription::DecodeError));
        };
        let alert = AlertDescription::from(description);
        match (alert, level) {
            (AlertDescription::CloseNotify, _) => Ok(true),
            // RFC 8446 section 6.1: a notice; close_notify follows.
            (AlertDescription::UserCanceled, _) => Ok(false),
            // RFC 5246 section 7.2.2: the sender may go on, and so do we.
            (_, WARNING) if self.format.is_tls12() => Ok(false),
            // RFC 8446 section 6: the level says nothing any more, all of these are fatal.
            _ => Err(diagnosis::received(self.role, alert)),
        }
    }

    fn handle_messages(
        &mut self,
        scratch: &mut Scratch,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let mut messages = std::mem::take(&mut self.messages);
        messages.feed(content, |message| self.handle_message(scratch, &message, out))?;
        self.messages = messages;
        Ok(())
    }

    fn handle_message(
        &mut self,
        scratch: &mut Scratch,
        message: &Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        match (message.kind, self.role) {
            (KEY_UPDATE, _) if !self.format.is_tls12() => self.handle_key_update(scratch, message),
            (NEW_SESSION_TICKET, Role::Client) if !self.format.is_tls12() => self.handle_ticket(message.body),
            (HELLO_REQUEST, Role::Client) | (CLIENT_HELLO, Role::Server) if self.format.is_tls12() => {
                self.refuse_renegotiation(scratch, out)
            }
            _ => Err(unexpected(
                "a handshake message that has no place after the handshake",
            )),
        }
    }

    /// RFC 8446 section 4.6.1. Without resumption a ticket is for nothing, but it must be one. The first is enough for the
    /// next connection, and with it the last of rustls goes.
    fn handle_ticket(&mut self, body: &[u8]) -> Result<(), TlsError> {
        let malformed = || protocol("a malformed NewSessionTicket", AlertDescription::DecodeError);
        if !is_ticket(body) {
            return Err(malformed());
        }
        // A lifetime of zero: to be discarded at once. rustls would take it for no limit.
        if body.starts_with(&[0; 4]) {
            return Ok(());
        }
        match self.tickets.take() {
            Some(mut tickets) => tickets.handle_new_session_ticket(body).map_err(|_| malformed()),
            None => Ok(()),
        }
    }

    /// RFC 8446 section 4.6.3.
    fn handle_key_update(&mut self, scratch: &mut Scratch, message: &Message<'_>) -> Result<(), TlsError> {
        // RFC 8446 section 5.1: what follows would be under other keys.
        if !message.ends_record {
            return Err(unexpected("a KeyUpdate in the middle of a record"));
        }
        match *message.body {
            [UPDATE_NOT_REQUESTED] => {}
            // However often it asks before we say something, one answer is enough.
            [UPDATE_REQUESTED] => self.update_due = true,
            [_] => {
                return Err(protocol(
                    "a malformed KeyUpdate",
                    AlertDescription::IllegalParameter,
                ));
            }
            _ => return Err(protocol("a malformed KeyUpdate", AlertDescription::DecodeError)),
        }
        scratch.contexts.forget(&self.rx);
        self.rx.update().map_err(broken)
    }

    /// RFC 5246 section 7.2.2: no_renegotiation, a warning. Whoever asks again is left, as rustls does.
    fn refuse_renegotiation(&mut self, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if std::mem::replace(&mut self.refused_renegotiation, true) {
            return Err(unexpected("a renegotiation was asked for again"));
        }
        let alert = [WARNING, AlertDescription::NoRenegotiation.into()];
        let context = scratch.contexts.get(&self.tx).map_err(broken)?;
        append(self.format, &mut self.tx, context, ALERT, &alert, out).map_err(broken)
    }

    /// Appends the last alert. The key is expanded for this one record.
    fn append_last(&mut self, alert: &[u8; 2], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let context = self.tx.expand().map_err(broken)?;
        append(self.format, &mut self.tx, &context, ALERT, alert, out).map_err(broken)
    }

    /// Writes a KeyUpdate under the old keys into its room and goes over to the next ones.
    fn update_tx(&mut self, scratch: &mut Scratch, room: &mut [u8]) -> Result<(), CryptoError> {
        let message = [KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED];
        let context = scratch.contexts.get(&self.tx)?;
        write(self.format, &mut self.tx, context, HANDSHAKE, &message, room)?;
        scratch.contexts.forget(&self.tx);
        self.tx.update()?;
        self.update_due = false;
        Ok(())
    }
}

impl Records for InPlaceRecords {
    fn open(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        let opened = self.open_record(scratch, sealed, out);
        if let Err(error) = &opened
            && error.refused_by_us()
            && let Some(alert) = error.alert()
        {
            // If even this fails, the peer sees the end of the stream.
            let _ = scratch
                .contexts
                .get(&self.tx)
                .and_then(|context| append(self.format, &mut self.tx, context, ALERT, &[FATAL, alert], out));
        }
        opened
    }

    fn seal(
        &mut self,
        scratch: &mut Scratch,
        block: &mut [u8],
        range: &mut Range<usize>,
    ) -> Result<(), TlsError> {
        let plain = range.clone();
        let framing = self.framing();
        let place = plain
            .start
            .checked_sub(framing.head)
            .zip(plain.end.checked_add(framing.tail))
            .filter(|(_, end)| *end <= block.len() && plain.len() <= framing.plain_max);
        let (Some((room, end)), true) = (place, plain.start <= plain.end) else {
            return Err(diagnosis::no_room());
        };
        if plain.is_empty() {
            return Ok(());
        }
        if self.tx.are_exhausted() {
            if self.format.is_tls12() {
                return Err(diagnosis::keys_exhausted());
            }
            self.update_due = true;
        }
        let mut start = plain.start - self.format.head();
        if self.update_due {
            let room = block.get_mut(room..start).unwrap_or_default();
            self.update_tx(scratch, room).map_err(broken)?;
            start -= KEY_UPDATE_RECORD_LEN;
        }
        *range = start..end;
        let context = scratch.contexts.get(&self.tx).map_err(broken)?;
        let sequence = self.tx.next_sequence().map_err(broken)?;
        let record = block
            .get_mut(plain.start - self.format.head()..end)
            .unwrap_or_default();
        self.format
            .seal(&self.tx, sequence, context, APPLICATION_DATA, record)
            .map_err(broken)
    }

    fn framing(&self) -> Framing {
        // In front of the record there is room for a KeyUpdate, so that one that is due pushes nothing aside.
        let key_update = if self.format.is_tls12() {
            0
        } else {
            KEY_UPDATE_RECORD_LEN
        };
        Framing {
            head: key_update + self.format.head(),
            tail: self.format.tail(),
            plain_max: PLAIN_LEN_MAX,
        }
    }

    fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.append_last(&[WARNING, AlertDescription::CloseNotify.into()], out)
    }

    fn fatal_alert(&mut self, alert: u8, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.append_last(&[FATAL, alert], out)
    }

    fn release(&mut self, scratch: &mut Scratch) {
        scratch.contexts.forget(&self.rx);
        scratch.contexts.forget(&self.tx);
    }
}

/// Appends a record with a short content.
fn append(
    format: Format,
    keys: &mut Keys,
    context: &Context,
    content_type: u8,
    content: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let start = out.len();
    out.resize(start + format.head() + content.len() + format.tail(), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    write(format, keys, context, content_type, content, room)
}

/// Writes a record with a short content into room of just its length.
fn write(
    format: Format,
    keys: &mut Keys,
    context: &Context,
    content_type: u8,
    content: &[u8],
    room: &mut [u8],
) -> Result<(), CryptoError> {
    let sequence = keys.next_sequence()?;
    let head = format.head();
    room.get_mut(head..head + content.len())
        .ok_or(CryptoError)?
        .copy_from_slice(content);
    format.seal(keys, sequence, context, content_type, room)
}

/// RFC 8446 section 4.6.1: lifetime, age_add, nonce, ticket, extensions.
fn is_ticket(body: &[u8]) -> bool {
    let mut reader = Reader(body);
    let parsed = (|| {
        reader.take(4 + 4)?;
        reader.vector8()?;
        let ticket = reader.vector16()?;
        reader.vector16()?;
        Some(!ticket.is_empty())
    })();
    parsed == Some(true) && reader.0.is_empty()
}

fn protocol(detail: &str, alert: AlertDescription) -> TlsError {
    diagnosis::protocol(detail, Some(alert.into()))
}

fn unexpected(detail: &str) -> TlsError {
    protocol(detail, AlertDescription::UnexpectedMessage)
}

/// The library refused what it cannot refuse, or sequence numbers have run out.
fn broken(_: CryptoError) -> TlsError {
    TlsError::ours(
        Reason::Internal {
            detail: "a record could not be protected".into(),
        },
        Some(AlertDescription::InternalError.into()),
    )
}

/// In a row (rustls has the same number for empty records, and for key updates).
const IDLE_RECORDS_MAX: u8 = 32;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
