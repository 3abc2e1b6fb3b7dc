//! Enrollment over Secure Transport (RFC 7030), against a running broker.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;
mod site;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peer::Device;
use site::{Client, Response, Site, csr_with, der, request_for};
use x509_parser::prelude::{FromDer, X509Certificate};

const EST: &str = "/.well-known/est";

fn basic(device: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{device}:{token}")))
}

/// Asks for a certificate: `csr` is PEM, and sent as base64 of its DER.
fn enrol(client: &mut Client, path: &str, csr: &str, authorization: Option<&str>) -> Response {
    let body = STANDARD.encode(der(csr));
    let mut fields = vec![("Content-Type", "application/pkcs10")];
    fields.extend(authorization.map(|value| ("Authorization", value)));
    client.request("POST", &format!("{EST}{path}"), &fields, body.as_bytes())
}

/// One element of DER: its tag, its content, and what comes after it.
fn element(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, at) = match bytes[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        0x81 => (usize::from(bytes[2]), 3),
        0x82 => (usize::from(bytes[2]) << 8 | usize::from(bytes[3]), 4),
        _ => panic!("a length of more than two bytes"),
    };
    (bytes[0], &bytes[at..at + length], &bytes[at + length..])
}

/// The certificates in a certs-only message.
fn certificates(answer: &Response) -> Vec<Vec<u8>> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.headers["content-type"].starts_with("application/pkcs7-mime"), "{answer:?}");
    // What a small client needs: one read for the header.
    assert!(answer.header_bytes < 1024);
    let message = STANDARD.decode(answer.text().replace('\n', "")).unwrap();
    let (tag, content_info, rest) = element(&message);
    assert_eq!((tag, rest.len()), (0x30, 0));
    let (_, _oid, explicit) = element(content_info);
    let (tag, signed, _) = element(explicit);
    assert_eq!(tag, 0xa0);
    let (_, mut fields, _) = element(signed);
    loop {
        let (tag, content, rest) = element(fields);
        if tag == 0xa0 {
            let mut certificates = Vec::new();
            let mut left = content;
            while !left.is_empty() {
                let rest = element(left).2;
                certificates.push(left[..left.len() - rest.len()].to_vec());
                left = rest;
            }
            return certificates;
        }
        fields = rest;
    }
}

