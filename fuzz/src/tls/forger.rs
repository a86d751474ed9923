//! A peer that shakes hands through rustls and then protects by itself whatever it is told to send.

use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets, KeyLog, RootCertStore, ServerConnection,
};

/// A NewSessionTicket, RFC 8446 section 4.6.1.
pub(super) const TICKET: [u8; 19] = [4, 0, 0, 15, 0, 0, 1, 0, 1, 2, 3, 4, 1, 7, 0, 1, 9, 0, 0];

/// DER of certificates and of their keys.
pub(super) struct Certificates {
    pub(super) authority: Vec<u8>,
    pub(super) server: (Vec<u8>, Vec<u8>),
    pub(super) device: (Vec<u8>, Vec<u8>),
}

impl Certificates {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate").der().to_vec();
        let issuer = Issuer::new(params, key);
        let issue = |names: Vec<String>| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(names).expect("DNS names");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            (certificate.der().to_vec(), key.serialize_der())
        };
        Self {
            server: issue(vec!["localhost".into()]),
            device: issue(Vec::new()),
            authority,
        }
    }
}

/// rustls configurations of the peer, by TLS 1.3 or 1.2 and by suite.
pub(super) struct Configs {
    servers: Vec<rustls::ServerConfig>,
    clients: Vec<rustls::ClientConfig>,
}

impl Configs {
    pub(super) fn new(certificates: &Certificates) -> Self {
        use provider::cipher_suite::{
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
        };
        let suites = [
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for suite in suites {
            let provider = Arc::new(CryptoProvider {
                cipher_suites: vec![suite],
                ..provider::default_provider()
            });
            let chain = vec![CertificateDer::from(certificates.server.0.clone())];
            let key = PrivateKeyDer::try_from(certificates.server.1.clone()).expect("a key");
            let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[suite.version()])
                .expect("there is a suite")
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .expect("they fit");
            server.alpn_protocols = vec![b"mqtt".to_vec()];
            server.enable_secret_extraction = true;
            server.send_tls13_tickets = 0;
            servers.push(server);
            let mut roots = RootCertStore::empty();
            roots
                .add(certificates.authority.clone().into())
                .expect("an authority");
            let mut client = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[suite.version()])
                .expect("there is a suite")
                .with_root_certificates(roots)
                .with_no_client_auth();
            client.alpn_protocols = vec![b"mqtt".to_vec()];
            client.enable_secret_extraction = true;
            client.resumption = rustls::client::Resumption::disabled();
            clients.push(client);
        }
        Self { servers, clients }
    }
}

pub(super) struct Forger {
    tls12: bool,
    tx: Direction,
    rx: Direction,
}

struct Direction {
    sequence: u64,
    suite: usize,
    secret: Vec<u8>,
    key: Vec<u8>,
    iv: [u8; 12],
}

