use std::{error::Error, fmt};

/// Why a TLS connection failed: one value that says who refused what, and why.
///
/// The same alert means different things in different mouths: alert 48 from a server is about the client's certificate,
/// alert 48 from a client about the server's. The [`Reason`] keeps them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    reason: Reason,
    refused_by_us: bool,
    alert: Option<u8>,
}

impl TlsError {
    /// A refusal or a failure found on this side; `alert` is what the peer was told.
    pub(crate) fn ours(reason: Reason, alert: Option<u8>) -> Self {
        Self {
            reason,
            refused_by_us: true,
            alert,
        }
    }

    /// A refusal that the peer reported or caused.
    pub(crate) fn theirs(reason: Reason, alert: Option<u8>) -> Self {
        Self {
            reason,
            refused_by_us: false,
            alert,
        }
    }

    /// What went wrong.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether this side ended the connection; otherwise the peer did.
    pub fn refused_by_us(&self) -> bool {
        self.refused_by_us
    }

    /// The number of the TLS alert that was received, or that was sent if [`Self::refused_by_us`] (RFC 8446 section 6.2).
    pub fn alert(&self) -> Option<u8> {
        self.alert
    }

    /// A stable name of the failure for programs.
    pub fn slug(&self) -> &'static str {
        self.reason.slug()
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.refused_by_us;
        match &self.reason {
            Reason::AlpnNotSelected {
                offered,
                chosen,
                issuer,
            } => {
                write!(f, "offered ALPN {}, and the server chose ", Names(offered))?;
                match chosen {
                    Some(name) => write!(f, "{}", name.escape_ascii())?,
                    None => f.write_str("none")?,
                }
                if let Some(issuer) = issuer {
                    write!(f, " (its certificate was issued by \"{issuer}\")")?;
                }
                f.write_str("; closed before any application byte")
            }
            Reason::AlpnRefused { offered } if us => write!(
                f,
                "the client offered ALPN {}, and none of these is served here",
                Names(offered)
            ),
            Reason::AlpnRefused { offered } => {
                write!(
                    f,
                    "the server serves none of the offered ALPN names {}",
                    Names(offered)
                )
            }
            Reason::AlpnMissing => f.write_str("the client offered no ALPN name, and this port needs one"),
            Reason::ServerNameMissing => {
                f.write_str("the client named no server (SNI), and this port needs one")
            }
            Reason::ServerNameUnknown { name } => {
                write!(
                    f,
                    "the client asked for the server \"{name}\", which is not served here"
                )
            }
            Reason::ServerCaUnknown { issuer } if us => write!(
                f,
                "the server's certificate was issued by {}, which is none of the trusted authorities",
                Quoted(issuer)
            ),
            Reason::ServerCaUnknown { .. } => {
                f.write_str("the client does not trust the issuer of this server's certificate")
            }
            Reason::ServerCertExpired { detail } if us => {
                write!(f, "the server's certificate has expired: {detail}")
            }
            Reason::ServerCertExpired { .. } => {
                f.write_str("the client says that this server's certificate has expired")
            }
            Reason::ServerCertNotYetValid { detail } => {
                write!(f, "the server's certificate is not valid yet: {detail}")
            }
            Reason::ServerNameMismatch { expected, presented } => {
                write!(f, "the server's certificate is not for {expected}, it is for ")?;
                match presented.as_slice() {
                    [] => f.write_str("no name at all"),
                    names => f.write_str(&names.join(", ")),
                }
            }
            Reason::ServerCertInvalid { detail } if us => {
                write!(f, "the server's certificate is refused: {detail}")
            }
            Reason::ServerCertInvalid { detail } => {
                write!(f, "the client refused this server's certificate: {detail}")
            }
            Reason::ClientCertRequired if us => {
                f.write_str("the client sent no certificate, and one is required")
            }
            Reason::ClientCertRequired => {
                f.write_str("the server requires a client certificate, and none was sent")
            }
            Reason::ClientCertUnknownCa if us => {
                f.write_str("the client's certificate was issued by none of the trusted authorities")
            }
            Reason::ClientCertUnknownCa => {
                f.write_str("the server does not trust the issuer of the client certificate")
            }
            Reason::ClientCertExpired if us => {
                f.write_str("the client's certificate has expired or is not valid yet")
            }
            Reason::ClientCertExpired => {
                f.write_str("the server says that the client certificate has expired or is not valid yet")
            }
            Reason::ClientCertRefused { detail } if us => {
                write!(f, "the client's certificate is refused: {detail}")
            }
            Reason::ClientCertRefused { detail } => {
                write!(f, "the server refused the client certificate: {detail}")
            }
            Reason::NotTls { first } => write!(
                f,
                "the peer does not speak TLS: it sent \"{}\"",
                first.escape_ascii()
            ),
            Reason::TlsVersion => f.write_str("no TLS version in common"),
            Reason::HandshakeFailure { detail } => write!(f, "the handshake failed: {detail}"),
            Reason::Alert { description } => f.write_str(description),
            Reason::Truncated { stage } => {
                write!(f, "the peer ended the stream without close_notify, {stage}")
            }
            Reason::BadRecord => f.write_str("a record could not be decrypted: it was damaged or forged"),
            Reason::Protocol { detail } => write!(f, "the TLS protocol was violated: {detail}"),
            Reason::KeysExhausted => f.write_str("the keys have protected as many records as they may"),
            Reason::Closed => f.write_str("the TLS session is closed"),
            Reason::Misuse(what) => f.write_str(what),
            Reason::Internal { detail } => write!(f, "TLS failed by itself: {detail}"),
        }?;
        match self.alert {
            Some(number) if us => write!(f, " (alert {number} sent)"),
            Some(number) => write!(f, " (alert {number} received)"),
            None => Ok(()),
        }
    }
}

