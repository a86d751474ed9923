//! A whole handshake with mutual TLS and ALPN in memory: both sides of it, from nothing to established.
//!
//! What is compared: a pair of `TlsSession`s, and pairs of rustls's connections, buffered and unbuffered. All have the same
//! certificates (P-256), the same provider, one version of TLS, one ALPN name, a required client certificate, no
//! tickets and no session store. All make a client configuration for the one device in each handshake, with the
//! device's key parsed from DER, as a fleet must that gives each device its own identity and keeps no keys at rest.
//! Flights go from side to side whole, through one buffer for each direction, until nobody has more to say.
//!
//! What is on our side alone: the server looks into the ClientHello for the configuration to choose, and both
//! sides check the ALPN name that was negotiated.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use fleetwire_endpoint::pki::{DeviceCertificate, KeyType, Pki};
use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, Opened, Roots, Scratch, ServerConfig,
    ServerConfigBuilder, ServerName, TlsSession, Versions,
};
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion};

use crate::records::{Case, time};
use crate::world::drive;

const ALPN: &[u8] = b"x-amzn-mqtt-ca";
const SERVER: &str = "localhost";

pub(crate) fn handshake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tls/handshake/client-server");
    group.throughput(Throughput::Elements(1));
    each_version(|version, cases| {
        for (case, mut run) in cases {
            group.bench_function(BenchmarkId::new(case, version), |bencher| {
                bencher.iter_custom(&mut run);
            });
        }
    });
    group.finish();
}

/// Hands out what is compared for each version of TLS.
pub(crate) fn each_version(mut handle: impl FnMut(&str, Vec<Case<'_>>)) {
    let pki = Pki::throw_away([SERVER]).expect("certificates can be made");
    let device = pki
        .issue_device("device-0042", KeyType::P256, None)
        .expect("a certificate can be made");
    for (version, ours, bare) in [
        ("tls12-p256", Versions::Tls12, &rustls::version::TLS12),
        ("tls13-p256", Versions::Tls13, &rustls::version::TLS13),
    ] {
        let (ours, bare) = (Ours::new(&pki, &device, ours), Bare::new(&pki, &device, bare));
        let cases: Vec<Case<'_>> = vec![
            ("sessions", Box::new(|count| time(count, || ours.shake_hands()))),
            (
                "rustls-unbuffered",
                Box::new(|count| time(count, || bare.shake_hands_unbuffered())),
            ),
            (
                "rustls-buffered",
                Box::new(|count| time(count, || bare.shake_hands())),
            ),
        ];
        handle(version, cases);
    }
}

struct Ours {
    client: ClientConfig,
    server: ServerConfig,
    name: ServerName,
    device: Identity,
}

impl Ours {
    fn new(pki: &Pki, device: &DeviceCertificate, versions: Versions) -> Self {
        let roots = Roots::from_pem(pki.ca_pem().as_bytes()).expect("it is a CA");
        let server_key = pki.server_key_der().secret_pkcs8_der().to_vec();
        let server = Identity::from_der(vec![pki.server_der().to_vec()], server_key).expect("they fit");
        Self {
            client: ClientConfigBuilder::new()
                .roots(roots.clone())
                .alpn(vec![ALPN.to_vec()])
                .versions(versions)
                .build()
                .expect("the settings are sound"),
            server: ServerConfigBuilder::new(server)
                .alpn(ALPN, ClientAuth::Required(roots))
                .versions(versions)
                .build()
                .expect("the settings are sound"),
            name: ServerName::parse(SERVER).expect("it is a DNS name"),
            device: Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes())
                .expect("they fit"),
        }
    }

    fn shake_hands(&self) {
        let client = TlsSession::client(&self.client, &self.name, Some(&self.device));
        let mut client = Side::new(client.expect("the key can be parsed"));
        let mut server = Side::new(TlsSession::server(&self.server));
        client
            .session
            .start(&mut client.out)
            .expect("there is randomness");
        while !client.out.is_empty() || !server.out.is_empty() {
            server.deliver(&mut client.out);
            client.deliver(&mut server.out);
        }
        assert!(client.established && server.established);
    }
}

