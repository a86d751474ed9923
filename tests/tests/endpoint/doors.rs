//! Who gets in: the ALPN name decides what a client has to show.

use std::collections::BTreeMap;

use fleetwire_codec::Version;
use fleetwire_endpoint::pki::Pki;
use fleetwire_endpoint::{Endpoint, EndpointError};
use fleetwire_engine::{ConnectForm, Engine, OwnedKind, Slug};
use fleetwire_tls::{Identity, Versions};

use crate::support::{
    CERTIFICATE, Client, Device, PASSWORD, Raw, WAIT, any_port, connect, connect_with, dial, identity, next,
    plain_plan, text, tls_client,
};

#[test]
fn each_of_200_devices_shows_a_certificate_of_its_own() {
    let endpoint = Endpoint::builder().start().unwrap();
    let plan = Device::trusting(endpoint.ca_pem()).plan(endpoint.addr());
    let (engine, events) = Engine::builder().start_channel(1024).unwrap();
    let handle = engine.handle();
    for index in 0..200 {
        let mut form = ConnectForm::new(format!("device-{index}"));
        form.identity = Some(identity(&endpoint, &form.client_id));
        handle.open_with(&plan, index, form).unwrap();
    }
    let mut tokens = std::collections::BTreeSet::new();
    while tokens.len() < 200 {
        next(&events, |at, kind| match kind {
            OwnedKind::Connected { alpn, .. } => {
                assert_eq!(alpn.as_deref(), Some(CERTIFICATE.as_bytes()));
                tokens.insert(at.token).then_some(())
            }
            OwnedKind::Failed(failure) => panic!("{failure:?}"),
            _ => None,
        });
    }
    engine.shutdown(WAIT);
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.client_certificates, 200);
    assert_eq!(counts.connects_by_alpn, BTreeMap::from([(CERTIFICATE, 200)]));
    assert_eq!((counts.accepted, counts.refused), (200, 0));
    assert_eq!(counts.tls_failures, BTreeMap::new());
}

