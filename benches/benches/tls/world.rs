//! Sessions of each kind that have met, over the same certificates.

use std::sync::Arc;

use fleetwire_endpoint::pki::{KeyType, Pki};
use fleetwire_tls::{
    ClientAuth, ClientConfigBuilder, Identity, Opened, Roots, Scratch, ServerConfigBuilder, ServerName,
    TlsSession, Versions,
};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{ClientConnection, ServerConnection};

use crate::bare_rustls::{self, ALPN};
use crate::handshake::{read, write};

/// Runs one side of an unbuffered handshake over what has come.
macro_rules! drive {
    ($side:ident, $received:ident, $out:ident) => {
        loop {
            let status = $side.process_tls_records(&mut $received);
            let discard = status.discard;
            let settled = match status.state.expect("the handshake succeeds") {
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = $out.len();
                    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
                        panic!("there is something to send");
                    };
                    $out.resize(start + size.required_size, 0);
                    data.encode(&mut $out[start..]).expect("there is room");
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                _ => true,
            };
            $received.drain(..discard);
            if settled {
                break;
            }
        }
    };
}

pub(crate) use drive;

/// Configurations of both kinds for the same certificates.
pub(crate) struct World {
    client: fleetwire_tls::ClientConfig,
    server: fleetwire_tls::ServerConfig,
    device: Identity,
    rustls_client: Arc<rustls::ClientConfig>,
    rustls_server: Arc<rustls::ServerConfig>,
}

impl World {
    pub(crate) fn new() -> Self {
        let pki = Pki::throw_away(["localhost"]).expect("certificates can be made");
        let device = pki
            .issue_device("device-0", KeyType::P256, None)
            .expect("a certificate can be made");
        let roots = Roots::from_pem(pki.ca_pem().as_bytes()).expect("it is a CA");
        let server_key = pki.server_key_der().secret_pkcs8_der().to_vec();
        let server = Identity::from_der(vec![pki.server_der().to_vec()], server_key).expect("they fit");
        let crypto = Arc::new(CryptoProvider {
            cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..provider::default_provider()
        });
        let mut rustls_client = bare_rustls::client_config(&pki, &crypto, &[&rustls::version::TLS13]);
        let key = device.key_der.clone_key().into();
        rustls_client.client_auth_cert_resolver =
            bare_rustls::identity(device.cert_der.clone(), &key, bare_rustls::parser(&key));
        Self {
            client: ClientConfigBuilder::new()
                .roots(roots.clone())
                .alpn(vec![ALPN.to_vec()])
                .versions(Versions::Tls13)
                .cipher_suites(&["TLS13_AES_128_GCM_SHA256"])
                .build()
                .expect("the settings are sound"),
            server: ServerConfigBuilder::new(server)
                .alpn(ALPN, ClientAuth::Required(roots))
                .build()
                .expect("the settings are sound"),
            device: Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes())
                .expect("they fit"),
            rustls_client: Arc::new(rustls_client),
            rustls_server: bare_rustls::server_config(&pki, &crypto, &[&rustls::version::TLS13]),
        }
    }

    pub(crate) fn ours(&self) -> (TlsSession, TlsSession) {
        let name = ServerName::parse("localhost").expect("it is a DNS name");
        let client = TlsSession::client(&self.client, &name, Some(&self.device));
        (
            client.expect("the key can be parsed"),
            TlsSession::server(&self.server),
        )
    }

    pub(crate) fn established(&self) -> (TlsSession, TlsSession) {
        let (mut client, mut server) = self.ours();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut scratch = Scratch::with_keys_max(1);
        client.start(&mut to_server).expect("there is randomness");
        while !to_server.is_empty() || !to_client.is_empty() {
            deliver(&mut server, &mut scratch, &mut to_server, &mut to_client);
            deliver(&mut client, &mut scratch, &mut to_client, &mut to_server);
        }
        (client, server)
    }

    pub(crate) fn unbuffered(&self) -> (UnbufferedClientConnection, UnbufferedServerConnection) {
        let name = "localhost".try_into().expect("it is a DNS name");
        let mut client = UnbufferedClientConnection::new(Arc::clone(&self.rustls_client), name)
            .expect("the settings are sound");
        let mut server =
            UnbufferedServerConnection::new(Arc::clone(&self.rustls_server)).expect("the settings are sound");
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            drive!(client, to_client, to_server);
            drive!(server, to_server, to_client);
        }
        (client, server)
    }

    pub(crate) fn buffered(&self) -> (ClientConnection, ServerConnection) {
        let name = "localhost".try_into().expect("it is a DNS name");
        let mut client =
            ClientConnection::new(Arc::clone(&self.rustls_client), name).expect("the settings are sound");
        let mut server =
            ServerConnection::new(Arc::clone(&self.rustls_server)).expect("the settings are sound");
        let mut bytes = Vec::new();
        while client.wants_write() || server.wants_write() {
            write(&mut client, &mut bytes);
            read(&mut server, &mut bytes);
            write(&mut server, &mut bytes);
            read(&mut client, &mut bytes);
        }
        (client, server)
    }
}

fn deliver(session: &mut TlsSession, scratch: &mut Scratch, bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut start = 0;
    loop {
        let opened = session.open(scratch, &mut bytes[start..], out);
        start += match opened.expect("the handshake succeeds") {
            Opened::NeedMore => break,
            Opened::Handshake { consumed }
            | Opened::Nothing { consumed }
            | Opened::Established { consumed } => consumed,
            other => panic!("not part of a handshake: {other:?}"),
        };
    }
    bytes.clear();
}
