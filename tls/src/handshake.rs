//! A handshake that is under way, and what must have come of it in the end.

use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion};

use crate::{
    client_config::ClientConfig,
    client_hello,
    connection::{Connection, Failure, Fed},
    diagnosis,
    error::{Reason, TlsError},
    info::{Info, TlsVersion},
    records::{Opened, Scratch},
    secrets::SecretCatcher,
    server_config::{Choice, VerifiedClient},
    session::HANDSHAKE_LEN_MAX,
    verifier::NotingVerifier,
    x509,
};

pub(crate) struct Handshake {
    pub(crate) connection: Box<Connection>,
    /// What the in-place record layer goes on with; `None` if rustls's is used.
    pub(crate) secrets: Option<Arc<SecretCatcher>>,
    /// Server: the DNS name in the client's SNI, as names are compared.
    pub(crate) server_name: Option<Box<str>>,
    /// Bytes consumed so far.
    pub(crate) consumed: usize,
    pub(crate) expect: Expect,
}

/// What must be so when the handshake is done.
pub(crate) enum Expect {
    Client {
        config: ClientConfig,
        verifier: Option<Arc<NotingVerifier>>,
    },
    Server(Choice),
}

impl Handshake {
    pub(crate) fn feed(
        &mut self,
        scratch: &mut Scratch,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        if self.consumed == 0 && client_hello::not_tls(sealed) == Some(true) {
            return Err(diagnosis::not_tls(sealed, out));
        }
        let limit = HANDSHAKE_LEN_MAX - self.consumed.min(HANDSHAKE_LEN_MAX);
        let fed = self
            .connection
            .feed(scratch, sealed, out, limit)
            .map_err(|failure| self.diagnose(failure))?;
        let consumed = match fed {
            Fed::NeedMore => return Ok(Opened::NeedMore),
            Fed::Message { consumed } => consumed,
            Fed::Data { .. } | Fed::PeerClosed { .. } => {
                return Err(diagnosis::internal("application data within the handshake"));
            }
        };
        self.consumed += consumed;
        if self.connection.common().is_handshaking() {
            return Ok(Opened::Handshake { consumed });
        }
        // RFC 8446 section 5.1: a message must not span a change of keys, so nothing can be left of one.
        if self.connection.pending() > 0 {
            return Err(diagnosis::protocol(
                "a message spans the end of the handshake",
                None,
            ));
        }
        Ok(Opened::Established { consumed })
    }

    pub(crate) fn diagnose(&self, failure: Failure) -> TlsError {
        let issuer = match &self.expect {
            Expect::Client {
                verifier: Some(verifier),
                ..
            } => verifier.refused_issuer(),
            _ => None,
        };
        let error = self.connection.diagnose(failure, issuer);
        match (error.reason(), &self.expect) {
            (Reason::AlpnRefused { .. }, Expect::Client { config, .. }) => {
                let offered = config.alpn().to_vec();
                TlsError::theirs(Reason::AlpnRefused { offered }, error.alert())
            }
            _ => error,
        }
    }

    /// Whether the tickets that TLS 1.3 sends after the handshake are for something.
    pub(crate) fn wants_tickets(&self) -> bool {
        matches!(&self.expect, Expect::Client { config, .. } if config.resumes())
    }

    /// What is told of it afterwards.
    pub(crate) fn info(&self) -> Info {
        let common = self.connection.common();
        Info {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher_suite: common
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: common.alpn_protocol().map(Box::from),
            server_name: self.server_name.clone(),
            peer_certificate: leaf(&self.connection).map(Box::from),
        }
    }

    /// Whether the finished handshake is the one that was wanted.
    pub(crate) fn verdict(&self) -> Result<(), TlsError> {
        let chosen = self.connection.common().alpn_protocol();
        match &self.expect {
            Expect::Client { config, .. } => {
                let issuer = || leaf(&self.connection).and_then(x509::issuer);
                check_selected(config.alpn(), chosen, issuer)
            }
            Expect::Server(choice) => self.check_choice(choice, chosen),
        }
    }

    /// Whether the client got what was chosen for it. A second ClientHello, after a HelloRetryRequest, was seen by rustls
    /// alone.
    fn check_choice(&self, choice: &Choice, chosen: Option<&[u8]>) -> Result<(), TlsError> {
        if choice.alpn.as_deref() != chosen {
            return Err(diagnosis::internal(
                "the negotiated ALPN name is not the one that the configuration was chosen for",
            ));
        }
        let certificate = leaf(&self.connection);
        if choice.client_auth() && certificate.is_none() {
            return Err(TlsError::ours(Reason::ClientCertRequired, None));
        }
        if let Some(reason) = &choice.close_with {
            return Err(TlsError::ours(reason.clone(), None));
        }
        let Some(certificate) = certificate else {
            return Ok(());
        };
        choice
            .check_client(|| VerifiedClient {
                certificate,
                fingerprint: x509::fingerprint(certificate),
                server_name: self.server_name.as_deref(),
                alpn: chosen,
            })
            .map_err(diagnosis::access_denied)
    }
}

/// RFC 7301 section 3.2 lets a server ignore the extension; whoever needs the name must look.
fn check_selected(
    offered: &[Vec<u8>],
    chosen: Option<&[u8]>,
    issuer: impl FnOnce() -> Option<String>,
) -> Result<(), TlsError> {
    let fits = match chosen {
        Some(chosen) => offered.iter().any(|name| name == chosen),
        None => offered.is_empty(),
    };
    if fits {
        return Ok(());
    }
    let reason = Reason::AlpnNotSelected {
        offered: offered.to_vec(),
        chosen: chosen.map(<[u8]>::to_vec),
        issuer: issuer(),
    };
    Err(TlsError::ours(reason, None))
}

fn leaf(connection: &Connection) -> Option<&[u8]> {
    let chain = connection.common().peer_certificates()?;
    chain.first().map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(offered: &[&[u8]], chosen: Option<&[u8]>) -> Result<(), TlsError> {
        let offered: Vec<Vec<u8>> = offered.iter().map(|name| name.to_vec()).collect();
        check_selected(&offered, chosen, || Some("CN=Corp Proxy CA".into()))
    }

    /// What a foreign server could select, and rustls as a server never would.
    #[test]
    fn the_selected_name_is_one_of_those_offered() {
        chosen(&[b"x-amzn-mqtt-ca", b"mqtt"], Some(b"mqtt")).unwrap();
        chosen(&[], None).unwrap();
        for name in [b"h2".as_slice(), b"", b"mqtt\n"] {
            let error = chosen(&[b"mqtt"], Some(name)).unwrap_err();
            let Reason::AlpnNotSelected { chosen, .. } = error.reason() else {
                panic!("{error}");
            };
            assert_eq!(chosen.as_deref(), Some(name));
        }
        assert!(chosen(&[], Some(b"h2")).is_err());
        assert_eq!(
            chosen(&[b"x-amzn-mqtt-ca", b"mqtt"], None)
                .unwrap_err()
                .to_string(),
            "offered ALPN x-amzn-mqtt-ca, mqtt, and the server chose none (its certificate was issued by \
             \"CN=Corp Proxy CA\"); closed before any application byte"
        );
    }
}
