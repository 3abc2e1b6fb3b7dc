//! One connection to a server: TCP with a deadline, TLS that records instead of refusing, and what was on the wire.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::inspect;

/// The first bytes of what is not TLS that are kept.
const FIRST_BYTES_MAX: usize = 64;
/// The most bytes of plaintext that are kept from one read.
const READ_BYTES: usize = 16 * 1024;
/// The bytes of a record's header.
const HEADER_BYTES: usize = 5;

/// How a connection ended before it did what was wanted.
#[derive(Debug)]
pub(super) enum Broken {
    /// The deadline passed.
    TimedOut,
    /// The server closed or reset the connection.
    Closed,
    /// The server sent an alert.
    Alert(AlertDescription),
    /// What came is not TLS: its first bytes.
    NotTls(Vec<u8>),
    /// The TLS library gave up, in its words.
    Tls(String),
}

/// What the server's side of a handshake looked like.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The certificates that it sent, its own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether its signature did not fit its certificate.
    pub(super) false_signature: bool,
    /// Whether it asked for a client certificate.
    pub(super) asked: bool,
    /// The authorities that it accepts, as it named them: DER of distinguished names.
    pub(super) issuers: Vec<Vec<u8>>,
    /// Whether the client certificate went out.
    pub(super) presented: bool,
}

/// The wire as it was read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wire {
    /// Bytes that came.
    pub(super) bytes: usize,
    /// Records that began.
    pub(super) records: usize,
    /// The longest record, its header not counted.
    pub(super) largest: usize,
}

/// Counts records in a stream of them.
#[derive(Debug, Default)]
struct Tap {
    wire: Wire,
    header: Vec<u8>,
    left: usize,
    first: Vec<u8>,
}

impl Tap {
    /// Takes what was read; whether it can still be TLS.
    fn push(&mut self, mut bytes: &[u8]) -> bool {
        self.wire.bytes += bytes.len();
        let room = FIRST_BYTES_MAX.saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(room));
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let taken = (HEADER_BYTES - self.header.len()).min(bytes.len());
            self.header.extend(bytes.iter().take(taken));
            bytes = bytes.get(taken..).unwrap_or_default();
            if let [kind, major, _, high, low] = *self.header.as_slice() {
                if !(20..=24).contains(&kind) || major != 3 {
                    return false;
                }
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.wire.records += 1;
                self.wire.largest = self.wire.largest.max(self.left);
                self.header.clear();
            }
        }
        // Whatever waits for the rest of a header begins as TLS does, or not.
        self.header.first().is_none_or(|kind| (20..=24).contains(kind))
    }
}

/// Writes down the server's certificates and signature, and takes everything.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    seen: Arc<Mutex<Seen>>,
}

impl Recorder {
    fn note(
        &self,
        checked: &Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.seen.lock().false_signature |= checked.is_err();
        Ok(HandshakeSignatureValid::assertion())
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        self.seen.lock().chain = chain.map(|der| der.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(&inspect::verify_tls12_signature(message, cert, dss, &self.provider))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(&inspect::verify_tls13_signature(message, cert, dss, &self.provider))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Presents the certificate that it was given, if any, and writes down what it was asked for.
#[derive(Debug)]
struct Presenter {
    key: Option<Arc<CertifiedKey>>,
    seen: Arc<Mutex<Seen>>,
}

impl ResolvesClientCert for Presenter {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.key.clone().filter(|key| key.key.choose_scheme(schemes).is_some());
        let mut seen = self.seen.lock();
        seen.asked = true;
        seen.issuers = issuers.iter().map(|name| name.to_vec()).collect();
        seen.presented = key.is_some();
        key
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What a connection is to do.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) address: SocketAddr,
    /// The name that is asked for (SNI).
    pub(super) name: ServerName<'static>,
    /// The client certificate.
    pub(super) key: Option<Arc<CertifiedKey>>,
    /// How long each step may take.
    pub(super) step: Duration,
}

/// A connection.
pub(super) struct Link {
    socket: TcpStream,
    tls: ClientConnection,
    tap: Tap,
    seen: Arc<Mutex<Seen>>,
}

/// Connects TCP, within `within`.
pub(super) fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, within)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Link {
    /// Connects, if there is no `socket` yet, and prepares the TLS of one version. Nothing is sent yet.
    pub(super) fn open(
        dial: &Dial,
        version: &'static SupportedProtocolVersion,
        socket: Option<TcpStream>,
    ) -> Result<Self, Broken> {
        let socket = match socket {
            Some(socket) => socket,
            None => connect(dial.address, dial.step).map_err(|error| broken(&error))?,
        };
        let seen = Arc::<Mutex<Seen>>::default();
        let provider = inspect::provider();
        let recorder = Recorder { provider: Arc::clone(&provider), seen: Arc::clone(&seen) };
        let presenter = Presenter { key: dial.key.clone(), seen: Arc::clone(&seen) };
        let words = |error: Error| Broken::Tls(error.to_string());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .map_err(words)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(recorder))
            .with_client_cert_resolver(Arc::new(presenter));
        config.resumption = rustls::client::Resumption::disabled();
        let tls = ClientConnection::new(Arc::new(config), dial.name.clone()).map_err(words)?;
        Ok(Self { socket, tls, tap: Tap::default(), seen })
    }

