//! Certificates of both sides, and what the devices of the bare loop and of rumqttc connect with.

use std::path::Path;
use std::sync::Arc;

use fleetwire_endpoint::pki::{DeviceCertificate, KeyType, Pki};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Job, wire};
use crate::bare_rustls;

/// The CA and the server certificate of a folder; made if it is empty.
pub(crate) fn load(folder: &Path) -> Pki {
    // rumqttc asks for the address that it connects to.
    Pki::load_or_create(folder, [wire::SERVER, "127.0.0.1"]).expect("the folder can be written and read")
}

pub(crate) fn issue(pki: &Pki, index: usize) -> DeviceCertificate {
    pki.issue_device(&wire::client_id(index), KeyType::P256, None)
        .expect("a certificate can be made")
}

/// What devices need for rustls.
pub(crate) struct Devices {
    config: rustls::ClientConfig,
    identities: Vec<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    parser: bare_rustls::Parser,
}

impl Devices {
    /// None if the job is without TLS.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let (pki, provider) = (load(job.pki()?), Arc::new(aws_lc_rs::default_provider()));
        let devices = (0..job.connections).map(|index| issue(&pki, index));
        let identities: Vec<_> = devices
            .map(|device| (device.cert_der, device.key_der.into()))
            .collect();
        Some(Self {
            config: bare_rustls::client_config(&pki, &provider, rustls::ALL_VERSIONS),
            parser: bare_rustls::parser(&identities.first()?.1),
            identities,
        })
    }

    /// What the device connects with: a copy with its own certificate, whose key is parsed for this connection, as the
    /// engine does it.
    pub(crate) fn config(&self, index: usize) -> rustls::ClientConfig {
        let mut config = self.config.clone();
        let (certificate, key) = &self.identities[index];
        config.client_auth_cert_resolver = bare_rustls::identity(certificate.clone(), key, self.parser);
        config
    }
}
