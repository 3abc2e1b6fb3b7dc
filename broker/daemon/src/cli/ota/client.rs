//! An operator's connection: TLS with a certificate, MQTT 5.0, one thing after another.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use signet_wire::{
    Ack, ClientId, Connect, ConnectProperties, Packet, PacketId, Publish, QosId, ReasonCode, Requested,
    RetainHandling, Subscribe, SubscribeOptions, SubscriptionFilter, Text, TopicName, Version,
    decode_from_server, encode, frame,
};

use super::campaign::Outgoing;
use crate::cli::out::Failure;

/// How long the broker may take to accept the connection, and to acknowledge.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long one look for packets lasts.
const LOOK_FOR: Duration = Duration::from_millis(200);
const KEEP_ALIVE_SECS: u16 = 60;
const PACKET_BYTES_MAX: u32 = 256 * 1024;

/// The files that say who connects and whom it trusts.
pub(super) struct Credentials<'a> {
    pub(super) certificate: &'a Path,
    pub(super) key: &'a Path,
    pub(super) ca: &'a Path,
}

/// A connection that the broker accepted.
pub(super) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: BytesMut,
    next_id: PacketId,
    last_sent: Instant,
}

/// What ends a connection.
pub(super) enum Trouble {
    /// It broke, or the broker ended it: another one may do better.
    Broken(String),
    /// What was asked for is wrong.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Broken(why) => Self::found(why),
            Trouble::Failed(failure) => failure,
        }
    }
}

/// A message that came.
pub(super) struct Incoming {
    pub(super) topic: String,
    pub(super) payload: bytes::Bytes,
}

