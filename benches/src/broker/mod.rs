//! The brokers under test: found, configured alike, started on free ports of 127.0.0.1, and ended.

mod config;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cli::program;
use crate::pki::{Crls, Pki};
use crate::process::{self, Memory, raise_open_files};
use crate::report::say;

/// How long a broker may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(20);
/// Connections that the brokers allow beyond those that are open at once: some that are closing, and the kit's own look whether they are ready.
const SPARE_CONNECTIONS: usize = 200;
/// Files that a broker or this program has open beside the connections.
const OTHER_FILES: usize = 128;
/// From 127.0.0.1 to one port: the kernel's range of client ports has some 28 000.
const CONNECTIONS_MAX: usize = 25_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Signet,
    Mosquitto,
    Rumqttd,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Signet => "signet",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
        }
    }

    /// Whether it can do what the setup asks for.
    pub(crate) const fn can(self, setup: &Setup) -> bool {
        match self {
            Self::Signet => true,
            Self::Mosquitto => !setup.registry,
            // It has neither revocation lists nor resumption.
            Self::Rumqttd => !setup.registry && setup.crl_entries.is_none() && setup.tickets == 0,
        }
    }
}

/// What of sessions and messages outlives the broker, as far as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    #[default]
    Memory,
    /// What was acknowledged, but for the last second. Mosquitto saves every second.
    Batched,
    /// What was acknowledged. Mosquitto saves as it does by default.
    Strict,
}

/// How a broker is to be set up for a scenario, beside what all have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// Connections open at once.
    pub(crate) connections: usize,
    /// Session tickets per handshake; 0: no session is resumed.
    pub(crate) tickets: u8,
    /// Revocation lists are in force, the one of the devices' authority with so many entries.
    pub(crate) crl_entries: Option<u32>,
    /// The authorities of the devices are trust anchors beside the root. Signet wants it of those that have a revocation list.
    pub(crate) issuing_anchors: bool,
    /// With a registry and an authority of its own; the authorities of the run are imported into it, and it registers who comes.
    pub(crate) registry: bool,
    /// What outlives the broker.
    pub(crate) keep: Keep,
    /// What waits for absent subscribers may be much. Mosquitto has no such bound here.
    pub(crate) deep_queues: bool,
    /// Signet's `refused-pause-max`, where it is not to be the default.
    pub(crate) refused_pause: Option<&'static str>,
}

/// Where the brokers are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Programs {
    /// The signet program. Without it, the one of this workspace is built (release) and used.
    #[arg(long, global = true, value_name = "PATH")]
    signet: Option<PathBuf>,
    /// The mosquitto program. Without it, the one of the system is used.
    #[arg(long, global = true, value_name = "PATH")]
    mosquitto: Option<PathBuf>,
    /// The rumqttd program, built with `--features verify-client-cert`. Without it, the one on the search path is used.
    #[arg(long, global = true, value_name = "PATH")]
    rumqttd: Option<PathBuf>,
}

impl Programs {
    /// The same with every path filled in; an error for a broker that is needed and not there.
    pub(crate) async fn found(&self, needed: &[Kind]) -> Result<Self> {
        let mut found = self.clone();
        if needed.contains(&Kind::Signet) && found.signet.is_none() {
            found.signet = Some(build_signet().await?);
        }
        if needed.contains(&Kind::Mosquitto) {
            found.mosquitto = match self.find(Kind::Mosquitto) {
                Some(path) => Some(path),
                None => Some(install_mosquitto(self).await?),
            };
        }
        if needed.contains(&Kind::Rumqttd) {
            found.rumqttd = Some(
                self.find(Kind::Rumqttd)
                    .context("rumqttd is not installed, or give its path with --rumqttd")?,
            );
        }
        Ok(found)
    }

