//! `[registry]` and `[ca]` in the file.

use crate::good::{GOOD, parsed, read, refusal};
use signet_config::{CaKey, KeyKind, Pkcs11, PreviousCa, Registry};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn without_a_word_there_is_no_registry_and_no_authority() {
    let checked = read("").unwrap();
    assert_eq!(checked.registry, Registry::Off);
    assert_eq!(checked.registry.directory(), None);
    assert_eq!(checked.ca, None);
}

#[test]
fn a_registry_lives_beside_the_configuration() {
    let checked = read("[registry]\nmode = \"on\"\n").unwrap();
    assert_eq!(checked.registry.directory(), Some(Path::new("/etc/signet/registry")));
}

#[test]
fn an_authority_has_safe_defaults() {
    let ca = read("[registry]\nmode = \"on\"\n[ca]\n").unwrap().ca.unwrap();
    assert_eq!(ca.directory, PathBuf::from("/etc/signet/ca"));
    assert_eq!(ca.certificate_validity, Duration::from_secs(90 * 86_400));
    assert_eq!(ca.backdate, Duration::from_secs(3600));
    assert_eq!(ca.keys, [KeyKind::P256, KeyKind::P384, KeyKind::Rsa]);
    assert_eq!((ca.crl_file, ca.crl_url), (None, None));
    assert_eq!(ca.key, CaKey::File { passphrase_file: None });
}

#[test]
fn an_authority_without_a_registry_is_refused() {
    let problem = refusal("[ca]\ndirectory = \"x\"\n");
    assert!(problem.message.contains("needs the registry"), "{problem}");
    assert!(problem.hint.unwrap().contains("mode = \"on\""));
}

#[test]
fn fractions_of_seconds_and_what_is_no_url_are_refused() {
    for (line, what) in [
        ("backdate = \"1500ms\"", "whole seconds"),
        ("certificate-validity = \"10s\"", "1m"),
        ("pkcs11-module = \"m.so\"\npkcs11-token = \"t\"", "\"pkcs11-key\" is missing"),
        ("pkcs11-module = \"m.so\"\npkcs11-token = \"\"\npkcs11-key = \"k\"", "\"pkcs11-token\" is empty"),
        (
            "pkcs11-module = \"m.so\"\npkcs11-token = \"t\"\npkcs11-key = \"k\"\npassphrase-file = \"p\"",
            "pkcs11-pin-file",
        ),
        ("crl-url = \"ldap://example.org/crl\"", "http"),
        ("crl-url = \"http:///crl\"", "http"),
        ("keys = []", "empty"),
        ("keys = [\"p-224\"]", "p-256"),
    ] {
        let problem = refusal(&format!("[registry]\nmode = \"on\"\n[ca]\n{line}\n"));
        let text = problem.to_string();
        assert!(text.contains(what), "{line}: {text}");
    }
}

#[test]
fn the_key_of_an_authority_may_be_in_a_token() {
    let token = "pkcs11-module = \"/usr/lib/hsm.so\"\npkcs11-token = \"signet\"\npkcs11-key = \"issuing\"\n";
    let key = |more: &str| {
        read(&format!("[registry]\nmode = \"on\"\n[ca]\n{token}{more}")).unwrap().ca.unwrap().key
    };
    let mut expected = Pkcs11 {
        module: PathBuf::from("/usr/lib/hsm.so"),
        token: "signet".to_owned(),
        key: "issuing".to_owned(),
        pin_file: None,
    };
    assert_eq!(key(""), CaKey::Pkcs11(expected.clone()));
    expected.pin_file = Some(PathBuf::from("/etc/signet/pin"));
    assert_eq!(key("pkcs11-pin-file = \"pin\"\n"), CaKey::Pkcs11(expected));
}

#[test]
fn what_a_stale_list_means_can_be_said_for_single_authorities() {
    use signet_config::CrlStale;
    let listener = |more: &str| {
        let text = GOOD.replace("[acl]", &format!("{more}\n[acl]"));
        parsed(&text).map(|mut checked| checked.listeners.remove(0))
    };
    let checked = listener(
        "crl-grace = \"2d\"\ncrl-stale-by-issuer = { \"CN=Factory\" = \"warn\", \"CN=Field\" = \"grace\" }",
    )
    .unwrap();
    assert_eq!(checked.crl_stale, CrlStale::Reject);
    assert_eq!(checked.crl_stale_by_issuer["CN=Factory"], CrlStale::Warn);
    assert_eq!(checked.crl_stale_by_issuer["CN=Field"], CrlStale::Grace(Duration::from_secs(2 * 86_400)));
    assert!(listener("").unwrap().crl_stale_by_issuer.is_empty());
    for (line, what) in [
        ("crl-stale-by-issuer = { \"CN=Factory\" = \"wrn\" }", "did you mean \"warn\""),
        ("crl-stale-by-issuer = \"warn\"", "must be a table"),
        (
            "crl-grace = \"2d\"\ncrl-stale-by-issuer = { \"CN=Factory\" = \"warn\" }",
            "\"crl-grace\" has no effect",
        ),
    ] {
        let problems = listener(line).unwrap_err();
        assert!(problems[0].to_string().contains(what), "{line}: {problems:?}");
    }
}

#[test]
fn authorities_of_before_have_keys_in_files_in_tokens_or_nowhere() {
    let text = "[registry]\nmode = \"on\"\n[ca]\npassphrase-file = \"pass\"\nprevious = [\"a\"]\n\
                [[ca-previous]]\ndirectory = \"b\"\npkcs11-module = \"m.so\"\npkcs11-token = \"t\"\npkcs11-key = \"old\"\n\
                [[ca-previous]]\ndirectory = \"c\"\nkey = \"none\"\n\
                [[ca-previous]]\ndirectory = \"d\"\npassphrase-file = \"pass-d\"\n";
    let at = |name: &str| PathBuf::from(format!("/etc/signet/{name}"));
    let file = |name: &str| Some(CaKey::File { passphrase_file: Some(at(name)) });
    let token = Pkcs11 { module: at("m.so"), token: "t".to_owned(), key: "old".to_owned(), pin_file: None };
    let expected =
        [("a", file("pass")), ("b", Some(CaKey::Pkcs11(token))), ("c", None), ("d", file("pass-d"))];
    let expected = expected.map(|(name, key)| PreviousCa { directory: at(name), key });
    assert_eq!(read(text).unwrap().ca.unwrap().previous, expected);
}

#[test]
fn an_authority_of_before_that_makes_no_sense_is_refused() {
    let on = "[registry]\nmode = \"on\"\n";
    for (text, what) in [
        ("[[ca-previous]]\ndirectory = \"b\"\n", "needs [ca]"),
        ("[ca]\n[[ca-previous]]\nkey = \"none\"\n", "\"directory\""),
        ("[ca]\nprevious = [\"ca\"]\n", "named twice"),
        ("[ca]\nprevious = [\"b\"]\n[[ca-previous]]\ndirectory = \"b\"\n", "named twice"),
        (
            "[ca]\n[[ca-previous]]\ndirectory = \"b\"\nkey = \"none\"\npassphrase-file = \"p\"\n",
            "no key here",
        ),
        ("[ca]\n[[ca-previous]]\ndirectory = \"b\"\npkcs11-token = \"t\"\n", "is missing"),
    ] {
        let problems = read(&format!("{on}{text}")).unwrap_err();
        let said: String = problems.iter().map(ToString::to_string).collect();
        assert!(said.contains(what), "{text}: {said}");
    }
}
