//! One line of an `acl_file` at a time.
//!
//! The reading follows Mosquitto's `aclfile__parse`, sharp edges included: only a space separates words, `#` begins a
//! comment in the first column alone, white space is cut off at the end of a line, and a lone access word is a topic.

use signet_identity::{GroupName, Role};
use signet_wire::{Text, TopicFilter};

use crate::problem::{AclErrorKind, shortened};

/// The most levels of a rule's filter. Mosquitto allows 200 separators.
pub const LEVELS_MAX: usize = 201;

/// What a rule gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessWord {
    Read,
    Write,
    ReadWrite,
    Deny,
}

impl AccessWord {
    fn of(word: &str) -> Option<Self> {
        match word {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "readwrite" => Some(Self::ReadWrite),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Nothing,
    User(&'a str),
    Role(SectionRole<'a>),
    Rule(RuleLine<'a>),
}

/// Whom a `role` section is for.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub(crate) enum SectionRole<'a> {
    Role(Role),
    Group(&'a str),
}

/// A `topic` or `pattern` line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RuleLine<'a> {
    pub(crate) pattern: bool,
    pub(crate) access: AccessWord,
    /// A valid topic filter of at most [`LEVELS_MAX`] levels: a slice of the line.
    pub(crate) filter: &'a str,
    /// Whether the line has no access word, and its topic is one.
    pub(crate) topic_is_access_word: bool,
}

/// What is wrong, and where: a slice of the line.
pub(crate) type Fault<'a> = (&'a str, AclErrorKind);

/// What C's `isspace` takes for white space.
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Reads a line without its line feed.
pub(crate) fn line(text: &str) -> Result<Line<'_>, Fault<'_>> {
    if text.contains('\0') {
        return Err((text, AclErrorKind::Nul));
    }
    let text = text.trim_end_matches(is_space);
    if text.starts_with('#') {
        return Ok(Line::Nothing);
    }
    let text = text.trim_start_matches(' ');
    if text.is_empty() {
        return Ok(Line::Nothing);
    }
    let (keyword, rest) = word(text);
    match keyword {
        "topic" => rule(false, rest, text).map(Line::Rule),
        "pattern" => rule(true, rest, text).map(Line::Rule),
        "user" => match rest.trim_matches(is_space) {
            "" => Err((text, AclErrorKind::UserMissing)),
            name => Ok(Line::User(name)),
        },
        "role" => role(rest.trim_matches(is_space), text),
        _ => Err((text, not_a_keyword(keyword))),
    }
}

/// The first word of a text that does not begin with a space, and what follows its space.
fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn not_a_keyword(word: &str) -> AclErrorKind {
    if word.starts_with('#') {
        AclErrorKind::IndentedComment
    } else if word.contains('\t') {
        AclErrorKind::Tab
    } else {
        AclErrorKind::Keyword { word: shortened(word) }
    }
}

fn role<'a>(name: &'a str, text: &'a str) -> Result<Line<'a>, Fault<'a>> {
    if name.is_empty() {
        return Err((text, AclErrorKind::RoleMissing));
    }
    if let Some(role) = Role::ALL.into_iter().find(|role| role.as_str() == name) {
        return Ok(Line::Role(SectionRole::Role(role)));
    }
    match GroupName::try_from(name) {
        Ok(_) => Ok(Line::Role(SectionRole::Group(name))),
        Err(why) => Err((name, AclErrorKind::Role { name: shortened(name), why })),
    }
}

fn rule<'a>(pattern: bool, rest: &'a str, text: &'a str) -> Result<RuleLine<'a>, Fault<'a>> {
    let rest = rest.trim_start_matches(' ');
    if rest.is_empty() {
        return Err((text, AclErrorKind::TopicMissing));
    }
    let (first, second) = word(rest);
    let second = second.trim_matches(is_space);
    let lone = second.is_empty();
    let (access, filter) = if lone {
        (AccessWord::ReadWrite, first)
    } else {
        match AccessWord::of(first) {
            Some(access) => (access, second),
            None => return Err((first, AclErrorKind::Access { word: shortened(first) })),
        }
    };
    let topic = Text::try_from(filter).map_err(|why| (filter, AclErrorKind::Text { why }))?;
    TopicFilter::try_from(topic).map_err(|why| (filter, AclErrorKind::Filter { why }))?;
    let levels = filter.split('/').count();
    if levels > LEVELS_MAX {
        return Err((filter, AclErrorKind::Levels { levels }));
    }
    Ok(RuleLine { pattern, access, filter, topic_is_access_word: lone && AccessWord::of(first).is_some() })
}

#[cfg(test)]
mod tests {
    use signet_wire::TextError;

