use std::{fs, path::PathBuf};

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
    let other = rcgen::KeyPair::generate().unwrap().serialize_der();
    for key in [rsa, p256, p384] {
        let params = rcgen::CertificateParams::new(vec![]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let pkcs8 = key.serialize_der();
        let bare = wrapped_key(&pkcs8).to_vec();
        for key in [pkcs8, bare] {
            let identity = Identity::from_der(vec![certificate.clone()], key).unwrap();
            assert_eq!(identity.leaf(), certificate);
        }
        let mismatch = Identity::from_der(vec![certificate], other.clone()).unwrap_err();
        assert!(matches!(mismatch, IdentityError::Mismatch { .. }));
    }
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
    assert!(matches!(
        from_pem(&cert, &cert),
        IdentityError::NoKey { encrypted: false, .. }
    ));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(
        from_pem(&cert, &encrypted),
        IdentityError::NoKey { encrypted: true, .. }
    ));
    // As OpenSSL's older commands write it.
    let old_form = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let error = from_pem(&cert, old_form);
    assert!(
        matches!(error, IdentityError::NoKey { encrypted: true, .. }),
        "{error}"
    );
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
    let missing = Identity::from_pem_files(&cert_path, &key_path).unwrap_err();
    assert!(
        missing.to_string().contains("device-0.key cannot be read"),
        "{missing}"
    );
    fs::write(&key_path, key).unwrap();
    let expired = Identity::from_pem_files(&cert_path, &key_path).unwrap_err();
    assert!(expired.to_string().contains("device-0.crt ended"), "{expired}");
    assert!(expired.to_string().contains("2001"), "{expired}");
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("fleetwire-tls-identity-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
