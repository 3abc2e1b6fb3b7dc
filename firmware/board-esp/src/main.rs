//! The sensor on an ESP32: what the portable agent needs of the chip, and nothing more.
//!
//! The network's name and password, the time server and the anti-rollback counter of the image are given when the firmware is
//! built: `SIGNET_WIFI_SSID`, `SIGNET_WIFI_PASSWORD`, `SIGNET_NTP_SERVER`, `SIGNET_OTA_COUNTER`. Everything else comes from the
//! factory partition.
#![no_std]
#![no_main]

extern crate alloc;
// Mbed TLS wants memchr, which the ROM does not have.
extern crate tinyrlibc as _;

mod clock;
mod flash;
mod restart;
mod runtime;
mod sensor;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;

use embassy_executor::Spawner;
use embassy_net::{Runner, StackResources};
use embassy_time::{Duration, Instant, Timer};
use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::gpio::{Level, Output, OutputConfig};
#[cfg(not(feature = "esp32"))]
use esp_hal::hmac::{Hmac, HmacPurpose, KeyId};
use esp_hal::i2c::master::{self as i2c, I2c};
use esp_hal::rng::{Trng, TrngSource};
use esp_hal::rtc_cntl::Rtc;
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config, ControllerConfig, Interface, WifiController};
use esp_storage::FlashStorage;
use mbedtls_rs::Tls;
use signet_device_core::factory::Factory;
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::images::Partitions;
use signet_device_core::ota::TRIAL_BOOTS_MAX;
use signet_device_core::platform::{self, Clock as _, Images as _, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::{Device, Parts, Settings};
use signet_device_tls::net::Tcp;
use signet_device_tls::{Broker, MbedTls, TlsClock};
use static_cell::StaticCell;

use crate::clock::Clocks;
use crate::flash::{Part, Shared, Table};
use crate::runtime::Board;
use crate::sensor::Sensor;

esp_bootloader_esp_idf::esp_app_desc!();

const SSID: &str = match option_env!("SIGNET_WIFI_SSID") {
    Some(ssid) => ssid,
    None => "signet",
};
/// Which block of fuses holds the HMAC key that the line burnt (`signet_factory.py rehearse-fuses` shows how).
#[cfg(not(feature = "esp32"))]
const SEALING_KEY: KeyId = KeyId::Key1;

/// The chip's randomness; true while its source runs.
#[derive(Clone)]
pub struct Random(Trng);

impl platform::Rng for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.read(bytes);
    }
}

struct Esp;

impl Platform for Esp {
    type Flash = Part;
    type Rng = Random;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = Partitions<Part>;
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

/// The key that seals private keys at rest, derived by the chip from a fuse that software cannot read. The original ESP32 has no
/// HMAC: there, nothing but flash encryption protects them.
#[cfg(not(feature = "esp32"))]
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
    let password = option_env!("SIGNET_WIFI_PASSWORD").unwrap_or("");
    let (Ok(ssid), Ok(wpa)) = (SSID.try_into(), password.try_into()) else {
        halt("SIGNET_WIFI_SSID has at most 32 bytes, SIGNET_WIFI_PASSWORD at most 63")
    };
    let mut station = StationConfig::default().with_ssid(ssid);
    if !password.is_empty() {
        station = station.with_authentication(AuthenticationMethodConfig::Wpa2Personal(wpa));
    }
    let config = ControllerConfig::default().with_initial_config(Config::Station(station));
    WifiController::new(wifi, config).unwrap_or_else(|error| {
        log::error!("{error:?}");
        halt("the radio does not start")
    })
}

fn halt(why: &str) -> ! {
    // Not a loop of restarts: a person has to come.
    loop {
        log::error!("{why}");
        restart::pause(60);
    }
}

/// The image that runs cannot go on. When it is a new one, the old one gets its place back.
fn give_up(images: &mut Partitions<Part>, why: &str) -> ! {
    if images.on_trial() && images.revert().is_ok() {
        log::error!("{why}; the old image starts again");
        esp_hal::system::software_reset()
    }
    halt(why)
}

#[esp_rtos::main]
async fn main(spawner: Spawner) -> ! {
    esp_println::logger::init_logger(log::LevelFilter::Info);
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let starts = restart::begin(Rtc::new(chip.RTC_TIMER).rwdt);
    esp_alloc::heap_allocator!(size: 160 * 1024);
    esp_rtos::start(TimerGroup::new(chip.TIMG0).timer0, chip.FROM_CPU_INTR0);
    // SAFETY: the clock is static and works from the first moment; nothing of Mbed TLS runs yet.
    unsafe { TlsClock(Clocks).hook() };
    static FLASH: StaticCell<Shared> = StaticCell::new();
    let flash: &'static Shared = FLASH.init(RefCell::new(FlashStorage::new(chip.FLASH)));
    let Some(Table { mut factory, credentials, mut images }) = Table::read(flash) else {
        halt("the partition table lacks a partition; flash partitions-4mb.csv")
    };
    if starts > u32::from(TRIAL_BOOTS_MAX) + 1 && images.on_trial() {
        give_up(&mut images, "the new image dies before it can count its starts");
    }
    let _true_randomness = TrngSource::new(chip.RNG, chip.ADC1);
    let Ok(random) = Trng::try_new() else { give_up(&mut images, "the source of randomness does not start") };
    let factory = Factory::read(&mut factory).unwrap_or_else(|error| {
        log::error!("factory data: {error:?}");
        give_up(&mut images, "the factory partition cannot be used; make it with firmware/factory")
    });
    let Some(broker) = Broker::parse(&factory.broker) else {
        give_up(&mut images, "the factory data name no broker")
    };
    let server_ca = factory.server_ca.clone();

    static RESOURCES: StaticCell<StackResources<5>> = StaticCell::new();
    let wifi = join(chip.WIFI);
    let dhcp = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let seed = platform::Rng::below(&mut Random(random.clone()), u64::MAX);
    let (stack, runner) = embassy_net::new(Interface::station(), dhcp, resources, seed);
    let tasks = (run_network(runner), stay_joined(wifi), clock::keep(stack, Random(random.clone())));
    let (Ok(network), Ok(radio), Ok(time)) = tasks else { halt("a task does not fit into memory") };
    spawner.spawn(network);
    spawner.spawn(radio);
    spawner.spawn(time);

    let parts = Parts::<Esp> {
        flash: credentials,
        rng: Random(random.clone()),
        signer: SoftwareSigner,
        #[cfg(not(feature = "esp32"))]
        sealing: AesSeal::new(&sealing_key(chip.HMAC)),
        #[cfg(feature = "esp32")]
        sealing: AesSeal::new(&[0; 32]),
        images,
    };
    let mut settings = Settings::default();
    settings.running.chip = esp_hal::chip!().into();
    settings.running.version = env!("CARGO_PKG_VERSION").into();
    // Of an image that was flashed by cable. What was installed as an update has the counter of its manifest.
    let counter = option_env!("SIGNET_OTA_COUNTER").and_then(|counter| counter.parse().ok());
    settings.running.counter = counter.unwrap_or(0);
    let mut started = Vec::new();
    let mut device = Device::new(parts, Some(factory), settings, Clocks.now(), &mut started);
    let Ok(tls) = Tls::new(Box::leak(Box::new(random))) else { halt("Mbed TLS does not start") };
    let mut connector = MbedTls::new(tls.reference(), Tcp::new(stack, None), &broker, &server_ca);
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
