//! Against the `openssl` command as the other side, over real sockets: both versions, each suite, new keys in both
//! directions, ALPN that fits and that does not, no certificate, a domain's certificate, resumption that is asked for, in vain by
//! their client and not by ours.
//!
//! `cargo test -p fleetwire-tls --test openssl -- --ignored` runs it where there is an OpenSSL of at least 1.1.1.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    rc::Rc,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, Identity, Opened, RecordLayer, Roots, Scratch,
    ServerConfigBuilder, ServerName, TlsError, TlsSession, TlsVersion, Versions,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

const ALPN: &str = "x-amzn-mqtt-ca";
const WAIT: Duration = Duration::from_secs(20);
const LAYERS: [RecordLayer; 2] = [RecordLayer::InPlace, RecordLayer::Rustls];
/// OpenSSL's name, the option that takes it, and the version that it belongs to.
type Suite = (&'static str, &'static str, &'static str);
/// For servers whose key is ECDSA. In TLS 1.3 the suite does not say which key.
const ECDSA_SUITES: [Suite; 6] = [
    ("TLS_AES_128_GCM_SHA256", "-ciphersuites", "-tls1_3"),
    ("TLS_AES_256_GCM_SHA384", "-ciphersuites", "-tls1_3"),
    ("TLS_CHACHA20_POLY1305_SHA256", "-ciphersuites", "-tls1_3"),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "-cipher", "-tls1_2"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "-cipher", "-tls1_2"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "-cipher", "-tls1_2"),
];
const RSA_SUITES: [Suite; 4] = [
    ("TLS_AES_128_GCM_SHA256", "-ciphersuites", "-tls1_3"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "-cipher", "-tls1_2"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "-cipher", "-tls1_2"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "-cipher", "-tls1_2"),
];

#[test]
#[ignore = "needs the openssl command"]
fn our_client_and_their_server() {
    for (world, (suite, option, version), layer) in World::of_each_suite("client") {
        let mut server = world.s_server(&[option, suite, version, "-alpn", ALPN]);
        let mut client = world.connect(&server, layer, u64::MAX).unwrap();
        client.write(b"from the device\n");
        server.wait_for("from the device");
        server.write("from the server\n");
        client.wait_for(b"from the server\n");
        client.write(&[b'x'; 40_000]);
        client.write(b"\nand on\n");
        server.wait_for("and on");
        client.close();
    }
}

#[test]
#[ignore = "needs the openssl command"]
fn our_server_and_their_client() {
    for (world, (suite, option, version), layer) in World::of_each_suite("server") {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = world.s_client(
            &address_of(&listener),
            &[option, suite, version, "-alpn", ALPN],
            true,
        );
        let mut server = world.accept(&listener, layer, u64::MAX).unwrap();
        server.write(b"from the server\n");
        client.wait_for("from the server");
        client.write("from the device\n");
        server.wait_for(b"from the device\n");
        server.close();
    }
}

/// `k` sends a KeyUpdate, `K` one that asks for an answer; the other side's keys change as often as ours do.
#[test]
#[ignore = "needs the openssl command"]
fn key_updates_both_ways() {
    let world = World::new("updates");
    for layer in LAYERS {
        let mut server = world.s_server(&["-tls1_3", "-alpn", ALPN]);
        let mut client = world.connect(&server, layer, 3).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut foreign_client = world.s_client(&address_of(&listener), &["-tls1_3", "-alpn", ALPN], true);
        let mut our_server = world.accept(&listener, layer, 3).unwrap();
        for (ours, theirs) in [(&mut client, &mut server), (&mut our_server, &mut foreign_client)] {
            // Tickets, which are without data too, come before it.
            theirs.write("first\n");
            ours.wait_for(b"first\n");
            for round in 0..6 {
                let before = ours.without_data;
                theirs.write(if round % 2 == 0 { "K\n" } else { "k\n" });
                while ours.without_data == before {
                    assert!(ours.read().unwrap(), "it has gone");
                }
                theirs.write(&format!("theirs {round}\n"));
                ours.wait_for(format!("theirs {round}\n").as_bytes());
                ours.write(format!("ours {round}\n").as_bytes());
                theirs.wait_for(&format!("ours {round}"));
            }
        }
    }
}

