//! TLS: the look into a ClientHello, records made by hand for an established session, and whole sessions whose bytes
//! are changed on their way.

mod forger;

use std::io::Read;
use std::sync::LazyLock;

use fleetwire_tls::{
    ClientAuth, ClientConfig, ClientConfigBuilder, ClientHello, Identity, Opened, Peek, RecordLayer, Roots,
    Scratch, ServerConfig, ServerConfigBuilder, ServerName, TlsError, TlsSession, Versions,
};
use rustls::server::Acceptor;

use forger::{Forger, TICKET};

/// The first bytes of a connection to a server: what the peek sees is what rustls sees, and cutting changes nothing.
pub fn tls_hello(input: &[u8]) {
    let peek = ClientHello::peek(input);
    if let Peek::Hello(hello) = peek {
        let length = 5 + usize::from(u16::from_be_bytes([input[3], input[4]]));
        assert_eq!(ClientHello::peek(&input[..length]), peek);
        for cut in 0..length {
            assert_eq!(ClientHello::peek(&input[..cut]), Peek::NeedMore, "cut at {cut}");
        }
        let mut acceptor = Acceptor::default();
        let mut rest = input;
        if acceptor.read_tls(&mut rest as &mut dyn Read).is_ok()
            && let Ok(Some(accepted)) = acceptor.accept()
        {
            let seen = accepted.client_hello();
            let names: Vec<&[u8]> = seen.alpn().into_iter().flatten().collect();
            assert_eq!(hello.alpn().collect::<Vec<_>>(), names);
            // rustls tells names in lower case.
            let name = hello.server_name().map(str::to_ascii_lowercase);
            assert_eq!(name.as_deref(), seen.server_name());
        }
    }
    let world = &*WORLD;
    for server in &world.servers {
        let mut end = End::new(TlsSession::server(server));
        end.deliver(input);
        assert!(end.data.is_empty() && !end.established);
    }
}

