//! Fleet provisioning by claim, from the claim's first connection to the device's own.

use serde_json::json;
use signet_identity::CertificateId;
use signet_tests::build::{self, V5, V311};
use signet_tests::received::Received;

use crate::device::{Asking, CSR, Created, FLEET, Format, KEYS, csr, enrol, new_key};
use crate::factory::{Factory, thing_name};

#[test]
fn a_device_with_a_claim_gets_its_certificate_for_its_signing_request_and_is_confined_to_its_own_topics() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    for (version, format, serial) in [
        (V311, Format::Json, "a1"),
        (V5, Format::Json, "a2"),
        (V311, Format::Cbor, "a3"),
        (V5, Format::Cbor, "a4"),
    ] {
        let key = new_key();
        let mut asking = Asking::connect(&claim.door(), version, serial);
        asking.listen(&format!("{CSR}/{}", format.name()));
        asking.listen(&format!("{FLEET}/{}", format.name()));
        let created = asking.create(&key, format);
        assert_eq!(created.id, CertificateId::of(&created.der()).to_string());
        assert!(!created.token.is_empty() && created.token.len() <= 256);
        // It does not connect before it has a thing.
        let bare = factory.door().presenting_bare(&created.der(), &key.serialize_der());
        assert_eq!(refusal(&bare), 0x87);
        let thing = asking.register(&created.token, serial, format).accepted();
        assert_eq!(
            thing,
            json!({"thingName": format!("fp_{serial}"), "deviceConfiguration": {"Url": "https://wa.example"}})
        );
        // At once, with the same client identifier, and nothing left over from the claim.
        let connect = build::connect(version, serial).clean(false);
        let (mut device, present, _) = bare.connected(&connect, version);
        assert!(!present);
        let topic = format!("devices/fp_{serial}/telemetry");
        device.subscribe(&topic, 1);
        device.publish(&topic, "21", 0);
        let message = device.expect_publish(&topic, "21");
        assert_eq!(message.qos, 1);
        let denied = if version == V5 { 0x87 } else { 0 };
        device.publish("devices/fp_other/telemetry", "21", denied);
    }
}

/// The code of the CONNACK that refuses.
#[track_caller]
pub(crate) fn refusal(door: &signet_tests::raw_client::Handshake) -> u8 {
    let mut client = door.open(V5).unwrap();
    client.send(build::connect(V5, "refused").bytes());
    match client.receive() {
        Received::ConnAck { code, session_present: false, .. } => code,
        other => panic!("expected a CONNACK, got {other:?}"),
    }
}

#[test]
fn keys_are_made_only_where_the_claim_or_its_template_says_so_and_never_leave_a_trace() {
    let factory = Factory::new();
    let without = factory.claim("line-csr");
    let with = factory.claim_with("line-keys", |claim| claim.keys = true);
    let listener = factory.operator("olga");
    let mut olga = factory.door().presenting(&listener).connect(&build::connect(V5, "olga"), V5);
    olga.subscribe("$aws/certificates/#", 1);
    olga.subscribe("#", 1);
    for (version, format, serial) in [(V311, Format::Json, "k1"), (V5, Format::Cbor, "k2")] {
        let mut asking = Asking::connect(&without.door(), version, serial);
        asking.listen(&format!("{KEYS}/{}", format.name()));
        let answer = asking.ask(KEYS, format, &json!({}));
        assert_eq!(answer.rejected(), (403, "AccessDenied".to_owned()));

        let mut asking = Asking::connect(&with.door(), version, serial);
        asking.listen(&format!("{KEYS}/{}", format.name()));
        asking.listen(&format!("{FLEET}/{}", format.name()));
        let answer = asking.ask_raw(&format!("{KEYS}/{}", format.name()), b"", format);
        assert!(answer.packet.size <= 2048, "{} bytes", answer.packet.size);
        let document = answer.accepted();
        let created = Created::read(&document);
        let private = document["privateKey"].as_str().unwrap();
        assert!(private.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "SEC 1");
        asking.register(&created.token, serial, format).accepted();
        let key = pem::parse(private).unwrap().into_contents();
        let device = factory.door().presenting_bare(&created.der(), &key);
        device.connect(&build::connect(version, serial), version).expect_nothing();
        // Nobody else has heard of it, and it is in no file of the broker.
        olga.expect_nothing();
        let database = std::fs::read(factory.path("registry/registry.db")).unwrap_or_default();
        let secret = &key[7..39];
        assert!(!database.windows(secret.len()).any(|part| part == secret));
        let lines: Vec<&str> = private.lines().filter(|line| line.len() == 64).collect();
        for entry in std::fs::read_dir(factory.path("registry")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for line in &lines {
                assert!(!bytes.windows(line.len()).any(|part| part == line.as_bytes()));
            }
        }
    }
}

