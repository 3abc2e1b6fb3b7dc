//! A new authority takes the place of the old one while devices are connected and reconnect: both are trusted, the new one
//! issues, the devices get new certificates, the old one is removed. No good connection is lost, and afterwards what the old
//! authority signed is refused, its tickets included.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use setup::{CONFIGURATION, Setup};

/// Devices that stay connected, and devices that come and go.
const STEADY: usize = 4;
const RESTLESS: usize = 4;
/// Nothing that is waited for here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

const CONNECT: [u8; 16] = [0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 1, b'x'];

/// TLS with a certificate, and the sessions that it has had.
fn credentials(setup: &Setup, folder: &str) -> Arc<ClientConfig> {
    peer::credentials(&setup.path("pki/root-ca.crt"), &setup.path(folder))
}

struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Connects; what went wrong otherwise.
    fn dial(address: SocketAddr, credentials: &Arc<ClientConfig>) -> Result<Self, String> {
        let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let socket = TcpStream::connect(address).map_err(said("TCP"))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(said("TCP"))?;
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(credentials), name).unwrap();
        let mut client = Self(StreamOwned::new(tls, socket));
        client.0.write_all(&CONNECT).map_err(said("CONNECT"))?;
        let connack = client.packet().map_err(said("CONNACK"))?;
        match connack[..] {
            [0x20, _, _, 0, ..] => Ok(client),
            _ => Err(format!("CONNACK {connack:02x?}")),
        }
    }

    fn packet(&mut self) -> std::io::Result<Vec<u8>> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let mut packet = head.to_vec();
        packet.resize(2 + usize::from(head[1]), 0);
        self.0.read_exact(&mut packet[2..])?;
        Ok(packet)
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    fn publish(&mut self, device: &str) -> Result<(), String> {
        let topic = format!("devices/{device}/status");
        let length = u8::try_from(topic.len()).unwrap();
        let mut packet = vec![0x32, length + 5, 0, length];
        packet.extend(topic.as_bytes());
        packet.extend([0, 1, 0]);
        self.0.write_all(&packet).map_err(|error| format!("PUBLISH: {error}"))?;
        let answer = self.packet().map_err(|error| format!("PUBACK: {error}"))?;
        // Success, or nobody who reads it.
        let good = matches!(answer[..], [0x40, 2, 0, 1] | [0x40, 3 | 4, 0, 1, 0 | 0x10, ..]);
        if good { Ok(()) } else { Err(format!("PUBACK {answer:02x?}")) }
    }

    fn resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// One device, what it has done and what went wrong.
struct Device {
    name: String,
    credentials: Mutex<Arc<ClientConfig>>,
    /// Publications that were acknowledged.
    done: AtomicU64,
    resumed: AtomicU64,
    trouble: Mutex<Vec<String>>,
}

impl Device {
    fn new(setup: &Setup, name: String, folder: &str) -> Self {
        let credentials = Mutex::new(credentials(setup, &format!("{folder}/{name}")));
        let (done, resumed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name, credentials, done, resumed, trouble: Mutex::default() }
    }

    fn credentials(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.credentials.lock().unwrap())
    }

    fn dial(&self, address: SocketAddr) -> Option<Client> {
        match Client::dial(address, &self.credentials()) {
            Ok(client) => Some(client),
            Err(error) => {
                self.trouble.lock().unwrap().push(error);
                None
            }
        }
    }

    fn publish(&self, client: &mut Client) {
        match client.publish(&self.name) {
            Ok(()) => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.trouble.lock().unwrap().push(error),
        }
    }

    /// Stays connected, and connects anew only when it gets a new certificate, as one that rotates does.
    fn stay(&self, address: SocketAddr, stop: &AtomicBool) {
        let mut with = self.credentials();
        let Some(mut client) = self.dial(address) else { return };
        while !stop.load(Ordering::Relaxed) && self.trouble.lock().unwrap().is_empty() {
            let now = self.credentials();
            if !Arc::ptr_eq(&now, &with) {
                let Some(next) = self.dial(address) else { return };
                (with, client) = (now, next);
            }
            self.publish(&mut client);
        }
    }

    /// Comes and goes, with resumption.
    fn come_and_go(&self, address: SocketAddr, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && self.trouble.lock().unwrap().is_empty() {
            let Some(mut client) = self.dial(address) else { return };
            self.resumed.fetch_add(u64::from(client.resumed()), Ordering::Relaxed);
            self.publish(&mut client);
        }
    }
}

