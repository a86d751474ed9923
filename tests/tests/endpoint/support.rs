//! What the tests share: clients of our engine, raw peers that send bytes made by hand, and rustls on its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fleetwire_endpoint::Endpoint;
use fleetwire_endpoint::pki::{KeyType, Pki};
use fleetwire_engine::{
    At, ChannelHandler, ConnectForm, Engine, Events, Failure, LinkId, OwnedKind, Plan, Way,
};
use fleetwire_tls::{ClientConfigBuilder, Identity, Roots, ServerName, Versions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, ServerConnection, StreamOwned};

/// No test waits for less; none waits so long unless it fails.
pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) const CERTIFICATE: &str = "x-amzn-mqtt-ca";
pub(crate) const PASSWORD: &str = "mqtt";

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

// --- Clients of our engine ------------------------------------------------------------------------------------------

/// How a device of our engine comes to a server over TLS.
pub(crate) struct Device {
    pub(crate) ca_pem: String,
    pub(crate) alpn: Vec<&'static str>,
    pub(crate) versions: Versions,
    pub(crate) server_name: &'static str,
    pub(crate) form: ConnectForm,
}

impl Device {
    /// One that trusts this authority, offers `x-amzn-mqtt-ca`, and has no certificate.
    pub(crate) fn trusting(ca_pem: &str) -> Self {
        Self {
            ca_pem: ca_pem.to_owned(),
            alpn: vec![CERTIFICATE],
            versions: Versions::Both,
            server_name: "localhost",
            form: ConnectForm::new("device-0"),
        }
    }

    pub(crate) fn plan(&self, address: SocketAddr) -> Plan {
        let config = ClientConfigBuilder::new()
            .roots(Roots::from_pem(self.ca_pem.as_bytes()).unwrap())
            .alpn(self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect())
            .versions(self.versions)
            .build()
            .unwrap();
        let name = ServerName::parse(self.server_name).unwrap();
        resolved(Way::tls("127.0.0.1", address.port(), config, name))
    }

    /// Connects, and says what became of it.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<Client, Failure> {
        Client::connect(&self.plan(address), self.form.clone())
    }
}

pub(crate) fn plain_plan(address: SocketAddr) -> Plan {
    resolved(Way::tcp("127.0.0.1", address.port()))
}

fn resolved(mut way: Way) -> Plan {
    way.resolve().unwrap();
    Plan::new(way).reconnect(false)
}

/// A certificate of the endpoint's own authority.
pub(crate) fn identity(endpoint: &Endpoint, client_id: &str) -> Identity {
    let device = endpoint.issue_device(client_id, KeyType::P256, None).unwrap();
    Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes()).unwrap()
}

/// A certificate of somebody else's authority.
pub(crate) fn strangers_identity() -> Identity {
    let device = stranger().issue_device("device-0", KeyType::P256, None).unwrap();
    Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes()).unwrap()
}

/// An authority that nobody trusts, with a server certificate for the loopback names.
pub(crate) fn stranger() -> Pki {
    Pki::throw_away::<&str>([]).unwrap()
}

/// One link of an engine of its own.
pub(crate) struct Client {
    pub(crate) engine: Engine<ChannelHandler>,
    events: Events,
    pub(crate) link: LinkId,
    pub(crate) alpn: Option<String>,
}

impl Client {
    pub(crate) fn connect(plan: &Plan, form: ConnectForm) -> Result<Self, Failure> {
        let (engine, events) = Engine::builder().start_channel(256).unwrap();
        let link = engine.handle().open_with(plan, 0, form).unwrap();
        let alpn = next(&events, |_, kind| match kind {
            OwnedKind::Connected { alpn, .. } => Some(Ok(alpn)),
            OwnedKind::Failed(failure) => Some(Err(failure)),
            _ => None,
        })?;
        let alpn = alpn.map(|name| String::from_utf8(name.into_vec()).unwrap());
        Ok(Self {
            engine,
            events,
            link,
            alpn,
        })
    }

    /// What `pick` makes of the first event that it wants.
    pub(crate) fn next<T>(&self, pick: impl FnMut(At, OwnedKind) -> Option<T>) -> T {
        next(&self.events, pick)
    }
}

/// What `pick` makes of the first event that it wants.
pub(crate) fn next<T>(events: &Events, mut pick: impl FnMut(At, OwnedKind) -> Option<T>) -> T {
    loop {
        let event = events.next_timeout(WAIT).expect("an event within the time");
        if let Some(picked) = pick(event.at, event.kind) {
            return picked;
        }
    }
}

