//! MQTT 5.0: legal and malformed packets, each with its outcome, reason code and clause.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::corpus::{Case, Reader, check, no, ok};
use common::{whole, wire};
use signet_wire::DecodeErrorKind as Kind;
use signet_wire::*;

const CUT: &str = "MQTT5 §4.13.1";
const TABLE: &str = "MQTT5 §2.2.2.2";

/// CONNECT with the flags, and behind the keep alive properties and payload.
fn connect(flags: &str, rest: &str) -> String {
    format!("10 | s'MQTT' 05 {flags} #10 {rest}")
}

#[test]
#[rustfmt::skip]
fn connect_packets() {
    check(
        Version::V5,
        Reader::First,
        &[
            ok("smallest", connect("02", "{} s'p'")),
            ok("empty identifier with clean start", connect("02", "{} s''")),
            ok("empty identifier without clean start", connect("00", "{} s''")),
            ok("empty identifier and expiry", connect("00", "{ 11 00000E10 } s''")),
            ok("password without user name", connect("42", "{} s'p' s'secret'")),
            ok("binary password", connect("C2", "{} s'p' s'user' 00 03 00 FF C0")),
            ok("will", connect("2E", "{} s'p' {} s'topic' s'message'")),
            no("flags 0010", "12 | s'MQTT' 05 02 #10 {} s'p'", Kind::Flags, 0x81, "MQTT5-2.1.3-1"),
            no("no property length", connect("02", ""), Kind::Truncated, 0x81, CUT),
            no("no client identifier", connect("02", "{}"), Kind::Truncated, 0x81, CUT),
            no("reserved flag", connect("03", "{} s'p'"), Kind::ConnectReserved, 0x81, "MQTT5-3.1.2-3"),
            no("will QoS 1 without will", connect("0A", "{} s'p'"), Kind::WillQosWithoutWill, 0x81, "MQTT5-3.1.2-11"),
            no("will retain without will", connect("22", "{} s'p'"), Kind::WillRetainWithoutWill, 0x81, "MQTT5-3.1.2-13"),
            no("will QoS 3", connect("1E", "{} s'p' {} s't' s'm'"), Kind::WillQosThree, 0x81, "MQTT5-3.1.2-12"),
            no("empty will topic", connect("06", "{} s'p' {} s'' s'm'"), Kind::WillTopic, 0x81, "MQTT5-4.7.3-1"),
            no("will topic with #", connect("06", "{} s'p' {} s'a/#' s'm'"), Kind::WillTopic, 0x81, "MQTT5-4.7.3-1"),
            no("will without property length", connect("06", "{} s'p' s't' s'm'"), Kind::Truncated, 0x81, CUT),
            no("identifier with NUL", connect("02", "{} 00 01 00"), Kind::Nul, 0x81, "MQTT5-1.5.4-2"),
            no("identifier with surrogate", connect("02", "{} 00 03 ED A0 80"), Kind::NotUtf8, 0x81, "MQTT5-1.5.4-1"),
            no("identifier with U+0085", connect("02", "{} 00 02 C2 85"), Kind::Control, 0x81, "MQTT5 §1.5.4"),
            no("user name without its flag", connect("02", "{} s'p' s'user'"), Kind::Surplus, 0x81, CUT),
            no("surplus byte", connect("02", "{} s'p' 00"), Kind::Surplus, 0x81, CUT),
        ],
    );
}

