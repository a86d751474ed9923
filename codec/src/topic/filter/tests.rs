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
        ("$share/group/$share/a", "$share/a", true),
        ("$share", "$share", true),
        ("a/#", "a/", true),
        ("+/#", "a", true),
        ("+/#", "/", true),
        ("/#", "/", true),
        ("/#", "a", false),
        ("+/+/#", "a", false),
        ("a/+/#", "a/", true),
        ("a/+/#", "a", false),
        ("/+", "/", true),
        ("+", "/", false),
        ("$/#", "$", true),
        ("+/$SYS", "a/$SYS", true),
        // v5 and v3.1.1 [MQTT-4.7.3-4]: one character, and the same as two.
        ("\u{E9}", "e\u{301}", false),
        ("+", "\u{FEFF}", true),
        ("a", "\u{FEFF}a", false),
    ];
    for (filter, topic, expected) in cases {
        let (filter, topic) = (TopicFilter::new(filter).unwrap(), TopicName::new(topic).unwrap());
        assert_eq!(filter.matches(topic), expected, "{filter} against {topic}");
    }
    for filter in ["#", "+", "a"] {
        assert!(!TopicFilter::new(filter).unwrap().matches(TopicName::ALIASED));
    }
}

// v5 and v3.1.1 [MQTT-4.7.3-3]: the share name and its prefix count too.
#[test]
fn the_longest() {
    for (before, after) in [("", ""), ("", "/#"), ("+/", ""), ("$share/group/", "/+")] {
        let rest = 65_535 - before.len() - after.len();
        let longest = format!("{before}{}{after}", "x".repeat(rest));
        let filter = TopicFilter::new(&longest).unwrap();
        let name = "x".repeat(rest);
        let topic = TopicName::new(&name).unwrap();
        assert_eq!(filter.matches(topic), matches!((before, after), ("", _)));
        let longer = format!("{before}x{}{after}", "x".repeat(rest));
        assert_eq!(TopicFilter::new(&longer), Err(TopicError::TooLong));
    }
    let separators = "/".repeat(65_535);
    let topic = TopicName::new(&separators).unwrap();
    assert_eq!(topic.levels().count(), 65_536);
    assert!(TopicFilter::new(&separators).unwrap().matches(topic));
    let wildcards = "+/".repeat(32_767) + "+";
    assert!(!TopicFilter::new(&wildcards).unwrap().matches(topic));
    assert!(
        TopicFilter::new(&wildcards)
            .unwrap()
            .matches(TopicName::new(&separators[..32_767]).unwrap())
    );
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
    let [first, ..] = filter else {
        return topic.is_empty();
    };
    let hidden = topic.first().is_some_and(|name| name.starts_with('$'));
    !(hidden && ["+", "#"].contains(first)) && naive_matches_levels(filter, topic)
}

fn naive_matches_levels(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([], []) | (["#"], _) => true,
        ([level, filter @ ..], [name, topic @ ..]) => {
            (*level == "+" || level == name) && naive_matches_levels(filter, topic)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_naive_one(filter in "[ab$+/]{0,6}(/?#)?", topic in "[ab$/]{1,6}") {
        if let Ok(parsed) = TopicFilter::new(&filter) {
            let levels: Vec<_> = filter.split('/').collect();
            let names: Vec<_> = topic.split('/').collect();
            let name = TopicName::new(&topic).unwrap();
            let expected = naive_matches(&levels, &names);
            prop_assert_eq!(parsed.matches(name), expected);
            let shared = format!("$share/a/{filter}");
            prop_assert_eq!(TopicFilter::new(&shared).unwrap().matches(name), expected);
        }
    }

    /// v5 sections 4.7.1.2, 4.7.1.3 and 4.8.2, written a second time, over the levels.
    #[test]
    fn grammar_agrees_with_the_naive_one(filter in "([$]share/)?[ab+#/]{0,6}") {
        let mut levels: Vec<_> = filter.split('/').collect();
        let mut expected = !filter.is_empty();
        if filter.starts_with("$share/") {
            let name = levels[1];
            expected = !name.is_empty() && !name.contains(['+', '#']) && levels.len() > 2;
            levels.drain(..levels.len().min(2));
            expected &= levels != [""];
        }
        for (index, level) in levels.iter().enumerate() {
            expected &= match *level {
                "+" => true,
                "#" => index + 1 == levels.len(),
                level => !level.contains(['+', '#']),
            };
        }
        prop_assert_eq!(TopicFilter::new(&filter).is_ok(), expected);
    }

    #[test]
    fn any_string_is_checked_without_panic(filter in "[$share/+#a\u{0}é]{0,12}") {
        if let Ok(filter) = TopicFilter::new(&filter) {
            let _ = filter.matches(TopicName::new("a/b").unwrap());
        }
    }
}
