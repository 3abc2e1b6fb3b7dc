//! Generators of every packet in the form that decoding gives back.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use signet_wire::*;

pub(crate) fn text() -> impl Strategy<Value = Text> {
    prop_oneof!["[ -~]{0,12}", "\\PC{0,6}"].prop_map(|text| Text::try_from(text).unwrap())
}

pub(crate) fn binary() -> impl Strategy<Value = Binary> {
    vec(any::<u8>(), 0..12).prop_map(|bytes| Binary::try_from(bytes.as_slice()).unwrap())
}

pub(crate) fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 120..140)].prop_map(Bytes::from)
}

pub(crate) fn topic() -> impl Strategy<Value = TopicName> {
    prop_oneof!["[$a-z/ .0-9é漢]{1,16}", "[a-z/]{100,200}"]
        .prop_map(|topic| TopicName::try_from(topic).unwrap())
}

pub(crate) fn filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![3 => "[a-z0-9]{0,4}", 1 => Just("+".to_owned())];
    (vec(level, 0..5), any::<bool>()).prop_filter_map("empty", |(mut levels, multi)| {
        if multi {
            levels.push("#".to_owned());
        }
        TopicFilter::try_from(levels.join("/")).ok()
    })
}

pub(crate) fn subscription_filter() -> impl Strategy<Value = SubscriptionFilter> {
    prop_oneof![
        filter().prop_map(SubscriptionFilter::Plain),
        ("[a-zA-Z0-9 $]{1,8}", filter()).prop_map(|(group, filter)| SubscriptionFilter::Shared {
            group: Text::try_from(group).unwrap(),
            filter
        }),
    ]
}

pub(crate) fn client_id() -> impl Strategy<Value = ClientId> {
    "[a-zA-Z0-9:._-]{1,23}".prop_map(|id| ClientId::try_from(id).unwrap())
}

pub(crate) fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(PacketId::from)
}

pub(crate) fn qos() -> impl Strategy<Value = QoS> {
    (0_u8..3).prop_map(|qos| QoS::try_from(qos).unwrap())
}

pub(crate) fn qos_id() -> impl Strategy<Value = QosId> {
    prop_oneof![
        Just(QosId::AtMostOnce),
        packet_id().prop_map(QosId::AtLeastOnce),
        packet_id().prop_map(QosId::ExactlyOnce)
    ]
}

pub(crate) fn user_properties() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..4)
}

pub(crate) fn subscription_id() -> impl Strategy<Value = u32> {
    prop_oneof![1_u32..200, 1_u32..=268_435_455]
}

fn payload_format() -> impl Strategy<Value = PayloadFormat> {
    prop_oneof![Just(PayloadFormat::Bytes), Just(PayloadFormat::Utf8)]
}

/// The properties of a message; `subscription_ids` is how many there may be at most.
pub(crate) fn publish_properties(
    alias: bool,
    subscription_ids: usize,
) -> impl Strategy<Value = PublishProperties> {
    let alias = if alias { of(any::<NonZeroU16>()).boxed() } else { Just(None).boxed() };
    (
        of(payload_format()),
        of(any::<u32>()),
        alias,
        of(topic()),
        of(binary()),
        user_properties(),
        vec(subscription_id(), 0..=subscription_ids),
        of(text()),
    )
        .prop_map(|(format, expiry, alias, response_topic, correlation, user, ids, content_type)| {
            PublishProperties {
                payload_format: format,
                message_expiry_secs: expiry,
                topic_alias: alias,
                response_topic,
                correlation_data: correlation,
                user_properties: user,
                subscription_ids: ids.into_iter().collect(),
                content_type,
            }
        })
}

fn none_if_default<T: Default + PartialEq>(properties: T) -> Option<Box<T>> {
    (properties != T::default()).then(|| Box::new(properties))
}

