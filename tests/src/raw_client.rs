//! A client of its own: TLS with a chosen certificate, packets as bytes.
//!
//! It blocks, with a deadline on every read. To show that nothing came, send something that must be answered and look
//! at what comes first ([`RawClient::expect_nothing`]); no test sleeps.

use crate::build::{self, Connect, Version};
use crate::received::{self, Properties, Published, Received};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use signet_certs_dev::Leaf;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The longest that any answer may take. Reached only by a test that fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is presented: a chain, leaf first, and the leaf's private key, in DER.
#[derive(Clone)]
struct Identity {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

/// How to shake hands: whom to trust, what to present, which TLS versions to offer.
#[derive(Clone)]
pub struct Handshake {
    address: SocketAddr,
    root: Vec<u8>,
    identity: Option<Identity>,
    server_name: String,
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: Vec<Vec<u8>>,
    from: Option<IpAddr>,
    /// Made once, with the sessions to resume in it.
    memory: Option<Arc<ClientConfig>>,
}

impl Handshake {
    /// TLS 1.2 or 1.3 for `localhost`, trusting `root`, presenting nothing.
    #[must_use]
    pub fn new(address: SocketAddr, root: &[u8]) -> Self {
        let versions = rustls::ALL_VERSIONS;
        let server_name = "localhost".to_owned();
        Self {
            address,
            root: root.to_vec(),
            identity: None,
            server_name,
            versions,
            alpn: Vec::new(),
            from: None,
            memory: None,
        }
    }

    /// Presents this certificate and its chain.
    #[must_use]
    pub fn presenting(mut self, leaf: &Leaf) -> Self {
        self.identity = Some(Identity { chain: leaf.chain(), key: leaf.key().to_vec() });
        self
    }

    /// Presents this certificate and its chain, and signs with another key.
    #[must_use]
    pub fn pretending(mut self, leaf: &Leaf, key: &[u8]) -> Self {
        self.identity = Some(Identity { chain: leaf.chain(), key: key.to_vec() });
        self
    }

    /// Presents this certificate alone, in DER, with its private key in PKCS #8 or SEC 1.
    #[must_use]
    pub fn presenting_bare(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.identity = Some(Identity { chain: vec![certificate.to_vec()], key: key.to_vec() });
        self
    }

    /// Asks for this server name, which may be an address.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.server_name);
        self
    }

    /// Offers these TLS versions alone.
    #[must_use]
    pub fn versions(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions;
        self
    }

    /// Offers this application protocol.
    #[must_use]
    pub fn alpn(mut self, protocol: &str) -> Self {
        self.alpn.push(protocol.as_bytes().to_vec());
        self
    }

