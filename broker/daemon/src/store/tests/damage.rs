//! A database that is not what was stored is refused with what to do, and left as it is.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};

use signet_registry::audit::Why;

use super::*;
use crate::store::place::Place;
use crate::store::{StoreError, schema, verify_file};

/// A closed registry with some events, and their number.
fn closed() -> (Home, u64) {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    for n in 0..20 {
        authority.issue(&service, &format!("sensor-{n}"));
    }
    let events = service.head().seq;
    drop(service);
    (home, events)
}

fn why(error: &StoreError) -> (u64, Why) {
    match error {
        StoreError::Audit { broken, .. } => (broken.seq, broken.why),
        other => panic!("{other}"),
    }
}

/// What was done to the file is refused by whoever opens it, and by `audit verify`, and nothing is changed by that.
fn refused(home: &Home) -> StoreError {
    let before = std::fs::read(home.database()).unwrap();
    let error = home.refusal();
    assert_eq!(std::fs::read(home.database()).unwrap(), before);
    assert!(error.to_string().contains("hint"), "{error}");
    verify_file(&home.database(), None).unwrap_err();
    error
}

#[test]
fn an_edited_event_is_found_at_its_row() {
    let (home, _) = closed();
    home.tamper("UPDATE event SET event = replace(event, 'sensor-3\"', 'sensor-4\"') WHERE seq = 8");
    assert_eq!(why(&refused(&home)), (8, Why::Edited));
}

#[test]
fn an_event_with_a_new_hash_of_its_own_is_found_at_the_next_row() {
    let (home, _) = closed();
    home.tamper("UPDATE event SET hash = zeroblob(32) WHERE seq = 8");
    assert_eq!(why(&refused(&home)), (8, Why::Edited));
    home.tamper("UPDATE event SET previous = zeroblob(32) WHERE seq = 8");
    assert_eq!(why(&refused(&home)), (8, Why::Link));
}

#[test]
fn a_removed_event_is_found_in_the_middle_and_at_the_end() {
    let (home, events) = closed();
    home.tamper(&format!("DELETE FROM event WHERE seq = {events}"));
    assert_eq!(why(&refused(&home)), (events, Why::CutOff));
    home.tamper("DELETE FROM event WHERE seq = 8");
    assert_eq!(why(&refused(&home)), (8, Why::Sequence { found: 9 }));
    home.tamper("DELETE FROM event");
    assert_eq!(why(&refused(&home)), (1, Why::CutOff));
}

#[test]
fn events_that_changed_places_are_found() {
    let (home, _) = closed();
    home.tamper(
        "UPDATE event SET seq = -1 WHERE seq = 8; UPDATE event SET seq = 8 WHERE seq = 9;
         UPDATE event SET seq = 9 WHERE seq = -1",
    );
    assert_eq!(why(&refused(&home)), (8, Why::Link));
}

#[test]
fn a_trail_that_was_cut_with_its_noted_end_is_an_older_copy() {
    let (home, events) = closed();
    home.tamper(&format!(
        "DELETE FROM event WHERE seq = {events};
         UPDATE head SET seq = {0}, hash = (SELECT hash FROM event WHERE seq = {0})",
        events - 1
    ));
    // By itself the file is in order.
    verify_file(&home.database(), None).unwrap();
    assert!(matches!(home.refusal(), StoreError::OlderCopy { known, .. } if known.seq == events));
}

#[test]
fn a_running_registry_finds_that_its_end_was_cut_off() {
    let home = Home::new();
    let service = home.open();
    for thing in ["a", "b", "c"] {
        service.execute(add(thing), operator()).unwrap();
    }
    let head = service.head();
    assert_eq!(service.verify_audit(Some(head)).unwrap(), head);
    home.tamper(
        "DELETE FROM event WHERE seq = 3; UPDATE head SET seq = 2, hash = (SELECT hash FROM event WHERE seq = 2)",
    );
    assert!(matches!(service.verify_audit(None).unwrap_err(), StoreError::OlderCopy { found: 2, .. }));
}