#[test]
#[ignore = "needs the openssl command"]
fn refusals() {
    let world = World::new("refusals");
    for version in ["-tls1_2", "-tls1_3"] {
        // ALPN that the server ignores, and ALPN that it does not have.
        let server = world.s_server(&[version]);
        let error = world
            .connect(&server, RecordLayer::InPlace, u64::MAX)
            .unwrap_err();
        assert_eq!(error.slug(), "alpn_not_selected");
        let server = world.s_server(&[version, "-alpn", "h2"]);
        let error = world
            .connect(&server, RecordLayer::InPlace, u64::MAX)
            .unwrap_err();
        assert_eq!((error.slug(), error.alert()), ("alpn_refused", Some(120)));

        let cases = [
            (
                &["-alpn", "h2"][..],
                true,
                "alpn_refused",
                "no application protocol",
            ),
            (
                &["-alpn", ALPN],
                false,
                "client_cert_required",
                "certificate required",
            ),
            (&[], true, "alpn_missing", ""),
        ];
        for (options, certificate, slug, told) in cases {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let mut client = world.s_client(
                &address_of(&listener),
                &[&[version], options].concat(),
                certificate,
            );
            let error = world
                .accept(&listener, RecordLayer::InPlace, u64::MAX)
                .unwrap_err();
            assert_eq!(error.slug(), slug);
            client.wait_for(told);
        }
    }
}

/// The name picks the certificate, in either version.
#[test]
#[ignore = "needs the openssl command"]
fn a_domain_shows_its_certificate() {
    let world = World::new("domain");
    let table = |identity: &Identity| {
        ServerConfigBuilder::new(identity.clone()).alpn(ALPN, ClientAuth::Required(world.roots.clone()))
    };
    // Any certificate of the authority serves for a domain: here it is that of the device.
    let domain = table(&world.device).server_names(["*.iot.example"]).build();
    let config = table(&world.server).domain(domain.unwrap()).build().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        for (name, subject) in [
            ("localhost", "CN=server"),
            ("Fleet.IoT.example", "CN=device"),
            ("a.fleet.iot.example", "CN=server"),
        ] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let options = [version, "-alpn", ALPN, "-servername", name];
            let mut client = world.s_client(&address_of(&listener), &options, true);
            let (stream, _) = listener.accept().unwrap();
            let server = Ours::shake_hands(TlsSession::server(&config), stream).unwrap();
            assert!(server.had_certificate);
            let shown = client.wait_for("subject=").replace(' ', "");
            assert!(shown.ends_with(subject), "{name}: {shown}");
        }
    }
}

/// A session that another server has given, in either version: the handshake is a whole one, and the certificate is shown.
#[test]
#[ignore = "needs the openssl command"]
fn a_foreign_session_is_not_resumed() {
    let world = World::new("foreign-session");
    for version in ["-tls1_2", "-tls1_3"] {
        let session = world.folder.join("session.pem").display().to_string();
        let mut theirs = world.s_server(&[version, "-alpn", ALPN]);
        let options = [version, "-alpn", ALPN, "-sess_out", &session];
        let mut client = world.s_client(&theirs.address.to_string(), &options, true);
        // The tickets of TLS 1.3 come before it.
        theirs.wait_for("subject=");
        theirs.write("from their server\n");
        client.wait_for("from their server");
        drop((client, theirs));
        assert!(
            fs::read_to_string(&session)
                .unwrap()
                .contains("SSL SESSION PARAMETERS")
        );
        for layer in LAYERS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let options = [version, "-alpn", ALPN, "-sess_in", &session];
            let mut client = world.s_client(&address_of(&listener), &options, true);
            let mut server = world.accept(&listener, layer, u64::MAX).unwrap();
            assert!(server.had_certificate && !server.resumed, "{version} {layer:?}");
            server.write(b"from the server\n");
            client.wait_for("from the server");
            assert!(!client.output.contains("Reused"));
        }
    }
}

/// `-reconnect` comes back five times with the session that it has; it never gets one.
#[test]
#[ignore = "needs the openssl command"]
fn resumption_is_asked_for_in_vain() {
    let world = World::new("resumption");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = world.s_client(
        &address_of(&listener),
        &["-tls1_2", "-alpn", ALPN, "-reconnect"],
        true,
    );
    for again in 0..6 {
        let mut server = world.accept(&listener, RecordLayer::InPlace, u64::MAX).unwrap();
        // Each time the certificate is shown anew.
        assert!(server.had_certificate);
        // With the last it stays.
        if again < 5 {
            server.read_to_end();
        }
    }
    client.wait_for("Verify return code");
    assert!(!client.output.contains("Reused"));
}

