use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use super::super::{Batch, Change, Damaged, DiskStore, MemoryStore, MessagesError, Snapshot};
use super::*;

fn open(directory: &Path) -> Result<DiskStore, MessagesError> {
    DiskStore::open(directory, Damaged::Refuse).map(|opened| opened.store)
}

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    (dir, path)
}

fn batch(records: impl IntoIterator<Item = Record>) -> Batch {
    let mut ledger = Ledger::new();
    records.into_iter().for_each(|record| ledger.take_in(record));
    ledger.render(now())
}

fn retained(topic: &str, payload: &str) -> Batch {
    batch([Record::Retained(message(topic, payload))])
}

fn shown(store: &dyn MessageStore) -> Vec<String> {
    found(store).1.retained.iter().map(|message| show(message)).collect()
}

/// Waits for what the engine does in the background.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "it is not so after 20 s");
        std::thread::yield_now();
    }
}

/// The only journal of the engine.
fn journal(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("messages")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max().unwrap()
}

#[test]
fn what_was_committed_is_there_after_the_store_is_opened_again() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    store.commit(&retained("a", "1")).unwrap();
    store.commit(&retained("b", "2")).unwrap();
    store.commit(&retained("a", "3")).unwrap();
    let before = shown(&store);
    drop(store);
    let store = open(&path).unwrap();
    assert_eq!(shown(&store), before);
    assert_eq!(before, ["a=3", "b=2"]);
    assert_eq!(store.last_commit(), 3);
    assert!(store.size().disk_bytes > 0);
}

#[test]
fn rows_go_to_tables_when_they_are_as_many_as_memory_has_room_for() {
    let (_dir, path) = folder();
    let payload = "x".repeat(10_000);
    let fill = |store: &mut DiskStore| {
        for n in 0..20 {
            store.commit(&retained(&format!("t/{n}"), &payload)).unwrap();
        }
    };
    let mut store = open(&path).unwrap();
    fill(&mut store);
    assert_eq!(store.size().tables, 0, "200 kB are little");
    drop(store);
    // Also in a store that was made with other bounds.
    let mut store = DiskStore::open_bounded(&path, Damaged::Refuse, 50_000).unwrap().store;
    fill(&mut store);
    let until = Instant::now() + Duration::from_secs(20);
    while store.size().tables == 0 {
        assert!(Instant::now() < until, "a table is written");
        std::thread::yield_now();
    }
    drop(store);
    assert_eq!(shown(&open(&path).unwrap()).len(), 20);
}

#[test]
fn rows_that_are_in_a_table_leave_memory_though_nothing_more_is_written() {
    let (_dir, path) = folder();
    let mut store = DiskStore::open_bounded(&path, Damaged::Refuse, 50_000).unwrap().store;
    let payload = "x".repeat(60_000);
    store.commit(&retained("t", &payload)).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while store.size().memory_bytes > 0 {
        assert!(Instant::now() < until, "{:?}", store.size());
        store.rest();
        std::thread::yield_now();
    }
    assert_eq!(store.size().tables, 1);
    assert_eq!(shown(&store).len(), 1);
}

#[test]
fn rows_that_the_journal_had_at_the_start_go_to_a_table_as_those_that_come_do() {
    let (_dir, path) = folder();
    let payload = "x".repeat(30_000);
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", &payload)).unwrap();
    drop(store);
    // Together with what comes now they are longer than a table,
    let mut store = DiskStore::open_bounded(&path, Damaged::Refuse, 50_000).unwrap().store;
    assert_eq!(store.size().tables, 0);
    store.commit(&retained("b", &payload)).unwrap();
    until(|| store.size().tables == 1);
    drop(store);
    // and by themselves.
    let store = DiskStore::open_bounded(&path, Damaged::Refuse, 10_000).unwrap().store;
    until(|| store.size().tables == 2);
    assert_eq!(shown(&store).len(), 2);
}

