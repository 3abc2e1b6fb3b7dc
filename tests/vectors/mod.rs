//! Reads the table of topics and payloads, `provisioning.toml`, for the tests of the broker (`broker/core`) and of the device
//! (`firmware/core`). Both take this file as a module, so that the table is read in one way.

use std::collections::BTreeMap;

use toml::Value;

/// The table.
pub(crate) struct Table(toml::Table);

/// A row of one of its lists.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a Value);

impl Table {
    pub(crate) fn read() -> Self {
        Self(include_str!("provisioning.toml").parse().expect("TOML"))
    }

    /// The rows of the list `name`.
    pub(crate) fn rows(&self, name: &str) -> Vec<Row<'_>> {
        self.0[name].as_array().unwrap_or_else(|| panic!("no {name}")).iter().map(Row).collect()
    }
}

impl<'a> Row<'a> {
    /// The text under `key`, if the row has one.
    pub(crate) fn maybe(self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// The text under `key`.
    pub(crate) fn text(self, key: &str) -> &'a str {
        self.maybe(key).unwrap_or_else(|| panic!("{}: no {key}", self.0))
    }

    /// Whether the row says something of `key`.
    pub(crate) fn has(self, key: &str) -> bool {
        self.0.get(key).is_some()
    }

    /// Whether `key` is so.
    pub(crate) fn is(self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or_else(|| panic!("{}: no {key}", self.0))
    }

    /// The number under `key`.
    pub(crate) fn number(self, key: &str) -> i64 {
        self.0.get(key).and_then(Value::as_integer).unwrap_or_else(|| panic!("{}: no {key}", self.0))
    }

    /// The texts of the table under `key`.
    pub(crate) fn texts(self, key: &str) -> BTreeMap<String, String> {
        let table =
            self.0.get(key).and_then(Value::as_table).unwrap_or_else(|| panic!("{}: no {key}", self.0));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        table.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// The one of these two that the row's format names.
    pub(crate) fn format<T>(self, json: T, cbor: T) -> T {
        match self.text("format") {
            "json" => json,
            "cbor" => cbor,
            other => panic!("{other}"),
        }
    }

    /// The payload: its text, or its bytes in hex.
    pub(crate) fn payload(self) -> Vec<u8> {
        if let Some(text) = self.maybe("text") {
            return text.as_bytes().to_vec();
        }
        let hex: String = self.text("hex").split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }
}
