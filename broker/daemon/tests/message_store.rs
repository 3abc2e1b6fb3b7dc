//! Sessions and messages on disk, as an operator meets them: backups, damage, a full disk, revocations meanwhile.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod client;
mod peer;
mod setup;

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, Flow, Said};
use setup::Setup;
use signet_wire::QoS;

const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\nclient-ca = [\"ca/issuing.crt\"]\nmax-connections = 50\n\
    [acl]\nfile = \"acl.conf\"\n[registry]\nmode = \"on\"\n[ca]\n[admin]\nsocket = \"signet.sock\"\n\
    [store]\ndirectory = \"data\"\n";
const POLICY: &str =
    "pattern write load/%u/#\nuser reader-a\ntopic read load/#\nuser reader-b\ntopic read load/#\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// Running, with a device that writes and two that read.
fn started(configuration: &str) -> Setup {
    let mut setup = Setup::with_configuration(configuration);
    start(&mut setup);
    setup
}

/// Starts one that is set up, and makes its devices.
fn start(setup: &mut Setup) {
    fs::write(setup.path("acl.conf"), POLICY).unwrap();
    setup.start();
    for name in ["writer-a", "reader-a", "reader-b"] {
        setup.ask(&["device", "add", name, "--key", "--out", "out"]);
    }
}

/// Makes a session that waits for messages.
fn subscribe(setup: &Setup, name: &str, flow: &mut Flow) {
    let (mut client, _) = Client::connect(setup, name, flow, false).unwrap();
    assert_eq!(client.subscribe("load/#", QoS::AtLeastOnce), Some(true));
}

/// Publishes and waits for the acknowledgement.
fn publish(setup: &Setup, topic: &str, payload: &str, retain: bool) {
    let mut flow = Flow::default();
    let (mut client, _) = Client::connect(setup, "writer-a", &mut flow, true).unwrap();
    client.publish(&mut flow, topic, payload.as_bytes(), QoS::AtLeastOnce, retain, 1).unwrap();
    assert!(matches!(client.next(&mut flow), Some(Said::Acknowledged(1))));
}

/// The next message of a session that is there already.
fn resumed(setup: &Setup, name: &str, flow: &mut Flow) -> (String, String) {
    let (mut client, present) = Client::connect(setup, name, flow, false).unwrap();
    assert!(present, "the session of {name} is there");
    loop {
        if let Said::Message { topic, payload, .. } = client.next(flow).unwrap() {
            return (topic, String::from_utf8(payload.to_vec()).unwrap());
        }
    }
}

/// What a newcomer gets that is retained.
fn retained(setup: &Setup, filter: &str) -> String {
    let mut flow = Flow::default();
    let (mut client, _) = Client::connect(setup, "reader-b", &mut flow, true).unwrap();
    assert_eq!(client.subscribe(filter, QoS::AtMostOnce), Some(true));
    loop {
        if let Said::Message { payload, .. } = client.next(&mut flow).unwrap() {
            return String::from_utf8(payload.to_vec()).unwrap();
        }
    }
}

fn sessions(setup: &Setup) -> Vec<String> {
    let rows = setup.ask(&["sessions", "list"]);
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let mut setup = started(CONFIGURATION);
    let mut flow = Flow::default();
    subscribe(&setup, "reader-a", &mut flow);
    publish(&setup, "load/writer-a/state", "on", true);
    setup.kill();
    setup.start();
    assert_eq!(resumed(&setup, "reader-a", &mut flow), ("load/writer-a/state".to_owned(), "on".to_owned()));
    assert_eq!(retained(&setup, "load/writer-a/state"), "on");
}

#[test]
fn a_backup_of_a_running_broker_brings_registry_sessions_and_messages_back() {
    let mut setup = started(CONFIGURATION);
    let mut flow = Flow::default();
    subscribe(&setup, "reader-a", &mut flow);
    publish(&setup, "load/writer-a/state", "first", true);
    let made = setup.ask(&["backup", "copy"]);
    assert!(made["messages"]["rows"].as_u64().unwrap() >= 5 && made["bytes"].as_u64().unwrap() > 0, "{made}");
    assert!(setup.refused(&["backup", "copy"]).contains("it exists already"));
    publish(&setup, "load/writer-a/state", "second", true);
    setup.ask(&["device", "revoke", "reader-b"]);
    let running = setup.run(&["restore", "copy", "--replace", "--config", "signet.toml"]);
    assert_eq!(running.status.code(), Some(2), "it is running");
    setup.stop();
    assert!(setup.refused(&["restore", "copy"]).contains("there is a message store here"));
    let restored = setup.ask(&["restore", "copy", "--replace"]);
    assert_eq!(restored["revocations-kept"], 1);
    assert_eq!(
        (&restored["messages"]["sessions"], &restored["messages"]["retained"]),
        (&1.into(), &1.into())
    );
    assert!(restored["messages"]["table-bytes"].as_u64().unwrap() >= 1 << 20, "{restored}");
    assert!(restored["messages"]["ceiling"].is_string(), "{restored}");
    setup.start();
    assert_eq!(resumed(&setup, "reader-a", &mut flow).1, "first");
    setup.stop();
    // A copy that lost its end, or a byte of which changed, is refused before anything is touched.
    let whole = fs::read(setup.path("copy.messages")).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for bytes in [&whole[..whole.len() - 1], &changed] {
        fs::write(setup.path("copy.messages"), bytes).unwrap();
        let said = setup.refused(&["restore", "copy", "--replace"]);
        assert!(said.contains("not a whole backup"), "{said}");
    }
    setup.start();
    assert_eq!(sessions(&setup), ["reader-a"]);
}

#[test]
fn a_damaged_store_stops_the_start_or_is_moved_aside() {
    let mut setup = started(CONFIGURATION);
    subscribe(&setup, "reader-a", &mut Flow::default());
    setup.stop();
    let rows = fs::read_dir(setup.path("data/messages")).unwrap().map(|entry| entry.unwrap().path());
    let journal = rows.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max().unwrap();
    fs::write(journal, b"not a journal").unwrap();
    let refused = setup.run(&["run", "--config", "signet.toml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("is damaged") && said.contains("signet restore"),
        "{said}"
    );
    let quarantine = format!("{CONFIGURATION}corrupt = \"quarantine\"\n");
    fs::write(setup.path("signet.toml"), quarantine).unwrap();
    setup.start();
    assert!(sessions(&setup).is_empty());
    let log = fs::read_to_string(setup.path("log")).unwrap();
    assert!(log.contains("ALARM") && log.contains("moved aside"), "{log}");
    let trail = setup.works(&["audit", "list", "--config", "signet.toml"]);
    assert!(trail.contains("damaged message store"), "{trail}");
}

#[test]
fn a_second_broker_on_the_same_folder_is_refused() {
    let setup = started(CONFIGURATION);
    let other =
        CONFIGURATION.replace("signet.sock", "other.sock").replace("[registry]\nmode = \"on\"\n[ca]\n", "");
    fs::write(setup.path("other.toml"), other).unwrap();
    let refused = setup.run(&["run", "--config", "other.toml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("another process has this message store open"),
        "{said}"
    );
}

#[test]
fn who_was_revoked_while_the_broker_was_not_running_has_no_session_and_nothing_retained() {
    let mut setup = started(CONFIGURATION);
    let (mut a, mut b) = (Flow::default(), Flow::default());
    subscribe(&setup, "reader-a", &mut a);
    subscribe(&setup, "reader-b", &mut b);
    setup.ask(&["backup", "before"]);
    setup.ask(&["device", "revoke", "reader-a"]);
    assert_eq!(sessions(&setup), ["reader-b"]);
    setup.stop();
    // The store of before the revocation, with the registry of after it.
    fs::remove_dir_all(setup.path("data")).unwrap();
    fs::rename(setup.path("before.messages"), setup.path("elsewhere.messages")).unwrap();
    let only_messages = CONFIGURATION.replace("[registry]\nmode = \"on\"\n[ca]\n", "");
    fs::write(setup.path("only.toml"), only_messages).unwrap();
    setup.works(&["restore", "elsewhere", "--config", "only.toml"]);
    setup.start();
    assert_eq!(sessions(&setup), ["reader-b"]);
}

/// Everything in some folders is as on a file system that has become read-only under open files: the kernel refuses each write,
/// and each new name. (A mount itself it refuses to make read-only while a file is open for writing; of its own accord, after an
/// error of the disk, it does so.) Writable again with the end of the value.
struct Frozen(Vec<std::path::PathBuf>);

impl Frozen {
    /// `None`: this user may not, or this file system does not know it.
    fn freeze(folders: &[std::path::PathBuf]) -> Option<Self> {
        let frozen = Self(folders.to_vec());
        frozen.change("+i").then_some(frozen)
    }

    fn change(&self, flag: &str) -> bool {
        let changed = Command::new("chattr").args(["-R", flag]).args(&self.0).output();
        changed.is_ok_and(|output| output.status.success())
    }

    /// Whether it is of use in this folder: writes to files that are open are refused too.
    fn is_possible(at: &std::path::Path) -> bool {
        fs::create_dir(at).unwrap();
        let mut open = fs::File::create(at.join("file")).unwrap();
        Self::freeze(&[at.to_owned()]).is_some_and(|_frozen| open.write_all(b"x").is_err())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.change("-i");
    }
}

#[test]
fn a_store_that_becomes_read_only_acknowledges_nothing_and_goes_on_when_it_can_be_written() {
    let mut setup = Setup::with_configuration(CONFIGURATION);
    if !Frozen::is_possible(&setup.path("probe")) {
        writeln!(
            std::io::stderr(),
            "SKIPPED: only root can make open files read-only (chattr +i), on ext4, xfs or btrfs"
        )
        .unwrap();
        return;
    }
    start(&mut setup);
    publish(&setup, "load/writer-a/before", "kept", true);
    let mut flow = Flow::default();
    let (mut client, _) = Client::connect(&setup, "writer-a", &mut flow, true).unwrap();
    let frozen = Frozen::freeze(&[setup.path("data"), setup.path("registry")]).unwrap();
    let count = 20;
    for number in 0..count {
        let topic = format!("load/writer-a/while/{number}");
        client.publish(&mut flow, &topic, b"x", QoS::AtLeastOnce, true, number).unwrap();
    }
    let log_file = setup.path("log");
    let log = || fs::read_to_string(&log_file).unwrap();
    let end = Instant::now() + PATIENCE;
    while !log().contains("ALARM: the message store cannot be written") {
        assert!(Instant::now() < end, "no alarm: {}", log());
        std::thread::yield_now();
    }
    // What changes the registry says that it has not: nothing is enrolled, nobody is revoked.
    for command in
        [&["device", "add", "late", "--key", "--out", "out"][..], &["device", "revoke", "reader-b"]]
    {
        let said = setup.refused(command);
        assert!(said.contains("the registry could not be written, and nothing has changed"), "{said}");
    }
    let nothing = client.next_within(&mut flow, Duration::from_millis(700));
    assert!(nothing.is_none(), "a store that cannot be written acknowledges nothing");
    assert!(setup.running.as_mut().unwrap().try_wait().unwrap().is_none(), "{}", log());
    drop(frozen);
    let writable = Instant::now();
    for _ in 0..count {
        assert!(matches!(client.next(&mut flow), Some(Said::Acknowledged(_))));
    }
    let took = writable.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    setup.ask(&["device", "add", "late", "--key", "--out", "out"]);
    setup.ask(&["device", "revoke", "reader-b"]);
    setup.ask(&["audit", "verify"]);
    setup.kill();
    setup.start();
    assert!(Client::connect(&setup, "late", &mut Flow::default(), true).is_some());
    let (mut reader, _) = Client::connect(&setup, "reader-a", &mut flow, true).unwrap();
    assert_eq!(reader.subscribe("load/#", QoS::AtMostOnce), Some(true));
    for _ in 0..=count {
        assert!(matches!(reader.next(&mut flow), Some(Said::Message { .. })), "all of it is retained");
    }
    setup.stop();
    let report = format!("read-only: all is acknowledged {} ms after it can be written\n", took.as_millis());
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/read_only.txt"), report).unwrap();
}

/// A file system of its own, gone with the value.
struct Small(std::path::PathBuf);

impl Small {
    /// `None`: this user may not mount one.
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the broker may still be there when a test has failed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_acknowledges_nothing_and_loses_nothing_and_room_is_noticed_without_a_restart() {
    let mut setup = Setup::with_configuration(CONFIGURATION);
    let Some(small) = Small::mount(setup.path("data")) else {
        writeln!(std::io::stderr(), "SKIPPED: a small file system can be mounted by root only").unwrap();
        return;
    };
    start(&mut setup);
    publish(&setup, "load/writer-a/before", "kept", true);
    // Everything that is left.
    let mut filler = fs::File::create(small.0.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    drop(filler);
    let mut flow = Flow::default();
    let (mut client, _) = Client::connect(&setup, "writer-a", &mut flow, true).unwrap();
    let count = 20;
    for number in 0..count {
        let topic = format!("load/writer-a/full/{number}");
        let payload = "x".repeat(20_000);
        client.publish(&mut flow, &topic, payload.as_bytes(), QoS::AtLeastOnce, true, number).unwrap();
    }
    let log = || fs::read_to_string(setup.path("log")).unwrap();
    let end = Instant::now() + PATIENCE;
    while !log().contains("ALARM: the message store cannot be written") {
        assert!(Instant::now() < end, "no alarm: {}", log());
        std::thread::yield_now();
    }
    // What fitted is acknowledged; the rest is not, however long one waits.
    let mut acknowledged = 0;
    while let Some(Said::Acknowledged(_)) = client.next_within(&mut flow, Duration::from_millis(700)) {
        acknowledged += 1;
    }
    assert!(acknowledged < count, "{acknowledged} of {count} acknowledged by a full disk");
    fs::remove_file(small.0.join("filler")).unwrap();
    let room = Instant::now();
    while acknowledged < count {
        assert!(matches!(client.next(&mut flow), Some(Said::Acknowledged(_))));
        acknowledged += 1;
    }
    let took = room.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    assert!(log().contains("can be written again"));
    setup.kill();
    setup.start();
    assert_eq!(retained(&setup, "load/writer-a/before"), "kept");
    assert_eq!(retained(&setup, &format!("load/writer-a/full/{}", count - 1)).len(), 20_000);
    let report = format!("a full disk: all is acknowledged {} ms after there is room\n", took.as_millis());
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/full_disk.txt"), report).unwrap();
    setup.stop();
}