    /// The program of a peer, if there is one.
    pub(crate) fn find(&self, peer: Kind) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
        let more = ["/usr/sbin".into(), "/usr/local/sbin".into()].into_iter().chain(home);
        let candidates: Vec<PathBuf> =
            std::env::split_paths(&path).chain(more).map(|directory| directory.join(peer.name())).collect();
        let given = match peer {
            Kind::Signet => &self.signet,
            Kind::Mosquitto => &self.mosquitto,
            Kind::Rumqttd => &self.rumqttd,
        };
        program(given.as_ref(), &candidates)
    }

    /// What a broker says of its version: the first line that it prints.
    pub(crate) async fn version(&self, kind: Kind) -> String {
        let Ok(path) = self.path(kind) else { return String::new() };
        // Mosquitto says it above its help.
        let flag = if kind == Kind::Mosquitto { "-h" } else { "--version" };
        let said = Command::new(path).arg(flag).stdin(Stdio::null()).output().await;
        let said =
            said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        said.lines().next().unwrap_or_default().to_owned()
    }

    fn path(&self, kind: Kind) -> Result<&Path> {
        let path = match kind {
            Kind::Signet => &self.signet,
            Kind::Mosquitto => &self.mosquitto,
            Kind::Rumqttd => &self.rumqttd,
        };
        path.as_deref().with_context(|| format!("no path of {}", kind.name()))
    }
}

/// Builds the release program of this workspace, so that it is what the tree says; then it lies beside this program.
async fn build_signet() -> Result<PathBuf> {
    let built = std::env::current_exe()?.with_file_name("signet");
    let Some(cargo) = std::env::var_os("CARGO") else {
        ensure!(built.is_file(), "there is no {}: give the path of signet with --signet", built.display());
        return Ok(built);
    };
    say("building signet (release)");
    let status = Command::new(cargo).args(["build", "--release", "--quiet", "-p", "signet"]).status().await?;
    ensure!(status.success(), "signet could not be built");
    ensure!(
        built.is_file(),
        "signet was built, but not to {}: run with --release, or give --signet",
        built.display()
    );
    Ok(built)
}

/// Installs Debian's mosquitto, for which one must be root, and gives its path.
async fn install_mosquitto(programs: &Programs) -> Result<PathBuf> {
    say("installing mosquitto (apt-get install mosquitto)");
    let install = "apt-get install -y -qq --no-install-recommends mosquitto >&2";
    let status = Command::new("sh").args(["-c", install]).stdin(Stdio::null()).status().await?;
    ensure!(
        status.success(),
        "mosquitto is not installed and cannot be: install it, or give its path with --mosquitto"
    );
    programs.find(Kind::Mosquitto).context("mosquitto was installed, but where?")
}

/// A broker that this program started. It is killed when dropped.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// The revocation lists in force.
    pub(crate) crls: Option<Crls>,
    /// The ids in the registry of the authorities of the run: that of the devices, and the second one.
    pub(crate) imported: Vec<String>,
    program: PathBuf,
    child: Child,
    pid: u32,
    directory: TempDir,
}