/// Waits for what comes about on another thread.
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < WAIT, "not within {WAIT:?}");
        thread::yield_now();
    }
}

// --- Peers of bytes ---------------------------------------------------------------------------------------------------

/// An MQTT client that knows nothing but bytes, so that nothing of ours judges what the endpoint sends.
pub(crate) struct Raw<S>(pub(crate) S);

impl Raw<TcpStream> {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self(dial(address))
    }

    /// Says that nothing more is coming.
    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Raw<S> {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    /// The next whole packet.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).expect("a packet within the time");
        while packet[packet.len() - 1] & 0x80 != 0 {
            packet.push(0);
            let last = packet.len() - 1;
            self.0.read_exact(&mut packet[last..]).unwrap();
        }
        let length = packet[1..]
            .iter()
            .rev()
            .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let head = packet.len();
        packet.resize(head + length, 0);
        self.0.read_exact(&mut packet[head..]).unwrap();
        packet
    }

    /// Everything up to the end of the stream, which must come: a time-out is a failure.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the stream did not end: {error}"),
        }
    }

    /// CONNECT and its CONNACK's body: flags, code, and in 5.0 the properties.
    pub(crate) fn connect(&mut self, connect: &[u8]) -> Vec<u8> {
        self.send(connect);
        let connack = self.packet();
        assert_eq!(connack[0], 0x20, "{connack:?}");
        connack[2..].to_vec()
    }

    /// SUBSCRIBE with one filter, and the code that SUBACK grants.
    pub(crate) fn subscribe(&mut self, version: u8, filter: &str, qos: u8) -> u8 {
        let mut body = vec![0, 10];
        body.extend_from_slice(if version == 5 { &[0] } else { &[] });
        body.extend(text(filter));
        body.push(qos);
        self.send(&packet(0x82, &body));
        let suback = self.packet();
        let head = if version == 5 {
            &[0x90, 4, 0, 10, 0][..]
        } else {
            &[0x90, 3, 0, 10]
        };
        assert_eq!(&suback[..head.len()], head, "{suback:?}");
        suback[head.len()]
    }
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A packet with this first byte.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend_from_slice(body);
    packet
}

/// A string or binary field with its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut field = (text.len() as u16).to_be_bytes().to_vec();
    field.extend_from_slice(text.as_bytes());
    field
}

/// CONNECT with Clean Start and a keep-alive of 60 s; `version` is the level: 4 or 5.
pub(crate) fn connect(version: u8, client_id: &str) -> Vec<u8> {
    connect_with(version, client_id, 0x02, &[])
}

/// CONNECT with these flags and what follows the client id.
pub(crate) fn connect_with(version: u8, client_id: &str, flags: u8, more: &[u8]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend_from_slice(&[version, flags, 0, 60]);
    body.extend_from_slice(if version == 5 { &[0] } else { &[] });
    body.extend(text(client_id));
    body.extend_from_slice(more);
    packet(0x10, &body)
}

/// PUBLISH with an identifier if the flags say QoS 1 or 2, and with these bytes of properties in 5.0.
pub(crate) fn publish(version: u8, flags: u8, topic: &str, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 0x06 != 0 {
        body.extend_from_slice(&[0, 7]);
    }
    if version == 5 {
        assert!(properties.len() < 0x80);
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

// --- rustls on its own ------------------------------------------------------------------------------------------------

/// A TLS client of rustls that trusts this authority, over a stream that is connected.
pub(crate) fn tls_client<S: Read + Write>(
    ca_pem: &str,
    alpn: &[&str],
    stream: S,
) -> StreamOwned<ClientConnection, S> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, stream)
}

/// A stream that sends every byte on its own.
pub(crate) struct Drip(pub(crate) TcpStream);

impl Read for Drip {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes.get(..1).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A TLS server of rustls for one connection, without any ALPN of its own: it does its part of the handshake, reads to
/// the end, and returns the plaintext that it was sent.
pub(crate) fn tls_server(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    serve_once(move |stream| {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut plain = Vec::new();
        // However it ends: what came until then is what counts.
        let _ = stream.read_to_end(&mut plain);
        plain
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A server of one connection.
pub(crate) fn serve_once<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        serve(stream)
    });
    (address, thread)
}