#[test]
fn a_template_that_allows_keys_is_enough() {
    let factory = Factory::new();
    factory.template_with("fleet", signet_registry::TemplateKind::Fleet, crate::factory::FLEET, true);
    let claim = factory.claim("line-1");
    let mut asking = Asking::connect(&claim.door(), V5, "k");
    asking.listen(&format!("{KEYS}/json"));
    for payload in [&b""[..], b"{}", b"{\"x\":[1]}", b"not json"] {
        let answer = asking.ask_raw(&format!("{KEYS}/json"), payload, Format::Json);
        assert!(answer.accepted()["privateKey"].is_string(), "an odd payload is no reason to refuse");
    }
}

#[test]
fn answers_reach_nobody_but_the_connection_that_asked() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let listener = factory.operator("olga");
    let mut olga = factory.door().presenting(&listener).connect(&build::connect(V5, "olga"), V5);
    olga.subscribe("$aws/certificates/#", 1);
    let mut one = Asking::connect(&claim.door(), V5, "one");
    let mut two = Asking::connect(&claim.door(), V311, "two");
    for asking in [&mut one, &mut two] {
        asking.listen(&format!("{CSR}/json"));
        asking.client.subscribe(&format!("{CSR}/json/+"), 1);
        asking.client.subscribe(&format!("{CSR}/json/#"), 1);
    }
    let first = one.create(&new_key(), Format::Json);
    two.client.expect_nothing();
    olga.expect_nothing();
    let second = two.create(&new_key(), Format::Json);
    one.client.expect_nothing();
    assert_ne!(first.id, second.id);
    // A late subscriber finds nothing, neither retained nor queued.
    let mut three = Asking::connect(&claim.door(), V5, "one");
    three.client.subscribe(&format!("{CSR}/json/#"), 1);
    three.client.expect_nothing();
}

#[test]
fn the_same_signing_request_twice_gives_two_certificates_until_one_is_a_things() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let key = new_key();
    let mut asking = Asking::connect(&claim.door(), V5, "s");
    asking.listen(&format!("{CSR}/json"));
    asking.listen(&format!("{FLEET}/json"));
    let [first, second] = [(), ()].map(|()| asking.create(&key, Format::Json));
    assert_ne!(first.id, second.id);
    asking.register(&first.token, "s", Format::Json).accepted();
    // The other pending one with that key is for the same thing or for nobody.
    let (status, code) = asking.register(&second.token, "other", Format::Json).rejected();
    assert_eq!((status, code.as_str()), (403, "AccessDenied"));
}

#[test]
fn a_device_whose_answer_got_lost_starts_over_with_the_same_serial() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let key = new_key();
    // It never hears the answer to RegisterThing: it has not subscribed to it.
    let mut asking = Asking::connect(&claim.door(), V311, "lost");
    asking.listen(&format!("{CSR}/json"));
    let created = asking.create(&key, Format::Json);
    let document =
        json!({"certificateOwnershipToken": created.token, "parameters": {"SerialNumber": "lost"}});
    let id = asking.send(&format!("{FLEET}/json"), &Format::Json.write(&document));
    asking.client.expect_puback(id, 0);
    factory.until("the thing is registered", |factory| {
        factory.registry().registry().thing("fp_lost").is_some_and(|thing| thing.certified)
    });
    drop(asking);
    // Again with the same key, and it comes in at once.
    enrol(&claim.door(), &key, "lost", Format::Json);
    // And with another key, once it is clear that nobody races: nothing of the thing has ever connected.
    let other = new_key();
    let mut asking = Asking::connect(&claim.door(), V311, "lost");
    asking.listen(&format!("{CSR}/json"));
    asking.listen(&format!("{FLEET}/json"));
    let at_once = asking.create(&other, Format::Json);
    assert_eq!(asking.register(&at_once.token, "lost", Format::Json).rejected().0, 409);
    let settled = factory.registry().registry().limits().start_over_after;
    let entered = factory.registry().now();
    factory.until("the time in which devices of one name would race", |factory| {
        factory.registry().now() > entered.after(settled)
    });
    let created = asking.create(&other, Format::Json);
    asking.register(&created.token, "lost", Format::Json).accepted();
    // It connects; from now on the claim alone does not replace it.
    let device = factory.door().presenting_bare(&created.der(), &other.serialize_der());
    device.connect(&build::connect(V5, "lost"), V5).expect_nothing();
    let thief = asking.create(&new_key(), Format::Json);
    assert_eq!(
        asking.register(&thief.token, "lost", Format::Json).rejected(),
        (409, "ResourceConflict".to_owned())
    );
    assert!(factory.metric("signet_provisioning_alarms_total{kind=\"existing_thing\"}") >= 1.0);
}

