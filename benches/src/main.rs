//! The load generator: what a broker costs per connect, per idle connection and per message, and how it compares.
//!
//! `cargo run --release -p signet-bench -- compare` starts the brokers itself, on free ports of 127.0.0.1. The results go to standard
//! output, one JSON object per run; progress and tables for people go to standard error. METHOD.md says what is measured and how.

mod behind;
mod broker;
mod cli;
mod client;
mod compare;
mod crowd;
mod durable;
mod endpoint;
mod enrol;
mod floor;
mod flow;
mod handshake;
mod idle;
mod instructions;
mod latency;
mod local;
mod operator;
mod pki;
mod process;
mod progress;
mod refused;
mod report;
mod retained;
mod revoke;
mod sparse;
mod steady;
mod storm;
mod threads;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Scenario, show};

fn main() -> Result<()> {
    let cli = Cli::parse();
    process::raise_open_files();
    // What is counted or timed in this process gets it for itself.
    match &cli.scenario {
        Scenario::Acl(load) => return show(&local::acl(load)?),
        Scenario::Match(load) => return show(&local::matching(load)?),
        Scenario::Threads(load) => return show(&threads::measure(load)?),
        Scenario::Floor => return show(&floor::measure()?.record()),
        Scenario::Instructions(plan) => return instructions::run(plan),
        Scenario::InstructionsWork(work) => return instructions::work(work),
        _ => {}
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&cli))
}

async fn run(cli: &Cli) -> Result<()> {
    match &cli.scenario {
        Scenario::Handshake { on, load } => on.run(&cli.programs, load).await,
        Scenario::Idle { on, load } => on.run(&cli.programs, load).await,
        Scenario::Flow { on, load } => on.run(&cli.programs, load).await,
        Scenario::Sparse { on, load } => on.run(&cli.programs, load).await,
        Scenario::Storm { on, load } => on.run(&cli.programs, load).await,
        Scenario::Enrol { on, load } => on.run(&cli.programs, load).await,
        Scenario::Refused { on, load } => on.run(&cli.programs, load).await,
        Scenario::Revoke { on, load } => on.run(&cli.programs, load).await,
        Scenario::Retained { on, load } => on.run(&cli.programs, load).await,
        Scenario::Durable { on, load } => on.run(&cli.programs, load).await,
        Scenario::Compare(plan) => compare::run(&cli.programs, plan).await,
        _ => Ok(()),
    }
}
