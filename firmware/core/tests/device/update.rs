//! Updates: what is refused, what is installed, and the way back.

use std::cell::RefCell;
use std::rc::Rc;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use sha2::{Digest as _, Sha256};
use signet_device_core::command::{self, Command};
use signet_device_core::ota::{Outcome, Progress, Refused, Running, SignedManifest, Update};
use signet_device_core::platform::{FixedImage, ImageError, Images, Place, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::{
    Action, Device, Event, Failure, Input, Message, Now, Parts, RebootReason, Settings,
};

use super::flash::Flash;
use super::world::{DAY, PoolSigner, START, TestRng, World};

pub fn key() -> SigningKey {
    SigningKey::from_slice(&[5; 32]).expect("a key")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn running() -> Running {
    let point = p256::PublicKey::from(*key().verifying_key());
    Running {
        version: "1.4.0".into(),
        chip: "esp32c6".into(),
        counter: 3,
        key: Some(point.to_sec1_bytes().to_vec()),
    }
}

pub fn manifest(version: &str, chip: &str, image: &[u8], counter: u32) -> String {
    let digest = hex(&Sha256::digest(image));
    format!(
        r#"{{"version":"{version}","chip":"{chip}","size":{},"sha256":"{digest}","counter":{counter}}}"#,
        image.len()
    )
}

pub fn signed(manifest: &str) -> SignedManifest {
    let signature: DerSignature = key().sign(manifest.as_bytes());
    SignedManifest::read(manifest, &hex(signature.as_bytes())).expect("hex")
}

#[derive(Debug, Default)]
pub struct Partition {
    pub image: Vec<u8>,
    pub boots_next: bool,
    /// What the bootloader's note says.
    on_trial: bool,
    reverted: bool,
    /// The second partition runs.
    second: bool,
    /// The note cannot be written.
    worn: bool,
}

#[derive(Debug, Clone, Default)]
pub struct TwoImages(pub Rc<RefCell<Partition>>);

impl TwoImages {
    fn written(&self) -> Result<std::cell::RefMut<'_, Partition>, ImageError> {
        let partition = self.0.borrow_mut();
        if partition.worn { Err(ImageError::Flash) } else { Ok(partition) }
    }
}

impl Images for TwoImages {
    fn running(&self) -> Place {
        if self.0.borrow().second { Place::Second } else { Place::First }
    }

    fn begin(&mut self, bytes: u32) -> Result<(), ImageError> {
        if bytes > 100_000 {
            return Err(ImageError::TooLarge);
        }
        self.0.borrow_mut().image.clear();
        Ok(())
    }

    fn write(&mut self, offset: u32, part: &[u8]) -> Result<(), ImageError> {
        let mut partition = self.0.borrow_mut();
        assert_eq!(partition.image.len(), offset as usize);
        partition.image.extend(part);
        Ok(())
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ImageError> {
        let partition = self.0.borrow();
        let kept = &partition.image[offset as usize..];
        let kept = &kept[..kept.len().min(bytes.len())];
        bytes[..kept.len()].copy_from_slice(kept);
        Ok(())
    }

    fn boot_next(&mut self) -> Result<(), ImageError> {
        self.written()?.boots_next = true;
        Ok(())
    }

    fn on_trial(&mut self) -> bool {
        self.0.borrow().on_trial
    }

    fn keep(&mut self) -> Result<(), ImageError> {
        self.written()?.on_trial = false;
        Ok(())
    }

    fn revert(&mut self) -> Result<(), ImageError> {
        let mut partition = self.written()?;
        (partition.on_trial, partition.reverted) = (false, true);
        Ok(())
    }
}

#[test]
fn only_a_newer_image_for_this_chip_with_our_signature_is_taken() {
    let image = [1; 5_000];
    let good = manifest("1.5.0", "esp32c6", &image, 3);
    assert!(signed(&good).verify(&running()).is_ok());
    for (what, text, refused) in [
        ("the same version", manifest("1.4.0", "esp32c6", &image, 3), Refused::Older),
        ("an older one", manifest("1.3.9", "esp32c6", &image, 9), Refused::Older),
        ("one below the counter", manifest("2.0.0", "esp32c6", &image, 2), Refused::Older),
        ("another chip's", manifest("1.5.0", "esp32c3", &image, 3), Refused::Chip),
        ("one of no size", manifest("1.5.0", "esp32c6", &[], 3), Refused::Manifest),
        ("no version", manifest("new", "esp32c6", &image, 3), Refused::Manifest),
        ("a short digest", good.replace("\"sha256\":\"", "\"sha256\":\"00"), Refused::Manifest),
        ("an unknown member", good.replace('{', "{\"x\":1,"), Refused::Manifest),
    ] {
        assert_eq!(signed(&text).verify(&running()), Err(refused), "{what}");
    }
    let signature: DerSignature = key().sign(good.as_bytes());
    let signature = hex(signature.as_bytes());
    let changed = good.replace("\"counter\":3", "\"counter\":4");
    let verdict = |manifest: &str, signature: &str| {
        SignedManifest::read(manifest, signature).map(|signed| signed.verify(&running()))
    };
    assert_eq!(verdict(&changed, &signature), Some(Err(Refused::Signature)), "a changed manifest");
    assert_eq!(verdict(&good, ""), Some(Err(Refused::Signature)), "unsigned");
    assert_eq!(verdict(&good, "zz"), None);
    let others: DerSignature = SigningKey::from_slice(&[6; 32]).expect("a key").sign(good.as_bytes());
    assert_eq!(verdict(&good, &hex(others.as_bytes())), Some(Err(Refused::Signature)), "another's signature");
    let without = Running { key: None, ..running() };
    assert_eq!(signed(&good).verify(&without), Err(Refused::NoKey));
}

#[test]
fn an_image_is_bootable_only_when_it_is_whole_and_the_one_that_was_signed() {
    let image: Vec<u8> = (0..5_000_u32).map(|n| n as u8).collect();
    let manifest = signed(&manifest("1.5.0", "esp32c6", &image, 3)).verify(&running()).expect("good");
    let mut images = TwoImages::default();
    let mut update = Update::begin(manifest.clone(), &mut images).expect("fits");
    assert_eq!(update.part(2_048, &image[2_048..4_096], &mut images), Ok(Progress::Ignored), "not its turn");
    assert_eq!(update.part(0, &image[..2_049], &mut images), Ok(Progress::Ignored), "too long a part");
    assert_eq!(update.part(0, &[], &mut images), Ok(Progress::Ignored));
    assert_eq!(update.part(0, &image[..2_048], &mut images), Ok(Progress::Want(2_048)));
    assert_eq!(update.part(0, &image[..2_048], &mut images), Ok(Progress::Ignored), "again");
    assert_eq!(update.part(2_048, &image[2_048..4_096], &mut images), Ok(Progress::Want(4_096)));
    assert!(!images.0.borrow().boots_next, "truncated: not bootable");
    assert_eq!(update.part(4_096, &[0; 2_000], &mut images), Ok(Progress::Ignored), "longer than it says");
    assert_eq!(update.part(4_096, &image[4_096..4_099], &mut images), Ok(Progress::Ignored), "half a word");
    assert_eq!(update.part(4_096, &image[4_096..], &mut images), Ok(Progress::Complete));
    assert!(images.0.borrow().image == image);
    assert!(!images.0.borrow().boots_next, "the trial is noted before it boots");

    let mut images = TwoImages::default();
    let running_manifest = manifest.clone();
    let mut update = Update::begin(manifest, &mut images).expect("fits");
    let mut flipped = image.clone();
    flipped[3_000] ^= 1;
    let mut last = Ok(Progress::Ignored);
    for (n, part) in flipped.chunks(2_000).enumerate() {
        last = update.part(n as u32 * 2_000, part, &mut images);
    }
    assert_eq!(last, Err(Refused::Digest));
    // What came was right, and the flash did not keep it.
    let mut update = Update::begin(running_manifest, &mut images).expect("fits");
    for (n, part) in image.chunks(2_000).enumerate() {
        if n == 2 {
            images.0.borrow_mut().image[7] ^= 1;
        }
        last = update.part(n as u32 * 2_000, part, &mut images);
    }
    assert_eq!(last, Err(Refused::Digest));
    assert_eq!(FixedImage.begin(1), Err(ImageError::TooLarge));
}

pub struct Updating;

impl Platform for Updating {
    type Flash = Flash;
    type Rng = TestRng;
    type Signer = PoolSigner;
    type Sealing = AesSeal;
    type Images = TwoImages;
}

/// An enrolled device with two images, started with what is in `flash`.
pub fn start(flash: &Flash, world: &World, images: &TwoImages, mono: u64) -> (Device<Updating>, Vec<Action>) {
    let parts = Parts {
        flash: flash.clone(),
        rng: TestRng(3),
        signer: PoolSigner,
        sealing: AesSeal::new(&[7; 32]),
        images: images.clone(),
    };
    let mut out = Vec::new();
    let settings = Settings { running: running(), ..Settings::default() };
    let now = Now { mono, wall: Some(START + 60) };
    (Device::new(parts, world.factory.clone(), settings, now, &mut out), out)
}

pub fn handle(device: &mut Device<Updating>, mono: u64, input: Input<'_>) -> Vec<Action> {
    let mut out = Vec::new();
    device.handle(Now { mono, wall: Some(START + 60 + mono / 1_000) }, input, &mut out);
    out
}

pub fn online(device: &mut Device<Updating>) -> Vec<Action> {
    let connect = handle(device, 5_000, Input::Tick);
    assert!(connect.iter().any(|action| matches!(action, Action::Connect(_))), "{connect:?}");
    handle(device, 5_100, Input::Connected)
}

pub fn enrolled() -> World {
    let mut world = World::new();
    world.boot();
    world.online();
    world
}

pub fn payloads(actions: &[Action], end: &str) -> Vec<String> {
    let published = actions.iter().filter_map(|action| match action {
        Action::Publish(publish) if publish.topic.ends_with(end) => Some(&publish.payload),
        _ => None,
    });
    published.map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
}

#[test]
fn an_update_is_asked_for_in_parts_and_started_when_it_is_whole() {
    let (world, images) = (enrolled(), TwoImages::default());
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    online(&mut device);
    let image = vec![9; 3_000];
    let text = manifest("1.5.0", "esp32c6", &image, 3);
    let signature: DerSignature = key().sign(text.as_bytes());
    let payload = serde_json::json!({"id": "u", "manifest": text, "signature": hex(signature.as_bytes())});
    let topic = "devices/thing-sn-0001/commands/ota";
    let payload = payload.to_string();
    assert!(matches!(command::read("ota", payload.as_bytes()).command, Ok(Command::Update(_))));
    let message = Message { topic, payload: payload.as_bytes(), retained: false };
    let out = handle(&mut device, 6_000, Input::Message(message));
    assert_eq!(payloads(&out, "/ota"), [r#"{"version":"1.5.0","offset":0,"bytes_max":2048}"#]);
    let busy = handle(&mut device, 6_100, Input::Message(message));
    assert!(payloads(&busy, "/results")[0].contains("not now"), "{busy:?}");
    // Nothing comes: it asks again.
    assert_eq!(payloads(&handle(&mut device, 17_000, Input::Tick), "/ota").len(), 1);
    let part = |device: &mut _, mono, offset: usize, end: usize| {
        let topic = format!("devices/thing-sn-0001/commands/ota/{offset}");
        let message = Message { topic: &topic, payload: &image[offset..end], retained: false };
        handle(device, mono, Input::Message(message))
    };
    let out = part(&mut device, 18_000, 0, 2_048);
    assert_eq!(payloads(&out, "/ota"), [r#"{"version":"1.5.0","offset":2048,"bytes_max":2048}"#]);
    let out = part(&mut device, 19_000, 2_048, 3_000);
    assert!(images.0.borrow().boots_next);
    assert!(payloads(&out, "/results")[0].contains("installed"));
    let out = handle(&mut device, 22_000, Input::Tick);
    assert!(out.contains(&Action::Reboot(RebootReason::NewImage)), "{out:?}");
}

#[test]
fn a_device_that_lost_its_own_note_of_a_trial_goes_by_that_of_the_bootloader() {
    let (world, images) = (enrolled(), TwoImages::default());
    images.0.borrow_mut().on_trial = true;
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    let out = online(&mut device);
    assert!(!images.0.borrow().on_trial && !images.0.borrow().reverted);
    assert!(payloads(&out, "/results")[0].contains("confirmed 1.4.0"), "{out:?}");

    images.0.borrow_mut().on_trial = true;
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    handle(&mut device, 5_000, Input::Tick);
    handle(&mut device, 6_000, Input::Ended(Failure::Unreachable));
    let out = handle(&mut device, 10 * 60_000, Input::Tick);
    assert!(out.contains(&Action::Reboot(RebootReason::Reverted)) && images.0.borrow().reverted);
}

#[test]
fn an_image_whose_confirmation_cannot_be_written_stays_on_trial() {
    let (world, images) = (enrolled(), TwoImages::default());
    images.0.borrow_mut().on_trial = true;
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    images.0.borrow_mut().worn = true;
    let out = online(&mut device);
    assert!(!out.contains(&Action::Event(Event::Update(Outcome::Confirmed))), "{out:?}");
    // The flash works again: the next connection confirms.
    images.0.borrow_mut().worn = false;
    handle(&mut device, 7_000, Input::Ended(Failure::Lost));
    handle(&mut device, 60_000, Input::Tick);
    let out = handle(&mut device, 60_100, Input::Connected);
    assert!(out.contains(&Action::Event(Event::Update(Outcome::Confirmed))), "{out:?}");
}

#[test]
fn a_refused_image_is_reported_and_nothing_is_written() {
    let mut world = enrolled();
    let text = manifest("9.0.0", "esp32c6", &[1; 10], 9);
    let payload = serde_json::json!({"manifest": text, "signature": "00"}).to_string();
    world.send("devices/thing-sn-0001/commands/ota", payload.as_bytes());
    let results = world.said("devices/thing-sn-0001/telemetry/results");
    assert!(results[0].contains("image refused: this device has no key for updates"), "{results:?}");
    assert!(world.events.iter().any(|event| matches!(event, Event::Update(_))));
    world.run(DAY);
    assert!(world.reboots.is_empty());
}
