//! The claim flow, and answers that are not taken.

use signet_device_core::enrol::payload;
use signet_device_core::identity::{CertificateFault, Leaf};
use signet_device_core::io::{AnswerFault, ProvisioningError};
use signet_device_core::slots::Slot;
use signet_device_core::store::StoreState;
use signet_device_core::topic::Format;
use signet_device_core::{Action, Event, Input, Message, Rung};

use super::world::{DAY, START, World, pem};

const CREATED: &str = "$aws/certificates/create-from-csr/json/accepted";
const CREATE_REJECTED: &str = "$aws/certificates/create-from-csr/json/rejected";
const PROVISIONED: &str = "$aws/provisioning-templates/fleet/provision/json/accepted";

#[test]
fn a_new_device_claims_its_identity_and_comes_back_as_itself() {
    let mut world = World::new();
    world.boot();
    world.online();
    assert_eq!(world.events[0], Event::Store(StoreState::Blank));
    assert!(world.events.contains(&Event::ClockUnknown), "it asked for the time first");
    assert!(world.events.contains(&Event::Enrolled { thing: "thing-sn-0001".into() }));
    let [claim, own] = &world.connects[..] else { panic!("{} connections", world.connects.len()) };
    assert_eq!((claim.rung, claim.client_id.as_str(), &claim.will), (Rung::Claim, "sn-0001", &None));
    assert_eq!((own.rung, own.client_id.as_str()), (Rung::Own(Slot::A), "thing-sn-0001"));
    let will = own.will.as_ref().expect("a will");
    assert_eq!((will.topic.as_str(), will.payload), ("devices/thing-sn-0001/status", "offline"));
    assert_eq!(world.said("devices/thing-sn-0001/status"), ["online"]);
    let online = world.published.iter().find(|p| p.topic.ends_with("/status")).expect("published");
    assert!(online.retain);
}

#[test]
fn nothing_is_tried_before_the_clock_can_be_believed() {
    let mut world = World::new();
    world.sntp = false;
    world.boot();
    world.run(DAY / 24);
    assert!(world.connects.is_empty());
    assert_eq!(world.events.iter().filter(|event| **event == Event::ClockUnknown).count(), 1, "said once");
    // The server of the time says 1970, then 2020.
    for wrong in [-(START as i64), 1_577_836_800 - START as i64] {
        world.sntp = true;
        world.clock_set = true;
        world.clock_off = wrong;
        world.run(DAY / 24);
        assert!(world.connects.is_empty(), "connected in {wrong}");
    }
    world.clock_off = 0;
    world.online();
}

#[test]
fn a_lost_answer_lets_the_device_start_over_with_the_same_key() {
    let mut world = World::new();
    world.boot();
    world.broker.moods.answers_lost = true;
    world.run(DAY / 8);
    assert!(world.events.contains(&Event::NoAnswer) && !world.is_online());
    let requests: Vec<_> =
        world.published.iter().filter(|p| p.topic.ends_with("create-from-csr/json")).collect();
    assert!(requests.len() > 6);
    assert!(requests.iter().all(|request| request.payload == requests[0].payload), "the same key each time");
    world.broker.moods.answers_lost = false;
    world.online();
    assert_eq!(world.broker.things.len(), 1);
}

#[test]
fn a_rejection_is_reported_and_tried_again_ever_more_slowly() {
    let mut world = World::new();
    world.broker.moods.rejects = Some(429);
    world.boot();
    world.run(DAY);
    let rejected =
        world.events.iter().filter(|event| matches!(event, Event::Rejected(r) if r.status_code == 429));
    assert!((20..200).contains(&rejected.count()), "a day of rejections");
    world.broker.moods.rejects = None;
    world.online();
}

#[test]
fn without_a_claim_there_is_a_loud_error_and_no_reboot_loop() {
    let mut world = World::new();
    world.factory.as_mut().expect("factory").claim = None;
    world.boot();
    world.run(DAY);
    let loud =
        world.events.iter().filter(|e| **e == Event::ProvisioningError(ProvisioningError::NoClaim)).count();
    assert!((20..=100).contains(&loud), "{loud} alarms in a day");
    assert!(world.connects.is_empty() && world.reboots.is_empty());
    world.factory = None;
    world.boot();
    world.run(DAY / 4);
    assert!(world.events.contains(&Event::ProvisioningError(ProvisioningError::NoFactoryData)));
}

#[test]
fn a_claim_that_is_refused_is_a_loud_error_and_heals_by_itself() {
    let mut world = World::new();
    world.broker.claim_works = false;
    world.boot();
    world.run(DAY);
    assert!(world.events.contains(&Event::ProvisioningError(ProvisioningError::ClaimRefused)));
    assert!((30..400).contains(&world.connects.len()), "{} tries in a day", world.connects.len());
    world.broker.claim_works = true;
    world.online();
}