    /// Does the handshake. In TLS 1.3 it ends before the server has judged the client.
    pub(super) fn shake_hands(&mut self, within: Duration) -> Result<(), Broken> {
        let deadline = Instant::now() + within;
        while self.tls.is_handshaking() {
            self.turn(deadline)?;
        }
        self.flush(deadline)
    }

    /// Sends plaintext.
    pub(super) fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), Broken> {
        self.tls.writer().write_all(bytes).map_err(|error| Broken::Tls(error.to_string()))?;
        self.flush(Instant::now() + within)
    }

    /// Waits for plaintext, and adds it to `into`.
    pub(super) fn receive(&mut self, into: &mut Vec<u8>, deadline: Instant) -> Result<(), Broken> {
        let mut buffer = [0u8; READ_BYTES];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    into.extend(buffer.iter().take(count));
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.turn(deadline)?,
                Err(_) => return Err(Broken::Closed),
            }
        }
    }

    /// Says goodbye; nobody waits for an answer.
    pub(super) fn close(&mut self) {
        self.tls.send_close_notify();
        drop(self.flush(Instant::now() + Duration::from_secs(1)));
    }

    /// What the server's side looked like.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// The wire so far.
    pub(super) fn wire(&self) -> Wire {
        self.tap.wire
    }

    /// The cipher suite and key exchange, in words.
    pub(super) fn terms(&self) -> String {
        let suite = self.tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let group = self.tls.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
        format!("{} with {}", suite.unwrap_or_default(), group.unwrap_or_default())
    }

    /// Writes what is to be written, then reads once.
    fn turn(&mut self, deadline: Instant) -> Result<(), Broken> {
        self.flush(deadline)?;
        let mut buffer = [0u8; READ_BYTES];
        let left = left(deadline)?;
        self.socket.set_read_timeout(Some(left)).map_err(|_| Broken::Closed)?;
        let count = match self.socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(broken(&error)),
        };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        if !self.tap.push(bytes) {
            return Err(Broken::NotTls(std::mem::take(&mut self.tap.first)));
        }
        if count == 0 {
            return Err(Broken::Closed);
        }
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).map_err(|error| Broken::Tls(error.to_string()))?;
            if let Err(error) = self.tls.process_new_packets() {
                // The alert that belongs to it.
                drop(self.flush(deadline));
                return Err(match error {
                    Error::AlertReceived(alert) => Broken::Alert(alert),
                    other => Broken::Tls(other.to_string()),
                });
            }
        }
        Ok(())
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), Broken> {
        while self.tls.wants_write() {
            self.socket.set_write_timeout(Some(left(deadline)?)).map_err(|_| Broken::Closed)?;
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A server that has refused may have closed already; what it said is still to be read.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }
}

fn left(deadline: Instant) -> Result<Duration, Broken> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Broken::TimedOut) } else { Ok(left) }
}

fn broken(error: &io::Error) -> Broken {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Broken::TimedOut,
        _ => Broken::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_they_are_cut() {
        let stream = [&[22, 3, 3, 0, 4, 1, 2, 3, 4][..], &[23, 3, 3, 1, 0], &[9; 256], &[21, 3]].concat();
        for cut in 1..stream.len() {
            let mut tap = Tap::default();
            for piece in stream.chunks(cut) {
                assert!(tap.push(piece));
            }
            assert_eq!((tap.wire.records, tap.wire.largest, tap.wire.bytes), (2, 256, stream.len()), "{cut}");
        }
    }

    #[test]
    fn what_is_not_tls_is_known_by_its_first_byte() {
        for text in ["HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-x\r\n", "\x20\x02\x00\x05", "2"] {
            assert!(!Tap::default().push(text.as_bytes()), "{text:?}");
        }
    }
}
