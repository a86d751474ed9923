//! Engine against engine over real sockets and mutual TLS: what the record layer costs and how it ends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fleetwire_codec::buffer::HOT_BLOCK_LEN;
use fleetwire_codec::{Properties, QoS, TopicName};
use fleetwire_endpoint::pki::{KeyType, Pki};
use fleetwire_engine::{
    At, Backoff, ChannelHandler, ConnectForm, Engine, Event, Events, Handler, LinkId, Listener, Outbox,
    OwnedKind, OwnedPublish, Plan, Stats, Way,
};
use fleetwire_tls::{
    ClientAuth, ClientConfigBuilder, Identity, RecordLayer, Roots, ServerConfigBuilder, ServerName, Versions,
};

const WAIT: Duration = Duration::from_secs(20);
const ALPN: &[u8] = b"x-amzn-mqtt-ca";
const VERSIONS: [Versions; 2] = [Versions::Tls12, Versions::Tls13];

/// A server that accepts everybody, notes where payloads lay, and how connections ended.
#[derive(Default)]
struct Server {
    messages: usize,
    /// Whether each payload was lent from within one block.
    kept_in_place: bool,
    ended: Vec<String>,
}

impl Handler for Server {
    fn on_event(&mut self, at: At, event: Event<'_>, out: &mut Outbox<'_>) {
        match event {
            Event::Connect(_) => out.accept(at.link, false, Properties::EMPTY, 0).unwrap(),
            Event::Message(message) => {
                let kept = message.retain();
                self.kept_in_place = kept.as_ptr() == message.payload.as_ptr();
                self.messages += 1;
            }
            Event::Disconnected(end) => self.ended.push(if end.clean { "clean".into() } else { end.text }),
            _ => {}
        }
    }
}

struct Pair {
    server: Engine<Server>,
    client: Engine<ChannelHandler>,
    events: Events,
    link: LinkId,
}

impl Pair {
    /// A device that is connected; each of its keys may protect so many records.
    fn connect(versions: Versions, layer: RecordLayer, records_per_key_max: u64) -> Self {
        Self::connect_through(|port| port, versions, layer, records_per_key_max)
    }

    /// The device dials another port, which `way` says for the server's.
    fn connect_through(
        way: impl FnOnce(u16) -> u16,
        versions: Versions,
        layer: RecordLayer,
        records_per_key_max: u64,
    ) -> Self {
        let pki = Pki::throw_away(["localhost"]).unwrap();
        let roots = Roots::from_pem(pki.ca_pem().as_bytes()).unwrap();
        let server_key = pki.server_key_der().secret_pkcs8_der().to_vec();
        let identity = Identity::from_der(vec![pki.server_der().to_vec()], server_key).unwrap();
        let config = ServerConfigBuilder::new(identity)
            .alpn(ALPN, ClientAuth::Required(roots.clone()))
            .record_layer(layer)
            .build()
            .unwrap();
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = way(listener.local_addr().unwrap().port());
        let server = Engine::builder()
            .listen(listener, Some(config), 0)
            .start(|_| Server::default())
            .unwrap();

        let config = ClientConfigBuilder::new()
            .roots(roots)
            .alpn(vec![ALPN.to_vec()])
            .versions(versions)
            .record_layer(layer)
            .records_per_key_max(records_per_key_max)
            .build()
            .unwrap();
        let mut way = Way::tls("127.0.0.1", port, config, ServerName::parse("localhost").unwrap());
        way.resolve().unwrap();
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
        let plan = Plan::new(way).backoff(backoff);
        let device = pki.issue_device("device-0", KeyType::P256, None).unwrap();
        let identity = Identity::from_pem(device.cert_pem.as_bytes(), device.key_pem.as_bytes()).unwrap();
        let (client, events) = Engine::builder().start_channel(256).unwrap();
        let mut form = ConnectForm::new("device-0");
        form.identity = Some(identity);
        let link = client.handle().open_with(&plan, 0, form).unwrap();
        let pair = Self {
            server,
            client,
            events,
            link,
        };
        pair.wait_for(|kind| matches!(kind, OwnedKind::Connected { .. }));
        pair
    }

    fn wait_for(&self, wanted: impl Fn(&OwnedKind) -> bool) -> OwnedKind {
        loop {
            let event = self.events.next_timeout(WAIT).expect("an event within the time");
            if wanted(&event.kind) {
                return event.kind;
            }
        }
    }

    /// Publishes at QoS 1; answers how it ended.
    fn publish(&self, len: usize) -> OwnedKind {
        let topic = TopicName::new("t").unwrap();
        let publish = OwnedPublish::new(topic.into(), vec![7; len]).qos(QoS::AtLeastOnce);
        self.client.handle().publish(self.link, publish).unwrap();
        self.wait_for(|kind| {
            matches!(
                kind,
                OwnedKind::Acked(_) | OwnedKind::Dropped(_) | OwnedKind::Disconnected(_)
            )
        })
    }

    fn end(self) -> (Stats, Stats, Server) {
        let client = self.client.shutdown(WAIT).stats;
        let mut server = self.server.shutdown(WAIT);
        (client, server.stats, server.handlers.remove(0))
    }
}

