//! Topic names and topic filters: what they may look like, and which filter matches which name.
//! v5 section 4.7 and 4.8.2, v3.1.1 section 4.7.

mod filter;
mod name;

use std::fmt;

pub use self::filter::{TopicFilter, TopicFilterBuf};
pub use self::name::{TopicName, TopicNameBuf};
use crate::error::{Rule, rule};
use crate::{ReasonCode, text};

/// The longest topic name or filter in bytes, v5 `[MQTT-4.7.3-3]`, v3.1.1 `[MQTT-4.7.3-3]`.
const TOPIC_LEN_MAX: usize = 65_535;

/// Why a string is not a topic name or topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicError {
    /// It is empty.
    Empty,
    /// It is longer than 65,535 bytes.
    TooLong,
    /// It holds the character U+0000.
    HoldsNul,
    /// A topic name holds `+` or `#`.
    WildcardInName,
    /// `#` does not stand alone in the last level.
    MultiLevelWildcard,
    /// `+` does not stand alone in its level.
    SingleLevelWildcard,
    /// After `$share/` there is no share name, or it holds a wildcard.
    ShareName,
    /// After `$share/NAME` there is no topic filter.
    ShareFilter,
}

impl TopicError {
    pub(crate) const fn rule(self) -> Rule {
        use ReasonCode::MalformedPacket as Malformed;
        match self {
            Self::Empty => rule(
                "empty topic",
                "v5 [MQTT-4.7.3-1]",
                "v3.1.1 [MQTT-4.7.3-1]",
                Malformed,
            ),
            Self::TooLong => rule(
                "topic longer than 65,535 bytes",
                "v5 [MQTT-4.7.3-3]",
                "v3.1.1 [MQTT-4.7.3-3]",
                Malformed,
            ),
            Self::HoldsNul => rule(
                "topic holds U+0000",
                "v5 [MQTT-4.7.3-2]",
                "v3.1.1 [MQTT-4.7.3-2]",
                Malformed,
            ),
            Self::WildcardInName => rule(
                "wildcard in a topic name",
                "v5 [MQTT-3.3.2-2]",
                "v3.1.1 [MQTT-3.3.2-2]",
                Malformed,
            ),
            Self::MultiLevelWildcard => rule(
                "# is not alone in the last level of the filter",
                "v5 [MQTT-4.7.1-1]",
                "v3.1.1 [MQTT-4.7.1-2]",
                Malformed,
            ),
            Self::SingleLevelWildcard => rule(
                "+ is not alone in its level of the filter",
                "v5 [MQTT-4.7.1-2]",
                "v3.1.1 [MQTT-4.7.1-3]",
                Malformed,
            ),
            Self::ShareName => rule(
                "share name is empty or holds a wildcard",
                "v5 [MQTT-4.8.2-1]",
                "v5 [MQTT-4.8.2-1]",
                Malformed,
            ),
            Self::ShareFilter => rule(
                "no topic filter behind the share name",
                "v5 [MQTT-4.8.2-2]",
                "v5 [MQTT-4.8.2-2]",
                Malformed,
            ),
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { text, v5, v311, .. } = self.rule();
        if v5 == v311 {
            write!(f, "{text} ({v5})")
        } else {
            write!(f, "{text} ({v5}, {v311})")
        }
    }
}

impl std::error::Error for TopicError {}

/// What name and filter have in common. Returns whether there is a wildcard.
fn check(topic: &str) -> Result<bool, TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    if topic.len() > TOPIC_LEN_MAX {
        return Err(TopicError::TooLong);
    }
    text::check_topic(topic.as_bytes())
        .map(|(_, wildcard)| wildcard)
        .map_err(|_| TopicError::HoldsNul)
}

/// The traits by which a borrowed topic type is a string, and the owned type that goes with it.
macro_rules! topic_type {
    ($borrowed:ident, $owned:ident, $borrow:ident, $what:literal) => {
        impl std::ops::Deref for $borrowed<'_> {
            type Target = str;

            fn deref(&self) -> &str {
                self.0
            }
        }

        impl AsRef<str> for $borrowed<'_> {
            fn as_ref(&self) -> &str {
                self.0
            }
        }

        impl PartialEq<str> for $borrowed<'_> {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $borrowed<'_> {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl std::fmt::Display for $borrowed<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }

        impl<'a> TryFrom<&'a str> for $borrowed<'a> {
            type Error = TopicError;

            fn try_from(topic: &'a str) -> Result<Self, TopicError> {
                Self::new(topic)
            }
        }

        #[doc = concat!("A ", $what, " that owns its string.")]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $owned(Box<str>);

        impl $owned {
            #[doc = concat!("Checks a ", $what, " and keeps it.")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`", stringify!($borrowed), "::new`].")]
            pub fn new(topic: impl Into<Box<str>>) -> Result<Self, TopicError> {
                let topic = topic.into();
                $borrowed::new(&topic)?;
                Ok(Self(topic))
            }

            #[doc = concat!("The ", $what, ", borrowed; it is not checked again.")]
            #[must_use]
            pub const fn $borrow(&self) -> $borrowed<'_> {
                $borrowed(&self.0)
            }
        }

        impl From<$borrowed<'_>> for $owned {
            fn from(topic: $borrowed<'_>) -> Self {
                Self(topic.0.into())
            }
        }

        impl TryFrom<String> for $owned {
            type Error = TopicError;

            fn try_from(topic: String) -> Result<Self, TopicError> {
                Self::new(topic)
            }
        }

        impl AsRef<str> for $owned {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $owned {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl PartialEq<&str> for $owned {
            fn eq(&self, other: &&str) -> bool {
                *self.0 == **other
            }
        }

        impl std::ops::Deref for $owned {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $owned {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $owned {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $owned {
            type Err = TopicError;

            fn from_str(topic: &str) -> Result<Self, TopicError> {
                Self::new(topic)
            }
        }
    };
}

use topic_type;
