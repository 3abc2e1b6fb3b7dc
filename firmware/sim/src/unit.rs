//! One sensor: what survives when its power fails.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use signet_device_core::enrol::token::Token;
use signet_device_core::factory::{Claim, Factory};
use signet_device_core::https::Url;
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::images::Partitions;
use signet_device_core::ota::Running;
use signet_device_core::platform::{Place, Platform, Rng};
use signet_device_core::seal::AesSeal;
use signet_device_core::slots::Slots;
use signet_device_core::store::{Store, StoreFault};
use signet_device_core::topic::Format;
use signet_device_core::{Action, Device, Now, Parts, Settings};
use zeroize::Zeroizing;

use crate::chip::{Region, noted};
use crate::flash::{Flash, SECTOR};
use crate::release::{self, Kind, what_runs};

/// The sectors of the credentials' region: 32 KiB, as in the boards' partition table. Those of the bootloader's note and of the
/// images follow.
pub const SECTORS: usize = 8;
const OTADATA: usize = SECTORS;
const IMAGES: usize = OTADATA + 2;

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
    type Flash = Region;
    type Rng = SeededRng;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = Partitions<Region>;
}

/// What every device of a fleet is given at the factory.
#[derive(Debug, Clone)]
pub struct Given {
    /// With what they ask for their first certificate.
    pub begin: Begin,
    /// The template of the first enrolment.
    pub template: String,
    /// The template of rotations.
    pub rotation_template: String,
    /// JSON or CBOR.
    pub format: Format,
    /// How the devices are set.
    pub settings: Settings,
    /// The public key of updates. Without one their firmware stays as it is.
    pub update_key: Option<Vec<u8>>,
    /// The seed of everything.
    pub seed: u64,
}

/// With what a device asks for its first certificate.
#[derive(Debug, Clone)]
pub enum Begin {
    /// With a claim that all have.
    Claim(Claim),
    /// Each with a token of its own, by its serial number, at an address of HTTPS.
    Tokens(Url, BTreeMap<String, Zeroizing<String>>),
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
    /// Of each of the two images.
    image_sectors: usize,
}

impl Unit {
    /// A new one with this serial number.
    #[must_use]
    pub fn new(given: &Given, serial: String) -> Self {
        let (claim, token) = match &given.begin {
            Begin::Claim(claim) => (Some(claim.clone()), None),
            Begin::Tokens(url, tokens) => {
                let token = |secret: &Zeroizing<String>| Token { secret: secret.clone(), url: url.clone() };
                (None, tokens.get(&serial).map(token))
            }
        };
        let image_sectors = if given.update_key.is_some() { release::IMAGE_SECTORS } else { 0 };
        let mut bytes = vec![0xff; (IMAGES + 2 * image_sectors) * SECTOR];
        if image_sectors > 0 {
            let first = release::image(release::FIRST_VERSION, Kind::Good);
            bytes[IMAGES * SECTOR..][..first.len()].copy_from_slice(&first);
        }
        let factory = Factory {
            serial,
            claim,
            template: given.template.clone(),
            rotation_template: given.rotation_template.clone(),
            format: given.format,
            broker: String::new(),
            server_ca: Vec::new(),
            token,
            ota_key: given.update_key.clone(),
        };
        Self {
            flash: Flash::with(bytes),
            factory,
            settings: given.settings.clone(),
            seed: given.seed,
            boots: 0,
            image_sectors,
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
        let (store, _) = Store::open(Region::of(&self.flash, 0, SECTORS));
        Slots::new(store, self.sealing()).put_claim(claim)
    }

    fn image(&self, place: Place) -> Region {
        let sector = IMAGES + if place == Place::First { 0 } else { self.image_sectors };
        Region::of(&self.flash, sector, self.image_sectors)
    }

    /// What the bootloader starts: where it is, and its version and kind, when devices have images. An image that is damaged is
    /// not started while the other one is whole.
    #[must_use]
    pub fn runs(&self) -> (Place, Option<(String, Kind)>) {
        let noted = noted(&self.flash, OTADATA);
        let bytes = self.flash.bytes();
        let found = |place: Place| {
            let sector = IMAGES + if place == Place::First { 0 } else { self.image_sectors };
            what_runs(bytes.get(sector * SECTOR..(sector + self.image_sectors) * SECTOR)?)
        };
        match (found(noted), found(noted.other())) {
            (None, Some(other)) => (noted.other(), Some(other)),
            (found, _) => (noted, found),
        }
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
        let (place, image) = self.runs();
        let mut settings = self.settings.clone();
        if let Some((version, _)) = image {
            let (chip, key) = (release::CHIP.to_owned(), self.factory.ota_key.clone());
            settings.running = Running { version, chip, counter: 0, key };
        }
        let images = [Place::First, Place::Second].map(|place| self.image(place));
        let parts = Parts {
            flash: Region::of(&self.flash, 0, SECTORS),
            rng: SeededRng::new(self.seed, &self.factory.serial, self.boots),
            signer: SoftwareSigner,
            sealing: self.sealing(),
            images: Partitions::new(Region::of(&self.flash, OTADATA, 2), images, place),
        };
        Device::new(parts, Some(self.factory.clone()), settings, now, out)
    }
}
