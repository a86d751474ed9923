//! A bounded cache of expanded keys.

use super::keys::Keys;
use crate::crypto::{Context, CryptoError};

/// Expanded keys of the connections that were at work last, for one thread.
///
/// Each set of keys has one place where it can be, so that looking costs nothing and a new one replaces one other. The
/// places of keys that were made one after the other differ: as many directions as there are places fit together.
pub(crate) struct Contexts {
    places: Vec<Place>,
    places_max: usize,
    expanded: u64,
    filled: usize,
}

struct Place {
    id: u64,
    context: Option<Context>,
}

impl Contexts {
    /// For at least `places_max` of them: the next power of two. Nothing is allocated before the first is needed.
    pub(crate) fn new(places_max: usize) -> Self {
        Self {
            places: Vec::new(),
            places_max: places_max.clamp(1, PLACES_MAX).next_power_of_two(),
            expanded: 0,
            filled: 0,
        }
    }

    /// The keys, expanded.
    pub(super) fn get(&mut self, keys: &Keys) -> Result<&Context, CryptoError> {
        if self.places.is_empty() {
            let empty = || Place { id: 0, context: None };
            self.places.resize_with(self.places_max, empty);
        }
        let index = keys.id() as usize & (self.places_max - 1);
        let place = self.places.get_mut(index).ok_or(CryptoError)?;
        if place.id != keys.id() || place.context.is_none() {
            // The old one is freed first: its memory is what the new one then gets.
            if place.context.take().is_some() {
                self.filled -= 1;
            }
            place.context = Some(keys.expand()?);
            place.id = keys.id();
            self.filled += 1;
            self.expanded += 1;
        }
        place.context.as_ref().ok_or(CryptoError)
    }

    /// Drops the keys' expansion, if it is here.
    pub(super) fn forget(&mut self, keys: &Keys) {
        let index = keys.id() as usize & (self.places_max - 1);
        if let Some(place) = self.places.get_mut(index)
            && place.id == keys.id()
            && place.context.take().is_some()
        {
            self.filled -= 1;
        }
    }

    /// The memory that it takes now.
    pub(crate) fn bytes(&self) -> usize {
        self.places.len() * size_of::<Place>() + self.filled * CONTEXT_LEN
    }

    /// How often a key had to be expanded.
    pub(crate) fn expanded(&self) -> u64 {
        self.expanded
    }
}

/// What aws-lc allocates for one key of any algorithm, `EVP_AEAD_CTX` of 584 bytes, with the allocator's header.
const CONTEXT_LEN: usize = 592;
/// Far more than are worth their memory.
const PLACES_MAX: usize = 1 << 24;
