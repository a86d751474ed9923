//! Settings of both configurations that change what is negotiated, or what is written down of it.

use std::{fs, os::unix::fs::PermissionsExt};

use super::support::*;
use crate::{ConfigError, KeyExchangeGroup, KeyLogFile, Roots, TlsVersion, Versions};

#[test]
fn cipher_suites_by_name() {
    let world = World::new();
    for name in [
        "TLS13_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ] {
        let versions = match name.starts_with("TLS13") {
            true => Versions::Tls13,
            false => Versions::Tls12,
        };
        let client = client_builder(&world.authority, &[CA_NAME], versions)
            .cipher_suites(&[name])
            .build()
            .unwrap();
        let identity = world.authority.server(&["localhost"], VALID);
        let server = table(&world.authority, identity)
            .versions(versions)
            .cipher_suites(&[name])
            .build()
            .unwrap();
        for server in [&world.server, &server] {
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), server);
            pair.run();
            for end in [&mut pair.client, &mut pair.server] {
                assert_eq!(end.session.info().unwrap().cipher_suite, name);
            }
            let record = pair.client.seal(b"there").unwrap();
            pair.server.deliver(&record);
            let record = pair.server.seal(b"and back").unwrap();
            pair.client.deliver(&record);
            assert_eq!(
                (&pair.server.data[..], &pair.client.data[..]),
                (&b"there"[..], &b"and back"[..])
            );
        }
    }
}

#[test]
fn cipher_suites_that_there_are_not() {
    let world = World::new();
    let build = |versions, name: &str| {
        client_builder(&world.authority, &[], versions)
            .cipher_suites(&[name])
            .build()
            .unwrap_err()
    };
    assert_eq!(
        build(Versions::Both, "AES"),
        ConfigError::UnknownCipherSuite("AES".into())
    );
    let of_another_version = build(Versions::Tls12, "TLS13_AES_128_GCM_SHA256");
    assert!(matches!(of_another_version, ConfigError::Refused { .. }));
}

#[test]
fn key_exchange_groups() {
    let world = World::new();
    let client = |groups: &[KeyExchangeGroup]| {
        client_builder(&world.authority, &[CA_NAME], Versions::Both)
            .key_exchange_groups(groups)
            .build()
            .unwrap()
    };
    let server = |groups: &[KeyExchangeGroup]| {
        let identity = world.authority.server(&["localhost"], VALID);
        table(&world.authority, identity)
            .key_exchange_groups(groups)
            .build()
            .unwrap()
    };
    let hello_len = |groups: &[KeyExchangeGroup]| Peer::client(&client(groups), "localhost", None).out.len();
    for group in [
        KeyExchangeGroup::X25519,
        KeyExchangeGroup::Secp256r1,
        KeyExchangeGroup::Secp384r1,
        KeyExchangeGroup::X25519MlKem768,
    ] {
        let mut pair = Pair::new(
            &client(&[group]),
            "localhost",
            Some(&world.device),
            &server(&[group]),
        );
        pair.run();
        assert_eq!(pair.client.session.info().unwrap().version, TlsVersion::Tls13);
        assert!(pair.server.established, "{group:?}");
    }
    // Another group than the one that was guessed: a HelloRetryRequest.
    let client_config = client(&[KeyExchangeGroup::X25519, KeyExchangeGroup::Secp384r1]);
    let only = server(&[KeyExchangeGroup::Secp384r1]);
    let mut pair = Pair::new(&client_config, "localhost", Some(&world.device), &only);
    pair.run();
    assert!(pair.client.established && pair.server.established);
    let record = pair.client.seal(b"after a retry").unwrap();
    pair.server.deliver(&record);
    assert_eq!(pair.server.data, b"after a retry");

    let mut pair = Pair::new(&client(&[KeyExchangeGroup::X25519]), "localhost", None, &only);
    pair.run();
    assert_eq!(pair.server.slug(), "tls_handshake_failure");
    // Post-quantum is large, and only there if it is asked for.
    assert!(hello_len(&[KeyExchangeGroup::X25519MlKem768]) > hello_len(&[]) + 1000);
}

