//! Topics and filters level by level.

use crate::decision::Values;

/// The first level of `text`, and the levels after it.
pub(crate) fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (text, None),
    }
}

/// Whether the first `depth` levels of `asked` are not a topic by themselves: there are none, or there is one
/// without a character.
pub(crate) fn is_no_topic(asked: &str, depth: u32) -> bool {
    depth == 0 || (depth == 1 && asked.starts_with('/'))
}

/// A whole level that stands for something else in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variable {
    /// `%u`
    User,
    /// `%c`
    Client,
    /// `%t`
    Thing,
    /// `%template`, in the built-in policy for claims only.
    Template,
}

impl Variable {
    /// The variable that the level `level` of a pattern is.
    pub(crate) fn of(level: &str, built_in: bool) -> Option<Self> {
        match level {
            "%u" => Some(Self::User),
            "%c" => Some(Self::Client),
            "%t" => Some(Self::Thing),
            "%template" if built_in => Some(Self::Template),
            _ => None,
        }
    }

    /// Whether `level` of a topic or filter is a value of this variable. A wildcard of a filter never is.
    pub(crate) fn is(self, level: &str, values: &Values<'_>) -> bool {
        !level.is_empty()
            && level != "+"
            && level != "#"
            && match self {
                Self::User => level == values.user,
                Self::Client => level == values.client,
                Self::Thing => level == values.thing,
                Self::Template => values.templates.iter().any(|template| template.as_str() == level),
            }
    }

    /// Whether this variable stands for anything.
    pub(crate) fn is_set(self, values: &Values<'_>) -> bool {
        match self {
            Self::User => !values.user.is_empty(),
            Self::Client => !values.client.is_empty(),
            Self::Thing => !values.thing.is_empty(),
            Self::Template => !values.templates.is_empty(),
        }
    }
}

/// A rule's filter, and how its levels are to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub(crate) filter: &'a str,
    /// Whether `%u` and its like are variables.
    pub(crate) pattern: bool,
    pub(crate) built_in: bool,
}

impl<'a> Shape<'a> {
    pub(crate) fn variable(self, level: &str) -> Option<Variable> {
        if self.pattern { Variable::of(level, self.built_in) } else { None }
    }

    pub(crate) fn variables(self) -> impl Iterator<Item = Variable> + 'a {
        self.filter.split('/').filter_map(move |level| self.variable(level))
    }

    /// Whether every topic that `asked` (a topic, or a filter) stands for is matched by this rule's filter.
    ///
    /// This is the plain statement of what [`Trie::walk`](crate::trie::Trie::walk) does for many rules at once;
    /// explanations are made with it, and tests hold the two against each other.
    pub(crate) fn covers(self, asked: &str, values: &Values<'_>) -> bool {
        let (mut rule, mut rest) = (Some(self.filter), Some(asked));
        let mut depth = 0;
        loop {
            let Some(rule_text) = rule else { return rest.is_none() };
            let (wanted, rule_rest) = split(rule_text);
            let reserved = depth == 0 && rest.is_some_and(|text| text.starts_with('$'));
            if wanted == "#" {
                return !reserved;
            }
            let Some(asked_text) = rest else { return false };
            let (level, asked_rest) = split(asked_text);
            if level == "#" {
                // `#` also stands for what is before it, so only `#` covers it; unless that is no topic, where
                // `+/#` is the same.
                return is_no_topic(asked, depth) && wanted == "+" && rule_rest == Some("#");
            }
            let matches = match self.variable(wanted) {
                Some(variable) => !reserved && variable.is(level, values),
                None if wanted == "+" => !reserved,
                None => wanted == level,
            };
            if !matches {
                return false;
            }
            (rule, rest, depth) = (rule_rest, asked_rest, depth + 1);
        }
    }
}

/// The filter that matches exactly the topics that both filters match, if there are any. Neither has variables.
pub(crate) fn intersection(a: &str, b: &str) -> Option<String> {
    let mut common = Vec::new();
    let (mut left, mut right) = (Some(a), Some(b));
    loop {
        let (left_text, right_text) = match (left, right) {
            (None, None) => break,
            (Some(text), None) | (None, Some(text)) => {
                if text != "#" {
                    return None;
                }
                break;
            }
            (Some(left_text), Some(right_text)) => (left_text, right_text),
        };
        if common.is_empty() && excludes_reserved(left_text, right_text) {
            return None;
        }
        if left_text == "#" || right_text == "#" {
            common.push(if left_text == "#" { right_text } else { left_text });
            break;
        }
        let ((x, x_rest), (y, y_rest)) = (split(left_text), split(right_text));
        common.push(match (x, y) {
            ("+", other) | (other, "+") => other,
            (x, y) if x == y => x,
            _ => return None,
        });
        (left, right) = (x_rest, y_rest);
    }
    // `/#` and `+` have but the empty string in common, which is no topic.
    Some(common.join("/")).filter(|common| !common.is_empty())
}

/// Whether one begins with a wildcard and the other with `$`.
fn excludes_reserved(a: &str, b: &str) -> bool {
    let wild = |text: &str| text.starts_with(['+', '#']);
    (wild(a) && b.starts_with('$')) || (wild(b) && a.starts_with('$'))
}

/// A pattern's filter with the variables replaced by their values, for showing and comparing: one text for each
/// combination of values that are a single plain level, often none or one. Decisions never use it.
pub(crate) fn substituted(shape: Shape<'_>, values: &Values<'_>) -> Vec<String> {
    let mut texts = vec![String::new()];
    for (index, level) in shape.filter.split('/').enumerate() {
        let alternatives: Vec<&str> = match shape.variable(level) {
            None => vec![level],
            Some(Variable::User) => vec![values.user],
            Some(Variable::Client) => vec![values.client],
            Some(Variable::Thing) => vec![values.thing],
            Some(Variable::Template) => values.templates.iter().map(|template| template.as_str()).collect(),
        };
        let variable = shape.variable(level).is_some();
        let plain = |value: &&str| {
            !variable
                || !(value.is_empty()
                    || value.contains(['/', '+', '#'])
                    || (index == 0 && value.starts_with('$')))
        };
        texts = alternatives
            .into_iter()
            .filter(plain)
            .flat_map(|value| {
                texts
                    .iter()
                    .map(move |text| if index == 0 { value.to_owned() } else { format!("{text}/{value}") })
            })
            .collect();
    }
    texts
}