impl Error for TlsError {}

/// What went wrong, with what is known about it; each has its own [`slug`](TlsError::slug).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Client: ALPN names were offered, and the server selected none, or one that was not offered.
    AlpnNotSelected {
        /// What was offered, in order.
        offered: Vec<Vec<u8>>,
        /// What the server selected.
        chosen: Option<Vec<u8>>,
        /// Who issued the server's certificate: a stranger here hints at an inspecting proxy.
        issuer: Option<String>,
    },
    /// The server serves none of the offered names (alert 120, RFC 7301 section 3.2).
    AlpnRefused {
        /// What the client had offered.
        offered: Vec<Vec<u8>>,
    },
    /// Server: the client offered no ALPN, and the configuration has nothing for such clients.
    AlpnMissing,
    /// Server: the client sent no SNI, and the configuration requires it (alert 109, RFC 8446 section 9.2).
    ServerNameMissing,
    /// Server: the name in the client's SNI is none of those that are served (alert 112, RFC 6066 section 3).
    ServerNameUnknown {
        /// The name.
        name: String,
    },
    /// The issuer of the server's certificate is not trusted.
    ServerCaUnknown {
        /// The issuer in the server's certificate, if it could be read.
        issuer: Option<String>,
    },
    /// The server's certificate has expired.
    ServerCertExpired {
        /// When it ended.
        detail: String,
    },
    /// The server's certificate is not valid yet.
    ServerCertNotYetValid {
        /// When it begins.
        detail: String,
    },
    /// The server's certificate is for other names.
    ServerNameMismatch {
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The server's certificate is wrong in another way.
    ServerCertInvalid {
        /// Which way.
        detail: String,
    },
    /// A client certificate is required and none was sent.
    ClientCertRequired,
    /// The issuer of the client's certificate is not trusted.
    ClientCertUnknownCa,
    /// The client's certificate is outside its validity.
    ClientCertExpired,
    /// The client's certificate was refused for another reason.
    ClientCertRefused {
        /// Which one.
        detail: String,
    },
    /// The first bytes are no TLS.
    NotTls {
        /// The first bytes, at most 16.
        first: Vec<u8>,
    },
    /// No TLS version in common.
    TlsVersion,
    /// No agreement on the parameters of the handshake.
    HandshakeFailure {
        /// On what, if it is known.
        detail: String,
    },
    /// Another fatal alert was received.
    Alert {
        /// Its name.
        description: String,
    },
    /// The stream ended without close_notify.
    Truncated {
        /// When, as the end of a sentence.
        stage: &'static str,
    },
    /// A record failed its integrity check.
    BadRecord,
    /// The peer violated the protocol.
    Protocol {
        /// How.
        detail: String,
    },
    /// The keys may protect no further record, and TLS 1.2 knows no others (RFC 8446 section 5.5): all that can still
    /// be sent is close_notify.
    KeysExhausted,
    /// The caller used a session that is closed already.
    Closed,
    /// The caller used the session wrongly.
    Misuse(&'static str),
    /// Something failed on this side.
    Internal {
        /// What.
        detail: String,
    },
}

impl Reason {
    fn slug(&self) -> &'static str {
        match self {
            Self::AlpnNotSelected { .. } => "alpn_not_selected",
            Self::AlpnRefused { .. } => "alpn_refused",
            Self::AlpnMissing => "alpn_missing",
            Self::ServerNameMissing => "server_name_missing",
            Self::ServerNameUnknown { .. } => "server_name_unknown",
            Self::ServerCaUnknown { .. } => "server_ca_unknown",
            Self::ServerCertExpired { .. } => "server_cert_expired",
            Self::ServerCertNotYetValid { .. } => "server_cert_not_yet_valid",
            Self::ServerNameMismatch { .. } => "server_name_mismatch",
            Self::ServerCertInvalid { .. } => "server_cert_invalid",
            Self::ClientCertRequired => "client_cert_required",
            Self::ClientCertUnknownCa => "client_cert_unknown_ca",
            Self::ClientCertExpired => "client_cert_expired",
            Self::ClientCertRefused { .. } => "client_cert_refused",
            Self::NotTls { .. } => "not_tls",
            Self::TlsVersion => "tls_version",
            Self::HandshakeFailure { .. } => "tls_handshake_failure",
            Self::Alert { .. } => "tls_alert",
            Self::Truncated { .. } => "tls_truncated",
            Self::BadRecord => "tls_bad_record",
            Self::Protocol { .. } => "tls_protocol",
            Self::KeysExhausted => "tls_keys_exhausted",
            Self::Closed => "tls_closed",
            Self::Misuse(_) | Self::Internal { .. } => "tls_internal",
        }
    }
}

/// ALPN names as a list for a person.
struct Names<'a>(&'a [Vec<u8>]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", name.escape_ascii())?;
        }
        Ok(())
    }
}

struct Quoted<'a>(&'a Option<String>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, "\"{text}\""),
            None => f.write_str("an unreadable issuer"),
        }
    }
}
