//! TCP and SNTP over `embassy-net`, the network stack of the chips and of the emulated machine.

use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::TcpSocket;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{IpAddress, Stack};
use embassy_time::Duration;
use signet_device_core::Failure;
use signet_device_core::platform::Rng;
use signet_device_core::sntp::{PACKET_BYTES, PORT, Question};

use crate::Dial;

/// How long a peer may be silent at the level of TCP. What was sent to one that is gone is given up then.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a peer that says nothing is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(20);
/// What comes in before the firmware looks: a record of TLS.
const RECEIVED_BYTES: usize = 4096;
const SENT_BYTES: usize = 2048;

/// TCP connections, one at a time.
pub struct Tcp<'s> {
    stack: Stack<'s>,
    /// Where everything is, whatever its name; otherwise DNS is asked.
    only: Option<IpAddress>,
    received: [u8; RECEIVED_BYTES],
    sent: [u8; SENT_BYTES],
}

impl<'s> Tcp<'s> {
    /// Connections to whatever DNS finds, or to `only` for every name.
    #[must_use]
    pub const fn new(stack: Stack<'s>, only: Option<IpAddress>) -> Self {
        Self { stack, only, received: [0; RECEIVED_BYTES], sent: [0; SENT_BYTES] }
    }
}

/// The address of `host`, which may be one itself.
async fn resolve(stack: Stack<'_>, host: &str) -> Option<IpAddress> {
    stack.wait_config_up().await;
    stack.dns_query(host, DnsQueryType::A).await.ok()?.first().copied()
}

impl Dial for Tcp<'_> {
    type Stream<'a>
        = TcpSocket<'a>
    where
        Self: 'a;

    async fn dial(&mut self, host: &str, port: u16) -> Result<TcpSocket<'_>, Failure> {
        self.stack.wait_config_up().await;
        let address = match self.only {
            Some(address) => address,
            None => resolve(self.stack, host).await.ok_or(Failure::Unreachable)?,
        };
        let mut socket = TcpSocket::new(self.stack, &mut self.received, &mut self.sent);
        socket.set_timeout(Some(SILENCE));
        socket.set_keep_alive(Some(PROBE_EVERY));
        socket.connect((address, port)).await.map_err(|_| Failure::Unreachable)?;
        Ok(socket)
    }
}

/// Asks `server` for the time of day: seconds since 1970. It waits for an answer as long as it is let.
pub async fn ask_time(stack: Stack<'_>, server: &str, rng: &mut impl Rng) -> Option<u64> {
    let address = resolve(stack, server).await?;
    let (mut received, mut sent) = ([0; 256], [0; 256]);
    let (mut received_meta, mut sent_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let mut socket = UdpSocket::new(stack, &mut received_meta, &mut received, &mut sent_meta, &mut sent);
    socket.bind(0).ok()?;
    let question = Question::new(rng);
    socket.send_to(&question.packet(), (address, PORT)).await.ok()?;
    loop {
        let mut packet = [0; PACKET_BYTES];
        let (len, from) = socket.recv_from(&mut packet).await.ok()?;
        if from.endpoint.addr == address
            && let Some(secs) = packet.get(..len).and_then(|packet| question.answer(packet))
        {
            return Some(secs);
        }
    }
}
