//! Sessions of earlier connections, to be resumed by the device that had them.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue, Tls13ClientSessionValue},
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;

use crate::{identity::Identity, verifier::NotingVerifier};

/// The sessions of all devices of one configuration. What a device may resume lies in a store of its own: in one that is
/// shared a device finds another's session, and the server takes it for that one.
pub(crate) struct SessionCache {
    devices_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    devices: HashMap<Key, Arc<DeviceSessions>>,
    /// The keys of `devices`, the one that came first in front.
    order: VecDeque<Key>,
}

/// The fingerprint of the device's certificate, if it has one, and the server.
type Key = (Option<[u8; 32]>, ServerName<'static>);

impl SessionCache {
    pub(crate) fn new(devices_max: usize) -> Self {
        Self {
            devices_max,
            kept: Mutex::default(),
        }
    }

    /// The device's own store for that server; a new one takes the place of the one that came first if there is no more
    /// room.
    pub(crate) fn of_device(
        &self,
        identity: Option<&Identity>,
        server: &ServerName<'static>,
        verifier: impl FnOnce() -> Option<Arc<NotingVerifier>>,
    ) -> Arc<DeviceSessions> {
        let key = (identity.map(Identity::fingerprint), server.clone());
        // Nothing under this lock panics halfway: at worst there is a key in the order without its device.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.devices.get(&key) {
            Some(device) if device.is_of(identity) => return Arc::clone(device),
            Some(_) => {}
            None => kept.order.push_back(key.clone()),
        }
        let device = Arc::new(DeviceSessions {
            credentials: identity
                .cloned()
                .map(|identity| Arc::new(Credentials { identity })),
            verifier: verifier(),
            sessions: Mutex::default(),
        });
        kept.devices.insert(key, Arc::clone(&device));
        while kept.order.len() > self.devices_max {
            if let Some(first) = kept.order.pop_front() {
                kept.devices.remove(&first);
            }
        }
        device
    }
}

/// What one device may resume with one server, and that which rustls wants to see again before it lets it: the same
/// verifier and the same credentials.
pub(crate) struct DeviceSessions {
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// `None` when verification is switched off.
    pub(crate) verifier: Option<Arc<NotingVerifier>>,
    sessions: Mutex<Sessions>,
}

/// The last session of each version. Each is offered once, so that one with which a handshake fails is not tried again;
/// the handshake that goes well leaves the next.
#[derive(Default)]
struct Sessions {
    tls12: Option<Tls12ClientSessionValue>,
    tls13: Option<Tls13ClientSessionValue>,
    group: Option<NamedGroup>,
}

impl DeviceSessions {
    /// The fingerprint says which leaf it is. The rest of the chain must be the same too, or a full handshake would show
    /// the old one.
    fn is_of(&self, identity: Option<&Identity>) -> bool {
        let ours = self.credentials.as_ref().map(|credentials| &credentials.identity);
        match (ours, identity) {
            (Some(ours), Some(theirs)) => ours.has_chain_of(theirs),
            (None, None) => true,
            _ => false,
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Values are moved in and out whole, which no panic leaves halfway.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's name is the same in all of them.
impl ClientSessionStore for DeviceSessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.sessions().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.sessions().tls12 = Some(session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions().tls12.take()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.sessions().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.sessions().tls13 = Some(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions().tls13.take()
    }
}

impl fmt::Debug for DeviceSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceSessions").finish_non_exhaustive()
    }
}

/// A device's certificate, whose key is parsed when a server asks for it: a resumed handshake does not, and no parsed key
/// is kept between connections.
#[derive(Debug)]
pub(crate) struct Credentials {
    identity: Identity,
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The key was parsed once already when the identity was made.
        self.identity.certified_key().ok().map(Arc::new)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
