//! Certificates, configurations, and pairs of sessions that have met.

use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, Opened, RecordLayer, Roots, Scratch,
    ServerConfig, ServerConfigBuilder, ServerName, TlsSession, Versions,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize,
};

const ALPN: &[u8] = b"x-amzn-mqtt-ca";

pub(crate) struct World {
    roots: Roots,
    server: Identity,
    device: Identity,
}

impl World {
    /// ECDSA, and an authority that issues directly.
    pub(crate) fn small() -> Self {
        Self::make(1, || KeyPair::generate().unwrap())
    }

    /// As AWS IoT Core has it: four RSA certificates in the server's chain, and RSA devices.
    pub(crate) fn rsa_chain() -> Self {
        Self::make(4, || {
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
        })
    }

    fn make(chain_len: usize, key: impl Fn() -> KeyPair) -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (root_key, root_params) = (key(), authority("root"));
        let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
        let mut issuer = Issuer::new(root_params, root_key);
        let mut intermediates = Vec::new();
        for i in 1..chain_len {
            let (key, params) = (key(), authority(&format!("intermediate {i}")));
            intermediates.insert(0, params.signed_by(&key, &issuer).unwrap().der().to_vec());
            issuer = Issuer::new(params, key);
        }
        let issue = |names: Vec<String>| {
            let key = key();
            let params = CertificateParams::new(names).unwrap();
            let mut chain = vec![params.signed_by(&key, &issuer).unwrap().der().to_vec()];
            chain.extend(intermediates.clone());
            Identity::from_der(chain, key.serialize_der()).unwrap()
        };
        Self {
            roots: Roots::from_der([root]).unwrap(),
            server: issue(vec!["localhost".into()]),
            device: issue(Vec::new()),
        }
    }

    fn client_config(&self, versions: Versions, layer: RecordLayer) -> ClientConfig {
        ClientConfigBuilder::new()
            .roots(self.roots.clone())
            .alpn(vec![ALPN.to_vec()])
            .versions(versions)
            .record_layer(layer)
            .build()
            .unwrap()
    }

    fn server_config(&self, layer: RecordLayer) -> ServerConfig {
        ServerConfigBuilder::new(self.server.clone())
            .alpn(ALPN, ClientAuth::Required(self.roots.clone()))
            .record_layer(layer)
            .build()
            .unwrap()
    }

    pub(crate) fn client(&self, versions: Versions, layer: RecordLayer) -> End {
        let name = ServerName::parse("localhost").unwrap();
        let config = self.client_config(versions, layer);
        End::new(TlsSession::client(&config, &name, Some(&self.device)).unwrap())
    }

    /// Both ends after the handshake and a record in each direction.
    pub(crate) fn established(&self, versions: Versions, layer: RecordLayer) -> (End, End) {
        let mut client = self.client(versions, layer);
        let mut server = End::new(TlsSession::server(&self.server_config(layer)));
        client.out = client.start();
        while !client.out.is_empty() || !server.out.is_empty() {
            server.deliver(&std::mem::take(&mut client.out));
            client.deliver(&std::mem::take(&mut server.out));
        }
        server.deliver(&client.seal(b"there"));
        client.deliver(&server.seal(b"and back"));
        (client, server)
    }
}

pub(crate) struct End {
    pub(crate) session: TlsSession,
    scratch: Scratch,
    out: Vec<u8>,
}

impl End {
    fn new(session: TlsSession) -> Self {
        Self {
            session,
            scratch: Scratch::with_keys_max(1),
            out: Vec::new(),
        }
    }

    pub(crate) fn into_session(self) -> TlsSession {
        self.session
    }

    pub(crate) fn start(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.start(&mut out).unwrap();
        out
    }

    pub(crate) fn deliver(&mut self, bytes: &[u8]) {
        let mut received = bytes.to_vec();
        loop {
            let opened = self.session.open(&mut self.scratch, &mut received, &mut self.out);
            let consumed = match opened.unwrap() {
                Opened::NeedMore => break,
                Opened::Handshake { consumed }
                | Opened::Nothing { consumed }
                | Opened::Established { consumed }
                | Opened::Data { consumed, .. }
                | Opened::Closed { consumed } => consumed,
            };
            received.drain(..consumed);
        }
        assert!(received.is_empty());
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let framing = self.session.framing();
        let mut block = vec![0; framing.head + plain.len() + framing.tail];
        let place = framing.head..framing.head + plain.len();
        block[place.clone()].copy_from_slice(plain);
        let range = self.session.seal(&mut self.scratch, &mut block, place).unwrap();
        block[range].to_vec()
    }
}
