use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use super::support::*;
use crate::{Identity, IdentityError};

#[test]
fn pem_and_der_give_the_same_identity() {
    let authority = Authority::new("Fleet CA");
    let (cert, key) = authority.issue_pem("device-0", &[], ClientAuth, VALID);
    let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let der = rcgen::KeyPair::from_pem(&key).unwrap().serialize_der();
    let again = Identity::from_der(vec![identity.leaf().to_vec()], der).unwrap();
    assert_eq!(again.fingerprint(), identity.fingerprint());
    let hex: String = identity
        .fingerprint()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(format!("{identity:?}"), format!("Identity({hex})"));
}

/// PKCS#8 wraps what stands alone as PKCS#1 (RSA, RFC 8017 appendix A.1.2) or SEC1 (ECDSA, RFC 5915 section 3).
#[test]
fn keys_of_each_format() {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = rcgen::KeyPair::generate().unwrap();
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_der();
    let directory = Directory::new();
    let (cert_path, key_path) = (directory.0.join("device.crt"), directory.0.join("device.key"));
    for (key, label) in [
        (rsa, Some("RSA PRIVATE KEY")),
        (p256, Some("EC PRIVATE KEY")),
        (p384, Some("EC PRIVATE KEY")),
        // It stands in PKCS#8 alone (RFC 8410 section 7).
        (ed25519, None),
    ] {
        let params = rcgen::CertificateParams::new(vec![]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let pkcs8 = key.serialize_der();
        let bare = label.map(|label| (label, wrapped_key(&pkcs8).to_vec()));
        fs::write(&cert_path, pem("CERTIFICATE", &certificate)).unwrap();
        for (label, key) in bare.into_iter().chain([("PRIVATE KEY", pkcs8)]) {
            for file in [key.clone(), pem(label, &key).into_bytes()] {
                fs::write(&key_path, file).unwrap();
                let identity = Identity::from_files(&cert_path, &key_path).unwrap();
                assert_eq!(identity.leaf(), certificate);
            }
            let identity = Identity::from_der(vec![certificate.clone()], key).unwrap();
            assert_eq!(identity.leaf(), certificate);
        }
        let mismatch = Identity::from_der(vec![certificate], other.clone()).unwrap_err();
        assert!(matches!(mismatch, IdentityError::Mismatch { .. }));
    }
}

/// RFC 7468 section 2, in base64 (RFC 4648 section 4).
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            text.push(match digit <= three.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize % 64]),
                false => '=',
            });
        }
    }
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(str::from_utf8)
        .collect::<Result<_, _>>()
        .unwrap();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// The third element of the sequence, RFC 5958 section 2: version, algorithm, privateKey.
fn wrapped_key(pkcs8: &[u8]) -> &[u8] {
    let (_, sequence) = x509_parser::der_parser::der::parse_der(pkcs8).unwrap();
    let elements = sequence.as_sequence().unwrap();
    let key = elements[2].as_slice().unwrap();
    &pkcs8[key.as_ptr() as usize - pkcs8.as_ptr() as usize..][..key.len()]
}

/// FIPS 180-2 appendix B.1: the digest of "abc".
#[test]
fn the_fingerprint_is_sha_256() {
    let digest = crate::x509::fingerprint(b"abc");
    assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert_eq!(digest[28..], [0xf2, 0x00, 0x15, 0xad]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let authority = Authority::new("Fleet CA");
    let (cert, key) = authority.issue_pem("device-0", &[], ClientAuth, VALID);
    let (expired, expired_key) = authority.issue_pem("device-1", &[], ClientAuth, EXPIRED);
    let from_pem = |cert: &str, key: &str| Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(
        from_pem(&cert, &expired_key),
        IdentityError::Mismatch { .. }
    ));
    assert!(matches!(
        from_pem(&expired, &expired_key),
        IdentityError::Expired { .. }
    ));
    assert!(matches!(
        from_pem(&key, &key),
        IdentityError::NoCertificate { .. }
    ));
    assert!(matches!(from_pem(&cert, &cert), IdentityError::NoKey { .. }));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(
        from_pem(&cert, &encrypted),
        IdentityError::EncryptedKey { .. }
    ));
    // As OpenSSL's older commands write it.
    let old_form = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let error = from_pem(&cert, old_form);
    assert!(matches!(error, IdentityError::EncryptedKey { .. }), "{error}");
    assert!(error.to_string().contains("openssl pkey -in"));
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        from_pem(junk, &key),
        IdentityError::BadCertificate { .. }
    ));
    let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(from_pem(&cert, junk), IdentityError::BadKey { .. }));
    assert!(matches!(
        Identity::from_der(vec![], rcgen::KeyPair::from_pem(&key).unwrap().serialize_der()),
        Err(IdentityError::NoCertificate { .. })
    ));
}

