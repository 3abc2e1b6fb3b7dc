//! `[[https]]` and `[[est.label]]`.

use super::Checker;
use super::doors::Doors;
use super::read::View;
use crate::raw::{Entry, Node, Table, Value};
use crate::schema::Section;
use crate::{Ca, EstLabel, Https, Listener};
use std::collections::HashSet;
use std::num::{NonZeroU8, NonZeroU32};

/// What a label of EST may not be called: it would hide an operation (RFC 7030 section 3.2.2).
const OPERATIONS: [&str; 6] =
    ["cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"];
/// The most characters of a label.
const LABEL_CHARS_MAX: usize = 64;
/// The file in the [ca] directory that is the trust anchor where no other is named.
const OWN_AUTHORITY: &str = "issuing.crt";

impl Checker<'_> {
    pub(super) fn https(&mut self, root: &Table, ca: Option<&Ca>, listeners: &[Listener]) -> Vec<Https> {
        let Some(entry) = root.get(Section::Https.name()) else { return Vec::new() };
        let mut doors: Vec<Https> = Vec::new();
        let mut taken = Doors::default();
        for listener in listeners {
            taken.add(listener.address);
        }
        for (node, table) in self.tables(entry, Section::Https) {
            let view = self.view(Section::Https, &node.at, table);
            let door = self.https_door(&view, ca);
            self.refuse_same_door(&mut taken, door.address, &view);
            doors.push(door);
        }
        if let (Some(_), None) = (doors.first(), ca) {
            self.problem_with_hint(
                &entry.at,
                "[[https]] needs [ca]: it gives certificates, and this broker issues none",
                "write [ca] and mode = \"on\" in [registry], and run `signet ca init`; or remove [[https]]",
            );
        }
        doors
    }

    fn https_door(&mut self, view: &View<'_>, ca: Option<&Ca>) -> Https {
        let mut client_ca = self.files(view, "client-ca");
        if client_ca.is_empty() {
            client_ca.extend(ca.map(|ca| ca.directory.join(OWN_AUTHORITY)));
        }
        let services = self.choices(view, "services");
        Https {
            address: self.listen_address(view),
            certificate: self.file(view, "certificate"),
            private_key: self.file(view, "private-key"),
            client_ca,
            crl: self.files(view, "crl"),
            provision: services.contains(&"provision"),
            est: services.contains(&"est"),
            connections_max: self.some_u32(view, "max-connections"),
            requests_per_address_per_minute: NonZeroU32::new(
                self.count_u32(view, "requests-per-address-per-minute"),
            ),
            body_bytes_max: usize::try_from(self.bytes(view, "body-bytes-max")).unwrap_or(usize::MAX),
            handshake_timeout: self.time(view, "handshake-timeout"),
            header_timeout: self.time(view, "header-timeout"),
            body_timeout: self.time(view, "body-timeout"),
        }
    }

    pub(super) fn est_labels(&mut self, root: &Table, https: &[Https]) -> Vec<EstLabel> {
        let Some(entry) = root.get(Section::EstLabel.name()) else { return Vec::new() };
        let Value::Table(est) = &entry.node.value else {
            let message = format!("\"est\" must be a table, not {}", entry.node.value.kind());
            self.problem_with_hint(&entry.at, message, "write [[est.label]] once for each label");
            return Vec::new();
        };
        let mut labels: Vec<EstLabel> = Vec::new();
        let mut names = HashSet::new();
        for inner in &est.entries {
            if inner.name != "label" {
                let message = format!("unknown key \"{}\" in [est]", inner.name);
                self.problem_with_hint(&inner.at, message, "only [[est.label]] can be there");
                continue;
            }
            for (node, table) in self.tables(inner, Section::EstLabel) {
                let view = self.view(Section::EstLabel, &node.at, table);
                let label = self.est_label(&view);
                if !names.insert(label.name.clone()) {
                    let name =
                        label.name.as_deref().map_or("without a name".to_owned(), |name| format!("{name:?}"));
                    self.problem(&view.place("name"), format!("the label {name} is there twice"));
                }
                labels.push(label);
            }
        }
        if !labels.is_empty() && !https.iter().any(|door| door.est) {
            let hint = "write [[https]] with \"est\" in its services, or remove [[est.label]]";
            self.problem_with_hint(&entry.at, "[[est.label]] has no effect: EST is served nowhere", hint);
        }
        labels
    }

    fn est_label(&mut self, view: &View<'_>) -> EstLabel {
        let name = Some(self.characters(view, "name")).filter(|name| !name.is_empty());
        if let Some(name) = &name {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            let good = name.len() <= LABEL_CHARS_MAX
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(plain)
                && !OPERATIONS.contains(&name.as_str());
            if !good {
                let hint = "1 to 64 of A-Z a-z 0-9 . _ -, a letter or a digit first, and none of the names of EST's operations";
                let message = format!("{name:?} cannot be a label of EST");
                self.problem_with_hint(&view.place("name"), message, hint);
            }
        }
        EstLabel {
            name,
            validity: view.has("validity").then(|| self.seconds(view, "validity")),
            approval: self.flag(view, "approval"),
            columns: NonZeroU8::new(u8::try_from(self.count(view, "columns")).unwrap_or(u8::MAX)),
        }
    }

    /// The tables of a list of tables.
    pub(super) fn tables<'t>(&mut self, entry: &'t Entry, section: Section) -> Vec<(&'t Node, &'t Table)> {
        let Value::List(nodes) = &entry.node.value else {
            let header = section.header();
            let message =
                format!("\"{}\" must be a list of tables, not {}", entry.name, entry.node.value.kind());
            self.problem_with_hint(&entry.at, message, format!("write {header}, with two brackets"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for node in nodes {
            match &node.value {
                Value::Table(table) => tables.push((node, table)),
                other => {
                    let message = format!("\"{}\" must hold tables, not {}", entry.name, other.kind());
                    self.problem(&node.at, message);
                }
            }
        }
        tables
    }
}
