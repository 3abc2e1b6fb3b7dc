//! MQTT 3.1.1: legal and malformed packets, each with its outcome and clause.
//!
//! A 3.1.1 peer is never told the reason code; it is checked all the same, since logs and metrics carry it.

mod common;

use common::corpus::{Case, Reader, check, no, ok};
use common::{whole, wire};
use signet_wire::DecodeErrorKind as Kind;
use signet_wire::*;

/// CONNECT with the flags, and behind the keep alive the payload.
fn connect(flags: &str, payload: &str) -> String {
    format!("10 | s'MQTT' 04 {flags} #10 {payload}")
}

#[test]
#[rustfmt::skip]
fn connect_packets() {
    let surrogate = "00 05 'to' ED A0 80";
    check(
        Version::V311,
        Reader::First,
        &[
            ok("smallest", connect("02", "s'p'")),
            ok("keep alive 0", "10 | s'MQTT' 04 02 #0 s'p'"),
            ok("resume with identifier", connect("00", "s'p'")),
            ok("empty identifier with clean session", connect("02", "s''")),
            ok("identifier of more than 23 bytes", connect("02", "s'a-client-identifier-of-forty-eight-characters-ok'")),
            ok("will", connect("06", "s'p' s'topic' s'message'")),
            ok("will with QoS 2 and retain", connect("36", "s'p' s'topic' s'message'")),
            ok("will with empty message", connect("06", "s'p' s'topic' s''")),
            ok("user name", connect("82", "s'p' s'user'")),
            ok("empty user name", connect("82", "s'p' s''")),
            ok("user name and password", connect("C2", "s'p' s'user' s'secret'")),
            ok("user name and password, both empty", connect("C2", "s'p' s'' s''")),
            ok("binary password", connect("C2", "s'p' s'user' 00 03 00 FF C0")),
            ok("user name as the AWS SDKs send it", connect("82", "s'p' s'?SDK=CPPv2&Version=1'")),
            ok("everything", connect("EE", "s'p' s'topic' s'message' s'user' s'secret'")),
            ok("U+FEFF is kept", connect("02", "00 04 EF BB BF 'p'")),
            no("flags 0001", "11 | s'MQTT' 04 02 #10 s'p'", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
            no("flags 0010", "12 | s'MQTT' 04 02 #10 s'p'", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
            no("flags 1000", "18 | s'MQTT' 04 02 #10 s'p'", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
            no("no body", "10 |", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("name cut off", "10 | 00 04 'MQT'", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("no level", "10 | s'MQTT'", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("short name", "10 | s'MQT' 04 02 #10 s'p'", Kind::ProtocolName, 0x84, "MQTT3-3.1.2-1"),
            no("empty name", "10 | s'' 04 02 #10 s'p'", Kind::ProtocolName, 0x84, "MQTT3-3.1.2-1"),
            no("long name", "10 | s'MQTTT' 04 02 #10 s'p'", Kind::ProtocolName, 0x84, "MQTT3-3.1.2-1"),
            no("name in small letters", "10 | s'mqtt' 04 02 #10 s'p'", Kind::ProtocolName, 0x84, "MQTT3-3.1.2-1"),
            no("no flags", "10 | s'MQTT' 04", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("no keep alive", "10 | s'MQTT' 04 02 00", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("no client identifier", connect("02", ""), Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("reserved flag", connect("03", "s'p'"), Kind::ConnectReserved, 0x81, "MQTT3-3.1.2-3"),
            no("will QoS 1 without will", connect("0A", "s'p'"), Kind::WillQosWithoutWill, 0x81, "MQTT3-3.1.2-13"),
            no("will retain without will", connect("22", "s'p'"), Kind::WillRetainWithoutWill, 0x81, "MQTT3-3.1.2-15"),
            no("will QoS 3", connect("1E", "s'p' s'topic' s'm'"), Kind::WillQosThree, 0x81, "MQTT3-3.1.2-14"),
            no("will flag without topic", connect("06", "s'p'"), Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("will flag without message", connect("06", "s'p' s'topic'"), Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("empty will topic", connect("06", "s'p' s'' s'm'"), Kind::WillTopic, 0x81, "MQTT3-4.7.3-1"),
            no("will topic with +", connect("06", "s'p' s'a/+' s'm'"), Kind::WillTopic, 0x81, "MQTT3-4.7.3-1"),
            no("will topic with #", connect("06", "s'p' s'#' s'm'"), Kind::WillTopic, 0x81, "MQTT3-4.7.3-1"),
            no("will topic with NUL", connect("06", "s'p' 00 03 61 00 62 s'm'"), Kind::Nul, 0x81, "MQTT3-1.5.3-2"),
            no("will topic with surrogate", connect("06", &format!("s'p' {surrogate} s'm'")), Kind::NotUtf8, 0x81, "MQTT3-1.5.3-1"),
            no("identifier with NUL", connect("02", "00 01 00"), Kind::Nul, 0x81, "MQTT3-1.5.3-2"),
            no("identifier with control character", connect("02", "00 02 61 0A"), Kind::Control, 0x81, "MQTT3 §1.5.3"),
            no("identifier with surrogate", connect("02", surrogate), Kind::NotUtf8, 0x81, "MQTT3-1.5.3-1"),
            no("user name with NUL", connect("82", "s'p' 00 01 00"), Kind::Nul, 0x81, "MQTT3-1.5.3-2"),
            no("user name flag without user name", connect("82", "s'p'"), Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("user name without its flag", connect("02", "s'p' s'user'"), Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            no("password without user name", connect("42", "s'p' s'secret'"), Kind::PasswordWithoutUsername, 0x81, "MQTT3-3.1.2-22"),
            no("password flag without password", connect("C2", "s'p' s'user'"), Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("password without its flag", connect("82", "s'p' s'user' s'secret'"), Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            no("surplus byte", connect("02", "s'p' 00"), Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            no("length shorter than the fields", "10 | s'MQTT' 04 C2 #60 00", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        ],
    );
}

#[test]
fn connect_of_other_versions_is_answered_in_words_that_the_client_knows() {
    for (packet, answer_as) in [
        ("10 | s'MQIsdp' 03 02 #10 s'p'", Version::V311),
        ("10 | s'MQTT' 03 02 #10 s'p'", Version::V311),
        // A Mosquitto bridge tries this level first, and falls back when it reads return code 1.
        ("10 | s'MQTT' 84 02 #10 s'p'", Version::V311),
        ("10 | s'MQIsdp' 83 02 #10 s'p'", Version::V311),
        ("10 | s'MQTT' 06 02 #10 00 s'p'", Version::V5),
        ("10 | s'MQTT' 63 02 #10 00 s'p'", Version::V5),
        ("10 | s'MQTT' 00 02 #10 s'p'", Version::V5),
        // The rest of the packet is not looked at: it may have another form.
        ("10 | s'MQTT' 06", Version::V5),
        ("1F | s'MQIsdp' 03", Version::V311),
    ] {
        let error = decode_connect(whole(&wire(packet))).unwrap_err();
        assert_eq!(error, ConnectError::UnacceptableProtocolVersion { answer_as }, "{packet}");
        assert_eq!(error.answer(), Some((answer_as, ReasonCode::UnsupportedProtocolVersion)), "{packet}");
    }
}

#[test]
fn a_session_without_an_identifier_is_rejected_with_its_own_code() {
    let error = decode_connect(whole(&wire(&connect("00", "s''")))).unwrap_err();
    assert_eq!(error, ConnectError::IdentifierRejected);
    assert_eq!(error.answer(), Some((Version::V311, ReasonCode::ClientIdentifierNotValid)));
    assert_eq!(error.clause(), "MQTT3-3.1.3-8");
    // A malformed packet stays malformed, whatever its identifier.
    let error = decode_connect(whole(&wire(&connect("00", "s'' 00")))).unwrap_err();
    assert_eq!(error.answer(), None);
}

#[test]
fn a_malformed_first_packet_is_closed_without_an_answer() {
    for packet in [
        connect("03", "s'p'"),
        connect("02", "s'p' 00"),
        "10 | s'HTTP' 04 02 #10 s'p'".into(),
        "30 | s'topic' 'payload'".into(),
        "C0 |".into(),
        "00 |".into(),
        "16 03 01 02 00 01".into(),
    ] {
        let mut bytes = wire(&packet);
        if bytes[0] == 0x16 {
            // A TLS record on the inside of the tunnel, cut where its third byte says.
            bytes.truncate(5);
        }
        let error = decode_connect(whole(&bytes)).unwrap_err();
        assert!(matches!(error, ConnectError::Malformed(_)), "{packet}");
        assert_eq!(error.answer(), None, "{packet}");
    }
}

#[rustfmt::skip]
fn publish_cases() -> Vec<Case> {
    vec![
        ok("QoS 0", "30 | s'topic' 'payload'"),
        ok("QoS 0, retain", "31 | s'topic' 'payload'"),
        ok("empty payload", "31 | s'topic'"),
        ok("QoS 1", "32 | s'topic' #1234 'payload'"),
        ok("QoS 1, DUP", "3A | s'topic' #1234 'payload'"),
        ok("QoS 2", "34 | s'topic' #65535 'payload'"),
        ok("QoS 2, DUP, retain", "3D | s'topic' #1 'payload'"),
        ok("binary payload", "30 | s'topic' 00 FF C0 80"),
        ok("topic of blanks and separators", "30 | s' /// '"),
        ok("topic with $", "30 | s'$SYS/x' 'p'"),
        ok("topic beyond the basic plane", "30 | 00 05 41 F0 AA 9B 94"),
        ok("topic of 65535 bytes", "30 | FF FF 61*65535 'p'"),
        no("QoS 3", "36 | s'topic' #1 'payload'", Kind::QosThree, 0x81, "MQTT3-3.3.1-4"),
        no("DUP at QoS 0", "38 | s'topic' 'payload'", Kind::DupAtQosZero, 0x81, "MQTT3-3.3.1-2"),
        no("empty topic", "30 | s'' 'payload'", Kind::TopicEmpty, 0x82, "MQTT3-4.7.3-1"),
        no("topic with +", "30 | s'a/+' 'payload'", Kind::TopicWildcard, 0x81, "MQTT3-3.3.2-2"),
        no("topic with #", "30 | s'#' 'payload'", Kind::TopicWildcard, 0x81, "MQTT3-3.3.2-2"),
        no("topic with NUL", "30 | 00 03 61 00 62 'p'", Kind::Nul, 0x81, "MQTT3-1.5.3-2"),
        no("topic with U+0001", "30 | 00 03 61 01 62 'p'", Kind::Control, 0x81, "MQTT3 §1.5.3"),
        no("topic with U+009F", "30 | 00 04 61 C2 9F 62 'p'", Kind::Control, 0x81, "MQTT3 §1.5.3"),
        no("topic with U+FFFF", "30 | 00 03 EF BF BF 'p'", Kind::Control, 0x81, "MQTT3 §1.5.3"),
        no("topic with surrogate", "30 | 00 05 'to' ED A0 80 'p'", Kind::NotUtf8, 0x81, "MQTT3-1.5.3-1"),
        no("topic cut off", "30 | 00 06 'topic'", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        no("no topic", "30 |", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        no("QoS 1 without identifier", "32 | s'topic'", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        no("QoS 1 with half an identifier", "32 | s'topic' 01", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        no("QoS 1 with identifier 0", "32 | s'topic' #0 'p'", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
        no("QoS 2 with identifier 0", "34 | s'topic' #0 'p'", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
    ]
}

#[test]
fn publish_packets_of_clients() {
    check(Version::V311, Reader::Server, &publish_cases());
}

#[test]
fn publish_packets_of_servers() {
    check(Version::V311, Reader::Client, &publish_cases());
}

#[test]
#[rustfmt::skip]
fn acknowledgements() {
    let cases = [
        ok("PUBACK", "40 | #1"),
        ok("PUBREC", "50 | #65535"),
        ok("PUBREL", "62 | #1"),
        ok("PUBCOMP", "70 | #1"),
        no("PUBACK with flags", "42 | #1", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
        no("PUBREC with flags", "51 | #1", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
        no("PUBREL without its flags", "60 | #1", Kind::Flags, 0x81, "MQTT3-3.6.1-1"),
        no("PUBREL with flags 0011", "63 | #1", Kind::Flags, 0x81, "MQTT3-3.6.1-1"),
        no("PUBCOMP with flags", "78 | #1", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
        no("PUBACK with identifier 0", "40 | #0", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
        no("PUBREC with identifier 0", "50 | #0", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
        no("PUBREL with identifier 0", "62 | #0", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
        no("PUBCOMP with identifier 0", "70 | #0", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
        no("PUBACK of length 0", "40 |", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        no("PUBACK of length 1", "40 | 01", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        no("PUBACK of length 3", "40 | #1 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
        no("PUBREC of length 3", "50 | #1 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
        no("PUBREL of length 4", "62 | #1 00 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
        no("PUBCOMP of length 3", "70 | #1 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
    ];
    check(Version::V311, Reader::Server, &cases);
    check(Version::V311, Reader::Client, &cases);
}

#[test]
#[rustfmt::skip]
fn subscribe_and_unsubscribe_packets() {
    check(
        Version::V311,
        Reader::Server,
        &[
            ok("SUBSCRIBE", "82 | #1 s'a/b' 00"),
            ok("SUBSCRIBE to several filters", "82 | #1 s'a' 00 s'+/b' 01 s'#' 02"),
            ok("SUBSCRIBE twice to one filter", "82 | #1 s'a' 00 s'a' 01"),
            ok("SUBSCRIBE to a shared filter", "82 | #1 s'$share/g/a' 01"),
            ok("SUBSCRIBE to an impossible filter is refused alone", "82 | #1 s'a#' 00 s'b' 00"),
            ok("SUBSCRIBE to an empty filter is refused alone", "82 | #1 s'' 00"),
            no("SUBSCRIBE without its flags", "80 | #1 s'a' 00", Kind::Flags, 0x81, "MQTT3-3.8.1-1"),
            no("SUBSCRIBE with flags 0011", "83 | #1 s'a' 00", Kind::Flags, 0x81, "MQTT3-3.8.1-1"),
            no("SUBSCRIBE with flags 1010", "8A | #1 s'a' 00", Kind::Flags, 0x81, "MQTT3-3.8.1-1"),
            no("SUBSCRIBE with identifier 0", "82 | #0 s'a' 00", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
            no("SUBSCRIBE to nothing", "82 | #1", Kind::NoFilters, 0x82, "MQTT3-3.8.3-3"),
            no("SUBSCRIBE with QoS 3", "82 | #1 s'a' 03", Kind::SubscribeQosThree, 0x82, "MQTT3-3.8.3-4"),
            no("SUBSCRIBE with option 04", "82 | #1 s'a' 04", Kind::SubscribeOptions, 0x81, "MQTT3-3.8.3-4"),
            no("SUBSCRIBE with option 10", "82 | #1 s'a' 10", Kind::SubscribeOptions, 0x81, "MQTT3-3.8.3-4"),
            no("SUBSCRIBE with option 80", "82 | #1 s'a' 80", Kind::SubscribeOptions, 0x81, "MQTT3-3.8.3-4"),
            no("SUBSCRIBE without options", "82 | #1 s'a'", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("SUBSCRIBE with a surplus byte", "82 | #1 s'a' 00 00", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("SUBSCRIBE of length 1", "82 | 00", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
            no("SUBSCRIBE to NUL", "82 | #1 00 01 00 00", Kind::Nul, 0x81, "MQTT3-1.5.3-2"),
            no("SUBSCRIBE to a surrogate", "82 | #1 00 03 ED A0 80 00", Kind::NotUtf8, 0x81, "MQTT3-1.5.3-1"),
            ok("UNSUBSCRIBE", "A2 | #1 s'a/b'"),
            ok("UNSUBSCRIBE from several filters", "A2 | #1 s'a' s'#' s'$share/g/a'"),
            ok("UNSUBSCRIBE from an impossible filter is refused alone", "A2 | #1 s'a#' s'b'"),
            no("UNSUBSCRIBE without its flags", "A0 | #1 s'a'", Kind::Flags, 0x81, "MQTT3-3.10.1-1"),
            no("UNSUBSCRIBE with identifier 0", "A2 | #0 s'a'", Kind::PacketIdZero, 0x82, "MQTT3-2.3.1-1"),
            no("UNSUBSCRIBE from nothing", "A2 | #1", Kind::NoFilters, 0x82, "MQTT3-3.10.3-2"),
            no("UNSUBSCRIBE from NUL", "A2 | #1 00 01 00", Kind::Nul, 0x81, "MQTT3-1.5.3-2"),
            no("UNSUBSCRIBE with a surplus byte", "A2 | #1 s'a' 00", Kind::Truncated, 0x81, "MQTT3-4.8.0-1"),
        ],
    );
}

#[test]
#[rustfmt::skip]
fn other_packets_of_clients() {
    check(
        Version::V311,
        Reader::Server,
        &[
            ok("PINGREQ", "C0 |"),
            no("PINGREQ with a body", "C0 | 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            no("PINGREQ with flags", "C1 |", Kind::Flags, 0x81, "MQTT3-2.2.2-2"),
            ok("DISCONNECT", "E0 |"),
            no("DISCONNECT with a body", "E0 | 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            no("DISCONNECT with flags", "E1 |", Kind::Flags, 0x81, "MQTT3-3.14.1-1"),
            no("type 0", "00 |", Kind::ReservedType, 0x81, "MQTT3-4.8.0-1"),
            no("type 15", "F0 |", Kind::ReservedType, 0x81, "MQTT3-4.8.0-1"),
            no("second CONNECT", connect("02", "s'p'"), Kind::SecondConnect, 0x82, "MQTT3-3.1.0-2"),
            no("CONNACK", "20 | 00 00", Kind::ServerOnly, 0x82, "MQTT3-4.8.0-1"),
            no("SUBACK", "90 | #1 00", Kind::ServerOnly, 0x82, "MQTT3-4.8.0-1"),
            no("UNSUBACK", "B0 | #1", Kind::ServerOnly, 0x82, "MQTT3-4.8.0-1"),
            no("PINGRESP", "D0 |", Kind::ServerOnly, 0x82, "MQTT3-4.8.0-1"),
        ],
    );
}

#[test]
#[rustfmt::skip]
fn other_packets_of_servers() {
    check(
        Version::V311,
        Reader::Client,
        &[
            ok("CONNACK", "20 | 00 00"),
            ok("CONNACK with session", "20 | 01 00"),
            ok("CONNACK that refuses", "20 | 00 05"),
            no("CONNACK with code 6", "20 | 00 06", Kind::Reason, 0x82, "MQTT3 §3.2.2.3"),
            no("CONNACK with session that refuses", "20 | 01 05", Kind::SessionPresent, 0x82, "MQTT3-3.2.2-4"),
            no("CONNACK with reserved flags", "20 | 02 00", Kind::AckFlags, 0x81, "MQTT3 §3.2.2.1"),
            no("CONNACK of length 3", "20 | 00 00 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            ok("SUBACK", "90 | #1 00 01 02 80"),
            no("SUBACK with code 3", "90 | #1 03", Kind::Reason, 0x82, "MQTT3-3.9.3-2"),
            no("SUBACK with a code of 5.0", "90 | #1 87", Kind::Reason, 0x82, "MQTT3-3.9.3-2"),
            no("SUBACK without codes", "90 | #1", Kind::NoReasons, 0x81, "MQTT3 §3.9.3"),
            ok("UNSUBACK", "B0 | #1"),
            no("UNSUBACK with a code", "B0 | #1 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            ok("PINGRESP", "D0 |"),
            no("PINGRESP with a body", "D0 | 00", Kind::Surplus, 0x81, "MQTT3-4.8.0-1"),
            no("DISCONNECT", "E0 |", Kind::ClientOnly, 0x82, "MQTT3-4.8.0-1"),
            no("CONNECT", connect("02", "s'p'"), Kind::ClientOnly, 0x82, "MQTT3-4.8.0-1"),
            no("SUBSCRIBE", "82 | #1 s'a' 00", Kind::ClientOnly, 0x82, "MQTT3-4.8.0-1"),
            no("UNSUBSCRIBE", "A2 | #1 s'a'", Kind::ClientOnly, 0x82, "MQTT3-4.8.0-1"),
            no("PINGREQ", "C0 |", Kind::ClientOnly, 0x82, "MQTT3-4.8.0-1"),
        ],
    );
}