#[test]
fn a_head_that_is_known_from_elsewhere_must_be_in_the_trail() {
    let (home, events) = closed();
    let head = verify_file(&home.database(), None).unwrap();
    assert_eq!(verify_file(&home.database(), Some(head)).unwrap().seq, events);
    let (other, _) = closed();
    assert_eq!(why(&verify_file(&other.database(), Some(head)).unwrap_err()), (events, Why::Rewritten));
}

#[test]
fn an_older_copy_that_was_put_in_place_is_refused() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    drop(service);
    let older = std::fs::read(home.database()).unwrap();
    let service = home.open();
    service.execute(add("b"), operator()).unwrap();
    drop(service);
    std::fs::write(home.database(), older).unwrap();
    assert!(matches!(home.refusal(), StoreError::OlderCopy { found: 1, known, .. } if known.seq == 2));
}

#[test]
fn a_lost_write_ahead_log_is_noticed() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let killed = home.as_if_killed();
    std::fs::remove_file(killed.file("registry.db-wal")).unwrap();
    assert!(matches!(killed.refusal(), StoreError::OlderCopy { found: 0, known, .. } if known.seq == 1));
}

#[test]
fn a_database_that_is_gone_is_not_made_anew() {
    let (home, events) = closed();
    std::fs::remove_file(home.database()).unwrap();
    let error = home.refusal();
    assert!(matches!(&error, StoreError::Missing { known, .. } if known.seq == events), "{error}");
    assert!(error.to_string().contains("signet restore"), "{error}");
    assert!(!home.database().exists());
    std::fs::write(home.database(), b"").unwrap();
    private(&home.database(), 0o600);
    assert!(matches!(home.refusal(), StoreError::Corrupt { .. }));
}

#[test]
fn a_write_ahead_log_without_its_database_is_refused() {
    let home = Home::new();
    std::fs::create_dir(home.directory()).unwrap();
    private(&home.directory(), 0o700);
    std::fs::write(home.file("registry.db-wal"), b"x").unwrap();
    assert!(matches!(home.refusal(), StoreError::Corrupt { .. }));
}

#[test]
fn a_truncated_database_is_refused() {
    let (home, _) = closed();
    let length = std::fs::metadata(home.database()).unwrap().len();
    for keep in [length - 4096, length / 2, 4096, 100, 10] {
        let file = OpenOptions::new().write(true).open(home.database()).unwrap();
        file.set_len(keep).unwrap();
        let error = refused(&home);
        assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Audit { .. }), "{keep}: {error}");
    }
}

#[test]
fn a_flipped_byte_anywhere_in_the_events_is_never_taken_for_the_truth() {
    let (home, _) = closed();
    let whole = std::fs::read(home.database()).unwrap();
    let reference = home.as_if_killed().open().snapshot();
    let mut found = 0;
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        std::fs::write(home.database(), &bytes).unwrap();
        let damaged = home.as_if_killed();
        match RegistryService::open_with(&damaged.directory(), options()) {
            Err(_) => found += 1,
            // Free space, or a column that is only searched by.
            Ok(service) => assert_eq!(*service.snapshot(), *reference, "byte {at}"),
        }
    }
    assert!(found > 40, "only {found} of 98 were noticed");
}

#[test]
fn something_that_is_no_database_is_refused() {
    let home = Home::new();
    std::fs::create_dir(home.directory()).unwrap();
    private(&home.directory(), 0o700);
    std::fs::write(home.database(), "not a database, but long enough to look at for a while ".repeat(100))
        .unwrap();
    private(&home.database(), 0o600);
    assert!(matches!(refused(&home), StoreError::Corrupt { .. }));
}

#[test]
fn a_database_of_another_program_is_refused() {
    let home = Home::new();
    std::fs::create_dir(home.directory()).unwrap();
    private(&home.directory(), 0o700);
    home.tamper("CREATE TABLE t (a)");
    private(&home.database(), 0o600);
    assert!(matches!(refused(&home), StoreError::Foreign(_)));
}