fn the_one(answer: &Response) -> Vec<u8> {
    let mut all = certificates(answer);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// What is refused: the status, with text for people.
fn refusal(answer: &Response) -> u16 {
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{answer:?}");
    assert!(answer.text().ends_with('\n') && answer.text().len() > 5);
    answer.status
}

/// A device that was enrolled with a token; its folder has its name.
fn enrolled(site: &Site, name: &str) -> rcgen::KeyPair {
    let (key, csr) = request_for(name);
    let answer = enrol(&mut site.visit(), "/simpleenroll", &csr, Some(&basic(name, &site.token(name))));
    site.store(name, &key, &the_one(&answer));
    key
}

#[test]
fn anybody_gets_the_authoritys_certificates_and_the_wanted_attributes() {
    let site = Site::started("");
    let mut client = site.visit();
    let mut given = certificates(&client.get(&format!("{EST}/cacerts")));
    let read = |name: &str| der(&fs::read_to_string(site.path(name)).unwrap());
    let mut expected = vec![read("ca/issuing.crt"), read("root/root.crt")];
    given.sort();
    expected.sort();
    assert_eq!(given, expected);
    let attributes = client.get(&format!("{EST}/csrattrs"));
    assert_eq!(attributes.headers["content-type"], "application/csrattrs");
    assert_eq!(STANDARD.decode(&attributes.body).unwrap()[0], 0x30);
}

#[test]
fn a_device_enrols_with_a_token_and_connects_and_the_token_is_used_up() {
    let site = Site::started("");
    let token = site.token("sensor-1");
    let (key, csr) = request_for("sensor-1");
    let authorization = basic("sensor-1", &token);
    let answer = enrol(&mut site.visit(), "/simpleenroll", &csr, Some(&authorization));
    assert_eq!(answer.headers["content-type"], "application/pkcs7-mime; smime-type=certs-only");
    assert!(!answer.text().contains('\n'), "strongSwan reads one line only");
    site.store("sensor-1", &key, &the_one(&answer));
    let mut device = Device::dial(site.mqtt(), &site.path("pki/root-ca.crt"), &site.path("sensor-1"));
    assert_eq!(device.connack(), 0);
    let again = enrol(&mut site.visit(), "/simpleenroll", &csr, Some(&authorization));
    assert_eq!(refusal(&again), 401);
    assert_eq!(site.certificates("sensor-1").len(), 1);
}

#[test]
fn who_proves_nothing_or_the_wrong_thing_is_asked_for_it() {
    let site = Site::started("");
    let token = site.token("sensor-1");
    let (_, csr) = request_for("sensor-1");
    let mut client = site.visit();
    for authorization in [
        None,
        Some(basic("sensor-1", "wrong")),
        Some(basic("sensor-2", &token)),
        Some(basic("", &token)),
        Some(format!("Bearer {token}")),
        Some("Basic !!!".to_owned()),
    ] {
        let answer = enrol(&mut client, "/simpleenroll", &csr, authorization.as_deref());
        assert_eq!(refusal(&answer), 401, "{authorization:?}");
        assert_eq!(answer.headers["www-authenticate"], "Basic realm=\"EST\", charset=\"UTF-8\"");
    }
    // Somebody without anything is no event; somebody with something wrong is.
    assert_eq!(site.refusals().len(), 5);
    assert!(site.refused(&["device", "show", "sensor-1"]).contains("sensor-1"));
    assert_eq!(enrol(&mut client, "/simpleenroll", &csr, Some(&basic("sensor-1", &token))).status, 200);
}

#[test]
fn a_request_is_taken_in_every_form_that_clients_send_and_in_no_other() {
    let site = Site::started("");
    let mut client = site.visit();
    let mut ask = |kind: &str, body: &dyn Fn(&str) -> Vec<u8>, name: &str| {
        let (_, csr) = request_for(name);
        let authorization = basic(name, &site.token(name));
        let fields = [
            ("Content-Type", kind),
            ("Authorization", &authorization),
            ("Content-Transfer-Encoding", "8bit"),
        ];
        client.request("POST", &format!("{EST}/simpleenroll"), &fields, &body(&csr)).status
    };
    let lines = |csr: &str| {
        let text = STANDARD.encode(der(csr));
        text.as_bytes().chunks(64).flat_map(|line| [line, b"\r\n"].concat()).collect::<Vec<u8>>()
    };
    assert_eq!(ask("application/pkcs10", &lines, "lines"), 200);
    assert_eq!(ask("Application/PKCS10; charset=x", &|csr| csr.as_bytes().to_vec(), "pem"), 200);
    assert_eq!(ask("application/pkcs10", &|csr| der(csr), "der"), 200);
    assert_eq!(ask("application/x-www-form-urlencoded", &lines, "form"), 415);
    assert_eq!(ask("application/pkcs10", &|_| b"{}".to_vec(), "json"), 400);
    assert_eq!(ask("application/pkcs10", &|_| Vec::new(), "nothing"), 400);
    assert_eq!(ask("application/pkcs10", &|_| b"MAA=".to_vec(), "other-der"), 400);
    assert_eq!(ask("application/pkcs10", &|_| lines(&request_for("somebody-else").1), "me"), 400);
    assert_eq!(ask("application/pkcs10", &|_| vec![b'A'; 40_000], "much"), 413);
}

#[test]
fn a_device_renews_its_certificate_with_a_new_key_and_the_old_one_goes_when_the_new_one_has_connected() {
    let site = Site::started("");
    let old = enrolled(&site, "sensor-1");
    let (new, csr) = request_for("sensor-1");
    let answer = enrol(&mut site.visit_as("sensor-1"), "/simplereenroll", &csr, None);
    site.store("renewed", &new, &the_one(&answer));
    let statuses = || -> Vec<String> {
        let rows = site.certificates("sensor-1");
        rows.iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(statuses(), ["active", "active"]);
    // The answer got lost: with the old one it may ask again, and what it never had is replaced.
    let answer = enrol(&mut site.visit_as("sensor-1"), "/simplereenroll", &csr, None);
    site.store("renewed", &new, &the_one(&answer));
    assert_eq!(statuses(), ["active", "revoked", "active"]);
    let root = site.path("pki/root-ca.crt");
    assert_eq!(Device::dial(site.mqtt(), &root, &site.path("renewed")).connack(), 0);
    assert_eq!(site.certificates("sensor-1")[0]["replaced-by"], site.certificates("sensor-1")[2]["id"]);
    // The same key again is a renewal too.
    let same = csr_with("sensor-1", &new, |_| {});
    assert_eq!(enrol(&mut site.visit_as("renewed"), "/simplereenroll", &same, None).status, 200);
    drop(old);
}

#[test]
fn a_renewal_keeps_the_names_of_the_certificate() {
    let site = Site::started("");
    enrolled(&site, "sensor-1");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut client = site.visit_as("sensor-1");
    let mut ask = |csr: &str| enrol(&mut client, "/simplereenroll", csr, None);
    let other = [
        csr_with("sensor-2", &key, |_| {}),
        csr_with("", &key, |_| {}),
        csr_with("sensor-1", &key, |params| {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "More");
        }),
        csr_with("sensor-1", &key, |params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("sensor-1".try_into().unwrap())];
        }),
    ];
    for csr in &other {
        assert_eq!(refusal(&ask(csr)), 403);
    }
    assert_eq!(site.certificates("sensor-1").len(), 1);
    // PrintableString where UTF8String stood is the same name.
    let printable = csr_with("", &key, |params| {
        let name = rcgen::DnValue::PrintableString("sensor-1".try_into().unwrap());
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    });
    assert_eq!(ask(&printable).status, 200);
}

