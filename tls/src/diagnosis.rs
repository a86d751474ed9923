//! From rustls's errors to who refused what and why.

use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::{
    connection::Failure,
    error::{Reason, TlsError},
    server_config::host_name,
    x509::date,
};

/// Which side we are: the same alert is about different certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Names a failure; `issuer` is that of the server certificate which a client refused.
pub(crate) fn diagnose(role: Role, failure: Failure, issuer: Option<String>) -> TlsError {
    match failure {
        Failure::Rustls(Error::AlertReceived(alert)) => received(role, alert),
        Failure::Rustls(error) => found(role, error, issuer),
        Failure::TooLong => protocol("a message is longer than is accepted here", None),
        Failure::KeysExhausted => keys_exhausted(),
        Failure::NoRoom => no_room(),
    }
}

/// The first bytes were no TLS; the alert is the one that rustls sends for them.
pub(crate) fn not_tls(bytes: &[u8], out: &mut Vec<u8>) -> TlsError {
    plain_alert(AlertDescription::DecodeError, out);
    let shown = bytes.len().min(FIRST_BYTES_SHOWN);
    let reason = Reason::NotTls {
        first: bytes.get(..shown).unwrap_or_default().to_vec(),
    };
    TlsError::ours(reason, Some(AlertDescription::DecodeError.into()))
}

/// The client offers none of the names that are served, or none (RFC 7301 section 3.2). Nothing is encrypted yet.
pub(crate) fn no_application_protocol(reason: Reason, out: &mut Vec<u8>) -> TlsError {
    plain_alert(AlertDescription::NoApplicationProtocol, out);
    TlsError::ours(reason, Some(AlertDescription::NoApplicationProtocol.into()))
}

/// The application does not want this client, whose certificate is sound (RFC 8446 section 6.2).
pub(crate) fn access_denied(detail: String) -> TlsError {
    let reason = Reason::ClientCertRefused { detail };
    TlsError::ours(reason, Some(AlertDescription::AccessDenied.into()))
}

/// The server name in the ClientHello is not one that is served, or there is none. Nothing is encrypted yet.
pub(crate) fn server_name(name: Option<&str>, out: &mut Vec<u8>) -> TlsError {
    let (reason, alert) = match name {
        Some(name) => {
            let reason = Reason::ServerNameUnknown {
                name: host_name(name).into(),
            };
            (reason, AlertDescription::UnrecognisedName)
        }
        None => (Reason::ServerNameMissing, AlertDescription::MissingExtension),
    };
    plain_alert(alert, out);
    TlsError::ours(reason, Some(alert.into()))
}

pub(crate) fn protocol(detail: impl Into<String>, alert: Option<u8>) -> TlsError {
    TlsError::ours(
        Reason::Protocol {
            detail: detail.into(),
        },
        alert,
    )
}

pub(crate) fn internal(detail: impl ToString) -> TlsError {
    let detail = detail.to_string();
    TlsError::ours(Reason::Internal { detail }, None)
}

/// The keys may protect no further record, and TLS 1.2 has no others.
pub(crate) fn keys_exhausted() -> TlsError {
    TlsError::ours(Reason::KeysExhausted, None)
}

/// The caller's block does not fit.
pub(crate) fn no_room() -> TlsError {
    misuse("the block has too little room around the plaintext, or there is too much of it")
}

pub(crate) fn misuse(what: &'static str) -> TlsError {
    TlsError::ours(Reason::Misuse(what), None)
}

/// A fatal alert of the peer: about our certificate, or about what we offered.
pub(crate) fn received(role: Role, alert: AlertDescription) -> TlsError {
    let number = u8::from(alert);
    let detail = name(alert);
    let reason = match (alert, role) {
        (AlertDescription::NoApplicationProtocol, _) => Reason::AlpnRefused { offered: Vec::new() },
        (AlertDescription::ProtocolVersion, _) => Reason::TlsVersion,
        (AlertDescription::HandshakeFailure, Role::Client) => Reason::HandshakeFailure {
            detail: "the server found no parameters in common, or it missed a client certificate".into(),
        },
        (AlertDescription::HandshakeFailure, Role::Server) => Reason::HandshakeFailure {
            detail: "the client found no parameters in common".into(),
        },

        // About the client's certificate.
        (AlertDescription::CertificateRequired, Role::Client) => Reason::ClientCertRequired,
        (AlertDescription::UnknownCA, Role::Client) => Reason::ClientCertUnknownCa,
        (AlertDescription::CertificateExpired, Role::Client) => Reason::ClientCertExpired,
        (
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::NoCertificate,
            Role::Client,
        ) => Reason::ClientCertRefused { detail },

        // About the server's.
        (AlertDescription::UnknownCA, Role::Server) => Reason::ServerCaUnknown { issuer: None },
        (AlertDescription::CertificateExpired, Role::Server) => Reason::ServerCertExpired { detail },
        (
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown,
            Role::Server,
        ) => Reason::ServerCertInvalid { detail },

        _ => Reason::Alert {
            description: format!("the peer ended the connection: {detail}"),
        },
    };
    TlsError::theirs(reason, Some(number))
}

