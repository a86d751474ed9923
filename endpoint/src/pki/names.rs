//! The names that the server's certificate stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::SanType;
use rustls_pki_types::DnsName;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::pki::PkiError;

/// A subject alternative name: a DNS name (also `*.example.test`), kept in lower case, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Dns(String),
    Ip(IpAddr),
}

/// The subject alternative names of a server certificate: the loopback ones first, then those asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerNames(Vec<Name>);

impl ServerNames {
    /// The loopback names and `more`.
    pub(crate) fn with<S: AsRef<str>>(more: impl IntoIterator<Item = S>) -> Result<Self, PkiError> {
        let mut names = vec![
            Name::Dns("localhost".to_owned()),
            Name::Ip(Ipv4Addr::LOCALHOST.into()),
            Name::Ip(Ipv6Addr::LOCALHOST.into()),
        ];
        for text in more {
            let name = parse(text.as_ref())?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Self(names))
    }

    /// Whether the certificate stands for each of these names.
    pub(crate) fn all_in(&self, certificate: &X509Certificate<'_>) -> bool {
        let Ok(Some(extension)) = certificate.subject_alternative_name() else {
            return false;
        };
        let held: Vec<Name> = extension
            .value
            .general_names
            .iter()
            .filter_map(from_certificate)
            .collect();
        self.0.iter().all(|name| held.contains(name))
    }

    /// As rcgen writes them.
    pub(crate) fn to_san(&self) -> Result<Vec<SanType>, PkiError> {
        self.0
            .iter()
            .map(|name| {
                Ok(match name {
                    Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                    Name::Ip(address) => SanType::IpAddress(*address),
                })
            })
            .collect()
    }
}

fn parse(text: &str) -> Result<Name, PkiError> {
    if let Ok(address) = text.parse() {
        return Ok(Name::Ip(address));
    }
    let plain = text.strip_prefix("*.").unwrap_or(text);
    match DnsName::try_from(plain) {
        Ok(_) => Ok(Name::Dns(text.to_ascii_lowercase())),
        Err(_) => Err(PkiError::ServerName {
            name: text.to_owned(),
        }),
    }
}

fn from_certificate(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(name) => Some(Name::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets)
                .ok()
                .map(|octets| Name::Ip(octets.into())),
            16 => <[u8; 16]>::try_from(*octets)
                .ok()
                .map(|octets| Name::Ip(octets.into())),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_kept_once() {
        let names =
            ServerNames::with(["LOCALHOST", "broker.test", "*.fleet.test", "10.0.0.7", "::1"]).unwrap();
        assert_eq!(
            names.0[3..],
            [
                Name::Dns("broker.test".to_owned()),
                Name::Dns("*.fleet.test".to_owned()),
                Name::Ip("10.0.0.7".parse().unwrap())
            ]
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a b", "-", "*.", "https://x", "host:8883", "müller.test"] {
            assert!(
                matches!(ServerNames::with([text]), Err(PkiError::ServerName { name }) if name == text),
                "{text}"
            );
        }
    }
}