/// Waits until each device has done this much more.
fn go_on(devices: &[Arc<Device>], publications: u64) {
    let before: Vec<_> = devices.iter().map(|device| device.done.load(Ordering::Relaxed)).collect();
    let end = Instant::now() + PATIENCE;
    for (device, before) in devices.iter().zip(before) {
        while device.done.load(Ordering::Relaxed) < before + publications {
            let trouble = device.trouble.lock().unwrap();
            assert!(trouble.is_empty(), "{}: {trouble:?}", device.name);
            drop(trouble);
            assert!(Instant::now() < end, "{} does not go on", device.name);
            std::thread::yield_now();
        }
    }
}

fn configure(setup: &Setup, client_ca: &str, ca: &str) {
    let text = CONFIGURATION
        .replace("[\"ca/issuing.crt\"]", client_ca)
        .replace("max-connections = 10", "max-connections = 100\nsession-tickets = 2")
        .replace("[ca]\n", &format!("[ca]\n{ca}"));
    let limits = "[limits]\nhandshakes-per-address-per-second = 0\nconnects-per-principal-per-second = 0\n[system]\nwatch-files-interval = 0\n";
    fs::write(setup.path("signet.toml"), text + limits).unwrap();
}

fn issuer_of(path: &Path) -> String {
    use x509_parser::prelude::FromDer as _;
    let der = CertificateDer::from_pem_file(path).unwrap();
    let (_, certificate) = x509_parser::prelude::X509Certificate::from_der(&der).unwrap();
    certificate.issuer().to_string()
}

#[test]
fn a_rollover_under_load_loses_no_good_connection_and_ends_the_old_authority() {
    let mut setup = Setup::new();
    configure(&setup, "[\"ca/issuing.crt\"]", "");
    setup.start();
    let address: SocketAddr = fs::read_to_string(setup.path("ready")).unwrap().trim().parse().unwrap();
    let names: Vec<String> = (0..STEADY + RESTLESS).map(|n| format!("sensor-{n}")).collect();
    for name in &names {
        setup.ask(&["device", "add", name, "--key", "--out", "old"]);
    }
    setup.ask(&["device", "add", "forgotten", "--key", "--out", "old"]);
    let devices: Vec<_> =
        names.iter().map(|name| Arc::new(Device::new(&setup, name.clone(), "old"))).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(n, device)| {
            let (device, stop) = (Arc::clone(device), Arc::clone(&stop));
            let work = move || match n < STEADY {
                true => device.stay(address, &stop),
                false => device.come_and_go(address, &stop),
            };
            std::thread::spawn(work)
        })
        .collect();
    go_on(&devices, 20);

    // Both are trusted, and the new one issues.
    let second = ["ca", "init", "--directory", "ca2", "--root", "root2", "--name", "Second"];
    setup.works(&second);
    let both = "[\"ca/issuing.crt\", \"ca2/issuing.crt\"]";
    configure(&setup, both, "directory = \"ca2\"\nprevious = [\"ca\"]\n");
    let reloaded = setup.ask(&["reload"]);
    assert!(reloaded["changed"].to_string().contains("Second Issuing CA"), "{reloaded}");
    go_on(&devices, 20);

    // Every device gets its new certificate; one does not.
    for (name, device) in names.iter().zip(&devices) {
        setup.ask(&["device", "add", name, "--key", "--out", "new"]);
        let certificate = setup.path(&format!("new/{name}/device.crt"));
        assert_eq!(issuer_of(&certificate), "CN=Second Issuing CA");
        *device.credentials.lock().unwrap() = credentials(&setup, &format!("new/{name}"));
    }
    go_on(&devices, 20);
    let forgotten = credentials(&setup, "old/forgotten");
    let mut left_behind = Client::dial(address, &forgotten).unwrap();
    left_behind.publish("forgotten").unwrap();
    let again = Client::dial(address, &forgotten).unwrap();
    assert!(again.resumed(), "it has a ticket");
    drop(again);
    // Both authorities' lists are written.
    setup.ask(&["device", "revoke", "--serial", &serial_of(&setup, "old/sensor-0")]);
    wait_for_entries(&setup, "ca/issuing.crl", 1);
    assert_eq!(entries(&setup, "ca2/issuing.crl"), 0);

    // The old one is removed.
    configure(&setup, "[\"ca2/issuing.crt\"]", "directory = \"ca2\"\nprevious = [\"ca\"]\n");
    setup.ask(&["reload"]);
    go_on(&devices, 20);
    // Its live connection has ended, its certificate is refused, and its ticket brings nobody in.
    let farewell = left_behind.packet();
    assert!(farewell.is_err() || farewell.unwrap()[0] == 0xe0);
    assert!(left_behind.packet().is_err());
    assert!(Client::dial(address, &forgotten).is_err());
    assert!(Client::dial(address, &credentials(&setup, "old/sensor-1")).is_err());
    go_on(&devices, 20);

    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for device in &devices {
        assert!(device.trouble.lock().unwrap().is_empty(), "{}", device.name);
    }
    let resumed: u64 = devices.iter().map(|device| device.resumed.load(Ordering::Relaxed)).sum();
    assert!(resumed > 0, "nobody has resumed, so tickets were not tried");
    // A start finds both authorities in the registry.
    setup.stop();
    setup.start();
    let authorities = setup.ask(&["ca", "show"]);
    assert_eq!(authorities.as_array().unwrap().len(), 2, "{authorities}");
}

