//! What a `mosquitto.conf` comes to, option by option.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use signet_config::mosquitto::{self, Import, Line, Verdict};
use signet_config::{Checked, TlsVersions, X509V1, parse};
use signet_config::{Durability, Store};
use std::path::Path;

const TLS: &str = "cafile ca.crt\ncertfile server.crt\nkeyfile server.key\n";
const CERTIFIED: &str = "require_certificate true\nuse_identity_as_username true\n";

fn import(text: &str) -> Import {
    mosquitto::import(text, Path::new("/etc/mosquitto/mosquitto.conf"), Path::new("/srv"))
}

/// A mutual TLS listener and a policy, which occupy lines 1 to 7, and `more` after them.
fn mtls(more: &str) -> String {
    format!("listener 8883\n{TLS}{CERTIFIED}acl_file acl\n{more}\n")
}

fn accepted(text: &str) -> Checked {
    let import = import(text);
    import.config.unwrap_or_else(|problems| panic!("{text}\n{}", signet_config::render(&problems)))
}

fn sentences(text: &str) -> Vec<String> {
    let problems = import(text).config.expect_err(text);
    problems.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
}

/// The report's line for the last line of the text.
fn last(text: &str) -> Line {
    import(text).lines.pop().unwrap()
}

#[test]
fn a_mutual_tls_listener_starts_and_lets_in_who_came_in_before() {
    let checked = accepted(&mtls(""));
    let [listener] = checked.listeners.as_slice() else { panic!("one listener") };
    assert_eq!(listener.address.to_string(), "0.0.0.0:8883");
    assert_eq!(listener.client_ca, [Path::new("/srv/ca.crt")]);
    assert_eq!(listener.tls_versions, TlsVersions::V12AndV13);
    assert!(!listener.require_client_auth_eku, "OpenSSL admits certificates without the extension");
    assert_eq!(listener.x509_v1, X509V1::Accept, "OpenSSL admits certificates of version 1");
    assert!(listener.names.check("pump@example.org").is_ok());
    assert!(listener.names.check("pump/1").is_err());
    assert!(checked.acl.options.subscribe_check);
    assert!(checked.acl.options.allow_pattern_without_variable);
    assert_eq!(checked.limits.packet_bytes_max.get(), 2_000_000);
    assert_eq!(checked.limits.session_expiry_secs_max, u32::MAX);
    assert_eq!(checked.limits.sessions_per_principal_max, checked.limits.sessions_max);
    assert!(checked.identity.operators.is_empty());
}

#[test]
fn that_certificates_of_version_1_are_accepted_is_told() {
    let import = import(&mtls(""));
    assert!(
        import.remarks.iter().any(|remark| remark.contains("x509-v1 = \"accept\"")),
        "{:?}",
        import.remarks
    );
    let again = parse(&import.toml, Path::new("/etc/signet/signet.toml")).unwrap();
    assert_eq!(again.listeners[0].x509_v1, X509V1::Accept);
}

