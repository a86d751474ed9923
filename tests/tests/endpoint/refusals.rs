//! Who stays outside, with the exact cause on both sides.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use fleetwire_codec::Version;
use fleetwire_endpoint::Endpoint;
use fleetwire_endpoint::pki::Pki;
use fleetwire_engine::{ConnectForm, Failure, Slug};
use fleetwire_tls::{Identity, Versions};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::{
    CERTIFICATE, Client, Device, Raw, WAIT, any_port, connect, dial, identity, plain_plan, serve_once,
    stranger, strangers_identity, tls_client, tls_server, wait_until,
};

const BOTH: [Versions; 2] = [Versions::Tls12, Versions::Tls13];

fn refused(device: &Device, endpoint: &Endpoint) -> Failure {
    device.connect(endpoint.addr()).err().expect("it is refused")
}

#[test]
fn no_certificate() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    for versions in BOTH {
        device.versions = versions;
        let failure = refused(&device, &endpoint);
        assert_eq!(
            failure.slug.as_str(),
            "client_cert_required",
            "{versions:?}: {failure:?}"
        );
        // TLS 1.3 lets a client go on before the server has judged it, so there the CONNECT is on its way already.
        let stage = if versions == Versions::Tls12 {
            "tls"
        } else {
            "connack"
        };
        assert_eq!(failure.stage.as_str(), stage, "{failure:?}");
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.tls_failures, BTreeMap::from([("client_cert_required", 2)]));
    assert_eq!((counts.accepted, counts.client_certificates), (0, 0));
}

/// A time-out says what did not come.
#[test]
fn a_server_that_says_nothing() {
    let silent = TcpListener::bind(any_port()).unwrap();
    let device = Device::trusting(stranger().ca_pem());
    let plan = device
        .plan(silent.local_addr().unwrap())
        .connect_timeout(Duration::from_millis(100));
    let failure = Client::connect(&plan, device.form).err().unwrap();
    assert_eq!(failure.slug.as_str(), "tls_timeout", "{failure:?}");
    assert!(
        failure
            .text
            .ends_with(": the server has not answered the ClientHello"),
        "{failure:?}"
    );
}

#[test]
fn a_strangers_certificate() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(strangers_identity());
    for versions in BOTH {
        device.versions = versions;
        let failure = refused(&device, &endpoint);
        assert_eq!(
            failure.slug.as_str(),
            "client_cert_unknown_ca",
            "{versions:?}: {failure:?}"
        );
        assert!(failure.text.contains("alert 48"), "{failure:?}");
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(
        counts.tls_failures,
        BTreeMap::from([("client_cert_unknown_ca", 2)])
    );
    assert_eq!((counts.accepted, counts.client_certificates), (0, 0));
}

/// RFC 7301 section 3.2: alert 120.
#[test]
fn no_alpn_name_in_common() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(identity(&endpoint, "device-0"));
    device.alpn = vec!["http/1.1", "h2"];
    for versions in BOTH {
        device.versions = versions;
        let failure = refused(&device, &endpoint);
        assert_eq!(
            (failure.slug.as_str(), failure.stage.as_str()),
            ("alpn_refused", "tls"),
            "{failure:?}"
        );
        for part in ["http/1.1", "alert 120"] {
            assert!(failure.text.contains(part), "{failure:?}");
        }
    }
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.tls_failures, BTreeMap::from([("alpn_refused", 2)]));
}

#[test]
fn no_alpn_at_all_is_closed_after_the_handshake() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(identity(&endpoint, "device-0"));
    device.alpn = Vec::new();
    for versions in BOTH {
        device.versions = versions;
        let failure = refused(&device, &endpoint);
        assert_eq!(
            (failure.slug, failure.stage.as_str()),
            (Slug::CLOSED_BEFORE_CONNACK, "connack"),
            "{failure:?}"
        );
    }
    // rustls on its own sees the same: a whole handshake, then close_notify, and nothing of MQTT.
    let mut raw = Raw(tls_client(endpoint.ca_pem(), &[], dial(endpoint.addr())));
    raw.send(&connect(5, "a"));
    assert_eq!(raw.rest(), []);
    assert!(!raw.0.conn.is_handshaking());
    drop(raw);
    let counts = endpoint.shutdown(WAIT);
    assert_eq!(counts.tls_failures, BTreeMap::from([("alpn_missing", 3)]));
    assert_eq!(counts.accepted, 0);
}

