//! The functions of templates: what they are, and what they give.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{EvaluateError, TEMPLATE_TEXT_BYTES_MAX};

/// Map name to first key to second key to text.
pub(super) type Mappings = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

/// What gives a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// Itself.
    Text(String),
    /// `Ref`: a parameter.
    Ref(String),
    /// `Fn::Join`: the texts of the list with the delimiter between them.
    Join(Box<Self>, Box<List>),
    /// `Fn::Sub`: the pieces one after the other; some of them are variables of its own.
    Sub(Vec<Piece>, Vec<(String, Self)>),
    /// `Fn::Select`: the text at a place, counted from 0.
    Select(Box<Self>, Box<List>),
    /// `Fn::FindInMap`: map, first key, second key.
    FindInMap(Box<[Self; 3]>),
}

/// A piece of the text of `Fn::Sub`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// `${name}`: a variable of this `Fn::Sub`, else a parameter.
    Variable(String),
}

/// What gives a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum List {
    Items(Vec<Expr>),
    /// `Fn::Split`: the parts of a text between delimiters.
    Split(Box<Expr>, Box<Expr>),
}

impl Expr {
    /// Calls `with` for each parameter that the text depends on.
    pub(super) fn each_parameter<'e>(&'e self, with: &mut impl FnMut(&'e str)) {
        match self {
            Self::Text(_) => {}
            Self::Ref(name) => with(name),
            Self::Join(delimiter, list) => {
                delimiter.each_parameter(with);
                list.each_parameter(with);
            }
            Self::Sub(pieces, variables) => {
                for (_, variable) in variables {
                    variable.each_parameter(with);
                }
                for piece in pieces {
                    match piece {
                        Piece::Variable(name) if !variables.iter().any(|(own, _)| own == name) => with(name),
                        _ => {}
                    }
                }
            }
            Self::Select(index, list) => {
                index.each_parameter(with);
                list.each_parameter(with);
            }
            Self::FindInMap(keys) => keys.iter().for_each(|key| key.each_parameter(with)),
        }
    }

    /// Collects the parameters whose value can become part of the text. What only picks an entry of the mappings, or a
    /// place of a list, does not.
    pub(super) fn shaped_by<'e>(&'e self, names: &mut BTreeSet<&'e str>) {
        match self {
            Self::Text(_) | Self::FindInMap(_) => {}
            Self::Ref(name) => drop(names.insert(name)),
            Self::Join(delimiter, list) => {
                delimiter.shaped_by(names);
                list.shaped_by(names);
            }
            Self::Sub(pieces, variables) => {
                for (_, variable) in variables {
                    variable.shaped_by(names);
                }
                for piece in pieces {
                    match piece {
                        Piece::Variable(name) if !variables.iter().any(|(own, _)| own == name) => {
                            names.insert(name);
                        }
                        _ => {}
                    }
                }
            }
            Self::Select(_, list) => list.shaped_by(names),
        }
    }

    /// Whether the text is the same for every device.
    pub(super) fn is_constant(&self) -> bool {
        let mut constant = true;
        self.each_parameter(&mut |_| constant = false);
        constant
    }
}

impl List {
    pub(super) fn each_parameter<'e>(&'e self, with: &mut impl FnMut(&'e str)) {
        match self {
            Self::Items(items) => items.iter().for_each(|item| item.each_parameter(with)),
            Self::Split(delimiter, text) => {
                delimiter.each_parameter(with);
                text.each_parameter(with);
            }
        }
    }

    pub(super) fn shaped_by<'e>(&'e self, names: &mut BTreeSet<&'e str>) {
        match self {
            Self::Items(items) => items.iter().for_each(|item| item.shaped_by(names)),
            Self::Split(_, text) => text.shaped_by(names),
        }
    }
}

/// What expressions are evaluated with.
#[derive(Debug)]
pub(super) struct Scope<'v> {
    /// Every parameter that has a value.
    pub(super) values: BTreeMap<&'v str, Cow<'v, str>>,
    pub(super) mappings: &'v Mappings,
}

