//! The command line.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use signet_device_core::Settings;
use signet_device_core::topic::Format;

use crate::faults::Level;
use crate::fleet::{Plan, Restart, read_claim, run};
use crate::outcome::Outcome;
use crate::unit::Given;
use crate::years::{Years, run as run_years};

/// The payloads of provisioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// JSON.
    Json,
    /// CBOR.
    Cbor,
}

/// A fleet of simulated sensors, with power cuts and bad networks.
///
/// Every device makes its key, claims its identity, publishes, and with --rotate renews its certificate once, while the faults
/// of the level go on. Then the faults end, and the verdict is that every device is online under its own name, none twice,
/// none lost. Exit code 0 when it passed, 1 when not, 2 when it could not begin.
#[derive(Debug, Parser)]
#[command(name = "signet-sim", version)]
pub struct Args {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8883")]
    pub broker: String,
    /// The name in the broker's certificate; the host of --broker when it is a name, else localhost.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// The root of the broker's certificate, PEM; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// The claim: the folder that `signet claim create` made, or a certificate in PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "years")]
    pub claim: Option<PathBuf>,
    /// The claim's key; beside its certificate with the ending .key when it is not given.
    #[arg(long, value_name = "FILE")]
    pub claim_key: Option<PathBuf>,
    /// How many devices.
    #[arg(long, default_value_t = 100)]
    pub devices: usize,
    /// What their serial numbers begin with.
    #[arg(long, default_value = "sim-")]
    pub prefix: String,
    /// The template of the first enrolment.
    #[arg(long, default_value = "fleet")]
    pub template: String,
    /// The template of rotations.
    #[arg(long, default_value = "rotation")]
    pub rotation_template: String,
    /// The form of the payloads of provisioning.
    #[arg(long, value_enum, default_value = "json")]
    pub format: FormatArg,
    /// What goes wrong.
    #[arg(long, value_enum, default_value = "some")]
    pub faults: Level,
    /// For how many seconds at least.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub faults_for: u64,
    /// The seed of keys and faults: the same run again, as far as networks repeat themselves.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many devices start in a second.
    #[arg(long, default_value_t = 100)]
    pub ramp: u32,
    /// Seconds between two readings of a device.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub interval: u32,
    /// How many seconds each part of the run may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Let every device rotate its certificate once.
    #[arg(long)]
    pub rotate: bool,
    /// A command that restarts the broker, run once at the half of each part.
    #[arg(long, value_name = "COMMAND")]
    pub restart_command: Option<String>,
    /// Instead: so many years of virtual time, with certificates of --validity days, against the broker's registry and authority
    /// in this process.
    #[arg(long, value_name = "YEARS", value_parser = clap::value_parser!(u32).range(1..=50))]
    pub years: Option<u32>,
    /// With --years: how many days a certificate is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub validity: u32,
    /// Print JSON for a program to read.
    #[arg(long)]
    pub json: bool,
}

/// Runs it. Returns the outcome, which was printed.
///
/// # Errors
/// It could not begin.
pub fn main(args: &Args) -> Result<Outcome> {
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let outcome = match args.years {
        Some(years) => run_years(
            &Years {
                years,
                devices: args.devices,
                validity_days: args.validity,
                level: args.faults,
                seed: args.seed,
            },
            &bar,
        )?,
        None => {
            let plan = plan(args)?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("the runtime")?
                .block_on(run(&plan, bar))?
        }
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &outcome)?;
        writeln!(out)?;
    } else {
        write!(out, "{outcome}")?;
    }
    Ok(outcome)
}

fn plan(args: &Args) -> Result<Plan> {
    let Some(claim) = &args.claim else { bail!("--claim is missing") };
    let broker: SocketAddr = args
        .broker
        .to_socket_addrs()
        .with_context(|| format!("{} is no address", args.broker))?
        .next()
        .with_context(|| format!("{} has no address", args.broker))?;
    let host = args.broker.rsplit_once(':').map_or(args.broker.as_str(), |(host, _)| host);
    let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let server_name = match &args.server_name {
        Some(name) => name.clone(),
        None if is_address => "localhost".to_owned(),
        None => host.to_owned(),
    };
    if args.ca.is_empty() {
        bail!("--ca is missing: the root of the broker's certificate, which devices verify");
    }
    let settings = Settings {
        interval_secs: args.interval.max(1),
        backoff_base_ms: 500,
        backoff_cap_ms: 15_000,
        ..Settings::default()
    };
    Ok(Plan {
        broker,
        server_name,
        roots: args.ca.clone(),
        devices: args.devices,
        prefix: args.prefix.clone(),
        given: Given {
            claim: read_claim(claim, args.claim_key.as_deref())?,
            template: args.template.clone(),
            rotation_template: args.rotation_template.clone(),
            format: match args.format {
                FormatArg::Json => Format::Json,
                FormatArg::Cbor => Format::Cbor,
            },
            settings,
            seed: args.seed,
        },
        level: args.faults,
        ramp: args.ramp,
        faults_for: Duration::from_secs(args.faults_for),
        timeout: Duration::from_secs(args.timeout),
        rotate: args.rotate,
        restart: args.restart_command.clone().map(|command| Restart::new(move || shell(&command))),
    })
}

fn shell(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status().context("sh")?;
    if status.success() { Ok(()) } else { bail!("{command}: {status}") }
}
