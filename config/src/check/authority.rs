//! `[registry]` and `[ca]`.

use super::Checker;
use super::read::View;
use crate::raw::{At, Table};
use crate::schema::Section;
use crate::{Ca, CaKey, KeyKind, Pkcs11, PreviousCa, Registry};
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Checker<'_> {
    pub(super) fn registry(&mut self, root: &Table) -> Registry {
        let view = self.section(root, Section::Registry);
        let directory = self.file(&view, "directory");
        match self.choice(&view, "mode") {
            "on" => Registry::On { directory },
            _ => Registry::Off,
        }
    }

    pub(super) fn ca(&mut self, root: &Table, registry: &Registry) -> Option<Ca> {
        let view = self.section(root, Section::Ca);
        if view.table.is_none() {
            if let Some(entry) = root.get(Section::CaPrevious.name()) {
                let hint = "write [ca] for the authority that issues now, or remove [[ca-previous]]";
                self.problem_with_hint(&entry.at, "[[ca-previous]] needs [ca]", hint);
            }
            return None;
        }
        if *registry == Registry::Off {
            let message = "[ca] needs the registry: what is issued must be looked up, and can be revoked";
            self.problem_with_hint(&view.at, message, "write mode = \"on\" in [registry], or remove [ca]");
        }
        let keys = self.choices(&view, "keys").iter().filter_map(|word| key_kind(word)).collect();
        let (directory, key) = (self.file(&view, "directory"), self.ca_key(&view));
        let previous = self.previous(root, &view, (&directory, &key));
        Some(Ca {
            directory,
            key,
            previous,
            certificate_validity: self.seconds(&view, "certificate-validity"),
            backdate: self.seconds(&view, "backdate"),
            keys,
            crl_validity: self.seconds(&view, "crl-validity"),
            crl_file: self.optional_file(&view, "crl-file"),
            crl_url: self.crl_url(&view),
        })
    }

    /// The authorities that this broker was before. Those of the short list have a key as the present one has, in a file.
    fn previous(
        &mut self,
        root: &Table,
        view: &View<'_>,
        (directory, key): (&Path, &CaKey),
    ) -> Vec<PreviousCa> {
        let key = match key {
            CaKey::File { .. } => key.clone(),
            CaKey::Pkcs11(_) => CaKey::File { passphrase_file: None },
        };
        let mut seen = vec![directory.to_owned()];
        let mut all = Vec::new();
        for directory in self.files(view, "previous") {
            self.once(&mut seen, &directory, &view.place("previous"));
            all.push(PreviousCa { directory, key: Some(key.clone()) });
        }
        let Some(entry) = root.get(Section::CaPrevious.name()) else { return all };
        for (node, table) in self.tables(entry, Section::CaPrevious) {
            let view = self.view(Section::CaPrevious, &node.at, table);
            let directory = self.file(&view, "directory");
            self.once(&mut seen, &directory, &view.place("directory"));
            let key = self.ca_key(&view);
            let none = self.choice(&view, "key") == "none";
            if none && key != (CaKey::File { passphrase_file: None }) {
                let message = "\"key\" says that there is no key here, and other keys say where it is";
                let hint = "remove key = \"none\", or passphrase-file and the pkcs11- keys";
                self.problem_with_hint(&view.place("key"), message, hint);
            }
            all.push(PreviousCa { directory, key: (!none).then_some(key) });
        }
        all
    }

    /// An authority is named once.
    fn once(&mut self, seen: &mut Vec<PathBuf>, directory: &Path, at: &At) {
        if seen.iter().any(|other| other == directory) {
            let message = format!("{} is named twice among the authorities", directory.display());
            self.problem_with_hint(at, message, "an authority that was before has another folder than [ca]");
        }
        seen.push(directory.to_owned());
    }

    /// A key in a token is named by its module, the token and its label; one in a file may have a passphrase.
    fn ca_key(&mut self, view: &View<'_>) -> CaKey {
        let passphrase_file = self.optional_file(view, "passphrase-file");
        const NEEDED: [&str; 3] = ["pkcs11-module", "pkcs11-token", "pkcs11-key"];
        let said = NEEDED.iter().chain(&["pkcs11-pin-file"]).find(|name| view.has(name));
        let Some(said) = said else { return CaKey::File { passphrase_file } };
        for name in NEEDED.iter().filter(|name| !view.has(name)) {
            let message =
                format!("\"{said}\" says that the authority's key is in a token, and \"{name}\" is missing");
            self.problem(&view.place(said), message);
        }
        if passphrase_file.is_some() {
            let message = "\"passphrase-file\" is for a key in a file, and this one is in a token";
            let hint = "\"pkcs11-pin-file\" is what unlocks a token";
            self.problem_with_hint(&view.place("passphrase-file"), message, hint);
        }
        let mut label = |name: &str| {
            let text = self.characters(view, name);
            if view.has(name) && text.is_empty() {
                self.problem(&view.place(name), format!("\"{name}\" is empty"));
            }
            text
        };
        let (token, key) = (label("pkcs11-token"), label("pkcs11-key"));
        let module = self.file(view, "pkcs11-module");
        CaKey::Pkcs11(Pkcs11 { module, token, key, pin_file: self.optional_file(view, "pkcs11-pin-file") })
    }

    fn optional_file(&mut self, view: &View<'_>, name: &str) -> Option<PathBuf> {
        view.has(name).then(|| self.file(view, name))
    }

    /// A duration that certificates and lists count in whole seconds.
    pub(super) fn seconds(&mut self, view: &View<'_>, name: &str) -> Duration {
        let value = self.time(view, name);
        if value.subsec_nanos() != 0 {
            self.problem(&view.place(name), format!("\"{name}\" must be whole seconds"));
        }
        value
    }

    fn crl_url(&mut self, view: &View<'_>) -> Option<String> {
        let url = self.characters(view, "crl-url");
        if url.is_empty() {
            return None;
        }
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let good = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
            && url.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            let message = format!("\"crl-url\" must be an http or https URL in ASCII, not {url:?}");
            self.problem(&view.place("crl-url"), message);
        }
        Some(url)
    }
}

fn key_kind(word: &str) -> Option<KeyKind> {
    match word {
        "p-256" => Some(KeyKind::P256),
        "p-384" => Some(KeyKind::P384),
        "p-521" => Some(KeyKind::P521),
        "ed25519" => Some(KeyKind::Ed25519),
        "rsa" => Some(KeyKind::Rsa),
        _ => None,
    }
}
