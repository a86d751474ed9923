//! Sessions that clients resume with rustls as the server, which does it with tickets and with a store.

use std::sync::Arc;

use rustls::{
    HandshakeKind, ServerConnection,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    server::{NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};

use super::support::*;
use crate::{ClientConfig, Identity, RecordLayer, Versions};

/// How the server remembers sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    Tickets,
    Store,
}
const MEMORIES: [Memory; 2] = [Memory::Tickets, Memory::Store];

/// An authority with a server that resumes and takes clients without a certificate too.
struct Resuming {
    authority: Authority,
    server: Arc<rustls::ServerConfig>,
    case: Case,
}

impl Resuming {
    fn new(case: Case, memory: Memory) -> Self {
        Self::with(case, |config| match memory {
            Memory::Tickets => {
                config.ticketer = Ticketer::new().unwrap();
                config.session_storage = Arc::new(NoServerSessionStorage {});
            }
            Memory::Store => config.session_storage = ServerSessionMemoryCache::new(100),
        })
    }

    fn with(case: Case, change: impl FnOnce(&mut rustls::ServerConfig)) -> Self {
        let authority = Authority::new("Fleet CA");
        let provider = Arc::new(default_provider());
        let roots = authority.roots().store;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let identity = authority.server(&["localhost", "127.0.0.1"], VALID);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(case.0.as_rustls())
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(
                identity.certified_key().unwrap(),
            )));
        config.alpn_protocols = vec![CA_NAME.to_vec()];
        change(&mut config);
        Self {
            authority,
            server: Arc::new(config),
            case,
        }
    }

    fn client(&self, devices_max: usize) -> ClientConfig {
        client_builder(&self.authority, &[CA_NAME], self.case.0)
            .record_layer(self.case.1)
            .resumption(devices_max)
            .build()
            .unwrap()
    }

    fn device(&self, name: &str) -> Identity {
        self.authority.device(name, VALID)
    }

    /// Connects, lets the tickets come and some data with them; the server must see that device and no other. Returns
    /// the device's side and whether the session was resumed, as both sides say.
    fn connect_to(&self, name: &str, client: &ClientConfig, device: Option<&Identity>) -> (Peer, bool) {
        let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut peer = Peer::client(client, name, device);
        run!(peer, server, Result::unwrap);
        assert!(peer.established, "{:?}", peer.error);
        let info = peer.session.info().unwrap();
        assert!(info.peer_certificate.is_some());
        let resumed = info.resumed;
        let kind = if resumed {
            HandshakeKind::Resumed
        } else {
            HandshakeKind::Full
        };
        assert_eq!(server.handshake_kind(), Some(kind));
        let seen = server
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(AsRef::as_ref);
        assert_eq!(seen, device.map(Identity::leaf));
        std::io::Write::write_all(&mut server.writer(), b"hello").unwrap();
        run!(peer, server, Result::unwrap);
        assert_eq!((peer.data.as_slice(), peer.slug()), (&b"hello"[..], "none"));
        let record = peer.seal(b"answer").unwrap();
        server.read_tls(&mut record.as_slice()).unwrap();
        assert_eq!(
            server.process_new_packets().unwrap().plaintext_bytes_to_read(),
            b"answer".len()
        );
        (peer, resumed)
    }

    fn connect(&self, client: &ClientConfig, device: Option<&Identity>) -> bool {
        self.connect_to("localhost", client, device).1
    }
}

/// Every version and record layer with each way of remembering.
fn every_server() -> impl Iterator<Item = Resuming> {
    CASES
        .into_iter()
        .flat_map(|case| MEMORIES.map(|memory| Resuming::new(case, memory)))
}

#[test]
fn nothing_is_resumed_unless_it_is_said() {
    for world in every_server() {
        let device = world.device("device-0");
        let unsaid = client_builder(&world.authority, &[CA_NAME], world.case.0)
            .record_layer(world.case.1)
            .build()
            .unwrap();
        for client in [unsaid, world.client(0)] {
            for _ in 0..3 {
                assert!(!world.connect(&client, Some(&device)));
            }
        }
    }
}

#[test]
fn a_device_resumes_its_session() {
    for world in every_server() {
        let client = world.client(10);
        let device = world.device("device-0");
        let resumed = [(); 4].map(|()| world.connect(&client, Some(&device)));
        assert_eq!(resumed, [false, true, true, true], "{:?}", world.case);
        // Another configuration knows nothing of it, and a clone of this one does.
        assert!(!world.connect(&world.client(10), Some(&device)));
        assert!(world.connect(&client.clone(), Some(&device)));
    }
}

/// `connect` checks whom the server sees: with another's session it would be another.
#[test]
fn no_device_resumes_anothers_session() {
    for world in every_server() {
        let client = world.client(10);
        let devices = [
            Some(world.device("device-1")),
            None,
            Some(world.device("device-2")),
        ];
        for expected in [false, true, true] {
            for device in &devices {
                assert_eq!(
                    world.connect(&client, device.as_ref()),
                    expected,
                    "{:?}",
                    world.case
                );
            }
        }
    }
}

#[test]
fn a_session_is_for_one_server_name() {
    for world in every_server() {
        let client = world.client(10);
        let device = world.device("device-0");
        for expected in [false, true] {
            for name in ["localhost", "127.0.0.1"] {
                assert_eq!(world.connect_to(name, &client, Some(&device)).1, expected);
            }
        }
    }
}

