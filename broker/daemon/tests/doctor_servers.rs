//! The doctor and servers: from a closed port to a CONNACK that says no, each with its finding, exit code and deadline.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod ward;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use signet::server::{ConfigSource, Server};
use signet_certs_dev::{Leaf, LeafProfile, Subject, Validity};
use time::OffsetDateTime;
use ward::{Said, Ward};

/// A broker of this process on a port of the kernel's choice.
struct Running {
    ward: Ward,
    server: Option<Server>,
    port: u16,
}

impl Running {
    fn new(listener: &str) -> Self {
        let ward = Ward::new();
        ward.write("acl.conf", "pattern write devices/%u/#\n");
        ward.write(
            "signet.toml",
            &format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server-chain.crt\"\n\
                 private-key = \"server.key\"\nclient-ca = [\"root.crt\", \"issuing.crt\"]\ncrl = [\"issuing.crl\"]\n\
                 max-connections = 50\n{listener}\n[acl]\nfile = \"acl.conf\"\n[admin]\nsocket = \"signet.sock\"\n\
                 [limits]\nhandshakes-per-address-per-second = 0\n[log]\nlevel = \"error\"\n"
            ),
        );
        let server = Server::start_from(ConfigSource::Toml(ward.path("signet.toml"))).unwrap();
        let port = server.addresses()[0].port();
        Self { ward, server: Some(server), port }
    }

    /// Asks the doctor about this broker, as the client of this name if one is given.
    fn ask(&self, client: Option<&str>, more: &[&str]) -> Said {
        let target = format!("localhost:{}", self.port);
        let mut args = vec![target];
        if let Some(client) = client {
            args.extend(["--cert".to_owned(), format!("{client}-chain.crt")]);
            args.extend(["--key".to_owned(), format!("{client}.key")]);
        }
        args.extend(more.iter().map(|&more| more.to_owned()));
        self.ward.doctor(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

#[test]
fn a_good_client_at_a_good_broker_has_no_finding() {
    let broker = Running::new("");
    let said = broker.ask(Some("sensor-001"), &["--ca", "root.crt"]);
    said.is_well();
    let mqtt = said.facts("MQTT");
    assert!(
        mqtt.contains("5.0 over TLS 1.3: accepted") && mqtt.contains("3.1.1 over TLS 1.2: accepted"),
        "{mqtt}"
    );
    assert!(said.facts("asks for").contains("CN=Signet development root CA"));
    assert!(said.facts("TLS 1.3").contains("records"));
    assert!(said.facts("on an ESP32").contains("2 certificates"));
    // Without a certificate it is refused, which is as it should be.
    let said = broker.ask(None, &["--ca", "root.crt"]);
    said.is_well();
    for version in ["TLS 1.2", "TLS 1.3"] {
        assert!(said.facts(version).contains("refuses a client without a certificate"), "{:#}", said.report);
    }
}

#[test]
fn a_client_with_the_wrong_root_or_another_name_does_not_trust_the_server() {
    let broker = Running::new("");
    let said = broker.ask(Some("sensor-001"), &["--ca", "foreign.crt"]);
    said.errs(&["missing-issuer"]);
    assert!(
        said.finding("missing-issuer")["text"].as_str().unwrap().contains("CN=Signet development root CA")
    );
    // All the rest is looked at nevertheless.
    assert!(said.facts("MQTT").contains("accepted"));
    let said = broker.ask(None, &["--ca", "root.crt", "--server-name", "broker.example.net"]);
    said.errs(&["wrong-server-name"]).openssl("wrong-server-name", 62);
    assert!(
        said.finding("wrong-server-name")["text"].as_str().unwrap().contains("DNS:localhost, IP:127.0.0.1")
    );
    let address = format!("127.0.0.1:{}", broker.port);
    broker.ward.doctor(&[&address, "--ca", "root.crt"]).is_well();
    let said = broker.ask(None, &[]);
    assert_eq!(said.found("note"), ["no-trust-anchor"]);
}

#[test]
fn a_refused_client_is_told_the_alert_in_words_over_both_versions() {
    let broker = Running::new("");
    for (client, own, alert) in [
        ("expired", "expired", "certificate_expired(45)"),
        ("revoked", "", "certificate_revoked(44)"),
        ("foreign-ca", "", "unknown_ca(48)"),
        ("wrong-eku", "wrong-purpose", "unsupported_certificate(43)"),
    ] {
        let said = broker.ask(Some(client), &["--ca", "root.crt"]);
        let mut expected = vec!["client-refused", "client-refused"];
        expected.extend((!own.is_empty()).then_some(own));
        said.errs(&expected);
        assert!(
            said.finding("client-refused")["text"].as_str().unwrap().contains(alert),
            "{:#}",
            said.report
        );
    }
    let said = broker.ask(Some("foreign-ca"), &["--ca", "root.crt"]);
    said.warns(&["issuer-not-among-asked"]);
    // Another device's key.
    let target = format!("localhost:{}", broker.port);
    let said = broker.ward.doctor(&[
        &target,
        "--ca",
        "root.crt",
        "--cert",
        "sensor-001-chain.crt",
        "--key",
        "sensor-002.key",
    ]);
    said.errs(&["key-mismatch", "client-refused", "client-refused"]);
    assert!(said.finding("client-refused")["text"].as_str().unwrap().contains("decrypt_error(51)"));
}

#[test]
fn the_doctor_does_not_take_over_a_device_where_the_client_id_is_bound_unless_it_is_told_to() {
    let broker = Running::new("client-id = \"identity\"\n");
    let said = broker.ask(Some("sensor-001"), &["--ca", "root.crt"]);
    said.errs(&[]).warns(&[]);
    assert_eq!(said.found("note"), ["client-id-bound", "client-id-bound"]);
    broker.ask(Some("sensor-001"), &["--ca", "root.crt", "--client-id", "sensor-001"]).is_well();
}

#[test]
fn a_server_of_one_tls_version_is_tried_with_both_versions_of_mqtt() {
    let broker = Running::new("tls-versions = [\"1.2\"]\n");
    let said = broker.ask(Some("sensor-001"), &["--ca", "root.crt"]);
    said.errs(&[]).warns(&[]);
    assert_eq!(said.found("note"), ["tls-version-missing"]);
    let mqtt = said.facts("MQTT");
    assert!(
        mqtt.contains("3.1.1 over TLS 1.2: accepted") && mqtt.contains("5.0 over TLS 1.2: accepted"),
        "{mqtt}"
    );
}

/// A server that this test wrote, for what a broker would not do. It serves until the test ends it.
struct Fake {
    address: SocketAddr,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(mut serve: impl FnMut(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stopped.load(std::sync::atomic::Ordering::Acquire) {
                    return;
                }
                serve(socket.unwrap());
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// One that speaks TLS with this certificate, asks for none, and answers the first bytes with `answer`.
    fn tls(leaf: &Leaf, answer: &'static [u8]) -> Self {
        let chain = leaf.chain().into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::try_from(leaf.key().to_vec()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        Self::new(move |socket| {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, socket);
            if matches!(stream.read(&mut [0; 512]), Ok(1..)) {
                let _gone = stream.write_all(answer).and_then(|()| stream.flush());
                stream.conn.send_close_notify();
                let _gone = stream.flush();
                let _rest = stream.sock.read(&mut [0; 512]);
            }
        })
    }

    fn target(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

/// CONNACK of MQTT 3.1.1, accepted; of 5.0 it is no packet.
const ACCEPTED_311: &[u8] = &[0x20, 2, 0, 0];

fn server_leaf(ward: &Ward, change: impl FnOnce(LeafProfile) -> LeafProfile) -> Leaf {
    let profile = LeafProfile::localhost(Validity::days_from(OffsetDateTime::now_utc(), 90));
    ward.pki.issuing.issue(&change(profile)).unwrap()
}

#[test]
fn an_expired_server_certificate_and_one_for_clients_are_refused_as_a_device_would() {
    let ward = Ward::new();
    let past = Validity::past(OffsetDateTime::now_utc());
    let leaf = server_leaf(&ward, |profile| LeafProfile { validity: past, ..profile });
    let server = Fake::tls(&leaf, ACCEPTED_311);
    let said = ward.doctor(&[&server.target(), "--ca", "root.crt"]);
    assert!(said.found("error").contains(&"expired"), "{:#}", said.report);
    assert_eq!(said.code, Some(1));
    let client = signet_certs_dev::Purpose::ClientAuth;
    let server = Fake::tls(&server_leaf(&ward, |profile| profile.with_purposes(&[client])), ACCEPTED_311);
    let said = ward.doctor(&[&server.target(), "--ca", "root.crt"]);
    assert!(said.found("error").contains(&"wrong-purpose"), "{:#}", said.report);
    let leaf = server_leaf(&ward, |mut profile| {
        profile.alt_names.clear();
        LeafProfile { subject: Subject::cn("localhost"), ..profile }
    });
    let server = Fake::tls(&leaf, ACCEPTED_311);
    let said = ward.doctor(&[&server.target(), "--ca", "root.crt"]);
    assert!(said.found("warning").contains(&"server-name-in-cn"), "{:#}", said.report);
}

#[test]
fn a_server_that_asks_for_no_certificate_and_lets_anybody_in_is_an_error() {
    let ward = Ward::new();
    let server = Fake::tls(&server_leaf(&ward, |profile| profile), ACCEPTED_311);
    let said = ward.doctor(&[&server.target(), "--ca", "root.crt"]);
    // Its answer is no CONNACK of 5.0.
    said.errs(&["anybody-may-connect", "not-mqtt"]).warns(&["no-certificate-asked"]);
    let web = Fake::tls(&server_leaf(&ward, |profile| profile), b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let said = ward.doctor(&[&web.target(), "--ca", "root.crt"]);
    said.errs(&["not-mqtt", "not-mqtt"]);
    assert!(said.finding("not-mqtt")["text"].as_str().unwrap().contains("HTTP"));
}

#[test]
fn what_is_not_tls_is_named_and_a_closed_port_and_a_silent_server_are_told_apart() {
    let ward = Ward::new();
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (&[0x20, 0x02, 0x00, 0x01], "MQTT without TLS"),
        (b"what?", "its first bytes are"),
    ] {
        let server = Fake::new(move |mut socket| {
            let _gone = socket.write_all(answer);
            let _rest = socket.read(&mut [0; 2048]);
        });
        let said = ward.doctor(&[&server.target(), "--ca", "root.crt"]);
        said.errs(&["not-tls"]);
        let text = said.finding("not-tls")["text"].as_str().unwrap();
        assert!(text.contains(words), "{text}");
    }
    let closing = Fake::new(drop);
    ward.doctor(&[&closing.target()]).errs(&["connection-cut", "connection-cut"]);
    let mut held = Vec::new();
    let silent = Fake::new(move |socket| held.push(socket));
    let said = ward.doctor(&[&silent.target(), "--timeout", "1"]);
    said.errs(&["silent-server"]);
    assert!(said.finding("silent-server")["text"].as_str().unwrap().contains("silent for 1 s"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    ward.doctor(&[&format!("127.0.0.1:{port}")]).errs(&["port-closed"]);
    let said = ward.doctor(&["name.invalid:8883", "--timeout", "3"]);
    said.errs(&["name-not-resolved"]);
}
