//! A server of HTTPS with one file, which understands ranges and breaks off its first answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// So much of the first answer is sent.
const FIRST_BYTES: usize = 9_000;

/// The server. It runs until the test ends.
pub(crate) struct Files {
    address: SocketAddr,
    whole: Arc<AtomicU32>,
    from_the_middle: Arc<AtomicU32>,
}

impl Files {
    pub(crate) fn serve(chain: &Path, key: &Path, file: Vec<u8>) -> Self {
        let chain = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect).expect("a chain");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .expect("a configuration");
        let (config, file) = (Arc::new(config), Arc::new(file));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let files = Self {
            address: listener.local_addr().expect("an address"),
            whole: Arc::default(),
            from_the_middle: Arc::default(),
        };
        let (whole, middle) = (Arc::clone(&files.whole), Arc::clone(&files.from_the_middle));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, file) = (Arc::clone(&config), Arc::clone(&file));
                let (whole, middle) = (Arc::clone(&whole), Arc::clone(&middle));
                std::thread::spawn(move || answer(stream, config, &file, &whole, &middle));
            }
        });
        files
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/image.bin", self.address.port())
    }

    /// How often the whole file was asked for, and how often a part to its end.
    pub(crate) fn asked(&self) -> (u32, u32) {
        (self.whole.load(Ordering::SeqCst), self.from_the_middle.load(Ordering::SeqCst))
    }
}

/// Answers one request. `None` when the peer is gone, which is its affair.
fn answer(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    file: &[u8],
    whole: &AtomicU32,
    middle: &AtomicU32,
) -> Option<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).ok()?, tcp);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    assert!(head.starts_with("GET /image.bin HTTP/1.1\r\n"), "{head}");
    let from =
        head.lines().find_map(|line| line.strip_prefix("Range: bytes=")?.strip_suffix('-')?.parse().ok());
    let (status, rest) = match from {
        Some(from) => ("206 Partial Content", file.get(from..)?),
        None => ("200 OK", file),
    };
    let asked = if from.is_some() { middle } else { whole };
    let first = asked.fetch_add(1, Ordering::SeqCst) == 0 && from.is_none();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", rest.len()).ok()?;
    stream.write_all(if first { &rest[..FIRST_BYTES] } else { rest }).ok()?;
    stream.flush().ok()?;
    if !first {
        stream.conn.send_close_notify();
        stream.flush().ok()?;
    }
    Some(())
}