/// Whole frames are decrypted, parsed and lent where the socket wrote them, and sealed where they were encoded.
#[test]
fn in_place_nothing_is_copied() {
    for versions in VERSIONS {
        let pair = Pair::connect(versions, RecordLayer::InPlace, u64::MAX);
        for len in [100, 2000, 10_000].into_iter().cycle().take(30) {
            assert!(matches!(pair.publish(len), OwnedKind::Acked(_)));
        }
        let (client, server, handler) = pair.end();
        assert_eq!((client.bytes_copied, handler.messages), (0, 30));
        // A big record may come in two reads; what is there of it is parked then. Small ones do not.
        assert!(server.bytes_copied < 30 * HOT_BLOCK_LEN as u64 / 4, "{server:?}");
        assert!(handler.kept_in_place);
        // Two directions of one connection.
        assert_eq!((client.tls_keys_expanded, server.tls_keys_expanded), (2, 2));
    }
}

#[test]
fn small_frames_are_never_copied() {
    for versions in VERSIONS {
        let pair = Pair::connect(versions, RecordLayer::InPlace, u64::MAX);
        for _ in 0..50 {
            assert!(matches!(pair.publish(2000), OwnedKind::Acked(_)));
        }
        let (client, server, _) = pair.end();
        assert_eq!((client.bytes_copied, server.bytes_copied), (0, 0));
    }
}

/// What there is to compare with.
#[test]
fn rustls_copies_every_byte() {
    for versions in VERSIONS {
        let pair = Pair::connect(versions, RecordLayer::Rustls, u64::MAX);
        for _ in 0..10 {
            assert!(matches!(pair.publish(1000), OwnedKind::Acked(_)));
        }
        let (client, server, _) = pair.end();
        assert!(client.bytes_copied > 10_000 && server.bytes_copied > 10_000);
    }
}

/// TLS 1.3 goes over to new keys in the middle of everything (RFC 8446 section 5.5).
#[test]
fn new_keys_after_every_other_record() {
    let pair = Pair::connect(Versions::Tls13, RecordLayer::InPlace, 2);
    for _ in 0..20 {
        assert!(matches!(pair.publish(100), OwnedKind::Acked(_)));
    }
    let (client, _, handler) = pair.end();
    assert_eq!((handler.messages, handler.ended), (20, vec!["clean".to_owned()]));
    assert!(client.tls_keys_expanded > 8, "{client:?}");
    assert_eq!(client.bytes_copied, 0);
}

/// TLS 1.2 cannot: the connection ends with close_notify and its cause, and the next one begins with new keys.
#[test]
fn keys_that_are_used_up_end_the_connection() {
    let pair = Pair::connect(Versions::Tls12, RecordLayer::InPlace, 4);
    let end = loop {
        match pair.publish(100) {
            OwnedKind::Acked(_) => {}
            OwnedKind::Dropped(_) => break pair.wait_for(|kind| matches!(kind, OwnedKind::Disconnected(_))),
            end => break end,
        }
    };
    let OwnedKind::Disconnected(end) = end else {
        panic!("{end:?}");
    };
    assert_eq!(end.slug.as_str(), "tls_keys_exhausted");
    pair.wait_for(|kind| matches!(kind, OwnedKind::Connected { .. }));
    let (_, _, handler) = pair.end();
    // With close_notify, or the text would say so.
    assert_eq!(
        handler.ended.first().map(String::as_str),
        Some("the peer closed the connection without DISCONNECT")
    );
}

/// Somebody between changes the last byte of a record with a PUBLISH in it, which by then lies decrypted in the block of
/// the shard: it is not delivered, the connection ends, and the next one goes on.
#[test]
fn a_forged_record_reaches_nobody() {
    for versions in VERSIONS {
        for layer in [RecordLayer::InPlace, RecordLayer::Rustls] {
            let forge = Arc::new(AtomicBool::new(false));
            let between = |port| stand_between(port, Arc::clone(&forge));
            let pair = Pair::connect_through(between, versions, layer, u64::MAX);
            assert!(matches!(pair.publish(100), OwnedKind::Acked(_)));
            forge.store(true, Ordering::SeqCst);
            let lost = pair.publish(200);
            assert!(
                matches!(lost, OwnedKind::Dropped(_) | OwnedKind::Disconnected(_)),
                "{lost:?}"
            );
            pair.wait_for(|kind| matches!(kind, OwnedKind::Connected { .. }));
            assert!(matches!(pair.publish(300), OwnedKind::Acked(_)));
            let (_, _, server) = pair.end();
            assert_eq!(server.messages, 2);
            assert!(
                server.ended[0].contains("could not be decrypted"),
                "{:?}",
                server.ended
            );
        }
    }
}

/// Carries two connections to that port; when it is told to, it forges the next record of the client's, once. Answers its
/// own port.
fn stand_between(port: u16, forge: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for _ in 0..2 {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let forge = Arc::clone(&forge);
            thread::spawn(move || {
                let _ = carry_records(&client, &server, &forge);
                let _ = server.shutdown(Shutdown::Write);
            });
        }
    });
    own
}

fn carry_records(mut from: &TcpStream, mut to: &TcpStream, forge: &AtomicBool) -> std::io::Result<()> {
    loop {
        let mut record = vec![0; 5];
        from.read_exact(&mut record)?;
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        from.read_exact(&mut record[5..])?;
        if forge.swap(false, Ordering::SeqCst) {
            record[4 + length] ^= 1;
        }
        to.write_all(&record)?;
    }
}
