//! The sensor on QEMU's `virt` machine: 32-bit RISC-V, bare metal, the same core, agent and TLS as on the chip.
//!
//! Its flash are files of the host, one for each partition: `factory.bin` (never written), `creds.bin`, `otadata.bin`, `ota_0.bin`
//! and `ota_1.bin`. Whoever starts the machine is its bootloader: the argument `ota_1` says that the image is the one of the
//! second partition. Its network is virtio; its time of day is the machine's real-time clock; its randomness comes from the
//! host. It prints one line for each event. A restart is a reset of the machine.
#![no_std]
#![no_main]

extern crate alloc;
extern crate tinyrlibc as _;

mod clock;
mod flash;
mod libc;
mod memory;
mod random;
mod runtime;
mod stack;
mod version;
mod virtio;

use alloc::boxed::Box;
use alloc::vec::Vec;

use embassy_futures::block_on;
use embassy_futures::select::{Either, select};
use embassy_net::StackResources;
use embedded_storage::nor_flash::NorFlashErrorKind;
use mbedtls_rs::Tls;
use rand_core::Rng as _;
use semihosting::println;
use signet_device_core::factory::Factory;
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::images::Partitions;
use signet_device_core::platform::{Clock as _, Place, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::{Device, Parts, RebootReason, Settings};
use signet_device_tls::net::Tcp;
use signet_device_tls::{Broker, MbedTls, TlsClock};

use crate::clock::Clocks;
use crate::flash::FileFlash;
use crate::random::Random;
use crate::runtime::Emulated;
use crate::virtio::{Entropy, Network};

/// The flash regions, as in the chips' partition table.
const FACTORY_BYTES: usize = 0x6000;
const CREDENTIALS_BYTES: usize = 0x8000;
const OTADATA_BYTES: usize = 0x2000;
const IMAGE_BYTES: usize = 0x1e_0000;
/// The broker is reached through QEMU's own network, at this address of a `guestfwd`, whatever its name.
const GATEWAY: core::net::Ipv4Addr = core::net::Ipv4Addr::new(10, 0, 2, 100);
/// The emulated chip has no fuses: its seal is a constant. A real one derives it from the HMAC eFuse.
const SEAL: [u8; 32] = *b"an emulated chip has no fuses   ";

/// The SiFive test device: 0x5555 ends the machine, 0x7777 resets it, 0x3333 ends it with a code.
const TEST_DEVICE: usize = 0x0010_0000;
const RESET: u32 = 0x7777;
const FAILED: u32 = 0x1_3333;

struct Virt;

impl Platform for Virt {
    type Flash = FileFlash;
    type Rng = Random;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = Partitions<FileFlash>;
}

fn tell_machine(code: u32) -> ! {
    // SAFETY: the device is mapped there on the `virt` machine, and writing these codes is what it is for.
    unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(TEST_DEVICE), code) };
    loop {
        core::hint::spin_loop();
    }
}

fn fail(why: &str) -> ! {
    println!("FATAL {why}");
    tell_machine(FAILED)
}

/// The partitions of images, and which of them runs.
fn partitions() -> Result<Partitions<FileFlash>, NorFlashErrorKind> {
    let second = semihosting::experimental::env::args::<256>()
        .is_ok_and(|arguments| (&arguments).into_iter().any(|argument| argument == Ok("ota_1")));
    let running = if second { Place::Second } else { Place::First };
    let otadata = FileFlash::open(c"otadata.bin", OTADATA_BYTES)?;
    let images = [FileFlash::open(c"ota_0.bin", IMAGE_BYTES)?, FileFlash::open(c"ota_1.bin", IMAGE_BYTES)?];
    println!("image {} {running:?}", version::version());
    Ok(Partitions::new(otadata, images, running))
}

#[riscv_rt::entry]
fn main() -> ! {
    memory::init();
    stack::paint();
    // SAFETY: the clock is static and works from the first moment; nothing of Mbed TLS runs yet.
    unsafe { TlsClock(Clocks).hook() };
    println!("boot wall={:?}", clock::wall_secs());
    let Some(mut entropy) = Entropy::find() else { fail("the machine has no virtio-rng") };
    let (Some(seed), Some(for_tls)) = (entropy.seed(), entropy.seed()) else {
        fail("the host gives no randomness")
    };
    let Some(network) = Network::find() else { fail("the machine has no virtio-net") };
    let Ok(mut factory) = FileFlash::open(c"factory.bin", FACTORY_BYTES) else {
        fail("factory.bin cannot be opened")
    };
    let Ok(credentials) = FileFlash::open(c"creds.bin", CREDENTIALS_BYTES) else {
        fail("creds.bin cannot be opened")
    };
    let Ok(images) = partitions() else { fail("the files of the images cannot be opened") };
    let factory = match Factory::read(&mut factory) {
        Ok(factory) => factory,
        Err(error) => {
            println!("factory {error:?}");
            fail("the factory partition cannot be used; make it with firmware/factory")
        }
    };
    let Some(broker) = Broker::parse(&factory.broker) else { fail("the factory data name no broker") };
    let server_ca = factory.server_ca.clone();
    let mut random = Random::new(seed);
    let network_seed = random.next_u64();
    let mut started = Vec::new();
    let parts = Parts::<Virt> {
        flash: credentials,
        rng: random,
        signer: SoftwareSigner,
        sealing: AesSeal::new(&SEAL),
        images,
    };
    let mut settings = Settings::default();
    settings.running.chip = alloc::string::String::from("qemu-rv32");
    settings.running.version = version::version();
    let mut device = Device::new(parts, Some(factory), settings, Clocks.now(), &mut started);

    let Ok(tls) = Tls::new(Box::leak(Box::new(Random::new(for_tls)))) else {
        fail("Mbed TLS exists already")
    };
    let mut resources = StackResources::<3>::new();
    let dhcp = embassy_net::Config::dhcpv4(Default::default());
    let (stack, mut runner) = embassy_net::new(network, dhcp, &mut resources, network_seed);
    println!("heap before-tls used={}", memory::used());
    memory::forget_peak();
    let dial = Tcp::new(stack, Some(GATEWAY.into()));
    let mut connector = MbedTls::new(tls.reference(), dial, &broker, &server_ca);
    let mut runtime = Emulated::new(memory::used());
    let agent = signet_device_agent::run(&mut device, started, &mut connector, &mut runtime);
    let reason = match block_on(select(runner.run(), agent)) {
        Either::Second(reason) => reason,
        Either::First(_) => fail("the network ended"),
    };
    println!("reboot {}", word(reason));
    tell_machine(RESET)
}

fn word(reason: RebootReason) -> &'static str {
    match reason {
        RebootReason::Commanded => "commanded",
        RebootReason::NewImage => "new-image",
        RebootReason::Reverted => "reverted",
    }
}
