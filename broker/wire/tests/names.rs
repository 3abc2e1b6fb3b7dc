//! Strings, topic names, filters and client identifiers: what is one, and what matches what.

mod common;

use bytes::Bytes;
use common::strategy;
use proptest::prelude::*;
use signet_wire::*;

fn text(bytes: &'static [u8]) -> Result<Text, TextError> {
    Text::try_from(Bytes::from_static(bytes))
}

#[test]
fn strings_that_are_not_well_formed_are_refused() {
    for (bytes, error) in [
        (&b"a\0b"[..], TextError::Nul),
        (b"\0", TextError::Nul),
        (b"\x01", TextError::Control),
        (b"a\nb", TextError::Control),
        (b"a\x1F", TextError::Control),
        (b"a\x7F", TextError::Control),
        (b"\xC2\x80", TextError::Control),
        (b"\xC2\x9F", TextError::Control),
        (b"\xEF\xBF\xBE", TextError::Control),
        (b"\xEF\xBF\xBF", TextError::Control),
        (b"\xEF\xB7\x90", TextError::Control),
        (b"\xF4\x8F\xBF\xBF", TextError::Control),
        // Surrogates, alone and as the pair of CESU-8.
        (b"\xED\xA0\x80", TextError::NotUtf8),
        (b"\xED\xBF\xBF", TextError::NotUtf8),
        (b"\xED\xA0\x81\xED\xB0\x80", TextError::NotUtf8),
        // Overlong, above U+10FFFF, cut off, stray.
        (b"\xC0\x80", TextError::NotUtf8),
        (b"\xE0\x80\xAF", TextError::NotUtf8),
        (b"\xF4\x90\x80\x80", TextError::NotUtf8),
        (b"\xE2\x82", TextError::NotUtf8),
        (b"\x80", TextError::NotUtf8),
        (b"\xFF", TextError::NotUtf8),
    ] {
        assert_eq!(text(bytes), Err(error), "{bytes:02X?}");
    }
}

#[test]
fn strings_that_are_unusual_but_well_formed_are_kept_as_they_are() {
    for bytes in [
        &b""[..],
        b" ",
        b"~",
        b"\xC2\xA0",
        // U+FEFF is no byte order mark here ([MQTT5-1.5.4-3]).
        b"\xEF\xBB\xBFa",
        "A\u{2A6D4}".as_bytes(),
        "\u{FFFD}\u{202E}".as_bytes(),
        // Nothing is normalised: these two are different strings.
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
    ] {
        assert_eq!(text(bytes).unwrap().as_bytes(), bytes);
    }
    assert_ne!(Text::try_from("é"), Text::try_from("e\u{301}"));
}

#[test]
fn a_field_ends_at_65535_bytes() {
    assert!(Text::try_from("a".repeat(65_535)).is_ok());
    assert_eq!(Text::try_from("a".repeat(65_536)), Err(TextError::TooLong));
    assert!(Binary::try_from(Bytes::from(vec![0; 65_535])).is_ok());
    assert_eq!(Binary::try_from(Bytes::from(vec![0; 65_536])), Err(TextError::TooLong));
}

#[test]
fn topic_names_have_a_character_and_no_wildcard() {
    for name in ["a", "/", "//", " ", "$", "$SYS/x", "a/b/", "é/漢"] {
        assert!(TopicName::try_from(name).is_ok(), "{name}");
    }
    for name in ["+", "#", "a/+", "a/#", "a+", "#a", "a/+/b"] {
        assert_eq!(TopicName::try_from(name), Err(NameError::Wildcard), "{name}");
    }
    assert_eq!(TopicName::try_from(""), Err(NameError::Empty));
    assert_eq!(TopicName::try_from("a\0"), Err(NameError::Text(TextError::Nul)));
    let deep = vec!["a"; 32_768].join("/");
    assert_eq!(TopicName::try_from(deep).unwrap().levels().count(), 32_768);
    assert!(TopicName::try_from("$SYS").unwrap().is_reserved());
    assert!(!TopicName::try_from("a$").unwrap().is_reserved());
}

#[test]
fn client_identifiers_have_a_character_and_may_have_any() {
    assert!(ClientId::try_from("sensor-001/+#$").is_ok());
    assert_eq!(ClientId::try_from(""), Err(NameError::Empty));
}

