//! The load generator: what a broker costs per connect, per idle connection and per message, and how it compares.
//!
//! `cargo run --release -p signet-bench -- compare` starts the brokers itself, on free ports of 127.0.0.1. The results go to standard
//! output, one JSON object per run; progress and tables for people go to standard error. METHOD.md says what is measured and how.

mod broker;
mod cli;
mod client;
mod compare;
mod floor;
mod flow;
mod handshake;
mod idle;
mod pki;
mod process;
mod progress;
mod report;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Scenario};

fn main() -> Result<()> {
    let cli = Cli::parse();
    process::raise_open_files();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(cli))
}

async fn run(cli: Cli) -> Result<()> {
    match &cli.scenario {
        Scenario::Handshake { on, load } => on.run(&cli.programs, load).await,
        Scenario::Idle { on, load } => on.run(&cli.programs, load).await,
        Scenario::Flow { on, load } => on.run(&cli.programs, load).await,
        Scenario::Floor => report::line(&floor::measure()?.record()),
        Scenario::Compare(plan) => compare::run(&cli.programs, plan).await,
    }
}
