use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use crate::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, Opened, RecordLayer, Roots, Scratch,
    ServerConfig, ServerConfigBuilder, ServerName, TlsError, TlsSession, Versions,
};

pub(super) const CA_NAME: &[u8] = b"x-amzn-mqtt-ca";
pub(super) const MQTT: &[u8] = b"mqtt";
pub(super) const VERSIONS: [Versions; 2] = [Versions::Tls12, Versions::Tls13];

/// A version, and who protects the records of both sides.
pub(super) type Case = (Versions, RecordLayer);
pub(super) const CASES: [Case; 4] = [
    (Versions::Tls12, RecordLayer::InPlace),
    (Versions::Tls13, RecordLayer::InPlace),
    (Versions::Tls12, RecordLayer::Rustls),
    (Versions::Tls13, RecordLayer::Rustls),
];

/// A certificate authority for one test.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: Vec<u8>,
}

/// From which to which year a certificate counts.
pub(super) type Years = (i32, i32);
pub(super) const VALID: Years = (1975, 4096);
pub(super) const EXPIRED: Years = (1975, 2001);
pub(super) const FUTURE: Years = (4000, 4096);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, &[], VALID);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(super) fn roots(&self) -> Roots {
        Roots::from_der([self.certificate.as_slice()]).unwrap()
    }

    /// PEM of a certificate and its key.
    pub(super) fn issue_pem(
        &self,
        name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        years: Years,
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, names, years);
        params.extended_key_usages.push(usage);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(super) fn server(&self, names: &[&str], years: Years) -> Identity {
        let pem = self.issue_pem("server", names, ExtendedKeyUsagePurpose::ServerAuth, years);
        identity(&pem)
    }

    pub(super) fn device(&self, name: &str, years: Years) -> Identity {
        identity(&self.issue_pem(name, &[], ExtendedKeyUsagePurpose::ClientAuth, years))
    }
}

/// Takes expired certificates too: its clock stands still in the year 2000.
fn identity((cert, key): &(String, String)) -> Identity {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
    Identity::from_pem_at(cert.as_bytes(), key.as_bytes(), now).unwrap()
}

fn params(name: &str, names: &[&str], (from, to): Years) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

/// One authority for the server and the devices, a server for `localhost` with both names, and one device.
pub(super) struct World {
    pub(super) authority: Authority,
    pub(super) server: ServerConfig,
    pub(super) device: Identity,
    layer: RecordLayer,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(RecordLayer::InPlace)
    }

    pub(super) fn with(layer: RecordLayer) -> Self {
        let authority = Authority::new("Fleet CA");
        let server = table(&authority, authority.server(&["localhost", "127.0.0.1"], VALID))
            .record_layer(layer)
            .build()
            .unwrap();
        let device = authority.device("device-0", VALID);
        Self {
            authority,
            server,
            device,
            layer,
        }
    }

    pub(super) fn client(&self, alpn: &[&[u8]], versions: Versions) -> ClientConfig {
        client_builder(&self.authority, alpn, versions)
            .record_layer(self.layer)
            .build()
            .unwrap()
    }

    /// A device that offers `x-amzn-mqtt-ca`, and the server, before the first byte.
    pub(super) fn pair(&self, versions: Versions) -> Pair {
        let client = self.client(&[CA_NAME], versions);
        Pair::new(&client, "localhost", Some(&self.device), &self.server)
    }

    /// The same after the handshake.
    pub(super) fn established((versions, layer): Case) -> Pair {
        let mut pair = Self::with(layer).pair(versions);
        pair.run();
        assert!(pair.client.established && pair.server.established);
        pair
    }
}

pub(super) fn table(authority: &Authority, identity: Identity) -> ServerConfigBuilder {
    ServerConfigBuilder::new(identity)
        .alpn(CA_NAME, ClientAuth::Required(authority.roots()))
        .alpn(MQTT, ClientAuth::None)
}

pub(super) fn client_builder(trusted: &Authority, alpn: &[&[u8]], versions: Versions) -> ClientConfigBuilder {
    ClientConfigBuilder::new()
        .roots(trusted.roots())
        .alpn(alpn.iter().map(|name| name.to_vec()).collect())
        .versions(versions)
}

/// A session with what a connection would hold for it.
pub(super) struct Peer {
    pub(super) session: TlsSession,
    pub(super) scratch: Scratch,
    /// Received and not consumed.
    pub(super) received: Vec<u8>,
    /// To be sent.
    pub(super) out: Vec<u8>,
    /// All plaintext that was opened.
    pub(super) data: Vec<u8>,
    pub(super) established: bool,
    pub(super) closed: bool,
    pub(super) error: Option<TlsError>,
}