#[test]
fn a_moment_is_read_whole_though_rows_leave_memory_meanwhile() {
    let (_dir, path) = folder();
    let mut store = DiskStore::open_bounded(&path, Damaged::Refuse, 50_000).unwrap().store;
    let payload = "x".repeat(30_000);
    for n in 0..8 {
        store.commit(&retained(&format!("t/{n}"), &payload)).unwrap();
    }
    let rows_of = |moment: &dyn Snapshot| {
        let mut rows = Vec::new();
        moment
            .for_each(&mut |key, value| {
                rows.push((key.to_vec(), value.len()));
                Ok(())
            })
            .unwrap();
        rows
    };
    let moment = store.snapshot().unwrap();
    let before = rows_of(&*moment);
    for n in 0..40 {
        store.commit(&retained(&format!("t/{}", n % 10), &format!("{payload}{n}"))).unwrap();
        store.rest();
        assert_eq!(rows_of(&*moment), before, "after {n} more");
    }
    drop(moment);
    store.rest();
    assert_eq!(rows_of(&*store.snapshot().unwrap()).len(), before.len() + 2);
}

#[test]
fn a_batch_that_is_longer_than_all_that_may_be_in_memory_is_written() {
    let (_dir, path) = folder();
    let mut store = DiskStore::open_bounded(&path, Damaged::Refuse, 1000).unwrap().store;
    for n in 0..10 {
        let long = "x".repeat(50_000);
        store.commit(&retained(&format!("t/{n}"), &long)).unwrap();
        let waits = store.size().memory_bytes;
        assert!(waits < 4 * 51_000, "{waits} bytes after {n} more");
    }
    drop(store);
    assert_eq!(shown(&open(&path).unwrap()).len(), 10);
}

#[test]
fn it_does_what_its_twin_in_memory_does() {
    let (_dir, path) = folder();
    let (mut disk, mut memory) = (open(&path).unwrap(), MemoryStore::new());
    let mut ledger = Ledger::new();
    // A small generator: which session, which entry, what happens.
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let shared = message("shared", "body");
    for round in 0..60 {
        for _ in 0..next(12) {
            let (session, number) = (next(4), next(6));
            let record = match next(9) {
                0 => Record::Session(session, stored("sensor-1")),
                1 => Record::Ended(session),
                2 => subscribed(session, ["a", "b/#"][number as usize % 2]),
                3 => Record::Sent(session, number, id(1)),
                4 => Record::Released(session, number),
                5 => Record::Done(session, number),
                6 => Record::Received(session, id(1 + number as u16)),
                7 => Record::Retained(message(&format!("t/{number}"), &round.to_string())),
                _ => queued(session, 100 * round + number, &shared),
            };
            ledger.take_in(record);
        }
        let batch = ledger.render(now());
        disk.commit(&batch).unwrap();
        memory.commit(&batch).unwrap();
        if next(6) == 0 {
            disk.reopen().unwrap();
        }
        let rows = |store: &dyn MessageStore| {
            let mut rows = Vec::new();
            store
                .for_each(&mut |key, value| {
                    rows.push((key.to_vec(), value.to_vec()));
                    Ok(())
                })
                .unwrap();
            // The number of the last commit is the disk's own affair.
            rows.retain(|(key, _)| *key != [0, 2]);
            rows
        };
        assert_eq!(rows(&disk), rows(&memory), "round {round}");
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    let snapshot = store.snapshot().unwrap();
    store.commit(&retained("a", "2")).unwrap();
    store.commit(&retained("b", "2")).unwrap();
    let mut keys = Vec::new();
    snapshot
        .for_each(&mut |key, value| {
            keys.push((key.to_vec(), value.ends_with(b"1")));
            Ok(())
        })
        .unwrap();
    assert_eq!(keys.last().unwrap(), &(b"\x30a".to_vec(), true));
    assert_eq!(shown(&store), ["a=2", "b=2"]);
}

#[test]
fn a_second_one_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, MessagesError::InUse(_)), "{refused}");
    assert!(refused.to_string().contains("another process"));
    store.commit(&retained("a", "1")).unwrap();
}

#[test]
fn a_folder_that_others_can_read_is_refused() {
    let (_dir, path) = folder();
    drop(open(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(open(&path).unwrap_err(), MessagesError::Exposed { mode: 0o750, .. }));
}

#[test]
fn a_store_of_a_newer_schema_is_refused_and_left_alone() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    let mut newer = retained("a", "1");
    newer.push(Change::Put(vec![0, 1], super::super::row::put_schema(2).into()));
    store.commit(&newer).unwrap();
    drop(store);
    for damaged in [Damaged::Refuse, Damaged::MoveAside] {
        let refused = DiskStore::open(&path, damaged).unwrap_err();
        assert!(matches!(refused, MessagesError::Newer { found: 2, supported: 1, .. }), "{refused}");
        assert!(refused.to_string().contains("use the newer program"));
    }
}

