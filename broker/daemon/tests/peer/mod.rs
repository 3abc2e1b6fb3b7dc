//! A device at the wire: TLS with a certificate from files, and MQTT 5.0 byte for byte.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Nothing that is waited for here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connected device.
pub(crate) struct Device(StreamOwned<ClientConnection, TcpStream>);

/// TLS with the certificate and key in `folder`, trusting `root`.
pub(crate) fn credentials(root: &Path, folder: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(folder.join("device-chain.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("device.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    Arc::new(config)
}

impl Device {
    /// TLS with the certificate and key in `folder`, trusting `root`, then CONNECT without a will.
    pub(crate) fn dial(address: SocketAddr, root: &Path, folder: &Path) -> Self {
        Self::dial_as(address, root, folder, "x")
    }

    /// The same with a client id, shorter than 100 bytes.
    pub(crate) fn dial_as(address: SocketAddr, root: &Path, folder: &Path, client_id: &str) -> Self {
        let config = credentials(root, folder);
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut device = Self(StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket));
        // Clean start, keep alive 60 s, no properties.
        let length = u8::try_from(client_id.len()).unwrap();
        let mut connect = vec![0x10, 13 + length, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, length];
        connect.extend(client_id.as_bytes());
        device.send(&connect);
        device
    }

    /// SUBSCRIBE with QoS 1; the reason code of its SUBACK.
    pub(crate) fn subscribe(&mut self, filter: &str) -> u8 {
        let length = u8::try_from(filter.len()).unwrap();
        let mut subscribe = vec![0x82, length + 6, 0, 1, 0, 0, length];
        subscribe.extend(filter.as_bytes());
        subscribe.push(1);
        self.send(&subscribe);
        let packet = self.packet();
        assert_eq!(packet[0], 0x90, "{packet:02x?}");
        packet[5]
    }

    /// UNSUBSCRIBE; the reason code of its UNSUBACK.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> u8 {
        let length = u8::try_from(filter.len()).unwrap();
        let mut unsubscribe = vec![0xa2, length + 5, 0, 1, 0, 0, length];
        unsubscribe.extend(filter.as_bytes());
        self.send(&unsubscribe);
        let packet = self.packet();
        assert_eq!(packet[0], 0xb0, "{packet:02x?}");
        packet[5]
    }

    /// PUBLISH with QoS 1; the reason code of its PUBACK. What comes before that is dropped.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> u8 {
        self.post(topic, payload);
        loop {
            let packet = self.packet();
            if packet[0] == 0x40 {
                return packet.get(4).copied().unwrap_or(0);
            }
        }
    }

    /// PUBLISH with QoS 1, without waiting for anything.
    pub(crate) fn post(&mut self, topic: &str, payload: &[u8]) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend([0, 9, 0]);
        body.extend(payload);
        let mut publish = vec![0x32];
        let mut length = body.len();
        while length >= 0x80 {
            publish.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        publish.push(u8::try_from(length).unwrap());
        publish.extend(body);
        self.send(&publish);
    }

    /// The next PUBLISH, with PUBACKs before it left out.
    pub(crate) fn answer(&mut self) -> (String, Vec<u8>) {
        loop {
            let packet = self.packet();
            if packet[0] & 0xf0 == 0x30 {
                return self.read_message(&packet);
            }
            assert_eq!(packet[0], 0x40, "{packet:02x?}");
        }
    }

    /// The next PUBLISH, acknowledged: topic and payload.
    pub(crate) fn message(&mut self) -> (String, Vec<u8>) {
        let packet = self.packet();
        assert_eq!(packet[0] & 0xf0, 0x30, "{packet:02x?}");
        self.read_message(&packet)
    }

    fn read_message(&mut self, packet: &[u8]) -> (String, Vec<u8>) {
        let body = if packet[1] & 0x80 == 0 { &packet[2..] } else { &packet[3..] };
        let (length, body) = body.split_at(2);
        let (topic, body) = body.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let topic = String::from_utf8(topic.to_vec()).unwrap();
        let mut body = body.to_vec();
        if packet[0] & 0x06 != 0 {
            let id: Vec<u8> = body.drain(..2).collect();
            self.send(&[0x40, 2, id[0], id[1]]);
        }
        // The properties, shorter than 128 bytes.
        let properties = usize::from(body[0]);
        (topic, body.split_off(1 + properties))
    }

    /// DISCONNECT.
    pub(crate) fn disconnect(mut self) {
        self.send(&[0xe0, 0]);
        assert!(self.is_closed());
    }

    /// Writes raw bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    /// One whole packet; its length is below 128 bytes or in two length bytes.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let mut head = [0u8; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut packet = head.to_vec();
        let mut length = usize::from(head[1] & 0x7f);
        if head[1] & 0x80 != 0 {
            let mut more = [0u8; 1];
            self.0.read_exact(&mut more).unwrap();
            packet.push(more[0]);
            length += usize::from(more[0]) << 7;
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        packet.extend(body);
        packet
    }

    /// The reason code of the CONNACK.
    pub(crate) fn connack(&mut self) -> u8 {
        let packet = self.packet();
        assert_eq!(packet[0], 0x20, "{packet:02x?}");
        packet[3]
    }

    /// Whether the broker has closed: nothing more comes.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0u8; 1]), Ok(0) | Err(_))
    }
}
