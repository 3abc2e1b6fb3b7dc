//! A broker of the test's own, and what agents on the host run on. `SIGNET_BIN` says which broker.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use embedded_io_adapters::tokio_1::FromTokio;
use esp_nvs::mem_flash::MemFlash;
use mbedtls_rs::Tls;
use mbedtls_rs::sys::hook::timer::{MbedtlsTimer, hook_timer};
use mbedtls_rs::sys::hook::wall_clock::{MbedtlsWallClock, hook_wall_clock};
use mbedtls_rs::sys::tm;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use signet_device_agent::{Runtime, run};
use signet_device_core::factory::{Claim, Factory};
use signet_device_core::identity::SoftwareSigner;
use signet_device_core::platform::{self, Clock, FixedImage, Platform};
use signet_device_core::seal::AesSeal;
use signet_device_core::telemetry::Reading;
use signet_device_core::topic::Format;
use signet_device_core::{Device, Event, Failure, Now, Parts, RebootReason, Settings};
use signet_device_tls::{Broker, Dial, MbedTls, broken_down};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\nclient-ca = [\"ca/issuing.crt\"]\nmax-connections = 200\nmax-fragment-size = 4096\n\
    [acl]\nfile = \"acl.conf\"\n[registry]\nmode = \"on\"\n[ca]\n[limits]\nhandshakes-per-address-per-second = 0\n\
    connections-per-address-max = 0\nsessions-per-claim-max = 100\n[admin]\nsocket = \"signet.sock\"\n";

/// A broker in a folder of its own.
pub struct Running {
    pub folder: tempfile::TempDir,
    child: Child,
    pub port: u16,
}

pub fn signet(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the broker's binary runs");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn binary() -> PathBuf {
    std::env::var_os("SIGNET_BIN").map(PathBuf::from).expect("say which broker: SIGNET_BIN=/path/to/signet")
}

impl Running {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/templates");
        fs::write(at.join("signet.toml"), CONFIGURATION).expect("written");
        fs::write(at.join("acl.conf"), "pattern readwrite devices/%u/#\n").expect("written");
        signet(at, &["dev", "--dir", "pki", "--no-run"]);
        signet(at, &["ca", "init", "--config", "signet.toml", "--root", "root"]);
        let child = Command::new(binary())
            .args(["run", "--config", "signet.toml", "--ready-file", "ready"])
            .current_dir(at)
            .stdout(Stdio::null())
            .stderr(fs::File::create(at.join("log")).expect("a log"))
            .spawn()
            .expect("the broker starts");
        let end = Instant::now() + Duration::from_secs(60);
        let port = loop {
            assert!(Instant::now() < end, "{}", fs::read_to_string(at.join("log")).unwrap_or_default());
            let ready = fs::read_to_string(at.join("ready")).unwrap_or_default();
            if let Some(port) = ready.trim().rsplit(':').next().and_then(|port| port.parse().ok()) {
                break port;
            }
            std::thread::yield_now();
        };
        let running = Self { folder, child, port };
        let template = |name: &str| templates.join(name).display().to_string();
        for (name, file, kind) in [("fleet", "fleet.json", "fleet"), ("rotate", "rotation.json", "rotation")]
        {
            running.ask(&["template", "add", name, &template(file), "--kind", kind]);
        }
        running.ask(&["claim", "create", "line-1", "--template", "fleet", "--out", "claims"]);
        running
    }

    /// Asks the broker that runs.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let mut all = arguments.to_vec();
        all.extend(["--config", "signet.toml"]);
        signet(self.folder.path(), &all)
    }

    pub fn factory(&self, serial: &str, name: &str, root: &str) -> Factory {
        let at = self.folder.path();
        let der = |path: PathBuf| {
            let text = fs::read_to_string(&path).expect("a PEM file");
            x509_cert::der::pem::decode_vec(text.as_bytes()).expect("PEM").1
        };
        let claim = Claim {
            certificate: der(at.join("claims/line-1/device.crt")),
            key: der(at.join("claims/line-1/device.key")).into(),
        };
        Factory {
            serial: serial.into(),
            claim: Some(claim),
            template: "fleet".into(),
            rotation_template: "rotate".into(),
            format: Format::Cbor,
            broker: format!("{name}:{}", self.port),
            server_ca: der(at.join(root)),
            token: None,
            ota_key: None,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The test is over or has failed; the broker goes in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Random(ChaCha20Rng);

impl platform::Rng for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

pub struct Host;

impl Platform for Host {
    type Flash = MemFlash;
    type Rng = Random;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = FixedImage;
}

pub struct Clocks;

pub fn wall() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl MbedtlsTimer for Clocks {
    fn now(&self) -> i64 {
        i64::try_from(wall() * 1000).unwrap_or(i64::MAX)
    }
}

impl MbedtlsWallClock for Clocks {
    fn instant(&self) -> Option<tm> {
        broken_down(wall())
    }
}

pub struct Loopback;

impl Dial for Loopback {
    type Stream<'a> = FromTokio<TcpStream>;

    async fn dial(&mut self, _: &str, port: u16) -> Result<FromTokio<TcpStream>, Failure> {
        let address = (IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        TcpStream::connect(address).await.map(FromTokio::new).map_err(|_| Failure::Unreachable)
    }
}

/// What can be seen of a device from outside, and its button.
#[derive(Default)]
pub struct Shown {
    events: RefCell<Vec<Event>>,
    taken: Cell<u64>,
    button: Cell<bool>,
    changed: Notify,
}

impl Shown {
    /// What happened.
    pub fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// How many of its messages the broker took.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Asks for a rotation.
    pub fn press(&self) {
        self.button.set(true);
        self.changed.notify_waiters();
    }

    /// Waits until what is shown is `enough`, for two minutes.
    pub async fn until(&self, enough: impl Fn(&Self) -> bool) {
        let reached = async {
            while !enough(self) {
                self.changed.notified().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(120), reached).await;
        assert!(reached.is_ok(), "it did not come: {:?}", self.events());
    }
}

/// Time of the host.
struct Desk {
    started: tokio::time::Instant,
    shown: Rc<Shown>,
}

impl Clock for Desk {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono, wall: Some(wall()) }
    }
}

impl Runtime for Desk {
    async fn until(&self, mono: u64) {
        tokio::time::sleep_until(self.started + Duration::from_millis(mono.min(1 << 40))).await;
    }

    fn set_clock(&mut self) {}

    async fn roused(&self) {
        while !self.shown.button.get() {
            self.shown.changed.notified().await;
        }
    }

    fn rotation_wanted(&mut self) -> bool {
        self.shown.button.take()
    }

    fn acknowledged(&mut self) {
        self.shown.taken.set(self.shown.taken.get() + 1);
        self.shown.changed.notify_waiters();
    }

    async fn sample(&mut self) -> Option<Reading> {
        Some(Reading { centi_celsius: 2_100, centi_percent: 4_500 })
    }

    fn identify(&mut self, _: u16) {}

    fn note(&mut self, event: &Event) {
        self.shown.events.borrow_mut().push(event.clone());
        self.shown.changed.notify_waiters();
    }
}

/// The one Mbed TLS of this process, with a generator and clocks that last as long. To be called once.
pub fn mbed_tls() -> &'static Tls<'static> {
    // SAFETY: both clocks are static, and nothing of Mbed TLS runs yet: each file has one test, on one thread.
    #[expect(unsafe_code, reason = "the hooks of Mbed TLS are global")]
    unsafe {
        hook_timer(Some(&Clocks));
        hook_wall_clock(Some(&Clocks));
    }
    let random = Box::leak(Box::new(ChaCha20Rng::from_seed(seed(0xa5))));
    Box::leak(Box::new(Tls::new(random).expect("the only Mbed TLS")))
}

/// No two the same.
fn seed(salt: u8) -> [u8; 32] {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut seed = [salt; 32];
    seed[..8].copy_from_slice(&CALLS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    seed[8..16].copy_from_slice(&wall().to_le_bytes());
    seed
}

/// Runs a device that was just made, until it wants to start again.
pub async fn device(tls: &'static Tls<'static>, factory: Factory, shown: Rc<Shown>) -> RebootReason {
    let broker = Broker::parse(&factory.broker).expect("the broker is named");
    let mut desk = Desk { started: tokio::time::Instant::now(), shown };
    let server_ca = factory.server_ca.clone();
    let parts = Parts::<Host> {
        flash: MemFlash::new(8),
        rng: Random(ChaCha20Rng::from_seed(seed(1))),
        signer: SoftwareSigner,
        sealing: AesSeal::new(&[7; 32]),
        images: FixedImage,
    };
    let settings = Settings { backoff_base_ms: 10, interval_secs: 1, ..Settings::default() };
    let mut started = Vec::new();
    let mut device = Device::new(parts, Some(factory), settings, desk.now(), &mut started);
    let mut connector = MbedTls::new(tls.reference(), Loopback, &broker, &server_ca);
    run(&mut device, started, &mut connector, &mut desk).await
}
