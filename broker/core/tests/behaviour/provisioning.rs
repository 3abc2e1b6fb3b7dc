//! The provisioning topics: who may use them, what is handed on, and whom an answer reaches.

use signet_acl::DenyCause;
use signet_core::provisioning::{Answer, ErrorCode, Payload, REQUESTS_IN_FLIGHT_MAX, Request};
use signet_core::{AnswerDropped, CloseReason, DeniedAccess, Event, Quota, Refusal};
use signet_identity::{CertificateId, Principal, TemplateName, ThingName};
use signet_wire::{Ack, Packet, Publish, QoS, ReasonCode, Version};

use crate::world::*;

const CSR: &str = "$aws/certificates/create-from-csr/json";
const KEYS: &str = "$aws/certificates/create/cbor";
const FLEET: &str = "$aws/provisioning-templates/fleet/provision/json";
const RENEW: &str = "$aws/provisioning-templates/renew/provision/cbor";
const CSR_PAYLOAD: &str = r#"{"certificateSigningRequest":"PEM"}"#;

/// What every request topic and every answer topic looks like.
fn requests() -> Vec<String> {
    let operations = [
        "certificates/create",
        "certificates/create-from-csr",
        "provisioning-templates/fleet/provision",
        "provisioning-templates/renew/provision",
    ];
    operations.iter().flat_map(|it| ["json", "cbor"].map(|format| format!("$aws/{it}/{format}"))).collect()
}

fn template(name: &str) -> TemplateName {
    TemplateName::try_from(name).unwrap()
}

fn claim(name: &str) -> Principal {
    let templates = vec![template("fleet")];
    Principal::claim(ThingName::try_from(name).unwrap(), CertificateId::of(name.as_bytes()), templates)
}

/// A client of a claim that listens to the answers to signing requests.
fn claimant(w: &mut World, client_id: &str) -> Who {
    let who = w.connect(v5(client_id).principal(claim("batch")));
    w.subscribe(who, &format!("{CSR}/accepted"), 1);
    w.subscribe(who, &format!("{CSR}/rejected"), 1);
    w.notes(who);
    who
}

/// Publishes a request and gives what was handed on.
fn ask(w: &mut World, who: Who, topic: &str, payload: &str) -> Request {
    assert_eq!(w.publish(who, say(topic, payload).qos(1)), ReasonCode::Success);
    let mut requests = w.requests(who);
    assert_eq!(requests.len(), 1, "{topic}");
    requests.remove(0)
}

fn answer(w: &mut World, request: Request, answer: &Answer) -> bool {
    let reached = w.hub.answer(request.reply_to, answer);
    w.drive();
    reached
}

fn thing(name: &str) -> Answer {
    let name = ThingName::try_from(name).unwrap();
    Answer::Thing { name, device_configuration: Default::default() }
}

fn no(code: ErrorCode) -> Answer {
    Answer::Rejected(code.because("no"))
}

fn reject(w: &mut World, request: Request) -> bool {
    answer(w, request, &no(ErrorCode::AccessDenied))
}

#[track_caller]
fn one_answer(w: &mut World, who: Who, topic: &str) -> Publish {
    let mut messages = w.messages(who);
    assert_eq!(messages.len(), 1, "{messages:?}");
    let message = messages.remove(0);
    assert_eq!(message.topic.as_deref(), Some(topic));
    assert!(!message.retain && !message.dup);
    message
}

#[test]
fn each_kind_of_principal_may_publish_exactly_the_requests_of_its_own() {
    let policy = "role operator\ntopic readwrite $aws/#\nrole device\ntopic readwrite $a/#\n";
    for rotation in [false, true] {
        let mut w = World::under(policy);
        if rotation {
            w.hub.set_rotation_templates([template("renew")].into());
        }
        let a_claim = w.connect(v5("c").principal(claim("batch")));
        let a_device = w.connect(v5("d"));
        let an_operator = w.connect(v5("o").principal(operator("o")));
        for topic in requests() {
            let (fleet, renew) = (topic.contains("/fleet/"), topic.contains("/renew/"));
            for (who, may) in [(a_claim, !renew), (a_device, rotation && !fleet), (an_operator, false)] {
                let code = w.publish(who, say(&topic, "{}").qos(1));
                let expected = if may { ReasonCode::Success } else { ReasonCode::NotAuthorized };
                assert_eq!(code, expected, "{topic} {who:?}");
                for request in w.requests(who) {
                    assert!(may, "{topic} was handed on");
                    assert_eq!(request.reply_to.topic().to_string(), topic);
                    reject(&mut w, request);
                }
                for last in ["accepted", "rejected", "+", "#"] {
                    let suback = w.subscribe_to(who, vec![filter(&format!("{topic}/{last}"), 1)], None);
                    let is_operator = who == an_operator;
                    let granted = suback.reasons[0] == ReasonCode::GrantedQoS1;
                    assert_eq!(granted, may || is_operator, "{topic}/{last} {who:?}");
                    w.unsubscribe(who, &format!("{topic}/{last}"));
                }
                let suback = w.subscribe_to(who, vec![filter(&topic, 1)], None);
                assert_eq!(suback.reasons, [ReasonCode::NotAuthorized], "{topic}");
            }
        }
    }
}