/// A session with what a connection holds for it.
struct Side {
    session: TlsSession,
    scratch: Scratch,
    received: Vec<u8>,
    out: Vec<u8>,
    established: bool,
}

impl Side {
    fn new(session: TlsSession) -> Self {
        Self {
            session,
            scratch: Scratch::new(),
            received: Vec::new(),
            out: Vec::new(),
            established: false,
        }
    }

    fn deliver(&mut self, bytes: &mut Vec<u8>) {
        self.received.append(bytes);
        let mut start = 0;
        loop {
            let opened = self
                .session
                .open(&mut self.scratch, &mut self.received[start..], &mut self.out);
            start += match opened.expect("the handshake succeeds") {
                Opened::NeedMore => break,
                Opened::Handshake { consumed } | Opened::Nothing { consumed } => consumed,
                Opened::Established { consumed } => {
                    self.established = true;
                    consumed
                }
                other => panic!("not part of a handshake: {other:?}"),
            };
        }
        self.received.drain(..start);
    }
}

struct Bare {
    client: rustls::ClientConfig,
    server: Arc<rustls::ServerConfig>,
    name: rustls::pki_types::ServerName<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Bare {
    fn new(pki: &Pki, device: &DeviceCertificate, version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca_der().clone()).expect("it is a CA");
        let roots = Arc::new(roots);

        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("the provider has suites for it")
            .with_webpki_verifier(verifier.build().expect("there is a root"))
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("the provider has suites for it")
            .with_client_cert_verifier(verifier.build().expect("there is a root"))
            .with_single_cert(vec![pki.server_der().clone()], pki.server_key_der().into())
            .expect("they fit");
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        Self {
            client,
            server: Arc::new(server),
            name: SERVER.try_into().expect("it is a DNS name"),
            chain: vec![device.cert_der.clone()],
            key: device.key_der.clone_key().into(),
        }
    }

    /// The configuration for the one device.
    fn config(&self) -> Arc<rustls::ClientConfig> {
        let key = aws_lc_rs::sign::any_supported_type(&self.key).expect("the key can be parsed");
        let identity = SingleCertAndKey::from(CertifiedKey::new(self.chain.clone(), key));
        let mut config = self.client.clone();
        config.client_auth_cert_resolver = Arc::new(identity);
        Arc::new(config)
    }

    fn shake_hands_unbuffered(&self) {
        let client = UnbufferedClientConnection::new(self.config(), self.name.clone());
        let mut client = client.expect("the settings are sound");
        let server = UnbufferedServerConnection::new(Arc::clone(&self.server));
        let mut server = server.expect("the settings are sound");
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        loop {
            drive!(client, to_client, to_server);
            if to_server.is_empty() {
                break;
            }
            drive!(server, to_server, to_client);
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
    }

    fn shake_hands(&self) {
        let client = ClientConnection::new(self.config(), self.name.clone());
        let mut client = client.expect("the settings are sound");
        let mut server = ServerConnection::new(Arc::clone(&self.server)).expect("the settings are sound");
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() || server.wants_write() {
            carry(&mut client, &mut to_server, &mut server);
            carry(&mut server, &mut to_client, &mut client);
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
    }
}

/// Takes what one side has to send, through the buffer, to the other.
pub(crate) fn carry<A, B>(
    from: &mut rustls::ConnectionCommon<A>,
    buffer: &mut Vec<u8>,
    to: &mut rustls::ConnectionCommon<B>,
) {
    while from.wants_write() {
        from.write_tls(buffer).expect("a vector takes all");
    }
    let mut bytes = buffer.as_slice();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).expect("there is room");
        to.process_new_packets().expect("the handshake succeeds");
    }
    buffer.clear();
}
