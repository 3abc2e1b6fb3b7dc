//! The doctor and certificates: every way to be wrong has its finding and exit code, and a good one has none.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod ward;

use signet_certs_dev::{
    Authority, CrlProfile, Extensions, KeyKind, KeyUse, LeafProfile, Purpose, Subject, SubjectAltName,
    Validity, rsa_public_key,
};
use time::{Duration, OffsetDateTime};
use ward::Ward;

fn days(count: i64) -> Validity {
    Validity::days_from(OffsetDateTime::now_utc(), count)
}

fn device(name: &str) -> LeafProfile {
    LeafProfile::device(name, days(90))
}

#[test]
fn a_good_certificate_has_no_finding_and_exit_code_0() {
    let ward = Ward::new();
    let said = ward.doctor(&[
        "sensor-001-chain.crt",
        "--key",
        "sensor-001.key",
        "--ca",
        "root.crt",
        "--ca",
        "issuing.crt",
        "--crl",
        "issuing.crl",
    ]);
    said.is_well();
    assert!(said.facts("private key").contains("is the key of this certificate"));
    assert!(said.facts("chain").contains("accepts it"));
    // The root alone is enough when the intermediate is sent.
    ward.doctor(&["sensor-001-chain.crt", "--ca", "root.crt"]).is_well();
    // For people the same, without colours where nobody sees them.
    let args = ["doctor", "sensor-001-chain.crt", "--ca", "root.crt"];
    let output = ward.command(&args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.ends_with("nothing is wrong\n") && !text.contains('\x1b'), "{text}");
}

#[test]
fn each_role_of_the_development_pki_has_the_finding_that_it_was_made_for() {
    let ward = Ward::new();
    ward.judge("sensor-002").is_well();
    ward.judge("admin").is_well();
    ward.judge("expired").errs(&["expired"]).openssl("expired", 10);
    ward.judge("not-yet-valid").errs(&["not-yet-valid"]).openssl("not-yet-valid", 9);
    ward.judge("foreign-ca").errs(&["missing-issuer"]).openssl("missing-issuer", 20);
    ward.judge("revoked").errs(&["revoked"]).openssl("revoked", 23);
    ward.judge("wrong-eku").errs(&["wrong-purpose"]).openssl("wrong-purpose", 26);
    ward.judge("server").errs(&["wrong-purpose"]);
    ward.judge("no-eku").errs(&["missing-purpose"]);
}

#[test]
fn a_missing_signer_is_named_with_the_number_that_openssl_has_for_it() {
    let ward = Ward::new();
    let said = ward.doctor(&["sensor-001.crt", "--ca", "root.crt"]);
    said.errs(&["missing-issuer"]).openssl("missing-issuer", 20);
    let text = said.finding("missing-issuer")["text"].as_str().unwrap();
    assert!(text.contains("CN=Signet development issuing CA") && text.contains("depth 0"), "{text}");
    // With the intermediate sent and the root unknown, the root is what is missing.
    let said = ward.doctor(&["sensor-001-chain.crt", "--ca", "foreign.crt"]);
    said.errs(&["missing-issuer"]);
    let text = said.finding("missing-issuer")["text"].as_str().unwrap();
    assert!(text.contains("CN=Signet development root CA") && text.contains("depth 1"), "{text}");
    // An intermediate alone is enough for Signet, and error 2 for openssl verify.
    let said = ward.doctor(&["sensor-001.crt", "--ca", "issuing.crt"]);
    said.errs(&[]).warns(&["partial-chain"]).openssl("partial-chain", 2);
    // Nobody said what is trusted.
    let said = ward.doctor(&["sensor-001.crt"]);
    said.errs(&[]).warns(&[]);
    assert_eq!(said.found("note"), ["no-trust-anchor"]);
}

