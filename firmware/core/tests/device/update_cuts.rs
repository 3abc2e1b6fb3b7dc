//! Whole updates on one chip: credentials, the bootloader's note and both images in one flash, whose power fails at every word
//! and every erase.

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use sha2::{Digest as _, Sha256};
use signet_device_core::factory::Factory;
use signet_device_core::images::Partitions;
use signet_device_core::ota::{Outcome, Refused, Running};
use signet_device_core::platform::{Place, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::store::Store;
use signet_device_core::trial::Trial;
use signet_device_core::{Action, Device, Event, Failure, Input, Message, Now, Parts, Settings};

use super::chip::{Region, noted};
use super::flash::{Flash, SECTOR};
use super::world::{PoolSigner, SECTORS, START, TestRng, World};

const OTADATA: usize = SECTORS;
const IMAGES: [usize; 2] = [SECTORS + 2, SECTORS + 4];
const IMAGE_SECTORS: usize = 2;
const THING: &str = "thing-sn-0001";
/// The manifest's counter of the new image. Its code knows of none, so that it can come from nowhere else.
const COUNTER: u32 = 7;
const OLD_COUNTER: u32 = 3;
const MINUTE: u64 = 60_000;

struct Chip;

impl Platform for Chip {
    type Flash = Region;
    type Rng = TestRng;
    type Signer = PoolSigner;
    type Sealing = AesSeal;
    type Images = Partitions<Region>;
}

/// What an image does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Works,
    /// It runs, and does not reach the broker.
    Deaf,
    /// It dies at every start.
    Crashes,
}

/// What the bootloader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boots {
    WhatIsNoted,
    /// The other image does not pass its checks.
    Only(Place),
}

fn key() -> SigningKey {
    SigningKey::from_slice(&[5; 32]).expect("a key")
}

fn image(version: &str) -> Vec<u8> {
    let seed = version.bytes().fold(7_u8, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte));
    // Two sectors, the second not full, and the last word neither.
    let mut bytes: Vec<u8> = (0..4_702_u32).map(|n| (n as u8).wrapping_mul(seed | 1)).collect();
    bytes[..version.len()].copy_from_slice(version.as_bytes());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn order(version: &str, counter: u32) -> Vec<u8> {
    let image = image(version);
    let manifest = format!(
        r#"{{"version":"{version}","chip":"c","size":{},"sha256":"{}","counter":{counter}}}"#,
        image.len(),
        hex(&Sha256::digest(&image))
    );
    let signature: DerSignature = key().sign(manifest.as_bytes());
    let order = serde_json::json!({"manifest": manifest, "signature": hex(signature.as_bytes())});
    order.to_string().into_bytes()
}

/// A device on its chip, with an operator who wants it to run 1.5.0.
struct Life {
    chip: Flash,
    factory: Factory,
    kind: Kind,
    boots: Boots,
    device: Option<Device<Chip>>,
    running: &'static str,
    now: u64,
    booted: u64,
    starts: u32,
    online: bool,
    ordered: bool,
    /// What the operator orders, while the device says nothing of an outcome.
    wants: Option<(&'static str, u32)>,
    events: Vec<Event>,
    said: Vec<String>,
}

/// An enrolled device that runs 1.4.0 from the first partition, and never had an update.
fn base() -> (Vec<u8>, Factory) {
    let mut world = World::new();
    world.boot();
    world.online();
    let mut bytes = world.flash.bytes();
    bytes.resize((IMAGES[1] + IMAGE_SECTORS) * SECTOR, 0xff);
    let (start, old) = (IMAGES[0] * SECTOR, image("1.4.0"));
    bytes[start..start + old.len()].copy_from_slice(&old);
    (bytes, world.factory.expect("factory data"))
}

impl Life {
    fn new(base: &(Vec<u8>, Factory), kind: Kind) -> Self {
        Self {
            chip: Flash::with(base.0.clone()),
            factory: base.1.clone(),
            kind,
            boots: Boots::WhatIsNoted,
            device: None,
            running: "",
            now: 0,
            booted: 0,
            starts: 0,
            online: false,
            ordered: false,
            wants: Some(("1.5.0", COUNTER)),
            events: Vec::new(),
            said: Vec::new(),
        }
    }

    fn stored(&self, name: &str) -> Option<u64> {
        let (mut store, _) = Store::open(Region::of(&Flash::with(self.chip.bytes()), 0, SECTORS));
        store.read([], [name]).expect("readable").1[0]
    }

