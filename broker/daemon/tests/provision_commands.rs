//! The commands about templates and claims against a running broker.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use setup::Setup;

/// Not authorized, of CONNACK.
const NOT_AUTHORIZED: u8 = 0x87;

const FLEET: &str = include_str!("../../../config/templates/fleet.json");
const JITP: &str = include_str!("../../../config/templates/jitp.json");
const ROTATION: &str = include_str!("../../../config/templates/rotation.json");

/// A running broker with the template `sensors`.
fn with_template() -> Setup {
    let setup = Setup::started();
    fs::write(setup.path("fleet.json"), FLEET).unwrap();
    setup.ask(&["template", "add", "sensors", "fleet.json", "--kind", "fleet"]);
    setup
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_template_is_stored_shown_versioned_and_removed() {
    let setup = Setup::started();
    fs::write(setup.path("fleet.json"), FLEET).unwrap();
    fs::write(setup.path("rotation.json"), ROTATION).unwrap();
    let add = ["template", "add", "sensors", "fleet.json", "--kind", "fleet"];
    let first = setup.ask(&add);
    assert_eq!((&first["changed"], &first["template"]["version"]), (&true.into(), &1.into()), "{first}");
    assert_eq!(setup.ask(&add)["changed"], false);
    let keys = setup.ask(&["template", "add", "sensors", "fleet.json", "--kind", "fleet", "--keys"]);
    assert_eq!(
        (&keys["template"]["keys"], &keys["template"]["version"]),
        (&true.into(), &2.into()),
        "{keys}"
    );
    setup.ask(&["template", "add", "renew", "rotation.json", "--kind", "rotation"]);
    let listed = setup.ask(&["template", "list"]);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["renew", "sensors"]);
    let shown = setup.ask(&["template", "show", "sensors"]);
    assert_eq!(shown["body"], FLEET);
    assert_eq!(shown["parameters"]["DeviceLocation"]["default"], "unknown");
    assert_eq!(shown["parameters"]["AWS::IoT::Certificate::Id"]["from-certificate"], true);

    setup.ask(&["claim", "create", "line-1", "--template", "sensors", "--out", "out"]);
    assert!(setup.refused(&["template", "remove", "sensors"]).contains("in use"));
    setup.ask(&["template", "remove", "renew"]);
    assert!(setup.refused(&["template", "show", "renew"]).contains("no template renew"));
}

#[test]
fn a_template_with_mistakes_is_refused_with_their_places_and_not_stored() {
    let setup = Setup::started();
    fs::write(setup.path("bad.json"), FLEET.replace("\"Ref\": \"SerialNumber\"", "\"Ref\": \"Serial\""))
        .unwrap();
    let said = setup.refused(&["template", "add", "sensors", "bad.json", "--kind", "fleet"]);
    assert!(said.contains("bad.json:14:30: $.Resources.thing"), "{said}");
    assert!(said.contains("not declared") && said.contains("nothing was done"), "{said}");
    assert_eq!(setup.ask(&["template", "list"]).as_array().unwrap().len(), 0);
    fs::write(setup.path("fleet.json"), FLEET).unwrap();
    assert!(setup.refused(&["template", "add", "a b", "fleet.json", "--kind", "fleet"]).contains("' '"));
    // What a device sends does not fit a kind in which no device sends anything.
    assert!(
        setup
            .refused(&["template", "add", "x", "fleet.json", "--kind", "jitp"])
            .contains("DeviceConfiguration")
    );
}

