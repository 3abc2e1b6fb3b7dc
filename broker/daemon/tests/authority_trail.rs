//! What the audit trail tells of the policy, reloads, revocation lists and commands; and what is remembered of lists.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use setup::{CONFIGURATION, Setup};
use signet::server::{ConfigSource, Server};
use signet_certs_dev::{Authority, CrlProfile, KeyKind, Validity};
use time::OffsetDateTime;

/// The texts of the notes about one topic, oldest first.
fn notes(setup: &Setup, topic: &str) -> Vec<Value> {
    let rows = setup.ask(&["audit", "list", "--kind", "noted", "--limit", "1000"]);
    let begins = format!("{topic}: ");
    rows.as_array().unwrap().iter().filter(|row| text(row).starts_with(&begins)).cloned().collect()
}

/// The newest note about a topic that says all of this. Notes are written beside what they tell of, so it may take a moment.
fn note(setup: &Setup, topic: &str, parts: &[&str]) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let rows = notes(setup, topic);
        let says = |row: &&Value| parts.iter().all(|part| text(row).contains(part));
        if let Some(row) = rows.iter().rev().find(says) {
            return row.clone();
        }
        assert!(Instant::now() < end, "no note about {topic} says {parts:?}: {rows:?}");
    }
}

fn text(row: &Value) -> &str {
    row["text"].as_str().unwrap()
}

fn actor(row: &Value) -> &str {
    row["actor"].as_str().unwrap()
}

#[test]
fn policy_reloads_and_commands_leave_rows_with_the_one_who_acted() {
    let setup = Setup::started();
    note(&setup, "reload", &["signet.toml"]);
    note(&setup, "policy", &["acl.conf is in force, SHA-256 "]);
    note(&setup, "key", &["not encrypted, in a file"]);

    // A change of the policy.
    fs::write(setup.path("acl.conf"), "pattern readwrite devices/%u/#\n").unwrap();
    setup.ask(&["reload"]);
    let row = note(&setup, "reload", &["generation 2 is in force (operator command)"]);
    assert!(actor(&row).starts_with("local uid"), "{row}");
    let row = note(&setup, "policy", &["has changed: SHA-256 "]);
    assert!(actor(&row).starts_with("local uid"), "{row}");

    // One that is refused.
    fs::write(setup.path("acl.conf"), "pattern readwrite devices/#/x\n").unwrap();
    setup.refused(&["reload"]);
    note(&setup, "reload", &["refused (operator command)", "acl.conf:1"]);

    // Commands that change nothing in the registry.
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    let mut device = setup.dial("out/sensor-1");
    assert_eq!(device.connack(), 0);
    setup.ask(&["sessions", "kick", "sensor-1"]);
    assert_eq!(device.packet()[0], 0xe0, "DISCONNECT");
    assert!(device.is_closed());
    note(&setup, "command", &["kick sensor-1: 1 connections closed"]);
    setup.ask(&["crl", "write"]);
    let row = note(&setup, "revocation list", &["by command"]);
    assert!(actor(&row).starts_with("local uid"), "{row}");
    assert_eq!(notes(&setup, "policy").len(), 2, "the refused policy is not one that was in force");
    setup.ask(&["audit", "verify"]);
}

#[test]
fn a_stop_is_in_the_trail_that_the_next_start_reads() {
    let mut setup = Setup::started();
    setup.stop();
    setup.start();
    note(&setup, "command", &["stop"]);
}

/// An outside authority whose lists a listener reads.
struct Outside {
    authority: Authority,
    now: OffsetDateTime,
}

impl Outside {
    fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::root("Outside", KeyKind::P256, Validity::days_from(now, 365)).unwrap();
        Self { authority, now }
    }

    fn write_list(&self, setup: &Setup, number: u64, days: i64) {
        let list = self.authority.crl(&CrlProfile::new(number, self.now, days, &[])).unwrap();
        fs::write(setup.path("outside.crl"), list.pem()).unwrap();
    }

    /// A broker that reads this authority's lists; it has started with number 5.
    fn setup(&self, more: &str) -> Setup {
        let configuration = CONFIGURATION
            .replace("\"ca/issuing.crt\"]", "\"ca/issuing.crt\", \"outside.crt\"]\ncrl = [\"outside.crl\"]\n")
            .replace("max-connections", "crl-stale = \"warn\"\nmax-connections");
        let mut setup = Setup::with_configuration(&format!("{configuration}{more}"));
        fs::write(setup.path("outside.crt"), self.authority.certificate_pem()).unwrap();
        self.write_list(&setup, 5, 30);
        setup.start();
        setup
    }
}