#[test]
fn a_batch_that_was_cut_off_is_not_there_and_those_before_it_are() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    let head = fs::read(path.join("messages.head")).unwrap();
    store.commit(&retained("b", &"x".repeat(20_000))).unwrap();
    drop(store);
    // The process was killed before it noted the commit.
    fs::write(path.join("messages.head"), &head).unwrap();
    let whole = fs::read(journal(&path)).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let second = whole.windows(20).position(|bytes| bytes == [b'x'; 20]).unwrap();
    // A page in the middle that never reached the disk, and every kind of end.
    let mut holed = whole.clone();
    holed[second + 8000..second + 12_000].fill(0);
    let cut = |to: usize| [&whole[..to], &vec![0; whole.len() - to]].concat();
    for (what, bytes) in [
        ("hole", holed),
        ("cut", cut(second + 5000)),
        ("end", cut(end - 2)),
        ("short", whole[..end - 9].to_vec()),
    ] {
        fs::write(journal(&path), &bytes).unwrap();
        let store = open(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(shown(&store), ["a=1"], "{what}");
        assert_eq!(store.last_commit(), 1);
        if what == "hole" {
            // The note may lag behind after a power failure: then this one was confirmed, and is not lost.
            assert!(copies(&path).iter().any(|copy| fs::read(copy).unwrap() == bytes), "{what}");
        }
    }
}

#[test]
fn what_a_full_disk_left_of_a_batch_is_cut_without_a_copy_unless_it_was_confirmed() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    let head = fs::read(path.join("messages.head")).unwrap();
    store.commit(&retained("b", &"x".repeat(20_000))).unwrap();
    drop(store);
    let confirmed = fs::read(path.join("messages.head")).unwrap();
    let whole = fs::read(journal(&path)).unwrap();
    let second = whole.windows(20).position(|bytes| bytes == [b'x'; 20]).unwrap();
    // The file ends where the disk had no more room.
    fs::write(journal(&path), &whole[..second + 5000]).unwrap();
    fs::write(path.join("messages.head"), &head).unwrap();
    let store = open(&path).unwrap();
    assert_eq!((shown(&store), copies(&path).len()), (vec!["a=1".to_owned()], 0));
    drop(store);
    fs::write(journal(&path), &whole[..second + 5000]).unwrap();
    fs::write(path.join("messages.head"), &confirmed).unwrap();
    drop(open(&path));
    assert!(copies(&path).iter().any(|copy| fs::read(copy).unwrap() == whole[..second + 5000]));
}

/// Journals that were copied aside.
fn copies(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("messages.journal-")).collect()
}

#[test]
fn a_journal_that_the_engine_would_cut_is_copied_first_and_few_copies_are_kept() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    drop(store);
    assert!(open(&path).is_ok() && copies(&path).is_empty(), "all is well");
    let whole = fs::read(journal(&path)).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let bytes = [&whole[..end], &[0xEE; 5]].concat();
    for _ in 0..8 {
        fs::write(journal(&path), &bytes).unwrap();
        let before = copies(&path);
        let store = open(&path).unwrap();
        assert_eq!(shown(&store), ["a=1"]);
        drop(store);
        let new = copies(&path).into_iter().find(|copy| !before.contains(copy));
        // Two in one millisecond have one name.
        assert!(new.is_none_or(|copy| fs::read(copy).unwrap() == bytes));
        assert!((1..=4).contains(&copies(&path).len()));
    }
}

