//! First boot by a one-time token.

use signet_device_core::enrol::token::{Redeemed, Redemption, Token};
use signet_device_core::https::{Answer, Url};
use signet_device_core::identity::CertificateFault;
use signet_device_core::io::{AnswerFault, ProvisioningError};
use signet_device_core::platform::Signer as _;
use signet_device_core::{Event, Rung};

use super::world::{DAY, HOUR, PoolSigner, START, TestRng, World, key_of_request, pem};

fn token(secret: &str) -> Token {
    let url = Url::parse("https://broker.example:8443/provision").expect("an address");
    Token { secret: String::from(secret).into(), url }
}

/// A device with a token and no claim, and a broker that knows it.
fn with_token() -> World {
    let mut world = World::new();
    let factory = world.factory.as_mut().expect("factory data");
    factory.claim = None;
    factory.token = Some(token("t0ken"));
    world.broker.one_time.insert("t0ken".into(), ("sn-0001".into(), false));
    world
}

#[test]
fn a_device_with_a_token_gets_its_certificate_and_comes_back_as_itself() {
    let mut world = with_token();
    world.boot();
    world.online();
    assert_eq!(world.device.as_ref().and_then(|device| device.thing()), Some("sn-0001"));
    assert_eq!(world.asks.len(), 1);
    assert!(world.connects.iter().all(|connect| matches!(connect.rung, Rung::Own(_))), "no claim was shown");
    assert!(world.events.contains(&Event::Enrolled { thing: "sn-0001".into() }));
    // Its own certificate from now on, also after a start; and it renews it as every device does.
    world.boot();
    world.online();
    assert_eq!(world.asks.len(), 1);
    let had = world.certificate();
    world.now += 70 * DAY;
    assert!(world.run_until(3 * DAY, |world| world.is_online() && world.certificate() != had));
    assert_eq!(world.asks.len(), 1);
}

#[test]
fn nothing_is_asked_before_the_clock_is_set_nor_without_a_place_to_keep_it() {
    let mut world = with_token();
    world.sntp = false;
    world.boot();
    world.run(HOUR);
    assert!(world.asks.is_empty());
    world.sntp = true;
    world.online();

    let mut world = with_token();
    world.flash.wear_out_after(0);
    world.boot();
    world.run(DAY);
    assert!(!world.is_online());
    assert!(world.broker.things.is_empty(), "the token is as good as it was");
}

#[test]
fn a_token_that_is_refused_is_said_loudly_and_tried_seldom() {
    for (known, why) in [(false, "unknown"), (true, "used")] {
        let mut world = with_token();
        match known {
            false => world.broker.one_time.clear(),
            true => world.broker.one_time.get_mut("t0ken").expect("there").1 = true,
        }
        world.boot();
        world.run(DAY);
        assert!(!world.is_online(), "{why}");
        let said = Event::ProvisioningError(ProvisioningError::TokenRefused);
        assert!(world.events.contains(&said), "{why}: {:?}", world.events);
        let asks = world.asks.len();
        assert!((6..120).contains(&asks), "{why}: {asks} questions in a day");
        // A person writes a new one.
        world.broker.one_time.insert("t0ken".into(), ("sn-0001".into(), false));
        world.online();
    }
}

#[test]
fn a_broker_that_has_no_time_is_asked_again_and_the_token_is_not_given_up() {
    for status in [429, 503, 409] {
        let mut world = with_token();
        world.broker.moods.rejects = Some(status);
        world.boot();
        world.run(HOUR);
        let error = |event: &Event| matches!(event, Event::ProvisioningError(_));
        assert!(!world.events.iter().any(error), "{status}: {:?}", world.events);
        assert!(world.asks.len() > 2, "{status}");
        world.broker.moods.rejects = None;
        world.online();
    }
    let mut world = with_token();
    world.broker.moods.down = true;
    world.boot();
    world.run(HOUR);
    assert!(world.asks.len() > 2);
    world.broker.moods.down = false;
    world.online();
}

#[test]
fn a_lost_answer_uses_the_token_up_and_a_new_token_helps() {
    let mut world = with_token();
    world.broker.moods.answers_lost = true;
    world.boot();
    world.run(HOUR);
    world.broker.moods.answers_lost = false;
    world.run(DAY);
    assert!(world.events.contains(&Event::ProvisioningError(ProvisioningError::TokenRefused)));
    world.broker.one_time.insert("second".into(), ("sn-0001".into(), false));
    world.factory.as_mut().expect("factory data").token = Some(token("second"));
    world.boot();
    world.online();
}