    fn trial(&self) -> Option<Trial> {
        self.stored("ota_trial").and_then(Trial::unpack)
    }

    fn place(&self) -> Place {
        match self.boots {
            Boots::WhatIsNoted => noted(&self.chip, OTADATA),
            Boots::Only(place) => place,
        }
    }

    fn version_in(&self, place: Place) -> Option<&'static str> {
        let bytes = self.chip.bytes();
        let start = IMAGES[place as usize] * SECTOR;
        ["1.4.0", "1.5.0", "1.6.0"].into_iter().find(|version| {
            let image = image(version);
            bytes[start..start + image.len()] == image
        })
    }

    fn boot(&mut self) {
        self.starts += 1;
        let place = self.place();
        let version = self.version_in(place);
        self.running = version.unwrap_or_else(|| panic!("bricked: no whole image in {place:?}"));
        if self.running != "1.4.0" && self.stored("ota_counter") != Some(COUNTER.into()) {
            assert!(self.trial().is_some(), "{} boots without a trial", self.running);
        }
        let point = p256::PublicKey::from(*key().verifying_key());
        let counter = if self.running == "1.4.0" { OLD_COUNTER } else { 0 };
        let settings = Settings {
            running: Running {
                version: self.running.into(),
                chip: "c".into(),
                counter,
                key: Some(point.to_sec1_bytes().to_vec()),
            },
            ..Settings::default()
        };
        let region = |sector, sectors| Region::of(&self.chip, sector, sectors);
        let images = IMAGES.map(|sector| region(sector, IMAGE_SECTORS));
        let parts = Parts::<Chip> {
            flash: region(0, SECTORS),
            rng: TestRng(u64::from(self.starts) * 7_919),
            signer: PoolSigner,
            sealing: AesSeal::new(&[7; 32]),
            images: Partitions::new(region(OTADATA, 2), images, place),
        };
        (self.booted, self.online, self.ordered) = (self.now, false, false);
        let mut out = Vec::new();
        let device = Device::new(parts, Some(self.factory.clone()), settings, self.moment(), &mut out);
        self.device = Some(device);
        if self.running != "1.4.0" && self.kind == Kind::Crashes && !out.iter().any(is_reboot) {
            return;
        }
        self.act(out);
    }

    fn moment(&self) -> Now {
        Now { mono: self.now - self.booted, wall: Some(START + 60 + self.now / 1_000) }
    }

    fn handle(&mut self, input: Input<'_>) {
        if self.chip.is_cut() {
            return;
        }
        self.now += 5;
        let now = self.moment();
        let mut out = Vec::new();
        self.device.as_mut().expect("booted").handle(now, input, &mut out);
        self.act(out);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            if self.chip.is_cut() {
                return;
            }
            match action {
                Action::Connect(_) if self.running != "1.4.0" && self.kind != Kind::Works => {
                    self.handle(Input::Ended(Failure::Unreachable));
                }
                Action::Connect(_) => {
                    self.online = true;
                    self.handle(Input::Connected);
                }
                Action::Subscribe { id, filters } => {
                    self.handle(Input::Subscribed { id, granted: vec![true; filters.len()] });
                }
                Action::Publish(publish) => {
                    self.handle(Input::Acknowledged { id: publish.id, accepted: true });
                    self.heard(&publish.topic, &publish.payload);
                }
                Action::Event(event) => self.events.push(event),
                action if is_reboot(&action) => {
                    self.boot();
                    return;
                }
                _ => {}
            }
        }
    }

    /// The operator's side.
    fn heard(&mut self, topic: &str, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload).into_owned();
        if topic.ends_with("/telemetry/ota") {
            let wanted: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
            let (version, offset) =
                (wanted["version"].as_str().expect("it"), wanted["offset"].as_u64().expect("it"));
            let (image, start) = (image(version), usize::try_from(offset).expect("small"));
            let part = &image[start..image.len().min(start + 1_024)];
            self.message(&format!("devices/{THING}/commands/ota/{offset}"), part);
        } else if topic.ends_with("/telemetry/results") {
            if text.contains("old one is back") || text.contains("confirmed") {
                self.wants = None;
            }
            self.said.push(text);
        }
    }

    fn message(&mut self, topic: &str, payload: &[u8]) {
        self.handle(Input::Message(Message { topic, payload, retained: false }));
    }

    /// Runs until `reached`, for at most so many milliseconds; false as soon as the power is out.
    fn run(&mut self, ms: u64, reached: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + ms;
        while !self.chip.is_cut() {
            assert!(self.starts < 40, "a reboot loop: {:?}", self.events);
            if reached(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            if self.running != "1.4.0" && self.kind == Kind::Crashes {
                self.now += MINUTE;
                self.boot();
                continue;
            }
            if let (true, false, Some((version, counter))) = (self.online, self.ordered, self.wants)
                && version != self.running
            {
                self.ordered = true;
                self.message(&format!("devices/{THING}/commands/ota"), &order(version, counter));
                continue;
            }
            let next = self.device.as_ref().expect("booted").next_deadline().saturating_add(self.booted);
            self.now = next.clamp(self.now + 1, end);
            self.handle(Input::Tick);
        }
        false
    }

    fn updated(&self) -> bool {
        self.running == "1.5.0"
            && self.online
            && self.said.iter().any(|said| said.contains("confirmed 1.5.0"))
    }

    fn returned(&self) -> bool {
        self.running == "1.4.0"
            && self.online
            && self.said.iter().any(|said| said.contains("old one is back"))
    }
}