/// The file has what is needed to decrypt both directions, whoever protects the records.
#[test]
fn a_key_log_file() {
    let path = std::env::temp_dir().join(format!("fleetwire-tls-key-log-{}", std::process::id()));
    for (versions, layer) in CASES {
        let world = World::with(layer);
        let identity = world.authority.server(&["localhost"], VALID);
        for by_client in [true, false] {
            let _ = fs::remove_file(&path);
            let file = KeyLogFile::open(&path).unwrap();
            let mut client = client_builder(&world.authority, &[CA_NAME], versions).record_layer(layer);
            let mut server = table(&world.authority, identity.clone()).record_layer(layer);
            if by_client {
                client = client.key_log_file(file);
            } else {
                server = server.key_log_file(file);
            }
            let (client, server) = (client.build().unwrap(), server.build().unwrap());
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
            let random = hex(&pair.client.out[11..43]);
            pair.run();
            assert!(pair.client.established && pair.server.established);
            let log = fs::read_to_string(&path).unwrap();
            let labels: &[&str] = match versions {
                Versions::Tls12 => &["CLIENT_RANDOM"],
                _ => &["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"],
            };
            for label in labels {
                let line = log
                    .lines()
                    .find(|line| line.starts_with(&format!("{label} {random} ")));
                assert!(
                    line.is_some_and(|line| line.len() >= label.len() + 66 + 64),
                    "{log}"
                );
            }
        }
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "for its owner alone");
    fs::remove_file(&path).unwrap();
    let nowhere = path.join("log");
    let error = KeyLogFile::open(&nowhere).unwrap_err();
    assert!(matches!(error, ConfigError::Unwritable { .. }));
    assert!(error.to_string().contains("cannot be written to"));
}

/// TLS 1.3 goes over to new keys by itself, in both directions; the peer follows.
#[test]
fn records_per_key() {
    let world = World::new();
    for versions in VERSIONS {
        let client = client_builder(&world.authority, &[CA_NAME], versions)
            .records_per_key_max(3)
            .build()
            .unwrap();
        let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
        pair.run();
        let mut sealed = 0;
        for i in 0..9_u8 {
            match pair.client.seal(&[i; 20]) {
                Ok(record) => {
                    sealed += 1;
                    pair.server.deliver(&record);
                    let record = pair.server.seal(&[i; 20]).unwrap();
                    pair.client.deliver(&record);
                }
                Err(error) => assert_eq!(error.slug(), "tls_keys_exhausted"),
            }
        }
        assert_eq!(pair.server.data.len(), sealed * 20);
        match versions {
            // Finished was the first record under these keys, and the limit counts it.
            Versions::Tls12 => assert_eq!(sealed, 2),
            _ => assert_eq!(sealed, 9),
        }
        let mut out = Vec::new();
        pair.client.session.close_notify(&mut out);
        pair.server.deliver(&out);
        assert!(pair.server.closed, "it can still say so");
    }
}

/// PEM and DER; what is wrong is told with the file's name.
#[test]
fn roots_from_files() {
    let authority = Authority::new("Fleet CA");
    let path = std::env::temp_dir().join(format!("fleetwire-tls-roots-{}", std::process::id()));
    let pem = authority
        .issue_pem("another", &[], rcgen::ExtendedKeyUsagePurpose::ClientAuth, VALID)
        .0;
    for contents in [authority.certificate, pem.into_bytes()] {
        fs::write(&path, &contents).unwrap();
        assert_eq!(Roots::from_file(&path).unwrap().count(), 1);
        for (wrong, told) in [
            (&contents[..100], ""),
            (b"", " holds no certificate, it is empty"),
            (
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                " holds no certificate, it holds \"PRIVATE KEY\"",
            ),
        ] {
            fs::write(&path, wrong).unwrap();
            let error = Roots::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{}{told}", path.display())), "{error}");
        }
    }
    fs::remove_file(&path).unwrap();
    for unreadable in [path.as_path(), &std::env::temp_dir()] {
        let error = Roots::from_file(unreadable).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
