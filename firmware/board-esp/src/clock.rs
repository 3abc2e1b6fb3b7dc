//! Time: the chip's timer, and the time of day once SNTP has told it.

use core::cell::Cell;

use critical_section::Mutex;
use embassy_net::Stack;
use embassy_net::dns::DnsQueryType;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use mbedtls_rs::sys::hook::timer::MbedtlsTimer;
use mbedtls_rs::sys::hook::wall_clock::MbedtlsWallClock;
use mbedtls_rs::sys::tm;
use signet_device_core::Now;
use signet_device_core::platform::Clock;
use signet_device_tls::broken_down;
use sntpc::{NtpContext, NtpTimestampGenerator, get_time};
use sntpc_net_embassy::UdpSocketWrapper;

/// Unix seconds at the start of the timer.
static EPOCH: Mutex<Cell<Option<u64>>> = Mutex::new(Cell::new(None));
/// Somebody wants to know what time it is.
pub static WANTED: Signal<CriticalSectionRawMutex, ()> = Signal::new();
/// The clock was set.
pub static SET: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often the time is asked for anew, for the drift of the crystal.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// The chip's clocks.
#[derive(Clone, Copy)]
pub struct Clocks;

fn wall() -> Option<u64> {
    let epoch = critical_section::with(|section| EPOCH.borrow(section).get());
    epoch.map(|epoch| epoch + Instant::now().as_secs())
}

impl Clock for Clocks {
    fn now(&self) -> Now {
        Now { mono: Instant::now().as_millis(), wall: wall() }
    }
}

impl MbedtlsTimer for Clocks {
    fn now(&self) -> i64 {
        i64::try_from(Instant::now().as_millis()).unwrap_or(i64::MAX)
    }
}

impl MbedtlsWallClock for Clocks {
    fn instant(&self) -> Option<tm> {
        wall().and_then(broken_down)
    }
}

#[derive(Clone, Copy)]
struct Stamp(Instant);

impl NtpTimestampGenerator for Stamp {
    fn init(&mut self) {
        self.0 = Instant::now();
    }

    fn timestamp_sec(&self) -> u64 {
        self.0.as_secs()
    }

    fn timestamp_subsec_micros(&self) -> u32 {
        (self.0.as_micros() % 1_000_000) as u32
    }
}

/// Asks `server` for the time of day whenever somebody wants to know it, and every six hours.
#[embassy_executor::task]
pub async fn keep(stack: Stack<'static>, server: &'static str) {
    loop {
        stack.wait_config_up().await;
        match with_timeout(ANSWER_WITHIN, ask(stack, server)).await {
            Ok(Some(secs)) => {
                let epoch = secs.saturating_sub(Instant::now().as_secs());
                critical_section::with(|section| EPOCH.borrow(section).set(Some(epoch)));
                SET.signal(());
            }
            _ => {
                log::warn!("no time from {server}; allow UDP 123 to it, or name another server at build time")
            }
        }
        WANTED.reset();
        let again = if wall().is_some() { AGAIN_AFTER } else { ANSWER_WITHIN };
        embassy_futures::select::select(WANTED.wait(), Timer::after(again)).await;
    }
}

async fn ask(stack: Stack<'static>, server: &str) -> Option<u64> {
    let address = *stack.dns_query(server, DnsQueryType::A).await.ok()?.first()?;
    let (mut received, mut sent) = ([0; 256], [0; 256]);
    let (mut received_meta, mut sent_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let mut socket = UdpSocket::new(stack, &mut received_meta, &mut received, &mut sent_meta, &mut sent);
    socket.bind(0).ok()?;
    let context = NtpContext::new(Stamp(Instant::now()));
    let peer = core::net::SocketAddr::new(address.into(), 123);
    let answer = get_time(peer, &UdpSocketWrapper::new(socket), context).await.ok()?;
    Some(u64::from(answer.sec()))
}
