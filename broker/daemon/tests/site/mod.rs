//! A running broker with an authority and an HTTPS address, and clients that speak HTTP/1.1 to it byte by byte.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::setup::{CONFIGURATION, Setup};

/// Nothing that is waited for here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is added to [`CONFIGURATION`], but for what a test adds to its `[[https]]` and after it.
const HTTPS: &str = "[[https]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\n";

/// The configuration, with `more` at its end.
pub(crate) fn configuration(more: &str) -> String {
    format!("{CONFIGURATION}{HTTPS}{more}")
}

/// A broker with an HTTPS address.
pub(crate) struct Site(Setup);

impl Deref for Site {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Setup {
        &mut self.0
    }
}

impl Site {
    /// Running, with `more` at the end of the configuration: keys of `[[https]]` first.
    pub(crate) fn started(more: &str) -> Self {
        let mut site = Self::new(more);
        site.start();
        site
    }

    /// With an authority, not running.
    pub(crate) fn new(more: &str) -> Self {
        Self(Setup::with_configuration(&configuration(more)))
    }

    /// Loses its power and starts again.
    pub(crate) fn start_again(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
        self.start();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// What `signet tls failures` says, as soon as there is `known` of it. A peer sees the end of its handshake before it is written
    /// down.
    pub(crate) fn failures(&self, known: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let failures = self.ask(&["tls", "failures"]);
            if known(&failures) {
                return failures;
            }
            assert!(Instant::now() < end, "it is not written down: {failures}");
        }
    }

    /// The MQTT address.
    pub(crate) fn mqtt(&self) -> SocketAddr {
        fs::read_to_string(self.path("ready")).unwrap().lines().next().unwrap().parse().unwrap()
    }

    /// The HTTPS address.
    pub(crate) fn https(&self) -> SocketAddr {
        let ready = fs::read_to_string(self.path("ready")).unwrap();
        ready.lines().find_map(|line| line.strip_prefix("https://")).unwrap().parse().unwrap()
    }

    /// A connection over HTTPS without a client certificate.
    pub(crate) fn visit(&self) -> Client {
        Client::dial(self.https(), &self.path("pki/root-ca.crt"), None)
    }

    /// A connection over HTTPS with the certificate in `folder`.
    pub(crate) fn visit_as(&self, folder: &str) -> Client {
        Client::dial(self.https(), &self.path("pki/root-ca.crt"), Some(&self.path(folder)))
    }

    /// A client of TLS that has not said anything yet.
    pub(crate) fn hello(&self) -> ClientConnection {
        Client::tls(&self.path("pki/root-ca.crt"), None)
    }

    /// A new token for `device`.
    pub(crate) fn token(&self, device: &str) -> String {
        self.ask(&["token", "create", device])["token"].as_str().unwrap().to_owned()
    }

    /// The certificates of a device in the registry.
    pub(crate) fn certificates(&self, device: &str) -> Vec<Value> {
        self.ask(&["device", "show", device])["device"]["certificates"].as_array().unwrap().clone()
    }

    /// The texts of the rows of the audit trail that say what was refused.
    pub(crate) fn refusals(&self) -> Vec<String> {
        // The writer takes what it is given in order: after this, what was recorded before is stored.
        self.ask(&["audit", "note", "all that came before is stored"]);
        let rows = self.ask(&["audit", "list", "--kind", "refused"]);
        rows.as_array().unwrap().iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Puts a key and a certificate where a client takes them from.
    pub(crate) fn store(&self, folder: &str, key: &rcgen::KeyPair, certificate: &[u8]) {
        let folder = self.path(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("device.key"), key.serialize_pem()).unwrap();
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", certificate));
        fs::write(folder.join("device-chain.crt"), pem).unwrap();
    }
}

/// A client of HTTPS.
pub(crate) struct Client(StreamOwned<ClientConnection, TcpStream>);

/// What a server answered.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// The bytes before the body.
    pub(crate) header_bytes: usize,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The status and the word in the JSON of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }
}

impl Client {
    /// TLS, trusting `root`.
    pub(crate) fn dial(address: SocketAddr, root: &Path, folder: Option<&Path>) -> Self {
        let tls = Self::tls(root, folder);
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(StreamOwned::new(tls, socket))
    }

    fn tls(root: &Path, folder: Option<&Path>) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match folder {
            None => config.with_no_client_auth(),
            Some(folder) => {
                let chain = CertificateDer::pem_file_iter(folder.join("device-chain.crt")).unwrap();
                let key = PrivateKeyDer::from_pem_file(folder.join("device.key")).unwrap();
                config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// Writes raw bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// One response with a `Content-Length`.
    pub(crate) fn response(&mut self) -> std::io::Result<Response> {
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n\r\n") {
            let mut byte = [0u8; 1];
            self.0.read_exact(&mut byte)?;
            header.push(byte[0]);
        }
        let text = std::str::from_utf8(&header).unwrap();
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        assert!(!headers.contains_key("transfer-encoding"), "{text}");
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Response { status, headers, body, header_bytes: header.len() })
    }

    /// A request with these header fields, and its response.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.try_request(method, path, fields, body).unwrap()
    }

    pub(crate) fn try_request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())?;
        self.response()
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn post_json(&mut self, path: &str, body: &Value) -> Response {
        let body = serde_json::to_vec(body).unwrap();
        self.request("POST", path, &[("Content-Type", "application/json")], &body)
    }

    /// Whether the broker has closed: nothing more comes.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0u8; 1]), Ok(0) | Err(_))
    }
}

/// A new key and the signing request for `name` with it, PEM.
pub(crate) fn request_for(name: &str) -> (rcgen::KeyPair, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = csr_with(name, &key, |_| {});
    (key, csr)
}

/// The signing request for `name` with `key` and what `more` adds, PEM.
pub(crate) fn csr_with(
    name: &str,
    key: &rcgen::KeyPair,
    more: impl FnOnce(&mut rcgen::CertificateParams),
) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    }
    more(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// The DER in a text with one PEM section.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    pem::parse(pem).unwrap().into_contents()
}
