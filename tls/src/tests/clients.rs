//! Which clients a server serves, and as what: by server name, by ALPN name, and by what the application says.

use super::support::*;
use crate::{ClientAuth, ConfigError, Fallback, RecordLayer, TlsError};

/// RFC 8446 section 9.2, RFC 6066 section 3.
#[test]
fn server_names() {
    let world = World::new();
    let identity = world.authority.server(&["localhost", "127.0.0.1"], VALID);
    let server = table(&world.authority, identity)
        .require_server_name()
        .server_names(["LocalHost", "b.example"])
        .build()
        .unwrap();
    for versions in VERSIONS {
        let client = world.client(&[CA_NAME], versions);
        for (name, slug, alert) in [
            ("localhost", "none", None),
            ("elsewhere.example", "server_name_unknown", Some(112)),
            // An address is not sent.
            ("127.0.0.1", "server_name_missing", Some(109)),
        ] {
            let mut pair = Pair::new(&client, name, Some(&world.device), &server);
            pair.run();
            assert_eq!(pair.server.slug(), slug);
            assert_eq!(pair.server.established, alert.is_none());
            assert_eq!(pair.client.error.as_ref().and_then(|error| error.alert()), alert);
        }
    }
}

/// RFC 6066 section 3: names are compared without regard to case, and have no dot at their end. What is told is in lower
/// case, whether the hello came in one record or in several.
#[test]
fn server_names_in_any_case() {
    let world = World::new();
    let identity = world.authority.server(&["localhost"], VALID);
    let server = table(&world.authority, identity)
        .server_names(["LOCALHOST."])
        .build()
        .unwrap();
    for versions in VERSIONS {
        let client = world.client(&[CA_NAME], versions);
        for name in ["localhost", "LocalHost", "localhost.", "LOCALHOST."] {
            for record_len in [usize::MAX, 60] {
                let mut pair = Pair::new(&client, name, Some(&world.device), &server);
                let hello = pair.client.take_out();
                pair.server
                    .deliver(&split_records(&hello, record_len.min(hello.len())));
                pair.run();
                assert_eq!(pair.server.slug(), "none", "{name}");
                let info = pair.server.session.info().unwrap();
                assert_eq!(info.server_name, Some("localhost"));
            }
        }
        let mut pair = Pair::new(&client, "Elsewhere.Example", Some(&world.device), &server);
        pair.run();
        assert_eq!(
            pair.server.error().to_string(),
            "the client asked for the server \"elsewhere.example\", which is not served here (alert 112 sent)"
        );
    }
}

/// AWS's one port asks for SNI with custom authentication alone (RFC 8446 section 9.2 gives the alert).
#[test]
fn a_server_name_for_one_alpn_name() {
    let world = World::new();
    let identity = world.authority.server(&["localhost", "127.0.0.1"], VALID);
    let server = table(&world.authority, identity.clone())
        .require_server_name_for(MQTT)
        .build()
        .unwrap();
    for versions in VERSIONS {
        for (alpn, name, slug) in [
            (MQTT, "localhost", "none"),
            (MQTT, "127.0.0.1", "server_name_missing"),
            (CA_NAME, "127.0.0.1", "none"),
        ] {
            let client = world.client(&[alpn], versions);
            let mut pair = Pair::new(&client, name, Some(&world.device), &server);
            pair.run();
            assert_eq!(pair.server.slug(), slug);
            let alert = (slug != "none").then_some(109);
            assert_eq!(pair.client.error.as_ref().and_then(TlsError::alert), alert);
        }
    }
    let unknown = table(&world.authority, identity.clone()).require_server_name_for(b"h2");
    assert_eq!(
        unknown.build().unwrap_err(),
        ConfigError::UnknownAlpn(b"h2".to_vec())
    );
    for name in ["127.0.0.1", "", "a b", "."] {
        let bad = table(&world.authority, identity.clone())
            .server_names([name])
            .build();
        assert!(matches!(bad.unwrap_err(), ConfigError::BadHostName(_)), "{name}");
    }
}

/// RFC 7301 section 3.2 has alert 120 for names without overlap; a server may go on as if there were none.
#[test]
fn what_the_table_has_no_name_for() {
    let world = World::new();
    let identity = world.authority.server(&["localhost"], VALID);
    let cases = [
        (
            Fallback::Refuse,
            [("alpn_missing", Some(120)), ("alpn_refused", Some(120))],
        ),
        (
            Fallback::CloseAfterHandshake,
            [("alpn_missing", None), ("alpn_refused", None)],
        ),
        (
            Fallback::Serve(ClientAuth::Required(world.authority.roots())),
            [("none", None), ("none", None)],
        ),
    ];
    for (fallback, outcomes) in cases {
        let server = table(&world.authority, identity.clone())
            .no_alpn(fallback.clone())
            .unknown_alpn(fallback.clone())
            .build()
            .unwrap();
        for versions in VERSIONS {
            let offers: [&[&[u8]]; 2] = [&[], &[b"h2"]];
            for (offer, (slug, alert)) in offers.into_iter().zip(outcomes) {
                let client = world.client(offer, versions);
                let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
                pair.run();
                assert_eq!(pair.server.slug(), slug, "{fallback:?}");
                assert_eq!(pair.server.error.as_ref().and_then(TlsError::alert), alert);
                assert_eq!(pair.server.established, slug == "none");
                if slug == "none" {
                    // They are asked for a certificate. No name is negotiated.
                    let info = pair.server.session.info().unwrap();
                    assert!(info.peer_certificate.is_some() && info.alpn.is_none());
                    // So a client of ours that wanted one goes.
                    let left = if offer.is_empty() {
                        "none"
                    } else {
                        "alpn_not_selected"
                    };
                    assert_eq!(pair.client.slug(), left);
                    let mut pair = Pair::new(&client, "localhost", None, &server);
                    pair.run();
                    assert_eq!(pair.server.slug(), "client_cert_required");
                }
            }
        }
    }
}

/// The application sees who it is, and may say no.
#[test]
fn the_application_checks_clients() {
    for (versions, layer) in CASES {
        let world = World::with(layer);
        let wanted = world.authority.device("device-1", VALID).fingerprint();
        let known = world.device.fingerprint();
        assert_ne!(wanted, known);
        let identity = world.authority.server(&["localhost"], VALID);
        for allowed in [known, wanted] {
            let server = table(&world.authority, identity.clone())
                .record_layer(layer)
                .check_client(move |client| {
                    assert_eq!(
                        (client.server_name, client.alpn),
                        (Some("localhost"), Some(CA_NAME))
                    );
                    assert_eq!(crate::x509::fingerprint(client.certificate), client.fingerprint);
                    match client.fingerprint == allowed {
                        true => Ok(()),
                        false => Err("the certificate is not registered".to_owned()),
                    }
                })
                .build()
                .unwrap();
            let client = world.client(&[CA_NAME], versions);
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
            pair.run();
            assert_eq!(pair.server.established, allowed == known);
            if allowed != known {
                assert_eq!(
                    pair.server.error().to_string(),
                    "the client's certificate is refused: the certificate is not registered (alert 49 sent)"
                );
                match layer {
                    RecordLayer::InPlace => assert_eq!(pair.client.slug(), "client_cert_refused"),
                    RecordLayer::Rustls => assert!(pair.client.closed),
                }
                assert_eq!(pair.server.seal(b"x").unwrap_err().slug(), "client_cert_refused");
            }
            // Who shows no certificate is not asked about.
            let client = world.client(&[MQTT], versions);
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
            pair.run();
            assert!(pair.server.established);
        }
    }
}
