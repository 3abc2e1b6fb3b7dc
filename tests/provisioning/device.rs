//! A device that asks: its key, its signing request, and what it says and hears.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use signet_tests::build::{self, Version};
use signet_tests::raw_client::{Handshake, RawClient};
use signet_tests::received::{Published, Received};

pub(crate) const CSR: &str = "$aws/certificates/create-from-csr";
pub(crate) const KEYS: &str = "$aws/certificates/create";
pub(crate) const FLEET: &str = "$aws/provisioning-templates/fleet/provision";
pub(crate) const RENEW: &str = "$aws/provisioning-templates/renew/provision";

/// The encoding of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Cbor,
}

impl Format {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    pub(crate) fn write(self, document: &Value) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(document).unwrap(),
            Self::Cbor => {
                let mut bytes = Vec::new();
                ciborium::into_writer(document, &mut bytes).unwrap();
                bytes
            }
        }
    }

    pub(crate) fn read(self, bytes: &[u8]) -> Value {
        match self {
            Self::Json => serde_json::from_slice(bytes).unwrap(),
            Self::Cbor => ciborium::from_reader(bytes).unwrap(),
        }
    }
}

/// A new P-256 key.
pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A signing request for `key` as the embedded clients make it: with a subject that names nobody.
pub(crate) fn csr(key: &KeyPair) -> String {
    csr_of(key, "Fleet Provisioning Demo")
}

pub(crate) fn csr_of(key: &KeyPair, common_name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// A connection by which a device asks.
pub(crate) struct Asking {
    pub(crate) client: RawClient,
    version: Version,
    packet_id: u16,
}

/// What an answer says.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) accepted: bool,
    pub(crate) document: Value,
    /// The PUBLISH that it came in.
    pub(crate) packet: Published,
}

impl Answered {
    /// An accepted answer's document.
    #[track_caller]
    pub(crate) fn accepted(self) -> Value {
        assert!(self.accepted, "rejected: {}", self.document);
        self.document
    }

    /// A rejected answer's status and code.
    #[track_caller]
    pub(crate) fn rejected(self) -> (u64, String) {
        assert!(!self.accepted, "accepted: {}", self.document);
        let fields = self.document.as_object().unwrap();
        assert_eq!(fields.len(), 3, "{}", self.document);
        assert!(!fields["errorMessage"].as_str().unwrap().is_empty());
        (fields["statusCode"].as_u64().unwrap(), fields["errorCode"].as_str().unwrap().to_owned())
    }
}

impl Asking {
    /// Connects as the SDKs do, with a user name that is telemetry.
    #[track_caller]
    pub(crate) fn connect(door: &Handshake, version: Version, client_id: &str) -> Self {
        let connect = build::connect(version, client_id).username("?SDK=PythonV2&Version=1.31.0");
        Self { client: door.connect(&connect, version), version, packet_id: 100 }
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id += 1;
        self.packet_id
    }

    /// Subscribes to both answers of a request, one filter in each packet.
    #[track_caller]
    pub(crate) fn listen(&mut self, request: &str) {
        for last in ["accepted", "rejected"] {
            self.client.subscribe(&format!("{request}/{last}"), 1);
        }
    }

    /// Publishes a request, which is acknowledged with success whatever comes of it, and gives the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, operation: &str, format: Format, document: &Value) -> Answered {
        self.ask_raw(&format!("{operation}/{}", format.name()), &format.write(document), format)
    }

    /// [`Self::ask`] with any payload.
    #[track_caller]
    pub(crate) fn ask_raw(&mut self, request: &str, payload: &[u8], format: Format) -> Answered {
        let id = self.send(request, payload);
        self.answer_to(request, id, format)
    }

    /// Publishes a request; the identifier of its PUBLISH.
    #[track_caller]
    pub(crate) fn send(&mut self, request: &str, payload: &[u8]) -> u16 {
        let id = self.next_id();
        self.client.send(build::publish(self.version, request, payload).qos1(id).bytes());
        id
    }

    /// The acknowledgement and the answer of a request, in whichever order.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, request: &str, id: u16, format: Format) -> Answered {
        let mut acknowledged = false;
        let mut answered = None;
        while !acknowledged || answered.is_none() {
            match self.client.receive() {
                Received::PubAck(ack) if ack.packet_id == id => {
                    assert_eq!(ack.code, 0, "a refusal belongs into the answer");
                    acknowledged = true;
                }
                Received::Publish(packet) => answered = Some(packet),
                other => panic!("expected the answer to {request}, got {other:?}"),
            }
        }
        let packet = answered.unwrap();
        if packet.qos == 1 {
            self.client.send(build::puback(packet.packet_id));
        }
        let accepted = packet.topic == format!("{request}/accepted");
        assert!(accepted || packet.topic == format!("{request}/rejected"), "{}", packet.topic);
        assert!(!packet.retain && !packet.dup);
        Answered { accepted, document: format.read(&packet.payload), packet }
    }

    /// Asks for a certificate for `key`; the id, the certificate in DER, and the ownership token.
    #[track_caller]
    pub(crate) fn create(&mut self, key: &KeyPair, format: Format) -> Created {
        let answer = self.ask(CSR, format, &json!({"certificateSigningRequest": csr(key)}));
        Created::read(&answer.accepted())
    }

    /// Registers a thing by the template `fleet`.
    #[track_caller]
    pub(crate) fn register(&mut self, token: &str, serial: &str, format: Format) -> Answered {
        let parameters = BTreeMap::from([("SerialNumber", serial)]);
        let document = json!({"certificateOwnershipToken": token, "parameters": parameters});
        self.ask(FLEET, format, &document)
    }
}

/// A certificate that was issued and waits for its thing.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub(crate) id: String,
    pub(crate) pem: String,
    pub(crate) token: String,
}

impl Created {
    #[track_caller]
    pub(crate) fn read(document: &Value) -> Self {
        let text =
            |name: &str| document[name].as_str().unwrap_or_else(|| panic!("{name} in {document}")).to_owned();
        Self {
            id: text("certificateId"),
            pem: text("certificatePem"),
            token: text("certificateOwnershipToken"),
        }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let all = pem::parse_many(&self.pem).unwrap();
        assert_eq!(all.len(), 1, "the leaf alone");
        all[0].contents().to_vec()
    }
}

/// Enrols a device by signing request over one connection of a claim; its certificate.
#[track_caller]
pub(crate) fn enrol(door: &Handshake, key: &KeyPair, serial: &str, format: Format) -> Created {
    let mut asking = Asking::connect(door, build::V311, serial);
    asking.listen(&format!("{CSR}/{}", format.name()));
    asking.listen(&format!("{FLEET}/{}", format.name()));
    let created = asking.create(key, format);
    let thing = asking.register(&created.token, serial, format).accepted();
    assert_eq!(thing["thingName"], format!("fp_{serial}"));
    created
}
