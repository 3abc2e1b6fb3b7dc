//! An MQTT 3.1.1 client for load: mqttbytes over rustls, with nothing of the brokers' code in it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use mqttbytes::v4::{
    self, ConnAck, Connect, ConnectReturnCode, Disconnect, Packet, PubAck, Publish, Subscribe,
    SubscribeReasonCode,
};
use mqttbytes::{Error, QoS};
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Device;

/// Larger packets than any scenario sends are an error of the broker.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// A connect that takes longer is an error, not a result.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the broker may take to close after a DISCONNECT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any run, so that no PINGREQ is needed.
const KEEP_ALIVE_SECS: u16 = 3600;

pub(crate) struct Client {
    stream: TlsStream<TcpStream>,
    input: BytesMut,
}

impl Client {
    /// TCP, TLS, CONNECT with a clean session, CONNACK.
    pub(crate) async fn connect(address: SocketAddr, device: &Device, id: &str) -> Result<Self> {
        timeout(CONNECT_TIMEOUT, Self::connect_within(address, device, id, true))
            .await
            .with_context(|| format!("{id}: no connection in {CONNECT_TIMEOUT:?}"))?
            .with_context(|| format!("{id}: connecting"))
    }

    /// The same with a session that outlives the connection.
    pub(crate) async fn connect_persistent(address: SocketAddr, device: &Device, id: &str) -> Result<Self> {
        timeout(CONNECT_TIMEOUT, Self::connect_within(address, device, id, false))
            .await
            .with_context(|| format!("{id}: no connection in {CONNECT_TIMEOUT:?}"))?
            .with_context(|| format!("{id}: connecting"))
    }

    /// TCP and TLS, and no MQTT.
    pub(crate) async fn handshake(address: SocketAddr, device: &Device) -> Result<Self> {
        timeout(CONNECT_TIMEOUT, Self::handshake_within(address, device))
            .await
            .with_context(|| format!("{}: no handshake in {CONNECT_TIMEOUT:?}", device.name))?
            .with_context(|| format!("{}: handshake", device.name))
    }

    async fn handshake_within(address: SocketAddr, device: &Device) -> Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let connector = TlsConnector::from(std::sync::Arc::clone(&device.tls));
        // Boxed: it holds a whole TLS connection, and a scenario waits for many.
        let stream = Box::pin(connector.connect(name, tcp)).await?;
        Ok(Self { stream, input: BytesMut::with_capacity(1024) })
    }

    async fn connect_within(address: SocketAddr, device: &Device, id: &str, clean: bool) -> Result<Self> {
        let mut client = Self::handshake_within(address, device).await?;
        let mut connect = Connect::new(id);
        connect.keep_alive = KEEP_ALIVE_SECS;
        connect.clean_session = clean;
        let mut out = BytesMut::new();
        connect.write(&mut out).map_err(codec)?;
        client.write(&out).await?;
        match client.read().await? {
            Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, .. }) => Ok(client),
            other => bail!("not accepted: {other:?}"),
        }
    }

    /// Subscribes and waits for the SUBACK; anything but the QoS asked for is an error.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<()> {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 1;
        let mut out = BytesMut::new();
        subscribe.write(&mut out).map_err(codec)?;
        self.write(&out).await?;
        match self.read().await? {
            Packet::SubAck(ack) if ack.return_codes == [SubscribeReasonCode::Success(qos)] => Ok(()),
            other => bail!("no subscription to {filter}: {other:?}"),
        }
    }

    /// Whether the TLS session goes on from an earlier one.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Publishes at QoS 1 with packet identifier 1.
    pub(crate) async fn send(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.publish_as(topic, payload, false).await
    }

    /// Acknowledges a message that came at QoS 1.
    pub(crate) async fn acknowledge(&mut self, publish: &Publish) -> Result<()> {
        if publish.qos != QoS::AtLeastOnce {
            return Ok(());
        }
        let mut out = BytesMut::new();
        PubAck::new(publish.pkid).write(&mut out).map_err(codec)?;
        self.write(&out).await
    }

    async fn publish_as(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<()> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        (publish.pkid, publish.retain) = (1, retain);
        let mut out = BytesMut::with_capacity(payload.len() + topic.len() + 16);
        publish.write(&mut out).map_err(codec)?;
        self.write(&out).await
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<()> {
        self.publish_as(topic, payload, retain).await?;
        match self.read().await? {
            Packet::PubAck(ack) if ack.pkid == 1 => Ok(()),
            other => bail!("no PUBACK of {topic}: {other:?}"),
        }
    }

    /// Sends encoded packets in one TLS record (up to 16 KiB).
    pub(crate) async fn write(&mut self, packets: &[u8]) -> Result<()> {
        self.stream.write_all(packets).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next packet. Nothing is lost when this is dropped while it waits.
    pub(crate) async fn read(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the broker closed the connection");
            }
        }
    }

    /// The next packet of those that have arrived already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Packet>> {
        match v4::read(&mut self.input, PACKET_BYTES_MAX) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(codec(error)),
        }
    }

    /// DISCONNECT, and waits until the broker has closed.
    pub(crate) async fn disconnect(mut self) -> Result<()> {
        let mut out = BytesMut::new();
        Disconnect.write(&mut out).map_err(codec)?;
        self.write(&out).await?;
        self.closed().await
    }

    /// close_notify without a word of MQTT, and waits until the broker has closed.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.stream.shutdown().await?;
        self.closed().await
    }

    async fn closed(mut self) -> Result<()> {
        timeout(CLOSE_TIMEOUT, self.until_closed()).await.context("the broker did not close")
    }

    /// Reads and forgets until the connection is gone. How it ends, with or without close_notify or as a reset, is the broker's affair.
    pub(crate) async fn until_closed(&mut self) {
        while matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
            self.input.clear();
        }
    }
}

/// mqttbytes' error is no `std::error::Error`.
pub(crate) fn codec(error: Error) -> anyhow::Error {
    anyhow::anyhow!("mqttbytes: {error}")
}