#[test]
#[rustfmt::skip]
fn connect_properties() {
    let with = |properties: &str| connect("02", &format!("{{ {properties} }} s'p'"));
    let will = |properties: &str| connect("06", &format!("{{}} s'p' {{ {properties} }} s't' s'm'"));
    check(
        Version::V5,
        Reader::First,
        &[
            ok("session expiry 0", with("11 00000000")),
            ok("session expiry never", with("11 FFFFFFFF")),
            ok("receive maximum 1", with("21 #1")),
            ok("maximum packet size 1", with("27 00000001")),
            ok("topic alias maximum 0", with("22 #0")),
            ok("request response information", with("19 01")),
            ok("no problem information", with("17 00")),
            ok("authentication method", with("15 s'SCRAM'")),
            ok("authentication method and data", with("16 00 02 00 FF 15 s'SCRAM'")),
            ok("user property twice", with("26 s'a' s'b' 26 s'a' s'b'")),
            ok("user property, empty", with("26 s'' s''")),
            ok("all at once", with("11 00000001 21 #5 27 00000100 22 #3 19 00 17 01 26 s'k' s'v' 15 s'm' 16 s'd'")),
            no("receive maximum 0", with("21 #0"), Kind::PropertyValue, 0x82, TABLE),
            no("maximum packet size 0", with("27 00000000"), Kind::PropertyValue, 0x82, TABLE),
            no("request response information 2", with("19 02"), Kind::PropertyValue, 0x82, TABLE),
            no("request problem information 2", with("17 02"), Kind::PropertyValue, 0x82, TABLE),
            no("session expiry twice", with("11 00000001 11 00000001"), Kind::PropertyTwice, 0x82, TABLE),
            no("receive maximum twice", with("21 #1 21 #1"), Kind::PropertyTwice, 0x82, TABLE),
            no("topic alias maximum twice", with("22 #1 22 #1"), Kind::PropertyTwice, 0x82, TABLE),
            no("authentication data without method", with("16 s'd'"), Kind::AuthDataWithoutMethod, 0x82, "MQTT5 §3.1.2.11.10"),
            no("topic alias", with("23 #1"), Kind::PropertyNotAllowed, 0x81, TABLE),
            no("payload format", with("01 00"), Kind::PropertyNotAllowed, 0x81, TABLE),
            no("will delay outside the will", with("18 00000001"), Kind::PropertyNotAllowed, 0x81, TABLE),
            no("reason string", with("1F s'r'"), Kind::PropertyNotAllowed, 0x81, TABLE),
            no("identifier 0", with("00"), Kind::PropertyUnknown, 0x81, TABLE),
            no("identifier 4", with("04 00"), Kind::PropertyUnknown, 0x81, TABLE),
            no("identifier 43", with("2B 00"), Kind::PropertyUnknown, 0x81, TABLE),
            no("identifier 127", with("7F 00"), Kind::PropertyUnknown, 0x81, TABLE),
            no("identifier 128, two bytes", with("80 01 00"), Kind::PropertyUnknown, 0x81, TABLE),
            no("identifier 17, not minimal", with("91 00 00000001"), Kind::VarintNotMinimal, 0x81, "MQTT5-1.5.5-1"),
            no("identifier of five bytes", with("80 80 80 80 01"), Kind::VarintTooLong, 0x81, "MQTT5 §1.5.5"),
            no("value cut by the property length", connect("02", "03 11 0000 0001 s'p'"), Kind::Truncated, 0x81, CUT),
            no("property length beyond the packet", connect("02", "7F 11 00000001 s'p'"), Kind::Truncated, 0x81, CUT),
            no("property length not minimal", connect("02", "80 00 s'p'"), Kind::VarintNotMinimal, 0x81, "MQTT5-1.5.5-1"),
            no("property length of five bytes", connect("02", "80 80 80 80 00 s'p'"), Kind::VarintTooLong, 0x81, "MQTT5 §1.5.5"),
            no("user property with NUL", with("26 00 01 00 s'v'"), Kind::Nul, 0x81, "MQTT5-1.5.4-2"),
            no("user property without value", with("26 s'k'"), Kind::Truncated, 0x81, CUT),
            ok("will delay", will("18 0000000A")),
            ok("all will properties", will("18 00000001 01 01 02 00000002 03 s'text' 08 s'r' 09 s'c' 26 s'k' s'v'")),
            no("will delay twice", will("18 00000001 18 00000001"), Kind::PropertyTwice, 0x82, TABLE),
            no("will with payload format 2", will("01 02"), Kind::PropertyValue, 0x82, TABLE),
            no("will with topic alias", will("23 #1"), Kind::PropertyNotAllowed, 0x81, TABLE),
            no("will with session expiry", will("11 00000001"), Kind::PropertyNotAllowed, 0x81, TABLE),
            no("will with response topic of a wildcard", will("08 s'a/+'"), Kind::ResponseTopic, 0x82, "MQTT5 §3.1.3.2.6"),
        ],
    );
}