fn serial_of(setup: &Setup, folder: &str) -> String {
    let text = fs::read_to_string(setup.path(folder).join("device.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    manifest["serial"].as_str().unwrap().to_owned()
}

fn entries(setup: &Setup, list: &str) -> usize {
    use x509_parser::prelude::FromDer as _;
    let pem = pem::parse(fs::read(setup.path(list)).unwrap()).unwrap();
    let (_, list) = x509_parser::prelude::CertificateRevocationList::from_der(pem.contents()).unwrap();
    list.iter_revoked_certificates().count()
}

fn wait_for_entries(setup: &Setup, list: &str, count: usize) {
    let end = Instant::now() + PATIENCE;
    while entries(setup, list) != count {
        assert!(Instant::now() < end, "{list} has {} entries", entries(setup, list));
        std::thread::yield_now();
    }
}

#[test]
fn a_new_authority_that_cannot_be_read_leaves_the_old_one_in_force() {
    let mut setup = Setup::new();
    configure(&setup, "[\"ca/issuing.crt\"]", "");
    setup.start();
    for (ca, word) in [
        ("directory = \"missing\"\n", "signet ca init"),
        ("previous = [\"missing\"]\n", "there is no issuing.key in this folder"),
    ] {
        configure(&setup, "[\"ca/issuing.crt\"]", ca);
        assert!(setup.refused(&["reload"]).contains(word));
        setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
        assert_eq!(issuer_of(&setup.path("out/sensor-1/device.crt")), "CN=Signet Issuing CA");
    }
}

/// The newest alarms and notes of the audit trail about lists and alarms, one text.
fn trail(setup: &Setup) -> String {
    setup.ask(&["audit", "list", "--limit", "50"]).to_string()
}

fn wait_for_trail(setup: &Setup, words: &str) {
    let end = Instant::now() + PATIENCE;
    while !trail(setup).contains(words) {
        assert!(Instant::now() < end, "{words:?} is not in the audit trail");
        std::thread::yield_now();
    }
}

/// A list of the authority in `folder`, signed somewhere else with its key.
fn sign_outside(folder: &Path, key: &str, number: u64, serials: &[String]) -> String {
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    let certificate = fs::read_to_string(folder.join("issuing.crt")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&certificate, key).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let revoked = |serial: &String| {
        let octets: Vec<u8> = serial
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(&octets),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }
    };
    let params = rcgen::CertificateRevocationListParams {
        this_update: now,
        next_update: now + time::Duration::days(30),
        crl_number: rcgen::SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer).unwrap().pem().unwrap()
}

#[test]
fn an_authority_of_before_without_its_key_takes_its_list_from_outside_and_says_what_it_lacks() {
    let mut setup = Setup::new();
    configure(&setup, "[\"ca/issuing.crt\"]", "");
    setup.start();
    for name in ["sensor-1", "sensor-2"] {
        setup.ask(&["device", "add", name, "--key", "--out", "old"]);
    }
    setup.works(&["ca", "init", "--directory", "ca2", "--root", "root2", "--name", "Second"]);
    // The key goes to where no broker is.
    let key = fs::read_to_string(setup.path("ca/issuing.key")).unwrap();
    fs::remove_file(setup.path("ca/issuing.key")).unwrap();
    let both = "[\"ca/issuing.crt\", \"ca2/issuing.crt\"]";
    configure(&setup, both, "directory = \"ca2\"\nprevious = [\"ca\"]\n");
    let said = setup.refused(&["reload"]);
    assert!(said.contains("[[ca-previous]]") && said.contains("key = \"none\""), "{said}");
    configure(&setup, both, "directory = \"ca2\"\n[[ca-previous]]\ndirectory = \"ca\"\nkey = \"none\"\n");
    setup.ask(&["reload"]);
    // Its devices connect; one that is revoked does not, and the list that is published does not know that.
    assert_eq!(setup.dial("old/sensor-1").connack(), 0);
    setup.ask(&["device", "revoke", "sensor-2"]);
    assert_ne!(setup.dial("old/sensor-2").connack(), 0);
    wait_for_trail(&setup, "lacks 1 certificates that are revoked here");
    // A list that somebody else signed is not published.
    let serial = serial_of(&setup, "old/sensor-2");
    let list = setup.path("ca/issuing.crl");
    let second = fs::read_to_string(setup.path("ca2/issuing.key")).unwrap();
    let number = u64::MAX / 2;
    fs::write(&list, sign_outside(&setup.path("ca2"), &second, number, std::slice::from_ref(&serial)))
        .unwrap();
    // Another revocation has the list looked at.
    setup.ask(&["device", "add", "sensor-3", "--key", "--out", "new"]);
    setup.ask(&["device", "revoke", "sensor-3"]);
    wait_for_trail(&setup, "it is not signed by this authority");
    fs::write(&list, sign_outside(&setup.path("ca"), &key, number, &[serial])).unwrap();
    setup.ask(&["device", "add", "sensor-4", "--key", "--out", "new"]);
    setup.ask(&["device", "revoke", "sensor-4"]);
    wait_for_trail(&setup, &format!("from outside, published from ca/issuing.crl: number {number}"));
    // An older one is not published either by a process that has seen neither of them. A listener's copy elsewhere, which was not
    // renewed, is another matter: it was never newer there.
    setup.stop();
    let older = sign_outside(&setup.path("ca"), &key, number - 1, &[]);
    fs::write(&list, &older).unwrap();
    fs::write(setup.path("copy.crl"), &older).unwrap();
    let second = fs::read_to_string(setup.path("ca2/issuing.crl")).unwrap();
    fs::write(setup.path("second.crl"), second).unwrap();
    let file = setup.path("signet.toml");
    let text = fs::read_to_string(&file).unwrap();
    let lists = "session-tickets = 2\ncrl = [\"copy.crl\", \"second.crl\"]\n";
    fs::write(&file, text.replacen("session-tickets = 2\n", lists, 1)).unwrap();
    setup.start();
    let said = fs::read_to_string(setup.path("log")).unwrap();
    assert!(
        said.contains("copy.crl") && said.contains("older than the one that this broker has published"),
        "{said}"
    );
    setup.ask(&["reload"]);
    wait_for_trail(&setup, "it is older than a list of this authority");
    assert!(!trail(&setup).contains(&format!("number {}", number - 1)));
    fs::write(&list, sign_outside(&setup.path("ca"), &key, number + 1, &[])).unwrap();
    setup.ask(&["device", "revoke", "sensor-1"]);
    wait_for_trail(&setup, &format!("from outside, published from ca/issuing.crl: number {}", number + 1));
}

#[test]
fn an_authority_whose_certificate_was_renewed_for_the_same_key_is_the_same_authority() {
    let mut setup = Setup::started();
    setup.ask(&["device", "add", "sensor-1", "--key", "--out", "out"]);
    setup.stop();
    // The same key under another root, as a renewal gives it.
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(setup.path("ca/issuing.key")).unwrap()).unwrap();
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(root, root_key);
    let mut renewed = rcgen::CertificateParams::default();
    renewed.distinguished_name = rcgen::DistinguishedName::new();
    renewed.distinguished_name.push(rcgen::DnType::CommonName, "Signet Issuing CA");
    renewed.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    renewed.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let renewed = renewed.signed_by(&key, &issuer).unwrap();
    fs::write(setup.path("ca/issuing.crt"), renewed.pem()).unwrap();
    setup.start();
    assert_eq!(setup.ask(&["ca", "show"]).as_array().unwrap().len(), 1);
    assert_eq!(setup.dial("out/sensor-1").connack(), 0);
    setup.ask(&["device", "add", "sensor-2", "--key", "--out", "out"]);
    assert_eq!(setup.dial("out/sensor-2").connack(), 0);
}