#[test]
fn a_template_is_tried_without_a_broker() {
    let setup = Setup::new();
    fs::write(setup.path("fleet.json"), FLEET).unwrap();
    let check = ["template", "check", "fleet.json", "--json", "--with", "SerialNumber=0007"];
    let checked: serde_json::Value = serde_json::from_str(&setup.works(&check)).unwrap();
    assert_eq!(checked["gives"]["name"], "sensor-0007");
    assert_eq!(checked["gives"]["device-configuration"]["telemetryTopic"], "devices/sensor-0007/telemetry");
    let refused = setup.run(&["template", "check", "fleet.json", "--with", "SerialNumber=a/b"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(said.contains("such a device is refused") && said.contains("'/'"), "{said}");
    fs::write(setup.path("bad.json"), "{\"Resources\": {}}").unwrap();
    assert_eq!(setup.run(&["template", "check", "bad.json"]).status.code(), Some(1));
}

#[test]
fn a_claim_is_made_once_connects_and_is_stopped_by_one_command() {
    let setup = with_template();
    let create = ["claim", "create", "line-1", "--template", "sensors", "--max", "100", "--out", "out"];
    let created = setup.ask(&create);
    assert_eq!((&created["claim"]["state"], &created["claim"]["devices-max"]), (&"open".into(), &100.into()));
    for file in ["device.key", "device.crt", "device-chain.crt", "device.json"] {
        assert!(setup.path("out/line-1").join(file).is_file(), "{file}");
    }
    // Whoever did not get the answer asks again and gets the same; another claim of that name is another's.
    let again = setup.ask(&create);
    assert_eq!(again["certificate"]["id"], created["certificate"]["id"]);
    assert_eq!(again["certificate"]["already"], true);
    let other = ["claim", "create", "line-1", "--template", "sensors", "--out", "elsewhere"];
    assert!(setup.refused(&other).contains("the claim line-1 exists"));

    let mut connection = setup.dial("out/line-1");
    assert_eq!(connection.connack(), 0);
    let sessions = setup.ask(&["sessions", "list"]);
    assert_eq!(
        (&sessions[0]["name"], &sessions[0]["role"]),
        (&"line-1".into(), &"claim".into()),
        "{sessions}"
    );
    setup.ask(&["claim", "suspend", "line-1"]);
    connection.packet();
    assert!(connection.is_closed());
    assert_eq!(setup.dial("out/line-1").connack(), NOT_AUTHORIZED);
    assert_eq!(setup.ask(&["claim", "list"])[0]["state"], "suspended");
    setup.ask(&["claim", "resume", "line-1"]);
    assert_eq!(setup.dial("out/line-1").connack(), 0);
    setup.ask(&["claim", "revoke", "line-1", "--reason", "key-compromise"]);
    assert_eq!(setup.dial("out/line-1").connack(), NOT_AUTHORIZED);
    assert_eq!(setup.ask(&["claim", "show", "line-1"])["claim"]["state"], "without-certificate");
    setup.ask(&["claim", "resume", "line-1"]);
    assert_eq!(setup.dial("out/line-1").connack(), NOT_AUTHORIZED);
}

#[test]
fn a_list_of_serial_numbers_is_handed_over_in_parts_and_grows() {
    let setup = with_template();
    let list: String = (0..2500).map(|n| format!("SN-{n:05}\n")).collect();
    fs::write(setup.path("serials.txt"), &list).unwrap();
    let create =
        ["claim", "create", "line-1", "--template", "sensors", "--serials", "serials.txt", "--out", "out"];
    let created = setup.ask(&create);
    assert_eq!(
        (&created["claim"]["serials"], &created["claim"]["listed-only"]),
        (&2500.into(), &true.into())
    );
    fs::write(setup.path("more.csv"), "batch,serial\n7,SN-00001\n7,SN-99999\n").unwrap();
    let more = ["claim", "add-serials", "line-1", "more.csv"];
    assert_eq!(setup.ask(&more)["added"], 1);
    assert_eq!(setup.ask(&more), serde_json::json!({"added": 0, "serials": 2501}));
    let shown = setup.ask(&["claim", "show", "line-1", "--serials"]);
    let serials = shown["serials"].as_array().unwrap();
    assert_eq!((serials.len(), &serials[2500]), (2501, &"SN-99999".into()));
    fs::write(setup.path("bad.txt"), "SN-1\nSN-1\n").unwrap();
    let said = setup.refused(&["claim", "add-serials", "line-1", "bad.txt"]);
    assert!(said.contains("bad.txt:2: SN-1 comes twice") && said.contains("nothing was done"), "{said}");
    assert!(setup.refused(&["claim", "add-serials", "line-2", "more.csv"]).contains("no claim line-2"));
}

#[test]
fn what_a_claim_cannot_be_is_refused() {
    let setup = with_template();
    fs::write(setup.path("rotation.json"), ROTATION).unwrap();
    setup.ask(&["template", "add", "renew", "rotation.json", "--kind", "rotation"]);
    let create = |more: &[&str]| {
        let mut args = vec!["claim", "create", "line-1", "--out", "out"];
        args.extend(more);
        setup.refused(&args)
    };
    assert!(create(&["--template", "nothing"]).contains("no template nothing"));
    assert!(create(&["--template", "renew"]).contains("not to be used here"));
    assert!(create(&["--template", "sensors", "--until", "2020-01-01"]).contains("is over"));
    assert!(create(&["--template", "sensors", "--from", "ten"]).contains("is no network"));
    assert!(create(&["--template", "sensors", "--valid", "10s"]).contains("a minute"));
    assert_eq!(setup.ask(&["claim", "list"]).as_array().unwrap().len(), 0);
    let both = ["claim", "create", "x", "--template", "sensors", "--valid", "5m", "--until", "2099-01-01"];
    assert_eq!(setup.run(&both).status.code(), Some(2));
}

#[test]
fn a_claim_of_five_minutes_ends_with_its_certificate() {
    let setup = with_template();
    let before = now_ms();
    let create =
        ["claim", "create", "ada", "--template", "sensors", "--valid", "5m", "--max", "1", "--out", "out"];
    let created = setup.ask(&create);
    let until = created["claim"]["until-ms"].as_u64().unwrap();
    assert!((before + 300_000..=now_ms() + 300_000).contains(&until));
    assert_eq!(created["certificate"]["not-after"].as_u64().unwrap(), until / 1000);
    assert_eq!(setup.ask(&create)["certificate"]["already"], true);
    assert_eq!(setup.dial("out/ada").connack(), 0);
    // An authority's certificates end with it, whatever is asked for.
    let far = ["claim", "create", "far", "--template", "sensors", "--until", "2120-01-01", "--out", "out"];
    assert!(setup.refused(&far).contains("50 years"));
}

#[test]
fn the_signer_of_secure_elements_is_imported_and_its_devices_come_in_at_their_first_connection() {
    let configuration = setup::CONFIGURATION.replace(
        "client-ca = [\"ca/issuing.crt\"]",
        "client-ca = [\"ca/issuing.crt\", \"signer.crt\"]\nrequire-client-auth-eku = false",
    );
    let mut setup = Setup::with_configuration(&configuration);
    // The maker's root is nobody's business here: the signer of the batch is the trust anchor, though it is an intermediate.
    let from = time::OffsetDateTime::now_utc();
    let validity = signet_certs_dev::Validity::days_from(from, 9000);
    let kind = signet_certs_dev::KeyKind::P256;
    let root = signet_certs_dev::Authority::root("Crypto Authentication Root CA", kind, validity).unwrap();
    let signer = root.intermediate("Crypto Authentication Signer F600", kind, validity, 0).unwrap();
    fs::write(setup.path("signer.crt"), signer.certificate_pem()).unwrap();
    fs::write(setup.path("jitp.json"), JITP).unwrap();
    setup.start();
    setup.ask(&["template", "add", "elements", "jitp.json", "--kind", "jitp"]);
    let import = ["ca", "import", "signer.crt", "--names", "sn*", "--share-names-with", "own"];
    let policy = ["--unknown", "jitp", "--template", "elements", "--max", "2"];
    let signer_id = setup.ask(&[&import[..], &policy].concat())["id"].as_str().unwrap().to_owned();
    let dial = |name: &str| {
        let mut profile = signet_certs_dev::LeafProfile::device(name, validity);
        profile.purposes = Vec::new();
        let leaf = signer.issue(&profile).unwrap();
        let folder = setup.path(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("device.key"), leaf.key_pem()).unwrap();
        fs::write(folder.join("device-chain.crt"), leaf.certificate_pem()).unwrap();
        setup.dial(name).connack()
    };
    assert_eq!([dial("sn0123AABBCC01"), dial("sn0123AABBCC02")], [0, 0]);
    assert_eq!(
        setup.ask(&["device", "show", "sn0123AABBCC01"])["device"]["certificates"][0]["status"],
        "active"
    );
    assert_eq!(dial("admin"), NOT_AUTHORIZED, "the signer may not name it");
    assert_eq!(dial("sn0123AABBCC03"), NOT_AUTHORIZED, "it has brought in as many as it may");
    let rows = setup.ask(&["ca", "show"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == signer_id.as_str()).unwrap().clone();
    assert_eq!((&row["devices"], &row["devices-max"]), (&2.into(), &2.into()));
    setup.ask(&["ca", "set", &signer_id[..16], "--max", "3"]);
    assert_eq!(dial("sn0123AABBCC03"), 0);
}