#[test]
fn no_cut_between_the_token_and_the_first_connection_loses_more_than_the_token() {
    let mut whole = with_token();
    whole.boot();
    whole.online();
    let operations = whole.flash.operations();
    let (mut used, mut cuts) = (0, 0);
    for nth in 1..=operations {
        for noise in 1..6 {
            cuts += 1;
            let mut world = with_token();
            world.flash.cut_power_in(nth, nth.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ noise);
            world.boot_as_it_is();
            world.run_until(DAY, World::is_online);
            assert!(world.flash.is_cut());
            world.boot();
            if world.run_until(HOUR / 4, World::is_online) {
                continue;
            }
            // The certificate was on its way to the flash: an operator has to make another token.
            used += 1;
            assert!(
                world.broker.one_time["t0ken"].1,
                "cut {nth}: a good token brought nothing: {:?}",
                world.events
            );
            world.broker.one_time.get_mut("t0ken").expect("there").1 = false;
            world.online();
        }
    }
    println!("{cuts} cuts during a first boot by token; after {used} of them the token was used up");
    assert!(used > 0 && used < cuts / 2 + cuts / 4, "{used} of {cuts}");
}

#[test]
fn an_answer_that_is_not_for_our_key_our_name_or_our_time_is_refused() {
    let broker = World::new().broker;
    let mut signer = PoolSigner;
    let [ours, other] = [5, 600].map(|seed| signer.generate(&mut TestRng(seed)).expect("a key"));
    let request = signer.request(&ours, "sn-0001").expect("a request");
    let certificate = |secret: &_| {
        let mut signer = PoolSigner;
        let request = signer.request(secret, "sn-0001").expect("a request");
        let key = key_of_request(&pem("CERTIFICATE REQUEST", &request));
        pem("CERTIFICATE", &broker.sign(&key, START).der)
    };
    let taken = |status: u16, body: &str, wall: u64| {
        let public_key = PoolSigner.public_key(&ours).expect("a key");
        let begun = Redemption::begin(&token("t"), "sn-0001", ours.clone(), public_key, &request);
        let (mut redemption, ask) = begun;
        assert!(core::str::from_utf8(&ask.request).expect("text").contains("BEGIN CERTIFICATE REQUEST"));
        let length = u32::try_from(body.len()).expect("short");
        redemption.answered(Answer::Begin { status, length }, Some(wall))?;
        for part in body.as_bytes().chunks(99) {
            assert_eq!(redemption.answered(Answer::Part(part), Some(wall)), Ok(Redeemed::Wait));
        }
        redemption.answered(Answer::End, Some(wall))
    };
    let body = |device: &str, certificate: String| {
        serde_json::json!({"device_id": device, "certificate": certificate, "ca_chain": "x"}).to_string()
    };
    let good = body("sn-0001", certificate(&ours));
    assert!(
        matches!(taken(200, &good, START), Ok(Redeemed::Complete(credential)) if credential.thing == "sn-0001")
    );
    let fault = |fault| Err(AnswerFault::Certificate(fault));
    let anothers = body("sn-0001", certificate(&other));
    assert_eq!(taken(200, &anothers, START), fault(CertificateFault::NotOurKey));
    assert_eq!(taken(200, &good, START + 400 * 86_400), fault(CertificateFault::NotValidNow));
    assert_eq!(taken(200, &body("sn-0001", "no PEM".into()), START), fault(CertificateFault::Unreadable));
    assert_eq!(taken(200, &body("sn-0002", certificate(&ours)), START), Err(AnswerFault::Name));
    for bad in ["", "{", "[]", "{\"device_id\":\"sn-0001\"}", &"x".repeat(20_000)] {
        assert_eq!(taken(200, bad, START), Err(AnswerFault::Payload));
    }
    // Whatever a refusal says, it is one.
    assert!(matches!(taken(500, "<html>", START), Ok(Redeemed::Rejected(said)) if said.is_transient()));
    assert!(matches!(taken(201, &good, START), Ok(Redeemed::Rejected(_))));
}

#[test]
fn a_token_is_in_no_log() {
    let mut world = with_token();
    world.broker.one_time.clear();
    world.boot();
    world.run(DAY);
    assert!(!format!("{:?} {:?}", world.events, world.factory).contains("t0ken"));
}
