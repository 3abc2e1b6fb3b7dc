//! The connection of one sensor: TCP, TLS and MQTT 5, with a codec that is not the broker's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use mqttbytes::QoS;
use mqttbytes::v5::{
    self, Connect as ConnectPacket, ConnectReturnCode, Disconnect, DisconnectReasonCode, LastWill, Packet,
    PingReq, PubAck, PubAckReason, Publish as PublishPacket, Subscribe, SubscribeFilter, SubscribeReasonCode,
};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use signet_device_core::{Connect, Failure, Publish, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::slow::Slow;

/// The largest packet that a sensor has room for.
const PACKET_BYTES_MAX: usize = 4096;

/// Where the broker is and what its certificate must be.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) name: ServerName<'static>,
    pub(crate) roots: Arc<RootCertStore>,
}

/// The clock of a device, by which it judges the server's certificate.
#[derive(Debug)]
struct DeviceTime(i64);

impl TimeProvider for DeviceTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.saturating_add_signed(self.0))))
    }
}

/// A connection that the broker has accepted.
pub(crate) struct Link {
    stream: TlsStream<Slow<TcpStream>>,
    input: BytesMut,
    last_id: u16,
    subscribing: HashMap<u16, u32>,
    publishing: HashMap<u16, u32>,
    keep_alive: Duration,
    ping_at: Instant,
    heard: Instant,
}

/// What came over it.
#[derive(Debug)]
pub(crate) enum Heard {
    Subscribed(u32, Vec<bool>),
    Acknowledged(u32, bool),
    Message(PublishPacket),
}