#[test]
fn a_working_claim_is_used_before_that_of_the_factory_and_then_erased() {
    use signet_device_core::seal::AesSeal;
    use signet_device_core::slots::Slots;
    use signet_device_core::store::Store;
    let mut world = World::new();
    let mut slots = Slots::new(Store::open(world.flash.clone()).0, AesSeal::new(&world.chip_key));
    let mut claim = super::power_cut::claim(&world.broker);
    claim.key = b"the working claim's key".to_vec().into();
    slots.put_claim(&claim).expect("stored");
    world.factory.as_mut().expect("factory").claim = None;
    world.boot();
    world.online();
    let bytes = world.flash.bytes();
    assert!(
        !bytes.windows(16).any(|part| part == &b"the working claim's key"[..16]),
        "its key is still there"
    );
    world.boot();
    world.online();
    assert_eq!(world.connects.last().map(|connect| connect.rung), Some(Rung::Own(Slot::A)));
}

#[test]
fn a_working_claim_that_was_revoked_gives_way_to_that_of_the_factory() {
    use signet_device_core::seal::AesSeal;
    use signet_device_core::slots::Slots;
    use signet_device_core::store::Store;
    let mut world = World::new();
    let mut slots = Slots::new(Store::open(world.flash.clone()).0, AesSeal::new(&world.chip_key));
    let mut claim = super::power_cut::claim(&world.broker);
    // The broker does not know it, as it does not know one that was revoked and deleted.
    claim.certificate = world.broker.sign(&super::world::key_of_request(&another_request()), START).der;
    slots.put_claim(&claim).expect("stored");
    world.boot();
    world.online();
    let refused = world.events.iter().filter(|event| matches!(event, Event::Refused(Rung::Claim, _))).count();
    assert_eq!(refused, 3, "{:?}", world.events);
}

/// A device that waits for its certificate, with nobody answering.
fn waiting() -> World {
    let mut world = World::new();
    world.boot();
    world.broker.moods.answers_lost = true;
    assert!(world.run_until(DAY, |w| w.published.iter().any(|p| p.topic.ends_with("create-from-csr/json"))));
    world
}

fn request(world: &World) -> [u8; 65] {
    let publish = world.published.iter().find(|p| p.topic.ends_with("create-from-csr/json")).expect("asked");
    let request: serde_json::Value = serde_json::from_slice(&publish.payload).expect("JSON");
    super::world::key_of_request(request["certificateSigningRequest"].as_str().expect("PEM"))
}

fn created(leaf: &Leaf, id: &str) -> Vec<u8> {
    serde_json::json!({
        "certificateId": id,
        "certificatePem": pem("CERTIFICATE", &leaf.der),
        "certificateOwnershipToken": "token",
    })
    .to_string()
    .into_bytes()
}

/// Sends an answer and says why it is not taken.
fn refused(world: &mut World, topic: &str, payload: &[u8], retained: bool) -> Option<AnswerFault> {
    world.events.clear();
    let published = world.published.len();
    world.raw(Input::Message(Message { topic, payload, retained }));
    let fault = world.events.iter().find_map(|event| match event {
        Event::AnswerRefused(fault) => Some(*fault),
        _ => None,
    });
    if fault.is_some() {
        assert_eq!(world.published.len(), published, "a refused answer changed something");
        assert!(!world.actions.iter().rev().take(1).any(|action| matches!(action, Action::Disconnect)));
    }
    fault
}

#[test]
fn a_certificate_that_is_not_for_our_key_is_refused() {
    let mut world = waiting();
    let others = world.broker.sign(&super::world::key_of_request(&another_request()), world.wall());
    let id = others.id().to_string();
    let fault = refused(&mut world, CREATED, &created(&others, &id), false);
    assert_eq!(fault, Some(AnswerFault::Certificate(CertificateFault::NotOurKey)));
    // The right one is still taken.
    let ours = world.broker.sign(&request(&world), world.wall());
    let id = ours.id().to_string();
    assert_eq!(refused(&mut world, CREATED, &created(&ours, &id), false), None);
    assert!(world.published.iter().any(|p| p.topic.ends_with("/provision/json")));
}

fn another_request() -> String {
    use signet_device_core::identity::SoftwareSigner;
    use signet_device_core::platform::Signer as _;
    let secret = SoftwareSigner.generate(&mut super::world::TestRng(99)).expect("a key");
    pem("CERTIFICATE REQUEST", &SoftwareSigner.request(&secret, "other").expect("a request"))
}