#[test]
fn a_certificate_that_is_not_in_force_renews_nothing() {
    let site = Site::started("");
    enrolled(&site, "sensor-1");
    let (_, csr) = request_for("sensor-1");
    assert_eq!(refusal(&enrol(&mut site.visit(), "/simplereenroll", &csr, None)), 403, "none was shown");
    let token = basic("sensor-1", &site.token("sensor-1"));
    let by_token = enrol(&mut site.visit(), "/simplereenroll", &csr, Some(&token));
    assert_eq!(refusal(&by_token), 403, "a token renews nothing");
    let mut open = site.visit_as("sensor-1");
    assert_eq!(open.get(&format!("{EST}/cacerts")).status, 200);
    site.ask(&["device", "suspend", "sensor-1"]);
    assert_eq!(refusal(&enrol(&mut open, "/simplereenroll", &csr, None)), 403, "a connection from before");
    assert_eq!(refusal(&enrol(&mut site.visit_as("sensor-1"), "/simplereenroll", &csr, None)), 403);
    site.ask(&["device", "activate", "sensor-1"]);
    assert_eq!(enrol(&mut site.visit_as("sensor-1"), "/simplereenroll", &csr, None).status, 200);
    site.ask(&["device", "revoke", "sensor-1"]);
    assert_eq!(refusal(&enrol(&mut site.visit_as("sensor-1"), "/simpleenroll", &csr, None)), 403);
}

#[test]
fn asking_over_https_again_and_again_bars_nobody() {
    let site = Site::started("");
    enrolled(&site, "sensor-1");
    let (_, csr) = request_for("sensor-1");
    site.ask(&["device", "suspend", "sensor-1"]);
    for _ in 0..8 {
        assert_eq!(refusal(&enrol(&mut site.visit_as("sensor-1"), "/simplereenroll", &csr, None)), 403);
    }
    let mut device = Device::dial(site.mqtt(), &site.path("pki/root-ca.crt"), &site.path("sensor-1"));
    assert_eq!(device.connack(), 0x87, "it is told why over MQTT");
}

