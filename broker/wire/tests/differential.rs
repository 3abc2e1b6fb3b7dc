//! This codec beside two that others wrote: mqttbytes (3.1.1) and rmqtt-codec (both versions).
//!
//! What all others accept and we refuse, and what all others refuse and we accept, must be on a list with the clause that decides.
//! Each entry has a witness, so no entry outlives its reason; generated and damaged packets show that no difference is missing.
//! mqttbytes' 5.0 half is no measure: it loses packets and encodes illegal ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use common::{encoded, strategy, varint, wire};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use signet_wire::DecodeErrorKind as Kind;
use signet_wire::*;
use tokio_util::codec::Decoder;

/// What this codec says to one packet, whoever may have sent it.
fn ours(version: Version, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let frame = common::whole(bytes);
    if frame.packet_type() == Some(PacketType::Connect) {
        return match decode_connect(frame) {
            Ok(connect) => Ok(Packet::Connect(Box::new(connect))),
            Err(ConnectError::Malformed(error)) => Err(error),
            Err(other) => panic!("filtered before: {other}"),
        };
    }
    decode_from_client(frame.clone(), version).or_else(|by_client| {
        decode_from_server(frame, version).map_err(|by_server| match (by_client.kind(), by_server.kind()) {
            // Where the sender decides, the other one's answer says more.
            (Kind::ServerOnly | Kind::Reason | Kind::PropertyWrongSide, kind) if kind != Kind::ClientOnly => {
                by_server
            }
            _ => by_client,
        })
    })
}

/// CONNECT of another version, or one that has its own answer: no question of form.
fn is_no_question_of_form(version: Version, bytes: &[u8]) -> bool {
    match decode_connect(common::whole(bytes)) {
        Ok(connect) => connect.version != version,
        Err(ConnectError::UnacceptableProtocolVersion { .. } | ConnectError::IdentifierRejected) => true,
        Err(ConnectError::Malformed(_)) => false,
    }
}

fn mqttbytes_accepts(bytes: &[u8]) -> bool {
    let mut buf = BytesMut::from(bytes);
    mqttbytes::v4::read(&mut buf, usize::MAX).is_ok() && buf.is_empty()
}

fn rmqtt_accepts(version: Version, bytes: &[u8]) -> bool {
    let mut buf = BytesMut::from(bytes);
    let decoded = match version {
        Version::V311 => rmqtt_codec::v3::Codec::default().decode(&mut buf).map(|packet| packet.is_some()),
        Version::V5 => rmqtt_codec::v5::Codec::default().decode(&mut buf).map(|packet| packet.is_some()),
    };
    matches!(decoded, Ok(true)) && buf.is_empty()
}

/// Whether all others accept, or all others refuse; `None` when they disagree.
fn others(version: Version, bytes: &[u8]) -> Option<bool> {
    let rmqtt = rmqtt_accepts(version, bytes);
    match version {
        Version::V311 => (mqttbytes_accepts(bytes) == rmqtt).then_some(rmqtt),
        Version::V5 => Some(rmqtt),
    }
}

/// A difference that is meant.
struct Meant<T> {
    what: T,
    clause: &'static str,
    because: &'static str,
    witness: &'static str,
}

const fn meant<T>(what: T, clause: &'static str, because: &'static str, witness: &'static str) -> Meant<T> {
    Meant { what, clause, because, witness }
}

type Refused = Meant<Kind>;
type Accepted = Meant<fn(&Packet) -> bool>;

