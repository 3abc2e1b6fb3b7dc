//! A device with its flash, its clock and its broker, on virtual time.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use signet_device_core::factory::{Claim, Factory};
use signet_device_core::https::{Answer, Ask};
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::platform::{FixedImage, Platform, Rng, Secret, Signer, SignerError};
use signet_device_core::seal::AesSeal;
use signet_device_core::telemetry::Reading;
use signet_device_core::topic::Format;
use signet_device_core::{
    Action, Connect, Device, Event, Failure, Input, Message, Now, Parts, Publish, RebootReason, Rung,
    Settings,
};
use x509_cert::der::{Decode as _, Encode as _};
use zeroize::Zeroizing;

use super::broker::{Broker, Peer};
use super::flash::Flash;

pub const START: u64 = 1_800_000_000;
pub const HOUR: u64 = 3_600_000;
pub const DAY: u64 = 24 * HOUR;
/// Eight sectors: the 32 KiB of the partition table.
pub const SECTORS: usize = 8;

/// Xorshift: repeatable, and no more.
#[derive(Debug, Clone)]
pub struct TestRng(pub u64);

impl Rng for TestRng {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = (self.0 >> 32) as u8;
        }
    }
}

/// Real P-256 keys out of a small pool, so that a hundred thousand rotations take seconds.
#[derive(Debug, Clone, Default)]
pub struct PoolSigner;

const POOL: u64 = 64;

/// Signing requests by key and name.
type Requests = HashMap<(Vec<u8>, String), Vec<u8>>;

thread_local! {
    static KEYS: RefCell<HashMap<u64, Secret>> = RefCell::default();
    static POINTS: RefCell<HashMap<Vec<u8>, [u8; 65]>> = RefCell::default();
    static REQUESTS: RefCell<Requests> = RefCell::default();
    static REQUEST_KEYS: RefCell<HashMap<String, [u8; 65]>> = RefCell::default();
}

impl Signer for PoolSigner {
    fn generate(&mut self, rng: &mut dyn Rng) -> Result<Secret, SignerError> {
        let which = rng.below(POOL);
        Ok(KEYS.with_borrow_mut(|keys| {
            keys.entry(which)
                .or_insert_with(|| SoftwareSigner.generate(&mut TestRng(which + 1)).expect("a key"))
                .clone()
        }))
    }

    fn public_key(&mut self, secret: &Secret) -> Result<[u8; 65], SignerError> {
        POINTS.with_borrow_mut(|points| {
            if let Some(point) = points.get(&**secret) {
                return Ok(*point);
            }
            let point = SoftwareSigner.public_key(secret)?;
            points.insert(secret.to_vec(), point);
            Ok(point)
        })
    }

    fn request(&mut self, secret: &Secret, name: &str) -> Result<Vec<u8>, SignerError> {
        REQUESTS.with_borrow_mut(|requests| {
            if let Some(request) = requests.get(&(secret.to_vec(), name.to_owned())) {
                return Ok(request.clone());
            }
            let request = SoftwareSigner.request(secret, name)?;
            requests.insert((secret.to_vec(), name.to_owned()), request.clone());
            Ok(request)
        })
    }

    fn tls_key(&mut self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        Ok(secret.clone())
    }
}

/// The public key of a signing request.
pub fn key_of_request(pem: &str) -> [u8; 65] {
    REQUEST_KEYS.with_borrow_mut(|keys| {
        *keys.entry(pem.to_owned()).or_insert_with(|| {
            let (label, der) = x509_cert::der::pem::decode_vec(pem.as_bytes()).expect("PEM");
            assert_eq!(label, "CERTIFICATE REQUEST");
            let request = x509_cert::request::CertReq::from_der(&der).expect("a request");
            let spki = request.info.public_key.to_der().expect("a key");
            spki[spki.len() - 65..].try_into().expect("a point")
        })
    })
}

pub fn pem(label: &str, der: &[u8]) -> String {
    x509_cert::der::pem::encode_string(label, x509_cert::der::pem::LineEnding::LF, der).expect("PEM")
}

pub struct Test;

impl Platform for Test {
    type Flash = Flash;
    type Rng = TestRng;
    type Signer = PoolSigner;
    type Sealing = AesSeal;
    type Images = FixedImage;
}