/// A plain TLS server: it finishes the handshake without a word about ALPN. Not one byte of MQTT may follow.
#[test]
fn a_server_that_ignores_alpn() {
    let pki = stranger();
    for versions in BOTH {
        let (address, server) = tls_server(pki.server_der().clone(), pki.server_key_der().into());
        let mut device = Device::trusting(pki.ca_pem());
        device.versions = versions;
        let failure = device.connect(address).err().unwrap();
        assert_eq!(
            (failure.slug.as_str(), failure.stage.as_str()),
            ("alpn_not_selected", "tls"),
            "{failure:?}"
        );
        assert!(failure.text.contains(CERTIFICATE), "{failure:?}");
        assert_eq!(server.join().unwrap(), b"", "closed before any byte of MQTT");
    }
}

/// Without an offer there is nothing to select, so the same server is taken, and gets a CONNECT.
#[test]
fn who_offers_no_alpn_takes_a_server_without_it() {
    let pki = stranger();
    let (address, server) = tls_server(pki.server_der().clone(), pki.server_key_der().into());
    let mut device = Device::trusting(pki.ca_pem());
    device.alpn = Vec::new();
    let plan = device.plan(address).connect_timeout(Duration::from_secs(1));
    let failure = Client::connect(&plan, device.form).err().unwrap();
    assert_eq!(failure.slug, Slug::CONNACK_TIMEOUT, "{failure:?}");
    assert_eq!(server.join().unwrap(), connect(5, "device-0"));
}

#[test]
fn a_strangers_server() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(stranger().ca_pem());
    for versions in BOTH {
        device.versions = versions;
        let failure = refused(&device, &endpoint);
        assert_eq!(
            (failure.slug.as_str(), failure.stage.as_str()),
            ("server_ca_unknown", "tls"),
            "{failure:?}"
        );
    }
    // The endpoint hears why, a little later.
    let expected = BTreeMap::from([("server_ca_unknown", 2)]);
    wait_until(|| endpoint.counts().tls_failures == expected);
}

#[test]
fn a_server_of_another_name() {
    let endpoint = Endpoint::builder().start().unwrap();
    let mut device = Device::trusting(endpoint.ca_pem());
    device.form.identity = Some(identity(&endpoint, "device-0"));
    device.server_name = "broker.example";
    let failure = refused(&device, &endpoint);
    assert_eq!(failure.slug.as_str(), "server_name_mismatch", "{failure:?}");
    for part in ["broker.example", "localhost"] {
        assert!(failure.text.contains(part), "{failure:?}");
    }
    // With that name in its certificate the same device is in.
    let pki = Pki::throw_away(["broker.example"]).unwrap();
    let endpoint = Endpoint::builder().pki(pki).start().unwrap();
    device.ca_pem = endpoint.ca_pem().to_owned();
    device.form.identity = Some(identity(&endpoint, "device-0"));
    device.connect(endpoint.addr()).unwrap();
}

#[test]
fn certificates_out_of_date() {
    let authority = Authority::new();
    for ((from, to), slug) in [
        ((1999, 2001), "server_cert_expired"),
        ((2998, 2999), "server_cert_not_yet_valid"),
    ] {
        let (certificate, key) =
            authority.issue(&["localhost"], ExtendedKeyUsagePurpose::ServerAuth, from, to);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let (address, server) = tls_server(certificate.der().clone(), PrivateKeyDer::from(key));
        let failure = Device::trusting(&authority.ca_pem)
            .connect(address)
            .err()
            .unwrap();
        assert_eq!(
            (failure.slug.as_str(), failure.stage.as_str()),
            (slug, "tls"),
            "{failure:?}"
        );
        assert_eq!(server.join().unwrap(), b"");
    }
}