#[test]
fn who_is_barred_over_mqtt_is_not_looked_at_over_https_either() {
    let site = Site::started("");
    enrolled(&site, "sensor-1");
    site.ask(&["device", "suspend", "sensor-1"]);
    for _ in 0..5 {
        let mut device = Device::dial(site.mqtt(), &site.path("pki/root-ca.crt"), &site.path("sensor-1"));
        assert_eq!(device.connack(), 0x87);
    }
    let mut client = site.visit_as("sensor-1");
    assert!(client.try_request("GET", &format!("{EST}/cacerts"), &[], b"").is_err());
    let failures = site.failures(|failures| !failures["by-cause"]["refused_before"].is_null());
    assert_eq!(failures["by-cause"]["refused_before"], 1, "{failures}");
    site.ask(&["device", "activate", "sensor-1"]);
    assert_eq!(site.visit_as("sensor-1").get(&format!("{EST}/cacerts")).status, 200);
}

#[test]
fn a_certificate_of_a_foreign_authority_does_not_get_through_the_handshake() {
    let site = Site::started("");
    for (name, file) in [("device.key", "foreign-ca.key"), ("device-chain.crt", "foreign-ca-chain.crt")] {
        fs::create_dir_all(site.path("foreign")).unwrap();
        fs::copy(site.path("pki").join(file), site.path("foreign").join(name)).unwrap();
    }
    let mut client = site.visit_as("foreign");
    assert!(client.try_request("GET", &format!("{EST}/cacerts"), &[], b"").is_err());
    let failures = site.failures(|failures| failures["total"] != 0);
    assert_eq!(failures["total"], 1, "{failures}");
    assert_eq!(site.visit().get(&format!("{EST}/cacerts")).status, 200);
}

#[test]
fn a_label_is_a_profile_with_its_own_validity_and_lines() {
    let site = Site::started("[[est.label]]\nname = \"daily\"\nvalidity = \"24h\"\ncolumns = 64\n");
    let (key, csr) = request_for("sensor-1");
    let authorization = basic("sensor-1", &site.token("sensor-1"));
    let mut client = site.visit();
    let unknown = enrol(&mut client, "/weekly/simpleenroll", &csr, Some(&authorization));
    assert_eq!(refusal(&unknown), 404, "a label that nobody wrote");
    let answer = enrol(&mut client, "/daily/simpleenroll", &csr, Some(&authorization));
    assert!(answer.text().ends_with('\n') && answer.text().lines().all(|line| line.len() <= 64));
    let hours = |der: &[u8]| {
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        let validity = certificate.validity();
        (validity.not_after.timestamp() - validity.not_before.timestamp()) / 3600
    };
    let daily = the_one(&answer);
    assert_eq!(hours(&daily), 24 + 1, "and an hour before");
    site.store("sensor-1", &key, &daily);
    // Renewed at hour 18, or at any other while it is in force: another 24 hours.
    let again = enrol(&mut site.visit_as("sensor-1"), "/daily/simplereenroll", &csr, None);
    assert_eq!(hours(&the_one(&again)), 25);
    let plain = enrol(&mut site.visit_as("sensor-1"), "/simplereenroll", &csr, None);
    assert_eq!(hours(&the_one(&plain)), 25, "another path gives a renewal no longer life");
    let other = basic("sensor-2", &site.token("sensor-2"));
    let (_, csr) = request_for("sensor-2");
    let plain = enrol(&mut client, "/simpleenroll", &csr, Some(&other));
    assert_eq!(hours(&the_one(&plain)), 90 * 24 + 1, "the path without a label is as [ca] says");
    assert!(client.get(&format!("{EST}/daily/cacerts")).text().contains('\n'));
    assert!(client.get("/daily/.well-known/est/cacerts").text().contains('\n'), "as strongSwan writes it");
    assert_eq!(refusal(&client.get("/weekly/.well-known/est/cacerts")), 404);
}