#[test]
fn the_limits_are_mapped() {
    let limits = |more: &str| accepted(&mtls(more)).limits;
    assert_eq!(limits("max_inflight_messages 20").inflight_max.get(), 20);
    assert_eq!(limits("max_inflight_messages 20").receive_max.get(), 20);
    assert_eq!(limits("max_inflight_messages 0").inflight_max.get(), 65_535);
    assert_eq!(limits("max_queued_messages 50").queued_messages_max, 50);
    assert_eq!(limits("max_queued_messages 0").queued_messages_max, 10_000_000);
    assert_eq!(limits("max_queued_bytes 9000000").outbox_bytes_max, 9_000_000);
    assert_eq!(limits("max_queued_bytes 10").queued_bytes_max, 2_000_000, "at least one packet");
    assert_eq!(limits("max_packet_size 5000000").packet_bytes_max.get(), 5_000_000);
    assert_eq!(limits("max_packet_size 5000000").queued_bytes_max, 5_000_000, "at least one packet");
    assert_eq!(limits("max_packet_size 20").packet_bytes_max.get(), 1024);
    assert_eq!(limits("message_size_limit 1000").packet_bytes_max.get(), 5096);
    assert_eq!(limits("message_size_limit 1000\nmax_packet_size 2000").packet_bytes_max.get(), 2000);
    assert_eq!(limits("max_packet_size 2000\nmessage_size_limit 1000").packet_bytes_max.get(), 2000);
    assert_eq!(limits("message_size_limit 0").packet_bytes_max.get(), 2_000_000);
    assert_eq!(limits("max_keepalive 600").keep_alive_secs_max.map(u16::from), Some(600));
    assert_eq!(limits("max_keepalive 0").keep_alive_secs_max, None);
    assert_eq!(limits("max_topic_alias 3").topic_alias_in_max, 3);
    assert_eq!(limits("max_topic_alias_broker 4").topic_alias_out_max, 4);
    assert_eq!(limits("global_max_clients 70").sessions_max, 70);
    assert_eq!(limits("retain_available false").retained_messages_max, 0);
}

#[test]
fn session_expiry_is_read_in_mosquittos_units() {
    let secs = |value: &str| {
        accepted(&mtls(&format!("persistent_client_expiration {value}"))).limits.session_expiry_secs_max
    };
    assert_eq!(secs("12h"), 12 * 3600);
    assert_eq!(secs("14d"), 14 * 86_400);
    assert_eq!(secs("2w"), 14 * 86_400);
    assert_eq!(secs("2m"), 60 * 86_400, "m is months, not minutes");
    assert_eq!(secs("1y"), 365 * 86_400);
    assert_eq!(secs("90s"), 90);
    assert_eq!(secs("50y"), u32::MAX);
    for wrong in ["14", "d", "-1d", "1.5d", "14 d"] {
        let found = sentences(&mtls(&format!("persistent_client_expiration {wrong}")));
        assert!(found[0].starts_with("8: persistent_client_expiration"), "{found:?}");
    }
}

#[test]
fn tls_version_is_the_oldest_one_as_in_mosquitto() {
    let versions = |more: &str| accepted(&mtls(more)).listeners[0].tls_versions;
    assert_eq!(versions("tls_version tlsv1.2"), TlsVersions::V12AndV13);
    assert_eq!(versions("tls_version tlsv1.3"), TlsVersions::V13);
    assert_eq!(versions("tls_version tlsv1.1"), TlsVersions::V12AndV13);
    assert_eq!(last(&mtls("tls_version tlsv1.2")).verdict, Verdict::Mapped);
    assert_eq!(last(&mtls("tls_version tlsv1.1")).verdict, Verdict::Changed);
    assert!(sentences(&mtls("tls_version sslv3"))[0].starts_with("8: tls_version sslv3"));
}

#[test]
fn addresses_are_bound_as_written() {
    let address =
        |first: &str| accepted(&mtls("").replace("listener 8883", first)).listeners[0].address.to_string();
    assert_eq!(address("listener 8883 127.0.0.1"), "127.0.0.1:8883");
    assert_eq!(address("listener 8883 localhost"), "127.0.0.1:8883");
    assert_eq!(address("listener   8883   ::1"), "[::1]:8883");
    assert_eq!(address("listener 8883 # everywhere"), "0.0.0.0:8883");
    assert_eq!(address("listener 8883\nsocket_domain ipv6"), "[::]:8883");
    for first in ["listener 0 /run/socket", "listener", "listener mqtt", "listener 8883 broker.example.org"] {
        let found = sentences(&mtls("").replace("listener 8883", first));
        assert!(found.iter().any(|sentence| sentence.starts_with("1: listener")), "{first}: {found:?}");
    }
}

