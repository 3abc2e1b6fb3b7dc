//! A broker under a ceiling, its idle devices, and somebody good who watches how it fares.

use crate::beside;
use serde_json::{Value, json};
use signet_tests::build::{self, Version};
use signet_tests::raw_client::{Handshake, RawClient};
use signet_tests::received::Received;
use signet_tests::test_broker::{self, Settings, certificate, issue};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const V5: Version = Version::V5;

/// Everybody may use what is below its own name; admin reads all of it.
pub(crate) const POLICY: &str = "\
role device
topic readwrite shared/#

user admin
topic readwrite #

pattern readwrite devices/%u/#
";

/// As in the configuration that is shipped: what the store takes is below the ceiling too.
const STORE: &str = "[store]\ndirectory = \"messages\"\n";

/// The ceiling of every flood. What a program without optimization maps of itself is resident too, and is half as much
/// again. `SIGNET_FLOODS_MIB` is another.
pub(crate) fn ceiling_bytes() -> u64 {
    let usual = if std::env::var_os("SIGNET_BIN").is_some() { 64 } else { 96 };
    let mib = std::env::var("SIGNET_FLOODS_MIB").map_or(usual, |text| text.parse().expect("a number of MiB"));
    mib * 1024 * 1024
}

/// Figures of one test would be those of another if two ran at once.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether the sizes are those of the manual.
pub(crate) fn full() -> bool {
    std::env::var_os("SIGNET_FLOODS").is_some_and(|value| value == "full")
}

/// `small` in `cargo test`, `large` when everything is asked for.
pub(crate) fn sized(small: usize, large: usize) -> usize {
    if full() { large } else { small }
}

/// A broker in a process of its own.
pub(crate) struct Site {
    process: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
    idle: Vec<RawClient>,
    /// Descriptors that it had open before anybody came.
    descriptors: usize,
    _alone: MutexGuard<'static, ()>,
}

fn program() -> PathBuf {
    std::env::var_os("SIGNET_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_signet_under_test").into(), PathBuf::from)
}