#[test]
fn zeros_with_something_behind_them_are_damage_and_zeros_up_to_the_end_are_room() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    let head = fs::read(path.join("messages.head")).unwrap();
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let first = end(&fs::read(journal(&path)).unwrap());
    store.commit(&retained("b", "2")).unwrap();
    let second = end(&fs::read(journal(&path)).unwrap());
    store.commit(&retained("c", "3")).unwrap();
    drop(store);
    let confirmed = fs::read(path.join("messages.head")).unwrap();
    let whole = fs::read(journal(&path)).unwrap();
    // The second batch never reached the disk, or was overwritten, and the third did.
    let mut holed = whole.clone();
    holed[first..second].fill(0);
    let damage = |head: &[u8]| {
        fs::write(journal(&path), &holed).unwrap();
        fs::write(path.join("messages.head"), head).unwrap();
        copies(&path).iter().for_each(|copy| fs::remove_file(copy).unwrap());
    };
    // As after a power failure: what is known to be confirmed is there, and the rest is kept as a copy.
    damage(&head);
    assert_eq!(shown(&open(&path).unwrap()), ["a=1"]);
    assert!(copies(&path).iter().any(|copy| fs::read(copy).unwrap() == holed));
    // What was confirmed is gone: refused, and the engine, which cuts it off all the same, leaves a copy.
    damage(&confirmed);
    assert!(matches!(open(&path).unwrap_err(), MessagesError::Corrupt { .. }));
    assert!(copies(&path).iter().any(|copy| fs::read(copy).unwrap() == holed));
    damage(&confirmed);
    assert!(DiskStore::open(&path, Damaged::MoveAside).unwrap().moved_aside.is_some());
    assert!(copies(&path).iter().any(|copy| fs::read(copy).unwrap() == holed));
    // Room alone, as much or as little of it as there may be.
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    drop(store);
    let whole = fs::read(journal(&path)).unwrap();
    let first = end(&whole);
    for room in [0, 1, 12, 20, 200_000] {
        fs::write(journal(&path), [&whole[..first], &vec![0; room]].concat()).unwrap();
        assert_eq!(shown(&open(&path).unwrap()), ["a=1"]);
        assert!(copies(&path).is_empty(), "{room}");
    }
}

#[test]
fn a_confirmed_batch_that_is_gone_is_damage_and_not_forgotten() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    store.commit(&retained("b", &"x".repeat(20_000))).unwrap();
    drop(store);
    let whole = fs::read(journal(&path)).unwrap();
    let second = whole.windows(20).position(|bytes| bytes == [b'x'; 20]).unwrap();
    let mut holed = whole.clone();
    holed[second + 8000] ^= 1;
    for bytes in [holed, whole[..second].to_vec()] {
        fs::write(journal(&path), bytes).unwrap();
        let refused = open(&path).unwrap_err();
        assert!(matches!(refused, MessagesError::Corrupt { .. }), "{refused}");
        assert!(refused.to_string().contains("signet restore") && refused.to_string().contains("quarantine"));
    }
}

#[test]
fn a_damaged_store_is_moved_aside_when_that_is_asked_for() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    drop(store);
    fs::write(journal(&path), b"\x01\x02").unwrap();
    assert!(open(&path).is_err());
    let opened = DiskStore::open(&path, Damaged::MoveAside).unwrap();
    let (aside, why) = opened.moved_aside.unwrap();
    assert!(aside.join("version").exists(), "what was there is kept");
    assert!(matches!(why, MessagesError::Corrupt { .. }));
    assert_eq!(shown(&opened.store), [""; 0]);
    drop(opened.store);
    assert!(open(&path).is_ok());
}

#[test]
fn a_store_whose_files_are_gone_is_not_made_anew_by_itself() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    store.commit(&retained("a", "1")).unwrap();
    drop(store);
    fs::remove_dir_all(path.join("messages")).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(refused.to_string().contains("its files are gone"), "{refused}");
}

#[test]
fn no_byte_that_is_changed_in_any_file_makes_it_panic_or_say_something_else() {
    let (_dir, path) = folder();
    let mut store = open(&path).unwrap();
    for round in 0..8 {
        store.commit(&retained("a", &round.to_string())).unwrap();
    }
    // Into tables, so that these are tried too.
    store.reopen().unwrap();
    store.commit(&retained("b", "1")).unwrap();
    let good = shown(&store);
    drop(store);
    let mut files = Vec::new();
    let mut folders = vec![path.join("messages")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    let copy = tempfile::tempdir().unwrap();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let Some(end) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
        for at in (0..=end).step_by((end / 12).max(1)) {
            let there = copy.path().join("data");
            drop(fs::remove_dir_all(&there));
            copy_folder(&path, &there);
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            fs::write(there.join(file.strip_prefix(&path).unwrap()), bytes).unwrap();
            let Ok(store) = open(&there) else { continue };
            let mut rows = Vec::new();
            let loaded = load(&store, &there, now(), &mut |left| {
                if let Left::Retained(message) = left {
                    rows.push(show(&message));
                }
            });
            if loaded.is_ok() {
                assert_eq!(rows, good, "{} byte {at}", file.display());
            }
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            // Without the zeros behind the end of a journal.
            let bytes = fs::read(entry.path()).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |end| end + 1);
            fs::write(to, &bytes[..end]).unwrap();
        }
    }
}
