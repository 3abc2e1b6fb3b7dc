//! First boot by token, over HTTPS, against a running broker.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;
mod site;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use peer::Device;
use serde_json::{Value, json};
use signet_registry::ca::CSR_BYTES_MAX;
use site::{Client, Site, csr_with, der, request_for};

fn provision(client: &mut Client, token: &str, csr: &str) -> site::Response {
    client.post_json("/provision", &json!({ "token": token, "csr": csr }))
}

#[test]
fn a_device_with_a_token_gets_a_certificate_that_connects_and_the_token_is_used_up() {
    let site = Site::started("");
    let made = site.ask(&["token", "create", "sensor-1", "--group", "hall", "--note", "for the hall"]);
    let token = made["token"].as_str().unwrap();
    let (key, csr) = request_for("sensor-1");
    let answer = provision(&mut site.visit(), token, &csr);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["cache-control"], "no-store");
    let answer = answer.json();
    assert_eq!(answer["device_id"], "sensor-1");
    let certificate = answer["certificate"].as_str().unwrap();
    let chain = answer["ca_chain"].as_str().unwrap();
    let issuing = fs::read_to_string(site.path("ca/issuing.crt")).unwrap();
    let root = fs::read_to_string(site.path("root/root.crt")).unwrap();
    assert_eq!(chain, format!("{issuing}{root}"));
    site.store("sensor-1", &key, &der(certificate));
    let mut device = Device::dial(site.mqtt(), &site.path("pki/root-ca.crt"), &site.path("sensor-1"));
    assert_eq!(device.connack(), 0);
    let shown = site.ask(&["device", "show", "sensor-1"]);
    assert_eq!(shown["device"]["groups"], json!(["hall"]));

    // Nobody gets a second certificate with it, not even the same device with the same key.
    let again = provision(&mut site.visit(), token, &csr);
    assert_eq!(again.refusal(), (403, "token".to_owned()));
    assert_eq!(site.certificates("sensor-1").len(), 1);
    let row = &site.ask(&["token", "list"])[0];
    assert_eq!((row["state"].as_str(), row["note"].as_str()), (Some("used"), Some("for the hall")));
    assert_eq!(row["certificate"], site.certificates("sensor-1")[0]["id"]);
    let refusals = site.refusals();
    assert!(refusals[0].contains("127.0.0.1") && refusals[0].contains("one-time token"), "{refusals:?}");
    assert!(!site.log().contains(token), "no log has a token in it");
}

#[test]
fn an_unknown_token_and_a_withdrawn_one_are_refused_alike_and_recorded() {
    let site = Site::started("");
    let made = site.ask(&["token", "create", "sensor-1"]);
    let (_, csr) = request_for("sensor-1");
    let token = made["token"].as_str().unwrap();
    let wrong: String = token.chars().rev().collect();
    let unknown = provision(&mut site.visit(), &wrong, &csr);
    site.ask(&["token", "revoke", &made["id"].as_str().unwrap()[..16]]);
    let withdrawn = provision(&mut site.visit(), token, &csr);
    let empty = provision(&mut site.visit(), "", &csr);
    for answer in [&unknown, &withdrawn, &empty] {
        assert_eq!(answer.refusal(), (403, "token".to_owned()));
        assert_eq!(answer.body, unknown.body, "which of them it is, is not said");
    }
    assert_eq!(site.refusals().len(), 3);
    assert!(site.refused(&["device", "show", "sensor-1"]).contains("sensor-1"));
    assert!(site.refused(&["token", "revoke", &"0".repeat(64)]).contains("unknown"));
    assert!(site.refused(&["token", "create", "sensor-1", "--valid", "10s"]).contains("a minute"));
    assert!(site.refused(&["token", "create", "a/b"]).contains("name"));
}