/// Starts what is asked for, with what is in the folder. Where Signet listens it says itself.
fn spawn(directory: &Path) -> (Child, SocketAddr) {
    let (mut command, address) = if beside::is_asked_for() {
        beside::command(directory)
    } else {
        let mut command = Command::new(program());
        command.args(["run", "--config", "signet.toml"]);
        (command, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    };
    let log = std::fs::File::create(directory.join("log")).expect("a file can be made");
    let process = command.current_dir(directory).stdout(Stdio::null()).stderr(log).spawn();
    (process.expect("the program can be run"), address)
}

impl Site {
    /// A broker with the ceiling and as many idle devices as a flood has: 1 000 in full.
    pub(crate) fn with_devices(limits: &str) -> Self {
        Self::start(limits, sized(100, 1000))
    }

    /// A broker with the ceiling, these limits besides, and so many idle devices.
    pub(crate) fn start(limits: &str, devices: usize) -> Self {
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let limits = format!("memory-max = {}\n{limits}", ceiling_bytes());
        // A test that waits for time-outs is to take seconds.
        let patience = if full() { "" } else { "handshake-timeout = \"2s\"" };
        let listener = &format!("max-connections = 12000\n{patience}");
        let directory = test_broker::folder(
            POLICY,
            Settings { limits: &limits, listener, tables: STORE, ..Settings::default() },
        );
        let settings = directory.path().join("signet.toml");
        let text = std::fs::read_to_string(&settings).expect("the settings are there");
        std::fs::write(&settings, text.replace("level = \"error\"", "level = \"warn\"")).expect("a file");
        let (process, address) = spawn(directory.path());
        let mut site = Self { process, address, directory, idle: Vec::new(), descriptors: 0, _alone: alone };
        site.is_up();
        site.descriptors = site.open_descriptors();
        site.idle = site.connect_devices(devices);
        site
    }

    fn is_up(&mut self) {
        if !beside::is_asked_for() {
            self.address = self.wait_for_address();
            return;
        }
        let until = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(self.address).is_err() {
            let exited = self.process.try_wait().expect("the process can be asked");
            assert!(exited.is_none() && Instant::now() < until, "the broker starts: {}", self.log());
        }
    }

    /// SIGKILL, and a new start with what is on disk.
    pub(crate) fn kill_and_start(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
        (self.process, self.address) = spawn(self.directory.path());
        self.is_up();
    }

    fn open_descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        open.expect("the broker runs").count()
    }

    /// Peers that have not said who they are. Mosquitto does not count them: there it is whoever is no idle device.
    pub(crate) fn half_open(&self) -> u64 {
        if beside::is_asked_for() {
            return self.open_descriptors().saturating_sub(self.descriptors + self.idle.len()) as u64;
        }
        self.status().and_then(|status| status["half-open"].as_u64()).expect("a status")
    }

    fn signet(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.directory.path()).env("SIGNET_SOCKET", "signet.sock");
        command.output().expect("the program can be run")
    }

    /// Puts another ceiling of memory in place.
    pub(crate) fn set_ceiling(&self, bytes: u64) {
        let path = self.directory.path().join("signet.toml");
        let text = std::fs::read_to_string(&path).expect("the settings are there");
        let lines = text.lines().map(|line| match line.strip_prefix("memory-max = ") {
            Some(_) => format!("memory-max = {bytes}\n"),
            None => format!("{line}\n"),
        });
        std::fs::write(&path, lines.collect::<String>()).expect("a file");
        let reloaded = self.signet(&["reload"]);
        assert!(reloaded.status.success(), "{reloaded:?}");
    }

    /// What `signet status` says.
    pub(crate) fn status(&self) -> Option<Value> {
        let said = self.signet(&["status", "--json"]);
        let status = serde_json::from_slice(&said.stdout).ok();
        if status.is_none() && !self.idle.is_empty() {
            panic!("no status: {said:?}\n{}", self.log());
        }
        status
    }

    fn wait_for_address(&mut self) -> SocketAddr {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let exited = self.process.try_wait().expect("the process can be asked");
            assert!(exited.is_none() && Instant::now() < until, "the broker starts: {}", self.log());
            let status = self.status();
            let address = status.as_ref().and_then(|status| status["listeners"][0]["address"].as_str());
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                return address;
            }
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn connect_devices(&self, count: usize) -> Vec<RawClient> {
        const AT_ONCE: usize = 8;
        let part = |worker: usize| {
            let mine = (worker..count).step_by(AT_ONCE);
            mine.map(|n| {
                let name = format!("idle-{n}");
                let mut client = self.device(&name).connect(&build::connect(V5, &name).keep_alive(0), V5);
                client.subscribe(&format!("devices/{name}/commands"), 1);
                client
            })
            .collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|worker| scope.spawn(move || part(worker))).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("the devices connect")).collect()
        })
    }

    /// A handshake that presents nothing.
    pub(crate) fn stranger(&self) -> Handshake {
        test_broker::anonymous(self.address)
    }

    /// A handshake with a new certificate of this name.
    pub(crate) fn device(&self, name: &str) -> Handshake {
        self.stranger().presenting(&issue(name))
    }

    /// A handshake of the one who reads everything.
    pub(crate) fn admin(&self) -> Handshake {
        self.stranger().presenting(certificate("admin"))
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).expect("the broker runs")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a size");
        kib * 1024
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.memory("VmRSS")
    }

    /// The most that ever was resident, as the kernel counted it, in bytes.
    pub(crate) fn resident_max(&self) -> u64 {
        self.memory("VmHWM")
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = behind_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        // A tick is a hundredth of a second wherever Linux runs.
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs `flood` while somebody good connects and publishes, and checks what must hold of every flood. The figures of
    /// the flood are told with those of the site.
    pub(crate) fn survives(&self, name: &str, flood: impl FnOnce(&Self) -> Value + Send) {
        let before = self.resident();
        let over = AtomicBool::new(false);
        let began = Instant::now();
        let (connects, figures) = std::thread::scope(|scope| {
            let good = scope.spawn(|| self.visits(&over));
            let done = Over(&over);
            let figures = flood(self);
            drop(done);
            (good.join().expect("somebody good is served"), figures)
        });
        let seconds = began.elapsed().as_secs_f64();
        let recovered = self.recovers();
        let most = self.resident_max();
        tell(&json!({
            "flood": name, "full": full(), "devices": self.idle.len(), "seconds": seconds,
            "resident_before": before, "resident_max": most, "resident_after": self.resident(),
            "good_connects": connects.all.len(), "good_refused": connects.refused,
            "good_connect_p50_ms": connects.ms(50), "good_connect_p99_ms": connects.ms(99), "figures": figures,
            "recovered": recovered,
        }));
        if beside::is_asked_for() {
            return;
        }
        assert!(recovered, "the broker takes nothing again: {}", self.log());
        assert!(most <= ceiling_bytes(), "{name}: {most} bytes were resident");
        assert!(!self.log().contains("panic"), "{}", self.log());
        assert!(!connects.all.is_empty(), "{name}: nobody good got in");
        assert!(connects.ms(99) < 1000.0, "{name}: {} ms to connect", connects.ms(99));
    }

    /// Somebody good connects, publishes and goes, again and again.
    fn visits(&self, over: &AtomicBool) -> Visits {
        let shakes = self.device("good").from_address(IpAddr::from([127, 0, 0, 2]));
        let mut visits = Visits::default();
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let Ok(mut client) = shakes.open(V5) else {
                visits.refused += 1;
                continue;
            };
            if client.try_connect(&build::connect(V5, "g")) {
                visits.all.push(began.elapsed());
                client.send(build::disconnect());
            } else {
                visits.refused += 1;
            }
            // As often as a device that is eager, and well below what one name may.
            std::thread::park_timeout(Duration::from_millis(30));
        }
        visits.all.sort_unstable();
        visits
    }

    /// Whether everything is taken and delivered again soon after a flood.
    fn recovers(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let attempt = self.admin().open(V5).ok();
            if let Some(mut reader) = attempt
                && reader.try_connect(&build::connect(V5, "after"))
            {
                reader.send(build::subscribe(V5, 1, &[build::sub("shared/after", 1)]));
                let granted =
                    matches!(reader.receive_or_end(), Some(Received::SubAck { codes, .. }) if codes == [1]);
                reader.send(build::publish(V5, "shared/after", "m").qos1(2).bytes());
                let (mut acked, mut came) = (None, false);
                while granted && (acked.is_none() || (acked == Some(0) && !came)) {
                    match reader.receive_or_end() {
                        Some(Received::PubAck(ack)) => acked = Some(ack.code),
                        Some(Received::Publish(_)) => came = true,
                        _ => break,
                    }
                }
                if came && acked == Some(0) {
                    return true;
                }
            }
            if Instant::now() > until {
                return false;
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its memory is what was of interest; how it stops is another test's.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends the visits, also when the flood fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Visits {
    all: Vec<Duration>,
    refused: usize,
}

impl Visits {
    fn ms(&self, percent: usize) -> f64 {
        let last = self.all.len().saturating_sub(1);
        self.all.get(last * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    }
}

/// Connects; while memory runs short it tries again, as a device does.
pub(crate) fn let_in(shakes: &Handshake, connect: &build::Connect) -> RawClient {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(mut client) = shakes.open(V5)
            && client.try_connect(connect)
        {
            return client;
        }
        assert!(Instant::now() < until, "it is never let in");
    }
}

/// Prints the figures, and keeps them where they are asked for.
#[expect(clippy::print_stdout, reason = "the figures are what the test is run for")]
pub(crate) fn tell(figures: &Value) {
    println!("{figures}");
    if let Some(path) = std::env::var_os("SIGNET_FLOODS_OUT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.expect("the file of the figures can be opened"), "{figures}").expect("and written");
    }
}

/// One of many addresses of this machine.
pub(crate) fn address(n: usize) -> IpAddr {
    let [high, low] = u16::try_from(n % 20_000).expect("it is small").to_be_bytes();
    IpAddr::from([127, 1, high, low.max(1)])
}
