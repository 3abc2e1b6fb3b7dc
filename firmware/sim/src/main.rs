//! `signet-sim`: see `signet-sim --help`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use signet_sim::cli::{Args, main as run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(outcome) if outcome.ok => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "signet-sim: {error:#}"));
            ExitCode::from(2)
        }
    }
}