impl Scope<'_> {
    /// The text that `expr`, which is at `at` in the template, gives. The work is within a constant of the size of the
    /// template times [`TEMPLATE_TEXT_BYTES_MAX`], since every text is bounded and every expression evaluated once.
    pub(super) fn text(&self, expr: &Expr, at: &str) -> Result<String, EvaluateError> {
        let text = match expr {
            Expr::Text(text) => text.clone(),
            Expr::Ref(name) => self.parameter(name)?.to_owned(),
            Expr::Join(delimiter, list) => {
                let (delimiter, list) = (self.text(delimiter, at)?, self.list(list, at)?);
                let mut joined = Bounded::new(at);
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        joined.push(&delimiter)?;
                    }
                    joined.push(item)?;
                }
                joined.text
            }
            Expr::Sub(pieces, variables) => self.substituted(pieces, variables, at)?,
            Expr::Select(index, list) => {
                let none = || EvaluateError::Select { at: at.into() };
                let index: usize = self.text(index, at)?.parse().map_err(|_| none())?;
                self.list(list, at)?.into_iter().nth(index).ok_or_else(none)?
            }
            Expr::FindInMap(keys) => {
                let [map, first, second] = &**keys;
                let (map, first, second) =
                    (self.text(map, at)?, self.text(first, at)?, self.text(second, at)?);
                let found = self.mappings.get(&map).and_then(|map| map.get(&first)?.get(&second));
                found.ok_or_else(|| EvaluateError::FindInMap { at: at.into() })?.clone()
            }
        };
        if text.len() > TEMPLATE_TEXT_BYTES_MAX {
            return Err(EvaluateError::TextTooLong { at: at.into() });
        }
        Ok(text)
    }

    fn substituted(
        &self,
        pieces: &[Piece],
        variables: &[(String, Expr)],
        at: &str,
    ) -> Result<String, EvaluateError> {
        let variables = variables
            .iter()
            .map(|(name, variable)| Ok((name.as_str(), self.text(variable, at)?)))
            .collect::<Result<BTreeMap<_, _>, EvaluateError>>()?;
        let mut text = Bounded::new(at);
        for piece in pieces {
            match piece {
                Piece::Text(piece) => text.push(piece)?,
                Piece::Variable(name) => match variables.get(name.as_str()) {
                    Some(value) => text.push(value)?,
                    None => text.push(self.parameter(name)?)?,
                },
            }
        }
        Ok(text.text)
    }

    pub(super) fn list(&self, list: &List, at: &str) -> Result<Vec<String>, EvaluateError> {
        match list {
            List::Items(items) => items.iter().map(|item| self.text(item, at)).collect(),
            List::Split(delimiter, text) => {
                let (delimiter, text) = (self.text(delimiter, at)?, self.text(text, at)?);
                if delimiter.is_empty() {
                    return Err(EvaluateError::Split { at: at.into() });
                }
                Ok(text.split(&delimiter).map(str::to_owned).collect())
            }
        }
    }

    fn parameter(&self, name: &str) -> Result<&str, EvaluateError> {
        let missing = || EvaluateError::MissingParameter { name: name.into() };
        self.values.get(name).map(|value| &**value).ok_or_else(missing)
    }
}

/// A text that does not grow beyond its bound.
struct Bounded<'a> {
    text: String,
    at: &'a str,
}

impl<'a> Bounded<'a> {
    const fn new(at: &'a str) -> Self {
        Self { text: String::new(), at }
    }

    fn push(&mut self, piece: &str) -> Result<(), EvaluateError> {
        if self.text.len() + piece.len() > TEMPLATE_TEXT_BYTES_MAX {
            return Err(EvaluateError::TextTooLong { at: self.at.into() });
        }
        self.text.push_str(piece);
        Ok(())
    }
}
