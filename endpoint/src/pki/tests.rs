use std::fs;
use std::path::PathBuf;

use time::Duration;
use x509_parser::extensions::GeneralName;

use super::*;

const NO_NAMES: [&str; 0] = [];

#[test]
fn the_servers_certificate_says_what_it_is_for() {
    let pki = Pki::throw_away(["broker.test", "10.1.2.3"]).unwrap();
    let (_, certificate) = X509Certificate::from_der(pki.server_der()).unwrap();
    let names = certificate
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .clone();
    let mut loopback_v6 = [0; 16];
    loopback_v6[15] = 1;
    assert_eq!(
        names,
        [
            GeneralName::DNSName("localhost"),
            GeneralName::IPAddress(&[127, 0, 0, 1]),
            GeneralName::IPAddress(&loopback_v6),
            GeneralName::DNSName("broker.test"),
            GeneralName::IPAddress(&[10, 1, 2, 3]),
        ]
    );
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    assert!(!certificate.is_ca());
    lasts(&certificate, Duration::days(365));
}

#[test]
fn a_devices_certificate_says_what_it_is_for() {
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    let device = pki.issue_device("device-7", KeyType::P256, None).unwrap();
    let (_, certificate) = X509Certificate::from_der(&device.cert_der).unwrap();
    let (_, ca) = X509Certificate::from_der(pki.ca_der()).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=device-7");
    assert_eq!(certificate.issuer(), ca.subject());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!certificate.is_ca() && ca.is_ca());
    lasts(&certificate, Duration::days(365));
    lasts(&ca, Duration::days(3650));

    let date = OffsetDateTime::now_utc() + Duration::days(3);
    let device = pki.issue_device("device-7", KeyType::P256, Some(date)).unwrap();
    let (_, certificate) = X509Certificate::from_der(&device.cert_der).unwrap();
    assert_eq!(
        certificate.validity().not_after.timestamp(),
        date.unix_timestamp()
    );
}

#[test]
fn keys_are_pkcs8_and_belong_to_their_certificates() {
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    for key_type in [KeyType::P256, KeyType::Rsa2048] {
        let device = pki.issue_device("device-7", key_type, None).unwrap();
        assert!(
            device.key_pem.starts_with("-----BEGIN PRIVATE KEY-----\n"),
            "{key_type:?}"
        );
        let key = PrivatePkcs8KeyDer::from_pem_slice(device.key_pem.as_bytes()).unwrap();
        assert_eq!(key, device.key_der);
        let key = KeyPair::try_from(&key).unwrap();
        let (_, certificate) = X509Certificate::from_der(&device.cert_der).unwrap();
        assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
        assert_eq!(
            CertificateDer::from_pem_slice(device.cert_pem.as_bytes()).unwrap(),
            device.cert_der
        );
    }
}

#[test]
fn serial_numbers_are_random_and_positive() {
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    let serials: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let device = pki.issue_device("device-7", KeyType::P256, None).unwrap();
            let (_, certificate) = X509Certificate::from_der(&device.cert_der).unwrap();
            certificate.raw_serial().to_vec()
        })
        .collect();
    assert!(
        serials
            .iter()
            .all(|serial| serial.len() == 16 && (0x40..0x80).contains(&serial[0]))
    );
    assert!(serials[0] != serials[1] && serials[1] != serials[2] && serials[0] != serials[2]);
}

#[test]
fn client_ids_and_dates_that_no_certificate_can_hold_are_refused() {
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    let issue = |client_id: &str| pki.issue_device(client_id, KeyType::P256, None);
    assert!(matches!(issue(""), Err(PkiError::CommonName { .. })));
    assert!(matches!(issue(&"x".repeat(65)), Err(PkiError::CommonName { .. })));
    issue(&"ö".repeat(64)).unwrap();
    let before_1970 = OffsetDateTime::UNIX_EPOCH - Duration::days(2);
    let issued = pki.issue_device("device-7", KeyType::P256, Some(before_1970));
    assert!(matches!(issued, Err(PkiError::NotAfter)));
}

