//! The command line.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use signet_device_core::Settings;
use signet_device_core::https::Url;
use signet_device_core::topic::Format;

use crate::faults::Level;
use crate::fleet::{Plan, Restart, Update, read_claim, run};
use crate::outcome::Outcome;
use crate::release::{self, Kind, Releases};
use crate::unit::{Begin, Given};
use crate::years::{Years, run as run_years};

/// The version of the firmware that --ota gives.
const NEXT_VERSION: &str = "1.0.0";

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
    #[arg(long, value_name = "FILE", required_unless_present_any = ["years", "token_file"])]
    pub claim: Option<PathBuf>,
    /// The claim's key; beside its certificate with the ending .key when it is not given.
    #[arg(long, value_name = "FILE")]
    pub claim_key: Option<PathBuf>,
    /// Instead of a claim: one-time tokens, a line `NAME TOKEN` for each device, as signet token create makes them.
    #[arg(long, value_name = "FILE", requires = "token_url", conflicts_with = "claim")]
    pub token_file: Option<PathBuf>,
    /// Where tokens are taken: https://HOST:PORT/provision.
    #[arg(long, value_name = "URL")]
    pub token_url: Option<String>,
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
    /// Give the fleet new firmware: a folder where image.bin, its signed manifest.json and devices.txt are written. Then
    /// --ota-command is run.
    #[arg(long, value_name = "DIR", requires = "ota_command", conflicts_with = "years")]
    pub ota: Option<PathBuf>,
    /// The operator's command, as `signet ota publish --image DIR/image.bin --manifest DIR/manifest.json --devices-from DIR/devices.txt ...`.
    #[arg(long, value_name = "COMMAND", requires = "ota")]
    pub ota_command: Option<String>,
    /// Where image.bin is served over HTTPS; it comes over MQTT without this.
    #[arg(long, value_name = "URL", requires = "ota")]
    pub ota_url: Option<String>,
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
            begin: begin(args)?,
            update_key: args.ota.is_some().then(|| Releases::of(args.seed).public_key()),
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
        update: update(args)?,
    })
}

/// With what the devices begin.
fn begin(args: &Args) -> Result<Begin> {
    if let (Some(file), Some(url)) = (&args.token_file, &args.token_url) {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let url = Url::parse(url).with_context(|| format!("{url} is no address of HTTPS"))?;
        let mut tokens = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let words = line.split_once(char::is_whitespace);
            let (name, token) =
                words.with_context(|| format!("{}:{}: no line NAME TOKEN", file.display(), number + 1))?;
            tokens.insert(name.to_owned(), token.trim().to_owned().into());
        }
        return Ok(Begin::Tokens(url, tokens));
    }
    let Some(claim) = &args.claim else { bail!("--claim or --token-file is missing") };
    Ok(Begin::Claim(read_claim(claim, args.claim_key.as_deref())?))
}

/// The update, and the files of it.
fn update(args: &Args) -> Result<Option<Update>> {
    let (Some(folder), Some(command)) = (&args.ota, &args.ota_command) else { return Ok(None) };
    if args.ota_url.as_deref().is_some_and(|url| Url::parse(url).is_none()) {
        bail!("--ota-url is no address of HTTPS, as in https://files.example/image.bin");
    }
    let image = release::image(NEXT_VERSION, Kind::Good);
    let manifest = Releases::of(args.seed).manifest(&image, NEXT_VERSION, 1, args.ota_url.as_deref());
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    write(&folder.join("image.bin"), &image)?;
    write(&folder.join("manifest.json"), manifest.as_bytes())?;
    let (command, devices) = (command.clone(), folder.join("devices.txt"));
    Ok(Some(Update::new(NEXT_VERSION, move |names| {
        write(&devices, format!("{}\n", names.join("\n")).as_bytes())?;
        shell(&command)
    })))
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).with_context(|| file.display().to_string())
}

fn shell(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status().context("sh")?;
    if status.success() { Ok(()) } else { bail!("{command}: {status}") }
}
