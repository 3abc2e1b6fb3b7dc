//! `signet ota publish`: an operator gives devices a new firmware image, over the broker like any other message.

mod campaign;
mod client;
mod image;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use signet_identity::ThingName;

use self::campaign::{Campaign, Stage};
use self::client::{Client, Credentials};
use self::image::Image;
use super::out::{Failure, Outcome, say, say_json};
use super::registry::args::duration;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum OtaCommand {
    /// Give devices a signed image, and stay until each runs it or has refused it.
    Publish(PublishArgs),
}

/// `signet ota publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The devices, by their names.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<String>,
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
    /// How long all of it may take.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    within: Duration,
    /// Print JSON for a program to read.
    #[arg(long)]
    json: bool,
}

/// The report.
#[derive(Serialize)]
struct Report<'a> {
    version: &'a str,
    confirmed: usize,
    failed: usize,
    devices: &'a std::collections::BTreeMap<String, Stage>,
}

/// Carries out one of the commands.
pub fn ota(command: &OtaCommand) -> Result<Outcome, Failure> {
    let OtaCommand::Publish(args) = command;
    publish(args)
}

fn publish(args: &PublishArgs) -> Result<Outcome, Failure> {
    for device in &args.devices {
        ThingName::try_from(device.as_str())
            .map_err(|error| Failure::usage(format!("{device:?} cannot be a device: {error}")))?;
    }
    let image = Image::read(&args.image, &args.manifest)?;
    let (version, size) = (image.version().to_owned(), image.size());
    let credentials = Credentials { certificate: &args.cert, key: &args.key, ca: &args.ca };
    let mut client = Client::connect(&args.broker, &credentials)?;
    if !args.json {
        say(&format!("{}, for {} devices\n", image.describe(), args.devices.len()));
    }
    let mut campaign = Campaign::new(image, campaign_id()?, &args.devices, args.at_once);
    client.subscribe(&campaign.filters().collect::<Vec<_>>())?;
    let bar = progress(args, size.saturating_mul(args.devices.len() as u64));
    let end = Instant::now() + args.within;
    let run = (|| {
        while !campaign.is_over() && Instant::now() < end {
            for order in campaign.next_orders() {
                client.publish(order)?;
            }
            if let Some(message) = client.look()?
                && let Some(answer) = campaign.heard(&message.topic, &message.payload)
            {
                client.publish(answer)?;
            }
            bar.set_position(campaign.bytes());
        }
        Ok(())
    })();
    bar.finish_and_clear();
    match run {
        Ok(()) => campaign.give_up("the time is over"),
        // What the devices have reached is said all the same, and then what went wrong.
        Err(failure) => {
            campaign.give_up("the connection to the broker was lost");
            tell(args, &version, &campaign)?;
            return Err(failure);
        }
    }
    tell(args, &version, &campaign)
}

fn tell(args: &PublishArgs, version: &str, campaign: &Campaign) -> Result<Outcome, Failure> {
    let devices = campaign.devices();
    let confirmed = devices.values().filter(|stage| **stage == Stage::Confirmed).count();
    let failed = devices.len() - confirmed;
    if args.json {
        say_json(&Report { version, confirmed, failed, devices })?;
    } else {
        for (device, stage) in devices {
            match stage {
                Stage::Confirmed => say(&format!("{device}: runs {version}\n")),
                Stage::Failed { why } => say(&format!("{device}: not updated: {why}\n")),
                _ => say(&format!("{device}: not finished\n")),
            }
        }
        say(&format!("{confirmed} of {} devices run {version}\n", devices.len()));
    }
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Found })
}

/// A bar on a terminal; nothing elsewhere.
fn progress(args: &PublishArgs, bytes: u64) -> ProgressBar {
    if args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}

/// An id that no other campaign has.
fn campaign_id() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::usage("the system gives no randomness"))?;
    Ok(format!("ota-{:016x}", u64::from_be_bytes(bytes)))
}
