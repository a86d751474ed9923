//! What clients of one port get by the server name that they ask for, and by the ALPN names that they offer.

use super::support::*;
use crate::{
    ClientAuth, ConfigError, Fallback, KeyExchangeGroup, Opened, RecordLayer, Scratch, ServerConfig,
    ServerConfigBuilder, TlsError, TlsVersion, Versions,
    connection::Connection,
    handshake::{Expect, Handshake},
    hello::{AwaitHello, Chosen},
};

const HTTP_CA: &[u8] = b"x-amzn-http-ca";

/// Two accounts on one port: each with its own authority, which issues its server's certificate and its devices'.
struct Accounts {
    first: Authority,
    second: Authority,
}

impl Accounts {
    fn new() -> Self {
        Self {
            first: Authority::new("first CA"),
            second: Authority::new("second CA"),
        }
    }

    fn builder(authority: &Authority, names: &[&str]) -> ServerConfigBuilder {
        table(authority, authority.server(names, VALID))
    }

    /// The first one is for any name, the second for its own.
    fn port(&self) -> ServerConfig {
        let names = &["iot.fleet.example", "*.iot.fleet.example"];
        let second = Self::builder(&self.second, names).server_names(names).build();
        Self::builder(&self.first, &["localhost", "account.example", "127.0.0.1"])
            .domain(second.unwrap())
            .build()
            .unwrap()
    }
}

/// RFC 6066 section 3: a server may choose its certificate, and more, by the name.
#[test]
fn each_domain_has_its_certificate_and_its_devices() {
    let accounts = Accounts::new();
    let server = accounts.port();
    for versions in VERSIONS {
        for (name, authority, stranger) in [
            ("account.example", &accounts.first, &accounts.second),
            ("localhost", &accounts.first, &accounts.second),
            ("127.0.0.1", &accounts.first, &accounts.second),
            ("iot.fleet.example", &accounts.second, &accounts.first),
            ("IoT.Fleet.Example.", &accounts.second, &accounts.first),
            ("site-7.iot.fleet.example", &accounts.second, &accounts.first),
        ] {
            let client = client_builder(authority, &[CA_NAME], versions).build().unwrap();
            for record_len in [usize::MAX, 60] {
                let device = authority.device("device-0", VALID);
                let mut pair = Pair::new(&client, name, Some(&device), &server);
                let hello = pair.client.take_out();
                pair.server
                    .deliver(&split_records(&hello, record_len.min(hello.len())));
                pair.run();
                assert_eq!(
                    (pair.client.slug(), pair.server.slug()),
                    ("none", "none"),
                    "{name}"
                );
                let info = pair.server.session.info().unwrap();
                assert_eq!(info.peer_fingerprint(), Some(device.fingerprint()));
            }
            let device = stranger.device("device-0", VALID);
            let mut pair = Pair::new(&client, name, Some(&device), &server);
            pair.run();
            assert_eq!(pair.server.slug(), "client_cert_unknown_ca", "{name}");
        }
    }
}

