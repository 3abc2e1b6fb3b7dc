//! Instructions of the paths that every connect and every message takes, counted by valgrind, so that a regression shows on a noisy machine.
//!
//! This program runs itself under callgrind, which counts what is executed inside the functions whose names begin with `counted_`: the
//! broker's side alone. Each path is run a number of times and twice that number, and the difference counts, so that what happens once does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use mqttbytes::QoS;
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use signet::tls::{ListenerSources, TlsListener, TlsOptions};
use signet_core::Hub;
use signet_identity::{IdentitySource, NameRule, Principal};

use crate::cli::Tls;
use crate::endpoint::{self, Endpoint};
use crate::pki::{Counts, Device, Pki};
use crate::report::{self, figure, say};

/// What callgrind counts in: the demangled names of the functions below contain this.
const COUNTED: &str = "--toggle-collect=*counted_*";

#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    /// Compare with the counts in this file, and fail when one is exceeded by more than its tolerance.
    #[arg(long, value_name = "FILE")]
    guard: Option<PathBuf>,
    /// Write the counts into this file.
    #[arg(long, value_name = "FILE", conflicts_with = "guard")]
    write: Option<PathBuf>,
    /// Keep callgrind's files in this folder, for callgrind_annotate.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Work {
    /// Which path.
    path: Way,
    /// How often it is taken.
    times: u32,
}

/// A path through the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// TLS 1.3 with a device that was never seen, the judgement of its certificate, its name.
    HandshakeFirst,
    /// The same with a device whose chain was verified before.
    HandshakeReturning,
    /// CONNECT to CONNACK in the core, and the end of the connection.
    Connect,
    /// A PUBLISH of QoS 0 from the publisher's bytes to the subscriber's.
    PublishQos0,
    /// The same at QoS 1, with the acknowledgements of both sides.
    PublishQos1,
    /// A PUBLISH of QoS 0 to 100 subscribers.
    FanOut,
}

/// All of them, with how often each is taken.
const WAYS: [(Way, &str, u32); 6] = [
    (Way::HandshakeFirst, "handshake-first", 20),
    (Way::HandshakeReturning, "handshake-returning", 20),
    (Way::Connect, "connect", 500),
    (Way::PublishQos0, "publish-qos0", 2000),
    (Way::PublishQos1, "publish-qos1", 2000),
    (Way::FanOut, "fan-out", 50),
];

/// `guard.toml`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Guard {
    /// By how many percent a count may be exceeded.
    tolerance_percent: f64,
    /// Instructions each time.
    instructions: BTreeMap<String, u64>,
}

/// By how many percent counts may differ when the file is written anew.
const TOLERANCE_PERCENT: f64 = 5.0;

/// Counts all paths.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    ensure!(
        found.is_ok_and(|status| status.success()),
        "valgrind is not installed (apt-get install valgrind)"
    );
    let mut counts = BTreeMap::new();
    for (_, name, times) in WAYS {
        say(&format!("counting {name}"));
        let (once, twice) = (count(name, times, plan)?, count(name, 2 * times, plan)?);
        counts.insert(name.to_owned(), (twice - once) / u64::from(times));
    }
    let record = serde_json::json!({ "scenario": "instructions", "results": counts });
    report::json(&record)?;
    for (name, count) in &counts {
        say(&format!("{name:>24}  {count}"));
    }
    if let Some(path) = &plan.write {
        let guard = Guard { tolerance_percent: TOLERANCE_PERCENT, instructions: counts };
        return write_guard(path, &guard);
    }
    plan.guard.as_deref().map_or(Ok(()), |path| check(path, &counts))
}

