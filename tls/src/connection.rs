//! rustls's unbuffered connection, fed one record at a time.
//!
//! Its rules are easily broken, and some ways of breaking them panic; so they are kept here and in `states`:
//!
//! - Each call is given all bytes that were fed and not yet discarded: rustls remembers offsets into them while a
//!   handshake message is incomplete, and indexes with them without a check.
//! - `discard` counts before the next call, also when the call failed.
//! - What it wants to send is taken within the state that says so, or it is lost.
//! - After an error only the queued alert is taken, and the connection is never used again.

mod states;

use std::{ops::Range, sync::Arc};

use rustls::{
    CipherSuite, CommonState, Error, ExtractedSecrets, ProtocolVersion,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    server::UnbufferedServerConnection,
};

use self::states::{Settled, Step, absorb, encrypt, queue_close};
use crate::{
    diagnosis::{self, Role},
    error::TlsError,
    key_block::{KeyBlock, keeping},
    records::{Framing, PLAIN_LEN_MAX, RECORD_LEN_MAX, Scratch},
};

/// A rustls connection of either side.
pub(crate) struct Connection {
    side: Side,
    /// TLS 1.2: what rustls has derived and will ask for again at the hand-over.
    key_block: Option<Box<KeyBlock>>,
    /// Bytes at the front of the unconsumed ones that rustls has seen already: the beginning of a handshake message.
    pending: usize,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What rustls hands over.
pub(crate) struct HandedOver {
    pub(crate) version: ProtocolVersion,
    pub(crate) secrets: ExtractedSecrets,
    pub(crate) tickets: Option<Box<TicketTaker>>,
}

/// What is left of a client's rustls connection to make sessions of TLS 1.3's tickets. It lays them into the store of its
/// configuration.
pub(crate) type TicketTaker = KernelConnection<ClientConnectionData>;

/// What became of the bytes that were fed.
pub(crate) enum Fed {
    NeedMore,
    Message { consumed: usize },
    Data { consumed: usize, plain: Range<usize> },
    PeerClosed { consumed: usize },
}

/// Why it cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    Rustls(Error),
    /// One message needs more bytes than the limit.
    TooLong,
    /// The keys have protected as many records as they may (RFC 8446 section 5.5).
    KeysExhausted,
    /// The caller's block is too small.
    NoRoom,
}

impl Connection {
    pub(crate) fn client(
        config: Arc<rustls::ClientConfig>,
        name: rustls_pki_types::ServerName<'static>,
    ) -> Result<Self, Error> {
        Ok(Self {
            side: Side::Client(UnbufferedClientConnection::new(config, name)?),
            key_block: None,
            pending: 0,
        })
    }