#[test]
fn nobody_publishes_answers_or_events() {
    let mut w = World::under("role operator\ntopic readwrite $aws/#\nrole device\ntopic readwrite $aws/#\n");
    let principals = [device("d"), operator("o"), claim("batch")];
    for principal in principals {
        let who = w.connect(v5("x").principal(principal));
        for topic in [
            "$aws/certificates/create/json/accepted",
            "$aws/certificates/create-from-csr/cbor/rejected",
            "$aws/provisioning-templates/fleet/provision/json/accepted",
            "$aws/events/certificates/registered/x",
            "$aws/events/presence/connected/x",
            "$aws/certificates/create/json/",
            "$aws/things/x/shadow/update",
        ] {
            assert_eq!(w.publish(who, say(topic, "x").qos(1)), ReasonCode::NotAuthorized, "{topic}");
            assert_eq!(w.publish(who, say(topic, "x").qos(1).retain()), ReasonCode::NotAuthorized, "{topic}");
        }
        assert!(w.requests(who).is_empty());
    }
}

#[test]
fn events_reach_operators_with_a_rule_and_nobody_else() {
    let mut w = World::under(
        "role operator\ntopic read $aws/events/#\nrole device\ntopic read $aws/#\ntopic read $aws/events/#\n",
    );
    let an_operator = w.connect(v5("o").principal(operator("o")));
    w.subscribe(an_operator, "$aws/events/#", 1);
    let a_device = w.connect(v5("d"));
    w.subscribe(a_device, "$aws/#", 1);
    let a_claim = w.connect(v5("c").principal(claim("batch")));
    for (who, text) in [(a_device, "$aws/events/#"), (a_claim, "$aws/events/presence/#")] {
        assert_eq!(w.subscribe_to(who, vec![filter(text, 1)], None).reasons, [ReasonCode::NotAuthorized]);
    }
    let now = w.now;
    w.hub.publish_internal(topic("$aws/events/presence/connected/d"), "e".into(), false, now).unwrap();
    w.drive();
    assert_eq!(w.payloads(an_operator), ["e"]);
    assert_eq!(w.payloads(a_device), [""; 0]);
}

#[test]
fn a_request_is_acknowledged_with_success_and_handed_on_read() {
    let mut w = World::under("");
    let who = claimant(&mut w, "c");
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    assert_eq!(request.payload, Ok(Payload::Csr("PEM".to_owned())));
    assert_eq!(&*request.client_id, "c");
    assert_eq!(request.reply_to.connection(), w.connection(who).number());
    // At QoS 2 once, however often it is sent.
    let say = say(CSR, CSR_PAYLOAD).qos(2);
    let id = w.packet_id();
    w.send(who, Packet::Publish(say.clone().packet(id)));
    let mut again = say.packet(id);
    again.dup = true;
    w.send(who, Packet::Publish(again));
    assert_eq!(w.requests(who).len(), 1);
}

#[test]
fn what_cannot_be_read_is_acknowledged_with_success_too_and_handed_on_with_its_rejection() {
    let mut w = World::under("");
    let who = w.connect(v5("c").principal(claim("batch")));
    for (payload, retain) in [("{", false), ("{}", false), (&*"x".repeat(9000), false), (CSR_PAYLOAD, true)] {
        let mut say = say(CSR, payload).qos(1);
        say.retain = retain;
        assert_eq!(w.publish(who, say), ReasonCode::Success);
        let request = w.requests(who).remove(0);
        assert_eq!(request.payload.as_ref().unwrap_err().code, ErrorCode::InvalidPayload);
        reject(&mut w, request);
    }
    assert_eq!(w.hub.retained_fill(), (0, 0));
}

