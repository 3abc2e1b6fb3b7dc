//! The table of topics and payloads that the device's tests read too: `tests/vectors/provisioning.toml`.

use std::collections::BTreeMap;

use signet_core::provisioning::{
    Answer, CertificateAnswer, ErrorCode, Format, Operation, OwnershipToken, Payload, RequestTopic,
    read_payload,
};
use signet_identity::{CertificateId, TemplateName, ThingName};
use toml::Value;

fn table() -> toml::Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/provisioning.toml");
    std::fs::read_to_string(path).expect("the table").parse().expect("TOML")
}

fn rows<'a>(table: &'a toml::Table, name: &str) -> &'a [Value] {
    table[name].as_array().unwrap_or_else(|| panic!("no {name}"))
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{row}: no {key}"))
}

fn format(row: &Value) -> Format {
    match text(row, "format") {
        "json" => Format::Json,
        "cbor" => Format::Cbor,
        other => panic!("{other}"),
    }
}

fn bytes(row: &Value) -> Vec<u8> {
    match row.get("text").and_then(Value::as_str) {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let hex: String = text(row, "hex").split_whitespace().collect();
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect()
        }
    }
}

fn template(name: &str) -> TemplateName {
    TemplateName::try_from(name).expect("a name")
}

fn operation(row: &Value) -> Option<Operation> {
    match text(row, "operation") {
        "create-from-csr" => Some(Operation::CreateFromCsr),
        "create" => Some(Operation::CreateKeys),
        "provision" => {
            let name = row.get("template").and_then(Value::as_str).unwrap_or("fleet");
            Some(Operation::RegisterThing(template(name)))
        }
        "none" => None,
        other => panic!("{other}"),
    }
}

fn texts(row: &Value, key: &str) -> BTreeMap<String, String> {
    let table = row[key].as_table().unwrap_or_else(|| panic!("{row}: no {key}"));
    table.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect()
}

#[test]
fn a_topic_is_the_request_that_the_table_says() {
    let table = table();
    for row in rows(&table, "topic") {
        let topic = text(row, "topic");
        let expected = operation(row).map(|operation| RequestTopic { operation, format: format(row) });
        assert_eq!(RequestTopic::parse(topic), expected, "{topic}");
        if let Some(request) = expected {
            assert_eq!(request.to_string(), topic);
            assert_eq!(request.answer(true).as_deref(), Some(format!("{topic}/accepted").as_str()));
            assert_eq!(request.answer(false).as_deref(), Some(format!("{topic}/rejected").as_str()));
        }
    }
    for row in rows(&table, "template_name") {
        let valid = row["valid"].as_bool().expect("valid");
        assert_eq!(TemplateName::try_from(text(row, "name")).is_ok(), valid, "{row}");
    }
}

#[test]
fn a_request_is_read_or_rejected_as_the_table_says() {
    let table = table();
    let mut read = 0;
    for row in rows(&table, "request") {
        let (name, error) = (text(row, "name"), text(row, "error"));
        let result = read_payload(&operation(row).expect("an operation"), format(row), &bytes(row));
        if !error.is_empty() && row.get("later").is_none() {
            let rejection = result.expect_err(name);
            assert_eq!(rejection.code.as_str(), error, "{name}");
            assert_eq!(rejection.code.status(), 400, "{name}");
            continue;
        }
        read += 1;
        match result.unwrap_or_else(|rejection| panic!("{name}: {rejection}")) {
            Payload::Csr(csr) if error.is_empty() => assert_eq!(csr, text(row, "csr"), "{name}"),
            Payload::Thing { token, parameters } if error.is_empty() => {
                assert_eq!(token.expose(), text(row, "token"), "{name}");
                assert_eq!(parameters, texts(row, "parameters"), "{name}");
            }
            _ => assert!(!error.is_empty(), "{name}"),
        }
    }
    assert!(read >= 7, "{read}");
}

/// What the broker writes is, byte for byte or member for member, what the table says that a device takes.
#[test]
fn an_answer_is_one_that_devices_take() {
    let table = table();
    let mut answers = 0;
    for row in rows(&table, "answer").iter().filter(|row| row["taken"].as_bool() == Some(true)) {
        let (name, wanted) = (text(row, "name"), document(&bytes(row), format(row)));
        let answer = match text(row, "kind") {
            "created" => {
                let pem = wanted["certificatePem"].as_str().expect("PEM").to_owned();
                Answer::Certificate(Box::new(CertificateAnswer {
                    certificate_id: id(text(row, "certificate_id")),
                    certificate_pem: pem,
                    token: OwnershipToken::new(text(row, "token").to_owned()),
                    private_key: None,
                }))
            }
            "provisioned" => Answer::Thing {
                name: ThingName::try_from(text(row, "thing")).expect("a name"),
                device_configuration: texts(row, "configuration"),
            },
            "rejected" => {
                assert_eq!(text(row, "code"), ErrorCode::InvalidCertificateOwnershipToken.as_str());
                let because = "Certificate ownership token cannot be empty.";
                Answer::Rejected(ErrorCode::InvalidCertificateOwnershipToken.because(because))
            }
            other => panic!("{other}"),
        };
        let mut wanted = wanted;
        // The table has an answer with one member more, which devices skip.
        wanted.as_object_mut().expect("a map").remove("region");
        assert_eq!(document(&answer.encode(format(row)), format(row)), wanted, "{name}");
        answers += 1;
    }
    assert!(answers >= 7, "{answers}");
}

fn document(bytes: &[u8], format: Format) -> serde_json::Value {
    match format {
        Format::Json => serde_json::from_slice(bytes).expect("JSON"),
        Format::Cbor => ciborium::from_reader(bytes).expect("CBOR"),
    }
}

fn id(hex: &str) -> CertificateId {
    CertificateId::from_hex(hex).expect("64 digits")
}
