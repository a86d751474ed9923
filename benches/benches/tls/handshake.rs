//! A whole handshake with mutual TLS and ALPN in memory, from nothing to established and freed: what it takes of the
//! client, and what of the server.
//!
//! What is compared: a pair of `TlsSession`s, and pairs of rustls's connections, buffered and unbuffered. All have the same
//! certificates (the server's P-256), the same provider, one version of TLS, one ALPN name, a required client certificate, no
//! tickets and no session store. All make a client configuration for the one device in each handshake, with the
//! device's key parsed from DER, as a fleet must that gives each device its own identity and keeps no keys at rest.
//! Flights go from side to side whole, through one buffer for each direction, until nobody has more to say.
//!
//! What is on our side alone: the server looks into the ClientHello for the configuration to choose, and both
//! sides check the ALPN name that was negotiated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use fleetwire_endpoint::pki::{DeviceCertificate, KeyType, Pki};
use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, KeyExchangeGroup, Opened, Roots, Scratch,
    ServerConfig, ServerConfigBuilder, ServerName, TlsSession, Versions,
};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{ClientConnection, ServerConnection};

use crate::bare_rustls::{self, ALPN};
use crate::records::Case;
use crate::world::drive;

const SERVER: &str = "localhost";

pub(crate) fn handshake(criterion: &mut Criterion) {
    for (who, name) in [
        (Who::Client, "tls/handshake/client"),
        (Who::Server, "tls/handshake/server"),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        each_kind(who, |kind, cases| {
            for (case, mut run) in cases {
                group.bench_function(BenchmarkId::new(case, kind), |bencher| {
                    bencher.iter_custom(&mut run);
                });
            }
        });
        group.finish();
    }
}

/// Hands out what is compared for each kind of handshake: version, key of the device, group of the key exchange.
pub(crate) fn each_kind(who: Who, mut handle: impl FnMut(&str, Vec<Case<'_>>)) {
    use KeyExchangeGroup::{X25519, X25519MlKem768};
    let pki = Pki::throw_away([SERVER]).expect("certificates can be made");
    let device = |key| {
        pki.issue_device("device-0042", key, None)
            .expect("a certificate can be made")
    };
    let (p256, rsa) = (device(KeyType::P256), device(KeyType::Rsa2048));
    for (kind, versions, device, group) in [
        ("tls12-p256-x25519", Versions::Tls12, &p256, X25519),
        ("tls12-rsa2048-x25519", Versions::Tls12, &rsa, X25519),
        ("tls13-p256-x25519", Versions::Tls13, &p256, X25519),
        (
            "tls13-p256-x25519mlkem768",
            Versions::Tls13,
            &p256,
            X25519MlKem768,
        ),
        ("tls13-rsa2048-x25519", Versions::Tls13, &rsa, X25519),
    ] {
        let ours = Ours::new(&pki, device, versions, group);
        let bare = Bare::new(&pki, device, versions, group);
        let cases: Vec<Case<'_>> = vec![
            (
                "sessions",
                Box::new(|count| who.time(count, |clock| ours.shake_hands(clock))),
            ),
            (
                "rustls-unbuffered",
                Box::new(|count| who.time(count, |clock| bare.shake_hands_unbuffered(clock))),
            ),
            (
                "rustls-buffered",
                Box::new(|count| who.time(count, |clock| bare.shake_hands(clock))),
            ),
        ];
        handle(kind, cases);
    }
}

/// Whose time is told.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Client,
    Server,
    Both,
}

impl Who {
    fn time(self, count: u64, mut run: impl FnMut(&mut Clock)) -> Duration {
        let mut clock = Clock::default();
        for _ in 0..count {
            run(&mut clock);
        }
        match self {
            Self::Client => clock.client,
            Self::Server => clock.server,
            Self::Both => clock.client + clock.server,
        }
    }
}

/// What each side has taken.
#[derive(Default)]
struct Clock {
    client: Duration,
    server: Duration,
}

impl Clock {
    fn client<T>(&mut self, run: impl FnOnce() -> T) -> T {
        Self::add(&mut self.client, run)
    }

    fn server<T>(&mut self, run: impl FnOnce() -> T) -> T {
        Self::add(&mut self.server, run)
    }

    fn add<T>(spent: &mut Duration, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = run();
        *spent += start.elapsed();
        answer
    }
}

struct Ours {
    client: ClientConfig,
    server: ServerConfig,
    name: ServerName,
    device: Identity,
}

