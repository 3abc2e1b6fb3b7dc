//! A device renews its own certificate over its own connection.

use serde_json::json;
use signet_identity::CertificateId;
use signet_registry::{StatusKind, TemplateKind};
use signet_tests::build::{self, V5, V311};
use signet_tests::raw_client::Handshake;

use crate::claim::refusal;
use crate::device::{Asking, CSR, Created, FLEET, Format, KEYS, RENEW, csr, enrol, new_key};
use crate::factory::{FLEET as FLEET_TEMPLATE, Factory};

/// A device that was enrolled, and its door.
fn device(factory: &Factory, serial: &str) -> (Handshake, Created) {
    let claim = factory.claim(&format!("line-{serial}"));
    let key = new_key();
    let created = enrol(&claim.door(), &key, serial, Format::Json);
    (factory.door().presenting_bare(&created.der(), &key.serialize_der()), created)
}

fn listening(door: &Handshake) -> Asking {
    let mut asking = Asking::connect(door, V5, "device");
    for operation in [CSR, KEYS, RENEW] {
        asking.listen(&format!("{operation}/json"));
    }
    asking
}

fn renew(asking: &mut Asking, token: &str) -> crate::device::Answered {
    // What it says of itself does not matter: it is the thing that it is.
    let parameters = json!({"SerialNumber": "somebody-else", "ThingName": "fp_other"});
    asking.ask(RENEW, Format::Json, &json!({"certificateOwnershipToken": token, "parameters": parameters}))
}

fn status(factory: &Factory, created: &Created) -> StatusKind {
    let id = CertificateId::of(&created.der());
    factory.registry().registry().certificate(&id).unwrap().status.kind()
}

#[test]
fn the_new_certificate_is_the_devices_own_and_the_old_one_goes_when_the_new_one_has_connected() {
    let factory = Factory::with("rotation-grace = 0");
    let (door, old) = device(&factory, "r1");
    let mut asking = listening(&door);
    let key = new_key();
    let new = asking.create(&key, Format::Json);
    let answer = renew(&mut asking, &new.token).accepted();
    assert_eq!(answer["thingName"], "fp_r1");
    // Both work; a device that lost power here goes on with the old one.
    assert_eq!(status(&factory, &old), StatusKind::Active);
    door.connect(&build::connect(V311, "other"), V311).expect_nothing();
    let renewed = factory.door().presenting_bare(&new.der(), &key.serialize_der());
    let (mut client, _, _) = renewed.connected(&build::connect(V5, "device"), V5);
    client.expect_nothing();
    factory.until("the old certificate is retired", |factory| status(factory, &old) == StatusKind::Revoked);
    assert_eq!(refusal(&door), 0x87);
    client.expect_nothing();
    assert_eq!(status(&factory, &new), StatusKind::Active);
    assert_eq!(factory.registry().registry().thing("fp_r1").unwrap().certificates().len(), 2);
}

#[test]
fn a_device_in_quarantine_renews_and_reaches_nothing_else() {
    let factory = Factory::new();
    let (door, _) = device(&factory, "q1");
    let topic = "devices/fp_q1/telemetry";
    let mut free = door.connect(&build::connect(V5, "device"), V5);
    free.publish(topic, "x", 0);
    let why = signet_registry::Line::new("looks odd");
    let quarantine = signet_registry::Command::Quarantine { thing: crate::factory::thing_name("fp_q1"), why };
    factory.execute(quarantine).unwrap();
    free.expect_closed_with(0x98);
    let mut asking = listening(&door);
    let key = new_key();
    let new = asking.create(&key, Format::Json);
    let answer = renew(&mut asking, &new.token).accepted();
    assert_eq!(answer["thingName"], "fp_q1");
    // A new certificate does not lead out: only a person does.
    let renewed = factory.door().presenting_bare(&new.der(), &key.serialize_der());
    let mut held = renewed.connect(&build::connect(V5, "device"), V5);
    held.publish(topic, "x", 0x87);
}

#[test]
fn until_the_new_certificate_connects_the_old_one_stays_whatever_time_passes() {
    let factory = Factory::with("rotation-grace = 0");
    let (door, old) = device(&factory, "r2");
    let mut asking = listening(&door);
    let new = asking.create(&new_key(), Format::Json);
    renew(&mut asking, &new.token).accepted();
    let begun = factory.registry().now();
    factory.until("some time", |factory| factory.registry().now().0 > begun.0 + 1500);
    assert_eq!(status(&factory, &old), StatusKind::Active);
    asking.client.expect_nothing();
    // It tries again, with another key: there are never more than two in force.
    let again = asking.create(&new_key(), Format::Json);
    renew(&mut asking, &again.token).accepted();
    let registry = factory.registry().snapshot();
    let thing = registry.thing("fp_r2").unwrap();
    let active = thing
        .certificates()
        .iter()
        .filter(|id| registry.certificate(id).unwrap().status.kind() == StatusKind::Active)
        .count();
    assert!(active <= 2, "{active}");
    assert_eq!(status(&factory, &old), StatusKind::Active);
    assert_eq!(status(&factory, &again), StatusKind::Active);
}