#[test]
fn an_answer_reaches_the_connection_that_asked_and_no_other() {
    let policy = "role operator\ntopic read #\ntopic read $aws/#\nrole device\ntopic read $aws/#\n";
    let mut w = World::under(policy);
    w.hub.set_rotation_templates([template("renew")].into());
    let asking = claimant(&mut w, "one");
    let same_claim = claimant(&mut w, "two");
    let other_claim = w.connect(v5("one").principal(claim("other")));
    w.subscribe(other_claim, &format!("{CSR}/#"), 1);
    let an_operator = w.connect(v5("o").principal(operator("o")));
    w.subscribe(an_operator, "$aws/#", 2);
    w.subscribe(an_operator, "#", 2);
    let a_device = w.connect(v5("d"));
    w.subscribe(a_device, &format!("{CSR}/+"), 1);
    w.subscribe(a_device, "$aws/#", 1);
    let request = ask(&mut w, asking, CSR, CSR_PAYLOAD);
    assert!(answer(&mut w, request, &thing("fp-1")));
    let message = one_answer(&mut w, asking, &format!("{CSR}/accepted"));
    assert_eq!(text(&message), r#"{"deviceConfiguration":{},"thingName":"fp-1"}"#);
    w.acknowledge(asking, &message);
    for other in [same_claim, other_claim, an_operator, a_device] {
        assert_eq!(w.messages(other), [], "{other:?}");
    }
    let late = claimant(&mut w, "three");
    assert_eq!(w.messages(late), [], "an answer is not retained");
}

#[test]
fn nobody_can_take_an_answer_by_a_shared_subscription() {
    let mut w = World::under("");
    let who = w.connect(v5("c").principal(claim("batch")));
    let shared = format!("$share/g/{CSR}/accepted");
    assert_eq!(w.subscribe_to(who, vec![filter(&shared, 1)], None).reasons, [ReasonCode::NotAuthorized]);
}

#[test]
fn an_answer_comes_at_the_qos_granted_at_most_1_with_the_identifiers_of_its_subscriptions() {
    for (granted, expected) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::AtLeastOnce)] {
        let mut w = World::under("");
        let who = w.connect(v5("c").principal(claim("batch")));
        w.subscribe_to(who, vec![filter(&format!("{KEYS}/+"), granted)], Some(7));
        let request = ask(&mut w, who, KEYS, "");
        assert_eq!(request.payload, Ok(Payload::Keys));
        reject(&mut w, request);
        let message = one_answer(&mut w, who, &format!("{KEYS}/rejected"));
        assert_eq!(message.qos.qos(), expected);
        let ids = message.properties.as_ref().unwrap().subscription_ids.clone();
        assert_eq!(ids.as_slice(), [7]);
        w.acknowledge(who, &message);
        w.assert_open(who);
    }
}

#[test]
fn an_answer_that_nobody_subscribed_to_is_gone_and_noted() {
    let mut w = World::under("");
    let who = w.connect(v5("c").principal(claim("batch")));
    w.subscribe(who, &format!("{CSR}/accepted"), 1);
    w.notes(who);
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    reject(&mut w, request);
    assert_eq!(w.messages(who), []);
    let topic = topic(&format!("{CSR}/rejected"));
    assert_eq!(w.notes(who), [Event::AnswerDropped { topic, why: AnswerDropped::NotSubscribed }]);
    w.subscribe(who, &format!("{CSR}/rejected"), 1);
    assert_eq!(w.messages(who), [], "it did not wait");
    assert_eq!((w.counts().enrol_answers, w.counts().enrol_answers_dropped), (0, 1));
}

#[test]
fn an_answer_does_not_outlive_its_connection() {
    let mut w = World::under("");
    w.hub.set_rotation_templates([template("renew")].into());
    for broken in [true, false] {
        // A device, whose session can be resumed.
        let dial = v3("d").lasting();
        let who = w.connect(dial.clone());
        w.subscribe(who, &format!("{CSR}/accepted"), 1);
        let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
        if broken {
            w.drop_connection(who);
        }
        let (again, present) = w.reconnect(dial);
        assert!(present);
        assert!(!answer(&mut w, request, &thing("x")), "the connection is gone");
        assert_eq!(w.messages(again), []);
        w.disconnect(again);
    }
}

