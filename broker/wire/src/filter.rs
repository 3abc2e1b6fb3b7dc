//! Topic filters, plain and shared.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::Split;

use bytes::Bytes;

use crate::basics::Version;
use crate::names::{TopicName, text_newtype};
use crate::reason::ReasonCode;
use crate::text::{Text, TextError};

/// What a shared subscription's filter begins with (`[MQTT5-4.8.2-1]`).
const SHARE_PREFIX: &str = "$share/";

/// Why a string is no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FilterError {
    /// Not an MQTT string at all. Never met in a decoded packet, where it is an error of the packet.
    #[error("the filter is not an MQTT string")]
    Text,
    /// Without a single character.
    #[error("the filter is empty")]
    Empty,
    /// `#` that is not alone in the last level.
    #[error("'#' must stand alone in the last level of a filter")]
    MultiLevelWildcard,
    /// `+` that is not alone in its level.
    #[error("'+' must stand alone in its level of a filter")]
    SingleLevelWildcard,
    /// `$share/` followed by a name that is empty or contains a wildcard.
    #[error("the name of a shared subscription is empty or contains a wildcard")]
    ShareName,
    /// `$share/name` without a filter behind it.
    #[error("the shared subscription has no filter behind its name")]
    ShareWithoutFilter,
}

impl FilterError {
    /// The reason code for SUBACK and UNSUBACK: always [`ReasonCode::TopicFilterInvalid`], which SUBACK of 3.1.1
    /// carries as 0x80.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        ReasonCode::TopicFilterInvalid
    }

    /// The clause that the filter breaks.
    #[must_use]
    pub const fn clause(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Text, Version::V5) => "MQTT5-1.5.4-1",
            (Self::Text, Version::V311) => "MQTT3-1.5.3-1",
            (Self::Empty, Version::V5) => "MQTT5-4.7.3-1",
            (Self::Empty, Version::V311) => "MQTT3-4.7.3-1",
            (Self::MultiLevelWildcard, Version::V5) => "MQTT5-4.7.1-1",
            (Self::MultiLevelWildcard, Version::V311) => "MQTT3-4.7.1-2",
            (Self::SingleLevelWildcard, Version::V5) => "MQTT5-4.7.1-2",
            (Self::SingleLevelWildcard, Version::V311) => "MQTT3-4.7.1-3",
            // 3.1.1 does not know shared subscriptions; there they are an extension with the rules of 5.0.
            (Self::ShareName, _) => "MQTT5-4.8.2-1",
            (Self::ShareWithoutFilter, _) => "MQTT5-4.8.2-2",
        }
    }

    /// A bounded label for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Text => "filter_text",
            Self::Empty => "filter_empty",
            Self::MultiLevelWildcard => "filter_multi_level_wildcard",
            Self::SingleLevelWildcard => "filter_single_level_wildcard",
            Self::ShareName => "filter_share_name",
            Self::ShareWithoutFilter => "filter_share_without_filter",
        }
    }
}

impl From<TextError> for FilterError {
    fn from(_: TextError) -> Self {
        Self::Text
    }
}

/// A topic filter whose wildcards stand where they may (`[MQTT5-4.7.1-1]`, `[MQTT5-4.7.1-2]`).
///
/// `$share/...` has no special meaning here; [`SubscriptionFilter`] takes that apart.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Text);

text_newtype!(TopicFilter, FilterError);

impl TopicFilter {
    /// The levels between the separators; empty levels count.
    pub fn levels(&self) -> Split<'_, char> {
        self.0.as_str().split('/')
    }

    /// Whether the filter contains `+` or `#`.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Whether a message on `topic` is for a subscriber of this filter.
    ///
    /// `a/#` matches `a` too (`[MQTT5-4.7.1-1]`); a filter that begins with a wildcard does not match a topic that begins with
    /// `$` (`[MQTT5-4.7.2-1]`).
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut topic_levels = topic.levels();
        for wanted in self.levels() {
            if wanted == "#" {
                return true;
            }
            match topic_levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }
}

impl TryFrom<Text> for TopicFilter {
    type Error = FilterError;

    fn try_from(text: Text) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        let mut levels = text.as_str().split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(FilterError::MultiLevelWildcard);
            }
            if level.contains('+') && level != "+" {
                return Err(FilterError::SingleLevelWildcard);
            }
        }
        Ok(Self(text))
    }
}

/// The filter of a subscription, plain or shared (MQTT5 §4.8.2).
///
/// 3.1.1 has no shared subscriptions; they are parsed alike for both versions, and whether a 3.1.1 client may use them is for the
/// session to decide.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubscriptionFilter {
    /// An ordinary subscription.
    Plain(TopicFilter),
    /// `$share/group/filter`: each message goes to one member of the group.
    Shared {
        /// The share name: not empty, without `/`, `+` and `#` (`[MQTT5-4.8.2-1]`, `[MQTT5-4.8.2-2]`).
        group: Text,
        /// What the group subscribes to.
        filter: TopicFilter,
    },
}

impl SubscriptionFilter {
    /// Takes apart the text of a SUBSCRIBE or UNSUBSCRIBE.
    ///
    /// # Errors
    /// A [`FilterError`] when the text is empty, a wildcard stands where it may not, or `$share/` is not followed by a name and a
    /// filter. Nothing that begins with `$share/` is ever taken as a plain filter.
    pub fn parse(text: Text) -> Result<Self, FilterError> {
        let Some(rest) = text.strip_prefix(SHARE_PREFIX) else {
            return TopicFilter::try_from(text).map(Self::Plain);
        };
        let (group, filter) = match rest.split_once('/') {
            Some((group, filter)) => (group, Some(filter)),
            None => (rest, None),
        };
        if group.is_empty() || group.contains(['+', '#']) {
            return Err(FilterError::ShareName);
        }
        let filter = filter.filter(|filter| !filter.is_empty()).ok_or(FilterError::ShareWithoutFilter)?;
        Ok(Self::Shared { group: text.part(group), filter: TopicFilter::try_from(text.part(filter))? })
    }

    /// The topics that are subscribed to, without the share name.
    #[must_use]
    pub const fn filter(&self) -> &TopicFilter {
        match self {
            Self::Plain(filter) | Self::Shared { filter, .. } => filter,
        }
    }

    /// The share name; `None` for an ordinary subscription.
    #[must_use]
    pub const fn group(&self) -> Option<&Text> {
        match self {
            Self::Plain(_) => None,
            Self::Shared { group, .. } => Some(group),
        }
    }

    /// A copy in memory of its own, so that it does not keep a read buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Plain(filter) => Self::Plain(filter.detached()),
            Self::Shared { group, filter } => {
                Self::Shared { group: group.detached(), filter: filter.detached() }
            }
        }
    }

    /// The length in bytes of the text as sent.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Self::Plain(filter) => filter.len(),
            Self::Shared { group, filter } => SHARE_PREFIX.len() + group.len() + 1 + filter.len(),
        }
    }

    /// The pieces of the text as sent, in order.
    pub(crate) fn text_parts(&self) -> [&str; 4] {
        match self {
            Self::Plain(filter) => [filter, "", "", ""],
            Self::Shared { group, filter } => [SHARE_PREFIX, group, "/", filter],
        }
    }
}

/// The text as sent.
impl fmt::Display for SubscriptionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text_parts().into_iter().try_for_each(|part| f.write_str(part))
    }
}

impl fmt::Debug for SubscriptionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}
