//! Walks the lines of a `mosquitto.conf` and collects what they come to.

use super::options::{self, Does, Otherwise};
use super::{Import, Line, Verdict, toml_text};
use crate::raw::{At, Node, Table, Value};
use crate::{Problem, check};
use std::path::{Path, PathBuf};

/// Reads the files of an `include_dir`, or says why it cannot.
pub(super) type Include<'a> = &'a mut dyn FnMut(&Path) -> Result<Vec<(PathBuf, String)>, String>;

/// What an option came to: a verdict and a note, or why the broker must not start.
pub(super) type Outcome = Result<(Verdict, String), String>;

/// One listener, as far as it is understood.
#[derive(Debug, Default)]
pub(super) struct Door {
    pub(super) at: At,
    pub(super) port: u16,
    /// The address to bind to, when one was given.
    pub(super) host: Option<String>,
    pub(super) ipv6: bool,
    /// Our keys.
    pub(super) table: Table,
    pub(super) require_certificate: bool,
    pub(super) identity_as_username: bool,
    /// Something was said that makes Mosquitto open this listener. Only the default one can be without.
    pub(super) open: bool,
}

/// What the lines have come to so far.
pub(super) struct Importer<'a> {
    pub(super) working_directory: &'a Path,
    pub(super) doors: Vec<Door>,
    /// Mosquitto's default listener: options before the first `listener` line are about it.
    pub(super) default_door: Door,
    /// Options are about the last of `doors`, or else about the default one.
    pub(super) in_door: bool,
    pub(super) acl: Table,
    pub(super) limits: Table,
    pub(super) log: Table,
    pub(super) system: Table,
    pub(super) packet_said: bool,
    /// Where `persistence true` stands.
    pub(super) store_at: Option<At>,
    pub(super) store_location: Option<String>,
    lines: Vec<Line>,
    problems: Vec<Problem>,
}

/// Understands a whole file.
pub(super) fn run(text: &str, file: &Path, working_directory: &Path, include: Include<'_>) -> Import {
    let mut importer = Importer {
        working_directory,
        doors: Vec::new(),
        default_door: Door { port: 1883, ..Door::default() },
        in_door: false,
        acl: Table::default(),
        limits: Table::default(),
        log: Table::default(),
        system: Table::default(),
        packet_said: false,
        store_at: None,
        store_location: None,
        lines: Vec::new(),
        problems: Vec::new(),
    };
    importer.file(text, file, Some(include));
    importer.finish(file)
}