#[test]
fn an_answer_that_was_not_acknowledged_is_not_sent_again() {
    let mut w = World::under("");
    w.hub.set_rotation_templates([template("renew")].into());
    let dial = v3("d").lasting();
    let who = w.connect(dial.clone());
    w.subscribe(who, &format!("{CSR}/accepted"), 1);
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    answer(&mut w, request, &thing("x"));
    let message = one_answer(&mut w, who, &format!("{CSR}/accepted"));
    w.drop_connection(who);
    let (again, present) = w.reconnect(dial);
    assert!(present);
    assert_eq!(w.messages(again), []);
    // Its acknowledgement, late, does no harm.
    w.acknowledge(again, &message);
    w.assert_open(again);
}

#[test]
fn an_answer_has_an_identifier_of_its_own_and_counts_against_the_receive_maximum() {
    let mut w = World::under("role device\ntopic readwrite a\n");
    w.hub.set_rotation_templates([template("renew")].into());
    let who = w.connect(v5("d").receive_max(1));
    w.subscribe(who, &format!("{CSR}/accepted"), 1);
    w.subscribe(who, "a", 1);
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    answer(&mut w, request, &thing("x"));
    let first = one_answer(&mut w, who, &format!("{CSR}/accepted"));
    assert_eq!(first.qos.qos(), QoS::AtLeastOnce);
    let publisher = w.connect(v5("e"));
    w.publish(publisher, say("a", "m").qos(1));
    assert_eq!(w.messages(who), [], "the only slot is the answer's");
    // With no slot left, an answer comes at QoS 0 rather than late.
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    answer(&mut w, request, &thing("y"));
    assert_eq!(one_answer(&mut w, who, &format!("{CSR}/accepted")).qos.qos(), QoS::AtMostOnce);
    w.acknowledge(who, &first);
    assert_eq!(w.payloads(who), ["m"]);
    // The wrong acknowledgement of an answer is a violation, as of any message.
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    answer(&mut w, request, &thing("z"));
    let id = one_answer(&mut w, who, &format!("{CSR}/accepted")).qos.packet_id().unwrap();
    w.send(who, Packet::PubRec(Ack::success(id)));
    assert!(matches!(w.closed(who), Some(CloseReason::Violation(_))));
}

