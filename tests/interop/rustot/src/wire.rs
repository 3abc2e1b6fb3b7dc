//! A socket, TLS 1.2 and one buffer.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqttrust::encoding::v4::{
    Connack, Connect, ConnectReturnCode, Packet, Protocol, QoS, Subscribe, SubscribeTopic, decode_slice,
    encode_slice,
};
use mqttrust::{Mqtt, MqttError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::text;

/// The embedded clients' patience for CONNACK, SUBACK and each answer.
const STEP: Duration = Duration::from_millis(1000);
/// The network buffer of the embedded demos: a packet that is larger is dropped.
const BUFFER_BYTES: usize = 2048;

type Stream = StreamOwned<ClientConnection, TcpStream>;

pub struct Link {
    client_id: String,
    stream: RefCell<Stream>,
    waiting: RefCell<Vec<u8>>,
    pid: Cell<u16>,
    /// When the packet was sent that something is waited for.
    sent: Cell<Instant>,
    largest: Cell<usize>,
    session_present: Cell<bool>,
}

/// What came, as far as it matters here.
pub enum Answer {
    Subscribed,
    Published { topic: String, payload: Vec<u8> },
    Other,
}

fn tls(wanted: &Value, certificate: &str, key: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(text(wanted, "ca")).expect("a CA file") {
        roots.add(root.expect("a certificate")).expect("a root");
    }
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).expect("a certificate file").collect();
    let key = PrivateKeyDer::from_pem_file(key).expect("a key file");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.expect("certificates"), key)
        .expect("the key goes with the certificate");
    let name = ServerName::try_from(text(wanted, "host").to_owned()).expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

impl Link {
    /// Connects with a session that is to be kept, as the embedded clients do.
    pub fn connect(wanted: &Value, certificate: &str, key: &str) -> Self {
        let port = wanted["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let socket = TcpStream::connect((text(wanted, "host"), port)).expect("the broker listens");
        socket.set_read_timeout(Some(STEP)).expect("a deadline");
        let mut stream = Stream::new(tls(wanted, certificate, key), socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        let link = Self {
            client_id: text(wanted, "client_id").to_owned(),
            stream: RefCell::new(stream),
            waiting: RefCell::default(),
            pid: Cell::new(1),
            sent: Cell::new(Instant::now()),
            largest: Cell::new(0),
            session_present: Cell::new(false),
        };
        let connect = Connect {
            protocol: Protocol::MQTT311,
            keep_alive: 60,
            client_id: &link.client_id,
            clean_session: false,
            last_will: None,
            username: Some("?SDK=Rustot&Version=0.4.1"),
            password: None,
        };
        link.write(&Packet::Connect(connect));
        link.take(|packet, _| match packet {
            Packet::Connack(Connack { session_present, code: ConnectReturnCode::Accepted }) => {
                link.session_present.set(*session_present);
            }
            other => panic!("expected a CONNACK, got {other:?}"),
        });
        link
    }

    pub fn session_present(&self) -> bool {
        self.session_present.get()
    }

    fn write(&self, packet: &Packet<'_>) {
        let mut buffer = [0; BUFFER_BYTES];
        let count = encode_slice(packet, &mut buffer).expect("the packet fits the buffer");
        if let Packet::Publish(publish) = packet
            && publish.qos != QoS::AtMostOnce
        {
            // The library leaves the place of the identifier empty; its event loop fills it in, and so is it done here.
            self.pid.set(self.pid.get() + 1);
            let at = count - publish.payload.len() - 2;
            buffer[at..at + 2].copy_from_slice(&self.pid.get().to_be_bytes());
        }
        self.sent.set(Instant::now());
        self.stream.borrow_mut().write_all(&buffer[..count]).expect("the broker reads");
    }

    /// The next packet, which comes in time and fits the buffer.
    fn take<T>(&self, read: impl FnOnce(&Packet<'_>, &[u8]) -> T) -> T {
        let mut waiting = self.waiting.borrow_mut();
        loop {
            if let Some(packet) = decode_slice(&waiting).expect("a packet of MQTT 3.1.1") {
                let size = size_of_first(&waiting);
                assert!(size <= BUFFER_BYTES, "a packet of {size} bytes does not fit the buffer");
                let took = self.sent.get().elapsed();
                assert!(took < STEP, "{packet:?} took {took:?}: the client has given up");
                self.largest.set(self.largest.get().max(size));
                let taken = read(&packet, &waiting[..size]);
                waiting.drain(..size);
                return taken;
            }
            let mut bytes = [0; BUFFER_BYTES];
            let count = self.stream.borrow_mut().read(&mut bytes).expect("an answer in time");
            assert!(count > 0, "the broker has closed the connection");
            waiting.extend_from_slice(&bytes[..count]);
        }
    }

    /// What comes next. A message is acknowledged.
    pub fn next(&self) -> Answer {
        let (answer, acknowledge) = self.take(|packet, bytes| match packet {
            // The library does not look at the codes.
            Packet::Suback(_) => {
                assert!(codes_of(bytes).iter().all(|code| *code < 0x80), "{bytes:02x?}");
                (Answer::Subscribed, None)
            }
            Packet::Publish(publish) => {
                let (topic, payload) = (publish.topic_name.to_owned(), publish.payload.to_vec());
                (Answer::Published { topic, payload }, publish.pid)
            }
            _ => (Answer::Other, None),
        });
        if let Some(pid) = acknowledge {
            self.write(&Packet::Puback(pid));
        }
        answer
    }

    /// Whether a subscription to `filter` is refused.
    pub fn denied(&self, filter: &str) -> bool {
        let topics = [SubscribeTopic { topic_path: filter, qos: QoS::AtLeastOnce }];
        self.write(&Packet::Subscribe(Subscribe::new(&topics)));
        self.take(|packet, bytes| match packet {
            Packet::Suback(_) => codes_of(bytes) == [0x80],
            other => panic!("expected a SUBACK, got {other:?}"),
        })
    }

    /// Says goodbye; the largest packet that came.
    pub fn disconnect(&self) -> usize {
        self.write(&Packet::Disconnect);
        self.largest.get()
    }
}

/// The codes of a SUBACK, which is short.
fn codes_of(suback: &[u8]) -> &[u8] {
    &suback[4..]
}

/// The bytes of the first packet of `bytes`, which is whole.
fn size_of_first(bytes: &[u8]) -> usize {
    let mut length = 0;
    for (position, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return 2 + position + length;
        }
    }
    panic!("a remaining length of more than four bytes")
}

impl Mqtt for Link {
    fn send(&self, packet: Packet<'_>) -> Result<(), MqttError> {
        self.write(&packet);
        Ok(())
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }
}
