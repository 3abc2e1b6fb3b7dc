//! The sensor's TLS: Mbed TLS 3.6 with small buffers (4 KiB in, 2 KiB out), TLS 1.3 and 1.2.
//!
//! The server's certificate is always checked: its chain to the root that the factory wrote, its name, and its validity by the
//! device's clock. With no clock set the check fails closed; the device does not even try then.
#![no_std]

extern crate alloc;

mod calendar;
mod hooks;
#[cfg(feature = "net")]
pub mod net;

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::net::IpAddr;

use embedded_io_async::{Read, Write};
use mbedtls_rs::{
    AuthMode, Certificate, ClientSessionConfig, Credentials, PrivateKey, Session, SessionConfig,
    SessionError, TlsReference, TlsVersion, X509,
};
use signet_device_agent::Connector;
use signet_device_core::{Connect, Failure, Refusal};

pub use calendar::broken_down;
pub use hooks::TlsClock;

/// A fatal alert of the peer (`MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE`).
const FATAL_ALERT: i32 = -0x7780;
/// The server's certificate does not verify (`MBEDTLS_ERR_X509_CERT_VERIFY_FAILED`).
const VERIFY_FAILED: i32 = -0x2700;
/// The peer said goodbye (`MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY`).
const CLOSE_NOTIFY: i32 = -0x7880;

/// Makes TCP connections.
#[allow(async_fn_in_trait, reason = "the agent is one future on one thread, and asks for no Send")]
pub trait Dial {
    /// A TCP connection.
    type Stream<'a>: Read + Write
    where
        Self: 'a;

    /// Resolves the name `host` and connects to its `port`.
    ///
    /// # Errors
    ///
    /// Why not; nearly always [`Failure::Unreachable`].
    async fn dial(&mut self, host: &str, port: u16) -> Result<Self::Stream<'_>, Failure>;
}

/// The broker as the factory data names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The name in its certificate: a DNS name, or an IP address.
    pub name: CString,
    /// Its port.
    pub port: u16,
}

impl Broker {
    /// Reads `name:port`; the port of MQTT over TLS, 8883, when there is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, 8883),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
            return None;
        }
        Some(Self { name: CString::new(name).ok()?, port })
    }

    /// Its address, when the name is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.name.to_str().ok()?.parse().ok()
    }
}

/// Connects with Mbed TLS over what `dial` brings.
pub struct MbedTls<'t, D> {
    tls: TlsReference<'t>,
    dial: D,
    broker: Broker,
    server_ca: Vec<u8>,
}

impl<'t, D: Dial> MbedTls<'t, D> {
    /// `server_ca` (DER) is the root of the server's certificate.
    #[must_use]
    pub fn new(tls: TlsReference<'t>, dial: D, broker: &Broker, server_ca: &[u8]) -> Self {
        Self { tls, dial, broker: broker.clone(), server_ca: server_ca.to_vec() }
    }
}

impl<'t, D: Dial> MbedTls<'t, D> {
    /// Connects to `name`, which the server's certificate must carry, and shows `creds`, if any.
    async fn open(
        &mut self,
        name: &CStr,
        port: u16,
        creds: Option<Credentials<'static>>,
    ) -> Result<Session<'_, D::Stream<'_>>, Failure> {
        let root = Certificate::new(X509::DER(&self.server_ca)).map_err(|_| Failure::ServerUntrusted)?;
        let config = SessionConfig::Client(ClientSessionConfig {
            ca_chain: Some(root),
            creds,
            auth_mode: AuthMode::Required,
            min_version: TlsVersion::Tls1_2,
            ..ClientSessionConfig::new()
        });
        let host = name.to_str().map_err(|_| Failure::Unreachable)?;
        let stream = self.dial.dial(host, port).await?;
        let mut session = Session::new(self.tls, stream, &config).map_err(|_| Failure::Unreachable)?;
        // Here, where it is copied, and not in the configuration, where it would have to live as long as the session. Without
        // a name Mbed TLS makes no handshake.
        session.set_server_name(name).map_err(|_| Failure::Unreachable)?;
        match session.connect().await {
            Ok(()) => Ok(session),
            Err(_)
                if session.tls_verification_details() != 0
                    && session.tls_verification_details() != u32::MAX =>
            {
                Err(Failure::ServerUntrusted)
            }
            Err(error) => Err(match Self::judge(&error) {
                Failure::Lost => Failure::Unreachable,
                failure => failure,
            }),
        }
    }
}

impl<'t, D: Dial> Connector for MbedTls<'t, D> {
    type Error = SessionError;
    type Stream<'a>
        = Session<'a, D::Stream<'a>>
    where
        Self: 'a;

    async fn connect(&mut self, with: &Connect) -> Result<Self::Stream<'_>, Failure> {
        // What the device stores it has read before, and the factory data is checked on the line: what does not parse here was
        // damaged since.
        let own = Refusal::Unreadable;
        let certificate =
            Certificate::new(X509::DER(&with.certificate)).map_err(|_| Failure::Refused(own))?;
        let private_key = PrivateKey::new(X509::DER(&with.key), None).map_err(|_| Failure::Refused(own))?;
        let Broker { name, port } = self.broker.clone();
        self.open(&name, port, Some(Credentials { certificate, private_key })).await
    }

    async fn reach(&mut self, host: &str, port: u16) -> Result<Self::Stream<'_>, Failure> {
        let name = CString::new(host).map_err(|_| Failure::Unreachable)?;
        self.open(&name, port, None).await
    }

    fn judge(error: &SessionError) -> Failure {
        match error {
            SessionError::MbedTls(error) => match error.code() {
                FATAL_ALERT => Failure::Refused(Refusal::SomeAlert),
                VERIFY_FAILED => Failure::ServerUntrusted,
                CLOSE_NOTIFY => Failure::Lost,
                _ => Failure::Lost,
            },
            SessionError::Io(_) => Failure::Lost,
        }
    }
}
