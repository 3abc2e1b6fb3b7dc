//! The broker is killed at random moments while it issues and revokes; after each start nothing that it promised is lost.
//!
//! 20 cycles by default. `SIGNET_CRASH_CYCLES=200` runs more, `SIGNET_CRASH_SEED=N` repeats a run's
//! moments. What it did is told in `crash_registry.txt` in the target directory's `tmp`.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod kills;
mod peer;
mod setup;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kills::{Kills, pause};
use serde_json::Value;
use setup::Setup;
use signet_identity::CertificateId;

const SEED: u64 = 0x5167_6e65_7421;
/// A kill comes after fewer answers than this,
const ANSWERS: u64 = 5;
/// and then within this time: in the middle of what comes next.
const LIFE_MAX: Duration = Duration::from_millis(60);
/// Devices that one bulk command adds.
const BULK: u64 = 25;

/// What the broker has said that it did.
#[derive(Default)]
struct Promised {
    /// Names and the ids of the certificates that were given to them.
    issued: BTreeMap<String, String>,
    revoked: BTreeSet<String>,
}

/// Operators at work until the broker is gone.
struct Work<'a> {
    setup: &'a Setup,
    promised: Mutex<Promised>,
    next: AtomicU64,
    answers: AtomicU64,
    over: AtomicBool,
}

impl Work<'_> {
    /// A command's answer; `None` when the broker did not give one.
    fn ask(&self, args: &[&str]) -> Option<Value> {
        let mut all = args.to_vec();
        all.extend(["--config", "signet.toml", "--json"]);
        let output = self.setup.command(&all).stderr(Stdio::null()).output().unwrap();
        let answer = output.status.success().then(|| serde_json::from_slice(&output.stdout).ok());
        self.answers.fetch_add(u64::from(output.status.success()), Ordering::Relaxed);
        answer.flatten()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn new_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn issue(&self) {
        while self.goes_on() {
            let name = format!("one-{:06}", self.new_number());
            if let Some(added) = self.ask(&["device", "add", &name, "--key", "--out", "out"]) {
                let id = added["devices"][0]["certificate"]["id"].as_str().unwrap().to_owned();
                self.promised.lock().unwrap().issued.insert(name, id);
            }
        }
    }

    /// What a bulk command promises stands in the folders that it has completed.
    fn issue_many(&self) {
        while self.goes_on() {
            let first = self.new_number();
            let names: String = (0..BULK).map(|n| format!("bulk-{first:06}-{n}\n")).collect();
            let file = format!("serials-{first}.csv");
            fs::write(self.setup.path(&file), format!("name\n{names}")).unwrap();
            self.ask(&["device", "add", "--from", &file, "--out", "out"]);
        }
    }

    fn revoke(&self) {
        // One whose answer was lost is revoked already, and asked for no more than once.
        let mut asked = BTreeSet::new();
        while self.goes_on() {
            let next = {
                let promised = self.promised.lock().unwrap();
                let open = |name: &&String| !promised.revoked.contains(*name) && !asked.contains(*name);
                promised.issued.keys().find(open).cloned()
            };
            let Some(name) = next else {
                pause();
                continue;
            };
            asked.insert(name.clone());
            if self.ask(&["device", "revoke", &name]).is_some() {
                self.promised.lock().unwrap().revoked.insert(name);
            }
        }
    }
}

/// The certificates in the folders: by name, the id.
fn in_folders(setup: &Setup) -> BTreeMap<String, String> {
    let Ok(folders) = fs::read_dir(setup.path("out")) else { return BTreeMap::new() };
    folders
        .map(Result::unwrap)
        // The manifest is what is written last.
        .filter(|folder| folder.path().join("device.json").is_file())
        .map(|folder| {
            let pem = pem::parse(fs::read(folder.path().join("device.crt")).unwrap()).unwrap();
            let id = CertificateId::of(pem.contents()).to_string();
            (folder.file_name().into_string().unwrap(), id)
        })
        .collect()
}

/// The rows of the trail from a number on.
fn rows_after(setup: &Setup, seq: u64) -> Vec<Value> {
    let after = seq.to_string();
    let rows = setup.ask(&["audit", "list", "--after", &after, "--limit", "1000000"]);
    rows.as_array().unwrap().clone()
}

