//! The table that the broker's tests read too.

use signet_device_core::enrol::payload;
use signet_device_core::topic::{self, Answer, Format, is_template};
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

#[test]
fn topics() {
    let table = table();
    for row in rows(&table, "topic") {
        let (name, operation) = (text(row, "topic"), text(row, "operation"));
        let template = row.get("template").and_then(Value::as_str).unwrap_or("fleet");
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
    for row in rows(&table, "template_name") {
        assert_eq!(is_template(text(row, "name")), row["valid"].as_bool().expect("valid"), "{row}");
    }
}

#[test]
fn requests() {
    let table = table();
    let mut ours = 0;
    for row in rows(&table, "request").iter().filter(|row| row.get("device").is_some()) {
        ours += 1;
        let made = match text(row, "operation") {
            "provision" => {
                let parameters = row["parameters"].as_table().expect("parameters");
                let parameters: Vec<_> =
                    parameters.iter().map(|(k, v)| (k.as_str(), v.as_str().expect("text"))).collect();
                payload::provision_request(text(row, "token"), &parameters, format(row))
            }
            "create-from-csr" => {
                let (_, der) = x509_cert::der::pem::decode_vec(text(row, "csr").as_bytes()).expect("PEM");
                payload::create_request(&der, format(row))
            }
            other => panic!("{other}"),
        };
        let (made, wanted) = (String::from_utf8_lossy(&made), bytes(row));
        assert_eq!(made, String::from_utf8_lossy(&wanted), "{}", text(row, "name"));
    }
    assert!(ours >= 4, "{ours}");
}

#[test]
fn answers() {
    let table = table();
    for row in rows(&table, "answer") {
        let (name, bytes) = (text(row, "name"), bytes(row));
        let read = match text(row, "kind") {
            "created" => payload::created(&bytes, format(row)).map(|created| {
                assert_eq!(created.certificate_id, text(row, "certificate_id"), "{name}");
                assert_eq!(created.ownership_token, text(row, "token"), "{name}");
                assert!(created.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{name}");
            }),
            "provisioned" => payload::provisioned(&bytes, format(row)).map(|provisioned| {
                assert_eq!(provisioned.thing_name, text(row, "thing"), "{name}");
                let configuration = row["configuration"].as_table().expect("configuration");
                assert_eq!(provisioned.device_configuration.len(), configuration.len(), "{name}");
                for (key, value) in configuration {
                    assert_eq!(
                        provisioned.device_configuration[key],
                        value.as_str().expect("text"),
                        "{name}"
                    );
                }
            }),
            "rejected" => payload::rejected(&bytes, format(row)).map(|rejection| {
                assert_eq!(i64::from(rejection.status_code), row["status"].as_integer().expect("status"));
                assert_eq!(rejection.error_code, text(row, "code"), "{name}");
                assert_eq!(rejection.error_message, text(row, "message"), "{name}");
            }),
            other => panic!("{other}"),
        };
        assert_eq!(read.is_some(), row["taken"].as_bool().expect("taken"), "{name}");
    }
    assert!(rows(&table, "answer").len() >= 15);
}
