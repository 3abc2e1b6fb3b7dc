//! Files on disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::support::World;
use crate::tls::{ListenerSources, Source, SourceProblem};

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn a_private_key_that_others_can_read_is_refused() {
    let files = Files::new();
    let key = World::new().server.key_pem();
    for mode in [0o600, 0o400, 0o640, 0o440] {
        assert!(Source::read_private(&files.write(&format!("{mode:o}"), &key, mode)).is_ok());
    }
    for mode in [0o644, 0o604, 0o660, 0o620] {
        let error = Source::read_private(&files.write(&format!("{mode:o}"), &key, mode)).unwrap_err();
        assert_eq!(error.problem, SourceProblem::KeyReadable { mode });
    }
}

#[test]
fn missing_and_empty_files_are_told_apart() {
    let files = Files::new();
    let missing = Source::read(&files.dir.path().join("missing")).unwrap_err();
    assert_eq!(missing.problem, SourceProblem::Missing);
    assert!(missing.to_string().ends_with("missing: there is no such file"), "{missing}");
    let empty = Source::read(&files.write("empty", "\n", 0o644)).unwrap_err();
    assert_eq!(empty.problem, SourceProblem::Empty);
    let directory = Source::read(files.dir.path()).unwrap_err();
    assert!(matches!(directory.problem, SourceProblem::Unreadable { .. }), "{directory}");
}

#[test]
fn all_files_of_a_listener_are_looked_at() {
    let files = Files::new();
    let world = World::new();
    let certificate = files.write("server.crt", &world.server.chain_pem(), 0o644);
    let key = files.write("server.key", &world.server.key_pem(), 0o644);
    let missing = files.dir.path().join("ca.crt");
    let empty = files.write("ca.crl", "", 0o644);
    let errors = ListenerSources::read(&certificate, &key, &[missing], &[empty]).unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
    let key = files.write("good.key", &world.server.key_pem(), 0o600);
    let ca = files.write("good.crt", &world.root.certificate_pem(), 0o644);
    let sources = ListenerSources::read(&certificate, &key, &[ca], &[]).unwrap();
    assert_eq!(sources.content_hash().len(), 32);
}

#[test]
fn a_source_does_not_show_its_content() {
    let source = Source::new("server.key", World::new().server.key_pem());
    assert_eq!(format!("{source:?}"), "Source { file: \"server.key\", .. }");
}
