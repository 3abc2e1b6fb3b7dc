//! CONNECT and CONNACK.

use std::time::Duration;

use signet_core::{ClientIdRule, CloseReason, Event, Input, ListenerRules, Refusal, Violation};
use signet_wire::{Auth, ClientId, Packet, ReasonCode, Text, Version};

use crate::world::{Dial, World, v3, v5};

fn refusal(dial: Dial) -> (Option<ReasonCode>, Option<CloseReason>) {
    let mut w = World::new();
    let (who, connack) = w.dial(dial);
    (connack.map(|connack| connack.reason), w.closed(who))
}

#[test]
fn a_first_connect_is_accepted_without_a_session_in_both_versions() {
    for dial in [v3("dev"), v5("dev"), v3("dev").resume(), v5("dev").lasting()] {
        let mut w = World::new();
        let (who, connack) = w.dial(dial);
        let connack = connack.unwrap();
        assert_eq!((connack.reason, connack.session_present), (ReasonCode::Success, false));
        w.assert_open(who);
        assert_eq!(w.notes(who), [Event::Connected { session_present: false, took_over: false }]);
    }
}

#[test]
fn connack_announces_the_limits() {
    let mut w = World::new();
    let limits = w.hub.limits();
    let (_, connack) = w.dial(v5("dev"));
    let properties = connack.unwrap().properties;
    assert_eq!(properties.receive_max, Some(limits.receive_max));
    assert_eq!(properties.packet_bytes_max, Some(limits.packet_bytes_max));
    assert_eq!(properties.topic_alias_max, limits.topic_alias_in_max);
    assert_eq!(properties.session_expiry_secs, None);
    assert_eq!(properties.assigned_client_id, None);
    assert_eq!(properties.server_keep_alive_secs, None);
}

#[test]
fn a_packet_before_connect_closes_without_an_answer() {
    let mut w = World::new();
    let dial = v5("dev");
    let who = w.open(dial.principal, dial.rules);
    w.send_bytes(who, &[0xC0, 0x00]);
    assert!(matches!(w.closed(who), Some(CloseReason::BadConnect(_))));
    assert_eq!(w.heard(who), []);
}

#[test]
fn a_second_connect_closes_with_a_protocol_error() {
    let mut w = World::new();
    let a = w.connect(v5("dev"));
    w.send(a, Packet::Connect(Box::new(v5("dev").connect)));
    w.assert_disconnected(a, ReasonCode::ProtocolError);
    let b = w.connect(v3("dev"));
    w.send(b, Packet::Connect(Box::new(v3("dev").connect)));
    assert!(w.closed(b).is_some());
    assert_eq!(w.heard(b), [], "3.1.1 has no DISCONNECT from the server");
}

#[test]
fn a_silent_peer_is_closed_after_the_connect_timeout_and_not_before() {
    let mut w = World::new();
    let dial = v5("dev");
    let who = w.open(dial.principal, dial.rules);
    w.advance(Duration::from_millis(4999));
    w.assert_open(who);
    w.advance(Duration::from_millis(1));
    assert_eq!(w.closed(who), Some(CloseReason::ConnectTimeout));
    assert_eq!(w.heard(who), [], "no DISCONNECT before CONNACK");
    assert!(w.hub.connections().is_empty());
}

