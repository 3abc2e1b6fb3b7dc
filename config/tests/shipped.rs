//! The configurations that are shipped: they load, and none of them would load with a key that does not exist.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use signet_config::mosquitto::{self, Verdict};
use signet_config::{Checked, KEYS, Section, parse};
use std::path::{Path, PathBuf};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped_toml() -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let toml = files
        .filter(|path| path.extension().is_some_and(|end| end == "toml") && !path.ends_with("Cargo.toml"));
    let files: Vec<_> = toml.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    assert!(files.len() >= 2, "no shipped configurations found in {}", folder().display());
    files
}

#[test]
fn every_shipped_configuration_loads_without_a_warning() {
    for (path, _) in shipped_toml() {
        let checked = signet_config::load(&path)
            .unwrap_or_else(|problems| panic!("{}", signet_config::render(&problems)));
        assert!(checked.warnings.is_empty(), "{}: {:?}", path.display(), checked.warnings);
    }
}

#[test]
fn a_shipped_configuration_with_an_unknown_key_in_any_table_is_refused_at_that_line() {
    for (path, text) in shipped_toml() {
        let lines: Vec<&str> = text.lines().collect();
        let headers: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].starts_with('[')).collect();
        assert!(headers.len() >= 5, "{}: too few tables found", path.display());
        for header in headers {
            let mut with = lines.clone();
            with.insert(header + 1, "frobnication-bytes-max = 1");
            let problems = parse(&with.join("\n"), &path).expect_err("an unknown key must be refused");
            assert_eq!(problems.len(), 1, "{}: {problems:?}", lines[header]);
            assert_eq!(problems[0].line as usize, header + 2, "{}: {problems:?}", lines[header]);
            assert!(problems[0].message.contains("unknown key \"frobnication-bytes-max\""), "{problems:?}");
        }
        let before_all = format!("frobnication-bytes-max = 1\n{text}");
        let problems =
            parse(&before_all, &path).expect_err("an unknown key outside of tables must be refused");
        assert_eq!((problems.len(), problems[0].line), (1, 1), "{problems:?}");
    }
}

/// What is commented out in the production configuration is said to be the default: uncommenting it changes nothing.
#[test]
fn the_defaults_shown_as_comments_are_the_defaults() {
    let path = folder().join("signet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let shown = |line: &str| {
        let (name, value) = line.strip_prefix("# ")?.split_once(" = ")?;
        let key =
            KEYS.iter().find(|key| key.name == name && !key.default.is_empty() && key.default != "[]")?;
        Some((key, value.split(" #").next().unwrap_or_default().trim().to_owned()))
    };
    let read = |text: &str| parse(text, &path).unwrap_or_else(|problems| panic!("{problems:?}"));
    let plain: Checked = read(&text);
    let mut count = 0;
    for line in text.lines() {
        if let Some((key, value)) = shown(line) {
            let changed = text.replace(line, &format!("{} = {value}", key.name));
            assert_eq!(read(&changed), plain, "{line}");
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} defaults were recognised");
}

#[test]
fn every_section_of_the_table_of_keys_has_keys_and_every_key_a_default_that_is_accepted() {
    for section in Section::ALL {
        assert!(section.keys().count() > 0, "{}", section.name());
    }
    // Lists of tables, which have keys that must be there: their own tests have them.
    let lists = [Section::Listener, Section::CaPrevious, Section::Https, Section::EstLabel];
    for key in KEYS.iter().filter(|key| !key.default.is_empty() && !lists.contains(&key.section)) {
        let line = format!("{} = {}", key.name, key.default);
        let (own, acl) = if key.section == Section::Acl {
            (String::new(), line)
        } else {
            // An authority needs a registry.
            let registry = if key.section == Section::Ca { "[registry]\nmode = \"on\"\n" } else { "" };
            // What is on disk needs a place there.
            let place = match (key.section, key.name) {
                (Section::Store, "batched-interval") => "directory = 'd'\ndurability = 'batched'\n",
                (Section::Store, _) => "directory = 'd'\n",
                _ => "",
            };
            (format!("{registry}[{}]\n{place}{line}\n", key.section.name()), String::new())
        };
        let text = format!(
            "[[listener]]\naddress = '[::]:1'\ncertificate = 'c'\nprivate-key = 'k'\nclient-ca = ['a']\n[acl]\nfile = 'p'\n{acl}\n{own}"
        );
        assert!(parse(&text, Path::new("x.toml")).is_ok(), "{text}\n{:?}", parse(&text, Path::new("x.toml")));
    }
}

#[test]
fn the_lesson_for_mosquitto_is_understood_whole_and_unchanged() {
    let path = folder().join("mosquitto-lesson.conf");
    let import = mosquitto::load(&path, Path::new("/srv/lesson")).unwrap();
    let checked =
        import.config.as_ref().unwrap_or_else(|problems| panic!("{}", signet_config::render(problems)));
    assert_eq!(checked.listeners.len(), 1);
    let listener = &checked.listeners[0];
    assert_eq!(listener.address.to_string(), "0.0.0.0:8883");
    assert_eq!(listener.client_ca, [Path::new("/srv/lesson/certs/ca.crt")]);
    assert_eq!(listener.certificate, Path::new("/srv/lesson/certs/server.crt"));
    assert_eq!(listener.private_key, Path::new("/srv/lesson/certs/server.key"));
    assert_eq!(listener.crl, [Path::new("/srv/lesson/certs/ca.crl")]);
    assert_eq!(listener.connections_max.get(), 1000);
    assert_eq!(checked.acl.file, Path::new("/srv/lesson/acl"));
    assert!(
        import.lines.iter().all(|line| line.verdict != Verdict::Unsupported && !line.stops),
        "{:?}",
        import.lines
    );
}

#[test]
fn the_systemd_unit_allows_as_many_files_as_the_shipped_configuration_may_need() {
    let unit = std::fs::read_to_string(folder().join("signet.service")).unwrap();
    let files: u32 =
        unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE=")).unwrap().parse().unwrap();
    let checked = signet_config::load(&folder().join("signet.toml")).unwrap();
    let connections: u32 = checked.listeners.iter().map(|listener| listener.connections_max.get()).sum();
    assert!(files > connections + 1000, "{files} files for {connections} connections");
    assert!(unit.contains("Restart=on-failure"));
}