#[test]
fn the_old_style_without_a_listener_line_is_understood() {
    let checked = accepted(&format!("port 8884\nbind_address 127.0.0.1\n{TLS}{CERTIFIED}acl_file acl\n"));
    assert_eq!(checked.listeners[0].address.to_string(), "127.0.0.1:8884");
    let found = sentences(&format!("{TLS}{CERTIFIED}acl_file acl\nlistener 8883\n"));
    assert!(
        found
            .iter()
            .any(|s| s == "7: listener 8883 is without TLS, and this broker speaks MQTT over TLS only"),
        "options before a listener are not about it: {found:?}"
    );
}

#[test]
fn a_connection_limit_before_the_listeners_holds_for_those_that_have_none() {
    let text = format!("max_connections 7\n{}listener 8884\n{TLS}{CERTIFIED}max_connections 9\n", mtls(""));
    let checked = accepted(&text);
    let limits: Vec<_> = checked.listeners.iter().map(|listener| listener.connections_max.get()).collect();
    assert_eq!(limits, [7, 9]);
    let unlimited = accepted(&mtls("max_connections -1"));
    assert_eq!(unlimited.listeners[0].connections_max.get(), 10_000);
}

#[test]
fn what_would_admit_somebody_else_stops_the_start_with_one_sentence() {
    let table = [
        ("allow_anonymous true", "8: allow_anonymous true: clients without a certificate are never admitted"),
        ("listener_allow_anonymous 1", "8: listener_allow_anonymous 1: clients without a certificate"),
        ("password_file /etc/p", "8: password_file /etc/p: clients are known by their certificate alone"),
        ("psk_file psk", "8: psk_file psk: pre-shared keys are not accepted"),
        ("psk_hint hint", "8: psk_hint hint: pre-shared keys are not accepted"),
        ("plugin dynsec.so", "8: plugin dynsec.so: plugins are not loaded"),
        ("auth_plugin a.so", "8: auth_plugin a.so: plugins are not loaded"),
        (
            "require_certificate false",
            "8: require_certificate false: clients without a certificate are never admitted",
        ),
        (
            "use_identity_as_username false",
            "8: use_identity_as_username false: user names in CONNECT are never believed",
        ),
        (
            "use_subject_as_username true",
            "8: use_subject_as_username true: a whole subject cannot be the user",
        ),
        ("connection other", "8: connection other: bridges are not available in this version"),
        ("capath /etc/ssl/certs", "8: capath /etc/ssl/certs: a folder of CA certificates is not read"),
        ("protocol websockets", "8: protocol websockets: only mqtt is spoken"),
        ("mount_point a/", "8: mount_point a/: topics are never rewritten"),
        ("bind_interface eth0", "8: bind_interface eth0: a listener is bound to an address"),
        (
            "disable_client_cert_date_checks true",
            "8: disable_client_cert_date_checks true: an expired certificate is never accepted",
        ),
        ("enable_proxy_protocol true", "8: enable_proxy_protocol true: the PROXY protocol is not spoken"),
        ("tls_engine pkcs11", "8: tls_engine pkcs11: OpenSSL engines are not used"),
        ("tls_keyform engine", "8: tls_keyform engine: OpenSSL engines are not used"),
        ("clientid_prefixes dev-", "8: clientid_prefixes dev-: client ids are not restricted by a list"),
        ("acl_file other", "8: acl_file other: there is one policy for all listeners"),
        ("allow_anonymous maybe", "8: allow_anonymous maybe: the value must be true or false"),
        ("max_connections many", "8: max_connections many: the value must be an integer"),
        ("max_keepalive 70000", "8: \"keep-alive-max\" must be seconds"),
        (
            "max_conections 5",
            "8: max_conections 5: this is not an option of mosquitto.conf: did you mean max_connections?",
        ),
        ("  # a comment that does not begin its line", "8: # a comment"),
    ];
    for (line, sentence) in table {
        let found = sentences(&mtls(line));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].starts_with(sentence), "{line}: {found:?}");
    }
}