fn is_reboot(action: &Action) -> bool {
    matches!(action, Action::Reboot(_))
}

/// How many writes and erases a life takes until `goal`.
fn operations(base: &(Vec<u8>, Factory), kind: Kind, goal: impl Fn(&Life) -> bool) -> u64 {
    let mut life = Life::new(base, kind);
    life.boot();
    assert!(life.run(60 * MINUTE, goal), "{:?} {:?}", life.events, life.said);
    life.chip.operations()
}

#[test]
fn an_update_is_installed_tried_and_kept_with_the_counter_of_its_manifest() {
    let mut life = Life::new(&base(), Kind::Works);
    life.boot();
    assert!(life.run(60 * MINUTE, Life::updated), "{:?} {:?}", life.events, life.said);
    assert_eq!(life.stored("ota_counter"), Some(COUNTER.into()));
    assert_eq!((life.trial(), life.starts), (None, 2));
    assert_eq!(
        (life.version_in(Place::First), life.version_in(Place::Second)),
        (Some("1.4.0"), Some("1.5.0"))
    );
    // One below the counter of what was installed: neither now nor after a start.
    for _ in 0..2 {
        life.message(&format!("devices/{THING}/commands/ota"), &order("1.6.0", COUNTER - 1));
        let refused = Event::Update(Outcome::Refused(Refused::Older));
        assert_eq!(life.events.pop(), Some(refused));
        life.boot();
        assert!(life.run(MINUTE, |life| life.online));
    }
    // The next one goes to the other partition.
    life.wants = Some(("1.6.0", COUNTER));
    assert!(life.run(60 * MINUTE, |life| life.running == "1.6.0" && life.online));
    assert_eq!(life.place(), Place::First);
}

#[test]
fn no_cut_during_an_update_loses_an_image_or_boots_one_without_a_trial() {
    let base = base();
    let operations = operations(&base, Kind::Works, Life::updated);
    let mut cuts = 0;
    for nth in 1..=operations {
        // The words of the image are all alike.
        let noises = if nth.is_multiple_of(10) || nth + 150 > operations { 4 } else { 1 };
        for noise in 0..noises {
            cuts += 1;
            let mut life = Life::new(&base, Kind::Works);
            life.chip.cut_power_in(nth, nth.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (noise * 7_919 + 1));
            life.boot();
            life.run(60 * MINUTE, Life::updated);
            if !life.chip.is_cut() {
                continue;
            }
            life.chip.power_on();
            life.now += MINUTE;
            life.boot();
            let there = life.run(90 * MINUTE, |life| life.updated() || life.returned());
            assert!(there, "cut {nth}: {:?} {:?}", life.events, life.said);
            if life.returned() {
                // The note was there and the switch was not: it is said, and the operator may order it again.
                life.said.clear();
                life.wants = Some(("1.5.0", COUNTER));
                life.ordered = false;
                assert!(life.run(60 * MINUTE, Life::updated), "cut {nth}: {:?} {:?}", life.events, life.said);
            }
            assert_eq!(life.stored("ota_counter"), Some(COUNTER.into()), "cut {nth}");
            assert_eq!(life.trial(), None, "cut {nth}");
        }
    }
    println!("{cuts} cuts during an update");
    assert!(cuts > 1_500, "{cuts}");
}

