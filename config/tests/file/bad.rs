//! Wrong configurations, each with the place and the sentence that the operator gets.

use crate::good::{GOOD, instead, parsed, problems, with};
use signet_config::X509V1;

/// The good configuration with a line gone, and its table marked.
fn without(line: &str, table: &str) -> String {
    instead(line, "").replacen(table, &format!("^{table}"), 1)
}

/// The text is refused where its `^` is, which is not part of it, or as a whole when it has none.
#[track_caller]
fn refused(text: &str, message: &str, hint: &str) {
    let place = text.find('^').map_or((0, 0), |at| {
        let before = &text[..at];
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        (before.matches('\n').count() + 1, column)
    });
    let text = &text.replacen('^', "", 1);
    let found = problems(text);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    let first = &found[0];
    assert_eq!((first.line as usize, first.column as usize), place, "{text}\n{found:#?}");
    assert_eq!(first.message, message, "{text}");
    let given = first.hint.as_deref().unwrap_or("");
    assert!(given.contains(hint), "{text}\nhint: {given:?}");
}

#[test]
fn the_good_configuration_is_accepted() {
    assert!(parsed(GOOD).is_ok());
}

#[test]
fn one_name_keeps_a_sixteenth_of_the_ceiling_unless_said_and_saying_more_is_warned_of() {
    const MIB: usize = 1 << 20;
    let read = |limits: &str, ceiling: Option<u64>| {
        let text = with(&format!("[limits]\n{limits}"));
        let checked = parsed(&text).expect("a good configuration");
        let warned: Vec<_> = checked.warnings.iter().map(|warning| warning.line).collect();
        let queued = checked.limits.queued_bytes_per_principal_max.bytes(ceiling);
        (queued, checked.limits.retained_bytes_per_principal_max.bytes(ceiling), warned)
    };
    let small = Some(64 << 20);
    assert_eq!(read("", None), (64 * MIB, 16 * MIB, vec![]));
    assert_eq!(read("", Some(16 << 30)), (64 * MIB, 16 * MIB, vec![]), "never more than without a ceiling");
    assert_eq!(read("memory-max = \"64MiB\"", small), (4 * MIB, 4 * MIB, vec![]));
    assert_eq!(
        read("packet-bytes-max = \"4MiB\"", Some(1 << 20)).0,
        4 * MIB,
        "the largest message finds a place"
    );
    let written = "memory-max = \"64MiB\"\nqueued-bytes-per-principal-max = \"4MiB\"\nretained-bytes-per-principal-max = \"5MiB\"";
    assert_eq!(read(written, small), (4 * MIB, 5 * MIB, vec![11]));
    assert_eq!(read("queued-bytes-per-principal-max = \"128MiB\"", None), (128 * MIB, 16 * MIB, vec![]));
}

#[test]
fn certificates_of_version_1_are_refused_unless_said_and_saying_half_of_it_is_warned_of() {
    let read = |more: &str| {
        let text = instead("client-ca = [\"ca.pem\"]\n", &format!("client-ca = [\"ca.pem\"]\n{more}\n"));
        let checked = parsed(&text).expect("a good configuration");
        let warned: Vec<_> = checked.warnings.iter().map(|warning| warning.line).collect();
        (checked.listeners[0].x509_v1, warned)
    };
    assert_eq!(read(""), (X509V1::Refuse, vec![]));
    assert_eq!(read("x509-v1 = \"refuse\""), (X509V1::Refuse, vec![]));
    assert_eq!(read("x509-v1 = \"accept\""), (X509V1::Accept, vec![6]));
    assert_eq!(read("x509-v1 = \"accept\"\nrequire-client-auth-eku = false"), (X509V1::Accept, vec![]));
}

