//! Who refused what and why, on both sides.

use super::support::*;
use crate::{ClientConfigBuilder, Reason, Versions};

/// Runs a handshake that must fail, and returns the slugs of client and server.
fn slugs(pair: &mut Pair) -> (&'static str, &'static str) {
    pair.run();
    (pair.client.slug(), pair.server.slug())
}

#[test]
fn no_alpn_in_common() {
    let world = World::new();
    for versions in VERSIONS {
        let client = world.client(&[b"h2", b"http/1.1"], versions);
        let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
        assert_eq!(slugs(&mut pair), ("alpn_refused", "alpn_refused"));
        let offered = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        for (error, ours) in [(pair.client.error(), false), (pair.server.error(), true)] {
            assert_eq!(error.alert(), Some(120));
            assert_eq!(error.refused_by_us(), ours);
            assert_eq!(
                *error.reason(),
                Reason::AlpnRefused {
                    offered: offered.clone()
                }
            );
            assert!(error.to_string().contains("h2, http/1.1"), "{error}");
        }
    }
}

/// TLS 1.3 calls the client established before the server has judged its certificate: the alert is late.
#[test]
fn client_certificates() {
    let world = World::new();
    let stranger = Authority::new("Another CA").device("device-0", VALID);
    // The same name, but another key: an authority that was made anew.
    let namesake = Authority::new("Fleet CA").device("device-0", VALID);
    let expired = world.authority.device("device-0", EXPIRED);
    let early = world.authority.device("device-0", FUTURE);
    let wrong_purpose = world.authority.server(&["device"], VALID);
    let cases = [
        (None, "client_cert_required", 116),
        (Some(stranger), "client_cert_unknown_ca", 48),
        (Some(namesake), "client_cert_unknown_ca", 48),
        (Some(expired), "client_cert_expired", 45),
        (Some(early), "client_cert_expired", 45),
        (Some(wrong_purpose), "client_cert_refused", 43),
    ];
    for versions in VERSIONS {
        let client = world.client(&[CA_NAME], versions);
        for (identity, slug, alert) in &cases {
            let mut pair = Pair::new(&client, "localhost", identity.as_ref(), &world.server);
            assert_eq!(slugs(&mut pair), (*slug, *slug));
            assert_eq!(pair.client.established, versions == Versions::Tls13);
            assert!(!pair.server.established);
            assert_eq!(pair.client.error().alert(), Some(*alert));
            assert_eq!(pair.server.error().alert(), Some(*alert));
            assert!(!pair.client.error().refused_by_us());
            assert!(pair.server.error().refused_by_us());
            assert_eq!(pair.client.seal(b"x").unwrap_err().slug(), *slug);
        }
    }
}

#[test]
fn server_certificates() {
    let world = World::new();
    let stranger = Authority::new("Corp Proxy CA");
    let namesake = Authority::new("Fleet CA");
    let cases = [
        (
            &stranger,
            "localhost",
            VALID,
            "server_ca_unknown",
            "server_ca_unknown",
            48,
        ),
        (
            &namesake,
            "localhost",
            VALID,
            "server_ca_unknown",
            "server_ca_unknown",
            48,
        ),
        (
            &world.authority,
            "localhost",
            EXPIRED,
            "server_cert_expired",
            "server_cert_expired",
            45,
        ),
        (
            &world.authority,
            "localhost",
            FUTURE,
            "server_cert_not_yet_valid",
            "server_cert_expired",
            45,
        ),
        (
            &world.authority,
            "elsewhere.example",
            VALID,
            "server_name_mismatch",
            "server_cert_invalid",
            42,
        ),
    ];
    for versions in VERSIONS {
        let client = world.client(&[CA_NAME], versions);
        for (authority, name, years, ours, theirs, alert) in cases {
            let server = table(&world.authority, authority.server(&[name], years))
                .build()
                .unwrap();
            let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
            assert_eq!(slugs(&mut pair), (ours, theirs));
            assert!(!pair.client.established && !pair.server.established);
            assert!(pair.client.error().refused_by_us() && !pair.server.error().refused_by_us());
            assert_eq!(pair.client.error().alert(), Some(alert));
            assert_eq!(pair.server.error().alert(), Some(alert));
            match pair.client.error().reason() {
                Reason::ServerCaUnknown { issuer } => {
                    let known = [Some("CN=Corp Proxy CA"), Some("CN=Fleet CA")];
                    assert!(known.contains(&issuer.as_deref()));
                }
                Reason::ServerCertExpired { detail } => {
                    assert!(detail.starts_with("it ended Jan  1 00:00:00 2001"), "{detail}");
                }
                Reason::ServerNameMismatch { expected, presented } => {
                    assert_eq!(expected, "localhost");
                    assert_eq!(presented, &["elsewhere.example"]);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn no_version_in_common() {
    let world = World::new();
    for (ours, theirs) in [
        (Versions::Tls12, Versions::Tls13),
        (Versions::Tls13, Versions::Tls12),
    ] {
        let identity = world.authority.server(&["localhost"], VALID);
        let server = table(&world.authority, identity)
            .versions(theirs)
            .build()
            .unwrap();
        let client = world.client(&[CA_NAME], ours);
        let mut pair = Pair::new(&client, "localhost", Some(&world.device), &server);
        assert_eq!(slugs(&mut pair), ("tls_version", "tls_version"));
        assert_eq!(pair.client.error().alert(), Some(70));
        assert!(pair.server.error().refused_by_us());
    }
}

#[test]
fn the_end_of_the_stream_in_the_handshake_is_truncation() {
    let world = World::new();
    let mut pair = world.pair(Versions::Tls12);
    let truncated = pair.client.session.eof().unwrap_err();
    assert_eq!(truncated.slug(), "tls_truncated");
    assert!(
        truncated.to_string().contains("before it had answered"),
        "{truncated}"
    );
    assert_eq!(pair.server.session.eof().unwrap_err().slug(), "tls_truncated");
    let hello = pair.client.take_out();
    pair.server.deliver(&hello);
    let flight = pair.server.take_out();
    pair.client.deliver(&flight);
    let truncated = pair.client.session.eof().unwrap_err();
    assert!(
        truncated.to_string().contains("during the handshake"),
        "{truncated}"
    );
    assert!(!truncated.refused_by_us());
}

/// Every sentence is one line, begins in lower case and names the alert.
#[test]
fn sentences_are_for_people() {
    let world = World::new();
    let client = ClientConfigBuilder::new()
        .roots(Authority::new("Other CA").roots())
        .alpn(vec![CA_NAME.to_vec()])
        .build()
        .unwrap();
    let mut pair = Pair::new(&client, "localhost", Some(&world.device), &world.server);
    pair.run();
    assert_eq!(
        pair.client.error().to_string(),
        "the server's certificate was issued by \"CN=Fleet CA\", which is none of the trusted authorities (alert 48 sent)"
    );
    assert_eq!(
        pair.server.error().to_string(),
        "the client does not trust the issuer of this server's certificate (alert 48 received)"
    );
}
