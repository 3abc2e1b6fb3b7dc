//! Functions.

use super::super::expression::{Expr, List, Piece};
use super::super::node::{Node, Value, shown};
use super::super::subject::{ID, SUBJECT};
use super::Compiler;
use crate::TemplateKind;
use crate::template::Parameter;

const FUNCTIONS: &str = "the functions are Ref, Fn::Join, Fn::Sub, Fn::Split, Fn::Select and Fn::FindInMap; nested JSON is not possible";

impl Compiler<'_> {
    /// What gives a text.
    pub(super) fn expression(&mut self, node: Node) -> Option<Expr> {
        let at = node.at;
        match node.value {
            Value::Text(text) => Some(Expr::Text(text)),
            Value::Object(members) => {
                let (name, argument) = self.function(members, at)?;
                self.member(&name, |c| match name.as_str() {
                    "Ref" => c.reference(argument),
                    "Fn::Join" => c.join(argument),
                    "Fn::Sub" => c.substitution(argument),
                    "Fn::Select" => c.select(argument),
                    "Fn::FindInMap" => c.find_in_map(argument),
                    "Fn::Split" => {
                        let help = "take one part of it with Fn::Select, or join the parts with Fn::Join";
                        c.checker.problem(at, "Fn::Split gives a list where a text is needed", help);
                        None
                    }
                    _ => {
                        c.checker.problem(at, format!("there is no function {:?}", shown(&name)), FUNCTIONS);
                        None
                    }
                })
            }
            other => {
                let help = "write it as a text, in quotes, or as a function";
                self.checker.problem(at, format!("this is {}, not a text", other.is()), help);
                None
            }
        }
    }

    /// The name and the argument of a function.
    fn function(&mut self, members: Vec<(String, Node)>, at: usize) -> Option<(String, Node)> {
        match <[_; 1]>::try_from(members) {
            Ok([function]) => Some(function),
            Err(members) => {
                let what = format!("an object with {} members is no function", members.len());
                self.checker.problem(at, what, FUNCTIONS);
                None
            }
        }
    }

    /// What gives a list of texts.
    pub(super) fn list(&mut self, node: Node) -> Option<List> {
        let at = node.at;
        match node.value {
            Value::List(nodes) => {
                let count = nodes.len();
                let items = nodes.into_iter().enumerate();
                let items: Vec<_> =
                    items.filter_map(|(i, node)| self.item(i, |c| c.expression(node))).collect();
                (items.len() == count).then_some(List::Items(items))
            }
            Value::Object(members) => {
                let (name, argument) = self.function(members, at)?;
                self.member(&name, |c| {
                    if name == "Fn::Split" {
                        return c.split(argument);
                    }
                    let help = "write a list, or Fn::Split";
                    c.checker.problem(at, format!("{:?} gives no list", shown(&name)), help);
                    None
                })
            }
            other => {
                let help = "write a list, or Fn::Split";
                self.checker.problem(at, format!("this is {}, not a list", other.is()), help);
                None
            }
        }
    }

    /// Exactly `N` arguments.
    fn arguments<const N: usize>(&mut self, node: Node, form: &str) -> Option<[Node; N]> {
        let at = node.at;
        let Value::List(items) = node.value else {
            let what = format!("the argument is {}, not a list", node.value.is());
            self.checker.problem(at, what, format!("write {form}"));
            return None;
        };
        let count = items.len();
        <[Node; N]>::try_from(items).map_or_else(
            |_| {
                let what = format!("there are {count} arguments instead of {N}");
                self.checker.problem(at, what, format!("write {form}"));
                None
            },
            Some,
        )
    }

    fn reference(&mut self, node: Node) -> Option<Expr> {
        let at = node.at;
        let name = self.plain_text(node, "write {\"Ref\": \"PARAMETER\"}")?;
        self.declared(&name, at).then_some(Expr::Ref(name))
    }

    /// Whether there is a parameter `name`. Those of the certificate need not be declared.
    fn declared(&mut self, name: &str, at: usize) -> bool {
        if self.parameters.contains_key(name) {
            return true;
        }
        if name == ID || (self.kind == TemplateKind::Jitp && SUBJECT.contains(&name)) {
            let parameter = Parameter { name: name.into(), default: None, allowed: [].into() };
            self.parameters.insert(name.into(), parameter);
            return true;
        }
        let known: Vec<_> = self.parameters.keys().map(String::as_str).collect();
        let help = if known.is_empty() {
            "declare it in Parameters".to_owned()
        } else {
            format!("declare it in Parameters; declared are {}", shown(&known.join(", ")))
        };
        self.checker.problem(at, format!("the parameter {:?} is not declared", shown(name)), help);
        false
    }

    fn join(&mut self, node: Node) -> Option<Expr> {
        let form = "{\"Fn::Join\": [\"DELIMITER\", [TEXT, ...]]}";
        let [delimiter, list] = self.arguments(node, form)?;
        let delimiter = self.item(0, |c| c.expression(delimiter));
        let list = self.item(1, |c| c.list(list));
        Some(Expr::Join(Box::new(delimiter?), Box::new(list?)))
    }

    fn split(&mut self, node: Node) -> Option<List> {
        let form = "{\"Fn::Split\": [\"DELIMITER\", TEXT]}";
        let [delimiter, text] = self.arguments(node, form)?;
        let at = delimiter.at;
        let delimiter = self.item(0, |c| c.expression(delimiter));
        let text = self.item(1, |c| c.expression(text));
        if delimiter == Some(Expr::Text(String::new())) {
            self.checker.problem(at, "a text cannot be split at nothing", "give the delimiter");
        }
        Some(List::Split(Box::new(delimiter?), Box::new(text?)))
    }

    fn select(&mut self, node: Node) -> Option<Expr> {
        let form = "{\"Fn::Select\": [\"PLACE\", LIST]}, where places are counted from 0";
        let [index, list] = self.arguments(node, form)?;
        let at = index.at;
        let index = match index.value {
            Value::Number(number) => Some(Expr::Text(number)),
            value => self.item(0, |c| c.expression(Node { at, value })),
        };
        let list = self.item(1, |c| c.list(list));
        if let Some(Expr::Text(index)) = &index {
            let length = match &list {
                Some(List::Items(items)) => items.len(),
                _ => usize::MAX,
            };
            if index.parse::<usize>().map_or(true, |index| index >= length) {
                self.checker.problem(at, "the list does not have that place", form);
            }
        }
        Some(Expr::Select(Box::new(index?), Box::new(list?)))
    }

    fn find_in_map(&mut self, node: Node) -> Option<Expr> {
        let form = "{\"Fn::FindInMap\": [\"MAP\", \"FIRST KEY\", \"SECOND KEY\"]}";
        let at = node.at;
        let [map, first, second] = self.arguments(node, form)?;
        let map = self.item(0, |c| c.expression(map));
        let first = self.item(1, |c| c.expression(first));
        let second = self.item(2, |c| c.expression(second));
        let keys = [map?, first?, second?];
        let literal = |expr: &Expr| if let Expr::Text(text) = expr { Some(text.clone()) } else { None };
        let [map, first, second] = keys.each_ref().map(literal);
        let found = self.mappings.iter().filter(|(name, _)| map.as_ref().is_none_or(|map| map == *name)).any(
            |(_, rows)| {
                rows.iter().filter(|(key, _)| first.as_ref().is_none_or(|first| first == *key)).any(
                    |(_, row)| second.as_ref().map_or(!row.is_empty(), |second| row.contains_key(second)),
                )
            },
        );
        if !found {
            self.checker.problem(
                at,
                "the section Mappings has no such entry",
                "declare it there, or correct the keys",
            );
        }
        Some(Expr::FindInMap(Box::new(keys)))
    }

    /// `Fn::Sub`: a text, or a list of a text and its own variables.
    fn substitution(&mut self, node: Node) -> Option<Expr> {
        let form =
            "{\"Fn::Sub\": \"TEXT ${PARAMETER}\"} or {\"Fn::Sub\": [\"TEXT ${NAME}\", {\"NAME\": TEXT}]}";
        let at = node.at;
        match node.value {
            Value::Text(text) => Some(Expr::Sub(self.pieces(&text, &[], at, form)?, Vec::new())),
            value => {
                let [text, variables] = self.arguments(Node { at, value }, form)?;
                let at = text.at;
                let text = self.item(0, |c| c.plain_text(text, form))?;
                let variables = self.item(1, |c| {
                    let members = c.object(variables, form)?;
                    let count = members.len();
                    let variables: Vec<_> = members
                        .into_iter()
                        .filter_map(|(name, node)| {
                            let variable = c.member(&name, |c| c.expression(node))?;
                            Some((name, variable))
                        })
                        .collect();
                    (variables.len() == count).then_some(variables)
                })?;
                let pieces = self.item(0, |c| c.pieces(&text, &variables, at, form))?;
                Some(Expr::Sub(pieces, variables))
            }
        }
    }

    /// The pieces of `text`: `${name}` is a variable, `${!name}` is the text `${name}`.
    fn pieces(&mut self, text: &str, own: &[(String, Expr)], at: usize, form: &str) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            pieces.push(Piece::Text(before.into()));
            let Some((name, after)) = after.split_once('}') else {
                self.checker.problem(at, "a ${ has no }", form);
                return None;
            };
            rest = after;
            if let Some(literal) = name.strip_prefix('!') {
                pieces.push(Piece::Text(format!("${{{literal}}}")));
                continue;
            }
            if !own.iter().any(|(known, _)| known == name) && !self.declared(name, at) {
                return None;
            }
            pieces.push(Piece::Variable(name.into()));
        }
        pieces.push(Piece::Text(rest.into()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Some(pieces)
    }
}