#[test]
fn unknown_keys_are_refused_with_a_guess_at_what_was_meant() {
    refused(
        &with("[limits]\n^packet-byte-max = 1"),
        "unknown key \"packet-byte-max\" in [limits]",
        "did you mean \"packet-bytes-max\"?",
    );
    refused(
        &with("[limits]\n^packet_bytes_max = 1"),
        "unknown key \"packet_bytes_max\" in [limits]",
        "did you mean \"packet-bytes-max\"?",
    );
    refused(
        &with("[limits]\n  ^level = \"info\""),
        "unknown key \"level\" in [limits]",
        "\"level\" belongs in [log]",
    );
    refused(&with("[log]\n^zzz = 1"), "unknown key \"zzz\" in [log]", "");
    refused(&with("[^limit]\nx = 1"), "unknown table \"limit\"", "did you mean [limits]?");
    refused(&with("[^zzz]"), "unknown table \"zzz\"", "");
    refused(
        &format!("^metrics-address = 1\n{GOOD}"),
        "unknown key \"metrics-address\"",
        "\"metrics-address\" belongs in [admin]",
    );
    refused(
        &instead("client-ca", "^clientca = []\nclient-ca"),
        "unknown key \"clientca\" in [[listener]]",
        "did you mean \"client-ca\"?",
    );
    refused(
        &with("[identity]\n^opertors = []"),
        "unknown key \"opertors\" in [identity]",
        "did you mean \"operators\"?",
    );
}

#[test]
fn what_must_be_there_is_missed() {
    refused("[acl]\nfile = \"a\"\n", "there is no [[listener]]", "at least one address");
    refused("listener = ^[]\n[acl]\nfile = \"a\"\n", "there is no [[listener]]", "at least one address");
    refused(
        GOOD.split("[acl]").next().unwrap(),
        "there is no [acl]",
        "without a policy nobody may do anything",
    );
    refused(
        &without("certificate = \"server.pem\"\n", "[[listener]]"),
        "[[listener]] has no \"certificate\"",
        "leaf first",
    );
    refused(
        &without("private-key = \"server.key\"\n", "[[listener]]"),
        "[[listener]] has no \"private-key\"",
        "PEM file",
    );
    refused(
        &without("client-ca = [\"ca.pem\"]\n", "[[listener]]"),
        "[[listener]] has no \"client-ca\"",
        "trust anchors",
    );
    refused(
        &without("address = \"127.0.0.1:8883\"\n", "[[listener]]"),
        "[[listener]] has no \"address\"",
        "listen",
    );
    refused(&without("file = \"acl.conf\"\n", "[acl]"), "[acl] has no \"file\"", "policy");
    refused(&instead("[\"ca.pem\"]", "^[]"), "\"client-ca\" is empty", "trust anchor");
    refused(&instead("\"acl.conf\"", "^\"\""), "\"file\" is empty", "");
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    refused(
        &with("[limits]\nsessions-max = ^\"9\""),
        "\"sessions-max\" must be an integer, not a string",
        "",
    );
    refused(
        &with("[limits]\nsessions-max = ^1.5"),
        "\"sessions-max\" must be an integer, not a number with a fraction",
        "",
    );
    refused(
        &with("[limits]\nsessions-max = ^99999999999999999999"),
        "\"sessions-max\" must be an integer, not an integer of more than 64 bits",
        "",
    );
    refused(
        &with("subscribe-check = ^\"true\""),
        "\"subscribe-check\" must be true or false, not a string",
        "",
    );
    refused(&instead("[\"ca.pem\"]", "^\"ca.pem\""), "\"client-ca\" must be a list, not a string", "");
    refused(
        &instead("[\"ca.pem\"]", "[\"ca.pem\", ^7]"),
        "\"client-ca\" must be a string, not an integer",
        "",
    );
    refused(
        &instead("\"server.pem\"", "^[\"server.pem\"]"),
        "\"certificate\" must be a string, not a list",
        "",
    );
    refused(&with("[log]\nlevel = ^3"), "\"level\" must be a string, not an integer", "");
    refused(
        &with("[limits]\nconnect-timeout = ^true"),
        "\"connect-timeout\" must be a number of seconds or a string such as \"10s\", not true or false",
        "",
    );
    refused(
        &with("[limits]\nqueued-bytes-max = ^[]"),
        "\"queued-bytes-max\" must be a number of bytes or a string such as \"256KiB\", not a list",
        "",
    );
    refused(
        &format!("^limits = 1\n{GOOD}"),
        "\"limits\" must be a table, not an integer",
        "write [limits] once",
    );
    refused(
        &with("[[^admin]]\nsocket = \"s\""),
        "\"admin\" must be a table, not a list",
        "write [admin] once",
    );
    refused(&instead("[[listener]]", "[^listener]"), "[listener] must be a list of tables", "two brackets");
}

