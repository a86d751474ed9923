use std::{fmt, ops::Range};

use crate::{
    client_config::{ClientConfig, ForConnection, ServerName},
    connection::Connection,
    diagnosis,
    error::{Reason, TlsError},
    handshake::{Expect, Handshake},
    hello::{AwaitHello, Chosen},
    identity::Identity,
    info::{HandshakeInfo, Info},
    records::{Framing, InPlaceRecords, Opened, Records, RustlsRecords, Scratch},
    server_config::ServerConfig,
};

/// The most handshake bytes that are taken from a peer.
pub const HANDSHAKE_LEN_MAX: usize = 64 * 1024;

/// One TLS connection of either side, from its first byte to its last.
///
/// A client begins with [`Self::start`]. Then, whenever bytes have arrived: call [`Self::open`] with all that are not
/// consumed, act on what it says, take the consumed ones from the front, and again until [`Opened::NeedMore`],
/// [`Opened::Closed`] or an error. Whatever was appended to `out` is to be sent, also after an error. Plaintext is sealed
/// with [`Self::seal`] from [`Opened::Established`] on; what `out` got must be on its way first.
///
/// TLS 1.3 calls a client established before the server has judged its certificate: a refusal comes as an error of a
/// later `open`.
pub struct TlsSession {
    state: State,
    /// From the end of the handshake to the first application data.
    info: Option<Box<Info>>,
    sent_close_notify: bool,
    received_close_notify: bool,
}

enum State {
    AwaitHello(AwaitHello),
    Handshake(Box<Handshake>),
    Established(Box<dyn Records>),
    Failed(Box<TlsError>),
}

impl TlsSession {
    /// A client's side: `name` is sent as SNI and must be in the server's certificate, `identity` is what the server
    /// is shown if it asks.
    ///
    /// # Errors
    /// If rustls refuses the key or the configuration.
    pub fn client(
        config: &ClientConfig,
        name: &ServerName,
        identity: Option<&Identity>,
    ) -> Result<Self, TlsError> {
        let ForConnection {
            rustls,
            verifier,
            secrets,
        } = config
            .for_connection(&name.name, identity)
            .map_err(diagnosis::internal)?;
        let connection = Connection::client(rustls, name.name.clone()).map_err(diagnosis::internal)?;
        Ok(Self::new(State::Handshake(Box::new(Handshake {
            connection: Box::new(connection),
            secrets,
            server_name: None,
            consumed: 0,
            expect: Expect::Client {
                config: config.clone(),
                verifier,
            },
        }))))
    }

    /// A server's side: it waits for a ClientHello.
    pub fn server(config: &ServerConfig) -> Self {
        Self::new(State::AwaitHello(AwaitHello::new(config.clone())))
    }

    fn new(state: State) -> Self {
        Self {
            state,
            info: None,
            sent_close_notify: false,
            received_close_notify: false,
        }
    }

