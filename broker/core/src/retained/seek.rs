//! Searching an ordered list of topics with a filter: does this topic match, and if not, which is the next that can?
//!
//! The topics below a level lie together in byte order: between `P/` and `P0`, since '0' follows '/'.

use signet_wire::TopicFilter;

/// The character behind '/' in byte order.
const BEHIND_SEPARATOR: char = '0';

/// What a search does about a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It matches.
    Match,
    /// It does not; the one behind it might.
    Next,
    /// Nothing before this text can match, and it lies behind the topic.
    Seek(String),
    /// Nothing behind the topic can match.
    End,
}

/// The literal levels that a filter begins with, without the last separator: no matching topic lies before.
pub(super) fn literal_prefix(filter: &TopicFilter) -> &str {
    let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
    filter[..wildcard].strip_suffix('/').unwrap_or(&filter[..wildcard])
}

/// Judges a topic of the ordered list that the search has come to, which began at the [`literal_prefix`].
pub(super) fn verdict(filter: &TopicFilter, topic: &str) -> Verdict {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        // [MQTT5-4.7.2-1]; '%' follows '$'.
        return Verdict::Seek("%".into());
    }
    // `parent` ends behind the separator before the current level, `branch` behind the last level that a '+' took.
    let (mut parent, mut branch, mut left) = (0, None, Some(topic));
    for wanted in filter.levels() {
        if wanted == "#" {
            return Verdict::Match;
        }
        let Some(text) = left else {
            // It ends too early. What it is a parent of may match, and so may what differs in its last level.
            return Verdict::Next;
        };
        let level = text.split('/').next().unwrap_or_default();
        let end = parent + level.len();
        if wanted == "+" {
            branch = Some(end);
        } else if wanted != level {
            return past(&topic[..parent], wanted, topic, branch);
        }
        left = topic.get(end + 1..);
        parent = end + 1;
    }
    if left.is_none() {
        return Verdict::Match;
    }
    // It goes on where the filter ends: so does all that lies below.
    Verdict::Seek(format!("{}{BEHIND_SEPARATOR}", &topic[..parent - 1]))
}

/// Where to go on when the level behind `parent` is not the wanted one.
fn past(parent: &str, wanted: &str, topic: &str, branch: Option<usize>) -> Verdict {
    let exact = format!("{parent}{wanted}");
    if *exact > *topic {
        return Verdict::Seek(exact);
    }
    // Levels such as `wanted-1` and `wanted!` lie between `wanted` and what is below it.
    let below = format!("{exact}/");
    if *below > *topic {
        return Verdict::Seek(below);
    }
    match branch {
        Some(end) => Verdict::Seek(format!("{}{BEHIND_SEPARATOR}", &topic[..end])),
        None => Verdict::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use signet_wire::TopicName;
    use std::collections::BTreeSet;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::try_from(text).unwrap()
    }

    #[test]
    fn a_search_starts_at_the_literal_levels_of_the_filter() {
        for (text, prefix) in
            [("a/b/#", "a/b"), ("a/b/+/c", "a/b"), ("#", ""), ("+/a", ""), ("/+", ""), ("a/b", "a/b")]
        {
            assert_eq!(literal_prefix(&filter(text)), prefix, "{text}");
        }
    }

    #[test]
    fn a_search_seeks_over_the_siblings_that_cannot_match() {
        let plus = filter("devices/+/status");
        assert_eq!(verdict(&plus, "devices/d1/commands"), Verdict::Seek("devices/d1/status".into()));
        assert_eq!(verdict(&plus, "devices/d1/status"), Verdict::Match);
        assert_eq!(verdict(&plus, "devices/d1/status-old"), Verdict::Seek("devices/d1/status/".into()));
        assert_eq!(verdict(&plus, "devices/d1/status/x"), Verdict::Seek("devices/d1/status0".into()));
        assert_eq!(verdict(&plus, "devices/d1/telemetry"), Verdict::Seek("devices/d10".into()));
        assert_eq!(verdict(&plus, "devices/d1"), Verdict::Next);
        assert_eq!(verdict(&plus, "other"), Verdict::End);
        assert_eq!(verdict(&filter("#"), "$SYS/uptime"), Verdict::Seek("%".into()));
    }

    proptest! {
        #[test]
        fn a_search_finds_what_comparing_each_topic_finds(
            topics in prop::collection::btree_set("[$ab0/!-]{1,6}", 0..40),
            wanted in "([ab0$]|[+]|)(/([ab0!]|[+]|)){0,3}(/#)?",
        ) {
            let Ok(filter) = TopicFilter::try_from(&*wanted) else { return Ok(()) };
            let matches = |topic: &&String| filter.matches(&TopicName::try_from(topic.as_str()).unwrap());
            let expected: Vec<&String> = topics.iter().filter(matches).collect();
            prop_assert_eq!(search(&topics, &filter), expected);
        }
    }

    fn search<'t>(topics: &'t BTreeSet<String>, filter: &TopicFilter) -> Vec<&'t String> {
        let mut found = Vec::new();
        let mut at = literal_prefix(filter).to_owned();
        let mut skip_equal = false;
        while let Some(topic) = topics.range(at.clone()..).find(|topic| !(skip_equal && **topic == at)) {
            skip_equal = true;
            match verdict(filter, topic) {
                Verdict::Match => {
                    found.push(topic);
                    at.clone_from(topic);
                }
                Verdict::Next => at.clone_from(topic),
                Verdict::Seek(target) => {
                    assert!(target > *topic, "{target} is not behind {topic}");
                    (at, skip_equal) = (target, false);
                }
                Verdict::End => break,
            }
        }
        found
    }
}
