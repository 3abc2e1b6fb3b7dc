//! The brokers under test: found, configured alike, started on free ports of 127.0.0.1, and ended.

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
use crate::pki::Pki;
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
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Signet => "signet",
            Self::Mosquitto => "mosquitto",
        }
    }
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
}

impl Programs {
    /// The same with every path filled in; an error for a broker that is needed and not there.
    pub(crate) async fn found(&self, needed: &[Kind]) -> Result<Self> {
        let mut found = self.clone();
        if needed.contains(&Kind::Signet) && found.signet.is_none() {
            found.signet = Some(build_signet().await?);
        }
        if needed.contains(&Kind::Mosquitto) {
            found.mosquitto = Some(self.find_mosquitto().context(
                "mosquitto is not installed (apt-get install mosquitto), or give its path with --mosquitto",
            )?);
        }
        Ok(found)
    }

    /// The mosquitto program, if there is one.
    pub(crate) fn find_mosquitto(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let candidates: Vec<PathBuf> = directories.map(|directory| directory.join("mosquitto")).collect();
        program(self.mosquitto.as_ref(), &candidates)
    }

    fn path(&self, kind: Kind) -> Result<&Path> {
        let path = match kind {
            Kind::Signet => &self.signet,
            Kind::Mosquitto => &self.mosquitto,
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

/// A broker that this program started. It is killed when dropped.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
    pid: u32,
    directory: TempDir,
}

impl Running {
    /// Starts a broker for so many connections at once.
    pub(crate) async fn start(
        kind: Kind,
        programs: &Programs,
        pki: &Pki,
        connections: usize,
    ) -> Result<Self> {
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
        let directory = tempfile::Builder::new().prefix("signet-bench-broker-").tempdir()?;
        let config = directory.path().join("broker.conf");
        let ready = directory.path().join("ready");
        let mut command = Command::new(programs.path(kind)?);
        let mut address = None;
        match kind {
            Kind::Signet => {
                fs::write(&config, signet_config(pki, connections))?;
                command.arg("run").arg("--config").arg(&config).arg("--ready-file").arg(&ready);
            }
            Kind::Mosquitto => {
                // It cannot say which port the kernel gave it, so it is told one that was free a moment ago.
                let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
                fs::write(&config, mosquitto_config(free.port(), pki, connections))?;
                command.arg("-c").arg(&config);
                address = Some(free);
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
        let mut broker = Self { kind, address: address.unwrap_or(unknown), child, pid, directory };
        broker.wait_until_ready(address, &ready).await?;
        Ok(broker)
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

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The limits that concern one address or one name are lifted, since all clients of a run come from one address, and all subscribers of a
/// fan-out have one name; Mosquitto has no such limits.
fn signet_config(pki: &Pki, connections: usize) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
certificate = "{chain}"
private-key = "{key}"
client-ca = ["{root}"]
max-connections = {connections}

[acl]
file = "{policy}"

[limits]
handshakes-per-address-per-second = 0
connections-per-address-max = 0
sessions-per-principal-max = {connections}
handshakes-in-flight-max = 1024

[log]
level = "error"
"#,
        chain = pki.server_chain().display(),
        key = pki.server_key().display(),
        root = pki.root().display(),
        policy = pki.policy().display(),
    )
}

/// As its manual advises for mutual TLS; `user root` only says that it need not give up rights that it may not have.
fn mosquitto_config(port: u16, pki: &Pki, connections: usize) -> String {
    format!(
        "user root
per_listener_settings false
listener {port} 127.0.0.1
cafile {root}
certfile {chain}
keyfile {key}
require_certificate true
use_identity_as_username true
acl_file {policy}
allow_anonymous false
max_connections {connections}
set_tcp_nodelay true
persistence false
log_type none
",
        root = pki.root().display(),
        chain = pki.server_chain().display(),
        key = pki.server_key().display(),
        policy = pki.policy().display(),
    )
}