#[test]
fn a_malformed_connect_is_answered_in_5_0_and_not_in_3_1_1() {
    // Reserved bit of the connect flags.
    let v311: &[u8] = &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x03, 0, 0, 0, 1, b'a'];
    let v50: &[u8] = &[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 0x03, 0, 0, 0, 0, 1, b'a'];
    for (bytes, answered) in [(v311, false), (v50, true)] {
        let mut w = World::new();
        let dial = v5("dev");
        let who = w.open(dial.principal, dial.rules);
        w.send_bytes(who, bytes);
        assert!(matches!(w.closed(who), Some(CloseReason::BadConnect(_))));
        match w.heard(who).as_slice() {
            [Packet::ConnAck(connack)] if answered => assert_eq!(connack.reason, ReasonCode::MalformedPacket),
            [] if !answered => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_protocol_version_is_answered_and_closed() {
    // MQIsdp, level 3.
    let v31: &[u8] = &[0x10, 15, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 0x02, 0, 0, 0, 1, b'a'];
    let mut w = World::new();
    let dial = v3("dev");
    let who = w.open(dial.principal, dial.rules);
    w.send_bytes(who, v31);
    assert_eq!(w.connection(who).version(), Some(Version::V311));
    assert!(matches!(w.heard(who).as_slice(), [Packet::ConnAck(connack)]
        if connack.reason == ReasonCode::UnsupportedProtocolVersion));
    assert!(w.closed(who).is_some());
}

#[test]
fn nothing_behind_a_refused_connect_is_processed() {
    let mut w = World::new();
    let victim = w.connect(v5("victim"));
    w.subscribe(victim, "#", 0);
    let mut dial = v5("dev");
    dial.connect.properties.auth_method = Some(Text::from_static("SCRAM"));
    let who = w.open(dial.principal.clone(), dial.rules);
    let mut bytes = bytes::BytesMut::new();
    signet_wire::encode(&Packet::Connect(Box::new(dial.connect)), Version::V5, &mut bytes).unwrap();
    let publish = crate::world::say("t", "x").packet(1);
    signet_wire::encode(&Packet::Publish(publish), Version::V5, &mut bytes).unwrap();
    w.send_bytes(who, &bytes);
    assert_eq!(w.messages(victim), []);
}

#[test]
fn an_authentication_method_is_refused_with_0x8c() {
    let mut dial = v5("dev");
    dial.connect.properties.auth_method = Some(Text::from_static("SCRAM-SHA-1"));
    assert_eq!(
        refusal(dial),
        (
            Some(ReasonCode::BadAuthenticationMethod),
            Some(CloseReason::Refused(Refusal::AuthenticationMethod))
        )
    );
}

#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.send(
        who,
        Packet::Auth(Box::new(Auth {
            reason: ReasonCode::ReAuthenticate,
            auth_method: Some(Text::from_static("X")),
            auth_data: None,
            reason_string: None,
            user_properties: Vec::new(),
        })),
    );
    w.assert_disconnected(who, ReasonCode::ProtocolError);
    assert_eq!(w.closed(who), Some(CloseReason::Violation(Violation::AuthWithoutMethod)));
}

#[test]
fn a_5_0_client_without_identifier_is_assigned_one_that_it_can_resume_with() {
    let mut w = World::new();
    let (first, connack) = w.dial(v5("dev").no_client_id().lasting());
    let assigned = connack.unwrap().properties.assigned_client_id.expect("an assigned identifier");
    let (_, connack) = w.dial(v5("dev").no_client_id());
    assert_ne!(connack.unwrap().properties.assigned_client_id.unwrap(), assigned);
    w.subscribe(first, "t", 1);
    w.drop_connection(first);
    let (_, present) = w.reconnect(v5("dev").client_id(&assigned).lasting());
    assert!(present);
}

#[test]
fn an_empty_identifier_in_3_1_1_needs_a_clean_session() {
    let mut w = World::new();
    let (_, connack) = w.dial(v3("dev").no_client_id());
    assert_eq!(connack.unwrap().reason, ReasonCode::Success);
}

#[test]
fn a_listener_that_binds_identifiers_admits_the_name_and_refuses_the_nearest_others() {
    let with = |rule, client_id: &str| {
        let mut dial = v5("sensor-1").client_id(client_id);
        dial.rules = ListenerRules { client_id_rule: rule, ..ListenerRules::default() };
        refusal(dial).0.unwrap()
    };
    use ClientIdRule::{Any, Identity, IdentityPrefix};
    let no = ReasonCode::ClientIdentifierNotValid;
    for (rule, client_id, answer) in [
        (Any, "whatever", ReasonCode::Success),
        (Identity, "sensor-1", ReasonCode::Success),
        (Identity, "sensor-2", no),
        (Identity, "sensor-11", no),
        (Identity, "sensor-1/app", no),
        (Identity, "Sensor-1", no),
        (IdentityPrefix, "sensor-1", ReasonCode::Success),
        (IdentityPrefix, "sensor-1/app", ReasonCode::Success),
        (IdentityPrefix, "sensor-1-app", no),
        (IdentityPrefix, "sensor-11", no),
        (IdentityPrefix, "/sensor-1", no),
    ] {
        assert_eq!(with(rule, client_id), answer, "{rule:?} {client_id}");
    }
}

#[test]
fn a_bound_listener_assigns_identifiers_that_it_would_admit() {
    for (rule, expected) in
        [(ClientIdRule::Identity, "sensor-1"), (ClientIdRule::IdentityPrefix, "sensor-1/")]
    {
        let mut w = World::new();
        let mut dial = v5("sensor-1").no_client_id();
        dial.rules.client_id_rule = rule;
        let (_, connack) = w.dial(dial.clone());
        let assigned: ClientId = connack.unwrap().properties.assigned_client_id.unwrap();
        assert!(assigned.starts_with(expected), "{assigned}");
        let (_, connack) = w.dial(dial.client_id(&assigned));
        assert_eq!(connack.unwrap().reason, ReasonCode::Success);
    }
}