#[rustfmt::skip]
fn refused_in_311() -> Vec<Refused> {
    vec![
        meant(Kind::Nul, "MQTT3-1.5.3-2", "U+0000 is forbidden in every string", "30 | 00 03 61 00 62 'p'"),
        meant(Kind::Control, "MQTT3 §1.5.3", "a receiver may refuse control characters; ours does, as Mosquitto does", "30 | 00 03 61 0A 62 'p'"),
        meant(Kind::Surplus, "MQTT3-4.8.0-1", "the fields end before the packet does", "C0 | 00"),
        meant(Kind::SessionPresent, "MQTT3-3.2.2-4", "a refused connection has no session", "20 | 01 05"),
        meant(Kind::PasswordWithoutUsername, "MQTT3-3.1.2-22", "3.1.1 has no password without a user name", "10 | s'MQTT' 04 42 #10 s'p' s'secret'"),
        meant(Kind::WillTopic, "MQTT3-4.7.3-1", "a will topic is a topic name", "10 | s'MQTT' 04 06 #10 s'p' s'a/+' s'm'"),
        meant(Kind::DupAtQosZero, "MQTT3-3.3.1-2", "QoS 0 is never sent again", "38 | s'topic' 'p'"),
        meant(Kind::TopicWildcard, "MQTT3-3.3.2-2", "a topic name has no wildcard", "30 | s'a/#' 'p'"),
        meant(Kind::SubscribeOptions, "MQTT3-3.8.3-4", "the upper six bits are reserved", "82 | #1 s'a' 04"),
    ]
}

fn accepted_in_311() -> Vec<Accepted> {
    Vec::new()
}

#[rustfmt::skip]
fn refused_in_5() -> Vec<Refused> {
    vec![
        meant(Kind::Nul, "MQTT5-1.5.4-2", "U+0000 is forbidden in every string", "30 | 00 03 61 00 62 {} 'p'"),
        meant(Kind::Control, "MQTT5 §1.5.4", "a receiver may refuse control characters; ours does, as Mosquitto does", "30 | 00 03 61 0A 62 {} 'p'"),
        meant(Kind::Surplus, "MQTT5 §4.13.1", "the fields end before the packet does", "C0 | 00"),
        meant(Kind::Truncated, "MQTT5 §4.13.1", "AUTH leaves out reason and property length together or not at all", "F0 | 18"),
        meant(Kind::AuthWithoutMethod, "MQTT5 §3.15.2.2.2", "AUTH without a method is a protocol error", "F0 | 18 {}"),
        meant(Kind::Reason, "MQTT5-3.14.2-1", "a reason code that DISCONNECT does not have", "E0 | 8C"),
        meant(Kind::NoReasons, "MQTT5-3.9.3-1", "SUBACK answers at least one filter", "90 | #1 {}"),
        meant(Kind::WillQosWithoutWill, "MQTT5-3.1.2-11", "no will, no will QoS", "10 | s'MQTT' 05 0A #10 {} s'p'"),
        meant(Kind::WillTopic, "MQTT5-4.7.3-1", "a will topic is a topic name", "10 | s'MQTT' 05 06 #10 {} s'p' {} s'a/+' s'm'"),
        meant(Kind::ResponseTopic, "MQTT5-3.3.2-14", "a response topic has no wildcard", "30 | s't' { 08 s'a/+' } 'p'"),
        meant(Kind::DupAtQosZero, "MQTT5-3.3.1-2", "QoS 0 is never sent again", "38 | s'topic' {} 'p'"),
        meant(Kind::TopicWildcard, "MQTT5-3.3.2-2", "a topic name has no wildcard", "30 | s'a/#' {} 'p'"),
        meant(Kind::NoLocalShared, "MQTT5-3.8.3-4", "a shared subscription has no No Local", "82 | #1 {} s'$share/g/a' 04"),
        meant(Kind::PropertyWrongSide, "MQTT5-3.14.2-2", "a server sends no session expiry, a client no server reference", "E0 | 8B { 11 00000001 }"),
    ]
}

#[rustfmt::skip]
fn accepted_in_5() -> Vec<Accepted> {
    vec![
        meant(resumes_without_identifier, "MQTT5-3.1.3-6", "a server may assign an identifier whatever Clean Start says", "10 | s'MQTT' 05 00 #10 { 11 0000000A } s''"),
    ]
}

fn resumes_without_identifier(packet: &Packet) -> bool {
    matches!(packet, Packet::Connect(connect) if !connect.clean_start && connect.client_id.is_none())
}

fn lists(version: Version) -> (Vec<Refused>, Vec<Accepted>) {
    match version {
        Version::V311 => (refused_in_311(), accepted_in_311()),
        Version::V5 => (refused_in_5(), accepted_in_5()),
    }
}