#[test]
fn an_outside_list_that_goes_back_is_refused_also_over_a_restart() {
    let outside = Outside::new();
    let mut setup = outside.setup("");
    let list = |setup: &Setup, number: &str| note(setup, "revocation list", &["CN=Outside", number]);
    list(&setup, "number 0x05");
    outside.write_list(&setup, 6, 30);
    setup.ask(&["reload"]);
    list(&setup, "number 0x06");
    outside.write_list(&setup, 5, 30);
    assert!(setup.refused(&["reload"]).contains("older than the list"));
    setup.stop();
    // A start is no way around it.
    let output = setup.run(&["run", "--config", "signet.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("older than a list") && said.contains("revocation-lists.json"), "{said}");
    let checked = setup.run(&["check", "--config", "signet.toml"]);
    assert_eq!(checked.status.code(), Some(1));
    // The same again is no news, and a newer one is taken.
    outside.write_list(&setup, 6, 30);
    setup.start();
    setup.stop();
    outside.write_list(&setup, 7, 30);
    setup.start();
    list(&setup, "number 0x07");
    let told =
        notes(&setup, "revocation list").into_iter().filter(|row| text(row).contains("Outside")).count();
    assert_eq!(told, 3, "each edition once");
}

#[test]
fn what_is_remembered_of_lists_is_never_silently_lost() {
    let outside = Outside::new();
    let mut setup = outside.setup("[system]\nstate-directory = \"state\"\n");
    setup.stop();
    let file = setup.path("state/revocation-lists.json");
    assert!(fs::read_to_string(&file).unwrap().contains("Outside"));
    fs::write(&file, "{}").unwrap();
    let output = setup.run(&["run", "--config", "signet.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("revocation-lists.json") && said.contains("hint"), "{said}");
}

#[test]
fn each_list_is_in_the_metrics_with_an_alarm_well_before_its_end() {
    let mut outside = Outside::new();
    let mut setup = outside.setup("");
    setup.stop();
    let server = Server::start_from(ConfigSource::Toml(setup.path("signet.toml"))).unwrap();
    let metric = |name: &str| {
        let file = setup.path("outside.crl");
        let begins = format!("signet_crl_{name}{{file=\"{}\",issuer=\"CN=Outside\"}} ", file.display());
        let text = server.broker().metrics_text().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(&begins)).map(str::to_owned);
        value.unwrap_or_else(|| panic!("no {begins} in\n{text}")).parse::<i64>().unwrap()
    };
    assert_eq!(metric("alarm"), 0);
    let end = (outside.now + time::Duration::days(30)).unix_timestamp();
    assert_eq!((metric("next_update_timestamp_seconds"), metric("entries")), (end, 0));
    // Made long ago: a day is left of thirty, and then none.
    for (days, alarm) in [(29, 1), (31, 2)] {
        outside.now = OffsetDateTime::now_utc() - time::Duration::days(days);
        outside.write_list(&setup, 10 + u64::try_from(days).unwrap(), 30);
        server.broker().reload("test").unwrap();
        assert_eq!(metric("alarm"), alarm, "{days}");
    }
    server.stop();
    // At the next start it is in the log and in the trail at once.
    setup.start();
    note(&setup, "alarm", &["outside.crl", "was due for renewal 24 hours ago"]);
}

#[test]
fn the_own_list_is_renewed_before_it_lapses() {
    let mut setup = Setup::started();
    setup.stop();
    let mut config = signet_config::load(&setup.path("signet.toml")).unwrap();
    // Shorter than a configuration may say, so that the test need not wait.
    config.ca.as_mut().unwrap().crl_validity = Duration::from_secs(10);
    let server = Server::start_from(ConfigSource::Fixed(Box::new(config))).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let mut lists = Vec::new();
    while lists.len() < 3 {
        assert!(Instant::now() < end, "{lists:?}");
        if let Some(list) = server.broker().authority().unwrap().list()
            && lists.last() != Some(&list)
        {
            lists.push(list);
        }
        std::thread::yield_now();
    }
    // The first is the one that the last process wrote, the second that of this start.
    let (before, after) = (&lists[1], &lists[2]);
    assert!(after.number > before.number);
    assert!(after.this_update < before.next_update, "{before:?} {after:?}");
    assert_eq!(fs::read_to_string(&after.path).unwrap(), after.pem);
    server.stop();
}
