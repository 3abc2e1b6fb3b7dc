//! The embedded C client for fleet provisioning, step by step, in both versions of MQTT: CBOR, one buffer for a whole packet, a
//! second for each step, and the same client identifier with the claim and with the device's own certificate.

use std::time::{Duration, Instant};

use serde_json::Value;
use signet_tests::build::{self, V5, Version};
use signet_tests::raw_client::{Handshake, RawClient};
use signet_tests::received::Received;

use crate::device::{CSR, FLEET, KEYS, csr, new_key};
use crate::factory::Factory;

/// `MQTT_PROCESS_LOOP_TIMEOUT_MS`: for CONNACK, SUBACK, UNSUBACK, and each answer.
const STEP: Duration = Duration::from_millis(1000);
/// `NETWORK_BUFFER_SIZE`: a packet that is larger is dropped.
const BUFFER_BYTES: usize = 2048;

static ONLY_1_2: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];

/// A text as tinyCBOR writes it: a definite length in the fewest bytes.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let head = match length {
        0..=23 => vec![0x60 | length as u8],
        24..=255 => vec![0x78, length as u8],
        _ => [&[0x79][..], &length.to_be_bytes()].concat(),
    };
    [head, text.as_bytes().to_vec()].concat()
}

/// A map of at most 23 pairs.
fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xa0 | u8::try_from(pairs.len()).unwrap()];
    for (key, value) in pairs {
        bytes.extend(text(key));
        bytes.extend(value);
    }
    bytes
}

/// The client.
struct Small {
    client: RawClient,
    version: Version,
    packet_id: u16,
}

impl Small {
    /// Connects with a session that is to be kept, as the sample does.
    fn connect(door: &Handshake, version: Version, client_id: &str) -> Self {
        let connect = build::connect(version, client_id)
            .clean(false)
            .username("?SDK=FreeRTOS&Version=4.1.4&Platform=Host&MQTTLib=core-mqtt@2.1.1");
        let door = door.clone().versions(&ONLY_1_2);
        let mut client = door.open(version).unwrap();
        let began = Instant::now();
        client.send(connect.bytes());
        match client.receive() {
            Received::ConnAck { code: 0, session_present: false, .. } => {}
            other => panic!("expected a CONNACK and a session of its own, got {other:?}"),
        }
        in_time("CONNACK", began);
        Self { client, version, packet_id: 0 }
    }

    fn next(&mut self) -> u16 {
        self.packet_id += 1;
        self.packet_id
    }

    /// One filter in a packet, as the sample does; the sample does not look at the code, this test does.
    fn subscribe(&mut self, filter: &str) {
        let id = self.next();
        let began = Instant::now();
        self.client.send(build::subscribe(self.version, id, &[build::sub(filter, 1)]));
        self.client.expect_suback(id, &[1]);
        in_time("SUBACK", began);
    }

