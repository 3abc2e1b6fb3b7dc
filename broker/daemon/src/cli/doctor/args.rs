//! The command line of `signet doctor`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::args::AdminArgs;

/// `signet doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no error was found (there may be warnings); 1 an error was found; 2 could not run.\n\n\
    Examples:\n  \
    signet doctor device-chain.crt --key device.key --config signet.toml\n  \
    signet doctor broker.example.net:8883 --ca root-ca.crt --cert device-chain.crt --key device.key\n\n\
    broker/docs/doctor.md explains every finding."
)]
pub struct DoctorArgs {
    /// A certificate file (PEM or DER; a chain with the certificate first), or HOST:PORT of a broker.
    #[arg(value_name = "FILE|HOST:PORT")]
    pub target: String,
    /// The private key of the certificate; with HOST:PORT, of --cert.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Trusted authorities: for a certificate, those of the broker; with HOST:PORT, those of the device. May be given several
    /// times. Default for a certificate: client-ca of the configuration's listeners.
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// Revocation lists; may be given several times. Default: crl of the configuration's listeners.
    #[arg(long, value_name = "FILE")]
    pub crl: Vec<PathBuf>,
    /// Of the configuration's listeners, judge by this one only.
    #[arg(long, value_name = "ADDRESS")]
    pub listener: Option<SocketAddr>,
    /// With HOST:PORT: the client certificate to present, with its chain.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// With HOST:PORT: the name that the server's certificate must be for. Default: HOST.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// With HOST:PORT: the MQTT client id. Default: one of the doctor's own, so that no device is disturbed.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// With HOST:PORT: how long each step may take, in seconds, 1 to 120.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub timeout: Duration,
    /// The broker to ask about registry and rights. Its configuration also names the trusted authorities.
    #[command(flatten)]
    pub admin: AdminArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(secs @ 1..=120) => Ok(Duration::from_secs(secs)),
        _ => Err("give whole seconds, 1 to 120".to_owned()),
    }
}
