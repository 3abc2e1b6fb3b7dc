//! Signet beside its peers: the same load on each in turn, several times.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use clap::Args;

use crate::broker::{Kind, Programs, Running};
use crate::cli::{Measure, Tls};
use crate::flow::Qos;
use crate::pki::Pki;
use crate::report::{self, Record, figure, median, say};
use crate::{floor, flow, handshake, idle};

#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    /// How often each scenario is run on each broker; medians are taken over the rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Connects per run.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connects: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    idle: u32,
    /// Messages of each of ten publishers, 1:1.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
    /// Bytes of payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    payload: u32,
    /// Subscribers of the fan-out.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    fan_out: u32,
    /// Messages of the fan-out.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    fan_out_messages: u32,
    /// Leave Mosquitto out although it is there.
    #[arg(long)]
    only_signet: bool,
    /// Leave Signet out.
    #[arg(long, conflicts_with = "only_signet")]
    only_mosquitto: bool,
}

/// One line of the table.
struct Line {
    title: String,
    unit: &'static str,
    /// The name in [`Record::results`].
    result: &'static str,
    load: Load,
    /// Whether the cryptographic floor belongs beside it.
    floor: bool,
}

enum Load {
    Handshake(handshake::Load),
    Idle(idle::Load),
    Flow(flow::Load),
}

impl Measure for Load {
    fn devices(&self) -> usize {
        match self {
            Self::Handshake(load) => load.devices(),
            Self::Idle(load) => load.devices(),
            Self::Flow(load) => load.devices(),
        }
    }

    fn connections(&self) -> usize {
        match self {
            Self::Handshake(load) => load.connections(),
            Self::Idle(load) => load.connections(),
            Self::Flow(load) => load.connections(),
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        match self {
            Self::Handshake(load) => load.measure(broker, pki).await,
            Self::Idle(load) => load.measure(broker, pki).await,
            Self::Flow(load) => load.measure(broker, pki).await,
        }
    }
}

impl Plan {
    fn lines(&self) -> Vec<Line> {
        let handshake = |title: &str, returning| Line {
            title: title.to_owned(),
            unit: "us CPU",
            result: "cpu_per_connect_us",
            load: Load::Handshake(handshake::Load { connects: self.connects, concurrency: 8, returning }),
            floor: true,
        };
        let flow = |title: String, result, qos, publishers, fan_out, messages| Line {
            title,
            unit: "us CPU",
            result,
            load: Load::Flow(flow::Load {
                qos,
                publishers,
                fan_out,
                messages,
                payload: self.payload,
                window: 20,
            }),
            floor: false,
        };
        let pairs = |qos, name: &str| {
            let title = format!("1:1 QoS {name}, per message");
            flow(title, "cpu_per_message_us", qos, 10, 1, self.messages)
        };
        let fan_out = format!("fan-out 1 to {}, per delivery", self.fan_out);
        vec![
            handshake("full connect, device never seen", false),
            handshake("full connect, returning device", true),
            Line {
                title: format!("idle connection, of {}", self.idle),
                unit: "KiB RSS",
                result: "rss_per_connection_kib",
                load: Load::Idle(idle::Load { connections: self.idle }),
                floor: false,
            },
            pairs(Qos::Zero, "0"),
            pairs(Qos::One, "1"),
            pairs(Qos::Two, "2"),
            flow(fan_out, "cpu_per_delivery_us", Qos::Zero, 1, self.fan_out, self.fan_out_messages),
        ]
    }

    fn brokers(&self, programs: &Programs) -> Vec<Kind> {
        match (self.only_signet, self.only_mosquitto) {
            (true, _) => vec![Kind::Signet],
            (_, true) => vec![Kind::Mosquitto],
            _ if programs.find_mosquitto().is_none() => {
                say("mosquitto is not installed (apt-get install mosquitto): Signet is measured alone");
                vec![Kind::Signet]
            }
            _ => vec![Kind::Signet, Kind::Mosquitto],
        }
    }
}

/// Runs every line on every broker, round by round, so that what else the machine does meets them alike.
pub(crate) async fn run(programs: &Programs, plan: &Plan) -> Result<()> {
    let brokers = plan.brokers(programs);
    let programs = programs.found(&brokers).await?;
    let lines = plan.lines();
    let devices = lines.iter().map(|line| line.load.devices()).max().unwrap_or_default();
    let all = Pki::new(devices, Tls::V13)?;
    let mut results: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let mut floors = Vec::new();
    for round in 0..plan.rounds as usize {
        let floor = floor::measure()?;
        report::line(&floor.record())?;
        floors.push(floor.handshake_us());
        for (number, line) in lines.iter().enumerate() {
            for turn in 0..brokers.len() {
                // Who is first changes from round to round.
                let place = (turn + round) % brokers.len();
                let Some(kind) = brokers.get(place) else { continue };
                say(&format!("round {} of {}: {}: {}", round + 1, plan.rounds, kind.name(), line.title));
                let broker = Running::start(*kind, &programs, &all, line.load.connections()).await?;
                let record = line.load.measure(&broker, &all).await?;
                broker.stop().await?;
                report::line(&record)?;
                results.entry((number, place)).or_default().extend(record.results.get(line.result));
            }
        }
    }
    say(&table(&lines, &brokers, &results, median(&floors)));
    Ok(())
}

/// A Markdown table of medians, with each peer's figure as a multiple of Signet's.
fn table(
    lines: &[Line],
    brokers: &[Kind],
    results: &BTreeMap<(usize, usize), Vec<f64>>,
    floor: Option<f64>,
) -> String {
    let names: Vec<&str> = brokers.iter().map(|kind| kind.name()).collect();
    let mut text = format!("| median | unit | {} | ratio | floor |\n", names.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|---|", "---|".repeat(names.len()));
    for (number, line) in lines.iter().enumerate() {
        let medians: Vec<Option<f64>> =
            (0..brokers.len()).map(|place| median(results.get(&(number, place))?)).collect();
        let shown: Vec<String> = medians.iter().map(|value| value.map_or("-".to_owned(), figure)).collect();
        let ratio = match medians[..] {
            [Some(signet), Some(peer)] if signet > 0.0 => format!("{} x", figure(peer / signet)),
            _ => "-".to_owned(),
        };
        let floor = floor.filter(|_| line.floor).map_or("-".to_owned(), figure);
        let _ =
            writeln!(text, "| {} | {} | {} | {ratio} | {floor} |", line.title, line.unit, shown.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_and_the_ratio_of_the_peer_to_signet() {
        let lines = [Line {
            title: "idle".to_owned(),
            unit: "KiB RSS",
            result: "rss_per_connection_kib",
            load: Load::Idle(idle::Load { connections: 1 }),
            floor: false,
        }];
        let results = BTreeMap::from([((0, 0), vec![10.0, 12.0, 11.0]), ((0, 1), vec![22.0])]);
        let text = table(&lines, &[Kind::Signet, Kind::Mosquitto], &results, Some(200.0));
        assert_eq!(
            text,
            "| median | unit | signet | mosquitto | ratio | floor |\n|---|---|---|---|---|---|\n\
             | idle | KiB RSS | 11.0 | 22.0 | 2.00 x | - |\n"
        );
    }
}