#[test]
fn a_chain_that_is_out_of_order_or_holds_what_does_not_belong_there_is_told_apart() {
    let ward = Ward::new();
    ward.join("turned", &["issuing.crt", "sensor-001.crt"]);
    // rustls sends the first certificate as the device's own, so the broker would refuse it.
    ward.judge("turned").errs(&["leaf-not-first"]);
    ward.join("with-root", &["sensor-001.crt", "issuing.crt", "root.crt"]);
    let said = ward.judge("with-root");
    said.errs(&[]).warns(&["long-chain"]);
    assert_eq!(said.found("note"), ["root-in-chain"]);
    ward.join("with-other", &["sensor-001.crt", "issuing.crt", "sensor-002.crt"]);
    ward.judge("with-other").errs(&[]).warns(&["unrelated-in-chain", "long-chain"]);
    ward.join("twice", &["sensor-001.crt", "issuing.crt", "issuing.crt"]);
    ward.judge("twice").errs(&[]).warns(&["unrelated-in-chain", "long-chain"]);
    ward.join("foreign", &["foreign-ca.crt", "foreign.crt"]);
    ward.judge("foreign").errs(&["untrusted-root"]).openssl("untrusted-root", 19);
}

#[test]
fn authorities_that_may_not_be_one_are_found_on_the_path() {
    let ward = Ward::new();
    let root = &ward.pki.root;
    let namesake = Authority::root("Signet development root CA", KeyKind::P256, days(900)).unwrap();
    ward.keep("namesake", &namesake.issue(&device("d")).unwrap());
    ward.judge("namesake").errs(&["namesake-issuer"]);
    let too_deep = ward.pki.issuing.intermediate("Too deep", KeyKind::P256, days(900), 0).unwrap();
    ward.keep("deep", &too_deep.issue(&device("d")).unwrap());
    let said = ward.doctor(&["deep-chain.crt", "--ca", "root.crt"]);
    said.errs(&["path-length"]).openssl("path-length", 25);
    let misused = root.issue(&device("not-an-authority")).unwrap().misused_as_authority().unwrap();
    ward.keep("misused", &misused.issue(&device("d")).unwrap());
    let said = ward.doctor(&["misused-chain.crt", "--ca", "root.crt"]);
    said.errs(&["issuer-not-authority"]).openssl("issuer-not-authority", 79);
    let old = root.intermediate("Old", KeyKind::P256, Validity::past(OffsetDateTime::now_utc()), 0).unwrap();
    ward.keep("old", &old.issue(&device("d")).unwrap());
    let said = ward.doctor(&["old-chain.crt", "--ca", "root.crt"]);
    said.errs(&["expired"]);
    assert!(said.finding("expired")["text"].as_str().unwrap().contains("the authority \"CN=Old\""));
    let short = root.intermediate("Short", KeyKind::P256, days(60), 0).unwrap();
    ward.keep("short", &short.issue(&device("d")).unwrap());
    ward.doctor(&["short-chain.crt", "--ca", "root.crt"]).errs(&[]).warns(&["authority-ends-first"]);
    // An authority that begins in ten years, and a certificate of it: then it is rather the clock.
    let begins = Validity::future(OffsetDateTime::now_utc());
    let future = root.intermediate("Future", KeyKind::P256, begins, 0).unwrap();
    ward.keep("future", &future.issue(&device("d")).unwrap());
    let said = ward.doctor(&["future-chain.crt", "--ca", "root.crt"]);
    said.errs(&["not-yet-valid"]).warns(&["clock-suspect"]);
    // An authority as a device.
    ward.join("authority", &["issuing.crt"]);
    let said = ward.judge("authority");
    assert!(said.found("error").contains(&"leaf-is-authority"), "{:#}", said.report);
    assert_eq!(said.code, Some(1));
}

#[test]
fn a_key_that_does_not_fit_or_cannot_be_used_is_said_so() {
    let ward = Ward::new();
    let with = |key: &str| ward.doctor(&["sensor-001-chain.crt", "--ca", "root.crt", "--key", key]);
    with("sensor-002.key").errs(&["key-mismatch"]);
    with("sensor-001.crt").errs(&["key-unusable"]);
    ward.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let said = with("locked.key");
    said.errs(&["key-unusable"]);
    assert!(said.finding("key-unusable")["text"].as_str().unwrap().contains("passphrase"));
    ward.chmod("sensor-001.key", 0o644);
    with("sensor-001.key").errs(&[]).warns(&["key-exposed"]);
    assert!(ward.cannot_run(&["sensor-001.crt", "--key", "nowhere.key"]).contains("no such file"));
}

