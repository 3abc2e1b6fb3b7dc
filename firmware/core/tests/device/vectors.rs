//! The table that the broker's tests read too.

use signet_device_core::enrol::payload;
use signet_device_core::topic::{self, Answer, Format, is_template};
use table::{Row, Table};

#[path = "../../../../tests/vectors/mod.rs"]
mod table;

fn format(row: Row<'_>) -> Format {
    row.format(Format::Json, Format::Cbor)
}

#[test]
fn topics() {
    let table = Table::read();
    for row in table.rows("topic") {
        let (name, operation) = (row.text("topic"), row.text("operation"));
        let template = row.maybe("template").unwrap_or("fleet");
        let ours = match operation {
            "create-from-csr" => Some(topic::create(format(row))),
            "provision" => Some(topic::provision(template, format(row))),
            _ => None,
        };
        match ours {
            Some(ours) => {
                assert_eq!(ours, name);
                let accepted = Answer::of(&format!("{name}/accepted"), template, format(row));
                assert!(matches!(accepted, Some(Answer::Created | Answer::Provisioned)), "{name}");
                let rejected = Answer::of(&format!("{name}/rejected"), template, format(row));
                assert!(
                    matches!(rejected, Some(Answer::CreateRejected | Answer::ProvisionRejected)),
                    "{name}"
                );
            }
            None => {
                for format in [Format::Json, Format::Cbor] {
                    assert_ne!(topic::create(format), name);
                    assert_eq!(Answer::of(&format!("{name}/accepted"), "fleet", format), None, "{name}");
                }
            }
        }
    }
    for row in table.rows("template_name") {
        assert_eq!(is_template(row.text("name")), row.is("valid"), "{}", row.text("name"));
    }
}

#[test]
fn requests() {
    let table = Table::read();
    let mut ours = 0;
    for row in table.rows("request").into_iter().filter(|row| row.has("device")) {
        ours += 1;
        let made = match row.text("operation") {
            "provision" => {
                let parameters = row.texts("parameters");
                let parameters: Vec<_> = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                payload::provision_request(row.text("token"), &parameters, format(row))
            }
            "create-from-csr" => {
                let (_, der) = x509_cert::der::pem::decode_vec(row.text("csr").as_bytes()).expect("PEM");
                payload::create_request(&der, format(row))
            }
            other => panic!("{other}"),
        };
        let (made, wanted) = (String::from_utf8_lossy(&made), row.payload());
        assert_eq!(made, String::from_utf8_lossy(&wanted), "{}", row.text("name"));
    }
    assert!(ours >= 4, "{ours}");
}

#[test]
fn answers() {
    let table = Table::read();
    for row in table.rows("answer") {
        let (name, bytes) = (row.text("name"), row.payload());
        let read = match row.text("kind") {
            "created" => payload::created(&bytes, format(row)).map(|created| {
                assert_eq!(created.certificate_id, row.text("certificate_id"), "{name}");
                assert_eq!(created.ownership_token, row.text("token"), "{name}");
                assert!(created.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{name}");
            }),
            "provisioned" => payload::provisioned(&bytes, format(row)).map(|provisioned| {
                assert_eq!(provisioned.thing_name, row.text("thing"), "{name}");
                let configuration = row.texts("configuration");
                assert_eq!(provisioned.device_configuration, configuration, "{name}");
            }),
            "rejected" => payload::rejected(&bytes, format(row)).map(|rejection| {
                assert_eq!(i64::from(rejection.status_code), row.number("status"));
                assert_eq!(rejection.error_code, row.text("code"), "{name}");
                assert_eq!(rejection.error_message, row.text("message"), "{name}");
            }),
            other => panic!("{other}"),
        };
        assert_eq!(read.is_some(), row.is("taken"), "{name}");
    }
    assert!(table.rows("answer").len() >= 15);
}
