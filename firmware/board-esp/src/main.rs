//! The sensor on an ESP32: what the portable agent needs of the chip, and nothing more.
//!
//! The network's name and password and the time server are given when the firmware is built: `SIGNET_WIFI_SSID`,
//! `SIGNET_WIFI_PASSWORD`, `SIGNET_NTP_SERVER`. Everything else comes from the factory partition.
#![no_std]
#![no_main]

extern crate alloc;
// Mbed TLS wants memchr, which the ROM does not have.
extern crate tinyrlibc as _;

mod clock;
mod flash;
mod runtime;
mod sensor;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;

use embassy_executor::Spawner;
use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::TcpSocket;
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::{Duration, Instant, Timer};
use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::gpio::{Level, Output, OutputConfig};
use esp_hal::hmac::{Hmac, HmacPurpose, KeyId};
use esp_hal::i2c::master::{self as i2c, I2c};
use esp_hal::rng::{Trng, TrngSource};
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config, ControllerConfig, Interface, WifiController};
use esp_storage::FlashStorage;
use mbedtls_rs::Tls;
use mbedtls_rs::sys::hook::timer::hook_timer;
use mbedtls_rs::sys::hook::wall_clock::hook_wall_clock;
use signet_device_core::factory::Factory;
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::platform::{self, Clock as _, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::{Device, Failure, Parts, Settings};
use signet_device_tls::{Broker, Dial, MbedTls};
use static_cell::StaticCell;

use crate::clock::Clocks;
use crate::flash::{Partitions, Region, Shared};
use crate::runtime::Board;
use crate::sensor::Sensor;

esp_bootloader_esp_idf::esp_app_desc!();

const SSID: &str = match option_env!("SIGNET_WIFI_SSID") {
    Some(ssid) => ssid,
    None => "signet",
};
const PASSWORD: &str = match option_env!("SIGNET_WIFI_PASSWORD") {
    Some(password) => password,
    None => "",
};
const TIME_SERVER: &str = match option_env!("SIGNET_NTP_SERVER") {
    Some(server) => server,
    None => "pool.ntp.org",
};
/// Which block of fuses holds the HMAC key that the line burnt (`signet_factory.py rehearse-fuses` shows how).
const SEALING_KEY: KeyId = KeyId::Key1;
const CHIP: &str = if cfg!(feature = "esp32c3") {
    "esp32c3"
} else if cfg!(feature = "esp32c6") {
    "esp32c6"
} else if cfg!(feature = "esp32s2") {
    "esp32s2"
} else if cfg!(feature = "esp32s3") {
    "esp32s3"
} else {
    "esp32"
};

/// The chip's randomness; true while its source runs.
#[derive(Clone)]
struct Random(Trng);

impl platform::Rng for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.read(bytes);
    }
}

struct Esp;

impl Platform for Esp {
    type Flash = Region;
    type Rng = Random;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = Partitions;
}

/// TCP over Wi-Fi.
struct Tcp {
    stack: Stack<'static>,
    received: [u8; 4096],
    sent: [u8; 2048],
}

impl Dial for Tcp {
    type Stream<'a> = TcpSocket<'a>;

    async fn dial(&mut self, host: &str, port: u16) -> Result<TcpSocket<'_>, Failure> {
        self.stack.wait_config_up().await;
        let found = self.stack.dns_query(host, DnsQueryType::A).await.map_err(|_| Failure::Unreachable)?;
        let address = *found.first().ok_or(Failure::Unreachable)?;
        let mut socket = TcpSocket::new(self.stack, &mut self.received, &mut self.sent);
        socket.connect((address, port)).await.map_err(|_| Failure::Unreachable)?;
        Ok(socket)
    }
}

#[embassy_executor::task]
async fn run_network(mut runner: Runner<'static, Interface>) {
    runner.run().await;
}

#[embassy_executor::task]
async fn stay_joined(mut wifi: WifiController<'static>) {
    loop {
        match wifi.connect_async().await {
            Ok(_) => {
                let _ = wifi.wait_for_disconnect_async().await;
                log::warn!("the network {SSID} is gone");
            }
            Err(error) => log::warn!("cannot join {SSID}: {error:?}"),
        }
        Timer::after(Duration::from_secs(5)).await;
    }
}

/// The key that seals private keys at rest, derived by the chip from a fuse that software cannot read.
fn sealing_key(hmac: esp_hal::peripherals::HMAC<'static>) -> [u8; 32] {
    let mut hmac = Hmac::new(hmac);
    hmac.init();
    let mut key = [0; 32];
    while let Err(error) = hmac.configure(HmacPurpose::ToUser, SEALING_KEY) {
        if !matches!(error, nb::Error::WouldBlock) {
            log::error!(
                "no HMAC key in the fuses: keys at rest are as good as unsealed; burn one before this leaves the desk"
            );
            return key;
        }
    }
    let mut message: &[u8] = b"signet: keys at rest, version 1";
    while !message.is_empty() {
        if let Ok(rest) = hmac.update(message) {
            message = rest;
        }
    }
    while hmac.finalize(&mut key).is_err() {}
    key
}