#[test]
fn weak_and_unusual_keys_are_refused_and_heavy_ones_warned_of() {
    let ward = Ward::new();
    let issuing = &ward.pki.issuing;
    ward.keep("rsa1024", &issuing.issue_for_public_key(&device("d"), &rsa_public_key(1024)).unwrap());
    ward.judge("rsa1024").errs(&["key-not-accepted"]).openssl("key-not-accepted", 66);
    for (name, key) in [("p521", KeyKind::P521), ("ed25519", KeyKind::Ed25519)] {
        ward.keep(name, &issuing.issue(&device("d").with_key(key)).unwrap());
        ward.judge(name).errs(&["key-not-accepted"]);
    }
    ward.keep("rsa2048", &issuing.issue(&device("d").with_key(KeyKind::Rsa2048)).unwrap());
    ward.judge("rsa2048").errs(&[]).warns(&["rsa-key"]);
    ward.keep("p384", &issuing.issue(&device("d").with_key(KeyKind::P384)).unwrap());
    let said = ward.judge("p384");
    said.errs(&[]).warns(&[]);
    assert_eq!(said.found("note"), ["slow-curve"]);
}

#[test]
fn the_estimates_for_a_device_grow_with_the_chain() {
    let ward = Ward::new();
    let heap = |name: &str| ward.judge(name).report["heap"][1]["heap"].as_u64().unwrap();
    let small = heap("sensor-001");
    assert_eq!(small, 24_000);
    let rsa = Authority::root("RSA root", KeyKind::Rsa4096, days(900)).unwrap();
    ward.keep("rsa", &rsa.issue(&device("d").with_key(KeyKind::Rsa4096)).unwrap());
    ward.write("rsa-root.crt", &rsa.certificate_pem());
    ward.join("rsa", &["rsa.crt", "rsa-root.crt", "issuing.crt", "foreign.crt"]);
    let said = ward.doctor(&["rsa-chain.crt", "--ca", "rsa-root.crt"]);
    assert!(said.found("warning").contains(&"long-chain"), "{:#}", said.report);
    assert!(said.report["heap"][1]["heap"].as_u64().unwrap() > small + 12_000);
}

#[test]
fn a_certificate_of_version_1_is_an_error_or_a_warning_as_the_listener_says() {
    let ward = Ward::new();
    let leaf = ward.pki.issuing.issue_version_1(&device("d"), Extensions::Dropped).unwrap();
    ward.keep("v1", &leaf);
    ward.judge("v1").errs(&["version-one"]);
    let listener = "x509-v1 = \"accept\"\nrequire-client-auth-eku = false\n";
    ward.write("signet.toml", &configuration(listener));
    ward.write("acl.conf", "pattern write devices/%u/#\n");
    ward.doctor(&["v1-chain.crt", "--config", "signet.toml"]).errs(&[]).warns(&["version-one-tolerated"]);
}

