use super::support::*;
use crate::{
    ClientConfigBuilder, ConfigError, Roots, ServerConfigBuilder, Stage, TlsSession, TlsVersion, Versions,
};

#[test]
fn mutual_tls_with_alpn() {
    let world = World::new();
    for versions in VERSIONS {
        let mut pair = world.pair(versions);
        assert_eq!(pair.client.session.stage(), Stage::AwaitServerHello);
        assert_eq!(pair.server.session.stage(), Stage::AwaitClientHello);
        assert!(pair.client.session.info().is_none());
        pair.run();

        let expected = match versions {
            Versions::Tls12 => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        };
        let client = pair.client.session.info().unwrap();
        assert_eq!(client.version, expected);
        assert_eq!(client.alpn, Some(CA_NAME));
        assert!(client.cipher_suite.starts_with("TLS"), "{}", client.cipher_suite);
        assert!(client.peer_certificate.is_some());
        let server = pair.server.session.info().unwrap();
        assert_eq!(server.version, expected);
        assert_eq!(server.alpn, Some(CA_NAME));
        assert_eq!(server.server_name, Some("localhost"));
        assert_eq!(server.cipher_suite, client.cipher_suite);
        assert_eq!(server.peer_certificate, Some(world.device.leaf()));
        assert_eq!(server.peer_fingerprint(), Some(world.device.fingerprint()));
        assert_eq!(pair.server.session.stage(), Stage::Established);
    }
}

#[test]
fn an_established_session_is_small() {
    assert!(size_of::<TlsSession>() <= 64, "{}", size_of::<TlsSession>());
}

/// Documented on [`ServerConfigBuilder::alpn`]: the table's order decides.
#[test]
fn of_several_names_the_servers_first_is_selected() {
    let world = World::new();
    for versions in VERSIONS {
        let client = world.client(&[b"h2", MQTT, CA_NAME], versions);
        let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
        pair.run();
        assert_eq!(pair.client.session.info().unwrap().alpn, Some(CA_NAME));
        assert_eq!(pair.server.session.info().unwrap().alpn, Some(CA_NAME));
    }
}

#[test]
fn a_name_without_client_authentication_asks_for_no_certificate() {
    let world = World::new();
    for versions in VERSIONS {
        // The device would show its certificate if it were asked.
        let client = world.client(&[MQTT], versions);
        let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
        pair.run();
        let info = pair.server.session.info().unwrap();
        assert_eq!((info.alpn, info.peer_certificate), (Some(MQTT), None));
    }
}

#[test]
fn each_connection_has_its_own_identity() {
    let world = World::new();
    let client = world.client(&[CA_NAME], Versions::Both);
    for name in ["device-1", "device-2", "device-1"] {
        let device = world.authority.device(name, VALID);
        let mut pair = Pair::new(&client, "localhost", Some(&device), &world.server);
        pair.run();
        let seen = pair.server.session.info().unwrap().peer_fingerprint();
        assert_eq!(seen, Some(device.fingerprint()));
    }
}

#[test]
fn without_alpn_the_connection_is_closed_after_the_handshake() {
    let world = World::new();
    for versions in VERSIONS {
        let client = world.client(&[], versions);
        let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
        pair.run();
        assert!(pair.client.established && pair.client.closed);
        assert_eq!(pair.client.slug(), "none");
        assert!(!pair.server.established);
        assert_eq!(pair.server.slug(), "alpn_missing");
        assert!(pair.server.error().refused_by_us());
        pair.client.session.eof().unwrap();
    }
}

#[test]
fn the_server_may_be_named_by_address() {
    let world = World::new();
    let client = world.client(&[MQTT], Versions::Both);
    let mut pair = Pair::new(&client, "127.0.0.1", None, &world.server);
    pair.run();
    assert!(pair.client.established);
    // RFC 6066 section 3: addresses are not sent as SNI.
    assert_eq!(pair.server.session.info().unwrap().server_name, None);
}

#[test]
fn verification_can_be_switched_off() {
    let world = World::new();
    let client = ClientConfigBuilder::new()
        .dangerous_no_server_verification()
        .alpn(vec![MQTT.to_vec()])
        .build()
        .unwrap();
    let mut pair = Pair::new(&client, "elsewhere.example", None, &world.server);
    pair.run();
    assert!(pair.client.established && pair.server.established);
}

/// No ticket is sent and none is taken: nothing follows the handshake, and the next one is as long as the first.
#[test]
fn sessions_are_not_resumed() {
    let world = World::new();
    for versions in VERSIONS {
        let client = world.client(&[CA_NAME], versions);
        let mut lengths = Vec::new();
        for _ in 0..2 {
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
            lengths.push(pair.client.out.len());
            while !pair.server.established {
                let bytes = pair.client.take_out();
                pair.server.deliver(&bytes);
                // TLS 1.3 tickets would follow the client's Finished; TLS 1.2 has the server's own last.
                if versions == Versions::Tls13 && pair.server.established {
                    assert_eq!(pair.server.out, b"");
                }
                let bytes = pair.server.take_out();
                pair.client.deliver(&bytes);
            }
            assert!(pair.client.established);
            let record = pair.server.seal(b"x").unwrap();
            pair.client.deliver(&record);
            assert_eq!(pair.client.data, b"x");
        }
        assert_eq!(lengths[0], lengths[1]);
    }
}

#[test]
fn a_handshake_in_pieces() {
    let world = World::new();
    for versions in VERSIONS {
        for piece in [1, 2, 3, 5, 7, 100] {
            let mut pair = world.pair(versions);
            pair.run_in_pieces(piece);
            assert!(
                pair.client.established && pair.server.established,
                "pieces of {piece}"
            );
        }
    }
}

#[test]
fn configurations_are_checked() {
    let world = World::new();
    let identity = world.authority.server(&["localhost"], VALID);
    let none = ServerConfigBuilder::new(identity.clone()).build();
    assert_eq!(none.unwrap_err(), ConfigError::NoAlpn);
    let twice = table(&world.authority, identity).alpn(MQTT, crate::ClientAuth::None);
    assert_eq!(twice.build().unwrap_err(), ConfigError::BadAlpn(MQTT.to_vec()));

    let client = ClientConfigBuilder::new().build();
    assert_eq!(client.unwrap_err(), ConfigError::NoVerification);
    for name in [vec![], vec![b'x'; 256]] {
        let client = ClientConfigBuilder::new().roots(world.authority.roots());
        let built = client.alpn(vec![name.clone()]).build();
        assert_eq!(built.unwrap_err(), ConfigError::BadAlpn(name));
    }
    assert!(crate::ServerName::parse("not a name").is_err());
    assert_eq!(crate::ServerName::parse("::1").unwrap().to_string(), "::1");

    assert!(matches!(
        Roots::from_pem(b"nothing"),
        Err(ConfigError::NoRoots { .. })
    ));
    assert!(matches!(
        Roots::from_der([b"junk".to_vec()]),
        Err(ConfigError::BadRoot { .. })
    ));
    let missing = std::path::Path::new("no/such/file.pem");
    assert!(matches!(
        Roots::from_file(missing),
        Err(ConfigError::Unreadable { .. })
    ));
}