/// The Wi-Fi controller, as a station of the network that was built in.
fn join(wifi: esp_hal::peripherals::WIFI<'static>) -> WifiController<'static> {
    let Ok(ssid) = SSID.try_into() else { halt("SIGNET_WIFI_SSID is longer than 32 bytes") };
    let mut station = StationConfig::default().with_ssid(ssid);
    if !PASSWORD.is_empty() {
        let Ok(password) = PASSWORD.try_into() else { halt("SIGNET_WIFI_PASSWORD is longer than 63 bytes") };
        station = station.with_authentication(AuthenticationMethodConfig::Wpa2Personal(password));
    }
    let config = ControllerConfig::default().with_initial_config(Config::Station(station));
    match WifiController::new(wifi, config) {
        Ok(controller) => controller,
        Err(error) => {
            log::error!("{error:?}");
            halt("the radio does not start")
        }
    }
}

fn halt(why: &str) -> ! {
    log::error!("{why}");
    // Not a loop of restarts: a person has to come.
    loop {
        esp_hal::delay::Delay::new().delay_millis(60_000);
        log::error!("{why}");
    }
}

#[esp_rtos::main]
async fn main(spawner: Spawner) -> ! {
    esp_println::logger::init_logger(log::LevelFilter::Info);
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    esp_alloc::heap_allocator!(size: 160 * 1024);
    esp_rtos::start(TimerGroup::new(chip.TIMG0).timer0, chip.FROM_CPU_INTR0);
    // SAFETY: both clocks are static and work from the first moment; nothing of Mbed TLS runs yet.
    unsafe {
        hook_timer(Some(&Clocks));
        hook_wall_clock(Some(&Clocks));
    }
    let _true_randomness = TrngSource::new(chip.RNG, chip.ADC1);
    let Ok(random) = Trng::try_new() else { halt("the source of randomness does not start") };

    static FLASH: StaticCell<Shared> = StaticCell::new();
    let flash: &'static Shared = FLASH.init(RefCell::new(FlashStorage::new(chip.FLASH)));
    let (Some(mut factory), Some(credentials)) =
        (Region::find(flash, "factory_nvs"), Region::find(flash, "creds"))
    else {
        halt("the partition table has no factory_nvs or no creds; flash partitions-4mb.csv")
    };
    let factory = match Factory::read(&mut factory) {
        Ok(factory) => factory,
        Err(error) => {
            log::error!("factory data: {error:?}");
            halt("the factory partition cannot be used; make it with firmware/factory")
        }
    };
    let Some(broker) = Broker::parse(&factory.broker) else { halt("the factory data name no broker") };
    let server_ca = factory.server_ca.clone();

    static RESOURCES: StaticCell<StackResources<5>> = StaticCell::new();
    let wifi = join(chip.WIFI);
    let dhcp = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let mut seed = [0; 8];
    random.read(&mut seed);
    let (stack, runner) = embassy_net::new(Interface::station(), dhcp, resources, u64::from_le_bytes(seed));
    let tasks = (run_network(runner), stay_joined(wifi), clock::keep(stack, TIME_SERVER));
    let (Ok(network), Ok(radio), Ok(time)) = tasks else { halt("a task does not fit into memory") };
    spawner.spawn(network);
    spawner.spawn(radio);
    spawner.spawn(time);

    let parts = Parts::<Esp> {
        flash: credentials,
        rng: Random(random.clone()),
        signer: SoftwareSigner,
        sealing: AesSeal::new(&sealing_key(chip.HMAC)),
        images: Partitions(flash),
    };
    let mut settings = Settings::default();
    settings.running.chip = CHIP.into();
    let mut started = Vec::new();
    let mut device = Device::new(parts, Some(factory), settings, Clocks.now(), &mut started);
    let Ok(tls) = Tls::new(Box::leak(Box::new(random))) else { halt("Mbed TLS does not start") };
    let dial = Tcp { stack, received: [0; 4096], sent: [0; 2048] };
    let mut connector = MbedTls::new(tls.reference(), dial, &broker, &server_ca);
    // The pins of the original ESP32's boards; those of the newer chips.
    #[cfg(feature = "esp32")]
    let (light, data, clock) = (chip.GPIO2, chip.GPIO21, chip.GPIO22);
    #[cfg(not(feature = "esp32"))]
    let (light, data, clock) = (chip.GPIO3, chip.GPIO6, chip.GPIO7);
    let Ok(bus) = I2c::new(chip.I2C0, i2c::Config::default()) else { halt("the I2C bus does not start") };
    let mut board = Board {
        light: Output::new(light, Level::Low, OutputConfig::default()),
        sensor: Sensor::new(bus.with_sda(data).with_scl(clock)),
        blink_until: Instant::now(),
    };
    let reason = signet_device_agent::run(&mut device, started, &mut connector, &mut board).await;
    log::info!("restarting: {reason:?}");
    esp_hal::system::software_reset()
}