    /// Appends a client's ClientHello to `out`. A server has nothing to say before it has heard one.
    ///
    /// # Errors
    /// If rustls fails, for example for lack of random bytes.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.state {
            State::Handshake(handshake) => match handshake.connection.start(out) {
                Ok(()) => Ok(()),
                Err(failure) => {
                    let error = handshake.diagnose(failure);
                    Err(self.fail(error))
                }
            },
            State::AwaitHello(_) | State::Established(_) => Ok(()),
            State::Failed(error) => Err((**error).clone()),
        }
    }

    /// Handles the first record, or the first records that make up a message, of `sealed`.
    ///
    /// `sealed` must be exactly the bytes that were received and not consumed, in order; between two calls they may be
    /// moved and added to, but not changed. They may grow to [`HANDSHAKE_LEN_MAX`] while the handshake lasts, and to
    /// [`crate::RECORD_LEN_MAX`] afterwards; a message that would need more is an error. Bytes to send are appended to
    /// `out`, also when an error is returned: the alert. Plaintext is laid over its record.
    ///
    /// # Errors
    /// Why the connection is over. Every further call says the same.
    pub fn open(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        // rustls must not find fault with a record after our close_notify: it would send a second alert, which it
        // holds to be impossible.
        if self.received_close_notify || self.sent_close_notify {
            return Ok(match sealed.len() {
                0 => Opened::NeedMore,
                consumed => Opened::Closed { consumed },
            });
        }
        let opened = match &mut self.state {
            State::Established(records) => records.open(scratch, sealed, out),
            State::Handshake(_) | State::AwaitHello(_) => self.shake_hands(scratch, sealed, out),
            State::Failed(error) => return Err((**error).clone()),
        };
        match opened {
            Ok(Opened::Data { consumed, plain }) => {
                self.info = None;
                Ok(Opened::Data { consumed, plain })
            }
            Ok(opened) => {
                self.received_close_notify = matches!(opened, Opened::Closed { .. });
                Ok(opened)
            }
            Err(error) => {
                self.release(scratch);
                Err(self.fail(error))
            }
        }
    }

    /// Seals `plain` of `block` as records in place and returns the range to send. It is within the room that
    /// [`Self::framing`] asks for around `plain`; no plaintext gives no record.
    ///
    /// # Errors
    /// Before the handshake is done, after a fatal alert or [`Self::close_notify`], when the room is too small, or when
    /// the keys may protect no more records. Of these only the fatal alert ends the session, and it has ended it before.
    pub fn seal(
        &mut self,
        scratch: &mut Scratch,
        block: &mut [u8],
        plain: Range<usize>,
    ) -> Result<Range<usize>, TlsError> {
        let mut range = plain;
        if self.sent_close_notify {
            return Err(closed());
        }
        let sealed = match &mut self.state {
            State::Established(records) => records.seal(scratch, block, &mut range),
            State::Handshake(_) | State::AwaitHello(_) => return Err(too_early()),
            State::Failed(error) => return Err((**error).clone()),
        };
        match sealed {
            Ok(()) => {
                self.info = None;
                Ok(range)
            }
            Err(error) if matches!(error.reason(), Reason::Misuse(_) | Reason::KeysExhausted) => Err(error),
            Err(error) => {
                self.release(scratch);
                Err(self.fail(error))
            }
        }
    }

    /// The room that [`Self::seal`] needs around plaintext; none before the handshake is done.
    pub fn framing(&self) -> Framing {
        match &self.state {
            State::Established(records) => records.framing(),
            _ => Framing {
                head: 0,
                tail: 0,
                plain_max: 0,
            },
        }
    }

    /// Ends the session: appends a close_notify to `out`, once. Nothing can be sealed afterwards, and what the peer still
    /// sends is not read any more. Before the handshake is done there is nothing to append.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.sent_close_notify {
            return;
        }
        match &mut self.state {
            State::Established(records) => {
                self.sent_close_notify = true;
                if let Err(error) = records.close_notify(out) {
                    self.fail(error);
                }
            }
            State::Handshake(_) | State::AwaitHello(_) => {
                self.fail(closed());
            }
            State::Failed(_) => {}
        }
    }

    /// Judges the end of the stream.
    ///
    /// # Errors
    /// `tls_truncated` if the peer sent no close_notify and we did not end the connection ourselves (RFC 8446 section
    /// 6.1), or what the session failed with before.
    pub fn eof(&self) -> Result<(), TlsError> {
        if self.received_close_notify {
            return Ok(());
        }
        let stage = match &self.state {
            State::Failed(error) => return Err((**error).clone()),
            State::AwaitHello(_) => "before a ClientHello",
            State::Handshake(handshake) if handshake.consumed == 0 => {
                "before it had answered the ClientHello"
            }
            State::Handshake(_) => "during the handshake",
            State::Established(_) if self.sent_close_notify => return Ok(()),
            State::Established(_) => "after the handshake",
        };
        Err(TlsError::theirs(Reason::Truncated { stage }, None))
    }

    /// How far the session is.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::AwaitHello(_) => Stage::AwaitClientHello,
            State::Handshake(handshake) if handshake.consumed == 0 => Stage::AwaitServerHello,
            State::Handshake(_) => Stage::Handshake,
            State::Established(_) if self.sent_close_notify || self.received_close_notify => Stage::Closing,
            State::Established(_) => Stage::Established,
            State::Failed(_) => Stage::Failed,
        }
    }

    /// What was negotiated. To be read when [`Opened::Established`] is said: it is let go of with the first application
    /// data of either direction.
    pub fn info(&self) -> Option<HandshakeInfo<'_>> {
        let info = self.info.as_deref()?;
        Some(HandshakeInfo {
            version: info.version,
            cipher_suite: info.cipher_suite,
            resumed: info.resumed,
            alpn: info.alpn.as_deref(),
            server_name: info.server_name.as_deref(),
            peer_certificate: info.peer_certificate.as_deref(),
        })
    }

    /// Drops what `scratch` keeps of this session's keys; to be called before a session that has not failed is dropped.
    pub fn release(&mut self, scratch: &mut Scratch) {
        if let State::Established(records) = &mut self.state {
            records.release(scratch);
        }
    }

    fn shake_hands(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        if let State::AwaitHello(hello) = &mut self.state {
            let Some(Chosen {
                connection,
                secrets,
                choice,
                server_name,
            }) = hello.choose(sealed, out)?
            else {
                return Ok(Opened::NeedMore);
            };
            self.state = State::Handshake(Box::new(Handshake {
                connection: Box::new(connection),
                secrets,
                server_name,
                consumed: 0,
                expect: Expect::Server(choice),
            }));
        }
        let State::Handshake(handshake) = &mut self.state else {
            return Err(too_early());
        };
        let opened = handshake.feed(scratch, sealed, out)?;
        if matches!(opened, Opened::Established { .. }) {
            self.establish(out)?;
        }
        Ok(opened)
    }

    /// Hands the finished connection to the record layer, and checks that it is what was asked for.
    fn establish(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        // The session is failed until it is established, which only an error in between could show.
        let state = std::mem::replace(&mut self.state, State::Failed(Box::new(closed())));
        let State::Handshake(handshake) = state else {
            return Err(too_early());
        };
        let verdict = handshake.verdict();
        let info = handshake.info();
        let wants_tickets = handshake.wants_tickets();
        let mut records: Box<dyn Records> = match &handshake.secrets {
            Some(secrets) => InPlaceRecords::take_over(*handshake.connection, secrets, wants_tickets)?,
            None => Box::new(RustlsRecords::new(handshake.connection)),
        };
        if let Err(error) = verdict {
            match error.alert() {
                Some(alert) => records.fatal_alert(alert, out)?,
                // The peer learns of it by close_notify: the handshake itself was without fault.
                None => records.close_notify(out)?,
            }
            return Err(error);
        }
        self.info = Some(Box::new(info));
        self.state = State::Established(records);
        Ok(())
    }

    /// Ends the session, and with it all machinery and keys.
    fn fail(&mut self, error: TlsError) -> TlsError {
        self.info = None;
        self.state = State::Failed(Box::new(error.clone()));
        error
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsSession({:?})", self.stage())
    }
}

/// How far a session is, for the sentence about a time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Server: no whole ClientHello has arrived.
    AwaitClientHello,
    /// Client: the server has not answered.
    AwaitServerHello,
    /// In the middle of the handshake.
    Handshake,
    /// Application data flows.
    Established,
    /// One side, or both, has sent close_notify.
    Closing,
    /// It ended with an error.
    Failed,
}

impl fmt::Display for Stage {
    /// What it waits for, or how it is, as half a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitClientHello => "no whole ClientHello has come",
            Self::AwaitServerHello => "the server has not answered the ClientHello",
            Self::Handshake => "the peer's next message has not come",
            Self::Established => "it is done, and application data may flow",
            Self::Closing => "it is done, and one side has sent close_notify",
            Self::Failed => "it has failed",
        })
    }
}

fn closed() -> TlsError {
    TlsError::ours(Reason::Closed, None)
}

fn too_early() -> TlsError {
    diagnosis::misuse("the TLS handshake is not done")
}