#[test]
fn a_newer_schema_is_refused_and_stays() {
    let (home, _) = closed();
    home.tamper("PRAGMA user_version = 99");
    assert!(matches!(refused(&home), StoreError::Newer { found: 99, .. }));
}

#[test]
fn an_event_of_a_newer_version_is_refused() {
    let home = Home::new();
    drop(home.open());
    let event = "{\"v\":99,\"something\":\"new\"}";
    let mut file = OpenOptions::new().read(true).write(true).open(home.file("registry.head")).unwrap();
    let row = signet_registry::audit::Head::EMPTY.next(&signet_registry::Event::refused(
        signet_registry::Attempt::Issue,
        &"",
        0,
        Actor::Broker,
        NOW,
    ));
    // The hash of a text that this version cannot write has to be computed here.
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(b"signet audit trail 1\0");
    context.update(&[0; 32]);
    context.update(&row.seq.to_be_bytes());
    context.update(event.as_bytes());
    let hash: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    home.tamper(&format!(
        "INSERT INTO event VALUES (1, '{event}', zeroblob(32), x'{hash}', 0, 'new', NULL, NULL);
         INSERT INTO head VALUES (1, 1, x'{hash}')"
    ));
    let error = home.refusal();
    assert!(error.to_string().contains("version 99"), "{error}");
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("00000000000000000000:"), "the refusal noted nothing: {text}");
}

#[test]
fn files_that_others_can_read_are_refused() {
    let (home, _) = closed();
    private(&home.database(), 0o640);
    assert!(matches!(home.refusal(), StoreError::Exposed { mode: 0o640, .. }));
    private(&home.database(), 0o600);
    private(&home.directory(), 0o755);
    assert!(matches!(home.refusal(), StoreError::Exposed { mode: 0o755, .. }));
    private(&home.directory(), 0o700);
    home.open();
}

#[test]
fn everything_that_is_made_is_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    assert_eq!(std::fs::metadata(home.directory()).unwrap().permissions().mode() & 0o777, 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(home.directory()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 4, "database, log, lock, head: {files}");
}

#[test]
fn a_half_written_note_of_the_head_is_no_reason_to_refuse() {
    let (home, events) = closed();
    let mut file = OpenOptions::new().write(true).truncate(true).open(home.file("registry.head")).unwrap();
    file.write_all(b"00000000").unwrap();
    assert_eq!(home.open().head().seq, events);
}

#[test]
fn migrations_run_once_in_order_and_each_whole_or_not_at_all() {
    let home = Home::new();
    let path = home.outer.path().join("m.db");
    let mut connection = rusqlite::Connection::open(&path).unwrap();
    schema::migrate(&mut connection, &path, &["CREATE TABLE a (x)"]).unwrap();
    connection.execute_batch("INSERT INTO a VALUES (1)").unwrap();
    let broken = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y; INSERT INTO nowhere VALUES (1)"];
    schema::migrate(&mut connection, &path, &broken).unwrap_err();
    let columns = || connection_columns(&path);
    assert_eq!(columns(), 1);
    let good = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y DEFAULT 2"];
    schema::migrate(&mut connection, &path, &good).unwrap();
    schema::migrate(&mut connection, &path, &good).unwrap();
    assert_eq!(columns(), 2);
    let sum: i64 = connection.query_row("SELECT x + y FROM a", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 3);
}

fn connection_columns(path: &Path) -> usize {
    let connection = rusqlite::Connection::open(path).unwrap();
    let statement = connection.prepare("SELECT * FROM a").unwrap();
    statement.column_count()
}

#[test]
fn an_unfinished_first_start_is_finished_by_the_next() {
    let home = Home::new();
    let place = Place::take(&home.directory()).unwrap();
    std::fs::write(home.file("registry.db.new"), b"half").unwrap();
    drop(place);
    assert_eq!(home.open().head().seq, 0);
}