/// Everything, at one moment.
pub struct World {
    pub flash: Flash,
    pub factory: Option<Factory>,
    pub settings: Settings,
    pub device: Option<Device<Test>>,
    pub broker: Broker,
    /// Virtual milliseconds since START.
    pub now: u64,
    booted: u64,
    pub clock_set: bool,
    /// How far the time that SNTP tells is off, in seconds.
    pub clock_off: i64,
    pub sntp: bool,
    peer: Option<Peer>,
    pub events: Vec<Event>,
    pub published: Vec<Publish>,
    pub connects: Vec<Connect>,
    pub asks: Vec<Ask>,
    pub reboots: Vec<RebootReason>,
    pub actions: Vec<Action>,
    seed: u64,
    pub chip_key: [u8; 32],
}

/// What can be gone back to.
#[derive(Clone)]
pub struct Snapshot {
    bytes: Vec<u8>,
    broker: Broker,
    now: u64,
    factory: Option<Factory>,
    settings: Settings,
}

enum Own {
    Tick,
    Connected,
    Ended(Failure),
    Subscribed(u32, usize),
    Acknowledged(u32),
    Message(String, Vec<u8>),
    Head(u16, u32),
    Body(Vec<u8>),
    End,
    Sampled,
}

impl World {
    pub fn new() -> Self {
        Self::with(Flash::blank(SECTORS))
    }