#[test]
fn an_enrolment_waits_for_an_operator_where_the_label_says_so() {
    let site = Site::started("[[est.label]]\napproval = true\n");
    let (_, csr) = request_for("sensor-1");
    let authorization = basic("sensor-1", &site.token("sensor-1"));
    let mut client = site.visit();
    let mut ask = |csr: &str| enrol(&mut client, "/simpleenroll", csr, Some(&authorization));
    let (_, for_another) = request_for("sensor-2");
    assert_eq!(refusal(&ask(&for_another)), 400, "an operator is not asked about what cannot be");
    let waits = ask(&csr);
    assert_eq!((waits.status, waits.headers["retry-after"].as_str()), (202, "5"));
    assert_eq!(ask(&csr).status, 202);
    let pending = site.ask(&["est", "pending"]);
    assert_eq!(pending.as_array().unwrap().len(), 1, "{pending}");
    assert_eq!(
        (pending[0]["device"].as_str(), pending[0]["state"].as_str()),
        (Some("sensor-1"), Some("waiting"))
    );
    let id = pending[0]["id"].as_str().unwrap();
    site.ask(&["est", "approve", &id[..16]]);
    // What was approved is this key, not whatever comes under this name.
    assert_eq!(ask(&request_for("sensor-1").1).status, 202);
    let id = signet_identity::CertificateId::of(&the_one(&ask(&csr))).to_string();
    assert_eq!(site.certificates("sensor-1").iter().map(|row| &row["id"]).collect::<Vec<_>>(), [&id]);
    let rows = site.ask(&["audit", "list", "--kind", "approval_decided", "--name", "sensor-1"]);
    assert!(rows.to_string().contains("of sensor-1 approved"), "{rows}");
    assert_eq!(ask(&csr).status, 401, "the token is used up");
}

#[test]
fn what_was_approved_at_one_label_waits_at_another() {
    let labels = [("daily", "24h"), ("decade", "87600h")].map(|(name, validity)| {
        format!("[[est.label]]\nname = \"{name}\"\nvalidity = \"{validity}\"\napproval = true\n")
    });
    let site = Site::started(&labels.concat());
    let (_, csr) = request_for("sensor-1");
    let authorization = basic("sensor-1", &site.token("sensor-1"));
    let ask =
        |label: &str| enrol(&mut site.visit(), &format!("/{label}/simpleenroll"), &csr, Some(&authorization));
    assert_eq!(ask("daily").status, 202);
    let pending = site.ask(&["est", "pending"]);
    assert_eq!(pending[0]["label"], "daily");
    site.ask(&["est", "approve", pending[0]["id"].as_str().unwrap()]);
    assert_eq!(ask("decade").status, 202, "the operator was shown a certificate of one day");
    let pending = site.ask(&["est", "pending"]);
    let mut rows: Vec<_> =
        pending.as_array().unwrap().iter().map(|row| [&row["label"], &row["state"]]).collect();
    rows.sort_by_key(|row| row[0].to_string());
    assert_eq!(rows, [["daily", "approved"], ["decade", "waiting"]]);
    let der = the_one(&ask("daily"));
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let secs = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert!(secs <= 25 * 3600, "{secs} s");
}

