//! JSON with its places: which member is where in the text, and which keys are there twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{TEMPLATE_DEPTH_MAX, TEMPLATE_PROBLEMS_MAX, TemplateProblem};

/// A JSON value and where it begins, in bytes from the beginning of the text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    /// A number, as written.
    Number(String),
    Bool,
    Null,
}

impl Value {
    /// What it is, for people.
    pub(super) const fn is(&self) -> &'static str {
        match self {
            Self::Object(_) => "an object",
            Self::List(_) => "a list",
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

/// Collects problems on the way through a template.
#[derive(Debug)]
pub(super) struct Checker<'t> {
    text: &'t str,
    path: String,
    pub(super) problems: Vec<TemplateProblem>,
    pub(super) warnings: Vec<TemplateProblem>,
}

impl<'t> Checker<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, path: "$".into(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// Goes one step deeper, to the member `key`. Gives what [`Self::leave`] needs.
    pub(super) fn enter(&mut self, key: &str) -> usize {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let shown = shown(key);
        let step = if !key.is_empty() && key.chars().all(plain) {
            format!(".{shown}")
        } else {
            format!("[{shown:?}]")
        };
        self.step(&step)
    }

    /// Goes one step deeper, to the place `index` of a list.
    pub(super) fn enter_item(&mut self, index: usize) -> usize {
        self.step(&format!("[{index}]"))
    }

    fn step(&mut self, step: &str) -> usize {
        let before = self.path.len();
        self.path.push_str(step);
        before
    }

    /// Goes back to where `before` was given.
    pub(super) fn leave(&mut self, before: usize) {
        self.path.truncate(before);
    }

    pub(super) fn path(&self) -> Box<str> {
        self.path.as_str().into()
    }

    pub(super) fn problem(&mut self, at: usize, what: impl Into<String>, help: impl Into<String>) {
        if self.problems.len() < TEMPLATE_PROBLEMS_MAX {
            let problem = self.note(at, what.into(), help.into());
            self.problems.push(problem);
        }
    }

    pub(super) fn warning(&mut self, at: usize, what: impl Into<String>, help: impl Into<String>) {
        if self.warnings.len() < TEMPLATE_PROBLEMS_MAX {
            let warning = self.note(at, what.into(), help.into());
            self.warnings.push(warning);
        }
    }

    /// A problem or warning about the part at `path`.
    pub(super) fn about(&self, path: &str, at: usize, what: String, help: &str) -> TemplateProblem {
        TemplateProblem { path: path.into(), ..self.note(at, what, help.into()) }
    }

    fn note(&self, at: usize, what: String, help: String) -> TemplateProblem {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        TemplateProblem { path: self.path.clone(), line, column, what, help }
    }

    /// Reads the whole text.
    pub(super) fn read(&mut self) -> Option<Node> {
        match serde_json::from_str::<&RawValue>(self.text) {
            Ok(raw) => self.node(raw, 0),
            Err(error) => {
                let what = format!("this is not JSON: {error}");
                let mut problem = self.note(0, what, "correct the JSON at that place".into());
                (problem.line, problem.column) = (error.line().max(1), error.column().max(1));
                self.problems.push(problem);
                None
            }
        }
    }

    fn node(&mut self, raw: &'t RawValue, depth: usize) -> Option<Node> {
        let json = raw.get();
        // Both point into the same text, which `raw` was borrowed from.
        let at = json.as_ptr().addr() - self.text.as_ptr().addr();
        if depth >= TEMPLATE_DEPTH_MAX {
            let what = format!("the template is nested deeper than {TEMPLATE_DEPTH_MAX} levels");
            self.problem(at, what, "write it flatter");
            return None;
        }
        let value = match json.as_bytes().first()? {
            b'{' => {
                let Members(members) = self.parsed(json, at)?;
                Value::Object(self.members(members, depth))
            }
            b'[' => {
                let items: Vec<&RawValue> = self.parsed(json, at)?;
                let mut nodes = Vec::with_capacity(items.len());
                for (index, raw) in items.into_iter().enumerate() {
                    let before = self.enter_item(index);
                    nodes.extend(self.node(raw, depth + 1));
                    self.leave(before);
                }
                Value::List(nodes)
            }
            b'"' => Value::Text(self.parsed(json, at)?),
            b't' | b'f' => Value::Bool,
            b'n' => Value::Null,
            _ => Value::Number(json.into()),
        };
        Some(Node { at, value })
    }

    fn members(&mut self, members: Vec<(String, &'t RawValue)>, depth: usize) -> Vec<(String, Node)> {
        let mut nodes: Vec<(String, Node)> = Vec::new();
        for (key, raw) in members {
            let at = raw.get().as_ptr().addr() - self.text.as_ptr().addr();
            if nodes.iter().any(|(known, _)| *known == key) {
                let what = format!("the key {:?} is there twice", shown(&key));
                self.problem(at, what, "keep one of them");
                continue;
            }
            if key.contains(char::is_control) {
                let what = format!("the key {:?} has a control character", shown(&key));
                self.problem(at, what, "use printable characters");
            }
            let before = self.enter(&key);
            let node = self.node(raw, depth + 1);
            self.leave(before);
            nodes.extend(node.map(|node| (key, node)));
        }
        nodes
    }

    fn parsed<T: Deserialize<'t>>(&mut self, json: &'t str, at: usize) -> Option<T> {
        match serde_json::from_str(json) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.problem(at, format!("this cannot be read: {error}"), "correct the text");
                None
            }
        }
    }
}

/// At most 64 characters of a text, for a message.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(64) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// The members of an object in order, repeated keys included.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Deserialize<'t> for Members<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'t> Visitor<'t> for Pairs {
            type Value = Members<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