/// With tickets, and without: session identifiers in TLS 1.2, and in 1.3 tickets that name what the server keeps.
#[test]
#[ignore = "needs the openssl command"]
fn our_client_resumes() {
    let world = World::new("resuming");
    for version in ["-tls1_2", "-tls1_3"] {
        for options in [&["-alpn", ALPN][..], &["-alpn", ALPN, "-no_ticket"]] {
            for layer in LAYERS {
                let mut server = world.s_server(&[&[version], options].concat());
                let config = world.client(layer).resumption(1).build().unwrap();
                for round in 0..3 {
                    let mut client = world.connect_with(&config, &server).unwrap();
                    assert_eq!(client.resumed, round > 0, "{version} {options:?} {layer:?}");
                    client.write(b"from the device\n");
                    // Whose session it is.
                    let subject = server.wait_for("subject=").replace(' ', "");
                    assert!(subject.ends_with("CN=device"), "{subject}");
                    if round > 0 {
                        server.wait_for("Reused session-id");
                    }
                    server.wait_for("from the device");
                    // Tickets come before it.
                    server.write("from the server\n");
                    client.wait_for(b"from the server\n");
                    client.close();
                }
            }
        }
    }
}

/// Certificates in a folder of their own.
struct World {
    folder: PathBuf,
    roots: Roots,
    server: Identity,
    device: Identity,
}

impl World {
    /// A world with an ECDSA server and one with an RSA one, with each suite of theirs and each record layer.
    fn of_each_suite(name: &str) -> impl Iterator<Item = (Rc<Self>, Suite, RecordLayer)> {
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let rsa = Rc::new(Self::with(&format!("{name}-rsa"), rsa));
        let ecdsa = Rc::new(Self::new(name));
        let suites = ECDSA_SUITES.map(|suite| (Rc::clone(&ecdsa), suite)).into_iter();
        let suites = suites.chain(RSA_SUITES.map(|suite| (Rc::clone(&rsa), suite)));
        suites.flat_map(|(world, suite)| LAYERS.map(|layer| (Rc::clone(&world), suite, layer)))
    }

    fn new(name: &str) -> Self {
        Self::with(name, KeyPair::generate().unwrap())
    }

    fn with(name: &str, server_key: KeyPair) -> Self {
        let folder = std::env::temp_dir().join(format!("fleetwire-openssl-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let issue = |who: &str, key: KeyPair, names: Vec<String>| {
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, who);
            let certificate = params.signed_by(&key, &issuer).unwrap().pem();
            fs::write(folder.join(format!("{who}.crt")), &certificate).unwrap();
            fs::write(folder.join(format!("{who}.key")), key.serialize_pem()).unwrap();
            Identity::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
        };
        Self {
            roots: Roots::from_der([authority.der().to_vec()]).unwrap(),
            server: issue("server", server_key, vec!["localhost".into()]),
            device: issue("device", KeyPair::generate().unwrap(), Vec::new()),
            folder,
        }
    }

