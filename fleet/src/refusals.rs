//! Subscriptions that were not granted, by the code that said so.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// Why a filter was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    /// The SUBACK's code for it, 0x80 or above.
    Code(u8),
    /// The SUBSCRIBE was never sent: the broker's limits forbid it, or no room was left.
    NotSent,
}

/// Filters that one cause kept from being granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) filters: u64,
    /// The index of the device that it hit first.
    pub(crate) first_index: u64,
    first_at: Instant,
}

/// All refusals of a thread or a run; their number is bounded by that of the codes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(BTreeMap<Refused, Refusal>);

impl Refusals {
    pub(crate) fn record(&mut self, refused: Refused, index: u64, at: Instant) {
        self.join(
            refused,
            Refusal {
                filters: 1,
                first_index: index,
                first_at: at,
            },
        );
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: Self) {
        for (refused, refusal) in other.0 {
            self.join(refused, refusal);
        }
    }

    /// Filters that were not granted.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().map(|refusal| refusal.filters).sum()
    }

    /// Filters by code, as the JSON has it.
    pub(crate) fn by_code(&self) -> BTreeMap<String, u64> {
        self.iter()
            .map(|(refused, refusal)| (refused.to_string(), refusal.filters))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Refused, Refusal)> + '_ {
        self.0.iter().map(|(refused, refusal)| (*refused, *refusal))
    }

    fn join(&mut self, refused: Refused, new: Refusal) {
        let all = self.0.entry(refused).or_insert(Refusal { filters: 0, ..new });
        all.filters += new.filters;
        if new.first_at < all.first_at {
            (all.first_at, all.first_index) = (new.first_at, new.first_index);
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "0x{code:02x}"),
            Self::NotSent => f.write_str("not_sent"),
        }
    }
}

impl Refused {
    /// What the code says and what to do next, as two sentences (v5 section 3.9.3; v3.1.1 section 3.9.3 has only 0x80).
    pub(crate) fn next_step(self) -> &'static str {
        match self {
            Self::NotSent => {
                "The SUBSCRIBE was not sent: the broker's limits do not allow it. Try a shorter --subscribe without wildcards."
            }
            Self::Code(0x80) => "Failure. The broker does not say why: see its log, or try --mqtt 5.",
            Self::Code(0x83) => "Implementation specific error. See the broker's log.",
            Self::Code(0x87) => {
                "Not authorized. A policy forbids it. AWS: allow iot:Subscribe on topicfilter/FILTER."
            }
            Self::Code(0x8F) => "Topic filter invalid. The broker does not take this --subscribe.",
            Self::Code(0x91) => "Packet identifier in use. Please report it with --seed.",
            Self::Code(0x97) => {
                "Quota exceeded. Use fewer --devices, or ask the broker's administrator for more."
            }
            Self::Code(0x9E) => "Shared subscriptions not supported. Leave out $share/ in --subscribe.",
            Self::Code(0xA1) => "Subscription identifiers not supported. Please report it with --seed.",
            Self::Code(0xA2) => {
                "Wildcard subscriptions not supported. Leave out + and # in --subscribe, {client_id} may stand in it."
            }
            Self::Code(_) => "The code is the broker's. See its log.",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn codes_are_counted_and_the_earliest_device_stays_first() {
        let now = Instant::now();
        let mut all = Refusals::default();
        all.record(Refused::Code(0x87), 7, now + Duration::from_secs(1));
        all.record(Refused::NotSent, 7, now);
        let mut other = Refusals::default();
        other.record(Refused::Code(0x87), 9, now);
        all.add(other);
        assert_eq!(
            all.by_code(),
            BTreeMap::from([("0x87".to_owned(), 2), ("not_sent".to_owned(), 1)])
        );
        assert_eq!(all.total(), 3);
        let firsts: Vec<u64> = all.iter().map(|(_, refusal)| refusal.first_index).collect();
        assert_eq!(firsts, [9, 7]);
    }

    #[test]
    fn every_code_has_a_next_step() {
        for code in 0x80..=0xFF {
            assert!(Refused::Code(code).next_step().ends_with('.'));
        }
    }
}
