use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use fleetwire_codec::{TopicFilterBuf, Version};

use crate::broker::message::Message;
use crate::broker::queue::Queue;

/// The place of a client in [`Clients`]; given again when the client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientIndex(pub(crate) u32);

/// A connected client: its session, which ends with the connection.
#[derive(Debug)]
pub(crate) struct Client<K> {
    pub(crate) key: K,
    pub(crate) id: Arc<str>,
    pub(crate) version: Version,
    pub(crate) filters: HashSet<TopicFilterBuf>,
    pub(crate) will: Option<Message>,
    pub(crate) queue: Queue,
    /// The last search that found this client, and where in its list of findings it stands.
    pub(crate) found: (u64, usize),
}

/// The connected clients, by connection and by client id.
#[derive(Debug)]
pub(crate) struct Clients<K> {
    slots: Vec<Option<Client<K>>>,
    free: Vec<ClientIndex>,
    by_key: HashMap<K, ClientIndex>,
    by_id: HashMap<Arc<str>, ClientIndex>,
}

impl<K: Copy + Eq + Hash> Clients<K> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            by_id: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Adds a client whose connection and id are not there yet.
    pub(crate) fn insert(&mut self, client: Client<K>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // A client takes more than a byte, so there is no memory for 2^32 of them.
            ClientIndex(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        self.by_key.insert(client.key, index);
        self.by_id.insert(client.id.clone(), index);
        if let Some(slot) = self.slots.get_mut(index.0 as usize) {
            *slot = Some(client);
        }
    }

    pub(crate) fn remove(&mut self, index: ClientIndex) -> Option<Client<K>> {
        let client = self.slots.get_mut(index.0 as usize)?.take()?;
        self.by_key.remove(&client.key);
        self.by_id.remove(&client.id);
        self.free.push(index);
        Some(client)
    }

    pub(crate) fn with_key(&self, key: K) -> Option<ClientIndex> {
        self.by_key.get(&key).copied()
    }

    pub(crate) fn with_id(&self, id: &str) -> Option<ClientIndex> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn get_mut(&mut self, index: ClientIndex) -> Option<&mut Client<K>> {
        self.slots.get_mut(index.0 as usize)?.as_mut()
    }
}