    fn openssl(&self, command: &str) -> Command {
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(&self.folder)
            .args([command, "-CAfile", "ca.pem"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        openssl
    }

    /// `openssl s_server` on a port of its choice, which wants a client certificate.
    fn s_server(&self, options: &[&str]) -> Foreign {
        let mut command = self.openssl("s_server");
        command.args([
            "-accept",
            "127.0.0.1:0",
            "-cert",
            "server.crt",
            "-key",
            "server.key",
        ]);
        command
            .args(["-Verify", "2", "-verify_return_error"])
            .args(options);
        let mut server = Foreign::start(command);
        let line = server.wait_for("ACCEPT");
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        server.address = (Ipv4Addr::LOCALHOST, port).into();
        server
    }

    fn s_client(&self, address: &str, options: &[&str], certificate: bool) -> Foreign {
        let mut command = self.openssl("s_client");
        command.args(["-connect", address, "-servername", "localhost"]);
        if certificate {
            command.args(["-cert", "device.crt", "-key", "device.key"]);
        }
        command.args(options);
        Foreign::start(command)
    }

    fn connect(&self, server: &Foreign, layer: RecordLayer, records_max: u64) -> Result<Ours, TlsError> {
        let config = self.client(layer).records_per_key_max(records_max);
        self.connect_with(&config.build().unwrap(), server)
    }

    fn client(&self, layer: RecordLayer) -> ClientConfigBuilder {
        ClientConfigBuilder::new()
            .roots(self.roots.clone())
            .alpn(vec![ALPN.into()])
            .record_layer(layer)
    }

    fn connect_with(&self, config: &ClientConfig, server: &Foreign) -> Result<Ours, TlsError> {
        let name = ServerName::parse("localhost").unwrap();
        let session = TlsSession::client(config, &name, Some(&self.device))?;
        Ours::shake_hands(session, TcpStream::connect(server.address).unwrap())
    }

    fn accept(&self, listener: &TcpListener, layer: RecordLayer, records_max: u64) -> Result<Ours, TlsError> {
        let config = ServerConfigBuilder::new(self.server.clone())
            .alpn(ALPN, ClientAuth::Required(self.roots.clone()))
            .versions(Versions::Both)
            .record_layer(layer)
            .records_per_key_max(records_max)
            .build()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        Ours::shake_hands(TlsSession::server(&config), stream)
    }
}

fn address_of(listener: &TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process of openssl.
struct Foreign {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    output: String,
    address: SocketAddr,
}

impl Foreign {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the openssl command is there");
        let (sender, lines) = channel();
        let outputs: Vec<Box<dyn Read + Send>> = [
            child
                .stdout
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        .collect();
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        }
        Self {
            stdin: child.stdin.take().unwrap(),
            child,
            lines,
            output: String::new(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    /// The next line with this in it.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(WAIT);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} after\n{}", self.output));
            self.output.push_str(&line);
            self.output.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our session over a socket.
#[derive(Debug)]
struct Ours {
    session: TlsSession,
    stream: TcpStream,
    scratch: Scratch,
    received: Vec<u8>,
    data: Vec<u8>,
    /// Records that brought none.
    without_data: usize,
    established: bool,
    had_certificate: bool,
    resumed: bool,
}

impl Ours {
    fn shake_hands(mut session: TlsSession, stream: TcpStream) -> Result<Self, TlsError> {
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut out = Vec::new();
        session.start(&mut out)?;
        let mut ours = Self {
            session,
            stream,
            scratch: Scratch::new(),
            received: Vec::new(),
            data: Vec::new(),
            without_data: 0,
            established: false,
            had_certificate: false,
            resumed: false,
        };
        ours.stream.write_all(&out).unwrap();
        while !ours.established {
            assert!(ours.read()?, "the stream ended in the handshake");
        }
        let info = ours.session.info().unwrap();
        assert_eq!(info.alpn, Some(ALPN.as_bytes()));
        assert!(matches!(info.version, TlsVersion::Tls12 | TlsVersion::Tls13));
        ours.had_certificate = info.peer_certificate.is_some();
        ours.resumed = info.resumed;
        Ok(ours)
    }

    /// Reads once; `false` at the end.
    fn read(&mut self) -> Result<bool, TlsError> {
        let mut block = [0; 4096];
        let length = self.stream.read(&mut block).unwrap_or(0);
        self.received.extend_from_slice(&block[..length]);
        loop {
            let mut out = Vec::new();
            let opened = self.session.open(&mut self.scratch, &mut self.received, &mut out);
            // Whoever is gone needs no answer.
            let _ = self.stream.write_all(&out);
            let consumed = match opened? {
                Opened::NeedMore => return Ok(length > 0),
                Opened::Closed { .. } => return Ok(false),
                Opened::Established { consumed } => {
                    self.established = true;
                    consumed
                }
                Opened::Data { consumed, plain } => {
                    self.data.extend_from_slice(&self.received[plain]);
                    consumed
                }
                Opened::Nothing { consumed } => {
                    self.without_data += 1;
                    consumed
                }
                Opened::Handshake { consumed } => consumed,
            };
            self.received.drain(..consumed);
        }
    }

    fn wait_for(&mut self, text: &[u8]) {
        while !self.data.ends_with(text) {
            assert!(self.read().unwrap(), "{:?}", self.data.escape_ascii().to_string());
        }
    }

    fn read_to_end(&mut self) {
        while self.read().unwrap() {}
    }

    fn write(&mut self, mut plain: &[u8]) {
        let framing = self.session.framing();
        while !plain.is_empty() {
            let length = plain.len().min(framing.plain_max);
            let (part, rest) = plain.split_at(length);
            plain = rest;
            let mut block = vec![0; framing.head + length + framing.tail];
            let place = framing.head..framing.head + length;
            block[place.clone()].copy_from_slice(part);
            let range = self.session.seal(&mut self.scratch, &mut block, place).unwrap();
            self.stream.write_all(&block[range]).unwrap();
        }
    }

    fn close(&mut self) {
        let mut out = Vec::new();
        self.session.close_notify(&mut out);
        self.stream.write_all(&out).unwrap();
    }
}