/// What the trail has told so far.
#[derive(Default)]
struct Trail {
    seq: u64,
    serials: BTreeMap<String, String>,
    added: BTreeSet<String>,
    revoked: BTreeSet<String>,
}

impl Trail {
    fn read_on(&mut self, setup: &Setup, said: &str) {
        for row in rows_after(setup, self.seq) {
            let seq = row["seq"].as_u64().unwrap();
            assert_eq!(seq, self.seq + 1, "{said}: rows are missing");
            self.seq = seq;
            let change = &row["event"]["change"];
            let facts = &change["certificate-added"]["facts"];
            if let (Some(id), Some(serial)) = (facts["id"].as_str(), facts["serial"].as_str()) {
                assert!(self.added.insert(id.to_owned()), "{said}: {id} was added twice");
                let other = self.serials.insert(serial.to_owned(), id.to_owned());
                assert_eq!(other, None, "{said}: {id} has the serial number of another");
            }
            if let Some(id) = change["certificate-revoked"]["certificate"].as_str() {
                self.revoked.insert(id.to_owned());
            }
        }
    }
}

/// What must hold after a start.
fn check(setup: &Setup, promised: &Promised, trail: &mut Trail, said: &str) {
    trail.read_on(setup, said);
    setup.ask(&["audit", "verify"]);
    let given = in_folders(setup);
    for (name, id) in promised.issued.iter().chain(&given) {
        assert!(trail.added.contains(id), "{said}: {name} has a certificate without a row");
    }
    let devices = setup.ask(&["device", "list"]);
    let mut standing = BTreeMap::new();
    for device in devices["devices"].as_array().unwrap() {
        for certificate in device["certificates"].as_array().unwrap() {
            let (id, status) = (certificate["id"].as_str().unwrap(), certificate["status"].as_str().unwrap());
            standing.insert(id.to_owned(), status.to_owned());
        }
    }
    assert_eq!(standing.len(), trail.added.len(), "{said}: the registry is not what its trail says");
    for name in &promised.revoked {
        let id = &promised.issued[name];
        assert_eq!(standing[id], "revoked", "{said}: the revocation of {name} is lost");
        assert!(trail.revoked.contains(id), "{said}: {name} was revoked without a row");
    }
    for (id, status) in &standing {
        assert_eq!(status == "revoked", trail.revoked.contains(id), "{said}: {id} is {status}");
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_revocation_and_leaves_no_certificate_without_a_row() {
    let mut kills = Kills::by(SEED);
    let (cycles, seed) = (kills.cycles, kills.seed);
    let mut setup = Setup::new();
    let mut promised = Promised::default();
    let mut trail = Trail::default();
    let mut next = 0;
    for cycle in 0..cycles {
        let said = format!("seed {seed}, cycle {cycle}");
        setup.start();
        check(&setup, &promised, &mut trail, &said);
        // What bulk commands have given can be revoked too.
        promised.issued.extend(in_folders(&setup));
        let moment = kills.moment(ANSWERS, LIFE_MAX);
        let work = Work {
            setup: &setup,
            promised: Mutex::new(std::mem::take(&mut promised)),
            next: AtomicU64::new(next),
            answers: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work.issue());
            scope.spawn(|| work.issue_many());
            scope.spawn(|| work.revoke());
            moment.kill(setup.running.as_ref().unwrap(), &work.answers, &work.over, &said);
        });
        next = work.next.load(Ordering::Relaxed);
        promised = work.promised.into_inner().unwrap();
        setup.running.take().unwrap().wait().unwrap();
    }
    setup.start();
    check(&setup, &promised, &mut trail, &format!("seed {seed}, at the end"));
    // The cycles did something.
    let (issued, revoked) = (trail.added.len(), promised.revoked.len());
    assert!(issued as u64 > cycles && revoked > 0, "{issued} issued, {revoked} revoked in {cycles} cycles");
    let list = setup.ask(&["crl", "write"]);
    assert_eq!(list["entries"].as_u64().unwrap(), trail.revoked.len() as u64);
    let report = format!(
        "{cycles} kills with seed {seed}: {issued} certificates, {revoked} revocations promised, {} rows\n",
        trail.seq
    );
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/crash_registry.txt"), report).unwrap();
}
