//! Certificates of outside authorities: provisioned at the first connection, or registered and announced.

use serde_json::Value;
use signet_certs_dev::{Authority, KeyKind, Leaf, LeafProfile, Validity};
use signet_identity::{CertificateId, Role, TemplateName};
use signet_registry::{
    CaSettings, Command, KeyHash, NewCa, NewCertificate, Selector, Source, TemplateKind, UnknownPolicy,
};
use signet_tests::build::{self, V5, V311};
use signet_tests::received::Received;
use time::OffsetDateTime;

use crate::claim::refusal;
use crate::factory::Factory;

/// The thing has the name that the maker gave.
const BY_NAME: &str = r#"{
  "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
    "certificate": {"Type": "AWS::IoT::Certificate",
      "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}}}
}"#;

/// A maker of secure elements: a root that nobody here trusts, and the signer that the devices' certificates are from.
struct Maker {
    signer: Authority,
}

impl Maker {
    fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        let root =
            Authority::root("Crypto Authentication Root CA", KeyKind::P256, Validity::days_from(now, 9000))
                .unwrap();
        let signer = root
            .intermediate(
                "Crypto Authentication Signer F600",
                KeyKind::P256,
                Validity::days_from(now, 9000),
                0,
            )
            .unwrap();
        Self { signer }
    }

    fn device(&self, common_name: &str) -> Leaf {
        let mut profile =
            LeafProfile::device(common_name, Validity::days_from(OffsetDateTime::now_utc(), 8000));
        // As a secure element has it: no extended key usage.
        profile.purposes = Vec::new();
        self.signer.issue(&profile).unwrap()
    }
}

/// A broker that trusts the maker's signer, with this policy for the devices that it does not know.
fn factory(maker: &Maker, unknown: UnknownPolicy) -> Factory {
    factory_with("", maker, unknown)
}

/// And with these lines in `[provisioning]`.
fn factory_with(provisioning: &str, maker: &Maker, unknown: UnknownPolicy) -> Factory {
    let anchors = ", \"signer.crt\"]\nrequire-client-auth-eku = false\ncrl = [";
    let factory = Factory::bare(provisioning, anchors, &[("signer.crt", &maker.signer.certificate_pem())]);
    factory.template("by-name", TemplateKind::Jitp, BY_NAME);
    let der = maker.signer.certificate();
    let key = key_of(der);
    let certificate = NewCertificate::read(der, key).unwrap();
    let settings = CaSettings {
        connect: true,
        registers: true,
        unknown,
        role: Role::Device,
        names: vec!["sn*".parse().unwrap()],
        shares_names_with: vec![factory.broker().authority().unwrap().issuer().id()],
        devices_max: None,
        joins_others: false,
    };
    factory.execute(Command::AddCa(NewCa { certificate, source: Source::Outside, settings })).unwrap();
    factory
}

/// The hash of the public key of a certificate.
fn key_of(der: &[u8]) -> KeyHash {
    let certificate = NewCertificate::read(der, KeyHash::of_spki(b"nobody")).unwrap();
    certificate.facts().public_key
}

fn jitp() -> UnknownPolicy {
    UnknownPolicy::Jitp(TemplateName::try_from("by-name").unwrap())
}

#[test]
fn a_secure_element_is_a_member_of_the_fleet_from_its_first_connection_on() {
    let maker = Maker::new();
    let factory = factory(&maker, jitp());
    for (version, name) in [(V311, "sn0123030405060708EE"), (V5, "sn0123AABBCCDDEEFFEE")] {
        let leaf = maker.device(name);
        // It presents the leaf alone, or its signer with it.
        let bare = factory.door().presenting_bare(leaf.certificate(), leaf.key());
        for door in [bare, factory.door().presenting(&leaf)] {
            let mut client = door.connect(&build::connect(version, "any"), version);
            let topic = format!("devices/{name}/telemetry");
            client.subscribe(&topic, 1);
            client.publish(&topic, "1", 0);
            client.expect_publish(&topic, "1");
        }
        let registry = factory.registry().snapshot();
        assert_eq!(registry.thing(name).unwrap().certificates(), [CertificateId::of(leaf.certificate())]);
    }
    assert_eq!(
        factory.metric("signet_provisioning_just_in_time_total{policy=\"jitp\",result=\"accepted\"}"),
        2.0
    );
}

