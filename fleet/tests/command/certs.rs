//! `fleetwire certs issue`: files, modes, and what is never overwritten.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Ended, fleetwire, text};

fn issue(directory: &Path, more: &[&str]) -> Ended {
    let (state, out) = (text(&directory.join("state")), text(&directory.join("out")));
    let arguments = ["certs", "issue", "--state", &state, "--out", &out];
    fleetwire([&arguments[..], more].concat())
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn identities_are_pem_and_only_their_owner_reads_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    issue(directory.path(), &["--count", "2", "--index-from", "5"]).expect_code(0);
    let expected = ["device-5.crt", "device-5.key", "device-6.crt", "device-6.key"];
    assert_eq!(names(&path("out")), BTreeSet::from(expected.map(str::to_owned)));
    for key in [
        "out/device-5.key",
        "out/device-6.key",
        "state/ca.key",
        "state/server.key",
    ] {
        assert_eq!(mode(&path(key)), 0o600, "{key}");
        let pem = fs::read_to_string(path(key)).unwrap();
        // PKCS#8, not the older forms.
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{key}: {pem}");
    }
    for certificate in ["out/device-5.crt", "state/ca.crt", "state/server.crt"] {
        let pem = fs::read_to_string(path(certificate)).unwrap();
        assert!(
            pem.starts_with("-----BEGIN CERTIFICATE-----"),
            "{certificate}: {pem}"
        );
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    issue(directory.path(), &["--count", "2"]).expect_code(0);
    let (certificate, key) = (read("device-1.crt"), read("device-1.key"));
    let ca = fs::read(directory.path().join("state/ca.crt")).unwrap();

    // One that is there keeps the others from being written.
    let refused = issue(directory.path(), &["--count", "2", "--index-from", "1"]).expect_code(3);
    assert!(
        refused.stderr.contains("device-1.") && refused.stderr.contains("--force"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        (read("device-1.crt"), read("device-1.key")),
        (certificate.clone(), key.clone())
    );
    assert_eq!(names(&out).len(), 4);

    issue(
        directory.path(),
        &["--count", "2", "--index-from", "1", "--force"],
    )
    .expect_code(0);
    assert!(read("device-1.crt") != certificate && read("device-1.key") != key);
    assert_eq!(names(&out).len(), 6);
    assert_eq!(mode(&out.join("device-1.key")), 0o600);
    // The CA stays, whatever is forced.
    assert_eq!(fs::read(directory.path().join("state/ca.crt")).unwrap(), ca);
}

#[test]
fn rsa_keys_and_an_end_of_validity() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--key-type",
        "rsa2048",
        "--not-after",
        "2099-12-31",
        "--client-id",
        "pump-{index}-b",
    ];
    issue(directory.path(), &arguments).expect_code(0);
    let out = directory.path().join("out");
    assert_eq!(
        names(&out),
        BTreeSet::from(["pump-0-b.crt", "pump-0-b.key"].map(str::to_owned))
    );
    // A PKCS#8 RSA key of 2,048 bits has some 1,200 bytes, one of P-256 has 138.
    assert!(fs::read(out.join("pump-0-b.key")).unwrap().len() > 1_600);
    issue(directory.path(), &["--not-after", "tomorrow"]).expect_code(2);
    issue(directory.path(), &["--not-after", "1969-01-01"]).expect_code(2);
    let beyond = issue(directory.path(), &["--not-after", "2099-01-01"]).expect_code(0);
    assert!(beyond.stderr.contains("the end of the CA"), "{}", beyond.stderr);
}

/// What a test of expired certificates needs.
#[test]
fn an_expired_certificate_can_be_had() {
    let directory = tempfile::tempdir().unwrap();
    let issued = issue(directory.path(), &["--not-after", "2001-01-01"]).expect_code(0);
    assert!(
        issued.stderr.contains("--not-after has passed"),
        "{}",
        issued.stderr
    );
    let pem = fs::read(directory.path().join("out/device-0.crt")).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
}

#[test]
fn what_cannot_be_written_is_a_refused_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("out"), "no directory").unwrap();
    issue(directory.path(), &[]).expect_code(3);
    issue(directory.path(), &["--client-id", &"x".repeat(65)]).expect_code(2);
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for client_id in ["../{index}", "/tmp/{index}", "a/{index}", ".{index}"] {
        issue(directory.path(), &["--client-id", client_id]).expect_code(2);
    }
    assert_eq!(names(directory.path()), BTreeSet::new());
}
