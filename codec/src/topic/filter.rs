//! The pattern that a subscription asks for.

use super::{TopicError, TopicName, check, topic_type};
use crate::wire::Reader;
use crate::{DecodeError, text};

/// How a shared subscription begins, v5 section 4.8.2.
const SHARE_PREFIX: &str = "$share/";

/// A checked topic filter: `+` stands for one level, a last `#` for the level before it and all below.
///
/// `$share/NAME/FILTER` is a shared subscription of 5.0. Its grammar is checked for 3.1.1 too, since brokers
/// offer it there as well. Otherwise a leading `$` means nothing here: what such topics are for is the server's matter.
///
/// Filters are compared byte by byte, as names are.
///
/// ```
/// use fleetwire_codec::{TopicError, TopicFilter, TopicName};
///
/// # fn main() -> Result<(), TopicError> {
/// let topic = TopicName::new("plant/7/temperature")?;
/// assert!(TopicFilter::new("plant/+/temperature")?.matches(topic));
/// assert!(TopicFilter::new("plant/#")?.matches(topic));
/// assert!(TopicFilter::new("plant/#")?.matches(TopicName::new("plant")?));
/// assert!(!TopicFilter::new("plant/+")?.matches(topic));
/// assert!(!TopicFilter::new("#")?.matches(TopicName::new("$SYS/uptime")?));
///
/// // Two servers that share the work; the filter behind the share name decides.
/// let filter = TopicFilter::new("$share/alarms/plant/+/temperature")?;
/// let (group, behind) = filter.shared().expect("it is a shared subscription");
/// assert_eq!((group, behind.as_str()), ("alarms", "plant/+/temperature"));
/// assert!(filter.matches(topic) && behind.matches(topic));
///
/// assert_eq!(TopicFilter::new("plant+"), Err(TopicError::SingleLevelWildcard));
/// assert_eq!(TopicFilter::new("plant/#/7"), Err(TopicError::MultiLevelWildcard));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(pub(super) &'a str);

topic_type!(TopicFilter, TopicFilterBuf, as_topic_filter, "topic filter");

impl<'a> TopicFilter<'a> {
    /// Checks a topic filter.
    ///
    /// # Errors
    ///
    /// If it is empty, too long, or holds U+0000 (`[MQTT-4.7.3-1]` to `-3` of both versions); if a wildcard does
    /// not have its level to itself, or `#` is not last (v5 `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`; v3.1.1
    /// `[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`); if it begins with `$share/` and no share name and filter follow
    /// (v5 `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`).
    pub fn new(filter: &'a str) -> Result<Self, TopicError> {
        check(filter)?;
        Self::checked(filter)
    }

    /// The filter as a string that lives as long as the bytes it was read from.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, which `/` separates; there is at least one, and each may be empty. Those of a shared
    /// subscription include `$share` and the share name.
    pub fn levels(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    /// The share name and the filter behind it, if this is a shared subscription, v5 section 4.8.2.
    #[must_use]
    pub fn shared(self) -> Option<(&'a str, Self)> {
        let (name, filter) = self.0.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
        Some((name, Self(filter)))
    }

    /// Whether there is a `+` or `#` in it.
    #[must_use]
    pub fn has_wildcard(self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether a message to this topic belongs to a subscription with this filter. For a shared subscription
    /// the filter behind the share name counts. Nothing is allocated.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$`, `[MQTT-4.7.2-1]` of both
    /// versions. [`TopicName::ALIASED`] is no topic, so nothing matches it: what it stands for is to be asked about.
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        let filter = self.shared().map_or(self, |(_, filter)| filter);
        if topic.is_empty() || topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut topic_levels = topic.levels();
        for level in filter.levels() {
            if level == "#" {
                // It also stands for the parent level, whose end was reached then.
                return true;
            }
            match topic_levels.next() {
                Some(name) if level == "+" || level == name => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }

    /// Reads a filter. Always in line, so that the reader stays in registers.
    #[inline(always)]
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let filter = reader.string()?;
        if filter.is_empty() {
            return Err(TopicError::Empty.into());
        }
        Ok(Self::checked(filter)?)
    }

    /// Reads a filter that was checked before.
    pub(crate) fn reread(reader: &mut Reader<'a>) -> Option<Self> {
        reader.string().ok().map(Self)
    }

    /// Checks the grammar of a string that is known to be neither empty, too long, nor with U+0000.
    #[inline(always)]
    fn checked(filter: &'a str) -> Result<Self, TopicError> {
        let mut levels = filter.as_bytes();
        if let [b'$', ..] = levels
            && let Some(shared) = levels.strip_prefix(SHARE_PREFIX.as_bytes())
        {
            levels = behind_share_name(shared)?;
        }
        check_wildcards(levels)?;
        Ok(Self(filter))
    }
}

/// What follows `NAME/`, v5 `[MQTT-4.8.2-1]` and `[MQTT-4.8.2-2]`.
fn behind_share_name(shared: &[u8]) -> Result<&[u8], TopicError> {
    let end = shared.iter().position(|byte| matches!(byte, b'/' | b'+' | b'#'));
    let (name, behind) = shared.split_at(end.unwrap_or(shared.len()));
    match behind {
        _ if name.is_empty() => Err(TopicError::ShareName),
        [b'+' | b'#', ..] => Err(TopicError::ShareName),
        [] | [_] => Err(TopicError::ShareFilter),
        [_, filter @ ..] => Ok(filter),
    }
}

/// A wildcard has its level to itself, and `#` is the last byte: v5 `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`; v3.1.1
/// `[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`.
#[inline(always)]
fn check_wildcards(filter: &[u8]) -> Result<(), TopicError> {
    let before_last = match filter {
        [levels @ .., b'/', b'#'] => levels,
        [b'#'] => &[],
        _ => filter,
    };
    if text::only_whole_levels(before_last) {
        Ok(())
    } else {
        Err(first_wrong_wildcard(before_last))
    }
}

#[cold]
fn first_wrong_wildcard(filter: &[u8]) -> TopicError {
    let mut levels = filter.split(|byte| *byte == b'/').filter(|level| *level != b"+");
    match levels.find_map(|level| level.iter().find(|byte| matches!(byte, b'+' | b'#'))) {
        Some(b'+') => TopicError::SingleLevelWildcard,
        _ => TopicError::MultiLevelWildcard,
    }
}

#[cfg(test)]
mod tests;
