//! `signet ota publish`: an operator gives devices a new firmware image, over the broker like any other message.

mod campaign;
mod client;
mod image;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use signet_identity::ThingName;

use self::campaign::{Campaign, Terms};
use self::client::{Client, Credentials, Trouble};
use self::image::Image;
use super::out::{Failure, Outcome, say, say_json};
use super::registry::args::duration;

pub use self::campaign::{Stage, Verdict};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum OtaCommand {
    /// Give devices a signed image, and stay until each runs it or has refused it.
    ///
    /// Devices fetch the image from here, over the broker; when its manifest was signed with an address of HTTPS, from there.
    /// Exit code 0 when all run it, 1 when some do not, each with the reason, 2 when it could not begin.
    Publish(PublishArgs),
}

/// `signet ota publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The devices, by their names.
    #[arg(required_unless_present = "devices_from", value_name = "DEVICE")]
    devices: Vec<String>,
    /// More devices, a name on each line.
    #[arg(long, value_name = "FILE")]
    devices_from: Option<PathBuf>,
    /// The image.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Its signed manifest, as `firmware/factory/signet_factory.py sign` makes it.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The broker; its certificate must carry this name.
    #[arg(long, value_name = "HOST:PORT")]
    broker: String,
    /// An operator's certificate with its chain, PEM.
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The root of the broker's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// How many devices fetch at the same time.
    #[arg(long, value_name = "N", default_value_t = 10)]
    at_once: usize,
    /// How long one device may take from its order until it runs the image. One that says nothing is told again meanwhile.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = duration)]
    device_within: Duration,
    /// How long all of it may take.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    within: Duration,
    /// Print JSON for a program to read.
    #[arg(long)]
    json: bool,
}

/// How an update went.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version that was given.
    pub version: String,
    /// How many devices run it.
    pub confirmed: usize,
    /// How many do not.
    pub failed: usize,
    /// How each took it.
    pub devices: BTreeMap<String, Verdict>,
    /// What ended it before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Carries out one of the commands.
pub fn ota(command: &OtaCommand) -> Result<Outcome, Failure> {
    let OtaCommand::Publish(args) = command;
    let report = publish(command)?;
    if args.json {
        say_json(&report)?;
    } else {
        for (device, verdict) in &report.devices {
            match &verdict.stage {
                Stage::Confirmed => {
                    say(&format!("{device}: runs {} ({} s)\n", report.version, verdict.seconds));
                }
                Stage::Failed { why } => say(&format!("{device}: not updated: {why}\n")),
                _ => say(&format!("{device}: not finished\n")),
            }
        }
        say(&format!("{} of {} devices run {}\n", report.confirmed, report.devices.len(), report.version));
    }
    if let Some(trouble) = report.trouble {
        return Err(Failure::found(trouble));
    }
    Ok(if report.failed == 0 { Outcome::Done } else { Outcome::Found })
}

/// The names on the command line and in the file.
fn devices(args: &PublishArgs) -> Result<Vec<String>, Failure> {
    let mut devices = args.devices.clone();
    if let Some(file) = &args.devices_from {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        devices.extend(lines.map(str::to_owned));
    }
    for device in &devices {
        ThingName::try_from(device.as_str())
            .map_err(|error| Failure::usage(format!("{device:?} cannot be a device: {error}")))?;
    }
    if devices.is_empty() {
        return Err(Failure::usage("no device is named"));
    }
    Ok(devices)
}

/// Carries an update out, and says how it went without printing it.
///
/// # Errors
/// It could not begin: a file, the connection, a right.
pub fn publish(command: &OtaCommand) -> Result<Report, Failure> {
    let OtaCommand::Publish(args) = command;
    let devices = devices(args)?;
    let image = Image::read(&args.image, &args.manifest)?;
    let (version, size) = (image.version().to_owned(), image.size());
    let credentials = Credentials { certificate: &args.cert, key: &args.key, ca: &args.ca };
    let mut client = Client::connect(&args.broker, &credentials)?;
    if !args.json {
        say(&format!("{}, for {} devices\n", image.describe(), devices.len()));
    }
    let terms = Terms { at_once: args.at_once, device_within: args.device_within };
    let mut campaign = Campaign::new(image, campaign_id()?, &devices, terms);
    let filters: Vec<String> = campaign.filters().collect();
    client.subscribe(&filters)?;
    let bar = progress(args, size.saturating_mul(devices.len() as u64));
    let start = Instant::now();
    let mut trouble = None;
    while !campaign.is_over() && start.elapsed() < args.within {
        match step(&mut campaign, &mut client, start) {
            Ok(()) => {}
            Err(Trouble::Failed(failure)) => {
                trouble = Some(failure.to_string());
                break;
            }
            // Devices go on where they were; what they said meanwhile is asked for again.
            Err(Trouble::Broken(why)) => {
                bar.println(format!("{why}; connecting again"));
                let end = start + args.within;
                match again(&args.broker, &credentials, &filters, end) {
                    Ok(connected) => client = connected,
                    Err(failure) => {
                        trouble = Some(failure.to_string());
                        break;
                    }
                }
            }
        }
        let (confirmed, failed) = campaign.count();
        bar.set_position(campaign.bytes());
        bar.set_message(format!("{confirmed} of {} run it, {failed} do not", devices.len()));
    }
    bar.finish_and_clear();
    campaign.give_up(if trouble.is_some() { "the update was broken off" } else { "the time is over" });
    let (confirmed, failed) = campaign.count();
    Ok(Report { version, confirmed, failed, devices: campaign.into_devices(), trouble })
}

/// Says what is due, and hears one message.
fn step(campaign: &mut Campaign, client: &mut Client, start: Instant) -> Result<(), Trouble> {
    for order in campaign.due(start.elapsed()) {
        client.publish(order)?;
    }
    if let Some(message) = client.look()?
        && let Some(answer) = campaign.heard(&message.topic, &message.payload, start.elapsed())
    {
        client.publish(answer)?;
    }
    Ok(())
}

/// Connects again, until `end`.
fn again(
    broker: &str,
    credentials: &Credentials<'_>,
    filters: &[String],
    end: Instant,
) -> Result<Client, Failure> {
    /// Between two tries.
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        std::thread::sleep(PAUSE);
        let connected = Client::connect(broker, credentials).and_then(|mut client| {
            client.subscribe(filters)?;
            Ok(client)
        });
        match connected {
            Err(_) if Instant::now() < end => {}
            connected => return connected,
        }
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(args: &PublishArgs, bytes: u64) -> ProgressBar {
    if args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}

/// An id that no other campaign has.
fn campaign_id() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::usage("the system gives no randomness"))?;
    Ok(format!("ota-{:016x}", u64::from_be_bytes(bytes)))
}