#[test]
fn filters_have_their_wildcards_where_they_may_be() {
    for filter in ["#", "+", "/", "+/+", "a/#", "/#", "a/+/b", "+/#", "a//b", "$SYS/#", "$share", "$shared/x"]
    {
        assert!(
            matches!(
                SubscriptionFilter::parse(Text::try_from(filter).unwrap()),
                Ok(SubscriptionFilter::Plain(_))
            ),
            "{filter}"
        );
    }
    for (filter, error) in [
        ("", FilterError::Empty),
        ("a#", FilterError::MultiLevelWildcard),
        ("#a", FilterError::MultiLevelWildcard),
        ("##", FilterError::MultiLevelWildcard),
        ("a/#/b", FilterError::MultiLevelWildcard),
        ("#/", FilterError::MultiLevelWildcard),
        ("a+", FilterError::SingleLevelWildcard),
        ("+a", FilterError::SingleLevelWildcard),
        ("++", FilterError::SingleLevelWildcard),
        ("a/+b/c", FilterError::SingleLevelWildcard),
        ("+#", FilterError::MultiLevelWildcard),
        ("$share/", FilterError::ShareName),
        ("$share//", FilterError::ShareName),
        ("$share//a", FilterError::ShareName),
        ("$share/+/a", FilterError::ShareName),
        ("$share/g+/a", FilterError::ShareName),
        ("$share/#/a", FilterError::ShareName),
        ("$share/g", FilterError::ShareWithoutFilter),
        ("$share/g/", FilterError::ShareWithoutFilter),
        ("$share/g/a#", FilterError::MultiLevelWildcard),
        ("$share/g/+a", FilterError::SingleLevelWildcard),
    ] {
        assert_eq!(SubscriptionFilter::parse(Text::try_from(filter).unwrap()), Err(error), "{filter}");
    }
}

#[test]
fn a_shared_filter_is_taken_apart_and_shown_as_sent() {
    let text = Text::try_from("$share/group one//a/+").unwrap();
    let filter = SubscriptionFilter::parse(text.clone()).unwrap();
    assert_eq!(filter.group().map(|group| group.as_str()), Some("group one"));
    assert_eq!(&**filter.filter(), "/a/+");
    assert_eq!(filter.to_string(), text.as_str());
    assert_eq!(filter.detached(), filter);
}

#[test]
fn filters_match_what_the_specification_says() {
    // MQTT5 §4.7.1.2 to §4.7.2, the examples of the specification first.
    for (filter, topic, matches) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/monitor", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("+", "$SYS", false),
        ("$SYS/#", "$SYS/monitor", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("#", "a$", true),
        ("+/$SYS", "a/$SYS", true),
        ("a/b", "a/b", true),
        ("a/b", "a/b/", false),
        ("a/b/", "a/b", false),
        ("a/b", "A/b", false),
        ("a/b", "a/bc", false),
        ("a/bc", "a/b", false),
        ("/#", "a", false),
        ("/#", "/", true),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("#", "/", true),
        ("é/#", "é/x", true),
    ] {
        let filter = TopicFilter::try_from(filter).unwrap();
        let topic = TopicName::try_from(topic).unwrap();
        assert_eq!(filter.matches(&topic), matches, "{filter} and {topic}");
    }
}

/// The rules of §4.7 once more, in another way: by recursion over the levels.
fn matches_by_the_book(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches_by_the_book(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && matches_by_the_book(filter, topic),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn matching_agrees_with_the_rules_written_another_way(
        filter in "(\\$?[ab+]?/){0,3}(#|[ab+]?)",
        topic in "\\$?[ab]?(/[ab]?){0,3}",
    ) {
        let (Ok(filter), Ok(topic)) = (TopicFilter::try_from(filter), TopicName::try_from(topic)) else {
            return Ok(());
        };
        let levels: Vec<_> = filter.levels().collect();
        let hidden = topic.starts_with('$') && (filter.starts_with('#') || filter.starts_with('+'));
        let expected = !hidden && matches_by_the_book(&levels, &topic.levels().collect::<Vec<_>>());
        prop_assert_eq!(filter.matches(&topic), expected);
    }

    #[test]
    fn a_filter_is_parsed_from_what_it_is_shown_as(filter in strategy::subscription_filter()) {
        let text = Text::try_from(filter.to_string()).unwrap();
        prop_assert_eq!(SubscriptionFilter::parse(text), Ok(filter));
    }

    #[test]
    fn a_string_is_a_text_exactly_when_no_character_is_refused(string in any::<String>()) {
        let refused = string.chars().any(|c| c.is_control() || (c as u32) & 0xFFFE == 0xFFFE
            || ('\u{FDD0}'..='\u{FDEF}').contains(&c));
        prop_assert_eq!(Text::try_from(string.as_str()).is_err(), refused);
        prop_assert_eq!(Text::try_from(Bytes::from(string)).is_err(), refused);
    }
}