/// The same certificate loaded again is the same device. With other certificates behind it, it is to show those.
#[test]
fn an_identity_that_is_loaded_again() {
    for world in every_server() {
        let client = world.client(10);
        let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
        let (cert, key) = world.authority.issue_pem("device-0", &[], usage, VALID);
        let load = |cert: &str| Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        assert!(!world.connect(&client, Some(&load(&cert))));
        assert!(world.connect(&client, Some(&load(&cert))));
        let usage = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
        let (other, _) = world.authority.issue_pem("behind it", &[], usage, VALID);
        let longer = load(&format!("{cert}{other}"));
        assert_eq!(longer.fingerprint(), load(&cert).fingerprint());
        assert!(!world.connect(&client, Some(&longer)));
        assert!(world.connect(&client, Some(&longer)));
        assert!(!world.connect(&client, Some(&load(&cert))));
    }
}

#[test]
fn at_the_bound_the_first_device_is_forgotten() {
    for world in every_server() {
        let client = world.client(2);
        let [first, second, third] = ["device-1", "device-2", "device-3"].map(|name| world.device(name));
        let connect = |device| world.connect(&client, Some(device));
        assert_eq!([&first, &second, &first].map(connect), [false, false, true]);
        assert_eq!(
            [&third, &second, &third, &first].map(connect),
            [false, true, true, false]
        );
    }
}

/// What TLS 1.3's tickets need is let go of with the first of them, and all else with the configuration.
#[test]
fn what_was_kept_is_freed() {
    for world in every_server() {
        let client = world.client(10);
        let device = world.device("device-0");
        for _ in 0..2 {
            let (peer, _) = world.connect_to("localhost", &client, Some(&device));
            let sessions = client.sessions_of("localhost", &device);
            // The configuration's and this one. rustls's own records keep their connection's configuration.
            if world.case.1 == RecordLayer::InPlace {
                assert_eq!(Arc::strong_count(&sessions), 2, "{:?}", world.case);
            }
            drop(peer);
            assert_eq!(Arc::strong_count(&sessions), 2);
        }
        let sessions = Arc::downgrade(&client.sessions_of("localhost", &device));
        drop(client);
        assert!(sessions.upgrade().is_none());
    }
}

/// This project's server, and any that sends no tickets.
#[test]
fn a_server_that_does_not_resume() {
    for (versions, layer) in CASES {
        let world = World::with(layer);
        let client = client_builder(&world.authority, &[CA_NAME], versions)
            .record_layer(layer)
            .resumption(10)
            .build()
            .unwrap();
        for _ in 0..2 {
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
            pair.run();
            assert!(!pair.client.session.info().unwrap().resumed);
            let server = pair.server.session.info().unwrap();
            assert!(!server.resumed);
            assert_eq!(server.peer_certificate, Some(world.device.leaf()));
        }
    }
}

/// A session with which a handshake fails is not offered again.
#[test]
fn a_session_is_offered_once() {
    for world in every_server() {
        let client = world.client(10);
        let device = world.device("device-0");
        assert!(!world.connect(&client, Some(&device)));
        drop(Peer::client(&client, "localhost", Some(&device)));
        assert!(!world.connect(&client, Some(&device)));
        assert!(world.connect(&client, Some(&device)));
    }
}

/// RFC 8446 section 4.6.1: such a ticket is to be discarded at once.
#[test]
fn a_ticket_without_a_lifetime_is_not_used() {
    #[derive(Debug)]
    struct ForNow(Arc<dyn ProducesTickets>);
    impl ProducesTickets for ForNow {
        fn enabled(&self) -> bool {
            true
        }
        fn lifetime(&self) -> u32 {
            0
        }
        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            self.0.encrypt(plain)
        }
        fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
            self.0.decrypt(cipher)
        }
    }
    let world = Resuming::with((Versions::Tls13, RecordLayer::InPlace), |config| {
        config.ticketer = Arc::new(ForNow(Ticketer::new().unwrap()));
    });
    let client = world.client(10);
    let device = world.device("device-0");
    assert!(!world.connect(&client, Some(&device)));
    assert!(!world.connect(&client, Some(&device)));
}

/// What [`crate::ClientConfigBuilder::resumption`] says of a server with one certificate, on the heap of Rust: a device's
/// session, and nothing for a connection once its ticket has come.
#[test]
fn what_resumption_costs() {
    for versions in VERSIONS {
        let world = Resuming::new((versions, RecordLayer::InPlace), Memory::Tickets);
        let [on, off] = [10, 0].map(|devices_max| world.client(devices_max));
        let devices = ["device-1", "device-2"].map(|name| world.device(name));
        let mut peers = Vec::with_capacity(6);
        let mut left = |client: &ClientConfig, device: &Identity| {
            let measured = allocation_counter::measure(|| {
                let (mut peer, _) = world.connect_to("localhost", client, Some(device));
                (peer.received, peer.out, peer.data) = Default::default();
                peer.scratch = crate::Scratch::new();
                peers.push(peer);
            });
            measured.bytes_current
        };
        for device in &devices {
            let [off, first, again] = [&off, &on, &on].map(|client| left(client, device));
            assert!((0..=512).contains(&off), "{off}");
            // The first of all brings the table with it.
            assert!((off + 512..=off + 2500).contains(&first), "{off} {first}");
            assert!(again <= off + 100, "{off} {again}");
        }
    }
}
