//! Signet beside its peers: the same load on each in turn, several times, and a report of it.

mod cases;
mod machine;
mod plot;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::broker::{Kind, Programs, Running};
use crate::cli::{Measure, Tls};
use crate::floor::{self, Floor};
use crate::pki::{Counts, Pki};
use crate::report::{self, Record, Results, median, say};
use cases::Case;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// How often each scenario is run on each broker; medians are taken over the rounds. The long ones run less often.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// When no further run is begun, in minutes.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// Connects per run.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connects: u32,
    /// Entries of the revocation list.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    crl: u32,
    /// Numbers of idle connections.
    #[arg(long, value_delimiter = ',', default_value = "2000,10000", value_parser = clap::value_parser!(u32).range(1..=15_000))]
    idle: Vec<u32>,
    /// Messages of each of ten publishers, 1:1.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(50..=1_000_000))]
    messages: u32,
    /// Subscribers of the fan-out.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    fan_out: u32,
    /// Messages of the fan-out.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    fan_out_messages: u32,
    /// Devices of the sparse scenario.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    sparse: u32,
    /// Numbers of devices that drop and return.
    #[arg(long, value_delimiter = ',', default_value = "2000,10000", value_parser = clap::value_parser!(u32).range(1..=15_000))]
    storm: Vec<u32>,
    /// Numbers of devices that are revoked at once.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    revoke: Vec<u32>,
    /// Only the scenarios whose name contains this; may be given several times.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Leave the peers out although they are there.
    #[arg(long)]
    only_signet: bool,
    /// The folder of the report.
    #[arg(long, value_name = "DIR", default_value = "benches/results")]
    #[serde(skip)]
    output: PathBuf,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Report<'a> {
    date: String,
    machine: machine::Machine,
    plan: &'a Plan,
    /// Name and version of each broker.
    brokers: BTreeMap<&'static str, String>,
    floor: Results,
    /// By case and broker, the median of each figure and how many rounds there were.
    medians: BTreeMap<String, BTreeMap<&'static str, Medians>>,
    /// What went wrong.
    failures: Vec<String>,
    /// Every run, in order.
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Medians {
    rounds: usize,
    results: Results,
}

#[derive(Serialize)]
struct Run {
    case: String,
    round: u32,
    /// Of one minute, when it began.
    load_average: f64,
    #[serde(flatten)]
    record: Record,
}

/// A comparison under way.
struct Comparison<'a> {
    plan: &'a Plan,
    programs: Programs,
    brokers: Vec<Kind>,
    cases: Vec<Case>,
    pki: Pki,
    until: Instant,
    floors: Vec<Floor>,
    runs: Vec<Run>,
    failures: Vec<String>,
}

/// Runs every case on every broker, round by round, so that what else the machine does meets them alike.
pub(crate) async fn run(programs: &Programs, plan: &Plan) -> Result<()> {
    let mut brokers = vec![Kind::Signet];
    if !plan.only_signet {
        brokers.push(Kind::Mosquitto);
        brokers.extend(programs.find(Kind::Rumqttd).map(|_| Kind::Rumqttd));
    }
    let programs = programs.found(&brokers).await?;
    let wanted = |case: &Case| plan.only.is_empty() || plan.only.iter().any(|part| case.id.contains(part));
    let cases: Vec<Case> = cases::all(plan).into_iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "no scenario has such a name");
    let counts = cases.iter().fold(Counts::default(), |counts, case| counts.max(case.load.need().counts));
    let mut comparison = Comparison {
        plan,
        programs,
        brokers,
        cases,
        pki: Pki::new(counts, Tls::V13)?,
        until: Instant::now() + Duration::from_secs(60 * u64::from(plan.minutes)),
        floors: Vec::new(),
        runs: Vec::new(),
        failures: Vec::new(),
    };
    for round in 0..plan.rounds {
        comparison.round(round).await?;
    }
    comparison.finish().await
}

