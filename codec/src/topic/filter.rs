//! The pattern that a subscription asks for.

use super::{TopicError, TopicName, check, topic_type};
use crate::DecodeError;
use crate::wire::Reader;

/// How a shared subscription begins, v5 section 4.8.2.
const SHARE_PREFIX: &str = "$share/";

/// A checked topic filter: `+` stands for one level, a last `#` for the level before it and all below.
///
/// `$share/NAME/FILTER` is a shared subscription of 5.0. Its grammar is checked for 3.1.1 too, since brokers
/// offer it there as well.
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
        let wildcard = check(filter)?;
        Self::checked(filter, wildcard)
    }

    /// The filter as a string that lives as long as the bytes it was read from.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, which `/` separates; there is at least one, and each may be empty. Those of a shared
    /// subscription include `$share` and the share name.
    pub fn levels(self) -> impl Iterator<Item = &'a str> + Clone {
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
    /// the filter behind the share name counts.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$`, `[MQTT-4.7.2-1]` of both
    /// versions.
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        let filter = self.shared().map_or(self, |(_, filter)| filter);
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
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

    /// Reads a filter.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (filter, wildcard) = reader.topic()?;
        if filter.is_empty() {
            return Err(TopicError::Empty.into());
        }
        Ok(Self::checked(filter, wildcard)?)
    }

    /// Reads a filter that was checked before.
    pub(crate) fn reread(reader: &mut Reader<'a>) -> Option<Self> {
        reader.string().ok().map(Self)
    }

    /// Checks the grammar of a string that is known to be neither empty, too long, nor with U+0000.
    fn checked(filter: &'a str, wildcard: bool) -> Result<Self, TopicError> {
        let topic_filter = match filter.strip_prefix(SHARE_PREFIX) {
            None => filter,
            Some(shared) => {
                let (name, rest) = shared.split_once('/').unwrap_or((shared, ""));
                if name.is_empty() || name.contains(['+', '#']) {
                    return Err(TopicError::ShareName);
                }
                if rest.is_empty() {
                    return Err(TopicError::ShareFilter);
                }
                rest
            }
        };
        if wildcard {
            check_wildcards(topic_filter)?;
        }
        Ok(Self(filter))
    }
}

/// A wildcard has its level to itself, and `#` is the last byte.
fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let bytes = filter.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'+' | b'#') {
            continue;
        }
        let begins_level = bytes
            .get(..index)
            .is_none_or(|before| before.last().is_none_or(|byte| *byte == b'/'));
        let after = bytes.get(index + 1);
        match byte {
            b'#' if !begins_level || after.is_some() => return Err(TopicError::MultiLevelWildcard),
            b'+' if !begins_level || after.is_some_and(|byte| *byte != b'/') => {
                return Err(TopicError::SingleLevelWildcard);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn allowed() {
        for filter in [
            "#",
            "+",
            "/",
            "/#",
            "+/+",
            "/+",
            "sport/tennis/#",
            "+/tennis/#",
            "sport/+/player1",
            "$SYS/#",
            "$share/consumer1//finance",
            "$share/a/#",
            "$share/a/+/b",
            "$share",
            "$shared/a",
        ] {
            assert_eq!(TopicFilter::new(filter).map(TopicFilter::as_str), Ok(filter));
        }
    }

    #[test]
    fn refused() {
        let cases = [
            ("", TopicError::Empty),
            ("a\0", TopicError::HoldsNul),
            ("sport/tennis#", TopicError::MultiLevelWildcard),
            ("sport/tennis/#/ranking", TopicError::MultiLevelWildcard),
            ("#/a", TopicError::MultiLevelWildcard),
            ("##", TopicError::MultiLevelWildcard),
            ("+#", TopicError::SingleLevelWildcard),
            ("sport+", TopicError::SingleLevelWildcard),
            ("++", TopicError::SingleLevelWildcard),
            ("a/+b/c", TopicError::SingleLevelWildcard),
            ("$share/", TopicError::ShareName),
            ("$share//a", TopicError::ShareName),
            ("$share/+/a", TopicError::ShareName),
            ("$share/a#/b", TopicError::ShareName),
            ("$share/a", TopicError::ShareFilter),
            ("$share/a/", TopicError::ShareFilter),
            ("$share/a/b#", TopicError::MultiLevelWildcard),
        ];
        for (filter, error) in cases {
            assert_eq!(TopicFilter::new(filter), Err(error), "{filter}");
        }
        assert_eq!(TopicFilter::new(&"x".repeat(65_536)), Err(TopicError::TooLong));
    }

    // v5 and v3.1.1 [MQTT-4.7.2-1], and the examples of sections 4.7.1.2, 4.7.1.3, 4.7.2 and 4.7.3.
    #[test]
    fn matching() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+", "a", true),
            ("#", "$SYS/", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/", true),
            ("$SYS/#", "$SYS", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/#", "a/$b", true),
            ("a/+", "a/$b", true),
            ("ACCOUNTS", "Accounts", false),
            ("/finance", "finance", false),
            ("a/b", "a/b/", false),
            ("a/b/", "a/b", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("+/+/+", "a/b", false),
            ("$share/group/a/+", "a/b", true),
            ("$share/group/#", "a", true),
            ("$share/group/#", "$SYS/a", false),
            ("$share/group/$SYS/#", "$SYS/a", true),
            ("$share/group//a", "/a", true),
        ];
        for (filter, topic, expected) in cases {
            let (filter, topic) = (TopicFilter::new(filter).unwrap(), TopicName::new(topic).unwrap());
            assert_eq!(filter.matches(topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn shared_parts() {
        let filter = TopicFilterBuf::new("$share/consumer1//finance").unwrap();
        let (name, inner) = filter.as_topic_filter().shared().unwrap();
        assert_eq!((name, inner.as_str()), ("consumer1", "/finance"));
        assert_eq!(TopicFilter::new("share/a/b").unwrap().shared(), None);
    }

    /// Written after the text of the specification, over vectors of levels.
    fn naive_matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], _) => true,
            ([level, filter @ ..], [name, topic @ ..]) => {
                (*level == "+" || level == name) && naive_matches(filter, topic)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_naive_one(filter in "[ab+/]{0,6}(/#)?", topic in "[ab/]{1,6}") {
            if let Ok(parsed) = TopicFilter::new(&filter) {
                let levels: Vec<_> = filter.split('/').collect();
                let names: Vec<_> = topic.split('/').collect();
                prop_assert_eq!(parsed.matches(TopicName::new(&topic).unwrap()), naive_matches(&levels, &names));
            }
        }

        #[test]
        fn any_string_is_checked_without_panic(filter in "[$share/+#a\u{0}é]{0,12}") {
            if let Ok(filter) = TopicFilter::new(&filter) {
                let _ = filter.matches(TopicName::new("a/b").unwrap());
            }
        }
    }
}