#[test]
fn an_answer_that_is_not_what_the_contract_says_is_refused() {
    let mut world = waiting();
    let ours = world.broker.sign(&request(&world), world.wall());
    let id = ours.id().to_string();
    let good = created(&ours, &id);
    let text = String::from_utf8(good.clone()).expect("text");
    let wrong_id = text.replace(&id, &"0".repeat(64));
    let cases: Vec<(&str, Vec<u8>, AnswerFault)> = vec![
        ("nothing", Vec::new(), AnswerFault::Payload),
        ("not JSON", b"certificate".to_vec(), AnswerFault::Payload),
        ("cut off", good[..good.len() - 1].to_vec(), AnswerFault::Payload),
        ("an id of another length", text.replace(&id, "abc").into_bytes(), AnswerFault::Payload),
        ("an id in capitals", text.replace(&id, &"A".repeat(64)).into_bytes(), AnswerFault::Payload),
        ("no token", text.replace("OwnershipToken", "Token").into_bytes(), AnswerFault::Payload),
        ("an empty token", text.replace("\"token\"", "\"\"").into_bytes(), AnswerFault::Payload),
        (
            "an endless token",
            text.replace("\"token\"", &format!("\"{}\"", "x".repeat(513))).into_bytes(),
            AnswerFault::Payload,
        ),
        ("a number for a token", text.replace("\"token\"", "7").into_bytes(), AnswerFault::Payload),
        (
            "a repeated member",
            text.replacen('{', "{\"certificateId\":\"x\",", 1).into_bytes(),
            AnswerFault::Payload,
        ),
        ("the id of another", wrong_id.into_bytes(), AnswerFault::Certificate(CertificateFault::NotItsId)),
        (
            "no PEM",
            text.replace("BEGIN CERT", "BEGIN CART").into_bytes(),
            AnswerFault::Certificate(CertificateFault::Unreadable),
        ),
        (
            "more than fits",
            text.replacen('{', &format!("{{{}", " ".repeat(4_096)), 1).into_bytes(),
            AnswerFault::Payload,
        ),
    ];
    for (what, payload, fault) in cases {
        assert_eq!(refused(&mut world, CREATED, &payload, false), Some(fault), "{what}");
    }
    assert_eq!(refused(&mut world, CREATED, &good, true), Some(AnswerFault::Stale));
    assert_eq!(
        refused(&mut world, PROVISIONED, br#"{"thingName":"x"}"#, false),
        Some(AnswerFault::NotAwaited)
    );
    assert_eq!(refused(&mut world, CREATE_REJECTED, b"{}", false), Some(AnswerFault::Payload));
    for other in [
        "$aws/certificates/create-from-csr/cbor/accepted",
        "$aws/certificates/create/json/accepted",
        "$aws/provisioning-templates/other/provision/json/accepted",
    ] {
        assert_eq!(refused(&mut world, other, &good, false), Some(AnswerFault::NotAwaited), "{other}");
    }
    assert_eq!(refused(&mut world, CREATED, &good, false), None, "the good one");
    // The same again, now that it is not waited for any more.
    assert_eq!(refused(&mut world, CREATED, &good, false), Some(AnswerFault::NotAwaited));
    for name in ["", "../x", "a/b", "#", "x y", &"x".repeat(65)] {
        let payload = serde_json::json!({"deviceConfiguration": {}, "thingName": name}).to_string();
        assert_eq!(
            refused(&mut world, PROVISIONED, payload.as_bytes(), false),
            Some(AnswerFault::Name),
            "{name}"
        );
    }
    assert_eq!(
        refused(&mut world, PROVISIONED, br#"{"deviceConfiguration":{}}"#, false),
        Some(AnswerFault::Payload)
    );
    assert!(world.certificate().is_none(), "nothing is stored yet");
}

#[test]
fn a_late_answer_after_the_device_gave_up_changes_nothing() {
    let mut world = waiting();
    let ours = world.broker.sign(&request(&world), world.wall());
    let id = ours.id().to_string();
    assert!(world.run_until(DAY, |world| world.events.contains(&Event::NoAnswer)));
    let writes = world.flash.operations();
    assert_eq!(refused(&mut world, CREATED, &created(&ours, &id), false), Some(AnswerFault::NotAwaited));
    assert_eq!(world.flash.operations(), writes);
}

#[test]
fn a_certificate_that_is_not_valid_now_is_refused() {
    let mut world = waiting();
    let lapsed = world.broker.sign(&request(&world), world.wall() - 100 * 86_400);
    let id = lapsed.id().to_string();
    let fault = refused(&mut world, CREATED, &created(&lapsed, &id), false);
    assert_eq!(fault, Some(AnswerFault::Certificate(CertificateFault::NotValidNow)));
}

#[test]
fn a_device_that_speaks_cbor_sends_cbor() {
    let mut world = World::new();
    world.factory.as_mut().expect("factory").format = Format::Cbor;
    world.boot();
    let asked = |w: &World| w.published.iter().any(|p| p.topic == "$aws/certificates/create-from-csr/cbor");
    assert!(world.run_until(DAY, asked));
    let publish = world.published.iter().find(|p| p.topic.starts_with("$aws")).expect("asked");
    assert_eq!(publish.payload[0], 0xa1, "a map of one member");
    let nested: Vec<u8> = std::iter::repeat_n(0x81, 5_000).collect();
    assert_eq!(payload::created(&nested, Format::Cbor), None);
    let mut skipped = vec![0xa1, 0x61, b'x'];
    skipped.extend(std::iter::repeat_n(0x81, 4_000));
    assert_eq!(payload::created(&skipped, Format::Cbor), None, "deep nesting below a member that is skipped");
}
