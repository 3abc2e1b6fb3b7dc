//! Copies while the registry is in use, and putting them back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::store::{ExecuteError, StoreError, restore, verify_file};

#[test]
fn a_copy_that_was_made_while_commands_went_on_is_whole_and_can_be_put_back() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    for n in 0..50 {
        authority.issue(&service, &format!("before-{n}"));
    }
    let to = home.outer.path().join("copy.db");
    let stop = AtomicBool::new(false);
    let copied = thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                service.execute(add(&format!("meanwhile-{n}")), operator()).unwrap();
                n += 1;
            }
        });
        let copied = service.backup(&to);
        stop.store(true, Ordering::SeqCst);
        copied.unwrap()
    });
    assert!(copied.head.seq >= 101);
    assert_eq!(verify_file(&to, Some(copied.head)).unwrap(), copied.head);
    assert_eq!(copied.bytes, std::fs::metadata(&to).unwrap().len());
    // Its end is a row of the trail that went on.
    assert!(service.verify_audit(Some(copied.head)).unwrap().seq >= copied.head.seq);

    let other = Home::new();
    let restored = restore(&to, &other.directory(), false, &operator()).unwrap();
    assert_eq!((restored.head, restored.replaced.clone(), restored.revocations_kept), (copied.head, None, 0));
    let reopened = other.open();
    assert_eq!(reopened.head().seq, copied.head.seq + 1, "and a note of the restoring");
    assert_eq!(reopened.registry().counts().active, 50);
    reopened.verify_audit(Some(copied.head)).unwrap();
}

#[test]
fn a_copy_never_overwrites_and_leaves_nothing_behind_when_it_fails() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let to = home.outer.path().join("copy.db");
    std::fs::write(&to, "precious").unwrap();
    assert!(matches!(service.backup(&to).unwrap_err(), StoreError::Exists(_)));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "precious");
    let nowhere = home.outer.path().join("missing/copy.db");
    assert!(matches!(service.backup(&nowhere).unwrap_err(), StoreError::Io { .. }));
    let names: Vec<_> =
        std::fs::read_dir(home.outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_copy_is_for_this_user_alone_and_one_file() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let folder = home.outer.path().join("copies");
    std::fs::create_dir(&folder).unwrap();
    service.backup(&folder.join("copy.db")).unwrap();
    let entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn restoring_an_old_copy_keeps_later_revocations() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let stays = authority.issue(&service, "stays");
    let revoked = authority.issue(&service, "revoked");
    let to = home.outer.path().join("copy.db");
    let copied = service.backup(&to).unwrap();
    revoked.revoke(&service);
    let later = authority.issue(&service, "later");
    later.revoke(&service);
    let events = service.head().seq;
    drop(service);

    let refused = restore(&to, &home.directory(), false, &operator()).unwrap_err();
    assert!(matches!(refused, ExecuteError::Store(StoreError::Exists(_))), "{refused}");
    let restored = restore(&to, &home.directory(), true, &operator()).unwrap();
    assert_eq!(restored.head, copied.head);
    assert_eq!(restored.events_lost, events - copied.head.seq);
    assert_eq!(restored.revocations_kept, 2);
    assert!(!restored.revocations_unknown);
    assert!(restored.replaced.as_ref().unwrap().exists());

    let service = home.open();
    assert_eq!(stays.standing(&service), "active");
    assert_eq!(revoked.standing(&service), "revoked");
    // Its certificate is unknown here; its number is not.
    assert_eq!(later.standing(&service), "revoked");
}

#[test]
fn a_damaged_registry_can_be_replaced_and_what_is_lost_is_said() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let to = home.outer.path().join("copy.db");
    service.backup(&to).unwrap();
    service.execute(add("b"), operator()).unwrap();
    drop(service);
    std::fs::write(home.database(), "no longer a database").unwrap();
    home.refusal();
    let restored = restore(&to, &home.directory(), true, &operator()).unwrap();
    assert!(restored.revocations_unknown);
    assert_eq!(std::fs::read_to_string(restored.replaced.unwrap()).unwrap(), "no longer a database");
    assert_eq!(home.open().registry().things_count(), 1);
}

#[test]
fn a_registry_whose_database_is_gone_can_be_restored() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let to = home.outer.path().join("copy.db");
    service.backup(&to).unwrap();
    drop(service);
    std::fs::remove_file(home.database()).unwrap();
    restore(&to, &home.directory(), false, &operator()).unwrap_err();
    restore(&to, &home.directory(), true, &operator()).unwrap();
    assert_eq!(home.open().registry().things_count(), 1);
}

#[test]
fn a_damaged_copy_is_refused_and_what_is_there_stays() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let to = home.outer.path().join("copy.db");
    service.backup(&to).unwrap();
    service.execute(add("b"), operator()).unwrap();
    let head = service.head();
    assert!(matches!(
        restore(&to, &home.directory(), true, &operator()).unwrap_err(),
        ExecuteError::Store(StoreError::InUse(_))
    ));
    drop(service);
    let connection = rusqlite::Connection::open(&to).unwrap();
    connection.execute_batch("UPDATE event SET event = replace(event, '\"a\"', '\"c\"')").unwrap();
    drop(connection);
    let refused = restore(&to, &home.directory(), true, &operator()).unwrap_err();
    assert!(matches!(refused, ExecuteError::Store(StoreError::Audit { .. })), "{refused}");
    assert_eq!(home.open().head(), head);
}

#[test]
fn restoring_an_old_copy_keeps_later_suspensions_and_quarantines() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let suspended = authority.issue(&service, "suspended");
    let watched = authority.issue(&service, "watched");
    let to = home.outer.path().join("copy.db");
    service.backup(&to).unwrap();
    let name = ThingName::try_from("suspended").unwrap();
    service.execute(Command::Suspend(Selector::thing(name)), operator()).unwrap();
    let thing = ThingName::try_from("watched").unwrap();
    service.execute(Command::Quarantine { thing, why: Line::new("two of them") }, operator()).unwrap();
    drop(service);

    let restored = restore(&to, &home.directory(), true, &operator()).unwrap();
    assert_eq!(restored.revocations_kept, 2);
    let service = home.open();
    assert_eq!(suspended.standing(&service), "inactive");
    assert_eq!(watched.standing(&service), "active");
    assert!(
        service
            .registry()
            .things(None)
            .all(|thing| (&*thing.spec.name == "watched") == thing.quarantine.is_some())
    );
}

#[test]
fn a_restore_that_was_cut_off_before_its_last_step_loses_no_revocation() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let revoked = authority.issue(&service, "revoked");
    let to = home.outer.path().join("copy.db");
    service.backup(&to).unwrap();
    revoked.revoke(&service);
    drop(service);
    // The old one was moved aside, and the power failed.
    let aside = home.database().with_file_name("registry.db.replaced-1");
    std::fs::rename(home.database(), &aside).unwrap();
    home.refusal();
    let restored = restore(&to, &home.directory(), true, &operator()).unwrap();
    assert_eq!(restored.revocations_kept, 1);
    assert_eq!(revoked.standing(&home.open()), "revoked");
}
