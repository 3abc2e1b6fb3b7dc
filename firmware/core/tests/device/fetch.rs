//! An image from an address of HTTPS: one that works, and everything else that can be there.

use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::Signer as _;
use signet_device_core::https::{Answer, Ask};
use signet_device_core::ota::{Outcome, Refused};
use signet_device_core::{Action, Device, Event, Failure, Input, Message, RebootReason};

use super::update::{
    TwoImages, Updating, enrolled, handle, hex, key, manifest, online, payloads, running, signed, start,
};

const TOPIC: &str = "devices/thing-sn-0001/commands/ota";

fn with_url(text: &str, url: &str) -> String {
    text.replace('}', &format!(r#","url":"{url}"}}"#))
}

fn image() -> Vec<u8> {
    (0..7_001_u32).map(|n| (n * 7) as u8).collect()
}

/// A device that was told of the image at an address, and what it asked for.
struct Told {
    device: Device<Updating>,
    images: TwoImages,
    mono: u64,
    out: Vec<Action>,
}

impl Told {
    fn new() -> Self {
        let (world, images) = (enrolled(), TwoImages::default());
        let (mut device, _) = start(&world.flash, &world, &images, 0);
        online(&mut device);
        let text = with_url(&manifest("1.5.0", "esp32c6", &image(), 3), "https://files.example/app.bin");
        let signature: DerSignature = key().sign(text.as_bytes());
        let payload =
            serde_json::json!({"id": "u", "manifest": text, "signature": hex(signature.as_bytes())})
                .to_string();
        handle(&mut device, 5_200, Input::Subscribed { id: 1, granted: vec![true, true] });
        let message = Message { topic: TOPIC, payload: payload.as_bytes(), retained: false };
        let out = handle(&mut device, 6_000, Input::Message(message));
        assert!(payloads(&out, "/results")[0].contains(r#""ok":true"#), "{out:?}");
        assert!(payloads(&out, "/ota").is_empty(), "nothing is asked for over MQTT");
        let mut told = Self { device, images, mono: 6_000, out };
        told.tick(1_000);
        told
    }

    fn give(&mut self, input: Input<'_>) {
        self.out = handle(&mut self.device, self.mono, input);
    }

    fn tick(&mut self, after: u64) {
        self.mono += after;
        self.give(Input::Tick);
    }

    fn asked(&self) -> Option<&Ask> {
        self.out.iter().find_map(|action| if let Action::Ask(ask) = action { Some(ask) } else { None })
    }

    fn range(&self) -> Option<String> {
        let request = std::str::from_utf8(&self.asked()?.request).ok()?;
        request.lines().find_map(|line| line.strip_prefix("Range: bytes=")).map(str::to_owned)
    }

    fn begin(&mut self, status: u16, length: usize) {
        self.give(Input::Answered(Answer::Begin { status, length: length as u32 }));
    }

    fn parts(&mut self, bytes: &[u8], of: usize) {
        for part in bytes.chunks(of) {
            self.give(Input::Answered(Answer::Part(part)));
        }
    }

    /// Until the broker has the device again. Returns what it says then.
    fn back(&mut self) -> Vec<String> {
        for _ in 0..100 {
            if self.out.iter().any(|action| matches!(action, Action::Connect(_))) {
                self.give(Input::Connected);
                let said = payloads(&self.out, "/results");
                let subscribe = self.out.iter().find_map(|action| match action {
                    Action::Subscribe { id, filters } => Some((*id, filters.len())),
                    _ => None,
                });
                let (id, filters) = subscribe.expect("it listens");
                self.give(Input::Subscribed { id, granted: vec![true; filters] });
                return said;
            }
            self.tick(10_000);
        }
        panic!("it does not come back: {:?}", self.out)
    }

    fn refused(&mut self) -> Vec<String> {
        assert!(!self.images.0.borrow().boots_next);
        self.back()
    }
}

#[test]
fn an_image_is_fetched_from_its_address_and_started_at_once() {
    for of in [1, 333, 1_024, 2_048, 7_001] {
        let mut told = Told::new();
        let ask = told.asked().expect("it asks").clone();
        assert_eq!((ask.host.as_str(), ask.port), ("files.example", 443));
        assert_eq!(told.range(), None);
        assert_eq!(told.device.online(), None, "one TLS at a time");
        told.begin(200, 7_001);
        told.parts(&image()[..7_000], of);
        assert!(!told.images.0.borrow().boots_next);
        told.give(Input::Answered(Answer::Part(&image()[7_000..])));
        assert!(told.images.0.borrow().boots_next && told.images.0.borrow().image == image(), "{of}");
        assert!(told.out.contains(&Action::Event(Event::Update(Outcome::Installed))));
        assert!(told.out.contains(&Action::Reboot(RebootReason::NewImage)), "{:?}", told.out);
    }
}

#[test]
fn a_broken_connection_goes_on_where_it_stopped_also_with_a_server_that_begins_anew() {
    for (status, whole) in [(206, false), (200, true)] {
        let mut told = Told::new();
        told.begin(200, 7_001);
        told.parts(&image()[..5_000], 1_000);
        told.give(Input::Ended(Failure::Lost));
        told.back();
        while told.asked().is_none() {
            told.tick(1_000);
        }
        // Two parts of 2048 bytes are in the flash.
        assert_eq!(told.range().as_deref(), Some("4096-"));
        let rest = if whole { image() } else { image()[4_096..].to_vec() };
        told.begin(status, rest.len());
        told.parts(&rest, 777);
        assert!(told.images.0.borrow().boots_next && told.images.0.borrow().image == image(), "{status}");
    }
}

#[test]
fn what_is_not_the_image_is_refused_and_the_broker_hears_why() {
    for (status, length) in [(404, 9), (301, 0), (200, 7_000), (200, 7_002), (206, 7_000), (204, 0)] {
        let mut told = Told::new();
        told.begin(status, length);
        let said = told.refused();
        assert!(
            said[0].contains("not at the address") && said[0].contains(r#""id":"u""#),
            "{status} {length}: {said:?}"
        );
    }
    let mut told = Told::new();
    let mut flipped = image();
    flipped[6_000] ^= 1;
    told.begin(200, 7_001);
    told.parts(&flipped, 2_000);
    let said = told.refused();
    assert!(said[0].contains("digest"), "{said:?}");
}

#[test]
fn a_server_that_is_away_is_asked_seldom_and_not_for_ever() {
    for answered in [true, false] {
        let mut told = Told::new();
        let (mut asked, mut last) = (0, 0);
        let said = loop {
            asked += 1;
            assert!(told.mono >= last, "it waits between two questions");
            last = told.mono + 2_500;
            match answered {
                true => told.begin(503, 0),
                false => told.give(Input::Ended(Failure::Unreachable)),
            }
            let said = told.back();
            if !said.is_empty() {
                break said;
            }
            while told.asked().is_none() {
                told.tick(1_000);
            }
        };
        assert_eq!(asked, 8);
        assert!(said[0].contains("cannot be reached"), "{said:?}");
        // It can be told again.
        assert!(told.device.online().is_some());
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up_and_the_device_is_back_at_the_broker() {
    let mut told = Told::new();
    told.begin(200, 7_001);
    told.parts(&image()[..100], 100);
    told.tick(34_000);
    assert!(told.out.is_empty() || !told.out.contains(&Action::Disconnect), "{:?}", told.out);
    told.tick(2_000);
    assert!(told.out.contains(&Action::Disconnect), "{:?}", told.out);
    told.back();
}

#[test]
fn an_address_is_signed_and_is_one_of_https() {
    let text = manifest("1.5.0", "esp32c6", &[1; 9], 3);
    let good = with_url(&text, "https://files.example/a");
    let manifest = signed(&good).verify(&running()).expect("good");
    assert_eq!(manifest.url.as_deref(), Some("https://files.example/a"));
    for url in ["http://files.example/a", "https://", "ftp://x/"] {
        assert_eq!(signed(&with_url(&text, url)).verify(&running()), Err(Refused::Manifest), "{url}");
    }
}
