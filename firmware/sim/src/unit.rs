//! One sensor: what survives when its power fails.

use sha2::{Digest as _, Sha256};
use signet_device_core::factory::{Claim, Factory};
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::platform::{FixedImage, Platform, Rng};
use signet_device_core::seal::AesSeal;
use signet_device_core::slots::Slots;
use signet_device_core::store::{Store, StoreFault};
use signet_device_core::topic::Format;
use signet_device_core::{Action, Device, Now, Parts, Settings};

use crate::flash::Flash;

/// The sectors of the credentials' region: 32 KiB, as in the boards' partition table.
pub const SECTORS: usize = 8;

/// SHA-256 in counter mode over a seed: keys that differ between devices and boots and repeat with the seed. For simulations
/// only: whoever knows the seed knows the keys.
#[derive(Debug, Clone)]
pub struct SeededRng {
    seed: [u8; 32],
    counter: u64,
}

impl SeededRng {
    /// Of a seed, a device and its boot.
    #[must_use]
    pub fn new(seed: u64, device: &str, boot: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(boot.to_le_bytes());
        hash.update(device);
        Self { seed: hash.finalize().into(), counter: 0 }
    }
}

impl Rng for SeededRng {
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.counter.to_le_bytes());
            self.counter += 1;
            let digest = hash.finalize();
            part.copy_from_slice(&digest[..part.len()]);
        }
    }
}

/// The parts of a simulated device.
pub struct Simulated;

impl Platform for Simulated {
    type Flash = Flash;
    type Rng = SeededRng;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = FixedImage;
}

/// What every device of a fleet is given at the factory.
#[derive(Debug, Clone)]
pub struct Given {
    /// The claim.
    pub claim: Claim,
    /// The template of the first enrolment.
    pub template: String,
    /// The template of rotations.
    pub rotation_template: String,
    /// JSON or CBOR.
    pub format: Format,
    /// How the devices are set.
    pub settings: Settings,
    /// The seed of everything.
    pub seed: u64,
}

/// One sensor.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its flash.
    pub flash: Flash,
    /// Its factory data.
    pub factory: Factory,
    settings: Settings,
    seed: u64,
    boots: u64,
}

impl Unit {
    /// A new one with this serial number.
    #[must_use]
    pub fn new(given: &Given, serial: String) -> Self {
        let factory = Factory {
            serial,
            claim: Some(given.claim.clone()),
            template: given.template.clone(),
            rotation_template: given.rotation_template.clone(),
            format: given.format,
            broker: String::new(),
            server_ca: Vec::new(),
            token: None,
            ota_key: None,
        };
        Self {
            flash: Flash::blank(SECTORS),
            factory,
            settings: given.settings.clone(),
            seed: given.seed,
            boots: 0,
        }
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.factory.serial
    }

    /// How often it was started.
    #[must_use]
    pub const fn boots(&self) -> u64 {
        self.boots
    }

    fn sealing(&self) -> AesSeal {
        // Stands for the key in the eFuses: of this device, and not in its flash.
        AesSeal::new(&Sha256::digest(self.factory.serial.as_bytes()).into())
    }

    /// Puts a claim into the working region, as a service tool does.
    ///
    /// # Errors
    /// The flash failed.
    pub fn put_claim(&self, claim: &Claim) -> Result<(), StoreFault> {
        let (store, _) = Store::open(self.flash.clone());
        Slots::new(store, self.sealing()).put_claim(claim)
    }

    /// Gives it power, and counts its start. What is to go wrong with the flash from the first write on is set after this.
    pub fn power_on(&mut self) {
        self.boots += 1;
        self.flash.power_on();
    }

    /// Switches it on.
    pub fn boot(&mut self, now: Now, out: &mut Vec<Action>) -> Device<Simulated> {
        self.power_on();
        self.start(now, out)
    }

    /// Lets the firmware begin, with the power on.
    pub fn start(&mut self, now: Now, out: &mut Vec<Action>) -> Device<Simulated> {
        let parts = Parts {
            flash: self.flash.clone(),
            rng: SeededRng::new(self.seed, &self.factory.serial, self.boots),
            signer: SoftwareSigner,
            sealing: self.sealing(),
            images: FixedImage,
        };
        Device::new(parts, Some(self.factory.clone()), self.settings.clone(), now, out)
    }
}
