//! Certificates of both sides.

use std::path::Path;

use fleetwire_endpoint::pki::{DeviceCertificate, KeyType, Pki};

use crate::wire;

/// The CA and the server certificate of a folder; made if it is empty.
pub(crate) fn load(folder: &Path) -> Pki {
    Pki::load_or_create(folder, [wire::SERVER]).expect("the folder can be written and read")
}

pub(crate) fn issue(pki: &Pki, index: usize) -> DeviceCertificate {
    pki.issue_device(&wire::client_id(index), KeyType::P256, None)
        .expect("a certificate can be made")
}