    /// Connects from this address of this machine.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// From now on sessions are remembered and resumed. What is said later of certificates and versions has no effect.
    #[must_use]
    pub fn with_memory(mut self) -> Self {
        self.memory = Some(Arc::new(self.config()));
        self
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let Some(from) = self.from else { return TcpStream::connect_timeout(&self.address, DEADLINE) };
        let domain = socket2::Domain::for_address(self.address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&self.address.into(), DEADLINE)?;
        Ok(socket.into())
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.root.clone())).expect("the test's root is a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("the provider knows these versions")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
                let key = PrivateKeyDer::try_from(identity.key.clone()).expect("the test's key can be read");
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
                let key = key.expect("the test's key is of a known kind");
                // Whether they belong together is for the broker to find out.
                let shown = CertifiedKey::new(chain, key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// Connects and shakes hands as far as the client can tell: in TLS 1.3 the server judges the certificate later.
    ///
    /// # Errors
    /// What TCP or TLS said.
    pub fn open(&self, version: Version) -> io::Result<RawClient> {
        self.begin()?.finish(version)
    }

    /// Connects, sends the first message, and stops when the server's first bytes are there.
    ///
    /// # Errors
    /// What TCP or TLS said.
    pub fn open_half(&self) -> io::Result<HalfOpen> {
        let mut half = self.begin()?;
        while half.0.conn.wants_write() {
            half.0.conn.write_tls(&mut half.0.sock)?;
        }
        half.0.sock.peek(&mut [0])?;
        Ok(half)
    }

    fn begin(&self) -> io::Result<HalfOpen> {
        let tcp = self.dial()?;
        tcp.set_read_timeout(Some(DEADLINE))?;
        tcp.set_write_timeout(Some(DEADLINE))?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(self.server_name.clone()).map_err(io::Error::other)?;
        let config = self.memory.clone().unwrap_or_else(|| Arc::new(self.config()));
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(HalfOpen(StreamOwned::new(tls, tcp)))
    }

    /// Connects, sends CONNECT, and is accepted.
    #[track_caller]
    #[must_use]
    pub fn connect(&self, connect: &Connect, version: Version) -> RawClient {
        self.connected(connect, version).0
    }

    /// [`Self::connect`], with what CONNACK said: Session Present and the properties.
    #[track_caller]
    #[must_use]
    pub fn connected(&self, connect: &Connect, version: Version) -> (RawClient, bool, Properties) {
        let mut client = self.open(version).expect("the handshake succeeds");
        client.send(connect.bytes());
        match client.receive() {
            Received::ConnAck { session_present, code: 0, props, .. } => (client, session_present, props),
            other => panic!("expected an accepting CONNACK, got {other:?}"),
        }
    }

    /// Connects and sends CONNECT, and expects that no packet ever comes back. Returns what TLS or TCP said.
    #[track_caller]
    #[must_use]
    pub fn expect_refused(&self, version: Version) -> io::Error {
        let mut client = match self.open(version) {
            Ok(client) => client,
            Err(error) => return error,
        };
        let connect = build::connect(version, "refused").bytes();
        // The server may have closed already; what it said is still to be read.
        let _ = client.tls.write_all(&connect).and_then(|()| client.tls.flush());
        let mut answer = [0; 64];
        match client.tls.read(&mut answer) {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(length) => panic!("expected a refusal, got {:02x?}", &answer[..length]),
            Err(error) => error,
        }
    }
}

/// A handshake that has begun.
pub struct HalfOpen(StreamOwned<ClientConnection, TcpStream>);

impl HalfOpen {
    /// Goes on with it to the end, as far as the client can tell.
    ///
    /// # Errors
    /// What TCP or TLS said.
    pub fn finish(self, version: Version) -> io::Result<RawClient> {
        let Self(mut tls) = self;
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(RawClient { tls, version, waiting: Vec::new(), ended: false })
    }
}

/// One connection.
pub struct RawClient {
    tls: StreamOwned<ClientConnection, TcpStream>,
    version: Version,
    waiting: Vec<u8>,
    ended: bool,
}

impl RawClient {
    /// Sends bytes, in one TLS record if they are few.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tls
            .write_all(bytes.as_ref())
            .and_then(|()| self.tls.flush())
            .expect("the connection takes bytes");
    }

    /// Sends bytes as far as the connection takes them.
    ///
    /// # Errors
    /// What TCP or TLS said.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.tls.write_all(bytes.as_ref()).and_then(|()| self.tls.flush())
    }

    /// From now on a write that the broker does not take fails after this time.
    pub fn give_up_writing_after(&mut self, time: Duration) {
        self.tls.sock.set_write_timeout(Some(time)).expect("a time above zero");
    }

    /// Whether nothing says that the broker has closed. What it has sent meanwhile is thrown away.
    pub fn is_alive(&mut self) -> bool {
        if self.tls.sock.set_nonblocking(true).is_err() {
            return false;
        }
        let mut bytes = [0; 4096];
        let alive = loop {
            match self.tls.read(&mut bytes) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        alive && self.tls.sock.set_nonblocking(false).is_ok()
    }

    /// The TLS version agreed upon.
    #[must_use]
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        self.tls.conn.protocol_version()
    }

    /// Whether the session of an earlier connection goes on.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The application protocol agreed upon.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.conn.alpn_protocol()
    }

    /// The certificate that the server presented.
    #[must_use]
    pub fn server_certificate(&self) -> Option<Vec<u8>> {
        self.tls.conn.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec())
    }

    /// Sends CONNECT; whether it was accepted.
    pub fn try_connect(&mut self, connect: &Connect) -> bool {
        let sent = self.tls.write_all(&connect.bytes()).and_then(|()| self.tls.flush());
        sent.is_ok() && matches!(self.receive_or_end(), Some(Received::ConnAck { code: 0, .. }))
    }

    /// The next packet, or `None` when the broker closed.
    #[track_caller]
    #[must_use]
    pub fn receive_or_end(&mut self) -> Option<Received> {
        loop {
            if let Some(packet) = received::take(&mut self.waiting, self.version) {
                return Some(packet);
            }
            if self.ended {
                return None;
            }
            let mut bytes = [0; 4096];
            match self.tls.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(length) => self.waiting.extend_from_slice(&bytes[..length]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("nothing came within {DEADLINE:?}; so far {:02x?}", self.waiting)
                }
                Err(_) => self.ended = true,
            }
        }
    }

    /// The next packet.
    #[track_caller]
    #[must_use]
    pub fn receive(&mut self) -> Received {
        match self.receive_or_end() {
            Some(packet) => packet,
            None => panic!("the broker closed where a packet was expected"),
        }
    }

    /// A PUBLISH with this topic and payload.
    #[track_caller]
    pub fn expect_publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Published {
        match self.receive() {
            Received::Publish(p) if p.topic == topic && p.payload == payload.as_ref() => p,
            other => panic!(
                "expected a PUBLISH on {topic:?} of {:?}, got {other:?}",
                String::from_utf8_lossy(payload.as_ref())
            ),
        }
    }

    /// PUBACK for this identifier with this code; 0x10 (no subscribers) counts as 0.
    #[track_caller]
    pub fn expect_puback(&mut self, packet_id: u16, code: u8) {
        match self.receive() {
            Received::PubAck(a) if (a.packet_id, a.code & !0x10) == (packet_id, code & !0x10) => {}
            other => panic!("expected PUBACK {packet_id} {code:#04x}, got {other:?}"),
        }
    }

    /// SUBACK for this identifier with these codes.
    #[track_caller]
    pub fn expect_suback(&mut self, packet_id: u16, codes: &[u8]) {
        match self.receive() {
            Received::SubAck { packet_id: p, codes: c, .. } if p == packet_id && c == codes => {}
            other => panic!("expected SUBACK {packet_id} {codes:02x?}, got {other:?}"),
        }
    }

    /// Subscribes to one filter and expects that the QoS asked for is granted.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(build::subscribe(self.version, 9999, &[build::sub(filter, qos)]));
        self.expect_suback(9999, &[qos]);
    }

    /// Publishes at QoS 1 and expects the acknowledgement with `code`: the message is routed, or refused, by then.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, code: u8) {
        self.send(build::publish(self.version, topic, payload).qos1(9998).bytes());
        self.expect_puback(9998, code);
    }

    /// A PINGREQ is answered, and nothing came before the answer.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.send(build::pingreq());
        let answer = self.receive();
        assert_eq!(answer, Received::PingResp, "something came before the answer to PINGREQ");
    }

    /// The broker closes: in 5.0 behind a DISCONNECT with `code`, in 3.1.1 without a packet.
    #[track_caller]
    pub fn expect_closed_with(&mut self, code: u8) {
        if self.version == Version::V5 {
            match self.receive() {
                Received::Disconnect { code: sent, .. } if sent == code => {}
                other => panic!("expected DISCONNECT {code:#04x}, got {other:?}"),
            }
        }
        self.expect_closed();
    }

    /// The broker closes and sends nothing before.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let packet = self.receive_or_end();
        assert!(packet.is_none(), "expected a close, got {packet:?}");
    }

    /// The broker closes as TLS wants it, by a close_notify, and sends nothing before.
    #[track_caller]
    pub fn expect_farewell(&mut self) {
        assert!(self.waiting.is_empty() && !self.ended, "expected a farewell, got {:02x?}", self.waiting);
        let read = self.tls.read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(read, Ok(0), "expected close_notify");
        self.ended = true;
    }

    /// Ends TLS without a word of MQTT, by a close_notify, and goes on reading.
    #[track_caller]
    pub fn say_farewell(&mut self) {
        self.tls.conn.send_close_notify();
        self.tls.flush().expect("the connection takes bytes");
    }

    /// Breaks the connection: neither DISCONNECT nor a TLS farewell.
    pub fn drop_connection(self) {
        drop(self.tls.sock);
    }
}
