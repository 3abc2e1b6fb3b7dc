//! One CONNECT and what comes back.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use signet_wire::{
    ClientId, Connect, ConnectProperties, Disconnect, Packet, ReasonCode, Version, decode_from_server,
    encode, frame,
};

use super::link::{Broken, Link};

/// The largest answer that is waited for, in bytes.
const PACKET_BYTES_MAX: u32 = 64 * 1024;
/// The first bytes of what is no CONNACK that are kept.
const FIRST_BYTES_MAX: usize = 64;
/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;
/// Long enough for the doctor, short enough that a lost connection is noticed.
const KEEP_ALIVE_SECS: u16 = 30;

/// What the server said.
#[derive(Debug)]
pub(super) enum Answer {
    /// CONNACK.
    ConnAck {
        /// The reason; a return code of 3.1.1 as the reason that it stands for.
        reason: ReasonCode,
        /// The text beside it, escaped.
        text: Option<String>,
        /// What the server allows, in words.
        terms: Vec<String>,
    },
    /// Something that is no CONNACK: its first bytes.
    Other(Vec<u8>),
    /// None came.
    Broken(Broken),
}

/// Says CONNECT, without a will and without a session, and waits for CONNACK.
pub(super) fn connect(link: &mut Link, version: Version, client_id: &ClientId, within: Duration) -> Answer {
    let packet = Packet::Connect(Box::new(Connect {
        version,
        clean_start: true,
        keep_alive_secs: KEEP_ALIVE_SECS,
        client_id: Some(client_id.clone()),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }));
    let deadline = Instant::now() + within;
    if let Err(broken) = send(link, &packet, version, within) {
        return Answer::Broken(broken);
    }
    let mut received = Vec::new();
    loop {
        let broken = link.receive(&mut received, deadline).err();
        let first = || Answer::Other(received.iter().copied().take(FIRST_BYTES_MAX).collect());
        match broken {
            Some(broken) if received.is_empty() => return Answer::Broken(broken),
            Some(_) => return first(),
            None if received.first() != Some(&CONNACK) => return first(),
            None => {}
        }
        let mut buffer = BytesMut::from(received.as_slice());
        let found = match frame(&mut buffer, PACKET_BYTES_MAX) {
            Ok(None) => continue,
            Ok(Some(found)) => decode_from_server(found, version),
            Err(_) => return first(),
        };
        let Ok(Packet::ConnAck(ack)) = found else { return first() };
        if ack.reason == ReasonCode::Success {
            let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION));
            drop(send(link, &goodbye, version, within));
        }
        let properties = &ack.properties;
        let shown = |text: &str| text.chars().flat_map(char::escape_default).take(256).collect::<String>();
        let mut terms = Vec::new();
        if let Some(secs) = properties.server_keep_alive_secs {
            terms.push(format!("keep alive {secs} s"));
        }
        if let Some(bytes) = properties.packet_bytes_max {
            terms.push(format!("packets of at most {bytes} bytes"));
        }
        if let Some(count) = properties.receive_max {
            terms.push(format!("{count} messages in flight"));
        }
        return Answer::ConnAck {
            reason: ack.reason,
            text: properties.reason_string.as_ref().map(|text| shown(text)),
            terms,
        };
    }
}

fn send(link: &mut Link, packet: &Packet, version: Version, within: Duration) -> Result<(), Broken> {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).map_err(|error| Broken::Tls(error.to_string()))?;
    link.send(&bytes, within)
}

/// What a reason means to whoever wants to connect.
pub(super) fn words(reason: ReasonCode) -> &'static str {
    use ReasonCode as R;
    match reason {
        R::Success => "accepted",
        R::UnspecifiedError | R::ImplementationSpecificError => {
            "the server has a reason that it does not name"
        }
        R::MalformedPacket | R::ProtocolError => "the server calls the CONNECT malformed",
        R::UnsupportedProtocolVersion => "the server does not speak this version of MQTT",
        R::ClientIdentifierNotValid => "the server does not accept the client id",
        R::BadUserNameOrPassword => "the server wants a user name and password",
        R::NotAuthorized => {
            "not authorized: the registry, or the policy of the server, does not let this identity in"
        }
        R::ServerUnavailable | R::ServerBusy => "the server cannot serve now",
        R::Banned => "the server has banned this client",
        R::ServerShuttingDown => "the server is stopping",
        R::BadAuthenticationMethod => "the server wants another way of authentication",
        R::PacketTooLarge => "the CONNECT is larger than the server takes",
        R::QuotaExceeded => "a limit of the server is reached: its sessions, or those of this identity",
        R::AdministrativeAction => "an operator closed it",
        R::UseAnotherServer | R::ServerMoved => "the server sends clients elsewhere",
        R::ConnectionRateExceeded => "too many connections in a short time",
        _ => "refused",
    }
}