impl Importer<'_> {
    /// The listener that options are about.
    pub(super) fn door(&mut self) -> &mut Door {
        match self.doors.last_mut() {
            Some(door) if self.in_door => door,
            _ => &mut self.default_door,
        }
    }

    /// A path as Mosquitto opens it.
    pub(super) fn path(&self, text: &str) -> Value {
        Value::Text(self.working_directory.join(text).to_string_lossy().into_owned())
    }

    /// `include` is there in the main file only, as in Mosquitto.
    fn file(&mut self, text: &str, file: &Path, mut include: Option<Include<'_>>) {
        for (number, line) in text.lines().enumerate() {
            // Mosquitto knows a comment by its first byte and splits at spaces, not at tabs.
            if line.starts_with('#') {
                continue;
            }
            let trimmed = line.trim_matches(' ').trim_end();
            if trimmed.is_empty() {
                continue;
            }
            let (option, value) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
            let value = value.trim();
            let line = u32::try_from(number + 1).unwrap_or(u32::MAX);
            let at = At { file: Some(file.to_owned()), line, column: 0 };
            let index = self.lines.len();
            let (verdict, stops, note) = self.option(option, value, &at, &mut include);
            if stops {
                let message = if value.is_empty() { option.to_owned() } else { format!("{option} {value}") };
                self.problem(&at, format!("{message}: {note}"), None);
            }
            let (option, value) = (option.to_owned(), value.to_owned());
            // Before the lines of the files that this one included.
            self.lines
                .insert(index, Line { file: file.to_owned(), line, option, value, verdict, stops, note });
        }
    }

    fn option(
        &mut self,
        option: &str,
        value: &str,
        at: &At,
        include: &mut Option<Include<'_>>,
    ) -> (Verdict, bool, String) {
        let unsupported = |stops: bool, note: &str| (Verdict::Unsupported, stops, note.to_owned());
        let outcome = match options::find(option) {
            None => {
                let names = options::OPTIONS.iter().map(|(name, _)| *name);
                let hint = check::nearest(option, names)
                    .map_or(String::new(), |name| format!(": did you mean {name}?"));
                return unsupported(true, &format!("this is not an option of mosquitto.conf{hint}"));
            }
            Some(Does::Kept(note)) => Ok((Verdict::Kept, note.to_owned())),
            Some(Does::Dropped(note)) => return unsupported(false, note),
            Some(Does::Stops(note)) => return unsupported(true, note),
            Some(Does::Bridge) => {
                return unsupported(false, "part of a bridge: bridges are not available in this version");
            }
            Some(Does::PluginPart) => return unsupported(false, "part of a plugin: plugins are not loaded"),
            Some(Does::ZeroKept(note)) => match value {
                "0" => Ok((Verdict::Kept, "there is no such limit".to_owned())),
                _ => return unsupported(false, note),
            },
            Some(Does::Flag { holds, kept, otherwise }) => match (flag(value), otherwise) {
                (Err(problem), _) => Err(problem),
                (Ok(said), _) if said == holds => Ok((Verdict::Kept, kept.to_owned())),
                (Ok(_), Otherwise::Stops(note)) => Err(note.to_owned()),
                (Ok(_), Otherwise::Dropped(note)) => return unsupported(false, note),
                (Ok(_), Otherwise::Changed(note)) => Ok((Verdict::Changed, note.to_owned())),
            },
            Some(Does::Sets(options::Sets::IncludeDir)) => self.include_dir(value, include),
            Some(Does::Sets(what)) => self.set(what, value, at),
        };
        match outcome {
            Ok((verdict, note)) => (verdict, false, note),
            Err(note) => unsupported(true, &note),
        }
    }

    fn include_dir(&mut self, value: &str, include: &mut Option<Include<'_>>) -> Outcome {
        let Some(include) = include.as_mut() else {
            return Err("an included file cannot include others".to_owned());
        };
        let folder = self.working_directory.join(value);
        let files = include(&folder).map_err(|why| format!("cannot read {}: {why}", folder.display()))?;
        // As in Mosquitto, each file begins outside of any listener, and the including one goes on where it was.
        let in_door = self.in_door;
        let count = files.len();
        for (path, text) in files {
            self.in_door = false;
            self.file(&text, &path, None);
        }
        self.in_door = in_door;
        Ok((Verdict::Kept, format!("{count} files were read")))
    }

    pub(super) fn problem(&mut self, at: &At, message: String, hint: Option<&str>) {
        let file = at.file.clone().unwrap_or_default();
        let hint = hint.map(str::to_owned);
        self.problems.push(Problem { file, line: at.line, column: at.column, message, hint });
    }

    /// What can only be judged when all lines are read, and the result.
    fn finish(mut self, file: &Path) -> Import {
        let whole = At { file: Some(file.to_owned()), line: 0, column: 0 };
        let mut remarks = self.unsaid(&whole);
        self.close_doors(&whole);
        if self.acl.get("file").is_none() {
            self.problem(
                &whole,
                "there is no acl_file: Mosquitto then lets every client do everything".to_owned(),
                Some("write an acl_file that says who may do what"),
            );
        }
        remarks.push("names must be A-Z a-z 0-9 . _ : - @ and begin with a letter or a digit: a certificate with another common name, or with two, is refused".to_owned());
        remarks.push("certificates of X.509 version 1, such as openssl x509 -req of OpenSSL 3.0 makes without -extfile, are accepted as in Mosquitto (x509-v1 = \"accept\"): they do not say what they are for, so issue version 3 when you renew them".to_owned());
        remarks.push("an acl_file with %c needs client-id = \"identity\" or \"identity-prefix\" in our TOML, since any client may otherwise choose any client id".to_owned());

        remarks.push(
            "the operator commands use the socket signet.sock in the folder in which the broker is started"
                .to_owned(),
        );

        let mut root = Table::default();
        let doors = std::mem::take(&mut self.doors);
        let tables =
            doors.into_iter().map(|door| Node { at: door.at, value: Value::Table(door.table) }).collect();
        root.set("listener", Value::List(tables), &whole);
        // Said, since where the TOML is kept must not move it.
        let mut admin = Table::default();
        admin.set("socket", self.path("signet.sock"), &whole);
        let mut store = Table::default();
        if let Some(at) = &self.store_at {
            let location = self.store_location.clone().unwrap_or_default();
            let directory = Path::new(&location).join("signet-store");
            store.set("directory", self.path(&directory.to_string_lossy()), at);
        }
        let tables = [
            ("acl", self.acl),
            ("limits", self.limits),
            ("admin", admin),
            ("log", self.log),
            ("store", store),
            ("system", self.system),
        ];
        for (name, table) in tables {
            if !table.entries.is_empty() {
                root.set(name, Value::Table(table), &whole);
            }
        }
        let mut head = vec![format!("From {}.", file.display())];
        let told = self.lines.iter().filter(|line| line.verdict >= Verdict::Changed);
        head.extend(told.map(|line| format!("{} ({}): {}", line.option, line.verdict.as_str(), line.note)));
        head.extend(remarks.iter().map(|remark| format!("Remark: {remark}")));
        let toml = toml_text::write(&root, &head);
        let config = check::check(&root, file, self.working_directory, self.problems);
        Import { lines: self.lines, remarks, config, toml }
    }

    /// Every listener must be one that we would open: TLS, a certificate required, its name the user.
    fn close_doors(&mut self, whole: &At) {
        let default = std::mem::take(&mut self.default_door);
        if default.open {
            self.doors.insert(0, default);
        } else if let Some(entry) = default.table.get("max-connections") {
            // Mosquitto opens a plain listener on 1883 for this alone, which nobody means.
            for door in &mut self.doors {
                if door.table.get("max-connections").is_none() {
                    door.table.set("max-connections", entry.node.value.clone(), &entry.at);
                }
            }
        }
        if self.doors.is_empty() {
            self.problem(whole, "there is no listener: Mosquitto then listens on 127.0.0.1:1883 without TLS".to_owned(), Some("write listener 8883 with cafile, certfile, keyfile, require_certificate true and use_identity_as_username true"));
        }
        let mut doors = std::mem::take(&mut self.doors);
        for door in &mut doors {
            self.close_door(door);
        }
        self.doors = doors;
    }

    fn close_door(&mut self, door: &mut Door) {
        let at = door.at.clone();
        let host = door.host.clone().unwrap_or_else(|| if door.ipv6 { "[::]" } else { "0.0.0.0" }.to_owned());
        door.table.set("address", Value::Text(format!("{host}:{}", door.port)), &at);
        let name = format!("listener {}", door.port);
        let has = |key: &str| door.table.get(key).is_some();
        if !has("certificate") && !has("private-key") && !has("client-ca") {
            self.problem(&at, format!("{name} is without TLS, and this broker speaks MQTT over TLS only"), Some("remove the listener, or give it cafile, certfile, keyfile, require_certificate true and use_identity_as_username true"));
            return;
        }
        for (key, option) in
            [("client-ca", "cafile"), ("certificate", "certfile"), ("private-key", "keyfile")]
        {
            if !has(key) {
                self.problem(&at, format!("{name} has no {option}"), None);
            }
        }
        if !door.require_certificate {
            self.problem(
                &at,
                format!("{name} does not require a certificate: clients without one are never admitted here"),
                Some("write require_certificate true"),
            );
        }
        if !door.identity_as_username {
            self.problem(
                &at,
                format!(
                    "{name} takes user names from CONNECT: here the certificate's common name is the user"
                ),
                Some("write use_identity_as_username true"),
            );
        }
        // OpenSSL accepts client certificates without the extension and of version 1, and Mosquitto names with any
        // character.
        door.table.set("require-client-auth-eku", Value::Bool(false), &at);
        door.table.set("x509-v1", Value::Text("accept".to_owned()), &at);
        door.table.set("name-extra-characters", Value::Text("@".to_owned()), &at);
    }
}

/// Mosquitto's words for a flag.
pub(super) fn flag(value: &str) -> Result<bool, String> {
    match value.split(' ').next() {
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        _ => Err("the value must be true or false".to_owned()),
    }
}