impl Client {
    /// Connects to `broker`, `HOST:PORT`.
    pub(super) fn connect(broker: &str, credentials: &Credentials<'_>) -> Result<Self, Failure> {
        let (host, _) = broker.rsplit_once(':').ok_or_else(|| {
            Failure::usage(format!("{broker:?} is not HOST:PORT, as in broker.example:8883"))
        })?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let unreachable = |error: std::io::Error| Failure::usage(format!("{broker}: {error}"));
        let address = broker.to_socket_addrs().map_err(unreachable)?.next();
        let address = address.ok_or_else(|| Failure::usage(format!("{broker}: the name has no address")))?;
        let socket = TcpStream::connect_timeout(&address, ANSWER_WITHIN).map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        socket.set_read_timeout(Some(LOOK_FOR)).map_err(unreachable)?;
        socket.set_write_timeout(Some(ANSWER_WITHIN)).map_err(unreachable)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::usage(format!("{host:?} cannot be the name in a certificate")))?;
        let session = ClientConnection::new(Arc::new(config(credentials)?), name)
            .map_err(|error| Failure::usage(format!("{broker}: {error}")))?;
        let mut client = Self {
            stream: StreamOwned::new(session, socket),
            received: BytesMut::new(),
            next_id: PacketId::MIN,
            last_sent: Instant::now(),
        };
        client.hello(broker)?;
        Ok(client)
    }

    fn hello(&mut self, broker: &str) -> Result<(), Trouble> {
        let client_id = Text::from_static("signet-ota");
        self.send(&Packet::Connect(Box::new(Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_secs: KEEP_ALIVE_SECS,
            client_id: ClientId::try_from(client_id).ok(),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        })))?;
        let doctor = "signet doctor says what is wrong with the certificate or the way";
        match self
            .wait_for(|packet| if let Packet::ConnAck(ack) = packet { Some(ack.reason) } else { None })?
        {
            ReasonCode::Success => Ok(()),
            other => {
                Err(Failure::found(format!("{broker} refused the connection ({other:?}); {doctor}")).into())
            }
        }
    }

    /// Subscribes at QoS 1; an error when any of `filters` is not granted.
    pub(super) fn subscribe(&mut self, filters: &[String]) -> Result<(), Trouble> {
        for some in filters.chunks(64) {
            let packet_id = self.id();
            let options = SubscribeOptions {
                qos: signet_wire::QoS::AtLeastOnce,
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
            };
            let requested = |filter: &String| -> Result<Requested, Failure> {
                let text = Text::try_from(filter.as_str())
                    .map_err(|_| Failure::usage(format!("{filter:?} cannot be a topic")))?;
                Ok(Requested { filter: SubscriptionFilter::parse(text), options })
            };
            let requests = some.iter().map(requested).collect::<Result<_, _>>()?;
            self.send(&Packet::Subscribe(Box::new(Subscribe {
                packet_id,
                subscription_id: None,
                user_properties: Vec::new(),
                filters: requests,
            })))?;
            let reasons = self.wait_for(|packet| match packet {
                Packet::SubAck(ack) if ack.packet_id == packet_id => Some(ack.reasons.clone()),
                _ => None,
            })?;
            if let Some((filter, _)) = some.iter().zip(&reasons).find(|(_, reason)| reason.is_failure()) {
                return Err(Failure::found(format!(
                    "the broker does not let this certificate read {filter}; an operator's policy has a line \
                     `topic readwrite devices/#`, and signet acl why says which rule decided"
                ))
                .into());
            }
        }
        Ok(())
    }

    /// Publishes at QoS 1. Its acknowledgement is looked at by [`Client::look`].
    pub(super) fn publish(&mut self, outgoing: Outgoing) -> Result<(), Trouble> {
        let packet_id = self.id();
        let topic = TopicName::try_from(outgoing.topic.clone())
            .map_err(|_| Failure::usage(format!("{:?} cannot be a topic", outgoing.topic)))?;
        self.send(&Packet::Publish(Publish {
            dup: false,
            retain: false,
            qos: QosId::AtLeastOnce(packet_id),
            topic: Some(topic),
            properties: None,
            payload: outgoing.payload,
        }))
    }

    /// The next message, if one comes within a moment.
    pub(super) fn look(&mut self) -> Result<Option<Incoming>, Trouble> {
        if self.last_sent.elapsed() > Duration::from_secs(u64::from(KEEP_ALIVE_SECS) / 2) {
            self.send(&Packet::PingReq)?;
        }
        match self.packet()? {
            Some(Packet::Publish(publish)) => {
                if let QosId::AtLeastOnce(id) = publish.qos {
                    self.send(&Packet::PubAck(Ack::new(id, ReasonCode::Success)))?;
                }
                let topic = publish.topic.map(|topic| topic.to_string());
                Ok(topic.map(|topic| Incoming { topic, payload: publish.payload }))
            }
            Some(Packet::PubAck(ack)) if ack.reason.is_failure() => {
                Err(Trouble::Failed(Failure::found(format!(
                    "the broker does not let this certificate write to the devices ({:?}); an operator's policy has a line \
                 `topic readwrite devices/#`",
                    ack.reason
                ))))
            }
            Some(Packet::Disconnect(disconnect)) => {
                Err(Trouble::Broken(format!("the broker ended the connection ({:?})", disconnect.reason)))
            }
            _ => Ok(None),
        }
    }

    fn wait_for<T>(&mut self, mut pick: impl FnMut(&Packet) -> Option<T>) -> Result<T, Trouble> {
        let end = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < end {
            if let Some(found) = self.packet()?.as_ref().and_then(&mut pick) {
                return Ok(found);
            }
        }
        Err(Trouble::Broken(format!("the broker did not answer within {} s", ANSWER_WITHIN.as_secs())))
    }

    fn packet(&mut self) -> Result<Option<Packet>, Trouble> {
        loop {
            let broken = |error: &dyn std::fmt::Display| {
                Trouble::Broken(format!("the broker sent what is no MQTT: {error}"))
            };
            match frame(&mut self.received, PACKET_BYTES_MAX) {
                Ok(Some(found)) => {
                    return decode_from_server(found, Version::V5).map(Some).map_err(|error| broken(&error));
                }
                Ok(None) => {}
                Err(error) => return Err(broken(&error)),
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Trouble::Broken("the broker closed the connection".to_owned())),
                Ok(count) => self.received.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(Trouble::Broken(format!("the connection broke: {error}"))),
            }
        }
    }

    fn send(&mut self, packet: &Packet) -> Result<(), Trouble> {
        let mut bytes = BytesMut::new();
        encode(packet, Version::V5, &mut bytes).map_err(|error| Failure::usage(error.to_string()))?;
        self.last_sent = Instant::now();
        let sent = self.stream.write_all(&bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| Trouble::Broken(format!("the connection broke: {error}")))
    }

    fn id(&mut self) -> PacketId {
        let id = self.next_id;
        self.next_id = id.next();
        id
    }
}

fn config(credentials: &Credentials<'_>) -> Result<ClientConfig, Failure> {
    let unusable =
        |path: &Path, error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Failure> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| unusable(path, &error))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(credentials.ca)? {
        roots.add(root).map_err(|error| unusable(credentials.ca, &error))?;
    }
    let key =
        PrivateKeyDer::from_pem_file(credentials.key).map_err(|error| unusable(credentials.key, &error))?;
    ClientConfig::builder_with_provider(crate::tls::inspect::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::usage(error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(credentials.certificate)?, key)
        .map_err(|error| unusable(credentials.certificate, &error))
}