/// The endpoint's own authority has signed them, and yet they do not count: alert 45 for the dates; and a server's
/// certificate does not make a device (RFC 5280 section 4.2.1.12).
#[test]
fn a_certificate_that_does_not_count() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("ca.crt"), &authority.ca_pem).unwrap();
    fs::write(
        directory.path().join("ca.key"),
        authority.issuer.key().serialize_pem(),
    )
    .unwrap();
    let pki = Pki::load_or_create::<&str>(directory.path(), []).unwrap();
    let endpoint = Endpoint::builder().pki(pki).start().unwrap();
    let mut device = Device::trusting(&authority.ca_pem);
    let (for_devices, for_servers) = (
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    for (usage, from, to, slug, alert) in [
        (&for_devices, 1999, 2001, "client_cert_expired", 45),
        (&for_devices, 2998, 2999, "client_cert_expired", 45),
        (&for_servers, 1999, 2999, "client_cert_refused", 43),
    ] {
        let (certificate, key) = authority.issue(&["device-0"], usage.clone(), from, to);
        // Our client looks at the dates itself; this one's clock is of that time.
        let years = u64::try_from(from - 1970).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(years * 31_557_600 + 15_000_000);
        let pem = (certificate.pem(), key.serialize_pem());
        let identity = Identity::from_pem_at(pem.0.as_bytes(), pem.1.as_bytes(), then).unwrap();
        device.form.identity = Some(identity);
        for versions in BOTH {
            device.versions = versions;
            let failure = refused(&device, &endpoint);
            assert_eq!(failure.slug.as_str(), slug, "{versions:?}: {failure:?}");
            assert!(failure.text.contains(&format!("alert {alert}")), "{failure:?}");
        }
    }
    let counts = endpoint.shutdown(WAIT);
    let expected = BTreeMap::from([("client_cert_expired", 4), ("client_cert_refused", 2)]);
    assert_eq!((counts.tls_failures, counts.accepted), (expected, 0));
}

#[test]
fn a_listener_without_tls() {
    // A plain MQTT server that answers the ClientHello with a CONNACK.
    let (address, _server) =
        serve_once(|mut stream| stream.write_all(b"\x20\x03\x00\x00\x00").map(|()| stream));
    let mut device = Device::trusting(stranger().ca_pem());
    let failure = device.connect(address).err().unwrap();
    assert_eq!(
        (failure.slug.as_str(), failure.stage.as_str()),
        ("not_tls", "tls"),
        "{failure:?}"
    );
    // Our own, which takes the ClientHello for a broken CONNECT and hangs up.
    let endpoint = Endpoint::for_tests().unwrap();
    device.ca_pem = endpoint.ca_pem().to_owned();
    let failure = device.connect(endpoint.plain_addr().unwrap()).err().unwrap();
    assert_eq!(failure.stage.as_str(), "tls", "{failure:?}");
    assert_eq!(failure.slug, Slug::CLOSED_IN_HANDSHAKE, "{failure:?}");
}

/// The other way round: MQTT without TLS to the TLS port.
#[test]
fn a_client_without_tls() {
    let endpoint = Endpoint::builder().start().unwrap();
    for version in [Version::V311, Version::V5] {
        let mut form = ConnectForm::new("a");
        form.version = version;
        let failure = Client::connect(&plain_plan(endpoint.addr()), form).err().unwrap();
        assert_eq!(failure.stage.as_str(), "connack", "{failure:?}");
        // What it gets is a TLS alert, which is no MQTT packet.
        assert_eq!(failure.slug, Slug::NOT_MQTT, "{failure:?}");
    }
    assert_eq!(
        endpoint.shutdown(WAIT).tls_failures,
        BTreeMap::from([("not_tls", 2)])
    );
}

#[test]
fn nobody_listens() {
    let address = {
        let (address, server) = serve_once(drop);
        drop(dial(address));
        server.join().unwrap();
        address
    };
    let failure = Client::connect(&plain_plan(address), ConnectForm::new("a"))
        .err()
        .unwrap();
    assert_eq!((failure.slug, failure.stage.as_str()), (Slug::TCP_REFUSED, "tcp"));
    assert_eq!(failure.address, Some(address));
}

/// An authority whose certificates have the dates that a test wants.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            ca_pem,
        }
    }

    fn issue(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        from: i32,
        to: i32,
    ) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages.push(usage);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}
