//! The traps that break unmodified clients, by their numbers in the contract, where no other test has them.

use std::time::{Duration, Instant};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;
use signet_core::provisioning::ANSWER_PACKET_BYTES_USUAL;
use signet_tests::build::{self, V5, V311};
use signet_tests::received::Received;

use crate::device::{Asking, CSR, Created, FLEET, Format, KEYS, csr, enrol, new_key};
use crate::factory::Factory;

#[test]
fn trap_2_and_3_an_answer_has_a_64_digit_id_and_one_certificate_and_fits_the_small_buffer() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    for (key, format) in [(new_key(), Format::Json), (new_key(), Format::Cbor), (rsa, Format::Cbor)] {
        let mut asking = Asking::connect(&claim.door(), V311, "small");
        asking.listen(&format!("{CSR}/{}", format.name()));
        let answer = asking.ask(CSR, format, &json!({"certificateSigningRequest": csr(&key)}));
        assert!(answer.packet.size <= ANSWER_PACKET_BYTES_USUAL, "{} bytes", answer.packet.size);
        let created = Created::read(&answer.accepted());
        assert!(created.id.len() == 64 && created.id.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        assert_eq!(created.pem.matches("BEGIN CERTIFICATE").count(), 1);
        assert!(created.pem.ends_with("-----\n") && !created.pem.contains('\r'));
    }
}

#[test]
fn trap_4_every_cbor_value_is_text_in_a_map_of_definite_length() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = Asking::connect(&claim.door(), V311, "cbor");
    asking.listen(&format!("{CSR}/cbor"));
    asking.listen(&format!("{FLEET}/cbor"));
    let answer = asking.ask(CSR, Format::Cbor, &json!({"certificateSigningRequest": csr(&new_key())}));
    let payload = answer.packet.payload.clone();
    assert_eq!(payload[0], 0xa3);
    let after = |name: &str| {
        let at = payload.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
        payload[at + name.len()] >> 5
    };
    for name in ["certificateId", "certificatePem", "certificateOwnershipToken"] {
        assert_eq!(after(name), 3, "{name} is a text string");
    }
    let created = Created::read(&answer.accepted());
    let answer = asking.register(&created.token, "cbor", Format::Cbor);
    assert_eq!(answer.packet.payload[0], 0xa2);
    answer.accepted();
    let answer = asking.register(&created.token, "cbor", Format::Cbor);
    let payload = answer.packet.payload.clone();
    assert_eq!(payload[..12], *b"\xa3\x6astatusCode");
    assert_eq!(payload[12..15], [0x19, 0x01, 0x90], "400 as an unsigned integer");
    answer.rejected();
}

#[test]
fn trap_5_each_answer_comes_well_within_a_second() {
    let factory = Factory::new();
    let claim = factory.claim_with("line-1", |claim| claim.keys = true);
    for n in 0..10 {
        let mut asking = Asking::connect(&claim.door(), V311, &format!("t{n}"));
        asking.listen(&format!("{KEYS}/cbor"));
        asking.listen(&format!("{FLEET}/cbor"));
        let began = Instant::now();
        let created = Created::read(&asking.ask_raw(&format!("{KEYS}/cbor"), b"", Format::Cbor).accepted());
        let middle = Instant::now();
        asking.register(&created.token, &format!("t{n}"), Format::Cbor).accepted();
        for took in [middle - began, middle.elapsed()] {
            assert!(took < Duration::from_millis(1000), "{took:?}");
        }
    }
}

#[test]
fn trap_7_and_8_subscriptions_are_answered_filter_by_filter_and_taken_back_without_a_failure() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    for version in build::BOTH {
        let mut client = Asking::connect(&claim.door(), version, "rustot").client;
        let filters: Vec<String> = [format!("{CSR}/json"), format!("{FLEET}/json")]
            .iter()
            .flat_map(|request| ["accepted", "rejected"].map(|last| format!("{request}/{last}")))
            .collect();
        let subs: Vec<_> = filters.iter().map(|filter| build::sub(filter, 1)).collect();
        client.send(build::subscribe(version, 7, &subs));
        client.expect_suback(7, &[1, 1, 1, 1]);
        let asked = [
            build::sub(&filters[0], 1),
            build::sub("devices/x/y", 1),
            build::sub("$aws/things/x/shadow/get", 1),
        ];
        client.send(build::subscribe(version, 8, &asked));
        let refused = if version == V5 { 0x87 } else { 0x80 };
        client.expect_suback(8, &[1, refused, refused]);
        let names: Vec<&str> = filters.iter().map(String::as_str).chain(["never/subscribed"]).collect();
        client.send(build::unsubscribe(version, 9, &names));
        match client.receive() {
            Received::UnsubAck { packet_id: 9, codes, .. } => {
                assert!(codes.iter().all(|code| *code < 0x80), "{codes:02x?}");
                assert_eq!(codes.len(), if version == V5 { 5 } else { 0 });
            }
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }
}

#[test]
fn trap_9_and_11_any_client_id_connects_with_any_user_name_and_password() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    for version in build::BOTH {
        for client_id in ["mqtt5-sample-0e1b", "0000", "fp_someone_else", "a/b+c", "admin"] {
            let connect = build::connect(version, client_id)
                .username("?SDK=IoTDeviceSDK/Python&Platform=Unix&Metadata=(CRTVersion=0.36.1)")
                .password("ignored");
            claim.door().connect(&connect, version).expect_nothing();
        }
    }
}

#[test]
fn trap_16_17_18_and_19_a_bare_leaf_an_ip_address_tls_1_2_and_the_alpn_of_aws_are_taken() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let key = new_key();
    let created = enrol(&claim.door(), &key, "old", Format::Cbor);
    let bare = factory.door().presenting_bare(&created.der(), &key.serialize_der());
    static ONLY_1_2: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    bare.clone().versions(&ONLY_1_2).connect(&build::connect(V311, "a"), V311).expect_nothing();
    bare.clone().server_name("127.0.0.1").connect(&build::connect(V311, "b"), V311).expect_nothing();
    bare.alpn("x-amzn-mqtt-ca").connect(&build::connect(V5, "c"), V5).expect_nothing();
}

#[test]
fn trap_20_and_21_a_device_connects_in_the_moment_it_is_answered_many_times_over() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    for n in 0..10 {
        let (serial, key) = (format!("n{n}"), new_key());
        let created = enrol(&claim.door(), &key, &serial, Format::Json);
        let device = factory.door().presenting_bare(&created.der(), &key.serialize_der());
        // The same client identifier, at once, while the claim's connection has only just gone.
        device.connect(&build::connect(V311, &serial), V311).expect_nothing();
    }
}
