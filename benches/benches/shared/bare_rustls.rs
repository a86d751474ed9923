//! rustls's own configurations for the peers and the bare loops of the benches: the authority of a [`Pki`], one ALPN name, a
//! client certificate that is required, nothing resumed. Included by each bench that needs it.

use std::sync::Arc;

use fleetwire_endpoint::pki::Pki;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{RootCertStore, SupportedProtocolVersion};

pub(crate) const ALPN: &[u8] = b"x-amzn-mqtt-ca";

/// What all devices share.
pub(crate) fn client_config(
    pki: &Pki,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ClientConfig {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(pki), Arc::clone(provider));
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .expect("the provider has suites for them")
        .with_webpki_verifier(verifier.build().expect("there is a root"))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// How a key of this type is parsed at the least cost: trying all types parses an EC key twice.
pub(crate) fn parser(key: &PrivateKeyDer<'static>) -> Parser {
    if aws_lc_rs::sign::any_ecdsa_type(key).is_ok() {
        aws_lc_rs::sign::any_ecdsa_type
    } else {
        aws_lc_rs::sign::any_supported_type
    }
}

pub(crate) type Parser = fn(&PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, rustls::Error>;

/// A device's certificate with its key, parsed.
pub(crate) fn identity(
    certificate: CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
    parser: Parser,
) -> Arc<SingleCertAndKey> {
    let key = parser(key).expect("the key can be parsed");
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)))
}

pub(crate) fn server_config(
    pki: &Pki,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<rustls::ServerConfig> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(pki), Arc::clone(provider));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .expect("the provider has suites for them")
        .with_client_cert_verifier(verifier.build().expect("there is a root"))
        .with_single_cert(vec![pki.server_der().clone()], pki.server_key_der().into())
        .expect("they fit");
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn roots(pki: &Pki) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).expect("it is a CA");
    Arc::new(roots)
}