#[test]
fn the_harmless_value_of_each_of_those_options_is_kept() {
    for line in [
        "allow_anonymous false",
        "listener_allow_anonymous 0",
        "use_subject_as_username false",
        "protocol mqtt",
        "require_certificate true",
        "use_username_as_clientid false",
        "disable_client_cert_date_checks false",
        "tls_keyform pem",
        "enable_proxy_protocol false",
        "per_listener_settings false",
        "check_retain_source true",
        "queue_qos0_messages false",
        "upgrade_outgoing_qos false",
        "persistence false",
        "autosave_interval 60",
        "autosave_on_changes true",
        "retained_persistence true",
        "set_tcp_nodelay true",
        "retain_available true",
        "max_qos 2",
        "memory_limit 0",
        "max_inflight_bytes 0",
        "allow_zero_length_clientid true",
        "accept_protocol_versions 4,5",
        "connection_messages true",
        "log_dest stderr",
    ] {
        assert!(import(&mtls(line)).config.is_ok(), "{line}");
        assert_eq!(last(&mtls(line)).verdict, Verdict::Kept, "{line}");
    }
}

#[test]
fn what_only_loses_a_convenience_is_a_warning() {
    for line in [
        "persistence_file mosquitto.db",
        "pid_file /run/m.pid",
        "user mosquitto",
        "log_dest file /var/log/m.log",
        "ciphers HIGH",
        "dhparamfile dh.pem",
        "queue_qos0_messages true",
        "upgrade_outgoing_qos true",
        "max_qos 1",
        "memory_limit 100",
        "auto_id_prefix x-",
        "log_timestamp_format %Y",
        "allow_zero_length_clientid false",
        "accept_protocol_versions 5",
    ] {
        let import = import(&mtls(line));
        assert!(import.config.is_ok(), "{line}");
        let told: Vec<_> = import.warnings().map(|line| line.line).collect();
        assert!(told.contains(&8), "{line}");
        assert_eq!(last(&mtls(line)).verdict, Verdict::Unsupported, "{line}");
    }
}

#[test]
fn what_mosquitto_saves_now_and_then_is_on_disk_before_it_is_acknowledged() {
    let store = |lines: &str| import(&mtls(lines)).config.unwrap().store;
    let Store::Disk(disk) = store("persistence true\npersistence_location /var/lib/mosquitto/") else {
        panic!("on disk")
    };
    assert_eq!(disk.directory, Path::new("/var/lib/mosquitto/signet-store"));
    assert!(matches!(disk.durability, Durability::Strict { .. }));
    let Store::Disk(disk) = store("persistence true") else { panic!("on disk") };
    assert!(disk.directory.is_absolute() && disk.directory.ends_with("signet-store"));
    assert_eq!(last(&mtls("persistence true")).verdict, Verdict::Changed);
    assert_eq!(last(&mtls("persistence_location /x")).verdict, Verdict::Mapped);
    // Mosquitto writes nothing either.
    assert_eq!(store("persistence_location /x"), Store::Memory);
    assert_eq!(store("persistence true\npersistence false"), Store::Memory);
}

#[test]
fn without_a_policy_or_a_listener_nothing_starts() {
    let found = sentences(&format!("listener 8883\n{TLS}{CERTIFIED}"));
    assert_eq!(found, ["0: there is no acl_file: Mosquitto then lets every client do everything"]);
    let found = sentences("acl_file acl\n");
    assert_eq!(found, ["0: there is no listener: Mosquitto then listens on 127.0.0.1:1883 without TLS"]);
    assert_eq!(sentences("").len(), 2);
}

#[test]
fn every_half_made_listener_is_named() {
    let found = sentences("acl_file acl\nlistener 1883\nlistener 8883\ncafile ca.crt\n");
    assert_eq!(
        found,
        [
            "2: listener 1883 is without TLS, and this broker speaks MQTT over TLS only",
            "3: listener 8883 has no certfile",
            "3: listener 8883 has no keyfile",
            "3: listener 8883 does not require a certificate: clients without one are never admitted here",
            "3: listener 8883 takes user names from CONNECT: here the certificate's common name is the user",
        ]
    );
}