impl Ours {
    fn new(pki: &Pki, device: &DeviceCertificate, versions: Versions, group: KeyExchangeGroup) -> Self {
        let roots = Roots::from_pem(pki.ca_pem().as_bytes()).expect("it is a CA");
        let server_key = pki.server_key_der().secret_pkcs8_der().to_vec();
        let server = Identity::from_der(vec![pki.server_der().to_vec()], server_key).expect("they fit");
        Self {
            client: ClientConfigBuilder::new()
                .roots(roots.clone())
                .alpn(vec![ALPN.to_vec()])
                .versions(versions)
                .key_exchange_groups(&[group])
                .build()
                .expect("the settings are sound"),
            server: ServerConfigBuilder::new(server)
                .alpn(ALPN, ClientAuth::Required(roots))
                .versions(versions)
                .key_exchange_groups(&[group])
                .build()
                .expect("the settings are sound"),
            name: ServerName::parse(SERVER).expect("it is a DNS name"),
            device: Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes())
                .expect("they fit"),
        }
    }

    fn shake_hands(&self, clock: &mut Clock) {
        let mut client = clock.client(|| {
            let client = TlsSession::client(&self.client, &self.name, Some(&self.device));
            let mut client = Side::new(client.expect("the key can be parsed"));
            let started = client.session.start(&mut client.out);
            started.expect("there is randomness");
            client
        });
        let mut server = clock.server(|| Side::new(TlsSession::server(&self.server)));
        while !client.out.is_empty() || !server.out.is_empty() {
            clock.server(|| server.deliver(&mut client.out));
            clock.client(|| client.deliver(&mut server.out));
        }
        assert!(client.established && server.established);
        clock.client(|| drop(client));
        clock.server(|| drop(server));
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
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    parser: bare_rustls::Parser,
}

impl Bare {
    fn new(pki: &Pki, device: &DeviceCertificate, versions: Versions, group: KeyExchangeGroup) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![match group {
            KeyExchangeGroup::X25519MlKem768 => aws_lc_rs::kx_group::X25519MLKEM768,
            _ => aws_lc_rs::kx_group::X25519,
        }];
        let provider = Arc::new(provider);
        let version = match versions {
            Versions::Tls12 => &rustls::version::TLS12,
            _ => &rustls::version::TLS13,
        };
        let key = device.key_der.clone_key().into();
        Self {
            client: bare_rustls::client_config(pki, &provider, &[version]),
            server: bare_rustls::server_config(pki, &provider, &[version]),
            name: SERVER.try_into().expect("it is a DNS name"),
            certificate: device.cert_der.clone(),
            parser: bare_rustls::parser(&key),
            key,
        }
    }

    /// The configuration for the one device.
    fn config(&self) -> Arc<rustls::ClientConfig> {
        let mut config = self.client.clone();
        config.client_auth_cert_resolver =
            bare_rustls::identity(self.certificate.clone(), &self.key, self.parser);
        Arc::new(config)
    }

    fn shake_hands_unbuffered(&self, clock: &mut Clock) {
        let mut client = clock.client(|| {
            let client = UnbufferedClientConnection::new(self.config(), self.name.clone());
            client.expect("the settings are sound")
        });
        let mut server = clock.server(|| {
            let server = UnbufferedServerConnection::new(Arc::clone(&self.server));
            server.expect("the settings are sound")
        });
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        loop {
            clock.client(|| drive!(client, to_client, to_server));
            if to_server.is_empty() {
                break;
            }
            clock.server(|| drive!(server, to_server, to_client));
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        clock.client(|| drop(client));
        clock.server(|| drop(server));
    }

    fn shake_hands(&self, clock: &mut Clock) {
        let mut client = clock.client(|| {
            let client = ClientConnection::new(self.config(), self.name.clone());
            client.expect("the settings are sound")
        });
        let mut server = clock.server(|| {
            let server = ServerConnection::new(Arc::clone(&self.server));
            server.expect("the settings are sound")
        });
        let mut bytes = Vec::new();
        while client.wants_write() || server.wants_write() {
            clock.client(|| write(&mut client, &mut bytes));
            clock.server(|| read(&mut server, &mut bytes));
            clock.server(|| write(&mut server, &mut bytes));
            clock.client(|| read(&mut client, &mut bytes));
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        clock.client(|| drop(client));
        clock.server(|| drop(server));
    }
}

/// Takes what one side has to send.
pub(crate) fn write<Data>(from: &mut rustls::ConnectionCommon<Data>, bytes: &mut Vec<u8>) {
    while from.wants_write() {
        from.write_tls(bytes).expect("a vector takes all");
    }
}

/// Gives it to the other.
pub(crate) fn read<Data>(to: &mut rustls::ConnectionCommon<Data>, bytes: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("there is room");
        to.process_new_packets().expect("the handshake succeeds");
    }
    bytes.clear();
}