#[test]
fn a_name_that_cannot_be_an_identity_is_refused_with_the_reason() {
    let ward = Ward::new();
    let two = Subject { second_common_name: Some("admin".into()), ..Subject::cn("d") };
    let none = Subject { organization: Some("Signet".into()), ..Subject::default() };
    for (name, subject, words) in [
        ("two", two, "2 common names"),
        ("none", none, "no common name"),
        ("slash", Subject::cn("sensor-001/commands"), "'/'"),
        ("plus", Subject::cn("+"), "'+'"),
        ("space", Subject::cn("sensor 1"), "' '"),
    ] {
        let leaf = ward.pki.issuing.issue(&LeafProfile { subject, ..device("d") }).unwrap();
        ward.keep(name, &leaf);
        let said = ward.judge(name);
        said.errs(&["no-usable-name"]);
        let text = said.finding("no-usable-name")["text"].as_str().unwrap();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn usages_that_do_not_allow_a_handshake_are_found_all_at_once() {
    let ward = Ward::new();
    let profile =
        device("a/b").with_key_uses(&[KeyUse::KeyEncipherment]).with_purposes(&[Purpose::CodeSigning]);
    let profile = LeafProfile { validity: Validity::past(OffsetDateTime::now_utc()), ..profile };
    let leaf = ward.pki.issuing.issue(&profile).unwrap();
    ward.keep("all", &leaf);
    let crl = CrlProfile::new(2, OffsetDateTime::now_utc(), 30, &[leaf.serial()]);
    ward.write("issuing.crl", &ward.pki.issuing.crl(&crl).unwrap().pem());
    // One run, everything: the verifier itself would have stopped at the first of these.
    ward.judge("all").errs(&["wrong-purpose", "wrong-key-usage", "expired", "no-usable-name", "revoked"]);
}

#[test]
fn a_revocation_list_that_is_stale_missing_or_foreign_is_said_so() {
    let ward = Ward::new();
    let now = OffsetDateTime::now_utc();
    let with = |list: &str, ca: &[&str]| {
        let mut args = vec!["sensor-001-chain.crt", "--crl", list];
        ca.iter().for_each(|ca| args.extend(["--ca", ca]));
        ward.doctor(&args)
    };
    let both = ["root.crt", "issuing.crt"];
    let past = CrlProfile {
        this_update: now - Duration::days(9),
        next_update: now - Duration::days(2),
        ..CrlProfile::new(3, now, 1, &[])
    };
    ward.write("stale.crl", &ward.pki.issuing.crl(&past).unwrap().pem());
    with("stale.crl", &both).errs(&["crl-stale"]).warns(&[]).openssl("crl-stale", 12);
    // Where the listener takes stale lists of this issuer, it is a warning.
    ward.write("acl.conf", "pattern write devices/%u/#\n");
    let tolerant = "crl-stale-by-issuer = { \"CN=Signet development issuing CA\" = \"warn\" }\n";
    ward.write("signet.toml", &configuration(tolerant));
    let said = ward.doctor(&["sensor-001-chain.crt", "--config", "signet.toml", "--crl", "stale.crl"]);
    said.errs(&[]).warns(&["crl-doubtful"]);
    let soon = CrlProfile {
        this_update: now - Duration::days(9),
        next_update: now + Duration::hours(5),
        ..CrlProfile::new(3, now, 1, &[])
    };
    ward.write("soon.crl", &ward.pki.issuing.crl(&soon).unwrap().pem());
    with("soon.crl", &both).errs(&[]).warns(&["crl-doubtful"]);
    ward.write("root.crl", &ward.pki.root.crl(&CrlProfile::new(1, now, 30, &[])).unwrap().pem());
    with("root.crl", &both).errs(&["crl-missing"]).openssl("crl-missing", 3);
    ward.write("foreign.crl", &ward.pki.foreign.crl(&CrlProfile::new(1, now, 30, &[])).unwrap().pem());
    with("foreign.crl", &both).errs(&["crl-unusable"]);
    with("sensor-001.crt", &both).errs(&["crl-unusable"]);
    with("issuing.crl", &["sensor-002.crt"]).errs(&["ca-unusable", "missing-issuer"]);
}

#[test]
fn what_is_no_certificate_is_said_so_and_what_is_not_there_ends_with_2() {
    let ward = Ward::new();
    ward.write("garbage.crt", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    ward.doctor(&["garbage.crt"]).errs(&["certificate-unreadable"]);
    ward.doctor(&["sensor-001.key"]).errs(&["certificate-unreadable"]);
    for (args, words) in [
        (&["nowhere.crt"][..], "neither a file that is there nor HOST:PORT"),
        (&["sensor-001.crt", "--cert", "sensor-001.crt"], "--cert goes with HOST:PORT"),
        (&["sensor-001.crt", "--config", "nowhere.toml"], "no such file"),
        (&["localhost:1", "--cert", "sensor-001.crt"], "--cert and --key together"),
        (&["localhost:1", "--timeout", "0"], "1 to 120"),
    ] {
        let said = ward.cannot_run(args);
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn listeners_of_a_configuration_are_judged_each_and_one_that_accepts_is_enough() {
    let ward = Ward::new();
    ward.write("acl.conf", "user sensor-001\ntopic read halls/#\n\npattern write devices/%u/#\n");
    let second = "\n[[listener]]\naddress = \"127.0.0.1:8884\"\ncertificate = \"server-chain.crt\"\n\
        private-key = \"server.key\"\nclient-ca = [\"foreign.crt\"]\nmax-connections = 10\n";
    ward.write("signet.toml", &configuration("").replace("\n[acl]", &format!("{second}\n[acl]")));
    let said = ward.doctor(&["sensor-001-chain.crt", "--config", "signet.toml"]);
    said.errs(&[]).warns(&[]);
    assert_eq!(said.found("note"), ["other-listener-refuses"]);
    let only = ["sensor-001-chain.crt", "--config", "signet.toml", "--listener", "127.0.0.1:8884"];
    ward.doctor(&only).errs(&["missing-issuer"]);
    ward.doctor(&["foreign-ca-chain.crt", "--config", "signet.toml"]).errs(&[]);
    ward.doctor(&["expired-chain.crt", "--config", "signet.toml"]).errs(&["expired", "missing-issuer"]);
    let said = ward.cannot_run(&["sensor-001.crt", "--config", "signet.toml", "--listener", "127.0.0.1:1"]);
    assert!(said.contains("no listener 127.0.0.1:1"), "{said}");
    // What it may do, with the line of each rule.
    let said = ward.doctor(&["sensor-001-chain.crt", "--config", "signet.toml"]);
    let rights = said.report["judgement"]["rights"].as_array().unwrap();
    assert_eq!(rights.len(), 2, "{rights:#?}");
    assert_eq!(
        (&rights[0]["access"], &rights[0]["filter"], &rights[0]["line"]),
        (&"receive".into(), &"halls/#".into(), &2.into())
    );
    assert_eq!(rights[1]["filter"], "devices/sensor-001/#");
    assert!(rights[1]["file"].as_str().unwrap().ends_with("acl.conf"));
    assert_eq!(said.report["judgement"]["who"]["name"], "sensor-001");
    ward.write("acl.conf", "user sensor-002\ntopic read halls/#\n");
    ward.doctor(&["sensor-001-chain.crt", "--config", "signet.toml"]).errs(&[]).warns(&["no-rights"]);
    ward.write("acl.conf", "nonsense here\n");
    ward.doctor(&["sensor-001-chain.crt", "--config", "signet.toml"]).errs(&["config-unusable"]);
    ward.write("signet.toml", "[[listener]]\nadress = \"x\"\n");
    let said = ward.doctor(&["sensor-001-chain.crt", "--config", "signet.toml"]);
    assert!(said.found("error").iter().all(|code| *code == "config-unusable"), "{:#}", said.report);
    assert_eq!(said.code, Some(1));
}

#[test]
fn a_certificate_may_end_soon_and_have_a_name_in_its_alternative_names() {
    let ward = Ward::new();
    let mut profile = LeafProfile { validity: days(3), ..device("d") };
    profile.alt_names = vec![SubjectAltName::Dns("d.example.net".into())];
    ward.keep("soon", &ward.pki.issuing.issue(&profile).unwrap());
    let said = ward.judge("soon");
    said.errs(&[]).warns(&["ends-soon"]);
    assert_eq!(said.facts("names"), "CN:d, DNS:d.example.net");
}

fn configuration(listener: &str) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:8883\"\ncertificate = \"server-chain.crt\"\nprivate-key = \"server.key\"\n\
         client-ca = [\"root.crt\", \"issuing.crt\"]\ncrl = [\"issuing.crl\"]\nmax-connections = 10\n{listener}\n\
         [acl]\nfile = \"acl.conf\"\n\n[admin]\nsocket = \"signet.sock\"\n"
    )
}
