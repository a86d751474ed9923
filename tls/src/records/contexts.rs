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

/// What aws-lc allocates for one key of any algorithm, `EVP_AEAD_CTX` of 584 bytes behind their length, in a block of malloc's.
const CONTEXT_LEN: usize = 608;
/// Far more than are worth their memory.
const PLACES_MAX: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Algorithm;

    #[test]
    fn expanded_keys_are_bounded() {
        let keys: Vec<_> = (0..100)
            .map(|secret| Keys::made_up(Algorithm::Aes256Gcm, secret))
            .collect();
        let mut contexts = Contexts::new(5);
        assert_eq!(contexts.bytes(), 0);
        for (i, keys) in keys.iter().enumerate() {
            for _ in 0..3 {
                contexts.get(keys).unwrap();
            }
            assert_eq!(contexts.expanded(), i as u64 + 1);
        }
        assert!(contexts.bytes() <= 8 * (size_of::<Place>() + CONTEXT_LEN));
        let filled = contexts.filled;
        assert!((1..=8).contains(&filled));
        let last = keys.last().unwrap();
        contexts.forget(last);
        contexts.forget(last);
        assert_eq!(contexts.filled, filled - 1);
        contexts.get(last).unwrap();
        assert_eq!((contexts.filled, contexts.expanded()), (filled, 101));
    }

    /// What is taken out of the cache is the key that was asked for, whoever had the place before.
    #[test]
    fn a_place_is_never_taken_for_another() {
        let mut contexts = Contexts::new(1);
        let one = Keys::made_up(Algorithm::Aes128Gcm, 1);
        let two = Keys::made_up(Algorithm::Aes128Gcm, 2);
        let mut seal = |keys: &Keys| {
            let context = contexts.get(keys).unwrap();
            let mut tag = [0; 16];
            context.seal([0; 12], b"", &mut [0; 16], &mut tag).unwrap();
            tag
        };
        let (of_one, of_two) = (seal(&one), seal(&two));
        assert_ne!(of_one, of_two);
        assert_eq!((seal(&one), seal(&two)), (of_one, of_two));
    }
}