#[test]
fn a_name_that_the_maker_may_not_give_is_refused_and_leaves_nothing_but_a_row() {
    let maker = Maker::new();
    let factory = factory(&maker, jitp());
    for name in ["admin", "fp_1", "sn/1", "sn+", "sn#", "sn 1", "sn\u{e4}"] {
        let leaf = maker.device(name);
        let door = factory.door().presenting_bare(leaf.certificate(), leaf.key());
        assert_eq!(refusal(&door), 0x87, "{name}");
    }
    assert_eq!(factory.registry().registry().things_count(), 0);
    factory.until("rows in the audit trail", |factory| !factory.audit("refused").is_empty());
    assert!(
        factory.metric("signet_provisioning_just_in_time_total{policy=\"jitp\",result=\"refused\"}") >= 7.0
    );
}

#[test]
fn one_device_from_many_connections_at_once_is_one_thing() {
    let maker = Maker::new();
    let factory = factory(&maker, jitp());
    let leaf = maker.device("sn01");
    let door = factory.door().presenting_bare(leaf.certificate(), leaf.key());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let door = &door;
            scope.spawn(move || {
                door.connect(&build::connect(V5, format!("c{n}")), V5).expect_nothing();
            });
        }
    });
    assert_eq!(factory.registry().registry().thing("sn01").unwrap().certificates().len(), 1);
    // Another certificate of that name is another device, or a copy: the first one stays.
    let second = maker.device("sn01");
    let door = factory.door().presenting_bare(second.certificate(), second.key());
    assert_eq!(refusal(&door), 0x87);
}

#[test]
fn an_authority_that_no_longer_registers_keeps_those_that_it_has() {
    let maker = Maker::new();
    let factory = factory(&maker, jitp());
    let known = maker.device("sn01");
    let door = factory.door().presenting_bare(known.certificate(), known.key());
    door.connect(&build::connect(V5, "c"), V5).expect_nothing();
    let ca = factory.registry().registry().ca_by_key(&key_of(maker.signer.certificate())).unwrap().clone();
    let settings = CaSettings { registers: false, ..ca.settings.clone() };
    factory.execute(Command::UpdateCa { ca: ca.id, settings }).unwrap();
    door.connect(&build::connect(V5, "c"), V5).expect_nothing();
    let new = maker.device("sn02");
    assert_eq!(refusal(&factory.door().presenting_bare(new.certificate(), new.key())), 0x87);
}

#[test]
fn a_certificate_that_waits_is_refused_announced_to_operators_and_let_in_when_it_is_activated() {
    let maker = Maker::new();
    let factory = factory(&maker, UnknownPolicy::Jitr);
    let operator = factory.operator("olga");
    let mut olga = factory.door().presenting(&operator).connect(&build::connect(V5, "olga"), V5);
    olga.subscribe("$aws/events/certificates/registered/#", 1);
    let leaf = maker.device("sn77");
    let door = factory.door().presenting_bare(leaf.certificate(), leaf.key());
    assert_eq!(refusal(&door), 0x87);
    let Received::Publish(event) = olga.receive() else { panic!("an event") };
    let ca = factory.registry().registry().ca_by_key(&key_of(maker.signer.certificate())).unwrap().id;
    assert_eq!(event.topic, format!("$aws/events/certificates/registered/{ca}"));
    assert!(!event.retain);
    let document: Value = serde_json::from_slice(&event.payload).unwrap();
    let id = CertificateId::of(leaf.certificate());
    assert_eq!(document["certificateId"], id.to_string());
    assert_eq!(document["caCertificateId"], ca.to_string());
    assert_eq!(document["certificateStatus"], "PENDING_ACTIVATION");
    assert!(document["timestamp"].is_u64());
    for field in ["awsAccountId", "certificateRegistrationTimestamp"] {
        assert!(document[field].is_string(), "{field}");
    }
    // However often it knocks, it is said once in a while.
    for _ in 0..5 {
        assert_eq!(refusal(&door), 0x87);
    }
    olga.expect_nothing();
    factory.execute(Command::Activate(Selector::Certificate(id))).unwrap();
    door.connect(&build::connect(V5, "sn77"), V5).expect_nothing();
    assert!(factory.registry().registry().thing("sn77").is_some());
}

/// Sets what the maker's signer may do.
fn change(factory: &Factory, maker: &Maker, change: impl FnOnce(&mut CaSettings)) {
    let ca = factory.registry().registry().ca_by_key(&key_of(maker.signer.certificate())).unwrap().clone();
    let mut settings = ca.settings.clone();
    change(&mut settings);
    factory.execute(Command::UpdateCa { ca: ca.id, settings }).unwrap();
}