#[test]
fn a_certificate_that_gets_no_thing_in_time_is_deleted_and_its_token_is_worth_nothing() {
    let factory = Factory::with("ownership-token-validity = \"1s\"");
    let claim = factory.claim("line-1");
    let key = new_key();
    let mut asking = Asking::connect(&claim.door(), V5, "slow");
    asking.listen(&format!("{CSR}/json"));
    asking.listen(&format!("{FLEET}/json"));
    let created = asking.create(&key, Format::Json);
    let id = CertificateId::of(&created.der());
    assert!(factory.registry().registry().certificate(&id).is_some());
    factory.until("the certificate is deleted", |factory| {
        factory.registry().registry().certificate(&id).is_none()
    });
    let answer = asking.register(&created.token, "slow", Format::Json);
    assert_eq!(answer.rejected(), (400, "InvalidCertificateOwnershipToken".to_owned()));
    assert!(factory.registry().registry().thing("fp_slow").is_none());
    assert_eq!(refusal(&factory.door().presenting_bare(&created.der(), &key.serialize_der())), 0x87);
    // It starts again.
    let created = asking.create(&key, Format::Json);
    asking.register(&created.token, "slow", Format::Json).accepted();
}

#[test]
fn a_claim_for_a_few_minutes_ends_with_its_time() {
    // What a trusted user hands to a device: a claim that is gone soon.
    let factory = Factory::new();
    let until = factory.registry().now().after(std::time::Duration::from_secs(2));
    let claim = factory.claim_with("for-five-minutes", |claim| claim.until = Some(until));
    enrol(&claim.door(), &new_key(), "quick", Format::Json);
    factory.until("its time is over", |factory| factory.registry().now() > until);
    assert_eq!(refusal(&claim.door()), 0x87);
}

#[test]
fn a_claim_is_bounded_by_its_number_of_devices_its_list_and_its_networks() {
    let factory = Factory::new();
    let few = factory.claim_with("few", |claim| claim.devices_max = Some(1));
    enrol(&few.door(), &new_key(), "n1", Format::Json);
    let mut asking = Asking::connect(&few.door(), V5, "n2");
    asking.listen(&format!("{CSR}/json"));
    let answer = asking.ask(CSR, Format::Json, &json!({"certificateSigningRequest": csr(&new_key())}));
    assert_eq!(answer.rejected(), (403, "AccessDenied".to_owned()));

    let listed = factory.claim_with("listed", |claim| claim.listed_only = true);
    let serials = vec!["in-the-list".into()];
    factory
        .execute(signet_registry::Command::AddClaimSerials { claim: listed.name.clone(), serials })
        .unwrap();
    let mut asking = Asking::connect(&listed.door(), V5, "l");
    asking.listen(&format!("{CSR}/json"));
    asking.listen(&format!("{FLEET}/json"));
    let created = asking.create(&new_key(), Format::Json);
    let answer = asking.register(&created.token, "not-in-the-list", Format::Json);
    assert_eq!(answer.rejected(), (403, "AccessDenied".to_owned()));
    assert_eq!(factory.metric("signet_provisioning_alarms_total{kind=\"serial_not_listed\"}"), 1.0);
    asking.register(&created.token, "in-the-list", Format::Json).accepted();

    let elsewhere =
        factory.claim_with("elsewhere", |claim| claim.from = vec!["192.0.2.0/24".parse().unwrap()]);
    if let Ok(mut client) = elsewhere.door().open(V5) {
        client.send(build::connect(V5, "e").bytes());
        if let Some(Received::ConnAck { code: 0, .. }) = client.receive_or_end() {
            let mut asking = Asking::connect(&elsewhere.door(), V5, "e");
            asking.listen(&format!("{CSR}/json"));
            let answer =
                asking.ask(CSR, Format::Json, &json!({"certificateSigningRequest": csr(&new_key())}));
            assert_eq!(answer.rejected(), (403, "AccessDenied".to_owned()));
        }
    }
}

#[test]
fn what_was_answered_as_accepted_survives_a_restart() {
    let mut factory = Factory::new();
    let (key, created) = {
        let claim = factory.claim("line-1");
        let key = new_key();
        let created = enrol(&claim.door(), &key, "kept", Format::Json);
        (key, created)
    };
    factory.stop();
    factory.start();
    let device = factory.door().presenting_bare(&created.der(), &key.serialize_der());
    device.connect(&build::connect(V5, "kept"), V5).expect_nothing();
    // The rows of an enrolment are those of its steps and no others.
    assert!(factory.registry().registry().thing("fp_kept").is_some());
    assert_eq!(factory.registry().registry().thing("fp_kept").unwrap().certificates().len(), 1);
    assert_eq!(thing_name("fp_kept"), factory.registry().registry().thing("fp_kept").unwrap().spec.name);
}