impl Peer {
    pub(super) fn new(session: TlsSession) -> Self {
        Self {
            session,
            scratch: Scratch::new(),
            received: Vec::new(),
            out: Vec::new(),
            data: Vec::new(),
            established: false,
            closed: false,
            error: None,
        }
    }

    pub(super) fn client(config: &ClientConfig, name: &str, identity: Option<&Identity>) -> Self {
        let name = ServerName::parse(name).unwrap();
        let mut peer = Self::new(TlsSession::client(config, &name, identity).unwrap());
        peer.session.start(&mut peer.out).unwrap();
        peer
    }

    /// Takes bytes from the wire as the engine would.
    pub(super) fn deliver(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while self.error.is_none() {
            let opened = self
                .session
                .open(&mut self.scratch, &mut self.received, &mut self.out);
            let consumed = match opened {
                Ok(Opened::NeedMore) => return,
                Ok(Opened::Handshake { consumed } | Opened::Nothing { consumed }) => consumed,
                Ok(Opened::Established { consumed }) => {
                    assert!(!self.established, "established is said once");
                    self.established = true;
                    consumed
                }
                Ok(Opened::Data { consumed, plain }) => {
                    assert!(plain.end <= consumed);
                    self.data.extend_from_slice(&self.received[plain]);
                    consumed
                }
                Ok(Opened::Closed { consumed }) => {
                    self.closed = true;
                    consumed
                }
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            };
            assert!(consumed > 0 && consumed <= self.received.len());
            self.received.drain(..consumed);
        }
    }

    pub(super) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Seals in a block with just the room that is asked for; returns the records.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, TlsError> {
        let framing = self.session.framing();
        let mut block = vec![0; framing.head + plain.len() + framing.tail];
        let place = framing.head..framing.head + plain.len();
        block[place.clone()].copy_from_slice(plain);
        let range = self.session.seal(&mut self.scratch, &mut block, place)?;
        Ok(block[range].to_vec())
    }

    pub(super) fn slug(&self) -> &'static str {
        self.error.as_ref().map_or("none", TlsError::slug)
    }

    pub(super) fn error(&self) -> &TlsError {
        self.error.as_ref().expect("this peer has failed")
    }
}

/// Both ends of a connection.
pub(super) struct Pair {
    pub(super) client: Peer,
    pub(super) server: Peer,
}

impl Pair {
    pub(super) fn new(
        client: &ClientConfig,
        name: &str,
        identity: Option<&Identity>,
        server: &ServerConfig,
    ) -> Self {
        Self {
            client: Peer::client(client, name, identity),
            server: Peer::new(TlsSession::server(server)),
        }
    }

    /// Carries bytes both ways until there are none.
    pub(super) fn run(&mut self) {
        self.run_in_pieces(usize::MAX);
    }

    pub(super) fn run_in_pieces(&mut self, piece: usize) {
        while !self.client.out.is_empty() || !self.server.out.is_empty() {
            for bytes in self.client.take_out().chunks(piece) {
                self.server.deliver(bytes);
            }
            for bytes in self.server.take_out().chunks(piece) {
                self.client.deliver(bytes);
            }
        }
    }
}

/// The same handshake message in records of at most `size` bytes.
pub(super) fn split_records(hello: &[u8], size: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for part in hello[5..].chunks(size) {
        records.extend([22, 3, 1]);
        records.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        records.extend(part);
    }
    records
}

/// Carries bytes both ways between a peer of ours and a connection of rustls's until there are none. What rustls says of
/// them is given to `$processed`. Unless it is said nobody asks: an error is the foreign side's to report, and its alert
/// is carried all the same.
macro_rules! run {
    ($peer:expr, $foreign:expr) => {
        run!($peer, $foreign, Result::ok)
    };
    ($peer:expr, $foreign:expr, $processed:expr) => {
        loop {
            let ours = $peer.take_out();
            let mut rest = ours.as_slice();
            while !rest.is_empty() {
                $foreign.read_tls(&mut rest).unwrap();
                let _ = $processed($foreign.process_new_packets());
            }
            let mut theirs = Vec::new();
            while $foreign.wants_write() {
                $foreign.write_tls(&mut theirs).unwrap();
            }
            if ours.is_empty() && theirs.is_empty() {
                break;
            }
            $peer.deliver(&theirs);
        }
    };
}

pub(super) use run;