impl Forger {
    /// `tested` is given bytes and answers with bytes; it is the client if `tested_is_client`.
    pub(super) fn shake_hands(
        configs: &Configs,
        tested_is_client: bool,
        tls12: bool,
        suite: usize,
        tested: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Self {
        let index = suite + if tls12 { 3 } else { 0 };
        let log = Arc::new(Log::default());
        let secrets = if tested_is_client {
            let mut config = configs.servers[index].clone();
            config.key_log = Arc::<Log>::clone(&log);
            let mut server = ServerConnection::new(Arc::new(config)).expect("the settings are sound");
            carry(&mut server, tested);
            server.dangerous_extract_secrets()
        } else {
            let mut config = configs.clients[index].clone();
            config.key_log = Arc::<Log>::clone(&log);
            let name = "localhost".try_into().expect("a DNS name");
            let mut client = ClientConnection::new(Arc::new(config), name).expect("the settings are sound");
            carry(&mut client, tested);
            client.dangerous_extract_secrets()
        };
        let ExtractedSecrets { tx, rx } = secrets.expect("the handshake is done");
        let [of_client, of_server] = std::mem::take(&mut *log.0.lock().expect("nobody panics"));
        let (rx_secret, tx_secret) = if tested_is_client {
            (of_client, of_server)
        } else {
            (of_server, of_client)
        };
        Self {
            tls12,
            tx: Direction::new(tx, suite, tx_secret),
            rx: Direction::new(rx, suite, rx_secret),
        }
    }

    /// A record with this content; in TLS 1.3 with padding.
    pub(super) fn seal(&mut self, content_type: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let sequence = self.tx.sequence;
        self.tx.sequence += 1;
        let mut nonce = self.tx.nonce(sequence);
        let mut body = content.to_vec();
        let mut record = vec![content_type, 3, 3];
        let aad = if self.tls12 {
            if self.tx.suite != 2 {
                // Any explicit nonce will do, as long as it is another each time.
                nonce[4..].copy_from_slice(&(sequence ^ 0x5555).to_be_bytes());
            }
            tls12_aad(sequence, content_type, body.len())
        } else {
            body.push(content_type);
            // As much as a record may have.
            body.resize((body.len() + padding).min(16_385).max(body.len()), 0);
            record[0] = 23;
            [&[23, 3, 3][..], &(body.len() as u16 + 16).to_be_bytes()].concat()
        };
        self.tx
            .context()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
            .expect("it is short enough");
        let explicit = if self.tls12 && self.tx.suite != 2 {
            &nonce[4..]
        } else {
            &[]
        };
        record.extend(((explicit.len() + body.len()) as u16).to_be_bytes());
        record.extend_from_slice(explicit);
        record.extend(body);
        record
    }

    pub(super) fn update_tx(&mut self) {
        // TLS 1.2 has no such thing, and the session is over.
        if !self.tls12 {
            self.tx.update();
        }
    }

    /// Opens what the session has sealed: the application data, and how many key updates there were.
    pub(super) fn open(&mut self, mut records: &[u8]) -> (Vec<u8>, usize) {
        let (mut data, mut updates) = (Vec::new(), 0);
        while !records.is_empty() {
            let length = usize::from(u16::from_be_bytes([records[3], records[4]]));
            let (header, body) = records[..5 + length].split_at(5);
            records = &records[5 + length..];
            let sequence = self.rx.sequence;
            self.rx.sequence += 1;
            let mut nonce = self.rx.nonce(sequence);
            let mut body = body.to_vec();
            let aad = if self.tls12 {
                if self.rx.suite != 2 {
                    nonce[4..].copy_from_slice(&body[..8]);
                    body.drain(..8);
                }
                tls12_aad(sequence, header[0], body.len() - 16)
            } else {
                header.to_vec()
            };
            let nonce = Nonce::assume_unique_for_key(nonce);
            let opened = self.rx.context().open_in_place(nonce, Aad::from(aad), &mut body);
            let length = opened.expect("the session seals what its peer can open").len();
            body.truncate(length);
            let content_type = match self.tls12 {
                true => header[0],
                false => body.pop().expect("a content type"),
            };
            match content_type {
                23 => data.extend(body),
                22 => {
                    assert_eq!(body, [24, 0, 0, 1, 0]);
                    self.rx.update();
                    updates += 1;
                }
                _ => assert_eq!(content_type, 21),
            }
        }
        (data, updates)
    }
}

impl Direction {
    fn new((sequence, extracted): (u64, ConnectionTrafficSecrets), suite: usize, secret: Vec<u8>) -> Self {
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = &extracted
        else {
            panic!("another algorithm");
        };
        Self {
            sequence,
            suite,
            secret,
            key: key.as_ref().to_vec(),
            iv: iv.as_ref().try_into().expect("12 bytes"),
        }
    }

    fn nonce(&self, sequence: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }

    fn context(&self) -> LessSafeKey {
        let algorithm = [&AES_128_GCM, &AES_256_GCM, &CHACHA20_POLY1305][self.suite];
        LessSafeKey::new(UnboundKey::new(algorithm, &self.key).expect("the key fits"))
    }

    fn update(&mut self) {
        self.secret = self.expand("traffic upd", self.secret.len());
        self.key = self.expand("key", self.key.len());
        self.iv = self.expand("iv", 12).try_into().expect("12 bytes");
        self.sequence = 0;
    }

    fn expand(&self, label: &str, length: usize) -> Vec<u8> {
        let hash = [HKDF_SHA256, HKDF_SHA384, HKDF_SHA256][self.suite];
        let mut info = (length as u16).to_be_bytes().to_vec();
        info.push(6 + label.len() as u8);
        info.extend_from_slice(b"tls13 ");
        info.extend_from_slice(label.as_bytes());
        info.push(0);
        let mut out = vec![0; length];
        Prk::new_less_safe(hash, &self.secret)
            .expand(&[&info], Length(length))
            .and_then(|okm| okm.fill(&mut out))
            .expect("a short key");
        out
    }
}

/// The application traffic secrets of client and server.
#[derive(Debug, Default)]
struct Log(Mutex<[Vec<u8>; 2]>);

impl KeyLog for Log {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut secrets = self.0.lock().expect("nobody panics");
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => secrets[0] = secret.to_vec(),
            "SERVER_TRAFFIC_SECRET_0" => secrets[1] = secret.to_vec(),
            _ => {}
        }
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Carries a handshake to its end.
fn carry<Data>(peer: &mut rustls::ConnectionCommon<Data>, mut tested: impl FnMut(&[u8]) -> Vec<u8>) {
    loop {
        let mut theirs = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut theirs).expect("a vector takes all");
        }
        let ours = tested(&theirs);
        if theirs.is_empty() && ours.is_empty() {
            return;
        }
        let mut rest = ours.as_slice();
        while !rest.is_empty() {
            peer.read_tls(&mut rest).expect("there is room");
            peer.process_new_packets().expect("the handshake succeeds");
        }
    }
}

fn tls12_aad(sequence: u64, content_type: u8, length: usize) -> Vec<u8> {
    let mut aad = sequence.to_be_bytes().to_vec();
    aad.extend_from_slice(&[content_type, 3, 3]);
    aad.extend((length as u16).to_be_bytes());
    aad
}