fn write_guard(path: &Path, guard: &Guard) -> Result<()> {
    let text = format!(
        "# Instructions that each path takes, as `signet-bench instructions` counts them (x86-64, release build).\n\
         # When a change makes a path longer for a good reason: `signet-bench instructions --write benches/guard.toml`.\n\n{}",
        toml::to_string(guard)?
    );
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn check(path: &Path, counts: &BTreeMap<String, u64>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let guard: Guard = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let mut exceeded = 0;
    for (name, count) in counts {
        let Some(most) = guard.instructions.get(name) else {
            bail!("{} says nothing of {name}: write it anew with --write", path.display());
        };
        let percent = (*count as f64 / *most as f64 - 1.0) * 100.0;
        let verdict = if percent > guard.tolerance_percent {
            exceeded += 1;
            "MORE THAN ALLOWED"
        } else if percent < -guard.tolerance_percent {
            "less: the file can be written anew"
        } else {
            "as before"
        };
        say(&format!(
            "{name:>24}  {count} against {most}: {}{} %, {verdict}",
            if percent < 0.0 { "" } else { "+" },
            figure(percent)
        ));
    }
    ensure!(
        exceeded == 0,
        "{exceeded} counts are more than {} % above {}",
        guard.tolerance_percent,
        path.display()
    );
    Ok(())
}

/// The instructions of so many passages, with what happens once.
fn count(name: &str, times: u32, plan: &Plan) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let file =
        plan.keep.as_ref().map_or(folder.path(), |keep| keep).join(format!("callgrind.{name}.{times}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", COUNTED])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["instructions-work", name, &times.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let total = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    total.with_context(|| format!("valgrind said no count: {said}"))
}

/// Takes one path so many times. Run under valgrind.
pub(crate) fn work(work: &Work) -> Result<()> {
    let times = work.times as usize;
    match work.path {
        Way::HandshakeFirst => handshakes(times, false),
        Way::HandshakeReturning => handshakes(times, true),
        Way::Connect => connects(times),
        Way::PublishQos0 => publishes(times, 1, QoS::AtMostOnce),
        Way::PublishQos1 => publishes(times, 1, QoS::AtLeastOnce),
        Way::FanOut => publishes(times, 100, QoS::AtMostOnce),
    }
}

fn connects(times: usize) -> Result<()> {
    let (hub, bytes) = (endpoint::hub()?, endpoint::connect("bench")?);
    let principal = endpoint::principal("bench-00000")?;
    for _ in 0..times {
        ensure!(counted_connect(&hub, principal.clone(), &bytes) > 0, "no CONNACK");
    }
    Ok(())
}

#[inline(never)]
fn counted_connect(hub: &Arc<Hub>, principal: Principal, bytes: &[u8]) -> usize {
    let mut endpoint = Endpoint::new(hub, principal);
    endpoint.receive(bytes);
    endpoint.discard()
}

fn publishes(times: usize, subscribers: usize, qos: QoS) -> Result<()> {
    let (hub, name) = (endpoint::hub()?, "bench-00000");
    let mut publisher = Endpoint::connected(&hub, name, name)?;
    let mut receivers = Vec::new();
    for number in 0..subscribers {
        let mut receiver = Endpoint::connected(&hub, "admin", &format!("sub-{number}"))?;
        receiver.subscribe("devices/+/telemetry/#", qos)?;
        receivers.push(receiver);
    }
    let packet = endpoint::publish(name, qos)?;
    for _ in 0..times {
        let bytes = counted_publish(&mut publisher, &mut receivers, &packet, qos)?;
        ensure!(bytes >= subscribers * packet.len(), "a subscriber got nothing");
    }
    Ok(())
}

#[inline(never)]
fn counted_publish(
    publisher: &mut Endpoint,
    receivers: &mut [Endpoint],
    packet: &[u8],
    qos: QoS,
) -> Result<usize> {
    publisher.receive(packet);
    publisher.discard();
    let mut bytes = 0;
    for receiver in receivers {
        receiver.drain();
        if qos == QoS::AtLeastOnce {
            let delivered = receiver.output();
            bytes += delivered.len();
            // PUBACK with the identifier that stands behind the topic.
            let at = delivered.len().checked_sub(64 + 2).context("no message")?;
            let id = delivered.get(at..at + 2).context("no packet identifier")?;
            receiver.receive(&[&[0x40, 2], id].concat());
        } else {
            bytes += receiver.discard();
        }
    }
    Ok(bytes)
}

/// The TLS of a listener, and clients for it.
struct World {
    tls: TlsListener,
    config: Arc<ServerConfig>,
    devices: Vec<Device>,
    _pki: Pki,
}

impl World {
    fn new(devices: usize) -> Result<Self> {
        let pki = Pki::new(Counts { devices, ..Counts::default() }, Tls::V13)?;
        let sources = ListenerSources::read(&pki.server_chain(), &pki.server_key(), &[pki.root()], &[]);
        let sources = sources.map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let built = TlsListener::build(&sources, &TlsOptions::default(), None, UnixTime::now());
        let (tls, _) = built.map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let config = tls.server_config(None);
        Ok(Self { tls, config, devices: pki.devices(devices)?, _pki: pki })
    }

    /// A handshake in memory, of which the server's part is counted when it `counts`.
    fn visit(&self, device: &Device, counts: bool) -> Result<()> {
        let mut client = ClientConnection::new(Arc::clone(&device.tls), ServerName::try_from("localhost")?)?;
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let step = if counts { counted_handshake } else { handshake };
        let mut server = None;
        for _ in 0..10 {
            while client.wants_write() {
                client.write_tls(&mut to_server)?;
            }
            let named = step(self, &mut server, &mut to_server, &mut to_client)?;
            let mut input: &[u8] = &to_client;
            while !input.is_empty() {
                client.read_tls(&mut input)?;
                client.process_new_packets()?;
            }
            to_client.clear();
            if named {
                return Ok(());
            }
        }
        bail!("no handshake")
    }
}

#[inline(never)]
fn counted_handshake(
    world: &World,
    server: &mut Option<ServerConnection>,
    input: &mut Vec<u8>,
    output: &mut Vec<u8>,
) -> Result<bool> {
    handshake(world, server, input, output)
}

/// What the listener does with what the peer sent; whether the peer has a name now.
#[inline(never)]
fn handshake(
    world: &World,
    server: &mut Option<ServerConnection>,
    input: &mut Vec<u8>,
    output: &mut Vec<u8>,
) -> Result<bool> {
    let server = match server {
        Some(server) => server,
        None => server.insert(ServerConnection::new(Arc::clone(&world.config))?),
    };
    let mut rest: &[u8] = input;
    while !rest.is_empty() {
        server.read_tls(&mut rest)?;
        server.process_new_packets()?;
    }
    input.clear();
    while server.wants_write() {
        server.write_tls(output)?;
    }
    if server.is_handshaking() {
        return Ok(false);
    }
    let chain = server.peer_certificates().context("no certificate")?;
    let judged = world.tls.judge(chain, UnixTime::now()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let leaf = chain.first().context("no certificate")?;
    let name = judged.name(leaf, IdentitySource::Cn, &NameRule::default());
    let name = name.map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(name.as_str().starts_with("bench-"), "another name");
    Ok(true)
}

fn handshakes(times: usize, returning: bool) -> Result<()> {
    let world = World::new(times)?;
    if returning {
        for device in &world.devices {
            world.visit(device, false)?;
        }
    }
    for device in &world.devices {
        world.visit(device, true)?;
    }
    Ok(())
}