#[test]
fn one_device_does_not_fill_the_audit_trail_with_requests_that_wait() {
    let site = Site::started("[[est.label]]\napproval = true\n");
    let ask = |name: &str, authorization: &str| {
        enrol(&mut site.visit(), "/simpleenroll", &request_for(name).1, Some(authorization))
    };
    let authorization = basic("sensor-1", &site.token("sensor-1"));
    let answers: Vec<_> = (0..30).map(|_| ask("sensor-1", &authorization)).collect();
    assert!(answers[..4].iter().all(|answer| answer.status == 202));
    for answer in &answers[4..] {
        // By the device's rate, or because what it asked before stands for a while.
        assert!([429, 503].contains(&refusal(answer)), "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "5");
    }
    assert!(answers[4..].iter().any(|answer| answer.status == 429), "asking costs what signing costs");
    let kinds = ["approval_asked", "approval_ended"];
    let rows = kinds.map(|kind| {
        let rows = site.ask(&["audit", "list", "--kind", kind, "--name", "sensor-1"]);
        rows.as_array().unwrap().len()
    });
    assert_eq!(rows, [4, 0]);
    let other = basic("sensor-2", &site.token("sensor-2"));
    assert_eq!(ask("sensor-2", &other).status, 202, "its neighbour is not held up");
}

#[test]
fn what_waits_and_what_an_operator_said_outlive_the_broker() {
    let mut site = Site::started("[[est.label]]\napproval = true\n");
    let devices = ["sensor-1", "sensor-2", "sensor-3"].map(|name| {
        let authorization = basic(name, &site.token(name));
        (name, request_for(name).1, authorization)
    });
    let ask = |site: &Site, (_, csr, authorization): &(&str, String, String)| {
        enrol(&mut site.visit(), "/simpleenroll", csr, Some(authorization)).status
    };
    for device in &devices {
        assert_eq!(ask(&site, device), 202);
    }
    let id_of = |site: &Site, name: &str| {
        let pending = site.ask(&["est", "pending"]);
        let row = pending.as_array().unwrap().iter().find(|row| row["device"] == name).unwrap().clone();
        (row["id"].as_str().unwrap().to_owned(), row["state"].as_str().unwrap().to_owned())
    };
    site.ask(&["est", "approve", &id_of(&site, "sensor-1").0]);
    site.ask(&["est", "reject", &id_of(&site, "sensor-2").0]);
    site.start_again();
    let states = devices.each_ref().map(|(name, ..)| id_of(&site, name).1);
    assert_eq!(states, ["approved", "rejected", "waiting"]);
    assert_eq!(devices.each_ref().map(|device| ask(&site, device)), [200, 403, 202]);
    // It was approved for one certificate.
    assert_eq!(site.ask(&["est", "pending"]).as_array().unwrap().len(), 2);
    site.start_again();
    assert_eq!(site.ask(&["est", "pending"]).as_array().unwrap().len(), 2);
}

#[test]
fn one_device_does_not_have_the_authority_sign_without_end() {
    let site = Site::started("");
    enrolled(&site, "sensor-1");
    enrolled(&site, "sensor-2");
    let renew = |name: &str| {
        let (_, csr) = request_for(name);
        enrol(&mut site.visit_as(name), "/simplereenroll", &csr, None)
    };
    let answer = (0..30).map(|_| renew("sensor-1")).find(|answer| answer.status != 200).unwrap();
    assert_eq!((refusal(&answer), answer.headers["retry-after"].as_str()), (429, "5"));
    assert_eq!(renew("sensor-2").status, 200, "its neighbour is not held up");
}

#[test]
fn a_rejected_enrolment_stays_rejected_and_is_recorded() {
    let site = Site::started("[[est.label]]\nname = \"hall\"\napproval = true\n");
    let (_, csr) = request_for("sensor-1");
    let authorization = basic("sensor-1", &site.token("sensor-1"));
    let ask = || enrol(&mut site.visit(), "/hall/simpleenroll", &csr, Some(&authorization));
    assert_eq!(ask().status, 202);
    let id = site.ask(&["est", "pending"])[0]["id"].as_str().unwrap().to_owned();
    site.ask(&["est", "reject", &id]);
    assert_eq!(refusal(&ask()), 403);
    assert!(site.refusals()[0].contains("rejected"));
    assert!(site.refused(&["est", "approve", "0123456789abcdef"]).contains("no enrolment"));
    assert!(site.refused(&["device", "show", "sensor-1"]).contains("sensor-1"));
    // An operator may have second thoughts.
    site.ask(&["est", "approve", &id]);
    assert_eq!(ask().status, 200);
}

#[test]
fn other_methods_and_operations_are_refused_in_text() {
    let site = Site::started("");
    let mut client = site.visit();
    let mut ask = |method: &str, path: &str| client.request(method, &format!("{EST}{path}"), &[], b"");
    let wrong = ask("POST", "/cacerts");
    assert_eq!((refusal(&wrong), wrong.headers["allow"].as_str()), (405, "GET,HEAD"));
    assert_eq!(refusal(&ask("GET", "/simpleenroll")), 405);
    for path in ["/serverkeygen", "/fullcmc", "/a/b/cacerts", "/"] {
        assert_eq!(refusal(&ask("POST", path)), 404, "{path}");
    }
}