#[test]
fn a_malformed_first_packet_of_5_0_is_answered_with_its_code() {
    for (packet, reason) in [
        (connect("03", "{} s'p'"), ReasonCode::MalformedPacket),
        (connect("02", "{ 21 #0 } s'p'"), ReasonCode::ProtocolError),
        (connect("02", "{} 00 01 00"), ReasonCode::MalformedPacket),
    ] {
        let error = decode_connect(whole(&wire(&packet))).unwrap_err();
        assert_eq!(error.answer(), Some((Version::V5, reason)), "{packet}");
    }
}

#[rustfmt::skip]
fn publish_common() -> Vec<Case> {
    vec![
        ok("QoS 0", "30 | s'topic' {} 'payload'"),
        ok("QoS 1", "32 | s'topic' #1 {} 'payload'"),
        ok("QoS 2, DUP, retain", "3D | s'topic' #65535 {} 'payload'"),
        ok("empty payload", "31 | s'topic' {}"),
        ok("payload format 0", "30 | s't' { 01 00 } 'p'"),
        ok("payload format 1 with other bytes", "30 | s't' { 01 01 } FF"),
        ok("expiry 0", "30 | s't' { 02 00000000 } 'p'"),
        ok("content type, empty", "30 | s't' { 03 s'' } 'p'"),
        ok("response topic", "30 | s't' { 08 s'reply/to' } 'p'"),
        ok("correlation data, empty", "30 | s't' { 09 s'' } 'p'"),
        ok("correlation data, binary", "30 | s't' { 09 00 02 00 FF } 'p'"),
        ok("user properties in order", "30 | s't' { 26 s'b' s'1' 26 s'a' s'2' 26 s'b' s'1' } 'p'"),
        ok("alias with topic", "30 | s't' { 23 #65535 } 'p'"),
        ok("alias without topic", "30 | s'' { 23 #1 } 'p'"),
        ok("alias without topic at QoS 2", "34 | s'' #7 { 23 #1 } 'p'"),
        no("no property length", "30 | s'topic'", Kind::Truncated, 0x81, CUT),
        no("QoS 1 without property length", "32 | s'topic' #1", Kind::Truncated, 0x81, CUT),
        no("QoS 3", "36 | s'topic' #1 {} 'p'", Kind::QosThree, 0x81, "MQTT5-3.3.1-4"),
        no("DUP at QoS 0", "38 | s'topic' {} 'p'", Kind::DupAtQosZero, 0x81, "MQTT5-3.3.1-2"),
        no("identifier 0", "32 | s'topic' #0 {} 'p'", Kind::PacketIdZero, 0x82, "MQTT5-2.2.1-3"),
        no("empty topic without alias", "30 | s'' {} 'p'", Kind::TopicEmpty, 0x82, "MQTT5 §3.3.2.1"),
        no("topic with +", "30 | s'a/+' {} 'p'", Kind::TopicWildcard, 0x81, "MQTT5-3.3.2-2"),
        no("topic with #", "30 | s'a/#' {} 'p'", Kind::TopicWildcard, 0x81, "MQTT5-3.3.2-2"),
        no("topic with NUL", "30 | 00 01 00 {} 'p'", Kind::Nul, 0x81, "MQTT5-1.5.4-2"),
        no("topic with surrogate", "30 | 00 03 ED A0 80 {} 'p'", Kind::NotUtf8, 0x81, "MQTT5-1.5.4-1"),
        no("topic with U+001F", "30 | 00 01 1F {} 'p'", Kind::Control, 0x81, "MQTT5 §1.5.4"),
        no("alias 0", "30 | s't' { 23 #0 } 'p'", Kind::TopicAliasZero, 0x94, "MQTT5-3.3.2-8"),
        no("alias twice", "30 | s't' { 23 #1 23 #2 } 'p'", Kind::PropertyTwice, 0x82, TABLE),
        no("payload format 2", "30 | s't' { 01 02 } 'p'", Kind::PropertyValue, 0x82, TABLE),
        no("payload format twice", "30 | s't' { 01 01 01 01 } 'p'", Kind::PropertyTwice, 0x82, TABLE),
        no("expiry twice", "30 | s't' { 02 00000001 02 00000001 } 'p'", Kind::PropertyTwice, 0x82, TABLE),
        no("content type twice", "30 | s't' { 03 s'a' 03 s'a' } 'p'", Kind::PropertyTwice, 0x82, TABLE),
        no("correlation data twice", "30 | s't' { 09 s'a' 09 s'a' } 'p'", Kind::PropertyTwice, 0x82, TABLE),
        no("response topic twice", "30 | s't' { 08 s'a' 08 s'a' } 'p'", Kind::PropertyTwice, 0x82, TABLE),
        no("response topic with +", "30 | s't' { 08 s'a/+' } 'p'", Kind::ResponseTopic, 0x82, "MQTT5-3.3.2-14"),
        no("response topic, empty", "30 | s't' { 08 s'' } 'p'", Kind::ResponseTopic, 0x82, "MQTT5-3.3.2-14"),
        no("response topic with NUL", "30 | s't' { 08 00 01 00 } 'p'", Kind::Nul, 0x81, "MQTT5-1.5.4-2"),
        no("user property without value", "30 | s't' { 26 s'a' } 'p'", Kind::Truncated, 0x81, CUT),
        no("property that reaches into the payload", "30 | s't' 02 02 00000001 'p'", Kind::Truncated, 0x81, CUT),
        no("session expiry", "30 | s't' { 11 00000001 } 'p'", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("reason string", "30 | s't' { 1F s'r' } 'p'", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("will delay", "30 | s't' { 18 00000001 } 'p'", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("authentication data", "30 | s't' { 16 s'd' } 'p'", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("unknown property", "30 | s't' { 7E 00 } 'p'", Kind::PropertyUnknown, 0x81, TABLE),
    ]
}

#[test]
fn publish_packets_of_clients() {
    let mut cases = publish_common();
    cases.push(no(
        "subscription identifier",
        "30 | s't' { 0B 01 } 'p'",
        Kind::PropertyWrongSide,
        0x82,
        "MQTT5-3.3.4-6",
    ));
    check(Version::V5, Reader::Server, &cases);
}

#[test]
fn publish_packets_of_servers() {
    let mut cases = publish_common();
    cases.extend([
        ok("subscription identifiers", "30 | s't' { 0B 01 0B FF FF FF 7F 0B 01 } 'p'"),
        no("subscription identifier 0", "30 | s't' { 0B 00 } 'p'", Kind::PropertyValue, 0x82, TABLE),
        no(
            "subscription identifier of five bytes",
            "30 | s't' { 0B 80 80 80 80 01 } 'p'",
            Kind::VarintTooLong,
            0x81,
            "MQTT5 §1.5.5",
        ),
    ]);
    check(Version::V5, Reader::Client, &cases);
}

#[test]
#[rustfmt::skip]
fn acknowledgements() {
    let cases = [
        ok("PUBACK of length 2", "40 | #1"),
        ok("PUBACK of length 3", "40 | #1 00"),
        ok("PUBACK of length 4", "40 | #1 00 {}"),
        ok("PUBACK that fails", "40 | #1 87"),
        ok("PUBACK with properties", "40 | #1 00 { 1F s'why' 26 s'k' s'v' 26 s'k' s'v' }"),
        ok("PUBREC of length 2", "50 | #65535"),
        ok("PUBREC that fails", "50 | #1 97 {}"),
        ok("PUBREL", "62 | #1"),
        ok("PUBREL not found", "62 | #1 92"),
        ok("PUBCOMP", "70 | #1"),
        ok("PUBCOMP not found with reason", "70 | #1 92 { 1F s'why' }"),
        no("PUBACK with flags", "42 | #1", Kind::Flags, 0x81, "MQTT5-2.1.3-1"),
        no("PUBREC with flags", "58 | #1", Kind::Flags, 0x81, "MQTT5-2.1.3-1"),
        no("PUBREL without its flags", "60 | #1", Kind::Flags, 0x81, "MQTT5-3.6.1-1"),
        no("PUBCOMP with flags", "72 | #1", Kind::Flags, 0x81, "MQTT5-2.1.3-1"),
        no("PUBACK with identifier 0", "40 | #0", Kind::PacketIdZero, 0x82, "MQTT5-2.2.1-3"),
        no("PUBREL with identifier 0", "62 | #0 00", Kind::PacketIdZero, 0x82, "MQTT5-2.2.1-3"),
        no("PUBACK of length 1", "40 | 00", Kind::Truncated, 0x81, CUT),
        no("PUBACK with unknown reason", "40 | #1 AA", Kind::Reason, 0x82, "MQTT5-3.4.2-1"),
        no("PUBACK with the reason of another packet", "40 | #1 92", Kind::Reason, 0x82, "MQTT5-3.4.2-1"),
        no("PUBREC with unknown reason", "50 | #1 01", Kind::Reason, 0x82, "MQTT5-3.5.2-1"),
        no("PUBREL with unknown reason", "62 | #1 80", Kind::Reason, 0x82, "MQTT5-3.6.2-1"),
        no("PUBCOMP with unknown reason", "70 | #1 10", Kind::Reason, 0x82, "MQTT5-3.7.2-1"),
        no("PUBACK with a surplus byte", "40 | #1 00 {} 00", Kind::Surplus, 0x81, CUT),
        no("PUBACK with a cut property", "40 | #1 00 01", Kind::Truncated, 0x81, CUT),
        no("PUBACK with reason string twice", "40 | #1 00 { 1F s'a' 1F s'a' }", Kind::PropertyTwice, 0x82, TABLE),
        no("PUBACK with session expiry", "40 | #1 00 { 11 00000001 }", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("PUBREC with content type", "50 | #1 00 { 03 s'a' }", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("PUBREL with topic alias", "62 | #1 00 { 23 #1 }", Kind::PropertyNotAllowed, 0x81, TABLE),
        no("PUBCOMP with NUL in its reason", "70 | #1 00 { 1F 00 01 00 }", Kind::Nul, 0x81, "MQTT5-1.5.4-2"),
    ];
    check(Version::V5, Reader::Server, &cases);
    check(Version::V5, Reader::Client, &cases);
    let no_match = "40 | #1 10";
    check(Version::V5, Reader::Client, &[ok("PUBACK without subscribers", no_match)]);
    check(
        Version::V5,
        Reader::Server,
        &[no("PUBACK without subscribers", no_match, Kind::Reason, 0x82, "MQTT5-3.4.2-1")],
    );
}

#[test]
#[rustfmt::skip]
fn subscribe_and_unsubscribe_packets() {
    check(
        Version::V5,
        Reader::Server,
        &[
            ok("SUBSCRIBE", "82 | #1 {} s'a/b' 00"),
            ok("SUBSCRIBE with all options", "82 | #1 {} s'a' 2E"),
            ok("SUBSCRIBE to several filters", "82 | #1 {} s'a' 00 s'+/b' 01 s'#' 02"),
            ok("SUBSCRIBE with identifier 1", "82 | #1 { 0B 01 } s'a' 00"),
            ok("SUBSCRIBE with the highest identifier", "82 | #1 { 0B FF FF FF 7F } s'a' 00"),
            ok("SUBSCRIBE with user properties", "82 | #1 { 26 s'k' s'v' 26 s'k' s'v' } s'a' 00"),
            ok("SUBSCRIBE to a shared filter", "82 | #1 {} s'$share/g/a' 02"),
            ok("SUBSCRIBE to impossible filters refuses them alone", "82 | #1 {} s'a#' 00 s'$share//t' 00 s'b' 00"),
            no("SUBSCRIBE without its flags", "80 | #1 {} s'a' 00", Kind::Flags, 0x81, "MQTT5-3.8.1-1"),
            no("SUBSCRIBE with identifier 0", "82 | #0 {} s'a' 00", Kind::PacketIdZero, 0x82, "MQTT5-2.2.1-3"),
            no("SUBSCRIBE to nothing", "82 | #1 {}", Kind::NoFilters, 0x82, "MQTT5-3.8.3-2"),
            no("SUBSCRIBE without property length", "82 | #1", Kind::Truncated, 0x81, CUT),
            no("SUBSCRIBE with QoS 3", "82 | #1 {} s'a' 03", Kind::SubscribeQosThree, 0x82, "MQTT5 §3.8.3.1"),
            no("SUBSCRIBE with retain handling 3", "82 | #1 {} s'a' 30", Kind::RetainHandlingThree, 0x82, "MQTT5 §3.8.3.1"),
            no("SUBSCRIBE with option 40", "82 | #1 {} s'a' 40", Kind::SubscribeOptions, 0x81, "MQTT5-3.8.3-5"),
            no("SUBSCRIBE with option 80", "82 | #1 {} s'a' 80", Kind::SubscribeOptions, 0x81, "MQTT5-3.8.3-5"),
            no("SUBSCRIBE with no local on a shared filter", "82 | #1 {} s'$share/g/a' 04", Kind::NoLocalShared, 0x82, "MQTT5-3.8.3-4"),
            no("SUBSCRIBE with subscription identifier 0", "82 | #1 { 0B 00 } s'a' 00", Kind::PropertyValue, 0x82, TABLE),
            no("SUBSCRIBE with two subscription identifiers", "82 | #1 { 0B 01 0B 02 } s'a' 00", Kind::PropertyTwice, 0x82, TABLE),
            no("SUBSCRIBE with a long subscription identifier", "82 | #1 { 0B 80 80 80 80 01 } s'a' 00", Kind::VarintTooLong, 0x81, "MQTT5 §1.5.5"),
            no("SUBSCRIBE with a padded subscription identifier", "82 | #1 { 0B 81 00 } s'a' 00", Kind::VarintNotMinimal, 0x81, "MQTT5-1.5.5-1"),
            no("SUBSCRIBE with reason string", "82 | #1 { 1F s'r' } s'a' 00", Kind::PropertyNotAllowed, 0x81, TABLE),
            no("SUBSCRIBE without options", "82 | #1 {} s'a'", Kind::Truncated, 0x81, CUT),
            no("SUBSCRIBE with a surplus byte", "82 | #1 {} s'a' 00 00", Kind::Truncated, 0x81, CUT),
            no("SUBSCRIBE to NUL", "82 | #1 {} 00 01 00 00", Kind::Nul, 0x81, "MQTT5-1.5.4-2"),
            ok("UNSUBSCRIBE", "A2 | #1 {} s'a/b'"),
            ok("UNSUBSCRIBE with user property", "A2 | #1 { 26 s'' s'' } s'a' s'b'"),
            ok("UNSUBSCRIBE from an impossible filter refuses it alone", "A2 | #1 {} s'a#' s'b'"),
            no("UNSUBSCRIBE without its flags", "A0 | #1 {} s'a'", Kind::Flags, 0x81, "MQTT5-3.10.1-1"),
            no("UNSUBSCRIBE with identifier 0", "A2 | #0 {} s'a'", Kind::PacketIdZero, 0x82, "MQTT5-2.2.1-3"),
            no("UNSUBSCRIBE from nothing", "A2 | #1 {}", Kind::NoFilters, 0x82, "MQTT5-3.10.3-2"),
            no("UNSUBSCRIBE with subscription identifier", "A2 | #1 { 0B 01 } s'a'", Kind::PropertyNotAllowed, 0x81, TABLE),
            no("UNSUBSCRIBE from a surrogate", "A2 | #1 {} 00 03 ED A0 80", Kind::NotUtf8, 0x81, "MQTT5-1.5.4-1"),
        ],
    );
}

#[test]
#[rustfmt::skip]
fn other_packets_of_clients() {
    check(
        Version::V5,
        Reader::Server,
        &[
            ok("PINGREQ", "C0 |"),
            no("PINGREQ with a body", "C0 | 00", Kind::Surplus, 0x81, CUT),
            no("PINGREQ with flags", "C8 |", Kind::Flags, 0x81, "MQTT5-2.1.3-1"),
            ok("DISCONNECT of length 0", "E0 |"),
            ok("DISCONNECT of length 1", "E0 | 00"),
            ok("DISCONNECT of length 2", "E0 | 00 {}"),
            ok("DISCONNECT with will", "E0 | 04"),
            ok("DISCONNECT with expiry", "E0 | 00 { 11 0000000A }"),
            ok("DISCONNECT with reason and user property", "E0 | 82 { 1F s'' 26 s'k' s'v' }"),
            no("DISCONNECT with flags", "E1 |", Kind::Flags, 0x81, "MQTT5-3.14.1-1"),
            no("DISCONNECT with unknown reason", "E0 | 05", Kind::Reason, 0x82, "MQTT5-3.14.2-1"),
            no("DISCONNECT with a server's reason", "E0 | 8B", Kind::Reason, 0x82, "MQTT5-3.14.2-1"),
            no("DISCONNECT with session taken over", "E0 | 8E", Kind::Reason, 0x82, "MQTT5-3.14.2-1"),
            no("DISCONNECT with server reference", "E0 | 00 { 1C s'x' }", Kind::PropertyWrongSide, 0x82, "MQTT5-3.14.2-2"),
            no("DISCONNECT with expiry twice", "E0 | 00 { 11 00000001 11 00000001 }", Kind::PropertyTwice, 0x82, TABLE),
            no("DISCONNECT with payload format", "E0 | 00 { 01 00 }", Kind::PropertyNotAllowed, 0x81, TABLE),
            no("DISCONNECT with a cut expiry", "E0 | 00 { 11 0000 }", Kind::Truncated, 0x81, CUT),
            no("DISCONNECT with a surplus byte", "E0 | 00 {} 00", Kind::Surplus, 0x81, CUT),
            ok("AUTH", "F0 | 18 { 15 s'm' 16 s'd' }"),
            ok("AUTH again", "F0 | 19 { 15 s'm' }"),
            no("AUTH of length 0", "F0 |", Kind::Reason, 0x82, "MQTT5-3.15.2-1"),
            no("AUTH with success", "F0 | 00 { 15 s'm' }", Kind::Reason, 0x82, "MQTT5-3.15.2-1"),
            no("AUTH with unknown reason", "F0 | 1A { 15 s'm' }", Kind::Reason, 0x82, "MQTT5-3.15.2-1"),
            no("AUTH without method", "F0 | 18 {}", Kind::AuthWithoutMethod, 0x82, "MQTT5 §3.15.2.2.2"),
            no("AUTH with data alone", "F0 | 18 { 16 s'd' }", Kind::AuthWithoutMethod, 0x82, "MQTT5 §3.15.2.2.2"),
            no("AUTH without property length", "F0 | 18", Kind::Truncated, 0x81, CUT),
            no("AUTH with flags", "F1 | 18 { 15 s'm' }", Kind::Flags, 0x81, "MQTT5-3.15.1-1"),
            no("AUTH with method twice", "F0 | 18 { 15 s'm' 15 s'm' }", Kind::PropertyTwice, 0x82, TABLE),
            no("AUTH with a surplus byte", "F0 | 18 { 15 s'm' } 00", Kind::Surplus, 0x81, CUT),
            no("type 0", "00 |", Kind::ReservedType, 0x81, "MQTT5 §2.1.2"),
            no("second CONNECT", connect("02", "{} s'p'"), Kind::SecondConnect, 0x82, "MQTT5-3.1.0-2"),
            no("CONNACK", "20 | 00 00 {}", Kind::ServerOnly, 0x82, "MQTT5 §2.1.2"),
            no("SUBACK", "90 | #1 {} 00", Kind::ServerOnly, 0x82, "MQTT5 §2.1.2"),
            no("UNSUBACK", "B0 | #1 {} 00", Kind::ServerOnly, 0x82, "MQTT5 §2.1.2"),
            no("PINGRESP", "D0 |", Kind::ServerOnly, 0x82, "MQTT5 §2.1.2"),
        ],
    );
}

#[test]
#[rustfmt::skip]
fn other_packets_of_servers() {
    check(
        Version::V5,
        Reader::Client,
        &[
            ok("CONNACK", "20 | 00 00 {}"),
            ok("CONNACK with session", "20 | 01 00 {}"),
            ok("CONNACK that refuses", "20 | 00 87 { 1F s'why' }"),
            ok("CONNACK with properties", "20 | 00 00 { 11 00000001 21 #9 24 01 25 00 27 00001000 12 s'id' 22 #4 28 00 29 00 2A 00 13 #60 1A s'r' }"),
            no("CONNACK without property length", "20 | 00 00", Kind::Truncated, 0x81, CUT),
            no("CONNACK with reserved flags", "20 | 02 00 {}", Kind::AckFlags, 0x81, "MQTT5-3.2.2-1"),
            no("CONNACK with session that refuses", "20 | 01 87 {}", Kind::SessionPresent, 0x82, "MQTT5-3.2.2-6"),
            no("CONNACK with another packet's reason", "20 | 00 8E {}", Kind::Reason, 0x82, "MQTT5-3.2.2-8"),
            no("CONNACK with maximum QoS 2", "20 | 00 00 { 24 02 }", Kind::PropertyValue, 0x82, TABLE),
            no("CONNACK with receive maximum 0", "20 | 00 00 { 21 #0 }", Kind::PropertyValue, 0x82, TABLE),
            no("CONNACK with topic alias", "20 | 00 00 { 23 #1 }", Kind::PropertyNotAllowed, 0x81, TABLE),
            no("CONNACK with request problem information", "20 | 00 00 { 17 01 }", Kind::PropertyNotAllowed, 0x81, TABLE),
            ok("SUBACK", "90 | #1 {} 00 01 02 87 8F"),
            no("SUBACK without reasons", "90 | #1 {}", Kind::NoReasons, 0x81, "MQTT5-3.9.3-1"),
            no("SUBACK with another packet's reason", "90 | #1 {} 11", Kind::Reason, 0x82, "MQTT5-3.9.3-2"),
            ok("UNSUBACK", "B0 | #1 { 1F s'why' } 00 11"),
            no("UNSUBACK without reasons", "B0 | #1 {}", Kind::NoReasons, 0x81, "MQTT5-3.11.3-1"),
            ok("DISCONNECT with server reference", "E0 | 9C { 1C s'other:8883' }"),
            ok("DISCONNECT with session taken over", "E0 | 8E"),
            no("DISCONNECT with a client's reason", "E0 | 04", Kind::Reason, 0x82, "MQTT5-3.14.2-1"),
            no("DISCONNECT with expiry", "E0 | 8B { 11 00000001 }", Kind::PropertyWrongSide, 0x82, "MQTT5-3.14.2-2"),
            ok("AUTH of length 0", "F0 |"),
            ok("AUTH with success", "F0 | 00 { 15 s'm' }"),
            no("AUTH again", "F0 | 19 { 15 s'm' }", Kind::Reason, 0x82, "MQTT5-3.15.2-1"),
            no("SUBSCRIBE", "82 | #1 {} s'a' 00", Kind::ClientOnly, 0x82, "MQTT5 §2.1.2"),
            no("PINGREQ", "C0 |", Kind::ClientOnly, 0x82, "MQTT5 §2.1.2"),
        ],
    );
}

/// A PUBLISH whose user properties have these sizes of name and value.
fn with_user_properties(sizes: &[(usize, usize)]) -> Result<Packet, DecodeError> {
    let user_properties = sizes
        .iter()
        .map(|&(name, value)| {
            (Text::try_from("n".repeat(name)).unwrap(), Text::try_from("v".repeat(value)).unwrap())
        })
        .collect();
    let publish = Publish {
        dup: false,
        retain: false,
        qos: QosId::AtMostOnce,
        topic: Some(TopicName::try_from("t").unwrap()),
        properties: Some(Box::new(PublishProperties { user_properties, ..PublishProperties::default() })),
        payload: bytes::Bytes::new(),
    };
    decode_from_client(whole(&common::encoded(&Packet::Publish(publish), Version::V5)), Version::V5)
}

#[test]
fn user_properties_are_bounded_in_number_and_in_bytes() {
    assert!(with_user_properties(&[(0, 0); USER_PROPERTIES_MAX]).is_ok());
    let error = with_user_properties(&[(0, 0); USER_PROPERTIES_MAX + 1]).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::UserProperties, ReasonCode::QuotaExceeded));
    assert!(with_user_properties(&[(1, USER_PROPERTIES_BYTES_MAX - 1)]).is_ok());
    let error = with_user_properties(&[(1, USER_PROPERTIES_BYTES_MAX - 1), (1, 0)]).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::UserProperties, ReasonCode::QuotaExceeded));
}