#[test]
fn two_listeners_may_name_the_same_policy_and_not_different_ones() {
    let two = |second: &str| {
        format!("per_listener_settings true\n{}listener 8884\n{TLS}{CERTIFIED}acl_file {second}\n", mtls(""))
    };
    assert_eq!(accepted(&two("acl")).listeners.len(), 2);
    assert!(sentences(&two("other"))[0].contains("one policy for all listeners"));
}

#[test]
fn the_log_level_is_that_of_the_most_talkative_type() {
    let level = |more: &str| accepted(&mtls(more)).log.level.as_str();
    assert_eq!(level("log_type error"), "error");
    assert_eq!(level("log_type error\nlog_type warning"), "warn");
    assert_eq!(level("log_type debug\nlog_type error"), "debug");
    assert_eq!(level("log_type all"), "debug");
    assert_eq!(level(""), "info");
}

#[test]
fn what_is_emitted_as_toml_means_the_same() {
    for more in [
        "",
        "max_connections 12\ntls_version tlsv1.3\ncrlfile a \"b\".crl\nmax_packet_size 3000000\nmax_queued_bytes 5000000\nlog_type debug\nsys_interval 0\npersistent_client_expiration 1d\nretain_available false",
    ] {
        let import = import(&mtls(more));
        let direct = import.config.unwrap();
        let file = Path::new("/somewhere/else/signet.toml");
        let mut through =
            parse(&import.toml, file).unwrap_or_else(|problems| panic!("{}\n{problems:?}", import.toml));
        assert_eq!(through.file, file);
        through.file.clone_from(&direct.file);
        assert_eq!(through, direct, "{}", import.toml);
    }
}

#[test]
fn the_toml_of_a_file_that_stops_is_still_toml() {
    let import = import("listener 1883\npassword_file x\nmax_keepalive 60\n");
    assert!(import.config.is_err());
    assert!(import.toml.contains("keep-alive-max = 60"), "{}", import.toml);
    let problems = parse(&import.toml, Path::new("x.toml")).unwrap_err();
    assert!(problems.iter().all(|problem| !problem.message.starts_with("not valid TOML")), "{problems:?}");
}

#[test]
fn included_files_are_read_in_order_and_begin_outside_of_a_listener() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    put("mosquitto.conf", "pid_file /run/m.pid\ninclude_dir conf.d\nmax_keepalive 60\n");
    put("conf.d/B.conf", &format!("listener 8883\n{TLS}{CERTIFIED}"));
    put("conf.d/a.conf", "acl_file acl\n");
    put("conf.d/ignored.txt", "password_file x\n");
    let import = mosquitto::load(&folder.path().join("mosquitto.conf"), folder.path()).unwrap();
    let checked = import.config.unwrap_or_else(|problems| panic!("{}", signet_config::render(&problems)));
    assert_eq!(checked.listeners[0].certificate, folder.path().join("server.crt"));
    let order: Vec<_> = import.lines.iter().map(|line| line.option.as_str()).collect();
    assert_eq!(order[..4], ["pid_file", "include_dir", "acl_file", "listener"]);

    put("conf.d/a.conf", "acl_file acl\nallow_anonymous true\n");
    let import = mosquitto::load(&folder.path().join("mosquitto.conf"), folder.path()).unwrap();
    let problems = import.config.unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].file.ends_with("conf.d/a.conf") && problems[0].line == 2, "{problems:?}");

    put("conf.d/a.conf", "acl_file acl\ninclude_dir more\n");
    let import = mosquitto::load(&folder.path().join("mosquitto.conf"), folder.path()).unwrap();
    assert!(import.config.unwrap_err()[0].message.contains("an included file cannot include others"));
}

