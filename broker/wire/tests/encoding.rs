//! What the encoder says in each version, and what it refuses to write.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use bytes::{Bytes, BytesMut};
use common::{encoded, wire};
use signet_wire::*;

fn id() -> PacketId {
    PacketId::new(7).unwrap()
}

fn text(text: &str) -> Text {
    Text::try_from(text).unwrap()
}

fn publish() -> Publish {
    Publish {
        dup: false,
        retain: false,
        qos: QosId::AtMostOnce,
        topic: Some(TopicName::try_from("t").unwrap()),
        properties: None,
        payload: Bytes::from_static(b"p"),
    }
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive_secs: 10,
        client_id: None,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn connack(reason: ReasonCode) -> Packet {
    let properties =
        Box::new(ConnAckProperties { reason_string: Some(text("why")), ..ConnAckProperties::default() });
    Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }))
}

fn subscribe(filter: Result<SubscriptionFilter, FilterError>, options: SubscribeOptions) -> Packet {
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(),
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![Requested { filter, options }],
    }))
}

#[test]
fn nothing_of_5_0_reaches_a_3_1_1_peer() {
    let properties =
        Some(Box::new(AckProperties { reason_string: Some(text("why")), user_properties: Vec::new() }));
    for (packet, expected) in [
        (connack(ReasonCode::Success), "20 | 00 00"),
        (
            Packet::Publish(Publish {
                properties: Some(Box::new(PublishProperties {
                    message_expiry_secs: Some(5),
                    content_type: Some(text("text")),
                    ..PublishProperties::default()
                })),
                ..publish()
            }),
            "30 | s't' 'p'",
        ),
        (
            Packet::PubAck(Ack {
                packet_id: id(),
                reason: ReasonCode::NotAuthorized,
                properties: properties.clone(),
            }),
            "40 | #7",
        ),
        (Packet::PubComp(Ack::new(id(), ReasonCode::PacketIdentifierNotFound)), "70 | #7"),
        (
            Packet::SubAck(Box::new(SubAck {
                packet_id: id(),
                reasons: vec![
                    ReasonCode::GRANTED_QOS_0,
                    ReasonCode::GrantedQoS2,
                    ReasonCode::NotAuthorized,
                    ReasonCode::TopicFilterInvalid,
                ],
                properties: properties.clone(),
            })),
            "90 | #7 00 02 80 80",
        ),
        (
            Packet::UnsubAck(Box::new(UnsubAck {
                packet_id: id(),
                reasons: vec![ReasonCode::NoSubscriptionExisted],
                properties,
            })),
            "B0 | #7",
        ),
        (
            subscribe(
                SubscriptionFilter::parse(text("a")),
                SubscribeOptions {
                    qos: QoS::AtLeastOnce,
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::DoNotSend,
                },
            ),
            "82 | #7 s'a' 01",
        ),
    ] {
        assert_eq!(encoded(&packet, Version::V311), wire(expected), "{packet:?}");
    }
}

#[test]
fn reasons_become_the_return_codes_of_3_1_1() {
    for (reason, code) in [
        (ReasonCode::Success, 0),
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::QuotaExceeded, 3),
        (ReasonCode::ConnectionRateExceeded, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
        (ReasonCode::BadAuthenticationMethod, 5),
    ] {
        assert_eq!(encoded(&connack(reason), Version::V311).last(), Some(&code), "{reason}");
    }
}

#[test]
fn the_shortest_forms_of_5_0_are_used_and_connack_always_has_a_property_length() {
    for (packet, expected) in [
        (Packet::PubAck(Ack::success(id())), "40 | #7"),
        (Packet::PubRec(Ack::new(id(), ReasonCode::NotAuthorized)), "50 | #7 87"),
        (Packet::PubRel(Ack { properties: Some(Box::default()), ..Ack::success(id()) }), "62 | #7"),
        (Packet::Disconnect(Disconnect::default()), "E0 |"),
        (Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)), "E0 | 8E"),
        (
            Packet::Disconnect(Disconnect {
                reason: ReasonCode::SessionTakenOver,
                properties: Some(Box::default()),
            }),
            "E0 | 8E",
        ),
        (
            Packet::ConnAck(Box::new(ConnAck {
                session_present: true,
                reason: ReasonCode::Success,
                properties: Box::default(),
            })),
            "20 | 01 00 {}",
        ),
        (Packet::Publish(publish()), "30 | s't' {} 'p'"),
        (Packet::PingResp, "D0 |"),
    ] {
        assert_eq!(encoded(&packet, Version::V5), wire(expected), "{packet:?}");
    }
}