#[test]
fn no_cut_keeps_an_image_that_does_not_reach_the_broker() {
    let base = base();
    for kind in [Kind::Deaf, Kind::Crashes] {
        let operations = operations(&base, kind, Life::returned);
        // What is written before the last word of the image is tried above.
        for nth in operations.saturating_sub(400)..=operations {
            for noise in 0..3 {
                let mut life = Life::new(&base, kind);
                life.chip.cut_power_in(nth, nth.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (noise * 7_919 + 1));
                life.boot();
                life.run(120 * MINUTE, Life::returned);
                if !life.chip.is_cut() {
                    continue;
                }
                life.chip.power_on();
                life.boot();
                let there = life.run(120 * MINUTE, Life::returned);
                assert!(there, "{kind:?}, cut {nth}: {:?} {:?}", life.events, life.said);
                assert_eq!(life.stored("ota_counter"), None, "{kind:?}, cut {nth}: it never worked");
                assert_eq!(life.trial(), None, "{kind:?}, cut {nth}");
            }
        }
    }
}

#[test]
fn an_image_that_reaches_nobody_goes_after_ten_minutes_and_one_that_crashes_at_its_fourth_start() {
    let base = base();
    let mut deaf = Life::new(&base, Kind::Deaf);
    deaf.boot();
    assert!(deaf.run(60 * MINUTE, |life| life.running == "1.5.0"));
    let since = deaf.now;
    assert!(!deaf.run(9 * MINUTE, |life| life.running == "1.4.0"), "it has ten minutes");
    assert!(deaf.run(2 * MINUTE, Life::returned), "{:?}", deaf.events);
    assert!(deaf.now - since < 12 * MINUTE && deaf.starts == 3);

    let mut crashing = Life::new(&base, Kind::Crashes);
    crashing.boot();
    assert!(crashing.run(60 * MINUTE, Life::returned));
    assert_eq!(crashing.starts, 1 + 4 + 1, "the old one, four starts of the new one, the old one");
    // What was given up may be tried again: its counter does not count.
    crashing.kind = Kind::Works;
    (crashing.wants, crashing.ordered) = (Some(("1.5.0", COUNTER)), false);
    assert!(crashing.run(60 * MINUTE, Life::updated), "{:?} {:?}", crashing.events, crashing.said);
}

#[test]
fn an_image_that_the_bootloader_does_not_start_is_reported_and_another_can_follow() {
    let mut life = Life::new(&base(), Kind::Works);
    life.boots = Boots::Only(Place::First);
    life.boot();
    assert!(life.run(60 * MINUTE, Life::returned), "{:?} {:?}", life.events, life.said);
    assert_eq!(noted(&life.chip, OTADATA), Place::First, "the note follows what runs");
    assert_eq!(life.starts, 2);
    life.boots = Boots::WhatIsNoted;
    (life.wants, life.ordered) = (Some(("1.6.0", COUNTER)), false);
    assert!(life.run(60 * MINUTE, |life| life.running == "1.6.0" && life.trial().is_none()));
}

#[test]
fn an_old_image_that_does_not_start_any_more_makes_no_loop() {
    let mut life = Life::new(&base(), Kind::Deaf);
    life.boot();
    assert!(life.run(60 * MINUTE, |life| life.running == "1.5.0"));
    life.boots = Boots::Only(Place::Second);
    assert!(!life.run(600 * MINUTE, |life| life.running == "1.4.0"));
    assert!(life.events.contains(&Event::Update(Outcome::Stuck)), "{:?}", life.events);
    assert_eq!(life.starts, 1 + 7);
    // It reaches the broker at last: it stays.
    life.kind = Kind::Works;
    assert!(life.run(60 * MINUTE, Life::updated), "{:?}", life.said);
    assert_eq!(life.stored("ota_counter"), Some(COUNTER.into()));
}

#[test]
fn an_image_on_trial_takes_no_other_and_a_flash_that_keeps_no_note_takes_none() {
    let mut life = Life::new(&base(), Kind::Works);
    life.boot();
    assert!(life.run(MINUTE, |life| life.online));
    life.chip.wear_out_after(0);
    life.message(&format!("devices/{THING}/commands/ota"), &order("1.5.0", COUNTER));
    life.run(10 * MINUTE, |_| false);
    assert_eq!(life.running, "1.4.0");
    assert_eq!(noted(&life.chip, OTADATA), Place::First);
    assert!(life.events.contains(&Event::Update(Outcome::Refused(Refused::Flash))), "{:?}", life.events);
}