#[test]
fn a_user_name_and_password_change_nothing() {
    let mut w = World::new();
    let mut dial = v5("dev");
    dial.connect.username = Some(Text::from_static("admin?SDK=Metrics"));
    dial.connect.password = Some(signet_wire::Binary::from_static(b"secret"));
    let who = w.connect(dial);
    assert_eq!(w.connection(who).principal().name().as_str(), "dev");
}

#[test]
fn response_information_comes_only_on_request() {
    let ask = |request| {
        let mut w = World::new();
        let mut dial = v5("dev");
        dial.rules.response_prefix = Some(Text::from_static("replies"));
        dial.connect.properties.request_response_info = request;
        w.dial(dial).1.unwrap().properties.response_information
    };
    assert_eq!(ask(true).as_deref(), Some("replies/dev"));
    assert_eq!(ask(false), None);
}

#[test]
fn a_session_expiry_above_the_limit_is_cut_and_said_so() {
    let mut w = World::limited(|limits| limits.session_expiry_secs_max = 3600);
    let (_, connack) = w.dial(v5("a").expiry(u32::MAX));
    assert_eq!(connack.unwrap().properties.session_expiry_secs, Some(3600));
    let (_, connack) = w.dial(v5("b").expiry(3600));
    assert_eq!(connack.unwrap().properties.session_expiry_secs, None);
}

#[test]
fn connack_stays_within_the_clients_maximum_packet_size() {
    let mut w = World::new();
    let mut dial = v5("dev").packet_max(1);
    let (who, connack) = w.dial(dial.clone());
    assert_eq!(connack, None);
    assert_eq!(w.closed(who), Some(CloseReason::Refused(Refusal::ConnAckTooLarge)));
    assert!(w.hub.sessions().is_empty());
    // A refusal is sent without its explanation when only that fits: 2 + 3 bytes.
    dial = dial.packet_max(5);
    dial.connect.properties.auth_method = Some(Text::from_static("X"));
    let (_, connack) = w.dial(dial);
    let connack = connack.unwrap();
    assert_eq!(connack.reason, ReasonCode::BadAuthenticationMethod);
    assert_eq!(connack.properties.reason_string, None);
}

#[test]
fn closing_from_outside_says_why() {
    let mut w = World::new();
    let who = w.connect(v5("dev"));
    w.input(who, Input::Close(CloseReason::ServerShuttingDown));
    w.assert_disconnected(who, ReasonCode::ServerShuttingDown);
    // Nothing happens on a closed connection.
    w.input(who, Input::Close(CloseReason::Administrative));
    w.send_bytes(who, &[0xC0, 0x00]);
    assert_eq!(w.heard(who), []);
}

#[test]
fn pingreq_is_answered() {
    let mut w = World::new();
    for dial in [v3("a"), v5("b")] {
        let who = w.connect(dial);
        w.send(who, Packet::PingReq);
        assert_eq!(w.heard(who), [Packet::PingResp]);
    }
}

#[test]
fn lists_show_connections_and_sessions() {
    let mut w = World::new();
    let a = w.connect(v5("a").lasting());
    let dial = v5("b");
    w.open(dial.principal, dial.rules);
    let connections = w.hub.connections();
    assert_eq!(connections.len(), 2);
    assert_eq!(connections.iter().filter(|connection| connection.admitted.is_some()).count(), 1);
    w.subscribe(a, "t", 1);
    let [session] = w.hub.sessions().try_into().unwrap();
    assert_eq!(
        (session.client_id.to_string().as_str(), session.connected, session.subscriptions),
        ("a", true, 1)
    );
    w.drop_connection(a);
    let [session] = w.hub.sessions().try_into().unwrap();
    assert!(!session.connected);
    assert_eq!(w.hub.connections().len(), 1);
}

#[test]
fn a_certificate_that_is_not_in_force_is_refused_whatever_connect_says() {
    for dial in [v5("sensor-1"), v3("sensor-1")] {
        let mut w = World::new();
        let mut refused = dial.clone();
        refused.rules.refusal = Some(Refusal::CertificateInactive);
        let (who, connack) = w.dial(refused);
        assert_eq!(connack.unwrap().reason, ReasonCode::NotAuthorized);
        assert_eq!(w.closed(who), Some(CloseReason::Refused(Refusal::CertificateInactive)));
        assert_eq!(w.hub.session_count(), 0);
        // The nearest one that is in force.
        assert_eq!(w.dial(dial).1.unwrap().reason, ReasonCode::Success);
    }
}