#[test]
fn an_authority_brings_in_as_many_devices_as_it_may_and_one_more_is_an_alarm() {
    let maker = Maker::new();
    for unknown in [jitp(), UnknownPolicy::Auto] {
        let factory = factory(&maker, unknown);
        change(&factory, &maker, |settings| settings.devices_max = Some(2));
        let door = |name: &str| {
            let leaf = maker.device(name);
            factory.door().presenting_bare(leaf.certificate(), leaf.key())
        };
        let first = door("sn01");
        first.connect(&build::connect(V5, "c"), V5).expect_nothing();
        door("sn02").connect(&build::connect(V5, "c"), V5).expect_nothing();
        assert_eq!(refusal(&door("sn03")), 0x87);
        assert_eq!(factory.registry().registry().things_count(), 2);
        assert_eq!(factory.metric("signet_provisioning_alarms_total{kind=\"authority_spent\"}"), 1.0);
        factory.until("a note", |factory| {
            factory.audit("noted").iter().any(|note| note.contains("authority_spent"))
        });
        first.connect(&build::connect(V5, "c"), V5).expect_nothing();
        change(&factory, &maker, |settings| settings.devices_max = Some(3));
        door("sn03").connect(&build::connect(V5, "c"), V5).expect_nothing();
    }
}

#[test]
fn more_new_devices_than_an_authority_may_bring_in_a_second_are_to_come_later() {
    let maker = Maker::new();
    let factory = factory_with("just-in-time-per-authority-per-second = 1", &maker, jitp());
    let devices: Vec<Leaf> = (0..12).map(|n| maker.device(&format!("sn{n}"))).collect();
    let door = |leaf: &Leaf| factory.door().presenting_bare(leaf.certificate(), leaf.key());
    // Who cannot be let in takes nothing from the others.
    for _ in 0..5 {
        assert_eq!(refusal(&door(&maker.device("admin"))), 0x87);
    }
    let codes: Vec<u8> = devices.iter().map(|leaf| refusal(&door(leaf))).collect();
    assert_eq!(codes[..2], [0, 0], "two seconds' worth at once");
    let late = codes.iter().position(|code| *code != 0).unwrap();
    assert_eq!(codes[late], 0x89);
    assert!(factory.metric("signet_provisioning_alarms_total{kind=\"authority_rate\"}") >= 1.0);
    factory.until("its turn", |_| refusal(&door(&devices[late])) == 0);
}

#[test]
fn a_device_that_others_have_enrolled_is_not_taken_by_an_authority_that_names_its_own() {
    let maker = Maker::new();
    let factory = factory(&maker, UnknownPolicy::Auto);
    let holder =
        signet_identity::PrincipalKey { role: Role::Device, name: crate::factory::thing_name("sn05") };
    let (own, certificate) = factory.certificate("sn05");
    let enter = signet_registry::Enter::Active;
    factory.execute(Command::RegisterCertificate { certificate, holder, enter }).unwrap();
    let theirs = maker.device("sn05");
    let door = factory.door().presenting_bare(theirs.certificate(), theirs.key());
    assert_eq!(refusal(&door), 0x87);
    factory.door().presenting(&own).connect(&build::connect(V5, "c"), V5).expect_nothing();
    factory.until("a row", |factory| {
        factory.audit("refused").iter().any(|row| row.contains("provisioned before"))
    });
    change(&factory, &maker, |settings| settings.joins_others = true);
    door.connect(&build::connect(V5, "c"), V5).expect_nothing();
}

#[test]
fn a_new_device_that_is_written_down_does_not_wait_for_a_disk_that_hangs() {
    let maker = Maker::new();
    let factory = factory(&maker, jitp());
    let leaf = maker.device("sn01");
    let door = factory.door().presenting_bare(leaf.certificate(), leaf.key());
    let _disk = crate::deadline::stuck(&factory);
    // Writing it down is a commit of the real disk: where that takes longer than an answer may, it is told to come later.
    factory.until("it is in", |_| match refusal(&door) {
        0 => true,
        code => {
            assert_eq!((code, factory.registry().registry().things_count()), (0x89, 0), "it is written down");
            false
        }
    });
    assert_eq!(factory.registry().registry().things_count(), 1);
}
