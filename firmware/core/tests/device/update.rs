//! Updates: what is refused, what is installed, and the way back.

use std::cell::RefCell;
use std::rc::Rc;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use sha2::{Digest as _, Sha256};
use signet_device_core::command::{self, Command};
use signet_device_core::ota::{Progress, Refused, Running, SignedManifest, Update};
use signet_device_core::platform::{FixedImage, ImageError, Images, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::{
    Action, Device, Event, Failure, Input, Message, Now, Parts, RebootReason, Settings,
};

use super::flash::Flash;
use super::world::{DAY, PoolSigner, START, TestRng, World};

fn key() -> SigningKey {
    SigningKey::from_slice(&[5; 32]).expect("a key")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn running() -> Running {
    let point = p256::PublicKey::from(*key().verifying_key());
    Running {
        version: "1.4.0".into(),
        chip: "esp32c6".into(),
        counter: 3,
        key: Some(point.to_sec1_bytes().to_vec()),
    }
}

fn manifest(version: &str, chip: &str, image: &[u8], counter: u32) -> String {
    let digest = hex(&Sha256::digest(image));
    format!(
        r#"{{"version":"{version}","chip":"{chip}","size":{},"sha256":"{digest}","counter":{counter}}}"#,
        image.len()
    )
}

fn signed(manifest: &str) -> SignedManifest {
    let signature: DerSignature = key().sign(manifest.as_bytes());
    SignedManifest::read(manifest, &hex(signature.as_bytes())).expect("hex")
}

#[derive(Debug, Default)]
struct Partition {
    image: Vec<u8>,
    boots_next: bool,
    on_trial: bool,
    reverted: bool,
}

#[derive(Debug, Clone, Default)]
struct TwoImages(Rc<RefCell<Partition>>);

impl Images for TwoImages {
    fn begin(&mut self, bytes: u32) -> Result<(), ImageError> {
        if bytes > 100_000 {
            return Err(ImageError::TooLarge);
        }
        *self.0.borrow_mut() = Partition::default();
        Ok(())
    }

    fn write(&mut self, offset: u32, part: &[u8]) -> Result<(), ImageError> {
        let mut partition = self.0.borrow_mut();
        assert_eq!(partition.image.len(), offset as usize);
        partition.image.extend(part);
        Ok(())
    }

    fn boot_next(&mut self) -> Result<(), ImageError> {
        self.0.borrow_mut().boots_next = true;
        Ok(())
    }

    fn on_trial(&mut self) -> bool {
        self.0.borrow().on_trial
    }

    fn confirm(&mut self) -> Result<(), ImageError> {
        self.0.borrow_mut().on_trial = false;
        Ok(())
    }

    fn revert(&mut self) -> Result<(), ImageError> {
        let mut partition = self.0.borrow_mut();
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
    assert_eq!(update.part(4_096, &image[4_096..], &mut images), Ok(Progress::Complete));
    assert!(images.0.borrow().boots_next && images.0.borrow().image == image);

    let mut images = TwoImages::default();
    let mut update = Update::begin(manifest, &mut images).expect("fits");
    let mut flipped = image.clone();
    flipped[3_000] ^= 1;
    let mut last = Ok(Progress::Ignored);
    for (n, part) in flipped.chunks(2_000).enumerate() {
        last = update.part(n as u32 * 2_000, part, &mut images);
    }
    assert_eq!(last, Err(Refused::Digest));
    assert!(!images.0.borrow().boots_next, "one flipped byte: not bootable");
    assert_eq!(FixedImage.begin(1), Err(ImageError::TooLarge));
}

struct Updating;

impl Platform for Updating {
    type Flash = Flash;
    type Rng = TestRng;
    type Signer = PoolSigner;
    type Sealing = AesSeal;
    type Images = TwoImages;
}

/// An enrolled device with two images, started with what is in `flash`.
fn start(flash: &Flash, world: &World, images: &TwoImages, mono: u64) -> (Device<Updating>, Vec<Action>) {
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

fn handle(device: &mut Device<Updating>, mono: u64, input: Input<'_>) -> Vec<Action> {
    let mut out = Vec::new();
    device.handle(Now { mono, wall: Some(START + 60 + mono / 1_000) }, input, &mut out);
    out
}

fn online(device: &mut Device<Updating>) -> Vec<Action> {
    let connect = handle(device, 5_000, Input::Tick);
    assert!(connect.iter().any(|action| matches!(action, Action::Connect(_))), "{connect:?}");
    handle(device, 5_100, Input::Connected)
}

fn enrolled() -> World {
    let mut world = World::new();
    world.boot();
    world.online();
    world
}

fn payloads(actions: &[Action], end: &str) -> Vec<String> {
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
fn a_new_image_that_reaches_the_broker_stays() {
    let (world, images) = (enrolled(), TwoImages::default());
    images.0.borrow_mut().on_trial = true;
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    let out = online(&mut device);
    assert!(!images.0.borrow().on_trial && !images.0.borrow().reverted);
    assert!(payloads(&out, "/results")[0].contains("confirmed 1.4.0"), "{out:?}");
}

#[test]
fn a_new_image_that_does_not_reach_the_broker_gives_way_to_the_old_one() {
    let (world, images) = (enrolled(), TwoImages::default());
    images.0.borrow_mut().on_trial = true;
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    handle(&mut device, 5_000, Input::Tick);
    handle(&mut device, 6_000, Input::Ended(Failure::Unreachable));
    let out = handle(&mut device, 10 * 60_000, Input::Tick);
    assert!(out.contains(&Action::Reboot(RebootReason::Reverted)) && images.0.borrow().reverted);
    // The old image tells what happened.
    let (mut device, _) = start(&world.flash, &world, &images, 0);
    let out = online(&mut device);
    assert!(payloads(&out, "/results")[0].contains(r#""ok":false"#), "{out:?}");
}

#[test]
fn a_new_image_that_crashes_gives_way_at_its_fourth_boot() {
    let (world, images) = (enrolled(), TwoImages::default());
    images.0.borrow_mut().on_trial = true;
    for boot in 1..=4 {
        let (_, out) = start(&world.flash, &world, &images, 0);
        let reverted = out.contains(&Action::Reboot(RebootReason::Reverted));
        assert_eq!(reverted, boot == 4, "boot {boot}");
    }
    assert!(images.0.borrow().reverted);
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
