//! The sensor on the host: core, agent and Mbed TLS, against the real broker. `SIGNET_BIN` says which.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
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
use signet_device_core::{Device, Event, Failure, Now, Parts, Rung, Settings};
use signet_device_tls::{Broker, Dial, MbedTls, broken_down};
use tokio::net::TcpStream;

const CONFIGURATION: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"pki/server-chain.crt\"\n\
    private-key = \"pki/server.key\"\nclient-ca = [\"ca/issuing.crt\"]\nmax-connections = 20\nmax-fragment-size = 4096\n\
    [acl]\nfile = \"acl.conf\"\n[registry]\nmode = \"on\"\n[ca]\n[admin]\nsocket = \"signet.sock\"\n";

/// A broker in a folder of its own.
struct Running {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

fn signet(folder: &Path, arguments: &[&str]) {
    let done = Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the broker's binary runs");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn binary() -> PathBuf {
    std::env::var_os("SIGNET_BIN").map(PathBuf::from).expect("say which broker: SIGNET_BIN=/path/to/signet")
}

impl Running {
    fn start() -> Self {
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

    fn ask(&self, arguments: &[&str]) {
        let mut all = arguments.to_vec();
        all.extend(["--config", "signet.toml"]);
        signet(self.folder.path(), &all);
    }

    fn factory(&self, serial: &str, name: &str, root: &str) -> Factory {
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

struct Random(ChaCha20Rng);

impl platform::Rng for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

struct Host;

impl Platform for Host {
    type Flash = MemFlash;
    type Rng = Random;
    type Signer = SoftwareSigner;
    type Sealing = AesSeal;
    type Images = FixedImage;
}

struct Clocks;

fn wall() -> u64 {
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

struct Loopback;

impl Dial for Loopback {
    type Stream<'a> = FromTokio<TcpStream>;

    async fn dial(&mut self, _: &str, port: u16) -> Result<FromTokio<TcpStream>, Failure> {
        let address = (IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        TcpStream::connect(address).await.map(FromTokio::new).map_err(|_| Failure::Unreachable)
    }
}

/// Time of the host; its events are kept.
struct Desk {
    started: tokio::time::Instant,
    events: Rc<Cell<Vec<Event>>>,
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
        std::future::pending().await
    }

    async fn sample(&mut self) -> Option<Reading> {
        Some(Reading { centi_celsius: 2_100, centi_percent: 4_500 })
    }

    fn identify(&mut self, _: u16) {}

    fn note(&mut self, event: &Event) {
        let mut events = self.events.take();
        events.push(event.clone());
        self.events.set(events);
    }
}

/// Runs a device until `enough`, or for a minute.
async fn events_until(factory: Factory, enough: impl Fn(&Event) -> bool) -> Vec<Event> {
    let broker = Broker::parse(&factory.broker).expect("the broker is named");
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&u64::from(broker.port).to_le_bytes());
    seed[8..16].copy_from_slice(&wall().to_le_bytes());
    let events = Rc::new(Cell::new(Vec::new()));
    let mut desk = Desk { started: tokio::time::Instant::now(), events: Rc::clone(&events) };
    let server_ca = factory.server_ca.clone();
    let parts = Parts::<Host> {
        flash: MemFlash::new(8),
        rng: Random(ChaCha20Rng::from_seed(seed)),
        signer: SoftwareSigner,
        sealing: AesSeal::new(&[7; 32]),
        images: FixedImage,
    };
    let settings = Settings { backoff_base_ms: 10, ..Settings::default() };
    let mut started = Vec::new();
    let mut device = Device::new(parts, Some(factory), settings, desk.now(), &mut started);
    // SAFETY: both clocks are static, and no other thread of this process uses Mbed TLS: there is one test in this file.
    #[expect(unsafe_code, reason = "the hooks of Mbed TLS are global")]
    unsafe {
        hook_timer(Some(&Clocks));
        hook_wall_clock(Some(&Clocks));
    }
    let mut random = ChaCha20Rng::from_seed(seed.map(|byte| byte ^ 0xa5));
    // SAFETY: the value is dropped before `random`.
    #[expect(unsafe_code, reason = "the generator lives on the stack")]
    let tls = unsafe { Tls::new_local_borrows(&mut random) }.expect("the only Mbed TLS");
    let mut connector = MbedTls::new(tls.reference(), Loopback, &broker, &server_ca);
    let seen = async {
        loop {
            let now = events.take();
            let done = now.iter().any(&enough);
            events.set(now);
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        reason = run(&mut device, started, &mut connector, &mut desk) => panic!("the device restarts: {reason:?}"),
        () = seen => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it did not come: {:?}", events.take()),
    }
    events.take()
}

#[tokio::test]
async fn a_device_on_the_host_enrols_with_mbed_tls_and_trusts_neither_another_root_nor_another_name() {
    let broker = Running::start();
    let events = events_until(broker.factory("host-1", "localhost", "pki/root-ca.crt"), |event| {
        matches!(event, Event::Enrolled { .. })
    })
    .await;
    assert!(events.contains(&Event::Online(Rung::Claim)), "{events:?}");
    assert!(events.contains(&Event::Enrolled { thing: "sensor-host-1".into() }), "{events:?}");

    let untrusted = |event: &Event| *event == Event::ServerUntrusted;
    for (name, root) in [("localhost", "root/root.crt"), ("elsewhere.example", "pki/root-ca.crt")] {
        let events = events_until(broker.factory("host-2", name, root), untrusted).await;
        assert!(!events.iter().any(|event| matches!(event, Event::Online(_))), "{name} {root}: {events:?}");
    }
}
