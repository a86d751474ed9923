//! The places of a shard's links, and the ids that name them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::LinkId;
use crate::link::Link;

/// The links of one shard by their place.
#[derive(Debug, Default)]
pub(crate) struct Links {
    places: Vec<Option<Link>>,
    len: usize,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The link, if it is still the one that the id names.
    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.at_mut(id.slot).filter(|link| link.id == id)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Link> {
        self.places.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Link> {
        self.places.get(slot as usize)?.as_ref()
    }

    pub(crate) fn insert(&mut self, link: Link) {
        let slot = link.id.slot as usize;
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.places.get_mut(slot) {
            *place = Some(link);
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Link> {
        let link = self.places.get_mut(slot as usize)?.take();
        self.len -= usize::from(link.is_some());
        link
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.places.iter().flatten().map(|link| link.id).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.places.iter().flatten()
    }
}

/// Hands out the ids of one shard: to the shard itself, and to handles that reserve one before the shard knows.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    shard: u32,
    inner: Arc<Mutex<IdsInner>>,
}

#[derive(Debug)]
struct IdsInner {
    generations: Vec<u32>,
    free: Vec<u32>,
    links_max: usize,
}

impl Ids {
    pub(crate) fn new(shard: usize, links_max: usize) -> Self {
        let inner = IdsInner {
            generations: Vec::new(),
            free: Vec::new(),
            links_max,
        };
        Self {
            shard: shard as u32,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// A new id; `None` at the bound.
    pub(crate) fn reserve(&self) -> Option<LinkId> {
        let mut inner = self.lock();
        let slot = match inner.free.pop() {
            Some(slot) => slot,
            None if inner.generations.len() < inner.links_max => {
                inner.generations.push(0);
                (inner.generations.len() - 1) as u32
            }
            None => return None,
        };
        let generation = *inner.generations.get(slot as usize)?;
        Some(LinkId {
            shard: self.shard,
            slot,
            generation,
        })
    }

    /// The link is gone: its id is never given again. A place whose generations are used up stays empty.
    pub(crate) fn release(&self, id: LinkId) {
        let mut inner = self.lock();
        let Some(generation) = inner.generations.get_mut(id.slot as usize) else {
            return;
        };
        if *generation == id.generation && *generation < u32::MAX {
            *generation += 1;
            inner.free.push(id.slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdsInner> {
        // Nothing in a critical section panics half-way, so a poisoned lock still holds sound data.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_never_come_twice() {
        let ids = Ids::new(3, 2);
        let (first, second) = (ids.reserve().unwrap(), ids.reserve().unwrap());
        assert_eq!(first.shard(), 3);
        assert_eq!(ids.reserve(), None);
        ids.release(first);
        ids.release(first);
        let third = ids.reserve().unwrap();
        assert_ne!(first, third);
        assert_eq!(first.slot, third.slot);
        assert_ne!(second, third);
        assert_eq!(ids.reserve(), None);
    }
}