    pub fn with(flash: Flash) -> Self {
        let broker = Broker::new(START);
        let claim = Claim { certificate: broker.claim.clone(), key: Zeroizing::new(vec![1]) };
        let factory = Factory {
            serial: "sn-0001".into(),
            claim: Some(claim),
            template: "fleet".into(),
            rotation_template: "rotation".into(),
            format: Format::Json,
            broker: "localhost:8883".into(),
            server_ca: Vec::new(),
            token: None,
            ota_key: None,
        };
        let settings = Settings { interval_secs: 3_600, ..Settings::default() };
        Self { flash, factory: Some(factory), settings, ..Self::new_like(broker) }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            bytes: self.flash.bytes(),
            broker: self.broker.clone(),
            now: self.now,
            factory: self.factory.clone(),
            settings: self.settings.clone(),
        }
    }

    pub fn restore(snapshot: &Snapshot, seed: u64) -> Self {
        Self {
            flash: Flash::with(snapshot.bytes.clone()),
            broker: snapshot.broker.clone(),
            now: snapshot.now,
            factory: snapshot.factory.clone(),
            settings: snapshot.settings.clone(),
            seed,
            ..Self::new_like(snapshot.broker.clone())
        }
    }

    fn new_like(broker: Broker) -> Self {
        Self {
            flash: Flash::blank(1),
            factory: None,
            settings: Settings::default(),
            device: None,
            broker,
            now: 0,
            booted: 0,
            clock_set: false,
            clock_off: 0,
            sntp: true,
            peer: None,
            events: Vec::new(),
            published: Vec::new(),
            connects: Vec::new(),
            asks: Vec::new(),
            reboots: Vec::new(),
            actions: Vec::new(),
            seed: 1,
            chip_key: [7; 32],
        }
    }

    pub fn wall(&self) -> u64 {
        START + self.now / 1_000
    }

    pub fn moment(&self) -> Now {
        let wall = self.wall().saturating_add_signed(self.clock_off);
        Now { mono: self.now - self.booted, wall: self.clock_set.then_some(wall) }
    }

    /// Power on.
    pub fn boot(&mut self) {
        self.flash.power_on();
        self.boot_as_it_is();
    }

    pub fn boot_as_it_is(&mut self) {
        self.seed += 1;
        self.booted = self.now;
        self.clock_set = false;
        self.peer = None;
        let parts = Parts {
            flash: self.flash.clone(),
            rng: TestRng(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            signer: PoolSigner,
            sealing: AesSeal::new(&self.chip_key),
            images: FixedImage,
        };
        let mut out = Vec::new();
        let device = Device::new(parts, self.factory.clone(), self.settings.clone(), self.moment(), &mut out);
        self.device = Some(device);
        self.act(out);
    }

    fn device(&mut self) -> &mut Device<Test> {
        self.device.as_mut().expect("booted")
    }

    /// Whether the device is connected under its own name.
    pub fn is_online(&self) -> bool {
        matches!(self.device.as_ref().and_then(Device::online), Some(Rung::Own(_)))
    }

    pub fn certificate(&self) -> Option<[u8; 32]> {
        self.device.as_ref()?.credential().map(|credential| credential.leaf.id().0)
    }

    /// Runs until `reached`, for at most `ms` of virtual time. Whether it was reached; never when the power failed.
    pub fn run_until(&mut self, ms: u64, reached: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + ms;
        loop {
            if self.flash.is_cut() {
                return false;
            }
            if reached(self) {
                return true;
            }
            let next = self.booted.saturating_add(self.device().next_deadline()).max(self.now);
            // The world looks at the device once an hour also when it wants nothing: calendars are checked then.
            let next = next.min(self.now + HOUR);
            if next > end {
                self.now = end;
                return false;
            }
            self.now = next;
            self.input(Own::Tick);
        }
    }

    pub fn run(&mut self, ms: u64) {
        self.run_until(ms, |_| false);
    }

    pub fn online(&mut self) {
        assert!(self.run_until(2 * DAY, Self::is_online), "never online: {:?}", self.events);
    }

    /// The broker drops the connection.
    pub fn drop_connection(&mut self) {
        if self.peer.take().is_some() {
            self.input(Own::Ended(Failure::Lost));
        }
    }

    pub fn send(&mut self, topic: &str, payload: &[u8]) {
        self.input(Own::Message(topic.to_owned(), payload.to_vec()));
    }

    pub fn raw(&mut self, input: Input<'_>) {
        let now = self.moment();
        let mut out = Vec::new();
        self.device().handle(now, input, &mut out);
        self.act(out);
    }

    fn input(&mut self, first: Own) {
        let mut inputs = VecDeque::from([first]);
        while let Some(input) = inputs.pop_front() {
            self.now += 20;
            let now = self.moment();
            let mut out = Vec::new();
            let reading = Reading { centi_celsius: 2_150, centi_percent: 4_000 };
            let topic;
            let payload;
            let input = match input {
                Own::Tick => Input::Tick,
                Own::Connected => Input::Connected,
                Own::Ended(failure) => Input::Ended(failure),
                Own::Subscribed(id, filters) => Input::Subscribed { id, granted: vec![true; filters] },
                Own::Acknowledged(id) => Input::Acknowledged { id, accepted: true },
                Own::Message(t, p) => {
                    (topic, payload) = (t, p);
                    Input::Message(Message { topic: &topic, payload: &payload, retained: false })
                }
                Own::Head(status, length) => Input::Answered(Answer::Begin { status, length }),
                Own::Body(bytes) => {
                    payload = bytes;
                    Input::Answered(Answer::Part(&payload))
                }
                Own::End => Input::Answered(Answer::End),
                Own::Sampled => Input::Sampled(Some(reading)),
            };
            self.device().handle(now, input, &mut out);
            if self.flash.is_cut() {
                return;
            }
            inputs.extend(self.act(out));
            if self.reboots.len() > 100 {
                panic!("a reboot loop");
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) -> Vec<Own> {
        let mut inputs = Vec::new();
        for action in actions {
            self.actions.push(action.clone());
            match action {
                Action::Connect(connect) => {
                    let wall = self.wall();
                    let verdict = self.broker.connect(&connect.certificate, wall);
                    self.connects.push(connect);
                    self.peer = verdict.as_ref().ok().cloned();
                    inputs.push(match verdict {
                        Ok(_) => Own::Connected,
                        Err(failure) => Own::Ended(failure),
                    });
                }
                Action::Subscribe { id, filters } => inputs.push(Own::Subscribed(id, filters.len())),
                Action::Publish(publish) => {
                    if let Some(peer) = self.peer.clone() {
                        let wall = self.wall();
                        inputs.push(Own::Acknowledged(publish.id));
                        let answer = self.broker.publish(&peer, &publish.topic, &publish.payload, wall);
                        inputs.extend(answer.map(|(topic, payload)| Own::Message(topic, payload)));
                    }
                    self.published.push(publish);
                }
                Action::Disconnect => self.peer = None,
                Action::SetClock => self.clock_set = self.sntp,
                Action::Sample => inputs.push(Own::Sampled),
                Action::Identify(_) => {}
                Action::Reboot(reason) => {
                    self.reboots.push(reason);
                    inputs.clear();
                    self.boot_as_it_is();
                }
                Action::Event(event) => self.events.push(event),
                Action::Ask(ask) => {
                    let wall = self.wall();
                    match self.broker.ask(&ask, wall) {
                        None => inputs.push(Own::Ended(Failure::Unreachable)),
                        Some((status, body)) => {
                            inputs.push(Own::Head(status, body.len() as u32));
                            inputs.extend(body.chunks(700).map(|part| Own::Body(part.to_vec())));
                            inputs.push(Own::End);
                        }
                    }
                    self.asks.push(ask);
                }
            }
        }
        inputs
    }

    /// What was published on this topic, as text.
    pub fn said(&self, topic: &str) -> Vec<String> {
        let on = self.published.iter().filter(|publish| publish.topic == topic);
        on.map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    }
}