#[test]
fn a_device_that_lost_every_answer_gets_in_with_a_new_token_and_what_connects_stays() {
    let site = Site::started("");
    let (key, csr) = request_for("sensor-1");
    let boot = || provision(&mut site.visit(), &site.token("sensor-1"), &csr);
    // Nobody has ever connected with these: their answers got lost.
    for _ in 0..3 {
        assert_eq!(boot().status, 200);
    }
    let answer = boot();
    assert_eq!(answer.status, 200, "{}", answer.text());
    site.store("sensor-1", &key, &der(answer.json()["certificate"].as_str().unwrap()));
    let connects =
        |folder: &str| Device::dial(site.mqtt(), &site.path("pki/root-ca.crt"), &site.path(folder)).connack();
    assert_eq!(connects("sensor-1"), 0);
    for _ in 0..2 {
        assert_eq!(boot().status, 200);
    }
    assert_eq!(connects("sensor-1"), 0, "what has connected gives way to no token");
    let last = boot();
    site.store("last", &key, &der(last.json()["certificate"].as_str().unwrap()));
    assert_eq!(connects("last"), 0);
    assert_eq!(boot().refusal(), (409, "conflict".to_owned()), "two are in use");
}

#[test]
fn a_peer_that_sends_more_than_a_handshake_may_have_is_cut_off_as_with_mqtt() {
    // Longer than the test: it is not the time that ends it.
    let site = Site::started("handshake-timeout = \"2m\"\n");
    let mut peer = TcpStream::connect(site.https()).unwrap();
    // A ClientHello of 65 280 bytes, of which three records of 16 384 come.
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.resize(5 + 16 * 1024, 0);
    record[5..9].copy_from_slice(&[1, 0, 0xFF, 0]);
    for _ in 0..3 {
        // It may be cut off before all of it is written.
        let _ = peer.write_all(&record);
        record[5..9].fill(0);
    }
    let failures = site.failures(|failures| failures["total"] != 0);
    let reason = failures["records"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("handshake-bytes-max"), "{reason}");
    assert_eq!(site.visit().get("/openapi.json").status, 200);
}

#[test]
fn who_says_nothing_makes_room_for_who_comes_next() {
    let site = Site::started("max-connections = 2\nhandshake-timeout = \"2m\"\n");
    let silent = [(); 2].map(|()| TcpStream::connect(site.https()).unwrap());
    assert_eq!(site.visit().get("/openapi.json").status, 200);
    let [older, newer] = &silent;
    assert!(is_closed(older));
    newer.set_nonblocking(true).unwrap();
    assert_eq!({ newer }.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // It is told which bounds may be reached, those of the address included, and counted.
    let failures = site.failures(|failures| failures["total"] != 0);
    let reason = failures["records"][0]["reason"].as_str().unwrap();
    for name in ["handshakes-in-flight-max", "memory-max", "max-connections"] {
        assert!(reason.contains(name), "{name}: {reason}");
    }
}

/// Whether the broker ends a connection on which it says nothing.
fn is_closed(mut peer: &TcpStream) -> bool {
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match peer.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn who_finds_every_place_of_https_taken_drives_nobody_out_of_mqtt() {
    let mut site = Site::new("max-connections = 2\n");
    let file = site.path("signet.toml");
    let (most, patient) = ("max-connections = 10\n", "max-connections = 10\nhandshake-timeout = \"2m\"\n");
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen(most, patient, 1)).unwrap();
    site.start();
    let mut shaking = TcpStream::connect(site.mqtt()).unwrap();
    let mut inside = [(); 2].map(|()| site.visit());
    for client in &mut inside {
        assert_eq!(client.get("/openapi.json").status, 200);
    }
    let third = TcpStream::connect(site.https()).unwrap();
    assert!(is_closed(&third), "both places are taken");
    // Its handshake goes on.
    site.hello().write_tls(&mut shaking).unwrap();
    shaking.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = [0];
    shaking.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [22], "a handshake record");
}

