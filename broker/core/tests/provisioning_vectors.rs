//! The table of topics and payloads that the device's tests read too: `tests/vectors/provisioning.toml`.

use signet_core::provisioning::{
    Answer, CertificateAnswer, ErrorCode, Format, Operation, OwnershipToken, Payload, RequestTopic,
    read_payload,
};
use signet_identity::{CertificateId, TemplateName, ThingName};
use vectors::{Row, Table};

#[path = "../../../tests/vectors/mod.rs"]
mod vectors;

fn format(row: Row<'_>) -> Format {
    row.format(Format::Json, Format::Cbor)
}

fn template(name: &str) -> TemplateName {
    TemplateName::try_from(name).expect("a name")
}

fn operation(row: Row<'_>) -> Option<Operation> {
    match row.text("operation") {
        "create-from-csr" => Some(Operation::CreateFromCsr),
        "create" => Some(Operation::CreateKeys),
        "provision" => {
            let name = row.maybe("template").unwrap_or("fleet");
            Some(Operation::RegisterThing(template(name)))
        }
        "none" => None,
        other => panic!("{other}"),
    }
}

#[test]
fn a_topic_is_the_request_that_the_table_says() {
    let table = Table::read();
    for row in table.rows("topic") {
        let topic = row.text("topic");
        let expected = operation(row).map(|operation| RequestTopic { operation, format: format(row) });
        assert_eq!(RequestTopic::parse(topic), expected, "{topic}");
        if let Some(request) = expected {
            assert_eq!(request.to_string(), topic);
            assert_eq!(request.answer(true).as_deref(), Some(format!("{topic}/accepted").as_str()));
            assert_eq!(request.answer(false).as_deref(), Some(format!("{topic}/rejected").as_str()));
        }
    }
    for row in table.rows("template_name") {
        let valid = row.is("valid");
        assert_eq!(TemplateName::try_from(row.text("name")).is_ok(), valid, "{}", row.text("name"));
    }
}

#[test]
fn a_request_is_read_or_rejected_as_the_table_says() {
    let table = Table::read();
    let mut read = 0;
    for row in table.rows("request") {
        let (name, error) = (row.text("name"), row.text("error"));
        let result = read_payload(&operation(row).expect("an operation"), format(row), &row.payload());
        if !error.is_empty() && !row.has("later") {
            let rejection = result.expect_err(name);
            assert_eq!(rejection.code.as_str(), error, "{name}");
            assert_eq!(rejection.code.status(), 400, "{name}");
            continue;
        }
        read += 1;
        match result.unwrap_or_else(|rejection| panic!("{name}: {rejection}")) {
            Payload::Csr(csr) if error.is_empty() => assert_eq!(csr, row.text("csr"), "{name}"),
            Payload::Thing { token, parameters } if error.is_empty() => {
                assert_eq!(token.expose(), row.text("token"), "{name}");
                assert_eq!(parameters, row.texts("parameters"), "{name}");
            }
            _ => assert!(!error.is_empty(), "{name}"),
        }
    }
    assert!(read >= 7, "{read}");
}

/// What the broker writes is, byte for byte or member for member, what the table says that a device takes.
#[test]
fn an_answer_is_one_that_devices_take() {
    let table = Table::read();
    let mut answers = 0;
    for row in table.rows("answer").into_iter().filter(|row| row.is("taken")) {
        let (name, wanted) = (row.text("name"), document(&row.payload(), format(row)));
        let answer = match row.text("kind") {
            "created" => {
                let pem = wanted["certificatePem"].as_str().expect("PEM").to_owned();
                Answer::Certificate(Box::new(CertificateAnswer {
                    certificate_id: id(row.text("certificate_id")),
                    certificate_pem: pem,
                    token: OwnershipToken::new(row.text("token").to_owned()),
                    private_key: None,
                }))
            }
            "provisioned" => Answer::Thing {
                name: ThingName::try_from(row.text("thing")).expect("a name"),
                device_configuration: row.texts("configuration"),
            },
            "rejected" => {
                assert_eq!(row.text("code"), ErrorCode::InvalidCertificateOwnershipToken.as_str());
                assert_eq!(
                    row.number("status"),
                    i64::from(ErrorCode::InvalidCertificateOwnershipToken.status())
                );
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