impl Link {
    /// Connects as the device says, by a clock that is `clock_off` seconds off.
    pub(crate) async fn connect(
        broker: Broker,
        connect: Connect,
        clock_off: i64,
        pause: Option<Duration>,
    ) -> Result<Self, Failure> {
        let config = tls(&broker, &connect, clock_off)?;
        let tcp = TcpStream::connect(broker.address).await.map_err(|_| Failure::Unreachable)?;
        tcp.set_nodelay(true).map_err(|_| Failure::Unreachable)?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(broker.name, Slow::new(tcp, pause));
        // Boxed: it holds a whole TLS connection.
        let stream = Box::pin(handshake).await.map_err(|error| failure(&error))?;
        let keep_alive = Duration::from_secs(connect.keep_alive_secs.into());
        let now = Instant::now();
        let mut link = Self {
            stream,
            input: BytesMut::with_capacity(1024),
            last_id: 0,
            subscribing: HashMap::new(),
            publishing: HashMap::new(),
            keep_alive,
            ping_at: now + keep_alive * 3 / 4,
            heard: now,
        };
        let mut packet = ConnectPacket::new(connect.client_id);
        packet.keep_alive = connect.keep_alive_secs;
        packet.last_will = connect
            .will
            .map(|will| LastWill::new(will.topic, will.payload.as_bytes().to_vec(), QoS::AtLeastOnce, true));
        link.write(|out| packet.write(out)).await?;
        match link.packet().await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(link),
            Packet::ConnAck(ack) => Err(refusal(ack.code)),
            _ => Err(Failure::Lost),
        }
    }

    async fn write(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>,
    ) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        encode(&mut out).map_err(|_| Failure::Lost)?;
        self.stream.write_all(&out).await.map_err(|error| failure(&error))?;
        self.stream.flush().await.map_err(|error| failure(&error))?;
        self.ping_at = Instant::now() + self.keep_alive * 3 / 4;
        Ok(())
    }

    fn id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if id != 0 && !self.subscribing.contains_key(&id) && !self.publishing.contains_key(&id) {
                return id;
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, id: u32, filters: Vec<String>) -> Result<(), Failure> {
        let filters = filters.into_iter().map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
        let mut packet = Subscribe::new_many(filters);
        packet.pkid = self.id();
        self.subscribing.insert(packet.pkid, id);
        self.write(|out| packet.write(out)).await
    }

    pub(crate) async fn publish(&mut self, publish: Publish) -> Result<(), Failure> {
        let mut packet = PublishPacket::new(publish.topic, QoS::AtLeastOnce, publish.payload);
        packet.retain = publish.retain;
        packet.pkid = self.id();
        self.publishing.insert(packet.pkid, publish.id);
        self.write(|out| packet.write(out)).await
    }

    /// Waits for what the broker says, and keeps the connection alive meanwhile. Nothing is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            let ping_at = self.ping_at;
            let packet = tokio::select! {
                packet = self.packet() => packet?,
                () = tokio::time::sleep_until(ping_at) => {
                    if self.heard.elapsed() > self.keep_alive * 3 / 2 {
                        return Err(Failure::Lost);
                    }
                    self.write(|out| PingReq.write(out)).await?;
                    continue;
                }
            };
            match packet {
                Packet::Publish(message) => return Ok(Heard::Message(message)),
                Packet::SubAck(ack) => {
                    let granted = |code: &SubscribeReasonCode| {
                        matches!(
                            code,
                            SubscribeReasonCode::QoS0 | SubscribeReasonCode::QoS1 | SubscribeReasonCode::QoS2
                        )
                    };
                    if let Some(id) = self.subscribing.remove(&ack.pkid) {
                        return Ok(Heard::Subscribed(id, ack.return_codes.iter().map(granted).collect()));
                    }
                }
                Packet::PubAck(ack) => {
                    let taken = [PubAckReason::Success, PubAckReason::NoMatchingSubscribers];
                    if let Some(id) = self.publishing.remove(&ack.pkid) {
                        return Ok(Heard::Acknowledged(id, taken.contains(&ack.reason)));
                    }
                }
                Packet::Disconnect(disconnect) => return Err(farewell(disconnect.reason_code)),
                _ => {}
            }
        }
    }

    /// Acknowledges a message, if it wants that.
    pub(crate) async fn acknowledge(&mut self, message: &PublishPacket) -> Result<(), Failure> {
        if message.qos != QoS::AtLeastOnce {
            return Ok(());
        }
        let packet = PubAck::new(message.pkid);
        self.write(|out| packet.write(out)).await
    }

    /// DISCONNECT, so that the broker does not publish the will.
    pub(crate) async fn disconnect(mut self) {
        let packet = Disconnect::new();
        let said = self.write(|out| packet.write(out)).await;
        if said.is_ok() {
            // The broker may have closed already.
            drop(self.stream.shutdown().await);
        }
    }

    async fn packet(&mut self) -> Result<Packet, Failure> {
        loop {
            match v5::read(&mut self.input, PACKET_BYTES_MAX) {
                Ok(packet) => {
                    self.heard = Instant::now();
                    return Ok(packet);
                }
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(_) => return Err(Failure::Lost),
            }
            let read = self.stream.read_buf(&mut self.input).await.map_err(|error| failure(&error))?;
            if read == 0 {
                return Err(Failure::Lost);
            }
        }
    }
}

fn tls(broker: &Broker, connect: &Connect, clock_off: i64) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from(connect.certificate.clone())];
    let key = PrivateKeyDer::try_from(connect.key.to_vec()).map_err(|_| Failure::Lost)?;
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(DeviceTime(clock_off)))
        .with_safe_default_protocol_versions()
        .map_err(|_| Failure::Lost)?
        .with_root_certificates(Arc::clone(&broker.roots))
        .with_client_auth_cert(chain, key)
        .map_err(|_| Failure::Lost)?;
    // Sensors do not resume: they connect once a day, or after a power cut.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What the end of a TLS connection says.
fn failure(error: &io::Error) -> Failure {
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

fn refusal(code: ConnectReturnCode) -> Failure {
    use ConnectReturnCode as Code;
    match code {
        Code::NotAuthorized | Code::Banned | Code::BadUserNamePassword | Code::ClientIdentifierNotValid => {
            Failure::Refused(Refusal::ConnAck(code as u8))
        }
        _ => Failure::Busy,
    }
}

fn farewell(code: DisconnectReasonCode) -> Failure {
    match code {
        DisconnectReasonCode::NotAuthorized => Failure::Refused(Refusal::ConnAck(code as u8)),
        DisconnectReasonCode::ServerBusy | DisconnectReasonCode::QuotaExceeded => Failure::Busy,
        _ => Failure::Lost,
    }
}
