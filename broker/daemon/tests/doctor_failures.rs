//! `signet tls failures` against a running broker: grouped, limited, and followed.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod ward;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use signet::server::{ConfigSource, Server};
use ward::Ward;

struct Running {
    ward: Ward,
    server: Option<Server>,
}

impl Running {
    fn new() -> Self {
        let ward = Ward::new();
        ward.write("acl.conf", "pattern write devices/%u/#\n");
        ward.write(
            "signet.toml",
            "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"server-chain.crt\"\nprivate-key = \"server.key\"\n\
             client-ca = [\"root.crt\", \"issuing.crt\"]\nmax-connections = 50\n[acl]\nfile = \"acl.conf\"\n\
             [admin]\nsocket = \"signet.sock\"\n[limits]\nhandshakes-per-address-per-second = 0\n[log]\nlevel = \"error\"\n",
        );
        let server = Server::start_from(ConfigSource::Toml(ward.path("signet.toml"))).unwrap();
        Self { ward, server: Some(server) }
    }

    fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().addresses()[0]
    }

    /// Says something that is no TLS, and waits until the broker has hung up.
    fn fail(&self, bytes: &[u8]) {
        self.fail_from(1, bytes);
    }

    /// The same from the address 127.0.0.`last`: each has an allowance of records of its own.
    fn fail_from(&self, last: u8, bytes: &[u8]) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
        socket.connect(&self.address().into()).unwrap();
        let mut socket = TcpStream::from(socket);
        socket.write_all(bytes).unwrap();
        let _end = socket.read(&mut [0; 64]);
    }

    /// Waits until so many handshakes have failed: the client may know of it before the broker has counted it.
    fn failed(&self, count: u64) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.server.as_ref().unwrap().broker().tls_failures().total < count {
            assert!(Instant::now() < end, "there are not {count} failures");
            std::thread::yield_now();
        }
    }

    fn shows(&self, args: &[&str]) -> String {
        let args = [&["tls", "failures", "--socket", "signet.sock"], args].concat();
        let output = self.ward.command(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn follow(&self, args: &[&str]) -> Follower {
        let args = [&["tls", "failures", "--follow", "--socket", "signet.sock"], args].concat();
        let mut child = self.ward.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Follower { child, lines }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The broker may have ended it already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn failures_are_grouped_by_cause_and_by_device_and_say_what_was_not_kept() {
    let broker = Running::new();
    assert!(broker.shows(&[]).contains("no handshake has failed"));
    // The doctor as a device that has expired fails twice, over TLS 1.3 and over 1.2.
    let target = format!("localhost:{}", broker.address().port());
    broker.ward.doctor(&[&target, "--cert", "expired-chain.crt", "--key", "expired.key"]);
    broker.failed(2);
    for _ in 0..6 {
        broker.fail(b"GET / HTTP/1.1\r\n\r\n");
    }
    broker.failed(8);
    let report: Value = serde_json::from_str(&broker.shows(&["--json"])).unwrap();
    assert_eq!((&report["total"], &report["records-per-address"]), (&8.into(), &5.into()));
    let kept = report["records"].as_array().unwrap().len();
    assert_eq!(report["not-kept"], 8 - kept);
    let group = |cause: &str| {
        let groups = report["groups"].as_array().unwrap();
        groups.iter().find(|group| group["cause"] == cause).unwrap_or_else(|| panic!("{cause}: {report:#}"))
    };
    assert_eq!(
        (&group("plain_http")["count"], &group("plain_http")["device"]),
        (&6.into(), &"127.0.0.1".into())
    );
    assert_eq!(group("certificate_expired")["count"], 2);
    assert_eq!(group("certificate_expired")["device"], "CN=expired");
    let numbers: Vec<u64> =
        report["records"].as_array().unwrap().iter().map(|row| row["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=kept as u64).collect::<Vec<_>>());
    let text = broker.shows(&[]);
    assert!(text.starts_with("plain_http: 6 times, 1 device\n  hint: "), "{text}");
    assert!(text.contains("limited to 5 records per address"), "{text}");
    assert!(text.contains("more not kept"), "{text}");
    let text = broker.shows(&["--by", "device"]);
    assert_eq!(text.matches("CN=expired").count(), 1, "{text}");
    let each = broker.shows(&["--each"]);
    assert_eq!(each.matches("; hint:").count(), kept, "{each}");
}

#[test]
fn a_follower_sees_what_happens_from_now_on_and_ends_with_the_broker() {
    let mut broker = Running::new();
    broker.fail(b"before");
    broker.failed(1);
    let mut json = broker.follow(&["--json"]);
    let mut text = broker.follow(&[]);
    assert!(text.line().starts_with("waiting for handshakes"));
    // A follower that asks for JSON says nothing until something happens: fail until it has.
    let (sender, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let line = json.line();
        sender.send(line).unwrap();
        json
    });
    let mut addresses = 2..=250;
    let line = loop {
        broker.fail_from(addresses.next().expect("the follower says nothing"), b"GET / HTTP/1.1\r\n\r\n");
        if let Ok(line) = first.recv_timeout(Duration::from_millis(100)) {
            break line;
        }
    };
    let row: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(row["cause"], "plain_http");
    assert!(row["number"].as_u64().unwrap() > 1, "{row}");
    let shown = text.line();
    assert!(shown.contains("plain_http"), "{shown}");
    broker.server.take().unwrap().stop();
    let mut json = reader.join().unwrap();
    for follower in [&mut json, &mut text] {
        let mut rest = String::new();
        follower.lines.read_to_string(&mut rest).unwrap();
        assert_eq!(follower.child.wait().unwrap().code(), Some(2), "{rest}");
    }
}