/// An established session of each record layer, and a peer that sends whatever the input says. What reaches the
/// application is what the peer sent as application data, and where the standard leaves no choice both layers agree.
pub fn tls_records(input: &[u8]) {
    let mut steps = Steps(input);
    let setup = steps.byte();
    let versions = [Versions::Tls13, Versions::Tls12][usize::from(setup & 1)];
    let as_client = setup & 2 != 0;
    let suite = usize::from(setup >> 2) % 3;
    let mut both = [0, 1].map(|layer| Tested::new(layer, versions, as_client, suite));
    // Whether a choice of the standard's was met; from there on the layers may differ.
    let mut free = false;
    let mut idle = 0;
    while !steps.0.is_empty() && both.iter().all(|tested| tested.end.is_live()) {
        let step = steps.byte();
        let piece = match step >> 5 {
            0 => usize::MAX,
            piece => 1 << piece,
        };
        idle += 1;
        match step & 0x1f {
            0..=7 => {
                let length = usize::from(steps.byte()) << (step & 7);
                let padding = usize::from(steps.byte());
                if length > 0 {
                    idle = 0;
                }
                for tested in &mut both {
                    let plain = vec![step; length.min(16_384)];
                    let record = tested.forger.seal(23, &plain, padding);
                    tested.sent.extend(plain);
                    tested.end.deliver_in_pieces(&record, piece);
                }
            }
            8 | 9 => {
                let request = step & 1;
                for tested in &mut both {
                    let record = tested.forger.seal(22, &[24, 0, 0, 1, request], 0);
                    tested.forger.update_tx();
                    tested.asked |= request == 1;
                    tested.end.deliver_in_pieces(&record, piece);
                }
            }
            10 => {
                // A ticket, in one record or two.
                let cut = 1 + usize::from(steps.byte()) % TICKET.len();
                for tested in &mut both {
                    for part in [&TICKET[..cut], &TICKET[cut..]] {
                        if !part.is_empty() {
                            let record = tested.forger.seal(22, part, 0);
                            tested.end.deliver_in_pieces(&record, piece);
                        }
                    }
                }
                idle += 1;
            }
            11 => {
                let cut = 1 + usize::from(steps.byte()) % (TICKET.len() - 1);
                for tested in &mut both {
                    let record = tested.forger.seal(22, &TICKET[..cut], 0);
                    tested.end.deliver_in_pieces(&record, piece);
                    // Then something that must not come between.
                    let record = tested.forger.seal(23, b"between", 0);
                    tested.end.deliver(&record);
                }
            }
            12 => {
                // Bytes behind a change of keys.
                for tested in &mut both {
                    let record = tested.forger.seal(22, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], 0);
                    tested.end.deliver_in_pieces(&record, piece);
                }
            }
            13 => {
                let alert = steps.byte();
                // rustls does not end at a notice, and the level does not count the same.
                free |= ![0, 40, 48, 80].contains(&alert);
                for tested in &mut both {
                    let record = tested
                        .forger
                        .seal(21, &[if alert == 0 { 1 } else { 2 }, alert], 0);
                    tested.end.deliver_in_pieces(&record, piece);
                }
            }
            14 => {
                // A changed byte behind the header.
                let (place, change) = (usize::from(steps.byte()), steps.byte().max(1));
                for tested in &mut both {
                    let mut record = tested.forger.seal(23, b"to be changed", 0);
                    let place = 5 + place % (record.len() - 5);
                    record[place] ^= change;
                    tested.end.deliver_in_pieces(&record, piece);
                    assert!(tested.end.error.is_some(), "a forged record was taken");
                }
            }
            15..=18 => {
                let length = usize::from(steps.byte()) << (step & 3);
                for tested in &mut both {
                    tested.seal(length, free);
                }
                continue;
            }
            19 => {
                free = true;
                let content_type = steps.byte();
                let content = steps.bytes();
                for tested in &mut both {
                    let record = tested.forger.seal(content_type, content, 0);
                    if content_type == 23 {
                        tested.sent.extend_from_slice(content);
                    }
                    tested.end.deliver_in_pieces(&record, piece);
                }
            }
            20 => {
                free = true;
                let content = steps.bytes();
                for tested in &mut both {
                    let record = tested.forger.seal(22, content, 0);
                    tested.end.deliver_in_pieces(&record, piece);
                }
            }
            21 => {
                free = true;
                let bytes = steps.bytes();
                for tested in &mut both {
                    tested.end.deliver_in_pieces(bytes, piece);
                }
            }
            22 => {
                for tested in &mut both {
                    let mut out = std::mem::take(&mut tested.end.out);
                    tested.end.session.close_notify(&mut out);
                    tested.forger.open(&out);
                    assert!(tested.end.seal(b"x").is_err());
                }
                break;
            }
            // rustls bounds fewer kinds of records.
            _ => free |= idle > 30,
        }
        free |= idle > 30;
        for tested in &both {
            assert!(
                tested.sent.starts_with(&tested.end.data),
                "the application got what nobody sent"
            );
            assert!(tested.end.error.is_none() || tested.end.closed || tested.end.is_dead());
        }
        let [ours, oracle] = &both;
        if !free {
            let outcome = |tested: &Tested| {
                (
                    tested.end.data.len(),
                    tested.end.closed,
                    tested.end.error.is_some(),
                )
            };
            assert_eq!(
                outcome(ours),
                outcome(oracle),
                "{:?} {:?}",
                ours.end.error,
                oracle.end.error
            );
            if ours.end.error.is_none() && !ours.end.closed {
                assert_eq!(ours.end.data, ours.sent);
            }
        } else if ours.end.error.is_some() != oracle.end.error.is_some()
            || ours.end.closed != oracle.end.closed
        {
            break;
        }
    }
    for tested in &mut both {
        tested.end.torment();
    }
}