pub(crate) fn publish(version: Version, by_server: bool) -> impl Strategy<Value = Publish> {
    let properties = match version {
        Version::V311 => Just(None).boxed(),
        Version::V5 => {
            publish_properties(true, if by_server { 3 } else { 0 }).prop_map(none_if_default).boxed()
        }
    };
    (any::<bool>(), any::<bool>(), qos_id(), topic(), any::<bool>(), properties, payload()).prop_map(
        |(dup, retain, qos, topic, leave_out, properties, payload)| {
            let alias = properties.as_ref().is_some_and(|it| it.topic_alias.is_some());
            Publish {
                dup: dup && qos != QosId::AtMostOnce,
                retain,
                qos,
                topic: (!(leave_out && alias)).then_some(topic),
                properties,
                payload,
            }
        },
    )
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    let extra = match version {
        Version::V311 => Just((0, None)).boxed(),
        Version::V5 => {
            (prop_oneof![Just(0), any::<u32>()], publish_properties(false, 0).prop_map(none_if_default))
                .boxed()
        }
    };
    (topic(), payload(), qos(), any::<bool>(), extra).prop_map(
        |(topic, payload, qos, retain, (delay_secs, properties))| Will {
            topic,
            payload,
            qos,
            retain,
            delay_secs,
            properties,
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    (
        of(any::<u32>()),
        of(any::<NonZeroU16>()),
        of(any::<NonZeroU32>()),
        any::<u16>(),
        any::<[bool; 2]>(),
        user_properties(),
        of((text(), of(binary()))),
    )
        .prop_map(|(expiry, receive_max, size_max, alias_max, [response, problem], user, auth)| {
            let (auth_method, auth_data) = auth.map_or((None, None), |(method, data)| (Some(method), data));
            ConnectProperties {
                session_expiry_secs: expiry,
                receive_max,
                packet_bytes_max: size_max,
                topic_alias_max: alias_max,
                request_response_info: response,
                request_problem_info: problem,
                user_properties: user,
                auth_method,
                auth_data,
            }
        })
}

pub(crate) fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let properties = match version {
        Version::V311 => Just(ConnectProperties::default()).boxed(),
        Version::V5 => connect_properties().boxed(),
    };
    (
        any::<bool>(),
        any::<u16>(),
        of(client_id()),
        of(will(version).prop_map(Box::new)),
        of(text()),
        of(binary()),
        properties,
    )
        .prop_map(
            move |(clean_start, keep_alive_secs, client_id, will, username, password, properties)| {
                let v311 = version == Version::V311;
                Connect {
                    version,
                    clean_start: clean_start || (v311 && client_id.is_none()),
                    keep_alive_secs,
                    client_id,
                    will,
                    password: password.filter(|_| !v311 || username.is_some()),
                    username,
                    properties,
                }
            },
        )
}

fn reason_of(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    proptest::sample::select(codes).prop_map(|code| ReasonCode::try_from(code).unwrap())
}

fn ack_properties() -> impl Strategy<Value = Option<Box<AckProperties>>> {
    (of(text()), user_properties()).prop_map(|(reason_string, user_properties)| {
        none_if_default(AckProperties { reason_string, user_properties })
    })
}

fn ack(version: Version, codes: &'static [u8]) -> BoxedStrategy<Ack> {
    match version {
        Version::V311 => packet_id().prop_map(Ack::success).boxed(),
        Version::V5 => (packet_id(), reason_of(codes), ack_properties())
            .prop_map(|(packet_id, reason, properties)| Ack { packet_id, reason, properties })
            .boxed(),
    }
}

fn publish_acks(version: Version, by_server: bool) -> impl Strategy<Value = Packet> {
    const RECEIVED_BY_CLIENT: &[u8] = &[0x00, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    const RECEIVED_BY_SERVER: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    const RELEASED: &[u8] = &[0x00, 0x92];
    let received = if by_server { RECEIVED_BY_SERVER } else { RECEIVED_BY_CLIENT };
    prop_oneof![
        ack(version, received).prop_map(Packet::PubAck),
        ack(version, received).prop_map(Packet::PubRec),
        ack(version, RELEASED).prop_map(Packet::PubRel),
        ack(version, RELEASED).prop_map(Packet::PubComp),
    ]
}

fn options(version: Version) -> impl Strategy<Value = SubscribeOptions> {
    let handling = prop_oneof![
        Just(RetainHandling::SendAlways),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    (qos(), any::<[bool; 2]>(), handling).prop_map(move |(qos, [no_local, as_published], handling)| {
        match version {
            Version::V311 => SubscribeOptions { qos, ..SubscribeOptions::default() },
            Version::V5 => SubscribeOptions {
                qos,
                no_local,
                retain_as_published: as_published,
                retain_handling: handling,
            },
        }
    })
}

fn user_in(version: Version) -> BoxedStrategy<UserProperties> {
    match version {
        Version::V311 => Just(Vec::new()).boxed(),
        Version::V5 => user_properties().boxed(),
    }
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let requested = (subscription_filter(), options(version)).prop_map(|(filter, mut options)| {
        options.no_local &= matches!(filter, SubscriptionFilter::Plain(_));
        Requested { filter: Ok(filter), options }
    });
    let id = match version {
        Version::V311 => Just(None).boxed(),
        Version::V5 => of(subscription_id()).boxed(),
    };
    (packet_id(), id, user_in(version), vec(requested, 1..6)).prop_map(
        |(packet_id, subscription_id, user_properties, filters)| {
            Packet::Subscribe(Box::new(Subscribe { packet_id, subscription_id, user_properties, filters }))
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    (packet_id(), user_in(version), vec(subscription_filter().prop_map(Ok), 1..6)).prop_map(
        |(packet_id, user_properties, filters)| {
            Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, user_properties, filters }))
        },
    )
}

fn suback(version: Version) -> BoxedStrategy<SubAck> {
    const V311: &[u8] = &[0x00, 0x01, 0x02, 0x80];
    const V5: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    let (codes, properties) = match version {
        Version::V311 => (V311, Just(None).boxed()),
        Version::V5 => (V5, ack_properties().boxed()),
    };
    (packet_id(), vec(reason_of(codes), 1..6), properties)
        .prop_map(|(packet_id, reasons, properties)| SubAck { packet_id, reasons, properties })
        .boxed()
}

fn unsuback(version: Version) -> BoxedStrategy<UnsubAck> {
    const V5: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    match version {
        Version::V311 => packet_id()
            .prop_map(|packet_id| UnsubAck { packet_id, reasons: Vec::new(), properties: None })
            .boxed(),
        Version::V5 => (packet_id(), vec(reason_of(V5), 1..6), ack_properties())
            .prop_map(|(packet_id, reasons, properties)| UnsubAck { packet_id, reasons, properties })
            .boxed(),
    }
}

fn disconnect(by_server: bool) -> impl Strategy<Value = Packet> {
    const BY_CLIENT: &[u8] =
        &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    const BY_SERVER: &[u8] = &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let codes = if by_server { BY_SERVER } else { BY_CLIENT };
    (reason_of(codes), of(any::<u32>()), of(text()), user_properties(), of(text())).prop_map(
        move |(reason, expiry, reason_string, user_properties, reference)| {
            let properties = none_if_default(DisconnectProperties {
                session_expiry_secs: expiry.filter(|_| !by_server),
                reason_string,
                user_properties,
                server_reference: reference.filter(|_| by_server),
            });
            Packet::Disconnect(Disconnect { reason, properties })
        },
    )
}

fn auth(by_server: bool) -> impl Strategy<Value = Packet> {
    let codes: &[u8] = if by_server { &[0x00, 0x18] } else { &[0x18, 0x19] };
    (reason_of(codes), text(), of(binary()), of(text()), user_properties()).prop_map(
        |(reason, method, auth_data, reason_string, user_properties)| {
            Packet::Auth(Box::new(Auth {
                reason,
                auth_method: Some(method),
                auth_data,
                reason_string,
                user_properties,
            }))
        },
    )
}

fn connack(version: Version) -> BoxedStrategy<ConnAck> {
    const V311: &[u8] = &[0x00, 0x84, 0x85, 0x86, 0x87, 0x88];
    const V5: &[u8] = &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
        0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let (codes, properties) = match version {
        Version::V311 => (V311, Just(Box::default()).boxed()),
        Version::V5 => (V5, connack_properties().prop_map(Box::new).boxed()),
    };
    (any::<bool>(), reason_of(codes), properties)
        .prop_map(|(session_present, reason, properties)| ConnAck {
            session_present: session_present && reason == ReasonCode::Success,
            reason,
            properties,
        })
        .boxed()
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let numbers =
        (of(any::<u32>()), of(any::<NonZeroU16>()), of(any::<NonZeroU32>()), any::<u16>(), of(any::<u16>()));
    let texts = (of(text()), of(text()), of(text()), of((text(), of(binary()))), of(client_id()));
    (numbers, texts, any::<[bool; 4]>(), qos(), user_properties()).prop_map(
        |(numbers, texts, available, qos_max, user_properties)| {
            let (session_expiry_secs, receive_max, packet_bytes_max, topic_alias_max, server_keep_alive_secs) =
                numbers;
            let (reason_string, response_information, server_reference, auth, assigned_client_id) = texts;
            let [retain_available, wildcard_available, subscription_ids_available, shared_available] = available;
            let (auth_method, auth_data) = auth.map_or((None, None), |(method, data)| (Some(method), data));
            ConnAckProperties {
                session_expiry_secs,
                receive_max,
                qos_max,
                retain_available,
                packet_bytes_max,
                assigned_client_id,
                topic_alias_max,
                reason_string,
                user_properties,
                wildcard_available,
                subscription_ids_available,
                shared_available,
                server_keep_alive_secs,
                response_information,
                server_reference,
                auth_method,
                auth_data,
            }
        },
    )
}

/// Everything that a client may send after CONNECT.
pub(crate) fn from_client(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        4 => publish(version, false).prop_map(Packet::Publish),
        4 => publish_acks(version, false),
        2 => subscribe(version),
        2 => unsubscribe(version),
        1 => Just(Packet::PingReq),
    ];
    match version {
        Version::V311 => prop_oneof![
            9 => common,
            1 => Just(Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)))
        ]
        .boxed(),
        Version::V5 => prop_oneof![9 => common, 2 => disconnect(false), 2 => auth(false)].boxed(),
    }
}

/// Everything that a server may send.
pub(crate) fn from_server(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        3 => connack(version).prop_map(|it| Packet::ConnAck(Box::new(it))),
        4 => publish(version, true).prop_map(Packet::Publish),
        4 => publish_acks(version, true),
        2 => suback(version).prop_map(|it| Packet::SubAck(Box::new(it))),
        2 => unsuback(version).prop_map(|it| Packet::UnsubAck(Box::new(it))),
        1 => Just(Packet::PingResp),
    ];
    match version {
        Version::V311 => common.boxed(),
        Version::V5 => prop_oneof![9 => common, 2 => disconnect(true), 2 => auth(true)].boxed(),
    }
}