#[test]
fn a_certificate_that_has_ended_began_before_that() {
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    let long_ago = OffsetDateTime::now_utc() - Duration::days(400);
    let issued = pki
        .issue_device("device-7", KeyType::P256, Some(long_ago))
        .unwrap();
    let (_, certificate) = X509Certificate::from_der(&issued.cert_der).unwrap();
    let validity = certificate.validity();
    assert_eq!(validity.not_after.timestamp(), long_ago.unix_timestamp());
    assert_eq!(
        validity.not_after.timestamp() - validity.not_before.timestamp(),
        24 * 60 * 60
    );
    let ca_end = pki.ca_not_after().unwrap();
    assert!(ca_end > OffsetDateTime::now_utc() + Duration::days(3_000));
}

#[test]
fn a_folder_is_made_once_and_read_again() {
    let folder = Folder::new();
    let first = Pki::load_or_create(&folder.state(), NO_NAMES).unwrap();
    let again = Pki::load_or_create(&folder.state(), NO_NAMES).unwrap();
    assert_eq!(first.ca_pem(), again.ca_pem());
    assert_eq!(first.server_der(), again.server_der());
    assert_eq!(first.server_key_der(), again.server_key_der());
    // What the CA signs after it was read is what its certificate verifies.
    let device = again.issue_device("device-7", KeyType::P256, None).unwrap();
    let (_, certificate) = X509Certificate::from_der(&device.cert_der).unwrap();
    let (_, ca) = X509Certificate::from_der(first.ca_der()).unwrap();
    assert_eq!(certificate.issuer().as_raw(), ca.subject().as_raw());
    let public_key = again.issuer.key().subject_public_key_info();
    assert_eq!(ca.public_key().raw, public_key);
}

