//! Topic names and filters, beside versions of their rules that are slow and plain.

use fleetwire_codec::{TopicFilter, TopicName};

/// The first line as a filter, what follows as a name: both are judged, and matched, as the naive versions do it.
pub(super) fn topics(text: &str) {
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    let is_name = !name.is_empty() && name.len() <= 65_535 && !name.contains(['\0', '+', '#']);
    let name = TopicName::new(name);
    assert_eq!(name.is_ok(), is_name);
    let checked = TopicFilter::new(filter);
    assert_eq!(checked.is_ok(), is_filter(filter), "{filter:?}");
    if let (Ok(filter), Ok(name)) = (checked, name) {
        let levels: Vec<_> = filter.levels().collect();
        let levels = if filter.starts_with("$share/") {
            &levels[2..]
        } else {
            &levels
        };
        let hidden = name.starts_with('$') && levels[0].starts_with(['+', '#']);
        let names: Vec<_> = name.levels().collect();
        assert_eq!(
            filter.matches(name),
            !hidden && levels_match(levels, &names),
            "{filter} {name}"
        );
    }
}

/// v5 section 4.7.1 and 4.8.2, level by level.
fn is_filter(filter: &str) -> bool {
    let mut levels: Vec<_> = filter.split('/').collect();
    if filter.starts_with("$share/") {
        if levels.len() < 3 || levels[1].is_empty() || levels[1].contains(['+', '#']) {
            return false;
        }
        levels.drain(..2);
        // What is shared is a filter, and so not empty.
        if levels == [""] {
            return false;
        }
    }
    let (last, before) = levels.split_last().expect("split gives at least one");
    let plain = |level: &&str| *level == "+" || !level.contains(['+', '#']);
    !filter.is_empty()
        && filter.len() <= 65_535
        && !filter.contains('\0')
        && before.iter().all(plain)
        && (plain(last) || *last == "#")
}

fn levels_match(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) => true,
        ([level, filter @ ..], [same, name @ ..]) if *level == "+" || level == same => {
            levels_match(filter, name)
        }
        _ => filter.is_empty() && name.is_empty(),
    }
}