    fn unsubscribe(&mut self, filter: &str) {
        let id = self.next();
        let began = Instant::now();
        self.client.send(build::unsubscribe(self.version, id, &[filter]));
        match self.client.receive() {
            Received::UnsubAck { packet_id, codes, .. } if packet_id == id => {
                assert!(codes.iter().all(|code| *code == 0), "{codes:02x?}");
            }
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
        in_time("UNSUBACK", began);
    }

    /// One call of the service: subscribe to both answers, publish, wait for PUBACK and answer in one loop, unsubscribe.
    fn call(&mut self, request: &str, payload: &[u8]) -> Value {
        let answers = ["accepted", "rejected"].map(|last| format!("{request}/{last}"));
        answers.iter().for_each(|answer| self.subscribe(answer));
        let id = self.next();
        let began = Instant::now();
        self.client.send(build::publish(self.version, request, payload).qos1(id).bytes());
        let (mut acknowledged, mut answer) = (false, None);
        while !acknowledged || answer.is_none() {
            match self.client.receive() {
                Received::PubAck(ack) if ack.packet_id == id && ack.code == 0 => acknowledged = true,
                Received::Publish(packet) => {
                    assert!(packet.size <= BUFFER_BYTES, "{} bytes: the client drops it", packet.size);
                    assert_eq!(packet.topic, answers[0], "{packet:?}");
                    self.client.send(build::puback(packet.packet_id));
                    answer = Some(ciborium::from_reader(&packet.payload[..]).unwrap());
                }
                other => panic!("expected the answer to {request}, got {other:?}"),
            }
        }
        in_time(request, began);
        answers.iter().for_each(|answer| self.unsubscribe(answer));
        answer.unwrap()
    }
}

#[track_caller]
fn in_time(what: &str, began: Instant) {
    let took = began.elapsed();
    assert!(took < STEP, "{what} took {took:?}: the client has given up");
}

/// A text of an answer, which has to fit the sample's buffer for it.
fn field<'a>(answer: &'a Value, name: &str, most: usize) -> &'a str {
    let text = answer[name].as_str().unwrap_or_else(|| panic!("{name} is a text: {answer}"));
    assert!(text.len() <= most, "{name} has {} bytes", text.len());
    text
}

/// Claims a certificate, and lives with it.
fn lives(factory: &Factory, door: &Handshake, version: Version, serial: &str, makes_key: bool) {
    let mut claim = Small::connect(door, version, serial);
    let own = new_key();
    let created = if makes_key {
        let request = map(&[("certificateSigningRequest", text(&csr(&own)))]);
        claim.call(&format!("{CSR}/cbor"), &request)
    } else {
        claim.call(&format!("{KEYS}/cbor"), b"")
    };
    assert_eq!(field(&created, "certificateId", 64).len(), 64);
    let pem = field(&created, "certificatePem", 2048);
    let certificate = pem::parse(pem).unwrap();
    let key = if makes_key {
        assert!(created.get("privateKey").is_none());
        own.serialize_der()
    } else {
        pem::parse(field(&created, "privateKey", 2047)).unwrap().contents().to_vec()
    };
    let token = field(&created, "certificateOwnershipToken", 512);
    let parameters = map(&[("SerialNumber", text(serial))]);
    let request = map(&[("certificateOwnershipToken", text(token)), ("parameters", parameters)]);
    let thing = claim.call(&format!("{FLEET}/cbor"), &request);
    let name = field(&thing, "thingName", 128).to_owned();
    assert_eq!(name, format!("fp_{serial}"));
    claim.client.send(build::disconnect());
    drop(claim);

    let bare = factory.door().presenting_bare(certificate.contents(), &key);
    let mut device = Small::connect(&bare, version, serial);
    let own_topic = format!("devices/{name}/telemetry");
    device.client.subscribe(&own_topic, 1);
    device.client.publish(&own_topic, "21", 0);
    device.client.expect_publish(&own_topic, "21");
    let refused = if version == V5 { 0x87 } else { 0x80 };
    for other in ["devices/fp_other/telemetry", "$aws/things/fp_0000/shadow/get/accepted"] {
        let id = device.next();
        device.client.send(build::subscribe(version, id, &[build::sub(other, 1)]));
        device.client.expect_suback(id, &[refused]);
    }
}

#[test]
fn a_small_client_claims_a_certificate_for_its_own_key_and_lives_with_it() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    for (version, serial) in [(Version::V311, "0000"), (V5, "0001")] {
        lives(&factory, &claim.door(), version, serial, true);
    }
}

#[test]
fn a_small_client_claims_a_certificate_with_its_key_and_lives_with_it() {
    let factory = Factory::new();
    let claim = factory.claim_with("line-1", |claim| claim.keys = true);
    for (version, serial) in [(Version::V311, "0000"), (V5, "0001")] {
        lives(&factory, &claim.door(), version, serial, false);
    }
}