#[test]
fn a_private_key_is_not_sent_to_a_device() {
    let factory = Factory::new();
    let (door, _) = device(&factory, "r3");
    let mut asking = listening(&door);
    let answer = asking.ask(KEYS, Format::Json, &json!({}));
    assert!(answer.document["errorMessage"].as_str().unwrap().contains("create-from-csr"));
    assert_eq!(answer.rejected(), (403, "AccessDenied".to_owned()));
}

#[test]
fn a_device_renews_by_a_template_for_rotation_and_by_no_other() {
    let factory = Factory::new();
    let (door, _) = device(&factory, "r4");
    let mut asking = listening(&door);
    let created = asking.create(&new_key(), Format::Json);
    let document = json!({"certificateOwnershipToken": created.token, "parameters": {"SerialNumber": "new"}});
    asking.client.publish(&format!("{FLEET}/json"), Format::Json.write(&document), 0x87);
    asking.client.expect_nothing();
    assert!(factory.registry().registry().thing("fp_new").is_none());
    // And a claim by one for fleets only.
    let claim = factory.claim("line-1");
    let mut claimant = Asking::connect(&claim.door(), V5, "c");
    claimant.client.publish(&format!("{RENEW}/json"), Format::Json.write(&document), 0x87);
    // What was given to the device is worth nothing to the claim.
    claimant.listen(&format!("{FLEET}/json"));
    let answer = claimant.register(&created.token, "new", Format::Json);
    assert_eq!(answer.rejected(), (400, "InvalidCertificateOwnershipToken".to_owned()));
}

#[test]
fn without_a_template_for_rotation_a_device_may_not_even_ask() {
    let factory = Factory::bare("", "", &[]);
    factory.template("fleet", TemplateKind::Fleet, FLEET_TEMPLATE);
    let (door, _) = device(&factory, "r5");
    let mut client = door.connect(&build::connect(V5, "d"), V5);
    let request = Format::Json.write(&json!({"certificateSigningRequest": csr(&new_key())}));
    client.publish(&format!("{CSR}/json"), &request, 0x87);
    client.send(build::subscribe(V5, 5, &[build::sub(format!("{CSR}/json/accepted"), 1)]));
    client.expect_suback(5, &[0x87]);
    // From the moment there is one, it may, on the connection that it has.
    factory.template("renew", TemplateKind::Rotation, crate::factory::RENEW);
    client.subscribe(&format!("{CSR}/json/accepted"), 1);
    client.publish(&format!("{CSR}/json"), request, 0);
}

#[test]
fn a_device_asks_more_slowly_than_a_claim_may_and_holds_up_nobody() {
    let factory = Factory::new();
    let (door, _) = device(&factory, "r6");
    let (other, _) = device(&factory, "r7");
    let mut asking = listening(&door);
    let request = json!({"certificateSigningRequest": csr(&new_key())});
    let mut answers = Vec::new();
    while answers.len() < 30 {
        answers.push(asking.ask(CSR, Format::Json, &request).accepted);
        if answers.last() == Some(&false) {
            break;
        }
    }
    assert!(answers.len() > 4, "two rotations at once are no haste: {answers:?}");
    assert!(answers.len() < 30, "it is slowed down");
    let refused = asking.ask(CSR, Format::Json, &request);
    assert_eq!(refused.rejected(), (429, "Throttling".to_owned()));
    listening(&other).create(&new_key(), Format::Json);
    let claim = factory.claim("line-1");
    let mut claimant = Asking::connect(&claim.door(), V5, "c");
    claimant.listen(&format!("{CSR}/json"));
    for _ in 0..30 {
        claimant.create(&new_key(), Format::Json);
    }
}

#[test]
fn an_operator_asks_for_nothing() {
    let factory = Factory::new();
    let leaf = factory.operator("olga");
    let mut olga = factory.door().presenting(&leaf).connect(&build::connect(V5, "o"), V5);
    for request in [CSR, KEYS, FLEET, RENEW] {
        for format in ["json", "cbor"] {
            olga.publish(&format!("{request}/{format}"), "{}", 0x87);
        }
    }
}
