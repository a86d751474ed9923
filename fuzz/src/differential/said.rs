//! What a packet says, in a form that every codec's types can be turned into.

use bytes::Bytes;
use fleetwire_codec::PacketType;

/// The fields of a packet with their names, in an order that is the same for all codecs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said(Vec<(&'static str, Value)>);

/// A property's identifier and value.
pub(super) type Property = (u8, Value);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
}

impl Said {
    pub(super) fn new(packet_type: PacketType) -> Self {
        Self(Vec::new()).with("type", packet_type as u8)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// All of a list, under one name.
    pub(super) fn with_all<V: Into<Value>>(
        mut self,
        name: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.0
            .extend(values.into_iter().map(|value| (name, value.into())));
        self
    }

    /// Properties are the same if those of each identifier are, in their order: some codecs sort them.
    pub(super) fn with_properties(mut self, name: &'static str, mut properties: Vec<Property>) -> Self {
        properties.sort_by_key(|(id, _)| *id);
        for (id, value) in properties {
            self.0.push((name, id.into()));
            self.0.push((name, value));
        }
        self
    }

    /// The name of the first field that differs.
    pub(super) fn first_difference(&self, other: &Self) -> Option<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        let differs = pairs.filter(|(one, other)| one != other).map(|(one, _)| one.0);
        let (longer, shorter) = if self.0.len() > other.0.len() {
            (self, other)
        } else {
            (other, self)
        };
        let left_over = longer.0.iter().skip(shorter.0.len()).map(|(name, _)| *name);
        differs.chain(left_over).next()
    }
}

macro_rules! numbers {
    ($($number:ty)+) => {
        $(impl From<$number> for Value {
            fn from(value: $number) -> Self {
                Self::Number(value as u32)
            }
        })+
    };
}

numbers!(bool u8 u16 u32 usize);

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        value.as_bytes().into()
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Bytes(value.into_bytes())
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Bytes(value.into())
    }
}

impl From<(&str, &str)> for Value {
    fn from((name, value): (&str, &str)) -> Self {
        Self::Pair(name.into(), value.into())
    }
}