impl Comparison<'_> {
    async fn round(&mut self, round: u32) -> Result<()> {
        let floor = floor::measure()?;
        report::line(&floor.record())?;
        self.floors.push(floor);
        for number in 0..self.cases.len() {
            for turn in 0..self.brokers.len() {
                // Who is first changes from round to round.
                let kind = self.brokers[(turn + round as usize) % self.brokers.len()];
                let case = &self.cases[number];
                let fits = kind == Kind::Signet || (case.peers && kind.can(&case.load.need().setup));
                if !fits || round >= case.rounds_max {
                    continue;
                }
                if Instant::now() > self.until {
                    say(&format!(
                        "{} minutes are over: {} of {} is not run",
                        self.plan.minutes,
                        case.id,
                        kind.name()
                    ));
                    continue;
                }
                say(&format!("round {} of {}: {}: {}", round + 1, self.plan.rounds, kind.name(), case.id));
                let load_average = machine::load_average();
                match self.measure(case, kind).await {
                    Ok(record) => {
                        report::line(&record)?;
                        self.runs.push(Run { case: case.id.clone(), round, load_average, record });
                    }
                    Err(error) => {
                        let failure = format!("{}, {}, round {}: {error:#}", case.id, kind.name(), round + 1);
                        say(&failure);
                        self.failures.push(failure);
                    }
                }
            }
        }
        Ok(())
    }

    async fn measure(&self, case: &Case, kind: Kind) -> Result<Record> {
        if let Some(record) = tokio::task::block_in_place(|| case.load.alone()) {
            return record;
        }
        let pki = self.pki.with_tls(case.tls);
        let broker = Running::start(kind, &self.programs, &pki, &case.load.need().setup).await?;
        let record = case.load.measure(&broker, &pki).await.map_err(|error| broker.explain(error))?;
        broker.stop().await?;
        Ok(record)
    }

    /// Writes the report: JSON, table and plots.
    async fn finish(self) -> Result<()> {
        let now = OffsetDateTime::now_utc();
        let date = now.format(format_description!("[year]-[month]-[day]"))?;
        let mut brokers = BTreeMap::new();
        for kind in &self.brokers {
            brokers.insert(kind.name(), self.programs.version(*kind).await);
        }
        let medians = self.medians();
        let figures = table::Figures {
            cases: &self.cases,
            brokers: &self.brokers,
            medians: &medians,
            floor: median_floor(&self.floors),
        };
        let machine = machine::Machine::read();
        let table = table::markdown(&figures, &date, &machine, &brokers, self.plan, &self.failures);
        fs::create_dir_all(&self.plan.output)
            .with_context(|| format!("making {}", self.plan.output.display()))?;
        let at = |end: &str| self.plan.output.join(format!("{date}{end}"));
        plot::throughput(&figures, &at("-throughput.svg"))?;
        plot::memory(&figures, &at("-memory.svg"))?;
        plot::latency(&self.runs, &self.brokers, &at("-latency.svg"))?;
        fs::write(at(".md"), &table)?;
        let floor = figures.floor.map(|floor| floor.record().results).unwrap_or_default();
        let (failures, failed) = (self.failures.clone(), self.failures.len());
        let report = Report {
            date: date.clone(),
            machine,
            plan: self.plan,
            brokers,
            floor,
            medians,
            failures,
            runs: self.runs,
        };
        fs::write(at(".json"), serde_json::to_string(&report)? + "\n")?;
        say(&table);
        say(&format!("the report is in {}", at(".json").display()));
        ensure!(failed == 0, "{failed} runs failed; the report has the others");
        Ok(())
    }

    fn medians(&self) -> BTreeMap<String, BTreeMap<&'static str, Medians>> {
        let mut all: BTreeMap<String, BTreeMap<&'static str, Vec<&Record>>> = BTreeMap::new();
        for run in &self.runs {
            let broker = run.record.broker.unwrap_or(Kind::Signet).name();
            all.entry(run.case.clone()).or_default().entry(broker).or_default().push(&run.record);
        }
        let of = |records: &Vec<&Record>| {
            let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
            for (name, value) in records.iter().flat_map(|record| &record.results) {
                values.entry(name).or_default().push(*value);
            }
            let results = values.into_iter().filter_map(|(name, values)| Some((name, median(&values)?)));
            Medians { rounds: records.len(), results: results.collect() }
        };
        all.iter()
            .map(|(case, brokers)| {
                (case.clone(), brokers.iter().map(|(broker, records)| (*broker, of(records))).collect())
            })
            .collect()
    }
}

/// The round whose handshake was the middle one.
fn median_floor(floors: &[Floor]) -> Option<Floor> {
    let mut sorted = floors.to_vec();
    sorted.sort_by(|one, other| one.handshake_us().total_cmp(&other.handshake_us()));
    sorted.get(sorted.len() / 2).copied()
}