#[test]
fn what_cannot_be_said_is_not_written() {
    let both = [Version::V311, Version::V5];
    let v311 = [Version::V311];
    let v5 = [Version::V5];
    let long = "a".repeat(65_530);
    let cases: Vec<(&str, &[Version], Packet)> = vec![
        ("DUP at QoS 0", &both, Packet::Publish(Publish { dup: true, ..publish() })),
        ("no topic and no alias", &both, Packet::Publish(Publish { topic: None, ..publish() })),
        (
            "an alias without a topic",
            &v311,
            Packet::Publish(Publish {
                topic: None,
                properties: Some(Box::new(PublishProperties {
                    topic_alias: std::num::NonZeroU16::new(1),
                    ..PublishProperties::default()
                })),
                ..publish()
            }),
        ),
        (
            "subscription identifier 0",
            &v5,
            Packet::Publish(Publish {
                properties: Some(Box::new(PublishProperties {
                    subscription_ids: [0].into_iter().collect(),
                    ..PublishProperties::default()
                })),
                ..publish()
            }),
        ),
        (
            "a packet longer than MQTT can express",
            &both,
            Packet::Publish(Publish { payload: vec![0; 268_435_453].into(), ..publish() }),
        ),
        ("CONNECT of the other version", &v5, Packet::Connect(Box::new(connect(Version::V311)))),
        (
            "a session without an identifier",
            &v311,
            Packet::Connect(Box::new(Connect { clean_start: false, ..connect(Version::V311) })),
        ),
        (
            "a password without a user name",
            &v311,
            Packet::Connect(Box::new(Connect {
                password: Some(Binary::from_static(b"x")),
                ..connect(Version::V311)
            })),
        ),
        (
            "a will payload that is too long",
            &v5,
            Packet::Connect(Box::new(Connect {
                will: Some(Box::new(Will {
                    topic: TopicName::try_from("t").unwrap(),
                    payload: vec![0; 65_536].into(),
                    qos: QoS::AtMostOnce,
                    retain: false,
                    delay_secs: 0,
                    properties: None,
                })),
                ..connect(Version::V5)
            })),
        ),
        ("CONNACK for a malformed packet", &v311, connack(ReasonCode::MalformedPacket)),
        ("CONNACK with another packet's reason", &both, connack(ReasonCode::SessionTakenOver)),
        (
            "session present on a refused connection",
            &both,
            Packet::ConnAck(Box::new(ConnAck {
                session_present: true,
                reason: ReasonCode::NotAuthorized,
                properties: Box::default(),
            })),
        ),
        (
            "PUBACK with another packet's reason",
            &v5,
            Packet::PubAck(Ack::new(id(), ReasonCode::SessionTakenOver)),
        ),
        (
            "SUBACK without reasons",
            &both,
            Packet::SubAck(Box::new(SubAck { packet_id: id(), reasons: Vec::new(), properties: None })),
        ),
        (
            "UNSUBSCRIBE without filters",
            &both,
            Packet::Unsubscribe(Box::new(Unsubscribe {
                packet_id: id(),
                user_properties: Vec::new(),
                filters: Vec::new(),
            })),
        ),
        ("a filter that is none", &both, subscribe(Err(FilterError::Empty), SubscribeOptions::default())),
        (
            "a shared filter longer than a field",
            &both,
            subscribe(
                Ok(SubscriptionFilter::Shared {
                    group: text("g"),
                    filter: TopicFilter::try_from(long).unwrap(),
                }),
                SubscribeOptions::default(),
            ),
        ),
        (
            "no local on a shared subscription",
            &both,
            subscribe(
                SubscriptionFilter::parse(text("$share/g/a")),
                SubscribeOptions { no_local: true, ..SubscribeOptions::default() },
            ),
        ),
        (
            "DISCONNECT with a reason",
            &v311,
            Packet::Disconnect(Disconnect::new(ReasonCode::ServerShuttingDown)),
        ),
        (
            "DISCONNECT with another packet's reason",
            &v5,
            Packet::Disconnect(Disconnect::new(ReasonCode::Banned)),
        ),
        (
            "AUTH",
            &v311,
            Packet::Auth(Box::new(Auth {
                reason: ReasonCode::ContinueAuthentication,
                auth_method: Some(text("m")),
                auth_data: None,
                reason_string: None,
                user_properties: Vec::new(),
            })),
        ),
        (
            "AUTH without a method",
            &v5,
            Packet::Auth(Box::new(Auth {
                reason: ReasonCode::ContinueAuthentication,
                auth_method: None,
                auth_data: None,
                reason_string: None,
                user_properties: Vec::new(),
            })),
        ),
    ];
    for (what, versions, packet) in cases {
        for &version in versions {
            let mut out = BytesMut::from(&b"before"[..]);
            assert!(encode(&packet, version, &mut out).is_err(), "{what} in {version}");
            assert_eq!(out.as_ref(), b"before", "{what} in {version}");
            assert_eq!(encoded_len(&packet, version), 0, "{what} in {version}");
        }
    }
}

#[test]
fn every_reason_code_is_its_number_and_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> =
        ReasonCode::ALL.iter().map(|reason| reason.metric_label()).collect();
    assert_eq!(labels.len(), ReasonCode::ALL.len());
    for value in 0..=u8::MAX {
        match ReasonCode::try_from(value) {
            Ok(reason) => assert_eq!((reason as u8, reason.is_failure()), (value, value >= 0x80)),
            Err(other) => {
                assert!(other == value && ReasonCode::ALL.iter().all(|reason| *reason as u8 != value));
            }
        }
    }
}

#[test]
fn every_error_has_a_label_of_its_own_and_a_reason_that_says_failure() {
    let labels: std::collections::BTreeSet<_> =
        DecodeErrorKind::ALL.iter().map(|kind| kind.metric_label()).collect();
    assert_eq!(labels.len(), DecodeErrorKind::ALL.len());
    assert!(DecodeErrorKind::ALL.iter().all(|kind| kind.reason().is_failure()));
}

#[test]
fn passwords_and_payloads_do_not_show_when_packets_are_printed() {
    let connect = Connect {
        username: Some(text("user")),
        password: Some(Binary::from_static(b"hunter2")),
        properties: ConnectProperties {
            auth_method: Some(text("m")),
            auth_data: Some(Binary::from_static(b"hunter3")),
            ..ConnectProperties::default()
        },
        ..connect(Version::V5)
    };
    let shown = format!("{connect:?} {:?}", Publish { payload: Bytes::from_static(b"hunter4"), ..publish() });
    assert!(shown.contains("user") && !shown.contains("hunter"), "{shown}");
}