#[test]
fn values_out_of_bounds_are_refused_with_the_bounds() {
    refused(&with("[limits]\nsessions-max = ^0"), "\"sessions-max\" must be 1 to 10000000, not 0", "");
    refused(&with("[limits]\nreceive-max = ^65536"), "\"receive-max\" must be 1 to 65535, not 65536", "");
    refused(&with("[limits]\ntopic-levels-max = ^-1"), "\"topic-levels-max\" must be 1 to 65535, not -1", "");
    refused(
        &with("[limits]\npacket-bytes-max = ^100"),
        "\"packet-bytes-max\" must be bytes, 1KiB to 268435455B, not 100",
        "",
    );
    refused(
        &with("[limits]\npacket-bytes-max = ^\"1GiB\""),
        "\"packet-bytes-max\" must be bytes, 1KiB to 268435455B, not 1GiB",
        "",
    );
    refused(
        &with("[limits]\nconnect-timeout = ^\"1h\""),
        "\"connect-timeout\" must be seconds, 1s to 2m, not 1h",
        "",
    );
    refused(
        &with("[limits]\nconnect-timeout = ^0"),
        "\"connect-timeout\" must be seconds, 1s to 2m, not 0s",
        "",
    );
    refused(
        &with("[limits]\nkeep-alive-max = ^65536"),
        "\"keep-alive-max\" must be seconds, 0s to 65535s; 0: the client decides, not 65536s",
        "",
    );
    refused(
        &instead("[acl]", "session-tickets = ^5\n[acl]"),
        "\"session-tickets\" must be 0 to 4, not 5",
        "",
    );
    refused(
        &instead("[acl]", "max-connections = ^0\n[acl]"),
        "\"max-connections\" must be 1 to 1000000, not 0",
        "",
    );
    refused(
        &instead("[acl]", "max-fragment-size = ^\"32KiB\"\n[acl]"),
        "\"max-fragment-size\" must be bytes, 128B to 16KiB, not 32KiB",
        "",
    );
}

#[test]
fn what_is_not_a_duration_a_size_or_an_address_is_refused() {
    refused(
        &with("[limits]\nconnect-timeout = ^\"10 sec\""),
        "\"connect-timeout\" must be a duration, not \"10 sec\"",
        "such as \"10s\"",
    );
    refused(
        &with("[limits]\nconnect-timeout = ^\"never\""),
        "\"connect-timeout\" must be a duration, not \"never\"",
        "",
    );
    refused(
        &with("[limits]\nsession-expiry-max = ^\"1500ms\""),
        "\"session-expiry-max\" must be whole seconds",
        "",
    );
    refused(
        &with("[limits]\npacket-bytes-max = ^\"256KB\""),
        "\"packet-bytes-max\" must be a size, not \"256KB\"",
        "\"256KiB\"",
    );
    refused(
        &instead("\"127.0.0.1:8883\"", "^\"localhost:8883\""),
        "\"address\" must be an IP address and a port, not \"localhost:8883\"",
        "0.0.0.0:8883",
    );
    refused(
        &instead("\"127.0.0.1:8883\"", "^\"127.0.0.1\""),
        "\"address\" must be an IP address and a port, not \"127.0.0.1\"",
        "",
    );
    refused(
        &with("[admin]\nmetrics-address = ^\":9883\""),
        "\"metrics-address\" must be an IP address and a port, not \":9883\"",
        "",
    );
    refused(
        &instead("\"server.key\"", "^\"a\\u0000b\""),
        "\"private-key\" is not a path: it contains U+0000",
        "",
    );
}