    pub(crate) fn server(config: Arc<rustls::ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            side: Side::Server(UnbufferedServerConnection::new(config)?),
            key_block: None,
            pending: 0,
        })
    }

    /// What rustls tells about the connection.
    pub(crate) fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    /// How many unconsumed bytes were fed already.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn role(&self) -> Role {
        match self.side {
            Side::Client(_) => Role::Client,
            Side::Server(_) => Role::Server,
        }
    }

    /// Ends rustls's part: the version, and the keys with the sequence numbers that it had reached. rustls refuses while
    /// it has something to send, or when the configuration does not allow it. A client's part of it stays for tickets if
    /// they are wanted and can come: in TLS 1.2 they are a part of the handshake.
    pub(crate) fn into_secrets(mut self, wants_tickets: bool) -> Result<HandedOver, Error> {
        Ok(match self.side {
            Side::Client(client) => {
                let (secrets, kernel) =
                    keeping(&mut self.key_block, || client.dangerous_into_kernel_connection())?;
                let version = kernel.protocol_version();
                let may_come = wants_tickets && version == ProtocolVersion::TLSv1_3;
                HandedOver {
                    version,
                    secrets,
                    tickets: may_come.then(|| Box::new(kernel)),
                }
            }
            Side::Server(server) => {
                let (secrets, kernel) =
                    keeping(&mut self.key_block, || server.dangerous_into_kernel_connection())?;
                HandedOver {
                    version: kernel.protocol_version(),
                    secrets,
                    tickets: None,
                }
            }
        })
    }

    /// Lets go of what only a hand-over needs.
    pub(crate) fn stay(&mut self) {
        self.key_block = None;
    }

    /// Turns a failure into the error for the caller.
    pub(crate) fn diagnose(&self, failure: Failure, issuer: Option<String>) -> TlsError {
        diagnosis::diagnose(self.role(), failure, issuer)
    }

    /// Appends what rustls wants to send before it has received anything: a client's ClientHello.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        // Nothing is received yet, so no plaintext can reach this scratch, and it allocates nothing.
        self.settle(&mut Scratch::new(), &mut [], out).map(|_| ())
    }

    /// Feeds whole records from the front of `sealed`, which is all that is unconsumed, until one of them is consumed.
    ///
    /// Records that only carry a part of a handshake message are not consumed before the message is whole.
    pub(crate) fn feed(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Fed, Failure> {
        loop {
            let Some(length) = sealed.get(self.pending..).and_then(record_len) else {
                return Ok(Fed::NeedMore);
            };
            let start = self.pending;
            let end = start + length;
            if end > limit {
                return Err(Failure::TooLong);
            }
            let Some(records) = sealed.get_mut(..end) else {
                return Ok(Fed::NeedMore);
            };
            let (consumed, settled) = self.settle(scratch, records, out)?;
            self.pending = end - consumed;
            match settled {
                Settled::Data => {
                    let plain = copy_back(scratch, records, start)?;
                    return Ok(Fed::Data { consumed, plain });
                }
                Settled::PeerClosed => return Ok(Fed::PeerClosed { consumed }),
                Settled::Waiting if consumed > 0 => return Ok(Fed::Message { consumed }),
                Settled::Waiting => {}
            }
        }
    }

    /// Seals `plain` of `block` in place. rustls cannot encrypt in place, so it reads a copy.
    pub(crate) fn seal(
        &mut self,
        scratch: &mut Scratch,
        block: &mut [u8],
        plain: Range<usize>,
        framing: Framing,
    ) -> Result<Range<usize>, Failure> {
        let (Some(start), Some(end)) = (
            plain.start.checked_sub(framing.head),
            plain.end.checked_add(framing.tail),
        ) else {
            return Err(Failure::NoRoom);
        };
        if plain.len() > framing.plain_max {
            return Err(Failure::NoRoom);
        }
        scratch.copy_in(block.get(plain).ok_or(Failure::NoRoom)?);
        let room = block.get_mut(start..end).ok_or(Failure::NoRoom)?;
        let mut seen = self.seen();
        let written = match &mut self.side {
            Side::Client(client) => encrypt(client.process_tls_records(&mut seen), &scratch.bytes, room),
            Side::Server(server) => encrypt(server.process_tls_records(&mut seen), &scratch.bytes, room),
        }?;
        Ok(start..start + written)
    }

    /// Appends a close_notify alert.
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut seen = self.seen();
        match &mut self.side {
            Side::Client(client) => queue_close(client.process_tls_records(&mut seen), out),
            Side::Server(server) => queue_close(server.process_tls_records(&mut seen), out),
        }
    }

    /// The room around plaintext, RFC 8446 section 5.2 and RFC 5246 section 6.2.3.3.
    pub(crate) fn framing(&self) -> Framing {
        let tls13 = self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let (head, tail) = if tls13 {
            // Behind the plaintext come its content type and the tag. In front of the record rustls may put the answer
            // to the peer's KeyUpdate and a KeyUpdate of its own, which push it back: each a header, a message of 5
            // bytes, a content type and a tag.
            (HEADER_LEN, 1 + TAG_LEN + 2 * (HEADER_LEN + 5 + 1 + TAG_LEN))
        } else if self.has_explicit_nonce() {
            (HEADER_LEN + 8, TAG_LEN)
        } else {
            (HEADER_LEN, TAG_LEN)
        };
        Framing {
            head,
            tail,
            plain_max: PLAIN_LEN_MAX,
        }
    }

    /// TLS 1.2 with AES-GCM sends 8 bytes of the nonce (RFC 5288 section 3), with ChaCha20-Poly1305 none (RFC 7905
    /// section 2).
    fn has_explicit_nonce(&self) -> bool {
        let chacha = [
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        self.common()
            .negotiated_cipher_suite()
            .is_none_or(|suite| !chacha.contains(&suite.suite()))
    }

    /// Stand-ins for the bytes that rustls has seen and not discarded: it looks behind them only, but it must find
    /// them there.
    fn seen(&self) -> Vec<u8> {
        vec![0; self.pending]
    }

    /// Runs rustls over `records` until it waits for more, and collects what it wants to send.
    fn settle(
        &mut self,
        scratch: &mut Scratch,
        records: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Settled), Failure> {
        let mut consumed = 0;
        loop {
            let (discard, step) = self.step(scratch, records, consumed, out);
            consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Settled(settled)) => return Ok((consumed, settled)),
                Err(error) => {
                    self.flush_alert(scratch, records, consumed, out);
                    return Err(Failure::Rustls(error));
                }
            }
        }
    }

    /// Takes the alert that an error has queued. rustls looks at its output first, so as long as there is some it does
    /// not touch the input.
    fn flush_alert(&mut self, scratch: &mut Scratch, records: &mut [u8], consumed: usize, out: &mut Vec<u8>) {
        while self.common().wants_write() {
            match self.step(scratch, records, consumed, out) {
                (_, Ok(Step::Again)) => {}
                _ => return,
            }
        }
    }

    fn step(
        &mut self,
        scratch: &mut Scratch,
        records: &mut [u8],
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        // `consumed` is a sum of what rustls discarded, which is never more than it was given.
        let rest = records.get_mut(consumed..).unwrap_or_default();
        match &mut self.side {
            Side::Client(client) => {
                let status = keeping(&mut self.key_block, || client.process_tls_records(rest));
                absorb(status, scratch, out)
            }
            Side::Server(server) => {
                let status = keeping(&mut self.key_block, || server.process_tls_records(rest));
                absorb(status, scratch, out)
            }
        }
    }
}

/// Lays the plaintext of the record that began at `start` over it; returns where it is.
fn copy_back(scratch: &Scratch, records: &mut [u8], start: usize) -> Result<Range<usize>, Failure> {
    let start = start + HEADER_LEN;
    let plain = start..start + scratch.bytes.len();
    match records.get_mut(plain.clone()) {
        Some(place) => {
            place.copy_from_slice(&scratch.bytes);
            Ok(plain)
        }
        None => Err(Failure::Rustls(Error::General(
            "more plaintext than the record has room for".into(),
        ))),
    }
}

/// The length of the record at the front with its header, if the header is there.
///
/// A header that is wrong is all that rustls needs to refuse it, so its length is then the header's.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let &[content_type, major, _, high, low] = bytes.first_chunk::<HEADER_LEN>()?;
    let length = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
    let valid = matches!(content_type, 20..=24) && major == 3 && length <= RECORD_LEN_MAX;
    Some(if valid { length } else { HEADER_LEN })
}

const HEADER_LEN: usize = 5;
const TAG_LEN: usize = 16;