#[test]
fn of_many_that_race_with_one_token_one_gets_a_certificate() {
    const RACERS: usize = 8;
    let site = Site::started("");
    let token = site.token("sensor-1");
    let barrier = Barrier::new(RACERS);
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|_| {
                scope.spawn(|| {
                    let (_, csr) = request_for("sensor-1");
                    let mut client = site.visit();
                    assert_eq!(client.get("/openapi.json").status, 200);
                    barrier.wait();
                    provision(&mut client, &token, &csr).status
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [[200].as_slice(), &[403; RACERS - 1]].concat());
    assert_eq!(site.certificates("sensor-1").len(), 1);
}

#[test]
fn a_bad_signing_request_is_told_what_is_wrong_and_leaves_the_token_as_it_was() {
    let site = Site::started("");
    let token = site.token("sensor-1");
    let key = rcgen::KeyPair::generate().unwrap();
    let weak = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let good = csr_with("sensor-1", &key, |_| {});
    let mut false_proof = der(&good);
    *false_proof.last_mut().unwrap() ^= 1;
    let authority = csr_with("sensor-1", &key, |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let cases = [
        ("no request at all", "0 signing requests", "PKCS #10"),
        (&good[..good.len() / 2], "", ""),
        (&format!("{good}{good}"), "2 signing requests", "one"),
        (&csr_with("sensor-2", &key, |_| {}), "sensor-2", "sensor-1"),
        (&csr_with("sensor-1", &weak, |_| {}), "Ed25519", "P-256"),
        (&authority, "authority", "no extensions"),
        (
            &csr_with("sensor-1", &key, |params| {
                params.subject_alt_names =
                    vec![rcgen::SanType::DnsName("broker.example.org".try_into().unwrap())];
            }),
            "alternative name",
            "no extensions",
        ),
        (&pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", false_proof)), "", ""),
        (&"A".repeat(CSR_BYTES_MAX + 1), "at most", "PKCS #10"),
    ];
    let mut client = site.visit();
    for (csr, what, hint) in cases {
        let answer = provision(&mut client, &token, csr);
        assert_eq!(answer.refusal(), (400, "csr".to_owned()), "{csr:.60}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(what) && message.contains(hint), "{message}");
    }
    assert!(site.refused(&["device", "show", "sensor-1"]).contains("sensor-1"), "nobody was added");
    assert!(site.refusals()[0].contains("sensor-1"));
    assert_eq!(provision(&mut client, &token, &good).status, 200);
}

#[test]
fn a_key_of_another_device_is_refused_and_leaves_the_token_as_it_was() {
    let site = Site::started("");
    let (key, csr) = request_for("");
    assert_eq!(provision(&mut site.visit(), &site.token("sensor-1"), &csr).status, 200, "no name is fine");
    let token = site.token("sensor-2");
    assert_eq!(provision(&mut site.visit(), &token, &csr_with("", &key, |_| {})).refusal().0, 403);
    assert_eq!(provision(&mut site.visit(), &token, &request_for("").1).status, 200);
}

#[test]
fn what_is_no_request_of_this_service_has_its_own_status() {
    let site = Site::started("body-bytes-max = \"4KiB\"\n");
    let token = site.token("sensor-1");
    let json = ("Content-Type", "application/json");
    let valid = serde_json::to_vec(&json!({ "token": token, "csr": request_for("sensor-1").1 })).unwrap();
    let mut client = site.visit();
    let mut ask = |method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]| {
        let answer = client.request(method, path, fields, body);
        let (status, error) = answer.refusal();
        (status, error, answer)
    };
    for (body, status) in [
        (&b"{"[..], 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (&[b'['; 2000], 422),
        (b"[]", 422),
        (b"{\"token\": \"x\"}", 422),
        (b"{\"token\": 7, \"csr\": \"x\"}", 422),
        (b"{\"token\": \"x\", \"csr\": \"x\", \"device_id\": \"other\"}", 422),
        (b"{\"token\": \"x\", \"token\": \"y\", \"csr\": \"x\"}", 422),
    ] {
        assert_eq!(ask("POST", "/provision", &[json], body).0, status, "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(ask("POST", "/provision", &[], &valid).0, 415);
    assert_eq!(ask("POST", "/provision", &[("Content-Type", "text/plain")], &valid).0, 415);
    assert_eq!(ask("POST", "/provision", &[json], &vec![b' '; 4097]).0, 413);
    let (status, _, answer) = ask("GET", "/provision", &[], b"");
    assert_eq!((status, answer.headers["allow"].as_str()), (405, "POST"));
    let (status, _, answer) = ask("DELETE", "/openapi.json", &[], b"");
    assert_eq!((status, answer.headers["allow"].as_str()), (405, "GET,HEAD"));
    for path in
        ["/", "/provision/", "/provision/x", "/status", "/metrics", "/registry/tokens", "/../provision"]
    {
        assert_eq!(ask("POST", path, &[json], &valid).0, 404, "{path}");
    }
    // After all of that the connection and the token are as good as before.
    assert_eq!(
        client
            .request("POST", "/provision", &[("content-type", "Application/JSON; charset=utf-8")], &valid)
            .status,
        200
    );
}

#[test]
fn an_operator_makes_tokens_over_https_and_nobody_else_does() {
    let site = Site::started("");
    site.ask(&["operator", "add", "ada", "--key", "--out", "out"]);
    site.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    let wanted =
        json!({ "device_id": "sensor-2", "valid_seconds": 120, "groups": ["hall"], "note": "bench 3" });
    let nobody = site.visit().post_json("/generate-token", &wanted);
    assert_eq!(nobody.refusal(), (401, "unauthorized".to_owned()));
    assert!(nobody.headers.contains_key("www-authenticate"));
    let device = site.visit_as("out/sensor-1").post_json("/generate-token", &wanted);
    assert_eq!(device.refusal(), (403, "role".to_owned()));
    assert!(site.ask(&["token", "list"]).as_array().unwrap().is_empty());

    let mut operator = site.visit_as("out/ada");
    let made = operator.post_json("/generate-token", &wanted);
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    assert_eq!(made["device_id"], "sensor-2");
    let row = site.ask(&["token", "list"])[0].clone();
    assert_eq!((row["device"].as_str(), row["note"].as_str()), (Some("sensor-2"), Some("bench 3")));
    let good_for = row["until-ms"].as_u64().unwrap() - row["added-ms"].as_u64().unwrap();
    assert!((100_000..=120_000).contains(&good_for), "{good_for}");
    let audit = site.ask(&["audit", "list", "--kind", "token_added"]);
    assert!(audit[0]["actor"].as_str().unwrap().contains("operator ada"), "{audit}");
    let token = made["token"].as_str().unwrap();
    assert_eq!(provision(&mut site.visit(), token, &request_for("sensor-2").1).status, 200);

    for (body, status) in [
        (json!({ "device_id": "a/b" }), 422),
        (json!({ "device_id": "sensor-3", "valid_seconds": 59 }), 422),
        (json!({ "device_id": "sensor-3", "valid_seconds": 100 * 86_400 }), 422),
        (json!({ "device_id": "sensor-3", "valid_seconds": -1 }), 422),
        (json!({ "device_id": "sensor-3", "valid_seconds": 90.5 }), 422),
        (json!({ "device_id": "sensor-3", "valid_seconds": null }), 422),
        (json!({ "device_id": "sensor-3", "note": "x".repeat(201) }), 422),
        (json!({ "device_id": "sensor-3", "valid_seconds": 90.0, "note": "x".repeat(200) }), 200),
        (json!({ "device_id": "sensor-3", "groups": ["#"] }), 422),
        (json!({ "device_id": "sensor-3", "role": "operator" }), 422),
    ] {
        assert_eq!(operator.post_json("/generate-token", &body).status, status, "{body}");
    }
    // A connection that was an operator's does not outlive its certificate.
    let id = site.ask(&["operator", "list"])[0]["certificates"][0]["id"].as_str().unwrap().to_owned();
    site.ask(&["device", "suspend", "--certificate", &id]);
    assert_eq!(operator.post_json("/generate-token", &wanted).refusal(), (403, "certificate".to_owned()));
}

#[test]
fn the_description_is_served_and_says_what_is_answered() {
    let site = Site::started("");
    let served = site.visit().get("/openapi.json").json();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/provision.openapi.json");
    let kept: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(served, kept);
    let statuses = |path: &str| {
        let responses = kept["paths"][path]["post"]["responses"].as_object().unwrap();
        responses.keys().map(|status| status.parse::<u16>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(statuses("/provision"), [200, 400, 403, 405, 408, 409, 413, 415, 422, 429, 500, 503]);
    assert_eq!(statuses("/generate-token"), [200, 400, 401, 403, 405, 408, 413, 415, 422, 429, 500, 503]);
}

#[test]
fn an_address_that_asks_too_often_is_told_to_wait() {
    let site = Site::started("requests-per-address-per-minute = 3\n");
    let mut client = site.visit();
    assert!((0..3).all(|_| client.get("/openapi.json").status == 200));
    let answer = client.get("/openapi.json");
    assert_eq!(answer.refusal(), (429, "rate".to_owned()));
    let after: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!((1..=20).contains(&after), "{after}");
    assert_eq!(site.visit().get("/openapi.json").status, 429, "another connection is no way around it");
}

#[test]
fn who_is_slow_or_sends_too_much_is_cut_off_and_others_are_served() {
    let site = Site::started("header-timeout = \"1s\"\nbody-timeout = \"1s\"\nmax-connections = 4\n");
    let mut silent = site.visit();
    let mut header = site.visit();
    header.send(b"POST /provision HTTP/1.1\r\nHost: x\r\nX-Slow:").unwrap();
    let mut body = site.visit();
    body.send(b"POST /provision HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    assert_eq!(body.response().unwrap().refusal(), (408, "timeout".to_owned()));
    assert!(body.is_closed() && header.is_closed() && silent.is_closed());

    let mut huge = site.visit();
    huge.send(b"POST /provision HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n").unwrap();
    assert_eq!(huge.response().unwrap().status, 413);
    let mut wide = site.visit();
    let field = format!("X: {}\r\n", "a".repeat(40_000));
    let refused = wide.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n").as_bytes());
    assert!(
        refused.is_err() || wide.response().is_ok_and(|answer| answer.status == 431),
        "a header has its bound"
    );
    assert_eq!(site.visit().get("/openapi.json").status, 200);
}

#[test]
fn a_new_server_certificate_is_shown_after_a_reload_and_a_broken_one_changes_nothing() {
    let site = Site::started("");
    let root = site.path("pki/root-ca.crt");
    assert_eq!(site.visit().get("/openapi.json").status, 200);
    fs::write(site.path("pki/server.key"), "broken").unwrap();
    assert!(site.refused(&["reload"]).contains("server.key"));
    assert_eq!(site.visit().get("/openapi.json").status, 200);
    fs::remove_dir_all(site.path("pki")).unwrap();
    signet_certs_dev::ensure(&site.path("pki")).unwrap();
    site.ask(&["reload"]);
    // The root is new too, so this shows that the new chain is in use.
    assert_eq!(Client::dial(site.https(), &root, None).get("/openapi.json").status, 200);
}

#[test]
fn a_service_that_is_not_named_does_not_exist() {
    let site = Site::started("services = [\"est\"]\n");
    let mut client = site.visit();
    let body = json!({ "token": site.token("sensor-1"), "csr": request_for("sensor-1").1 });
    assert_eq!(client.post_json("/provision", &body).refusal().0, 404);
    assert_eq!(client.get("/openapi.json").refusal().0, 404);
    assert_eq!(client.post_json("/generate-token", &json!({ "device_id": "x" })).refusal().0, 404);
    assert_eq!(client.get("/.well-known/est/cacerts").status, 200);
}

#[test]
fn without_an_authority_the_start_is_refused_and_says_what_to_write() {
    let site = Site::new("");
    let without = site::configuration("").replace("[registry]\nmode = \"on\"\n[ca]\n", "");
    fs::write(site.path("signet.toml"), without).unwrap();
    for command in ["check", "run"] {
        let output = site.run(&[command, "--config", "signet.toml"]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("[[https]] needs [ca]") && said.contains("signet ca init"), "{said}");
    }
}

#[test]
fn a_missing_key_is_found_by_check() {
    let site = Site::new("");
    let other = site::configuration("").replacen("[[https]]", "[[https]]\ncrl = [\"none.crl\"]", 1);
    fs::write(site.path("signet.toml"), other).unwrap();
    let output = site.run(&["check", "--config", "signet.toml"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("none.crl"));
}

#[test]
fn a_revocation_counts_more_than_a_token_from_before_until_an_operator_approves() {
    let site = Site::started("");
    assert_eq!(provision(&mut site.visit(), &site.token("sensor-1"), &request_for("sensor-1").1).status, 200);
    let before = site.token("sensor-1");
    site.ask(&["device", "revoke", "sensor-1"]);
    let (_, csr) = request_for("sensor-1");
    let answer = provision(&mut site.visit(), &before, &csr);
    assert_eq!(answer.refusal(), (403, "denied".to_owned()), "{}", answer.text());
    site.ask(&["device", "approve", "sensor-1", "--for", "1h"]);
    site.ask(&["device", "approve", "sensor-1", "--withdraw"]);
    assert_eq!(provision(&mut site.visit(), &before, &csr).status, 403);
    site.ask(&["device", "approve", "sensor-1"]);
    assert_eq!(provision(&mut site.visit(), &before, &csr).status, 200);
    // A token from after is an operator's word by itself.
    site.ask(&["device", "revoke", "sensor-1"]);
    assert_eq!(provision(&mut site.visit(), &site.token("sensor-1"), &request_for("sensor-1").1).status, 200);
}

#[test]
fn requests_in_pieces_and_several_at_once_are_answered_in_order() {
    let site = Site::started("");
    let body = json!({ "token": site.token("sensor-1"), "csr": request_for("sensor-1").1 }).to_string();
    let mut client = site.visit();
    let head = "POST /provision HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head.as_bytes()).unwrap();
    for piece in body.as_bytes().chunks(100) {
        client
            .send(format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()).as_bytes())
            .unwrap();
    }
    client
        .send(
            b"0\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .unwrap();
    let statuses: Vec<u16> = (0..3).map(|_| client.response().unwrap().status).collect();
    assert_eq!(statuses, [200, 404, 200]);
    // What is no HTTP at all ends the connection, and nothing else.
    let mut client = site.visit();
    client.send(&[0; 64]).unwrap();
    assert!(client.response().map_or(true, |answer| answer.status == 400) && client.is_closed());
    assert_eq!(site.visit().get("/openapi.json").status, 200);
}

#[test]
fn connections_beyond_the_bound_are_turned_away_and_a_place_is_free_again_after_one_ends() {
    let site = Site::started("max-connections = 1\n");
    let mut first = site.visit();
    assert_eq!(first.get("/openapi.json").status, 200);
    assert!(site.visit().try_request("GET", "/openapi.json", &[], b"").is_err());
    let last = first.request("GET", "/openapi.json", &[("Connection", "close")], b"");
    assert_eq!(last.status, 200);
    assert!(first.is_closed());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while site.visit().try_request("GET", "/openapi.json", &[], b"").is_err() {
        assert!(std::time::Instant::now() < end, "the place stays taken");
    }
}

#[test]
fn a_certificate_that_nobody_registered_is_looked_at_and_not_let_in() {
    let mut site = Site::new("client-ca = [\"outside.crt\"]\n");
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "outside");
    fs::write(site.path("outside.crt"), params.self_signed(&authority_key).unwrap().pem()).unwrap();
    let authority = rcgen::Issuer::from_params(&params, &authority_key);
    let (key, csr) = request_for("guest-1");
    let mut leaf = rcgen::CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "guest-1");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    site.store("guest-1", &key, leaf.signed_by(&key, &authority).unwrap().der());
    site.start();
    site.ask(&[
        "ca",
        "import",
        "outside.crt",
        "--names",
        "guest*",
        "--unknown",
        "auto",
        "--share-names-with",
        "own",
    ]);
    let body = STANDARD.encode(der(&csr));
    let fields = [("Content-Type", "application/pkcs10")];
    let renewal = "/.well-known/est/simplereenroll";
    let answer = site.visit_as("guest-1").request("POST", renewal, &fields, body.as_bytes());
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(site.refused(&["device", "show", "guest-1"]).contains("guest-1"), "nobody came in by that");
}

#[test]
fn a_user_name_is_recorded_only_when_it_names_somebody() {
    let site = Site::started("");
    site.token("sensor-1");
    let (_, csr) = request_for("sensor-1");
    let body = STANDARD.encode(der(&csr));
    for user in ["my-secret", "sensor-1"] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:wrong")));
        let fields = [("Content-Type", "application/pkcs10"), ("Authorization", &*basic)];
        let path = "/.well-known/est/simpleenroll";
        assert_eq!(site.visit().request("POST", path, &fields, body.as_bytes()).status, 401);
    }
    let rows = site.refusals();
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter().any(|row| row.contains("sensor-1")) && rows.iter().any(|row| row.contains("somebody"))
    );
    assert!(
        !rows.iter().any(|row| row.contains("my-secret")) && !site.log().contains("my-secret"),
        "{rows:?}"
    );
}