/// A second domain has a certificate of its own, which another authority issued; its devices are the same.
#[test]
fn a_domain_shows_a_certificate_of_its_own() {
    let theirs = Pki::throw_away(["iot.fleet.example", "*.iot.fleet.example"]).unwrap();
    let key = theirs.server_key_der().secret_pkcs8_der().to_vec();
    let own = Identity::from_der(vec![theirs.server_der().to_vec()], key).unwrap();
    let endpoint = Endpoint::builder()
        .domain(&["iot.fleet.example", "*.iot.fleet.example"], own)
        .user("ada", "secret")
        .start()
        .unwrap();
    let client_identity = identity(&endpoint, "device-0");
    for (server_name, ca, others) in [
        ("localhost", endpoint.ca_pem(), theirs.ca_pem()),
        ("iot.fleet.example", theirs.ca_pem(), endpoint.ca_pem()),
        ("site-7.IoT.fleet.example", theirs.ca_pem(), endpoint.ca_pem()),
    ] {
        let mut device = Device::trusting(ca);
        device.server_name = server_name;
        device.form.identity = Some(client_identity.clone());
        for versions in [Versions::Tls12, Versions::Tls13] {
            device.versions = versions;
            let client = device.connect(endpoint.addr()).unwrap();
            assert_eq!(client.alpn.as_deref(), Some(CERTIFICATE));
        }
        device.ca_pem = others.to_owned();
        let failure = device.connect(endpoint.addr()).err().unwrap();
        assert_eq!(failure.slug.as_str(), "server_ca_unknown", "{failure:?}");
        let mut user = Device::trusting(ca);
        (user.server_name, user.alpn) = (server_name, vec![PASSWORD]);
        (user.form.username, user.form.password) = (Some("ada".to_owned()), Some(b"secret".to_vec()));
        user.connect(endpoint.addr()).unwrap();
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(
        counts.connects_by_alpn,
        BTreeMap::from([(CERTIFICATE, 6), (PASSWORD, 3)])
    );
}

/// What cannot be served is said before the port is opened.
#[test]
fn domains_that_cannot_be_served() {
    let endpoint = Endpoint::builder().start().unwrap();
    let own = identity(&endpoint, "server");
    for (names, text) in [
        (&["127.0.0.1"][..], "\"127.0.0.1\" is neither a DNS name"),
        (
            &["a.example", "A.example"],
            "server name \"a.example\" is given twice",
        ),
        (&[], "a domain needs server names"),
    ] {
        let error = Endpoint::builder()
            .domain(names, own.clone())
            .start()
            .unwrap_err();
        assert!(matches!(error, EndpointError::Tls(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_device_that_comes_twice_is_one_certificate() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(identity(&endpoint, "device-0"));
    for (versions, mqtt) in [(Versions::Tls12, Version::V311), (Versions::Tls13, Version::V5)] {
        device.versions = versions;
        device.form.version = mqtt;
        // AWS's SDKs send a user name under mutual TLS too; any is accepted there.
        device.form.username = Some("?SDK=Rust&Version=1".to_owned());
        let client = device.connect(endpoint.addr()).unwrap();
        assert_eq!(client.alpn.as_deref(), Some(CERTIFICATE));
        client.engine.shutdown(WAIT);
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!((counts.accepted, counts.client_certificates), (2, 1));
}

#[test]
fn mqtt_takes_a_users_password_and_names_what_is_wrong_with_others() {
    let endpoint = Endpoint::builder().user("ada", "secret").start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.alpn = vec![PASSWORD];
    let bad_5 = Some(0x86);
    let bad_3 = Some(4);
    for (version, username, password, refused) in [
        (Version::V5, Some("ada"), Some("secret"), None),
        (Version::V5, Some("ada?SDK=Rust"), Some("secret"), None),
        (Version::V311, Some("ada"), Some("secret"), None),
        (Version::V5, Some("ada"), Some("Secret"), bad_5),
        (Version::V5, Some("ada"), None, bad_5),
        (Version::V5, None, None, bad_5),
        (Version::V311, Some("ada"), Some("Secret"), bad_3),
        (Version::V311, None, None, bad_3),
    ] {
        device.form.version = version;
        device.form.username = username.map(str::to_owned);
        device.form.password = password.map(|password| password.as_bytes().to_vec());
        match device.connect(endpoint.addr()) {
            Ok(client) => {
                assert_eq!((client.alpn.as_deref(), refused), (Some(PASSWORD), None));
            }
            Err(failure) => {
                assert_eq!(
                    (failure.slug, failure.reason, failure.stage.as_str()),
                    (Slug::CONNACK_REFUSED, refused, "connack"),
                    "{username:?} {password:?}"
                );
            }
        }
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.connects_by_alpn, BTreeMap::from([(PASSWORD, 3)]));
    assert_eq!((counts.refused, counts.client_certificates), (5, 0));
}

#[test]
fn without_a_user_mqtt_refuses_everybody() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.alpn = vec![PASSWORD];
    for (username, password) in [(None, None), (Some(String::new()), Some(Vec::new()))] {
        device.form.username = username;
        device.form.password = password;
        let failure = device.connect(endpoint.addr()).err().unwrap();
        assert_eq!(
            (failure.slug, failure.reason),
            (Slug::CONNACK_REFUSED, Some(0x86))
        );
    }
    assert_eq!(endpoint.shutdown(WAIT).refused, 2);
}

/// A certificate cannot stand in for the password: `mqtt` does not ask for one, so none is sent.
#[test]
fn mqtt_asks_for_no_certificate() {
    let endpoint = Endpoint::builder().user("ada", "secret").start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.alpn = vec![PASSWORD];
    device.form.identity = Some(identity(&endpoint, "device-0"));
    let failure = device.connect(endpoint.addr()).err().unwrap();
    assert_eq!(failure.slug, Slug::CONNACK_REFUSED);
    assert_eq!(endpoint.shutdown(WAIT).client_certificates, 0);
}

/// The server's order of names decides: the certificate comes first.
#[test]
fn of_two_names_the_certificate_is_chosen() {
    let endpoint = Endpoint::builder().user("ada", "secret").start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.alpn = vec![PASSWORD, CERTIFICATE];
    device.form.username = Some("ada".to_owned());
    device.form.password = Some(b"secret".to_vec());
    let failure = device.connect(endpoint.addr()).err().unwrap();
    assert_eq!(failure.slug.as_str(), "client_cert_required");
    device.form.identity = Some(identity(&endpoint, "device-0"));
    let client = device.connect(endpoint.addr()).unwrap();
    assert_eq!(client.alpn.as_deref(), Some(CERTIFICATE));
}

#[test]
fn plain_tcp_is_open_until_there_are_users() {
    let open = Endpoint::for_tests().unwrap();
    Client::connect(&plain_plan(open.plain_addr().unwrap()), ConnectForm::new("a")).unwrap();
    assert_eq!(
        open.shutdown(WAIT).connects_by_alpn,
        BTreeMap::from([("none", 1)])
    );

    let closed = Endpoint::builder()
        .plain(any_port())
        .user("ada", "secret")
        .start()
        .unwrap();
    let plan = plain_plan(closed.plain_addr().unwrap());
    let failure = Client::connect(&plan, ConnectForm::new("a")).err().unwrap();
    assert_eq!(
        (failure.slug, failure.reason),
        (Slug::CONNACK_REFUSED, Some(0x86))
    );
    let mut form = ConnectForm::new("a");
    form.username = Some("ada".to_owned());
    form.password = Some(b"secret".to_vec());
    Client::connect(&plan, form).unwrap();
}

/// The same bytes by another TLS implementation's hand, and a CONNACK read by hand.
#[test]
fn rustls_on_its_own_gets_in_with_a_password() {
    let endpoint = Endpoint::builder().user("ada", "secret").start().unwrap();
    let mut raw = Raw(tls_client(
        endpoint.ca_pem(),
        &["http/1.1", PASSWORD],
        dial(endpoint.addr()),
    ));
    let mut login = text("ada");
    login.extend(text("secret"));
    let connack = raw.connect(&connect_with(5, "a", 0xc2, &login));
    assert_eq!(connack[..2], [0, 0]);
    assert_eq!(raw.0.conn.alpn_protocol(), Some(PASSWORD.as_bytes()));
    assert_eq!(
        raw.0.conn.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );

    // And without one: 0x86, then the end.
    let mut raw = Raw(tls_client(endpoint.ca_pem(), &[PASSWORD], dial(endpoint.addr())));
    assert_eq!(raw.connect(&connect(5, "a"))[..2], [0, 0x86]);
    assert_eq!(raw.rest(), []);
}