#[test]
fn errors_name_the_file() {
    let authority = Authority::new("Fleet CA");
    let (cert, key) = authority.issue_pem("device-0", &[], ClientAuth, EXPIRED);
    let directory = Directory::new();
    let (cert_path, key_path) = (directory.0.join("device-0.crt"), directory.0.join("device-0.key"));
    fs::write(&cert_path, cert).unwrap();
    let missing = Identity::from_files(&cert_path, &key_path).unwrap_err();
    assert!(
        missing.to_string().contains("device-0.key cannot be read"),
        "{missing}"
    );
    fs::write(&key_path, key).unwrap();
    let expired = Identity::from_files(&cert_path, &key_path).unwrap_err();
    assert!(expired.to_string().contains("device-0.crt ended"), "{expired}");
    assert!(expired.to_string().contains("2001"), "{expired}");
}

/// What people hand over in place of a certificate and its key, and what they are told: the file, what is wrong with it,
/// and what it should be.
#[test]
fn what_is_said_about_wrong_files() {
    let authority = Authority::new("Fleet CA");
    let (cert, key) = authority.issue_pem("device-0", &[], ClientAuth, VALID);
    let (other, _) = authority.issue_pem("device-1", &[], ClientAuth, VALID);
    let pair = rcgen::KeyPair::from_pem(&key).unwrap();
    let (cert_der, key_der) = (pem_to_der(&cert), pair.serialize_der());
    let directory = Directory::new();
    let (cert_path, key_path) = (directory.0.join("device.crt"), directory.0.join("device.key"));
    let told = |cert: &[u8], key: &[u8]| {
        fs::write(&cert_path, cert).unwrap();
        fs::write(&key_path, key).unwrap();
        let told = Identity::from_files(&cert_path, &key_path).map_err(|error| error.to_string());
        told.map_err(|told| told.replace(&format!("{}/", directory.0.display()), ""))
    };
    let (pem, pem_key) = (cert.as_bytes(), key.as_bytes());
    // PEM and DER, in any combination, and both in one file.
    let both = format!("{key}{cert}");
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let authority_first = format!("{other}{cert}");
    for (cert, key) in [
        (pem, pem_key),
        (&cert_der, &key_der),
        (pem, &key_der),
        (&cert_der, pem_key),
        (both.as_bytes(), both.as_bytes()),
    ] {
        assert_eq!(told(cert, key).unwrap().leaf(), cert_der);
    }
    let needs_certificate = "it needs a \"BEGIN CERTIFICATE\" section";
    let needs_key = "it needs a PKCS#8, PKCS#1 or SEC1 \"PRIVATE KEY\" section, not encrypted";
    let cases: [(&[u8], &[u8], String); 11] = [
        (b"", pem_key, format!("device.crt holds no certificate, it is empty: {needs_certificate}")),
        (pem, b"", format!("device.key holds no private key that could be used, it is empty: {needs_key}")),
        (pem_key, pem, format!("device.crt holds no certificate, it holds \"PRIVATE KEY\": {needs_certificate}")),
        // Of the three files that AWS gives away, the one that is for nothing.
        (
            pem,
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            format!("device.key holds no private key that could be used, it holds \"PUBLIC KEY\": {needs_key}"),
        ),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            pem_key,
            format!("device.crt holds no certificate, it holds \"CERTIFICATE REQUEST\": {needs_certificate}"),
        ),
        (b"hello\n", pem_key, format!("device.crt holds no certificate, it is no PEM: {needs_certificate}")),
        (
            pem,
            &cert_der,
            format!("device.key holds no private key that could be used, it is a certificate as DER: {needs_key}"),
        ),
        (&key_der, pem_key, "device.crt cannot be used as certificate: it is no X.509 certificate".into()),
        (
            pem,
            encrypted.as_bytes(),
            "the private key in device.key is encrypted: decrypt it with `openssl pkey -in FILE -out DECRYPTED_FILE`"
                .into(),
        ),
        (
            other.as_bytes(),
            pem_key,
            "device.key is not the private key of device.crt: the pair must come from the same request".into(),
        ),
        // The authority in front of the device.
        (
            authority_first.as_bytes(),
            pem_key,
            "device.key is the private key of a later certificate of device.crt: the device's own must come first, \
             its authorities behind it"
                .into(),
        ),
    ];
    for (cert, key, sentence) in cases {
        assert_eq!(told(cert, key).unwrap_err(), sentence);
    }
    let error = Identity::from_files(&directory.0, &key_path)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("cannot be read: it is a directory, and a file is needed"),
        "{error}"
    );
    // More than 16 MiB, of which nothing is kept.
    fs::File::create(&cert_path)
        .unwrap()
        .set_len((16 << 20) + 1)
        .unwrap();
    let error = Identity::from_files(&cert_path, &key_path)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("device.crt cannot be read: it is larger than 16 MiB"),
        "{error}"
    );
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fleetwire-tls-identity-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
