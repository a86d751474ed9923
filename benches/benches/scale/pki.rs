//! Certificates of both sides, and rustls's configurations for the bare loop and the peer.

use std::path::Path;
use std::sync::Arc;

use fleetwire_endpoint::pki::{DeviceCertificate, KeyType, Pki};
use rustls::RootCertStore;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::wire;

/// The CA and the server certificate of a folder; made if it is empty.
pub(crate) fn load(folder: &Path) -> Pki {
    Pki::load_or_create(folder, [wire::SERVER]).expect("the folder can be written and read")
}

pub(crate) fn issue(pki: &Pki, index: usize) -> DeviceCertificate {
    pki.issue_device(&wire::client_id(index), KeyType::P256, None)
        .expect("a certificate can be made")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(pki: &Pki) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).expect("it is a CA");
    Arc::new(roots)
}

/// What all devices of the bare loop share.
pub(crate) fn client_config(pki: &Pki) -> rustls::ClientConfig {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(pki), provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for them")
        .with_webpki_verifier(verifier.build().expect("there is a root"))
        .with_no_client_auth();
    config.alpn_protocols = vec![wire::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// A device's certificate with its key, parsed.
pub(crate) fn identity(device: DeviceCertificate) -> Arc<SingleCertAndKey> {
    let key = aws_lc_rs::sign::any_supported_type(&device.key_der.into()).expect("it was just made");
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(
        vec![device.cert_der],
        key,
    )))
}

pub(crate) fn server_config(pki: &Pki) -> Arc<rustls::ServerConfig> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(pki), provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for them")
        .with_client_cert_verifier(verifier.build().expect("there is a root"))
        .with_single_cert(vec![pki.server_der().clone()], pki.server_key_der().into())
        .expect("they fit");
    config.alpn_protocols = vec![wire::ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}