#[cfg(unix)]
#[test]
fn files_have_their_modes() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let pki = Pki::load_or_create(&folder.state(), NO_NAMES).unwrap();
    let device = pki.issue_device("device-7", KeyType::P256, None).unwrap();
    device.write(&folder.state(), false).unwrap();
    device.write(&folder.state(), true).unwrap();
    let mode = |name: &str| {
        let path = folder.state().join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    for name in ["ca.key", "server.key", "device-7.key"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    for name in ["ca.crt", "server.crt", "device-7.crt"] {
        // A stricter umask may take bits away.
        assert_eq!(mode(name) & !0o644, 0, "{name}");
    }
    assert_eq!(mode("."), 0o700);
}

#[test]
fn a_name_that_is_lacking_has_the_servers_certificate_issued_again() {
    let folder = Folder::new();
    let first = Pki::load_or_create(&folder.state(), ["a.test"]).unwrap();
    let more = Pki::load_or_create(&folder.state(), ["b.test"]).unwrap();
    assert_eq!(first.ca_pem(), more.ca_pem());
    assert_eq!(first.server_key_der(), more.server_key_der());
    assert_ne!(first.server_der(), more.server_der());
    let text = fs::read_to_string(folder.state().join("server.crt")).unwrap();
    assert_eq!(
        CertificateDer::from_pem_slice(text.as_bytes()).unwrap(),
        *more.server_der()
    );
    let kept = Pki::load_or_create(&folder.state(), ["B.TEST", "localhost"]).unwrap();
    assert_eq!(kept.server_der(), more.server_der());
}

#[test]
fn a_server_certificate_that_has_expired_is_issued_again() {
    let folder = Folder::new();
    let pki = Pki::load_or_create(&folder.state(), NO_NAMES).unwrap();
    let names = ServerNames::with(NO_NAMES).unwrap();
    let mut params = certificate::server(&names, OffsetDateTime::now_utc()).unwrap();
    params.not_after = OffsetDateTime::now_utc() - Duration::minutes(1);
    let expired = params.signed_by(&pki.server_key, &pki.issuer).unwrap();
    fs::write(folder.state().join("server.crt"), expired.pem()).unwrap();
    let again = Pki::load_or_create(&folder.state(), NO_NAMES).unwrap();
    assert_ne!(again.server_der(), expired.der());
    lasts(
        &X509Certificate::from_der(again.server_der()).unwrap().1,
        Duration::days(365),
    );
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let folder = Folder::new();
    let other = Folder::new();
    Pki::load_or_create(&folder.state(), NO_NAMES).unwrap();
    Pki::load_or_create(&other.state(), NO_NAMES).unwrap();
    let load = || {
        Pki::load_or_create(&folder.state(), NO_NAMES)
            .map(drop)
            .unwrap_err()
    };
    let (here, there) = (
        |name: &str| folder.state().join(name),
        |name: &str| other.state().join(name),
    );

    let key = fs::read_to_string(here("ca.key")).unwrap();
    fs::copy(there("ca.key"), here("ca.key")).unwrap();
    let error = load();
    assert!(matches!(error, PkiError::KeyMismatch { .. }), "{error}");
    fs::remove_file(here("ca.key")).unwrap();
    let error = load();
    assert!(
        matches!(&error, PkiError::Missing { path, .. } if *path == here("ca.key")),
        "{error}"
    );
    fs::write(here("ca.key"), "no key").unwrap();
    let error = load();
    assert!(
        matches!(&error, PkiError::Malformed { path, .. } if *path == here("ca.key")),
        "{error}"
    );
    fs::write(here("ca.key"), &key).unwrap();

    fs::copy(there("server.crt"), here("server.crt")).unwrap();
    fs::copy(there("server.key"), here("server.key")).unwrap();
    let error = load();
    assert!(matches!(error, PkiError::ForeignCertificate { .. }), "{error}");
    assert!(
        error.to_string().contains("server.crt was not issued by"),
        "{error}"
    );

    // A leaf cannot stand in for the CA.
    fs::copy(here("server.crt"), here("ca.crt")).unwrap();
    fs::copy(here("server.key"), here("ca.key")).unwrap();
    let error = load();
    assert!(
        matches!(&error, PkiError::Malformed { path, .. } if *path == here("ca.crt")),
        "{error}"
    );
}

#[test]
fn device_files_are_not_overwritten_unless_told() {
    let folder = Folder::new();
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    let issue = || pki.issue_device("device-7", KeyType::P256, None).unwrap();
    let first = issue();
    let (certificate, key) = first.write(&folder.state(), false).unwrap();
    assert_eq!(certificate, folder.state().join("device-7.crt"));

    // Only the certificate is there: the key must not be written either.
    fs::remove_file(&key).unwrap();
    let error = issue().write(&folder.state(), false).unwrap_err();
    assert!(
        matches!(&error, PkiError::Exists { path } if *path == certificate),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&certificate).unwrap(), first.cert_pem);
    assert!(!key.exists());

    let second = issue();
    second.write(&folder.state(), true).unwrap();
    assert_eq!(fs::read_to_string(&certificate).unwrap(), second.cert_pem);
    assert_eq!(fs::read_to_string(&key).unwrap(), second.key_pem);
    assert_eq!(fs::read_dir(folder.state()).unwrap().count(), 2);
}

#[test]
fn client_ids_do_not_lead_out_of_the_folder() {
    let folder = Folder::new();
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    for client_id in ["../device", "..", ".hidden", "a/b", "a\\b", "a\0b"] {
        let device = pki.issue_device(client_id, KeyType::P256, None).unwrap();
        let error = device.write(&folder.state(), true).unwrap_err();
        assert!(matches!(error, PkiError::FileName { .. }), "{client_id}");
    }
    assert!(!folder.state().exists());
}

#[test]
fn several_threads_may_issue_at_once() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Pki::throw_away(NO_NAMES).unwrap());
}

#[test]
fn debug_texts_show_no_key() {
    let pki = Pki::throw_away(NO_NAMES).unwrap();
    let device = pki.issue_device("device-7", KeyType::P256, None).unwrap();
    assert!(!format!("{pki:?} {device:?}").contains("PRIVATE KEY"));
}

/// A temporary folder; the state lies in one below it that is not there yet.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("deeper/state")
    }
}

/// Asserts that the certificate began a day ago and lasts so long from now on.
fn lasts(certificate: &X509Certificate<'_>, lifetime: Duration) {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let validity = certificate.validity();
    assert!((now - 86_400 - validity.not_before.timestamp()).abs() < 60);
    assert!((now + lifetime.whole_seconds() - validity.not_after.timestamp()).abs() < 60);
}
