//! A device at the wire: TLS with a certificate from files, and MQTT 5.0 byte for byte.

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

impl Device {
    /// TLS with the certificate and key in `folder`, trusting `root`, then CONNECT without a will.
    pub(crate) fn dial(address: SocketAddr, root: &Path, folder: &Path) -> Self {
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
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut device =
            Self(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket));
        // Clean start, keep alive 60 s, no properties, client id "x".
        device.send(&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 1, b'x']);
        device
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