#[test]
fn words_that_do_not_exist_are_refused() {
    refused(
        &instead("[acl]", "identity = ^\"CN\"\n[acl]"),
        "\"identity\" must be \"cn\" or \"san-uri\" or \"san-dns\" or \"fingerprint\", not \"CN\"",
        "did you mean \"cn\"?",
    );
    refused(
        &instead("[acl]", "crl-stale = ^\"ignore\"\n[acl]"),
        "\"crl-stale\" must be \"reject\" or \"grace\" or \"warn\", not \"ignore\"",
        "",
    );
    refused(
        &instead("[acl]", "tls-versions = [\"1.2\", ^\"1.1\"]\n[acl]"),
        "\"tls-versions\" must be \"1.2\" or \"1.3\", not \"1.1\"",
        "did you mean",
    );
    refused(&instead("[acl]", "tls-versions = ^[]\n[acl]"), "\"tls-versions\" is empty", "");
    refused(
        &with("[store]\ndurability = ^\"strict\""),
        "\"durability\" needs a place on disk",
        "directory = \"data\"",
    );
    refused(
        &with("[store]\ndirectory = \"data\"\ndurability = ^\"disk\""),
        "\"durability\" must be \"strict\" or \"batched\" or \"memory\", not \"disk\"",
        "",
    );
    refused(
        &with("[store]\ndurability = \"memory\"\ndirectory = ^\"data\""),
        "\"directory\" has no effect with durability = \"memory\"",
        "remove it",
    );
    refused(
        &with("[store]\ndirectory = \"data\"\nbatched-interval = ^\"1s\""),
        "\"batched-interval\" has no effect with durability = \"strict\"",
        "write durability = \"batched\"",
    );
    refused(
        &with("[store]\ndirectory = \"data\"\njournal-bytes-max = ^1000"),
        "\"journal-bytes-max\" must be bytes, 1MiB to 16GiB, not 1000",
        "",
    );
}

#[test]
fn names_that_no_certificate_could_bear_are_refused() {
    for name in ["", "+", "a/b", "a#", "%u", "$x", "a b", ".a", "ä"] {
        let found = problems(&with(&format!("[identity]\noperators = [\"ok\", \"{name}\"]")));
        assert_eq!((found.len(), found[0].line, found[0].column), (1, 9, 20), "{name:?}: {found:?}");
        assert!(found[0].message.contains("is not a name that a listener accepts"), "{found:?}");
    }
    refused(&with("[identity]\noperators = [\"a\", ^\"a\"]"), "\"a\" is in \"operators\" twice", "");
    refused(
        &with("[identity]\noperators = ^\"admin\""),
        "\"operators\" must be a list of names, not a string",
        "",
    );
    refused(
        &with("[identity]\ngroups = ^[\"a\"]"),
        "\"groups\" must be a table, not a list",
        "[identity.groups]",
    );
    for group in ["operator", "Device", "a/b", "+"] {
        let found = problems(&with(&format!("[identity.groups]\n\"{group}\" = []")));
        assert_eq!((found.len(), found[0].line, found[0].column), (1, 9, 1), "{group:?}: {found:?}");
        assert!(found[0].message.contains("cannot name a group"), "{found:?}");
    }
    for extra in ["/", "+", "#", "$", "%", " ", "\\u0000", "\\n", "ö"] {
        let found = problems(&instead("[acl]", &format!("name-extra-characters = \"@{extra}\"\n[acl]")));
        assert_eq!((found.len(), found[0].line, found[0].column), (1, 6, 25), "{extra:?}: {found:?}");
    }
}

#[test]
fn a_name_that_only_a_widened_listener_accepts_may_be_an_operator() {
    let text =
        instead("[acl]", "name-extra-characters = \"@\"\n[acl]") + "[identity]\noperators = [\"a@b\"]\n";
    assert!(parsed(&text).is_ok());
    let narrow = with("[identity]\noperators = [\"a@b\"]");
    assert_eq!(problems(&narrow).len(), 1);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    refused(
        &instead("[acl]", "crl-grace = ^\"1h\"\n[acl]"),
        "\"crl-grace\" has no effect",
        "crl-stale = \"grace\"",
    );
    refused(
        &instead("[acl]", "san-uri-prefix = ^\"spiffe://a/\"\n[acl]"),
        "\"san-uri-prefix\" has no effect",
        "identity = \"san-uri\"",
    );
    refused(
        &with("[limits]\nqueued-bytes-max = ^2048"),
        "\"queued-bytes-max\" is less than \"packet-bytes-max\" (262144): the largest message could never be delivered",
        "",
    );
    refused(
        &with("[limits]\nsessions-max = ^50"),
        "\"sessions-per-principal-max\" is more than \"sessions-max\"",
        "",
    );
    let twice = |second: &str| {
        format!("{GOOD}{}", GOOD.split("[acl]").next().unwrap().replace("\"127.0.0.1:8883\"", second))
    };
    refused(&twice("^\"127.0.0.1:8883\""), "127.0.0.1:8883 is taken by the listener on 127.0.0.1:8883", "");
    refused(&twice("^\"0.0.0.0:8883\""), "0.0.0.0:8883 is taken by the listener on 127.0.0.1:8883", "");
    assert!(parsed(&twice("\"127.0.0.2:8883\"")).is_ok());
    assert!(parsed(&twice("\"127.0.0.1:8884\"")).is_ok());
    let both_free = twice("\"127.0.0.1:0\"").replace("127.0.0.1:8883", "127.0.0.1:0");
    assert!(parsed(&both_free).is_ok());
}