/// The difference that `bytes` show, when it is not on the list.
fn unmeant(version: Version, bytes: &[u8], refused: &[Refused], accepted: &[Accepted]) -> Option<String> {
    if is_no_question_of_form(version, bytes) {
        return None;
    }
    let others = others(version, bytes)?;
    match ours(version, bytes) {
        Err(error) if others && !refused.iter().any(|it| it.what == error.kind()) => {
            Some(format!("we refuse: {:?}", error.kind()))
        }
        Ok(packet) if !others && !accepted.iter().any(|it| (it.what)(&packet)) => {
            Some(format!("we accept: {packet:?}"))
        }
        _ => None,
    }
}

#[test]
fn every_difference_that_is_meant_is_there_and_names_its_clause() {
    for version in [Version::V311, Version::V5] {
        let (refused, accepted) = lists(version);
        for Meant { what, clause, because, witness } in refused {
            let bytes = wire(witness);
            let error = ours(version, &bytes).unwrap_err();
            assert_eq!((error.kind(), error.clause()), (what, clause), "{witness}: {because}");
            assert_eq!(others(version, &bytes), Some(true), "{witness}: {because}");
        }
        for Meant { what, clause, because, witness } in accepted {
            let bytes = wire(witness);
            assert!(ours(version, &bytes).is_ok_and(|packet| what(&packet)), "{witness}: {because}");
            assert_eq!(others(version, &bytes), Some(false), "{witness}: {because}");
            assert!(clause.starts_with("MQTT"), "{witness}");
        }
    }
}

fn any_packet(version: Version) -> BoxedStrategy<Packet> {
    prop_oneof![
        2 => strategy::connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        3 => strategy::from_client(version),
        2 => strategy::from_server(version),
    ]
    .boxed()
}

/// One thing that goes wrong on the way.
#[derive(Clone, Debug)]
enum Damage {
    Flags(u8),
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    Append(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte =
        || prop_oneof![2 => any::<u8>(), 1 => 0_u8..4, 1 => proptest::sample::select(b"#+/$".as_slice())];
    prop_oneof![
        1 => (0_u8..16).prop_map(Damage::Flags),
        4 => (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Remove),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => byte().prop_map(Damage::Append),
    ]
}

fn damaged(packet: &Bytes, damages: Vec<Damage>) -> Vec<u8> {
    let frame = common::whole(packet);
    let mut first_byte = frame.first_byte();
    let mut body = frame.body().to_vec();
    for damage in damages {
        match damage {
            Damage::Flags(flags) => first_byte = first_byte & 0xF0 | flags,
            Damage::Append(byte) => body.push(byte),
            Damage::Insert(at, byte) => body.insert(at.index(body.len() + 1), byte),
            _ if body.is_empty() => {}
            Damage::Set(at, byte) => {
                let at = at.index(body.len());
                body[at] = byte;
            }
            Damage::Remove(at) => drop(body.remove(at.index(body.len()))),
            Damage::Cut(at) => body.truncate(at.index(body.len())),
        }
    }
    [vec![first_byte], varint(body.len()), body].concat()
}

/// 40 000 packets, the same in every run: legal ones, and ones with up to three damages.
fn compare(version: Version) {
    let (refused, accepted) = lists(version);
    let mut runner = TestRunner::deterministic();
    let input = (any_packet(version), proptest::collection::vec(damage(), 0..=3));
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for _ in 0..40_000 {
        let (packet, damages) = input.new_tree(&mut runner).unwrap().current();
        let bytes = damaged(&encoded(&packet, version), damages);
        if let Some(difference) = unmeant(version, &bytes, &refused, &accepted) {
            let key = format!(
                "{:?} {}",
                PacketType::of(bytes[0]),
                difference.split('(').next().unwrap_or_default()
            );
            found.entry(key).or_insert((0, format!("{bytes:02X?} {difference}"))).0 += 1;
        }
    }
    assert!(found.is_empty(), "{version}: {found:#?}");
}

#[test]
fn damaged_packets_of_3_1_1_show_no_difference_that_is_not_meant() {
    compare(Version::V311);
}

#[test]
fn damaged_packets_of_5_0_show_no_difference_that_is_not_meant() {
    compare(Version::V5);
}
