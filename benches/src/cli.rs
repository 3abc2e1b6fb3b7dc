//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::broker::{Kind, Programs, Running, Setup};
use crate::pki::{Counts, Pki};
use crate::report::{self, Record};
use crate::{
    compare, durable, enrol, flow, handshake, idle, instructions, local, refused, retained, revoke, sparse,
    storm, threads,
};

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
    /// Memory per idle connection.
    Idle {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: idle::Load,
    },
    /// CPU time per message (1:1, fan-in) or per delivery (fan-out).
    Flow {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: flow::Load,
    },
    /// CPU time per message of many devices that each speak rarely.
    Sparse {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: sparse::Load,
    },
    /// All devices drop and return: how long it takes, and what others notice.
    Storm {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: storm::Load,
    },
    /// From a claim certificate to the first telemetry of a device. Signet alone has it.
    Enrol {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: enrol::Load,
    },
    /// How long a revoked device stays connected. Signet alone has it.
    Revoke {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: revoke::Load,
    },
    /// CPU time of a connect that is refused, beside a good one. Signet alone has it.
    Refused {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: refused::Load,
    },
    /// CPU time of a new subscriber that gets many retained messages.
    Retained {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: retained::Load,
    },
    /// What it costs a publisher that its messages survive a crash.
    Durable {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        load: durable::Load,
    },
    /// CPU time of a decision of the access policy.
    Acl(local::AclLoad),
    /// CPU time of a look-up in the subscription index.
    Match(local::MatchLoad),
    /// What many threads cost each other in the core.
    Threads(threads::Load),
    /// What the cryptography of a full handshake costs by itself.
    Floor,
    /// Instructions of the connect path and of the publish path, counted by valgrind.
    Instructions(instructions::Plan),
    /// The work that `instructions` counts.
    #[command(hide = true)]
    InstructionsWork(instructions::Work),
    /// Signet beside its peers, alternating, with medians and ratios; writes the report.
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

/// What a scenario needs before it begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    pub(crate) counts: Counts,
    pub(crate) setup: Setup,
}

/// A scenario: the load that is put on a broker that was started for it, and what came out.
pub(crate) trait Measure {
    /// Certificates, and how the broker is set up.
    fn need(&self) -> Need;
    /// Puts the load on the broker.
    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record>;
}

impl On {
    pub(crate) async fn run(&self, programs: &Programs, load: &impl Measure) -> Result<()> {
        let programs = programs.found(&[self.broker]).await?;
        let need = load.need();
        let pki = Pki::new(need.counts, self.tls)?;
        let broker = Running::start(self.broker, &programs, &pki, &need.setup).await?;
        let record = load.measure(&broker, &pki).await.map_err(|error| broker.explain(error))?;
        show(&record)?;
        broker.stop().await
    }
}

/// One line of JSON for programs and a list for people.
pub(crate) fn show(record: &Record) -> Result<()> {
    report::line(record)?;
    report::summary(record);
    Ok(())
}

/// A path of a program, or its place on the search path.
pub(crate) fn program(given: Option<&PathBuf>, candidates: &[PathBuf]) -> Option<PathBuf> {
    given.cloned().or_else(|| candidates.iter().find(|candidate| candidate.is_file()).cloned())
}
