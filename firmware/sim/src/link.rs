//! How a simulated sensor connects: TCP over a [`Wire`] with its faults, and TLS by rustls with the device's certificate and clock.
//! On the chip that is Mbed TLS; everything above it is the same code.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use embedded_io_adapters::tokio_1::FromTokio;
use rustls::client::WantsClientCert;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use signet_device_agent::Connector;
use signet_device_core::{Connect, Failure, Refusal};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::board::Board;
use crate::wire::Wire;

/// Where the broker is and what its certificate must be.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) name: ServerName<'static>,
    pub(crate) roots: Arc<RootCertStore>,
}

/// The clock of a device, by which it judges the server's certificate: so many seconds off.
#[derive(Debug)]
struct DeviceTime(i64);

impl TimeProvider for DeviceTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.saturating_add_signed(self.0))))
    }
}

/// Connects one sensor.
pub(crate) struct Rustls {
    pub(crate) broker: Broker,
    pub(crate) board: Rc<Board>,
}

impl Rustls {
    fn verifying(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(DeviceTime(self.board.clock_off()));
        let builder = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(|_| Failure::Unreachable)?;
        Ok(builder.with_root_certificates(Arc::clone(&self.broker.roots)))
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        name: ServerName<'static>,
        mut config: ClientConfig,
    ) -> Result<FromTokio<Box<TlsStream<Wire>>>, Failure> {
        // Sensors do not resume: they connect once a day, or after a power cut.
        config.resumption = rustls::client::Resumption::disabled();
        tcp.set_nodelay(true).map_err(|_| Failure::Unreachable)?;
        let wire = Wire::new(tcp, Rc::clone(&self.board));
        let stream = TlsConnector::from(Arc::new(config)).connect(name, wire).await;
        // Boxed: it holds a whole TLS connection.
        stream.map(|stream| FromTokio::new(Box::new(stream))).map_err(|error| match Self::judge(&error) {
            Failure::Lost => Failure::Unreachable,
            failure => failure,
        })
    }
}

impl Connector for Rustls {
    type Error = io::Error;
    type Stream<'a> = FromTokio<Box<TlsStream<Wire>>>;

    async fn connect(&mut self, with: &Connect) -> Result<Self::Stream<'_>, Failure> {
        self.board.powered().await;
        self.board.tries(with);
        let unreadable = Failure::Refused(Refusal::Unreadable);
        let chain = vec![CertificateDer::from(with.certificate.clone())];
        let key = PrivateKeyDer::try_from(with.key.to_vec()).map_err(|_| unreadable)?;
        let config = self.verifying()?.with_client_auth_cert(chain, key).map_err(|_| unreadable)?;
        let tcp = TcpStream::connect(self.broker.address).await.map_err(|_| Failure::Unreachable)?;
        self.handshake(tcp, self.broker.name.clone(), config).await
    }

    async fn reach(&mut self, host: &str, port: u16) -> Result<Self::Stream<'_>, Failure> {
        self.board.powered().await;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::Unreachable)?;
        let config = self.verifying()?.with_no_client_auth();
        let tcp = TcpStream::connect((host, port)).await.map_err(|_| Failure::Unreachable)?;
        self.handshake(tcp, name, config).await
    }

    fn judge(error: &io::Error) -> Failure {
        use rustls::Error;
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidCertificate(_)) => Failure::ServerUntrusted,
            Some(Error::AlertReceived(alert)) if is_about_certificate(*alert) => {
                Failure::Refused(Refusal::Alert(u8::from(*alert)))
            }
            _ => Failure::Lost,
        }
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}