impl Running {
    /// Starts a broker.
    pub(crate) async fn start(kind: Kind, programs: &Programs, pki: &Pki, setup: &Setup) -> Result<Self> {
        ensure!(kind.can(setup), "{} cannot do what this scenario needs", kind.name());
        let connections = within_limits(setup.connections)?;
        let program = programs.path(kind)?.to_owned();
        let directory = tempfile::Builder::new().prefix("signet-bench-broker-").tempdir()?;
        let crls = setup.crl_entries.map(|entries| pki.write_crls(directory.path(), entries)).transpose()?;
        let config = directory.path().join("broker.conf");
        let ready = directory.path().join("ready");
        let mut command = Command::new(&program);
        let mut address = None;
        if kind != Kind::Signet {
            // It cannot say which port the kernel gave it, so it is told one that was free a moment ago.
            address = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?);
        }
        match (kind, address) {
            (Kind::Mosquitto, Some(free)) => {
                let files = config::Files::write(pki, setup, crls.as_ref(), directory.path())?;
                fs::write(
                    &config,
                    config::mosquitto(free.port(), pki, connections, &files, setup.keep, directory.path()),
                )?;
                command.arg("-c").arg(&config);
            }
            (Kind::Rumqttd, Some(free)) => {
                let config = config.with_extension("toml");
                fs::write(&config, config::rumqttd(free, pki, connections))?;
                command.arg("-c").arg(&config);
            }
            _ => {
                fs::write(&config, config::signet(pki, setup, connections, crls.as_ref()))?;
                if setup.registry {
                    let init = ["ca", "init", "--config", "broker.conf", "--root", "root"];
                    operate(&program, directory.path(), &init).await?;
                }
                command.arg("run").arg("--config").arg(&config).arg("--ready-file").arg(&ready);
            }
        }
        let log = File::create(directory.path().join("log"))?;
        let child = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", kind.name()))?;
        let pid = child.id().context("the broker has ended at once")?;
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address_now = address.unwrap_or(unknown);
        let mut broker =
            Self { kind, address: address_now, crls, imported: Vec::new(), program, child, pid, directory };
        broker.wait_until_ready(address, &ready).await?;
        if setup.registry {
            broker.import_authorities(pki).await?;
        }
        Ok(broker)
    }

    /// Both authorities of the run may register who comes, each its own names.
    async fn import_authorities(&mut self, pki: &Pki) -> Result<()> {
        for (file, names) in [(pki.issuing(), &["bench-*", "admin"][..]), (pki.other(), &["other-*"][..])] {
            let file = file.display().to_string();
            let mut arguments = vec!["ca", "import", &file, "--unknown", "auto", "--share-names-with", "own"];
            arguments.extend(names.iter().flat_map(|name| ["--names", name]));
            let said: serde_json::Value = serde_json::from_str(&self.operate(&arguments).await?)?;
            let id = said.get("id").and_then(|id| id.as_str());
            self.imported.push(id.context("`signet ca import` gave no id")?.to_owned());
        }
        Ok(())
    }

    /// Runs a command of an operator on this broker, and gives what it printed.
    pub(crate) async fn operate(&self, arguments: &[&str]) -> Result<String> {
        let mut all = arguments.to_vec();
        all.extend(["--config", "broker.conf", "--json"]);
        operate(&self.program, self.directory.path(), &all).await
    }

    /// The folder that it runs in.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    async fn wait_until_ready(&mut self, address: Option<SocketAddr>, ready: &Path) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.kind.name(), self.log());
            }
            let told = || fs::read_to_string(ready).ok()?.lines().next()?.parse().ok();
            if let Some(address) = address.or_else(told)
                && tokio::net::TcpStream::connect(address).await.is_ok()
            {
                self.address = address;
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} accepts no connections after {START_TIMEOUT:?}:\n{}", self.kind.name(), self.log());
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// User and system time of all its threads.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.pid)
    }

    /// Bytes that it has had written to disks.
    pub(crate) fn bytes_written(&self) -> Result<u64> {
        process::bytes_written(self.pid)
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        process::memory(self.pid)
    }

    /// Ends it; an error if it has ended by itself before.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself with {status}:\n{}", self.kind.name(), self.log());
        }
        Ok(self.child.kill().await?)
    }

    /// The error with the end of the broker's log, in which the reason may stand.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let log = self.log();
        if log.is_empty() { error } else { error.context(format!("{} said:\n{log}", self.kind.name())) }
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Connections for which a broker is configured: those of the scenario and some more.
fn within_limits(connections: usize) -> Result<usize> {
    ensure!(
        connections <= CONNECTIONS_MAX,
        "{connections} connections at once are more than one address can have"
    );
    let connections = connections + SPARE_CONNECTIONS;
    let (files, may) = (connections + OTHER_FILES, raise_open_files());
    ensure!(
        files <= may,
        "{files} open files are needed and {may} allowed: raise the hard limit, or have fewer connections"
    );
    Ok(connections)
}

async fn operate(program: &Path, directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_remove("SIGNET_SOCKET")
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "signet {} failed: {said}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}
