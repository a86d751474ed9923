//! The topic that a message is published to.

use super::{TopicError, check, topic_type};
use crate::DecodeError;
use crate::wire::{Reader, split_plain};

/// A checked topic name: 1 to 65,535 bytes of UTF-8 without U+0000, `+` and `#`.
///
/// In a 5.0 PUBLISH that carries a Topic Alias it may be [`TopicName::ALIASED`], which is empty.
///
/// Names are compared byte by byte, as `[MQTT-4.7.3-4]` of both versions demands: `A` is not `a`, `/a` is not `a`, and an
/// `é` of one character is not one of two.
///
/// ```
/// use fleetwire_codec::{TopicError, TopicName};
///
/// # fn main() -> Result<(), TopicError> {
/// let topic = TopicName::new("plant/7/temperature")?;
/// assert_eq!(topic.levels().collect::<Vec<_>>(), ["plant", "7", "temperature"]);
/// assert_eq!(topic.levels().next_back(), Some("temperature"));
/// assert_eq!(TopicName::new("/a/")?.levels().collect::<Vec<_>>(), ["", "a", ""]);
/// assert_eq!(TopicName::new("plant/+"), Err(TopicError::WildcardInName));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(pub(super) &'a str);

topic_type!(TopicName, TopicNameBuf, as_topic_name, "topic name");

impl TopicName<'static> {
    /// The empty name of a PUBLISH whose Topic Alias stands for it, v5 section 3.3.2.1.
    pub const ALIASED: Self = Self("");
}

impl<'a> TopicName<'a> {
    /// Checks a topic name.
    ///
    /// # Errors
    ///
    /// If it is empty (`[MQTT-4.7.3-1]` of both versions), too long, or holds U+0000 or a wildcard
    /// (`[MQTT-3.3.2-2]` of both versions).
    pub fn new(topic: &'a str) -> Result<Self, TopicError> {
        if check(topic)? {
            Err(TopicError::WildcardInName)
        } else {
            Ok(Self(topic))
        }
    }

    /// The name as a string that lives as long as the bytes it was read from.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, which `/` separates; there is at least one, and each may be empty.
    pub fn levels(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    /// Takes a name off the front, with its length, that is not empty and all in ASCII; returns what is behind it too.
    /// `None` says nothing about others.
    #[inline(always)]
    pub(crate) fn split_usual(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        Self::split_plain_or_aliased(bytes).filter(|(topic, _)| !topic.is_empty())
    }

    /// The same for that of a PUBLISH, which may be empty.
    #[inline(always)]
    pub(crate) fn split_plain_or_aliased(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (topic, behind) = split_plain::<true>(bytes)?;
        Some((Self(topic), behind))
    }

    /// Reads the name of a PUBLISH, which may be empty: the caller then asks for a Topic Alias.
    #[inline(always)]
    pub(crate) fn decode_or_aliased(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.topic()? {
            (topic, false) => Ok(Self(topic)),
            (_, true) => Err(TopicError::WildcardInName.into()),
        }
    }

    /// Reads a name that must not be empty.
    #[inline(always)]
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let topic = Self::decode_or_aliased(reader)?;
        if topic.is_empty() {
            Err(TopicError::Empty.into())
        } else {
            Ok(topic)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed() {
        for topic in [
            "a",
            "/",
            "//",
            "a b/ c",
            "$SYS/x",
            "$share/group/x",
            "grün/€",
            &"x".repeat(65_535),
        ] {
            assert_eq!(TopicName::new(topic).map(TopicName::as_str), Ok(topic));
        }
    }

    #[test]
    fn refused() {
        assert_eq!(TopicName::new(""), Err(TopicError::Empty));
        assert_eq!(TopicName::new(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(TopicName::new("a\0b"), Err(TopicError::HoldsNul));
        for topic in ["+", "#", "a/+/b", "a+", "abcdefgh/abcdefgh#"] {
            assert_eq!(TopicName::new(topic), Err(TopicError::WildcardInName), "{topic}");
        }
        assert_eq!(TopicNameBuf::new("a/#"), Err(TopicError::WildcardInName));
    }

    #[test]
    fn owned_and_borrowed_are_the_same_name() {
        let owned = TopicNameBuf::new("a/b").unwrap();
        let borrowed = owned.as_topic_name();
        assert_eq!(borrowed, "a/b");
        assert_eq!(TopicNameBuf::from(borrowed), owned);
        assert_eq!(borrowed.levels().collect::<Vec<_>>(), ["a", "b"]);
        assert!(owned == "a/b" && owned == *"a/b" && owned.as_ref() == "a/b");
        assert_eq!(TopicNameBuf::try_from("a/b".to_owned()), Ok(owned));
    }
}
