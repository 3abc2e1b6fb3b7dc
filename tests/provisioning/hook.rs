//! The pre-provisioning hook: anything but a clear yes in time is a no.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signet_tests::build::V311;

use crate::device::{Asking, CSR, FLEET, Format, new_key};
use crate::factory::Factory;

/// Makes a program of a shell script. Another process writes it: one of ours that is being started could hold the file open for
/// writing, and then it could not be run.
fn script(factory: &Factory, name: &str, text: &str) {
    let path = factory.path(name);
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 700 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

/// A factory whose hook is this script.
pub(crate) fn with_script(text: &str, deadline: &str) -> Factory {
    let factory = Factory::with(&format!("hook-command = \"hook.sh\"\nhook-deadline = \"{deadline}\""));
    let text = text.replace("HERE", factory.path("").to_str().unwrap());
    script(&factory, "hook.sh", &text);
    factory
}

/// What comes of one registration.
fn outcome(factory: &Factory, serial: &str) -> Result<Value, (u64, String)> {
    let name = format!("line-{serial}");
    let claim = factory.claim(&name);
    let mut asking = Asking::connect(&claim.door(), V311, serial);
    asking.listen(&format!("{CSR}/json"));
    asking.listen(&format!("{FLEET}/json"));
    let created = asking.create(&new_key(), Format::Json);
    let answer = asking.register(&created.token, serial, Format::Json);
    if answer.accepted { Ok(answer.document) } else { Err(answer.rejected()) }
}

fn denied() -> Result<Value, (u64, String)> {
    Err((403, "AccessDenied".to_owned()))
}

#[test]
fn a_yes_lets_the_device_in_and_may_set_parameters() {
    let factory = with_script(
        "cat > HERE/question.json\necho '{\"allowProvisioning\": true, \"parameterOverrides\": {\"Location\": \"CA\"}}'",
        "700ms",
    );
    let document = outcome(&factory, "h1").unwrap();
    assert_eq!(document["deviceConfiguration"]["Url"], "https://ca.example");
    let question = std::fs::read_to_string(factory.path("question.json")).unwrap();
    let question: Value = serde_json::from_str(&question).unwrap();
    assert_eq!(question["parameters"], json!({"SerialNumber": "h1"}));
    assert_eq!((&question["clientId"], &question["templateArn"]), (&json!("h1"), &json!("fleet")));
    assert_eq!(question["certificateId"].as_str().unwrap().len(), 64);
    assert_eq!(question["claimCertificateId"].as_str().unwrap().len(), 64);
    assert!(question["certificatePem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(factory.metric("signet_provisioning_hooks_total{result=\"allowed\"}"), 1.0);
}

#[test]
fn every_answer_that_is_no_clear_yes_is_a_no() {
    for (n, text) in [
        "echo '{\"allowProvisioning\": false}'",
        "echo '{}'",
        "echo '{\"allowProvisioning\": \"true\"}'",
        "echo '{\"allowProvisioning\": 1}'",
        "echo '{\"allowProvisioning\": true'",
        "echo '{\"allowProvisioning\": true, \"allowProvisioning\": true}'",
        "echo '{\"allowProvisioning\": true, \"parameterOverrides\": {\"Location\": 7}}'",
        "echo '{\"allowProvisioning\": true}{}'",
        "echo yes",
        "true",
        "echo '{\"allowProvisioning\": true}'; exit 1",
        "echo '{\"allowProvisioning\": true}'; kill -9 $$",
        "head -c 100000 /dev/zero",
    ]
    .into_iter()
    .enumerate()
    {
        let factory = with_script(text, "700ms");
        assert_eq!(outcome(&factory, &format!("n{n}")), denied(), "{text}");
        assert_eq!(factory.registry().registry().things_count(), 0);
    }
    let factory = Factory::with("hook-command = \"missing.sh\"");
    assert_eq!(outcome(&factory, "missing"), denied());
}

#[test]
fn a_hook_that_is_late_is_a_no_and_is_ended_with_all_that_it_started() {
    let factory = with_script(
        "sleep 60 &\necho $! > HERE/child\necho $$ > HERE/leader\nsleep 60\necho '{\"allowProvisioning\": true}'",
        "300ms",
    );
    let began = Instant::now();
    assert_eq!(outcome(&factory, "late"), denied());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(factory.metric("signet_provisioning_hooks_total{result=\"hook_late\"}"), 1.0);
    for name in ["leader", "child"] {
        let id = std::fs::read_to_string(factory.path(name)).unwrap();
        let stat = format!("/proc/{}/stat", id.trim());
        factory.until("the process is gone", |_| {
            std::fs::read_to_string(Path::new(&stat)).map_or(true, |stat| stat.contains(") Z "))
        });
    }
}

#[test]
fn a_hook_that_has_answered_leaves_no_process_behind_and_sees_nothing_of_the_brokers_environment() {
    let factory = with_script(
        "env > HERE/env\nsleep 60 >/dev/null 2>&1 &\necho $! > HERE/child\necho '{\"allowProvisioning\": true}'",
        "700ms",
    );
    outcome(&factory, "tidy").unwrap();
    let id = std::fs::read_to_string(factory.path("child")).unwrap();
    let stat = format!("/proc/{}/stat", id.trim());
    factory.until("the process is gone", |_| {
        std::fs::read_to_string(Path::new(&stat)).map_or(true, |stat| stat.contains(") Z "))
    });
    let seen = std::fs::read_to_string(factory.path("env")).unwrap();
    assert!(std::env::vars().count() > 1 && seen.contains("PATH="), "{seen}");
    // The shell sets these itself.
    let own = ["PATH=", "PWD=", "OLDPWD=", "SHLVL=", "_="];
    assert!(seen.lines().all(|line| own.iter().any(|name| line.starts_with(name))), "{seen}");
}

/// Serves one HTTP request with this answer; gives the address, and in the end what was asked.
fn serve_once(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let count = stream.read(&mut bytes).unwrap();
            asked.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&asked);
            if count == 0 || (text.contains("\r\n\r\n") && text.ends_with("}}")) {
                break;
            }
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, serving)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn a_service_is_asked_by_post() {
    let (url, serving) = serve_once(http("200 OK", "{\"allowProvisioning\":true}"));
    let factory = Factory::with(&format!("hook-url = \"{url}\"\nhook-deadline = \"700ms\""));
    outcome(&factory, "p1").unwrap();
    let asked = serving.join().unwrap();
    assert!(asked.starts_with("POST /hook HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\"SerialNumber\":\"p1\""));
    for (status, body) in [
        ("500 Internal Server Error", "{\"allowProvisioning\":true}"),
        ("302 Found", "{\"allowProvisioning\":true}"),
        ("200 OK", "{\"allowProvisioning\":false}"),
        ("200 OK", ""),
    ] {
        let (url, serving) = serve_once(http(status, body));
        let factory = Factory::with(&format!("hook-url = \"{url}\"\nhook-deadline = \"700ms\""));
        assert_eq!(outcome(&factory, "p2"), denied(), "{status} {body}");
        serving.join().unwrap();
    }
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let factory = Factory::with(&format!("hook-url = \"http://127.0.0.1:{port}/\""));
    assert_eq!(outcome(&factory, "p3"), denied());
    // Somebody listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let factory = Factory::with(&format!("hook-url = \"{url}\"\nhook-deadline = \"100ms\""));
    assert_eq!(outcome(&factory, "p4"), denied());
}
