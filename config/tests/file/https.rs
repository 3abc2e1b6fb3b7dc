//! `[[https]]` and `[[est.label]]` in the file.

use crate::good::{read, refusal};
use signet_config::EstLabel;
use std::path::PathBuf;
use std::time::Duration;

const CA: &str = "[registry]\nmode = \"on\"\n[ca]\n";
const DOOR: &str =
    "[[https]]\naddress = \"127.0.0.1:8443\"\ncertificate = \"s.crt\"\nprivate-key = \"s.key\"\n";

#[test]
fn without_a_word_nothing_is_served_over_https() {
    let checked = read(CA).unwrap();
    assert!(checked.https.is_empty() && checked.est_labels.is_empty());
}

#[test]
fn a_door_serves_both_and_trusts_the_brokers_own_authority() {
    let checked = read(&format!("{CA}{DOOR}")).unwrap();
    let [door] = checked.https.as_slice() else { panic!("one door") };
    assert!(door.provision && door.est);
    assert_eq!(door.client_ca, [PathBuf::from("/etc/signet/ca/issuing.crt")]);
    assert_eq!(door.requests_per_address_per_minute.unwrap().get(), 120);
    let named = read(&format!("{CA}{DOOR}client-ca = [\"x.crt\"]\nservices = [\"est\"]\n")).unwrap();
    assert_eq!(named.https[0].client_ca, [PathBuf::from("/etc/signet/x.crt")]);
    assert!(named.https[0].est && !named.https[0].provision);
}

#[test]
fn a_door_needs_an_authority_and_an_address_of_its_own() {
    let without = refusal(DOOR).to_string();
    assert!(without.contains("needs [ca]") && without.contains("signet ca init"), "{without}");
    let taken = refusal(&format!("{CA}{}", DOOR.replace("8443", "8883"))).to_string();
    assert!(taken.contains("taken by the listener on 127.0.0.1:8883"), "{taken}");
    let twice = refusal(&format!("{CA}{DOOR}{DOOR}")).to_string();
    assert!(twice.contains("127.0.0.1:8443 is taken"), "{twice}");
    let table = refusal(&format!("{CA}{}", DOOR.replace("[[https]]", "[https]"))).to_string();
    assert!(table.contains("two brackets"), "{table}");
}

#[test]
fn labels_are_profiles_each_with_a_name_of_its_own() {
    let labels =
        "[[est.label]]\nname = \"daily\"\nvalidity = \"24h\"\ncolumns = 64\n[[est.label]]\napproval = true\n";
    let checked = read(&format!("{CA}{DOOR}{labels}")).unwrap();
    let daily = &checked.est_labels[0];
    assert_eq!((daily.name.as_deref(), daily.validity), (Some("daily"), Some(Duration::from_secs(86_400))));
    assert_eq!((daily.columns.unwrap().get(), daily.approval), (64, false));
    assert_eq!(checked.est_labels[1], EstLabel { approval: true, ..EstLabel::DEFAULT });
}

#[test]
fn labels_that_cannot_be_are_refused() {
    for (label, what) in [
        ("name = \"simpleenroll\"", "cannot be a label"),
        ("name = \"a/b\"", "cannot be a label"),
        ("name = \"-a\"", "cannot be a label"),
        ("validity = \"1500ms\"", "1m"),
        ("validity = \"60500ms\"", "whole seconds"),
        ("columns = 77", "0 to 76"),
        ("approval = \"yes\"", "true or false"),
        ("nmae = \"x\"", "did you mean \"name\""),
        ("name = \"x\"\n[[est.label]]\nname = \"x\"", "twice"),
        ("name = \"x\"\n[est.profile]", "only [[est.label]]"),
    ] {
        let text = refusal(&format!("{CA}{DOOR}[[est.label]]\n{label}\n")).to_string();
        assert!(text.contains(what), "{label}: {text}");
    }
    let nowhere =
        refusal(&format!("{CA}{DOOR}services = [\"provision\"]\n[[est.label]]\nname = \"x\"\n")).to_string();
    assert!(nowhere.contains("served nowhere"), "{nowhere}");
}