    use super::*;

    fn rule_of(text: &str) -> (bool, AccessWord, &str) {
        match line(text) {
            Ok(Line::Rule(rule)) => (rule.pattern, rule.access, rule.filter),
            other => panic!("{text:?} is {other:?}"),
        }
    }

    fn fault(text: &str) -> AclErrorKind {
        line(text).unwrap_err().1
    }

    #[test]
    fn a_rule_has_an_optional_access_word_and_a_filter() {
        assert_eq!(rule_of("topic a/b"), (false, AccessWord::ReadWrite, "a/b"));
        assert_eq!(rule_of("topic read a/b"), (false, AccessWord::Read, "a/b"));
        assert_eq!(rule_of("topic write a/b"), (false, AccessWord::Write, "a/b"));
        assert_eq!(rule_of("topic readwrite #"), (false, AccessWord::ReadWrite, "#"));
        assert_eq!(rule_of("pattern deny a/%u"), (true, AccessWord::Deny, "a/%u"));
    }

    #[test]
    fn spaces_separate_words_in_any_number_and_are_part_of_a_topic_behind_an_access_word() {
        assert_eq!(rule_of("  topic   read    a b/c  "), (false, AccessWord::Read, "a b/c"));
        assert_eq!(rule_of("topic read \ta\t\r"), (false, AccessWord::Read, "a"));
        assert_eq!(fault("topic foo bar"), AclErrorKind::Access { word: "foo".into() });
    }

    #[test]
    fn a_lone_access_word_is_a_topic() {
        for word in ["read", "write", "readwrite", "deny"] {
            let text = format!("topic {word}");
            let Ok(Line::Rule(rule)) = line(&text) else { panic!("{text:?} is not a rule") };
            assert_eq!((rule.access, rule.filter), (AccessWord::ReadWrite, word));
            assert!(rule.topic_is_access_word);
        }
    }

    #[test]
    fn keywords_and_access_words_are_lower_case() {
        assert_eq!(fault("Topic read a"), AclErrorKind::Keyword { word: "Topic".into() });
        assert_eq!(fault("topic Read a"), AclErrorKind::Access { word: "Read".into() });
    }

    #[test]
    fn a_tab_does_not_separate_words() {
        assert_eq!(fault("topic\tread a"), AclErrorKind::Tab);
        assert_eq!(fault("topic read\ta"), AclErrorKind::Text { why: TextError::Control });
    }

    #[test]
    fn a_comment_begins_in_the_first_column() {
        assert_eq!(line("# topic read a"), Ok(Line::Nothing));
        assert_eq!(fault("  # topic read a"), AclErrorKind::IndentedComment);
        assert_eq!(line("   \t "), Ok(Line::Nothing));
        assert_eq!(line(""), Ok(Line::Nothing));
    }

    #[test]
    fn a_user_name_is_trimmed_and_may_contain_spaces() {
        assert_eq!(line("user  a b \r"), Ok(Line::User("a b")));
        assert_eq!(fault("user   "), AclErrorKind::UserMissing);
    }

    #[test]
    fn a_role_is_built_in_or_a_group() {
        assert_eq!(line("role operator "), Ok(Line::Role(SectionRole::Role(Role::Operator))));
        assert_eq!(line("role sensors"), Ok(Line::Role(SectionRole::Group("sensors"))));
        assert_eq!(fault("role"), AclErrorKind::RoleMissing);
        assert!(matches!(fault("role Operator"), AclErrorKind::Role { .. }));
        assert!(matches!(fault("role a/b"), AclErrorKind::Role { .. }));
    }

    #[test]
    fn a_filter_has_its_wildcards_in_place_and_a_bounded_depth() {
        for bad in ["a/#/b", "a#", "a+/b", "+a", "##"] {
            assert!(matches!(fault(&format!("topic read {bad}")), AclErrorKind::Filter { .. }), "{bad}");
        }
        let deep = "a/".repeat(200);
        assert_eq!(rule_of(&format!("topic read {deep}")).2, deep);
        assert_eq!(fault(&format!("topic read {deep}/")), AclErrorKind::Levels { levels: 202 });
        let why = TextError::TooLong;
        assert_eq!(fault(&format!("topic read {}", "a".repeat(65536))), AclErrorKind::Text { why });
        assert_eq!(fault("topic"), AclErrorKind::TopicMissing);
        assert_eq!(fault("topic read a\0b"), AclErrorKind::Nul);
    }
}
