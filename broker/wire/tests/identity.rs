//! Encoding and decoding are each other's inverse, in both versions and both directions; a template writes what the encoder writes.

mod common;

use bytes::{Bytes, BytesMut};
use common::strategy::{connect, from_client, from_server, publish_properties, qos_id, subscription_id};
use common::{encoded, strategy, whole};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use signet_wire::*;

fn versions() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn connect_survives_encoding_and_decoding(connect in versions().prop_flat_map(connect)) {
        let packet = Packet::Connect(Box::new(connect.clone()));
        let bytes = encoded(&packet, connect.version);
        prop_assert_eq!(encoded_len(&packet, connect.version), bytes.len());
        prop_assert_eq!(decode_connect(whole(&bytes)), Ok(connect));
    }

    #[test]
    fn a_clients_packets_survive_encoding_and_decoding(
        (version, packet) in versions().prop_flat_map(|version| (Just(version), from_client(version)))
    ) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(encoded_len(&packet, version), bytes.len());
        prop_assert_eq!(decode_from_client(whole(&bytes), version), Ok(packet));
    }

    #[test]
    fn a_servers_packets_survive_encoding_and_decoding(
        (version, packet) in versions().prop_flat_map(|version| (Just(version), from_server(version)))
    ) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(encoded_len(&packet, version), bytes.len());
        prop_assert_eq!(decode_from_server(whole(&bytes), version), Ok(packet));
    }

    #[test]
    fn a_packet_cut_short_or_made_longer_is_never_the_same_packet(
        (version, packet) in versions().prop_flat_map(|version| (Just(version), from_client(version))),
        cut in any::<prop::sample::Index>(),
    ) {
        // PUBLISH ends with its payload, SUBSCRIBE with a list, an acknowledgement may leave fields out: another length can be another
        // legal packet, but not this one. The surplus byte is no reason code.
        let frame = whole(&encoded(&packet, version));
        prop_assume!(!frame.body().is_empty());
        let shorter = Frame::new(frame.first_byte(), frame.body().slice(..cut.index(frame.body().len())));
        prop_assert_ne!(decode_from_client(shorter, version).ok(), Some(packet.clone()));
        let mut longer = frame.body().to_vec();
        longer.push(0xEE);
        let longer = Frame::new(frame.first_byte(), longer.into());
        prop_assert_ne!(decode_from_client(longer, version).ok(), Some(packet));
    }

    #[test]
    fn a_template_writes_what_the_encoder_writes(
        version in versions(),
        topic in strategy::topic(),
        properties in of(publish_properties(true, 3)),
        payload in strategy::payload(),
        dup in any::<bool>(),
        retain in any::<bool>(),
        qos in qos_id(),
        expiry_secs in of(any::<u32>()),
        alias in of((any::<std::num::NonZeroU16>(), any::<bool>())),
        subscription_ids in vec(subscription_id(), 0..4),
    ) {
        let alias = alias.map(|(value, topic_known)| Alias { value, topic_known });
        let dup = dup && qos != QosId::AtMostOnce;
        let patch = Patch { dup, retain, qos, expiry_secs, alias, subscription_ids: &subscription_ids };
        let template = PublishTemplate::new(version, &topic, properties.as_ref(), &payload);
        let mut written = BytesMut::from(&b"before"[..]);
        template.write(&patch, &mut written);

        let known = version == Version::V5 && alias.is_some_and(|alias| alias.topic_known);
        let mut expected = BytesMut::from(&b"before"[..]);
        let publish = Publish {
            dup,
            retain,
            qos,
            topic: (!known).then_some(topic),
            properties: Some(Box::new(PublishProperties {
                message_expiry_secs: expiry_secs,
                topic_alias: alias.map(|alias| alias.value),
                subscription_ids: subscription_ids.iter().copied().collect(),
                ..properties.unwrap_or_default()
            })),
            payload,
        };
        encode(&Packet::Publish(publish), version, &mut expected).unwrap();
        prop_assert_eq!(template.encoded_len(&patch), written.len() - 6);
        prop_assert_eq!(written, expected);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(first_byte in any::<u8>(), body in vec(any::<u8>(), 0..64)) {
        let frame = Frame::new(first_byte, Bytes::from(body));
        let mut accepted = 0;
        for version in [Version::V311, Version::V5] {
            if let Ok(packet) = decode_from_client(frame.clone(), version) {
                accepted += 1;
                prop_assert_eq!(Some(packet.packet_type()), frame.packet_type());
            }
            if let Ok(packet) = decode_from_server(frame.clone(), version) {
                accepted += 1;
                prop_assert_eq!(Some(packet.packet_type()), frame.packet_type());
            }
        }
        if decode_connect(frame.clone()).is_ok() {
            prop_assert_eq!(accepted, 0);
        }
    }
}

#[test]
fn a_template_leaves_out_a_subscription_identifier_that_does_not_exist() {
    let topic = TopicName::try_from("a").unwrap();
    let template = PublishTemplate::new(Version::V5, &topic, None, &Bytes::new());
    let patch = Patch {
        dup: true,
        retain: false,
        qos: QosId::AtMostOnce,
        expiry_secs: None,
        alias: None,
        subscription_ids: &[0, 268_435_456, 5],
    };
    let mut out = BytesMut::new();
    template.write(&patch, &mut out);
    // DUP does not exist at QoS 0 either.
    assert_eq!(out.as_ref(), common::wire("30 | s'a' { 0B 05 }"));
}