/// A handshake and some data between two sessions, while the input cuts and changes what they send to each other.
pub fn tls_session(input: &[u8]) {
    let mut steps = Steps(input);
    let setup = steps.byte();
    let world = &*WORLD;
    let layer = usize::from(setup & 1);
    let versions = usize::from(setup >> 1 & 1);
    let name = ServerName::parse("localhost").expect("a DNS name");
    let client = &world.clients[layer][versions];
    let client = TlsSession::client(client, &name, Some(&world.device)).expect("the key fits");
    let mut ends = [
        End::new(client),
        End::new(TlsSession::server(&world.servers[layer])),
    ];
    let [client, _] = &mut ends;
    client
        .session
        .start(&mut client.out)
        .expect("there is randomness");
    let mut sent = [Vec::new(), Vec::new()];
    for round in 0..60_u8 {
        let from = usize::from(round % 2);
        if ends[from].established && ends[from].is_live() && round < 40 {
            let plain = vec![round; usize::from(steps.byte()) * 3];
            if let Ok(records) = ends[from].seal(&plain) {
                sent[from].extend(plain);
                ends[from].out.extend(records);
            }
        }
        let mut bytes = std::mem::take(&mut ends[from].out);
        let change = steps.byte();
        if change & 0x80 != 0 && !bytes.is_empty() {
            let place = (usize::from(steps.byte()) << 4 | usize::from(steps.byte())) % bytes.len();
            match change & 0x03 {
                0 => bytes[place] ^= steps.byte(),
                1 => drop(bytes.remove(place)),
                2 => bytes.insert(place, steps.byte()),
                _ => bytes.truncate(place),
            }
        }
        let piece = match change >> 2 & 7 {
            0 => usize::MAX,
            piece => usize::from(piece) * 5,
        };
        let to = &mut ends[1 - from];
        to.deliver_in_pieces(&bytes, piece);
        assert!(
            sent[from].starts_with(&to.data),
            "the application got what nobody sent"
        );
    }
    for end in &mut ends {
        end.torment();
    }
}

/// One session with its buffers.
struct End {
    session: TlsSession,
    scratch: Scratch,
    received: Vec<u8>,
    out: Vec<u8>,
    data: Vec<u8>,
    established: bool,
    closed: bool,
    error: Option<TlsError>,
}

impl End {
    fn new(session: TlsSession) -> Self {
        Self {
            session,
            scratch: Scratch::with_keys_max(1),
            received: Vec::new(),
            out: Vec::new(),
            data: Vec::new(),
            established: false,
            closed: false,
            error: None,
        }
    }

    fn is_live(&self) -> bool {
        self.error.is_none() && !self.closed
    }

    /// Nothing can be sealed after an error.
    fn is_dead(&self) -> bool {
        self.session.framing().plain_max == 0
    }