#[test]
fn a_connection_that_asks_too_much_at_once_is_answered_at_once() {
    let mut w = World::under("");
    let who = claimant(&mut w, "c");
    let waiting: Vec<Request> =
        (0..REQUESTS_IN_FLIGHT_MAX).map(|_| ask(&mut w, who, CSR, CSR_PAYLOAD)).collect();
    assert_eq!(w.publish(who, say(CSR, CSR_PAYLOAD).qos(1)), ReasonCode::Success);
    assert!(w.requests(who).is_empty());
    let message = one_answer(&mut w, who, &format!("{CSR}/rejected"));
    assert!(text(&message).contains(r#""statusCode":429"#), "{}", text(&message));
    assert_eq!(w.notes(who), [Event::QuotaReached(Quota::Requests)]);
    w.acknowledge(who, &message);
    for request in waiting {
        reject(&mut w, request);
    }
    let rejected = w.messages(who);
    assert_eq!(rejected.len(), REQUESTS_IN_FLIGHT_MAX);
    for message in &rejected {
        w.acknowledge(who, message);
    }
    drop(ask(&mut w, who, CSR, CSR_PAYLOAD));
}

#[test]
fn an_answer_larger_than_the_client_takes_is_dropped_and_noted() {
    let mut w = World::under("");
    let who = w.connect(v5("c").principal(claim("batch")).packet_max(120));
    w.subscribe(who, &format!("{CSR}/accepted"), 1);
    w.notes(who);
    let request = ask(&mut w, who, CSR, CSR_PAYLOAD);
    answer(&mut w, request, &thing(&"x".repeat(64)));
    assert_eq!(w.messages(who), []);
    assert!(matches!(w.notes(who).as_slice(), [Event::AnswerDropped { why: AnswerDropped::TooLarge, .. }]));
}

#[test]
fn a_right_that_is_taken_away_meanwhile_keeps_the_answer_back() {
    let mut w = World::under("");
    w.hub.set_rotation_templates([template("renew")].into());
    let who = w.connect(v5("d"));
    w.subscribe(who, &format!("{RENEW}/accepted"), 1);
    w.notes(who);
    let request = ask(&mut w, who, RENEW, "\u{0}");
    w.hub.set_rotation_templates([].into());
    answer(&mut w, request, &thing("d"));
    assert_eq!(w.messages(who), []);
    let why = AnswerDropped::Denied(DenyCause::NoRule);
    assert_eq!(w.notes(who), [Event::AnswerDropped { topic: topic(&format!("{RENEW}/accepted")), why }]);
}

#[test]
fn a_policy_that_is_replaced_leaves_devices_their_rotation() {
    let mut w = World::under("");
    w.hub.set_rotation_templates([template("renew")].into());
    let who = w.connect(v5("d"));
    w.set_policy("role device\ntopic read x\n");
    drop(ask(&mut w, who, RENEW, "\u{0}"));
    w.set_policy("role device\ntopic deny $aws/provisioning-templates/#\n");
    assert_eq!(w.publish(who, say(RENEW, "x").qos(1)), ReasonCode::NotAuthorized);
}

#[test]
fn a_claim_has_no_will_and_nobody_has_one_below_aws() {
    for dial in [
        v5("c").principal(claim("batch")).will(will("devices/x", "gone")),
        v3("c").principal(claim("batch")).will(will(CSR, CSR_PAYLOAD)),
        v5("d").will(will(CSR, CSR_PAYLOAD)),
        v5("d").will(will("$aws/events/presence/disconnected/d", "x")),
        v5("o").principal(operator("o")).will(will(FLEET, "x")),
    ] {
        let mut w = World::new();
        w.hub.set_rotation_templates([template("renew")].into());
        let (who, connack) = w.dial(dial);
        assert_eq!(connack.unwrap().reason, ReasonCode::NotAuthorized);
        assert_eq!(w.closed(who), Some(CloseReason::Refused(Refusal::WillNotAllowed)));
    }
}

#[test]
fn a_claim_keeps_no_session_whatever_it_asks_for() {
    for dial in [v5("c").lasting(), v3("c").lasting()] {
        let mut w = World::under("");
        let dial = dial.principal(claim("batch"));
        let (who, connack) = w.dial(dial.clone());
        if dial.connect.version == Version::V5 {
            assert_eq!(connack.unwrap().properties.session_expiry_secs, Some(0));
        }
        w.subscribe(who, &format!("{CSR}/accepted"), 1);
        w.drop_connection(who);
        assert_eq!(w.hub.session_count(), 0);
        let (_, present) = w.reconnect(dial.clone());
        assert!(!present);
        // The device, with the same client identifier, meets neither the session nor the connection.
        let device_dial = Dial { principal: device("thing-1"), ..dial };
        let (_, present) = w.reconnect(device_dial);
        assert!(!present);
    }
}

#[test]
fn a_claim_has_a_bound_of_its_own_for_the_devices_that_share_it() {
    let limits = signet_core::Limits {
        sessions_per_principal_max: 1,
        sessions_per_claim_max: 2,
        ..signet_core::Limits::default()
    };
    let mut w = World::with(limits, "");
    let dial = |client_id: &str| v5(client_id).principal(claim("batch"));
    let first = w.connect(dial("1"));
    w.connect(dial("2"));
    let (_, connack) = w.dial(dial("3"));
    assert_eq!(connack.unwrap().reason, ReasonCode::QuotaExceeded);
    w.drop_connection(first);
    w.connect(dial("3"));
}

#[test]
fn a_claim_is_confined_to_provisioning() {
    let mut w = World::new();
    let who = w.connect(v5("c").principal(claim("batch")));
    w.notes(who);
    for name in ["devices/c/telemetry", "a", "$SYS/broker/x", RENEW] {
        assert_eq!(w.publish(who, say(name, "x").qos(1)), ReasonCode::NotAuthorized, "{name}");
    }
    for name in ["#", "+", "devices/#", "$SYS/#", "$aws/#", "$aws/certificates/#", "$share/g/#"] {
        assert_eq!(
            w.subscribe_to(who, vec![filter(name, 1)], None).reasons,
            [ReasonCode::NotAuthorized],
            "{name}"
        );
    }
    let unsuback = w.unsubscribe(who, &format!("{CSR}/accepted"));
    assert_eq!(unsuback.reasons, [ReasonCode::NoSubscriptionExisted]);
    assert!(w.notes(who).iter().all(|event| matches!(
        event,
        Event::Denied { access: DeniedAccess::Publish(_) | DeniedAccess::Subscribe(_), .. }
    )));
}