/// Something that rustls found wrong on this side; it has queued the alert.
fn found(role: Role, error: Error, issuer: Option<String>) -> TlsError {
    let alert = alert_of(&error).map(u8::from);
    let reason = match error {
        Error::InvalidCertificate(error) => match role {
            Role::Client => server_certificate(error, issuer),
            Role::Server => client_certificate(error),
        },
        Error::NoCertificatesPresented if role == Role::Server => Reason::ClientCertRequired,
        Error::NoApplicationProtocol => Reason::AlpnRefused { offered: Vec::new() },
        Error::PeerIncompatible(what) if is_about_version(&what) => Reason::TlsVersion,
        Error::PeerIncompatible(what) => Reason::HandshakeFailure {
            detail: format!("{what:?}"),
        },
        Error::DecryptError => Reason::BadRecord,
        Error::General(detail) => Reason::Internal { detail },
        error @ (Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::HandshakeNotComplete
        | Error::EncryptError
        | Error::BadMaxFragmentSize
        | Error::InconsistentKeys(_)) => Reason::Internal {
            detail: error.to_string(),
        },
        error => Reason::Protocol {
            detail: error.to_string(),
        },
    };
    TlsError::ours(reason, alert)
}

fn server_certificate(error: CertificateError, issuer: Option<String>) -> Reason {
    let detail = error.to_string();
    match error {
        CertificateError::UnknownIssuer => Reason::ServerCaUnknown { issuer },
        CertificateError::Expired => Reason::ServerCertExpired { detail },
        CertificateError::ExpiredContext { time, not_after } => {
            let (end, now) = (date(not_after.as_secs()), date(time.as_secs()));
            let detail = format!("it ended {end}, and this clock says {now}");
            Reason::ServerCertExpired { detail }
        }
        CertificateError::NotValidYet => Reason::ServerCertNotYetValid { detail },
        CertificateError::NotValidYetContext { time, not_before } => {
            let (begin, now) = (date(not_before.as_secs()), date(time.as_secs()));
            let detail = format!("it begins {begin}, and this clock says {now}");
            Reason::ServerCertNotYetValid { detail }
        }
        CertificateError::NotValidForNameContext { expected, presented } => Reason::ServerNameMismatch {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| plain_name(name)).collect(),
        },
        _ => Reason::ServerCertInvalid { detail },
    }
}

/// A name of a certificate, which webpki writes as `DnsName("localhost")` or `IpAddress(127.0.0.1)`.
fn plain_name(presented: &str) -> String {
    let Some((kind, name)) = presented
        .strip_suffix(')')
        .and_then(|inner| inner.split_once('('))
    else {
        return presented.to_owned();
    };
    match kind {
        "DnsName" | "UniformResourceIdentifier" => name.trim_matches('"').to_owned(),
        // In the form that people write: webpki has 0::1 for ::1.
        "IpAddress" => name
            .parse::<IpAddr>()
            .map_or_else(|_| name.to_owned(), |address| address.to_string()),
        _ => presented.to_owned(),
    }
}

fn client_certificate(error: CertificateError) -> Reason {
    match error {
        CertificateError::UnknownIssuer => Reason::ClientCertUnknownCa,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Reason::ClientCertExpired,
        error => Reason::ClientCertRefused {
            detail: error.to_string(),
        },
    }
}

fn is_about_version(what: &PeerIncompatible) -> bool {
    matches!(
        what,
        PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
    )
}

/// The alert that rustls sends for an error, where the error alone tells it.
fn alert_of(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::InvalidCertificate(error) => Some(error.clone().into()),
        Error::NoCertificatesPresented => Some(AlertDescription::CertificateRequired),
        Error::NoApplicationProtocol => Some(AlertDescription::NoApplicationProtocol),
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(AlertDescription::DecodeError),
        Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
        Error::PeerIncompatible(what) if is_about_version(what) => Some(AlertDescription::ProtocolVersion),
        _ => None,
    }
}

/// The names of RFC 8446 section 6, as far as they are met.
fn name(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    match alert {
        AlertDescription::CloseNotify => "it closed during the handshake".into(),
        AlertDescription::BadCertificate => "bad_certificate".into(),
        AlertDescription::UnsupportedCertificate => "unsupported_certificate".into(),
        AlertDescription::CertificateRevoked => "certificate_revoked".into(),
        AlertDescription::CertificateExpired => "certificate_expired".into(),
        AlertDescription::CertificateUnknown => "certificate_unknown".into(),
        AlertDescription::AccessDenied => "access_denied".into(),
        AlertDescription::DecryptError => "decrypt_error: a signature did not verify".into(),
        AlertDescription::BadRecordMac => "bad_record_mac".into(),
        AlertDescription::DecodeError => "decode_error".into(),
        AlertDescription::IllegalParameter => "illegal_parameter".into(),
        AlertDescription::UnexpectedMessage => "unexpected_message".into(),
        AlertDescription::InternalError => "internal_error".into(),
        AlertDescription::InsufficientSecurity => "insufficient_security".into(),
        AlertDescription::UserCanceled => "user_canceled".into(),
        AlertDescription::MissingExtension => "missing_extension".into(),
        AlertDescription::UnrecognisedName => {
            "unrecognized_name: it does not serve the SNI that was sent".into()
        }
        _ => format!("alert {number}"),
    }
}

/// A fatal alert in a record that is not encrypted.
fn plain_alert(alert: AlertDescription, out: &mut Vec<u8>) {
    out.extend_from_slice(&[21, 3, 3, 0, 2, 2, alert.into()]);
}

const FIRST_BYTES_SHOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_plainly() {
        for (presented, plain) in [
            ("DnsName(\"localhost\")", "localhost"),
            ("DnsName(\"*.example\")", "*.example"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("IpAddress(0::1)", "::1"),
            ("DirectoryName", "DirectoryName"),
            ("Unsupported(0x66)", "Unsupported(0x66)"),
        ] {
            assert_eq!(plain_name(presented), plain);
        }
    }
}