#[test]
fn what_is_not_toml_is_refused_at_the_place_where_it_stops_being_toml() {
    let found = problems(&instead("\"server.key\"", "server.key"));
    assert_eq!((found[0].line, found[0].column), (4, 15), "{found:?}");
    assert!(found.iter().all(|problem| problem.line == 4), "{found:?}");
    let found = problems(&instead("[acl]", "[acl"));
    assert_eq!(found[0].line, 6, "{found:?}");
    let found = problems(&instead("[acl]", "address = \"[::1]:1\"\n[acl]"));
    assert_eq!(found[0].line, 6, "a key written twice: {found:?}");
    assert!(found[0].message.starts_with("not valid TOML: "), "{found:?}");
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_lines() {
    let text = "[[listener]]
address = \"nowhere\"
certificate = 7
privat-key = \"server.key\"
client-ca = [\"ca.pem\"]
crl-stale = \"never\"
[acl]
file = \"acl.conf\"
[limits]
sessions-max = 0
[log]
colour = true
";
    let places: Vec<_> = problems(text).iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 1), (2, 11), (3, 15), (4, 1), (6, 13), (10, 16), (12, 1)]);
}

#[test]
fn a_syntax_error_does_not_hide_the_other_problems_and_is_not_taken_for_absence() {
    let text = instead("\"127.0.0.1:8883\"", "127.0.0.1:8883") + "[limits]\nsessions-max = 0\n";
    let found = problems(&text);
    assert_eq!(found.first().map(|problem| problem.line), Some(2), "{found:#?}");
    assert_eq!(found.last().map(|problem| problem.line), Some(9), "{found:#?}");
    assert!(found.iter().all(|problem| !problem.message.contains("has no")), "{found:#?}");
}

#[test]
fn a_problem_is_shown_with_its_file_line_column_and_hint() {
    let found = problems(&with("[limits]\npacket-byte-max = 1"));
    assert_eq!(
        signet_config::render(&found),
        "/etc/signet/signet.toml:9:1: unknown key \"packet-byte-max\" in [limits]\n  hint: did you mean \"packet-bytes-max\"?\n"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let absent = signet_config::load(&folder.path().join("absent.toml")).unwrap_err();
    assert_eq!(absent.len(), 1);
    assert!(absent[0].message.starts_with("cannot read the file: "), "{absent:?}");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"a = \"\xff\"").unwrap();
    assert!(signet_config::load(&binary).unwrap_err()[0].message.contains("not UTF-8"));
    let long = folder.path().join("long.toml");
    std::fs::write(&long, vec![b'#'; usize::try_from(signet_config::FILE_BYTES_MAX).unwrap() + 1]).unwrap();
    assert!(signet_config::load(&long).unwrap_err()[0].message.contains("longer than"));
}

#[test]
fn a_hook_has_less_time_than_the_devices_that_wait_for_it() {
    let found = |value: &str| with(&format!("[provisioning]\nhook-deadline = {value}"));
    for value in ["701ms", "1s", "5s"] {
        let message = format!("\"hook-deadline\" must be seconds, 10ms to 700ms, not {value}");
        refused(&found(&format!("^\"{value}\"")), &message, "");
    }
    let good = parsed(&found("\"700ms\"")).expect("a good configuration");
    assert_eq!(good.provisioning.hook_deadline, std::time::Duration::from_millis(700));
}