    fn deliver_in_pieces(&mut self, bytes: &[u8], piece: usize) {
        for part in bytes.chunks(piece) {
            self.deliver(part);
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while self.error.is_none() {
            let opened = self
                .session
                .open(&mut self.scratch, &mut self.received, &mut self.out);
            let consumed = match opened {
                Ok(Opened::NeedMore) => return,
                Ok(Opened::Handshake { consumed } | Opened::Nothing { consumed }) => consumed,
                Ok(Opened::Established { consumed }) => {
                    assert!(!std::mem::replace(&mut self.established, true));
                    assert!(self.session.info().is_some());
                    consumed
                }
                Ok(Opened::Data { consumed, plain }) => {
                    assert!(self.established && plain.end <= consumed && !plain.is_empty());
                    self.data.extend_from_slice(&self.received[plain]);
                    consumed
                }
                Ok(Opened::Closed { consumed }) => {
                    self.closed = true;
                    consumed
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    self.error = Some(error);
                    return;
                }
            };
            assert!(consumed > 0 && consumed <= self.received.len());
            self.received.drain(..consumed);
        }
    }

    fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, TlsError> {
        let framing = self.session.framing();
        let mut block = vec![0; framing.head + plain.len() + framing.tail];
        let place = framing.head..framing.head + plain.len();
        block[place.clone()].copy_from_slice(plain);
        let range = self.session.seal(&mut self.scratch, &mut block, place)?;
        Ok(block[range].to_vec())
    }

    /// All that can still be tried with a session, in whatever state it is.
    fn torment(&mut self) {
        let _ = self.seal(b"x");
        let _ = self.session.eof();
        self.session.close_notify(&mut Vec::new());
        assert!(self.seal(b"x").is_err());
        self.deliver(b"\x17\x03\x03\x00\x01x");
        self.session.release(&mut self.scratch);
    }
}

/// A session under test and its peer.
struct Tested {
    end: End,
    forger: Forger,
    /// What the peer has sent as application data.
    sent: Vec<u8>,
    /// Whether the peer waits for a KeyUpdate in front of the next data.
    asked: bool,
}

impl Tested {
    fn new(layer: usize, versions: Versions, as_client: bool, suite: usize) -> Self {
        let world = &*WORLD;
        let tls12 = usize::from(versions == Versions::Tls12);
        let session = if as_client {
            let name = ServerName::parse("localhost").expect("a DNS name");
            let mut session = TlsSession::client(&world.clients[layer][1 - tls12], &name, None)
                .expect("the settings are sound");
            let mut out = Vec::new();
            session.start(&mut out).expect("there is randomness");
            (session, out)
        } else {
            (TlsSession::server(&world.servers[layer]), Vec::new())
        };
        let mut end = End::new(session.0);
        end.out = session.1;
        let forger = Forger::shake_hands(&world.forgers, as_client, tls12 == 1, suite, |bytes| {
            end.deliver(bytes);
            std::mem::take(&mut end.out)
        });
        assert!(end.established, "{:?}", end.error);
        Self {
            end,
            forger,
            sent: Vec::new(),
            asked: false,
        }
    }

    /// The session seals, the peer opens. Whether a KeyUpdate was understood as one is not known when `free`.
    fn seal(&mut self, length: usize, free: bool) {
        // A warning may be on its way: the refusal of a renegotiation.
        self.forger.open(&std::mem::take(&mut self.end.out));
        let plain = vec![7; length.min(16_384)];
        let records = self.end.seal(&plain).expect("it is live");
        let (opened, updates) = self.forger.open(&records);
        assert_eq!(opened, plain);
        let due = usize::from(self.asked && !plain.is_empty());
        assert!(updates == due || free && updates <= due);
        self.asked &= plain.is_empty();
    }
}

/// Takes numbers and bytes from the front; zeros when there are none.
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}

/// Configurations, by record layer and version; they are slow to make.
struct World {
    servers: [ServerConfig; 2],
    /// TLS 1.2 first.
    clients: [[ClientConfig; 2]; 2],
    device: Identity,
    forgers: forger::Configs,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let certificates = forger::Certificates::new();
    let roots = Roots::from_der([certificates.authority.as_slice()]).expect("it is an authority");
    let identity = |(chain, key): &(Vec<u8>, Vec<u8>)| {
        Identity::from_der(vec![chain.clone()], key.clone()).expect("they fit")
    };
    let layers = [RecordLayer::InPlace, RecordLayer::Rustls];
    let server = |layer| {
        let table = || {
            ServerConfigBuilder::new(identity(&certificates.server))
                .alpn(b"mqtt", ClientAuth::None)
                .alpn(b"x-amzn-mqtt-ca", ClientAuth::Required(roots.clone()))
                .record_layer(layer)
        };
        let names = ["b.example", "*.example", "*.b.example"];
        let domain = table().server_names(names).versions(Versions::Tls13).build();
        table()
            .domain(domain.expect("the settings are sound"))
            .build()
            .expect("the settings are sound")
    };
    let client = |layer, versions, alpn: &[u8]| {
        ClientConfigBuilder::new()
            .roots(roots.clone())
            .alpn(vec![alpn.to_vec()])
            .versions(versions)
            .record_layer(layer)
            .build()
            .expect("the settings are sound")
    };
    World {
        servers: layers.map(server),
        clients: layers
            .map(|layer| [Versions::Tls12, Versions::Tls13].map(|versions| client(layer, versions, b"mqtt"))),
        device: identity(&certificates.device),
        forgers: forger::Configs::new(&certificates),
    }
});