#[test]
fn an_include_that_cannot_be_read_stops_the_start() {
    let found = sentences(&mtls("include_dir /etc/mosquitto/conf.d"));
    assert!(found[0].starts_with("8: include_dir /etc/mosquitto/conf.d: cannot read"), "{found:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mosquitto.conf");
    std::fs::write(&path, mtls("include_dir absent")).unwrap();
    assert!(mosquitto::load(&path, folder.path()).unwrap().config.is_err());
    assert!(mosquitto::load(&folder.path().join("absent.conf"), folder.path()).is_err());
}

#[test]
fn carriage_returns_and_trailing_spaces_do_not_matter() {
    let text = mtls("max_keepalive 60  ").replace('\n', "\r\n");
    assert_eq!(accepted(&text), accepted(&mtls("max_keepalive 60")));
}

#[test]
fn the_report_names_every_line_with_its_verdict() {
    let report = import(&mtls("password_file p")).report();
    assert!(report.contains("mapped      cafile ca.crt"), "{report}");
    assert!(report.contains("unsupported password_file p (stops the start)"), "{report}");
    assert!(report.contains("remark      "), "{report}");
}

/// Every option that mosquitto.conf(5) of 2.0 and 2.1 lists, and the synonyms that the parser knows.
const OPTIONS: &str = "accept_protocol_versions acl_file address addresses allow_anonymous allow_duplicate_messages
allow_zero_length_clientid auth_plugin auth_plugin_deny_special_chars auto_id_prefix autosave_interval autosave_on_changes bind_address
bind_interface bridge_alpn bridge_attempt_unsubscribe bridge_bind_address bridge_cafile bridge_capath bridge_certfile bridge_ciphers
bridge_ciphers_tls1.3 bridge_identity bridge_insecure bridge_keyfile bridge_max_packet_size bridge_max_topic_alias bridge_outgoing_retain
bridge_protocol_version bridge_psk bridge_receive_maximum bridge_reload_type bridge_require_ocsp bridge_session_expiry_interval
bridge_tcp_keepalive bridge_tcp_user_timeout bridge_tls_use_os_certs bridge_tls_version cafile capath certfile check_retain_source ciphers
ciphers_tls1.3 cleansession clientid clientid_prefixes connection connection_messages crlfile dhparamfile disable_client_cert_date_checks
enable_control_api enable_proxy_protocol global_max_clients global_max_connections global_plugin http_dir idle_timeout include_dir
keepalive_interval keyfile listener listener_allow_anonymous listener_auto_id_prefix local_cleansession local_clientid local_password
local_username log_dest log_facility log_timestamp log_timestamp_format log_type max_connections max_inflight_bytes max_inflight_messages
max_keepalive max_packet_size max_qos max_queued_bytes max_queued_messages max_topic_alias max_topic_alias_broker maximum_qos memory_limit
message_size_limit mount_point notification_topic notifications notifications_local_only packet_buffer_size password password_file
per_listener_settings persistence persistence_file persistence_location persistent_client_expiration pid_file plugin plugin_load
plugin_opt_acl_file auth_opt_host plugin_use port protocol proxy_protocol_v2_require_tls psk_file psk_hint queue_qos0_messages
remote_clientid remote_password remote_username require_certificate restart_timeout retain_available retain_expiry_interval
retained_persistence retry_interval round_robin set_tcp_nodelay socket_domain start_type sys_interval threshold tls_engine
tls_engine_kpass_sha1 tls_keyform tls_version topic try_private upgrade_outgoing_qos use_identity_as_username use_subject_as_username
use_username_as_clientid user username websockets_headers_size websockets_log_level websockets_origin";

#[test]
fn every_option_of_the_manual_is_known_whatever_its_value() {
    for option in OPTIONS.split_whitespace() {
        for value in ["", "1", "true", "false", "x", "-1", "ä\u{1}"] {
            let line = last(&mtls(&format!("{option} {value}")));
            assert_eq!(line.option, option);
            assert!(!line.note.contains("not an option"), "{option}: {}", line.note);
            assert!(!line.note.is_empty(), "{option}");
        }
    }
    assert!(last(&mtls("no_such_option x")).note.contains("not an option"));
}
