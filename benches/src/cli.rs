//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::broker::{Kind, Programs, Running};
use crate::pki::Pki;
use crate::report::{self, Record};
use crate::{compare, flow, handshake, idle};

/// Measures what an MQTT broker with mutual TLS costs, by the CPU time and memory of its process.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) programs: Programs,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// CPU time per connect: TCP, TLS, CONNECT, CONNACK, DISCONNECT.
    Handshake {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: handshake::Load,
    },
    /// Resident memory per idle connection.
    Idle {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: idle::Load,
    },
    /// CPU time per message (1:1) or per delivery (fan-out).
    Flow {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: flow::Load,
    },
    /// What the cryptography of a full handshake costs by itself.
    Floor,
    /// Signet beside its peers, alternating, with medians and ratios.
    Compare(compare::Plan),
}

/// Which broker a single scenario is run on.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// The broker to start.
    #[arg(long, value_enum, default_value_t = Kind::Signet)]
    pub(crate) broker: Kind,
    /// The TLS version that the clients offer.
    #[arg(long, value_enum, default_value_t = Tls::V13)]
    pub(crate) tls: Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

impl Tls {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// A scenario: the load that is put on a broker that was started for it, and what came out.
pub(crate) trait Measure {
    /// How many devices with a certificate of their own it needs.
    fn devices(&self) -> usize;
    /// How many connections are open at once.
    fn connections(&self) -> usize;
    /// Puts the load on the broker.
    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record>;
}

impl On {
    pub(crate) async fn run(&self, programs: &Programs, load: &impl Measure) -> Result<()> {
        let programs = programs.found(&[self.broker]).await?;
        let pki = Pki::new(load.devices(), self.tls)?;
        let broker = Running::start(self.broker, &programs, &pki, load.connections()).await?;
        let record = load.measure(&broker, &pki).await?;
        report::line(&record)?;
        report::summary(&record);
        broker.stop().await
    }
}

/// A path of a program, or its place on the search path.
pub(crate) fn program(given: Option<&PathBuf>, candidates: &[PathBuf]) -> Option<PathBuf> {
    given.cloned().or_else(|| candidates.iter().find(|candidate| candidate.is_file()).cloned())
}