/// What a domain sets counts for its clients, and nothing else does.
#[test]
fn each_domain_has_its_settings() {
    for layers in [
        [RecordLayer::InPlace, RecordLayer::Rustls],
        [RecordLayer::Rustls, RecordLayer::InPlace],
    ] {
        let accounts = Accounts::new();
        let seen = |alpn: &'static [u8]| {
            move |client: &crate::VerifiedClient<'_>| match client.alpn == Some(alpn) {
                true => Ok(()),
                false => Err("this is another domain's check".to_owned()),
            }
        };
        let domain = ServerConfigBuilder::new(accounts.second.server(&["b.example"], VALID))
            .server_names(["b.example"])
            .alpn(HTTP_CA, ClientAuth::Required(accounts.second.roots()))
            .unknown_alpn(Fallback::Serve(ClientAuth::None))
            .versions(Versions::Tls12)
            .cipher_suites(&["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])
            .check_client(seen(HTTP_CA))
            .record_layer(layers[0])
            .build()
            .unwrap();
        let server = table(&accounts.first, accounts.first.server(&["a.example"], VALID))
            .versions(Versions::Tls13)
            .check_client(seen(CA_NAME))
            .require_server_name()
            .record_layer(layers[1])
            .domain(domain)
            .build()
            .unwrap();
        for (name, authority, alpn, version) in [
            ("a.example", &accounts.first, CA_NAME, TlsVersion::Tls13),
            ("b.example", &accounts.second, HTTP_CA, TlsVersion::Tls12),
        ] {
            let client = client_builder(authority, &[CA_NAME, MQTT, HTTP_CA], Versions::Both)
                .build()
                .unwrap();
            let device = authority.device("device-0", VALID);
            let mut pair = Pair::new(&client, name, Some(&device), &server);
            pair.run();
            assert_eq!((pair.client.slug(), pair.server.slug()), ("none", "none"));
            let info = pair.server.session.info().unwrap();
            assert_eq!((info.version, info.alpn), (version, Some(alpn)));
            if version == TlsVersion::Tls12 {
                assert_eq!(info.cipher_suite, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
            }
        }
        // The name `mqtt` is the first one's alone, and so is the refusal of names that are unknown.
        let client = client_builder(&accounts.second, &[MQTT], Versions::Both)
            .build()
            .unwrap();
        let mut pair = Pair::new(&client, "b.example", None, &server);
        pair.run();
        assert_eq!(
            (pair.server.slug(), pair.server.session.info().unwrap().alpn),
            ("none", None)
        );
    }
}

/// Alert 112 (RFC 6066 section 3) and 109 (RFC 8446 section 9.2), or the configuration that is for everybody else.
#[test]
fn what_other_names_and_none_get_is_a_setting() {
    let accounts = Accounts::new();
    let domain = Accounts::builder(&accounts.first, &["b.example"])
        .server_names(["b.example"])
        .build()
        .unwrap();
    let names = ["a.example", "b.example", "elsewhere.example", "127.0.0.1"];
    let open = Accounts::builder(&accounts.first, &names).domain(domain);
    let listed = open.clone().server_names(["a.example"]);
    for (server, [of_others, of_none]) in [
        (open.clone(), [None, None]),
        (open.require_server_name(), [None, Some(109)]),
        (listed.clone(), [Some(112), None]),
        (listed.require_server_name(), [Some(112), Some(109)]),
    ] {
        let server = server.build().unwrap();
        for versions in VERSIONS {
            let client = client_builder(&accounts.first, &[MQTT], versions)
                .build()
                .unwrap();
            for (name, alert) in names.into_iter().zip([None, None, of_others, of_none]) {
                let mut pair = Pair::new(&client, name, None, &server);
                pair.run();
                assert_eq!(pair.server.established, alert.is_none(), "{name}");
                for peer in [&pair.client, &pair.server] {
                    assert_eq!(peer.error.as_ref().and_then(TlsError::alert), alert, "{name}");
                }
            }
        }
    }
}

/// Each row of what AWS IoT Core serves by port, ALPN and authentication, and what a domain configuration may change of
/// it (developerguide/protocols.html, CreateDomainConfiguration).
#[test]
fn the_table_of_aws_iot_core() {
    let authority = Authority::new("Fleet CA");
    let identity = authority.server(
        &["account.example", "mtls.example", "jobs.example", "127.0.0.1"],
        VALID,
    );
    let certificate = || ClientAuth::Required(authority.roots());
    let builder = || ServerConfigBuilder::new(identity.clone());
    // AWS_X509 with SECURE_MQTT and TLS 1.3 alone: a certificate is asked for on 443 without ALPN too.
    let mtls = builder()
        .server_names(["mtls.example"])
        .versions(Versions::Tls13)
        .alpn(CA_NAME, certificate())
        .no_alpn(Fallback::Serve(certificate()))
        .build()
        .unwrap();
    // The endpoint of jobs does not take `x-amzn-http-ca`.
    let jobs = builder()
        .server_names(["jobs.example"])
        .alpn(CA_NAME, certificate())
        .build()
        .unwrap();
    let port_443 = builder()
        .alpn(CA_NAME, certificate())
        .alpn(MQTT, ClientAuth::None)
        .alpn(HTTP_CA, certificate())
        // What SDKs offer for MQTT over WebSocket.
        .alpn(b"http/1.1", ClientAuth::None)
        .require_server_name_for(MQTT)
        .no_alpn(Fallback::Serve(ClientAuth::None))
        .domain(mtls)
        .domain(jobs)
        .build()
        .unwrap();
    // MQTT on 8883 and HTTPS on 8443.
    let without_alpn = builder().no_alpn(Fallback::Serve(certificate())).build().unwrap();

    const HTTP: &[u8] = b"http/1.1";
    let refused = |alert| (None, Some(alert));
    for (port, name, offer, (asks, alert)) in [
        (&without_alpn, "account.example", None, (Some(true), None)),
        (&without_alpn, "account.example", Some(CA_NAME), refused(120)),
        (&port_443, "account.example", Some(CA_NAME), (Some(true), None)),
        (&port_443, "account.example", Some(MQTT), (Some(false), None)),
        (&port_443, "account.example", Some(HTTP_CA), (Some(true), None)),
        (&port_443, "account.example", Some(HTTP), (Some(false), None)),
        (&port_443, "account.example", None, (Some(false), None)),
        (&port_443, "account.example", Some(b"h2"), refused(120)),
        // Without SNI.
        (&port_443, "127.0.0.1", Some(CA_NAME), (Some(true), None)),
        (&port_443, "127.0.0.1", Some(MQTT), refused(109)),
        // Domains.
        (&port_443, "mtls.example", None, (Some(true), None)),
        (&port_443, "mtls.example", Some(MQTT), refused(120)),
        (&port_443, "jobs.example", Some(CA_NAME), (Some(true), None)),
        (&port_443, "jobs.example", Some(HTTP_CA), refused(120)),
    ] {
        let client = client_builder(&authority, offer.as_slice(), Versions::Both)
            .build()
            .unwrap();
        let device = authority.device("device-0", VALID);
        let mut pair = Pair::new(&client, name, Some(&device), port);
        pair.run();
        let error = pair.server.error.as_ref();
        assert_eq!(
            error.and_then(TlsError::alert),
            alert,
            "{name} {offer:?} {error:?}"
        );
        let info = pair.server.session.info();
        let asked = info.as_ref().map(|info| info.peer_certificate.is_some());
        assert_eq!(asked, asks, "{name} {offer:?}");
        assert_eq!(info.and_then(|info| info.alpn), offer.filter(|_| asks.is_some()));
        if asks == Some(true) {
            let mut pair = Pair::new(&client, name, None, port);
            pair.run();
            assert_eq!(pair.server.slug(), "client_cert_required", "{name} {offer:?}");
        }
    }
    let old = client_builder(&authority, &[CA_NAME], Versions::Tls12)
        .build()
        .unwrap();
    let mut pair = Pair::new(&old, "mtls.example", None, &port_443);
    pair.run();
    assert_eq!(pair.server.slug(), "tls_version");
}

#[test]
fn domains_that_nobody_could_reach_are_refused() {
    let accounts = Accounts::new();
    let builder = || Accounts::builder(&accounts.first, &["localhost"]);
    let named = |names: &[&str]| builder().server_names(names).build().unwrap();
    let repeated = |name: &str| ConfigError::RepeatedHostName(name.to_owned());
    let base = builder().server_names(["a.example", "*.a.example"]);
    let cases = [
        (
            base.clone().domain(builder().build().unwrap()),
            ConfigError::UnnamedDomain,
        ),
        (base.clone().domain(named(&["A.example."])), repeated("a.example")),
        (
            base.clone().domain(named(&["b.example", "*.A.example"])),
            repeated("*.a.example"),
        ),
        (
            base.clone()
                .domain(named(&["b.example"]))
                .domain(named(&["b.example"])),
            repeated("b.example"),
        ),
        (
            builder().server_names(["a.example", "a.example"]),
            repeated("a.example"),
        ),
    ];
    for (builder, error) in cases {
        assert_eq!(builder.build().unwrap_err(), error);
    }
    // A name within a wildcard is no repetition: it comes first. Domains bring theirs along.
    let inner = builder()
        .server_names(["b.example"])
        .domain(named(&["c.example"]))
        .build()
        .unwrap();
    let again = base.clone().domain(inner.clone()).domain(named(&["c.example"]));
    assert_eq!(again.build().unwrap_err(), repeated("c.example"));
    let server = base
        .domain(inner)
        .domain(named(&["b.a.example"]))
        .build()
        .unwrap();
    for name in [
        "a.example",
        "b.example",
        "c.example",
        "b.a.example",
        "c.a.example",
    ] {
        assert!(server.of_server(Some(name)).is_some(), "{name}");
    }
    assert!(server.of_server(Some("d.example")).is_none());
}

/// A second ClientHello with other names is seen by rustls alone: its certificate is for the server name that was chosen
/// for, and the ALPN name is compared in the end.
#[test]
fn what_was_negotiated_is_what_was_chosen_for() {
    let accounts = Accounts::new();
    let server = accounts.port();
    for versions in VERSIONS {
        let client = client_builder(&accounts.second, &[CA_NAME], versions)
            .build()
            .unwrap();
        let device = accounts.second.device("device-0", VALID);
        let run = |change: fn(&mut Chosen)| {
            let mut client = Peer::client(&client, "iot.fleet.example", Some(&device));
            let mut received = client.take_out();
            let chosen = AwaitHello::new(server.clone()).choose(&received, &mut Vec::new());
            let mut chosen = chosen.unwrap().unwrap();
            change(&mut chosen);
            let mut handshake = Handshake {
                connection: Box::new(chosen.connection),
                secrets: chosen.secrets,
                server_name: chosen.server_name,
                consumed: 0,
                expect: Expect::Server(chosen.choice),
            };
            let mut scratch = Scratch::new();
            loop {
                let mut out = Vec::new();
                match handshake.feed(&mut scratch, &mut received, &mut out)? {
                    Opened::Established { .. } => return handshake.verdict(),
                    Opened::Handshake { consumed } => drop(received.drain(..consumed)),
                    _ => {}
                }
                client.deliver(&out);
                received.extend(client.take_out());
            }
        };
        run(|_| {}).unwrap();
        let changes: [(fn(&mut Chosen), _); 4] = [
            (|chosen| chosen.choice.alpn = Some(MQTT.to_vec()), "ALPN name"),
            (|chosen| chosen.choice.alpn = None, "ALPN name"),
            (
                |chosen| of_server(chosen, Some("localhost")),
                "no server certificate",
            ),
            (|chosen| of_server(chosen, None), "no server certificate"),
        ];
        for (change, what) in changes {
            let error = run(change).unwrap_err();
            assert_eq!(error.slug(), "tls_internal");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}

/// The connection of a client that had asked for another server.
fn of_server(chosen: &mut Chosen, name: Option<&str>) {
    let (rustls, secrets) = chosen.choice.for_connection(name.map(Box::from));
    (chosen.connection, chosen.secrets) = (Connection::server(rustls).unwrap(), secrets);
}

/// RFC 8446 section 4.1.2: what a HelloRetryRequest does not ask for stays as it was in the first ClientHello.
#[test]
fn a_second_hello_with_other_names_is_refused() {
    let accounts = Accounts::new();
    let server = Accounts::builder(&accounts.first, &["a.example", "b.example"])
        .alpn(HTTP_CA, ClientAuth::None)
        .key_exchange_groups(&[KeyExchangeGroup::Secp256r1])
        .build()
        .unwrap();
    let client = client_builder(&accounts.first, &[CA_NAME], Versions::Tls13)
        .key_exchange_groups(&[KeyExchangeGroup::X25519, KeyExchangeGroup::Secp256r1])
        .build()
        .unwrap();
    let device = accounts.first.device("device-0", VALID);
    for (from, to, slug) in [
        (CA_NAME, CA_NAME, "none"),
        (CA_NAME, HTTP_CA, "alpn_refused"),
        (b"a.example", b"b.example", "tls_protocol"),
    ] {
        let mut pair = Pair::new(&client, "a.example", Some(&device), &server);
        pair.server.deliver(&pair.client.take_out());
        pair.client.deliver(&pair.server.take_out());
        let mut hello = pair.client.take_out();
        let place = hello.windows(from.len()).position(|bytes| bytes == from).unwrap();
        hello[place..][..to.len()].copy_from_slice(to);
        pair.server.deliver(&hello);
        pair.run();
        assert_eq!(pair.server.slug(), slug);
        assert_eq!(pair.server.established, slug == "none");
    }
}
