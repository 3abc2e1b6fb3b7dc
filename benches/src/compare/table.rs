//! The report that people read.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::cases::Case;
use super::machine::Machine;
use super::{Medians, Plan};
use crate::broker::Kind;
use crate::floor::Floor;
use crate::report::figure;

/// What table and plots are made of.
pub(super) struct Figures<'a> {
    pub(super) cases: &'a [Case],
    pub(super) brokers: &'a [Kind],
    pub(super) medians: &'a BTreeMap<String, BTreeMap<&'static str, Medians>>,
    pub(super) floor: Option<Floor>,
}

impl Figures<'_> {
    /// The median of a figure, if it was measured.
    pub(super) fn median(&self, case: &str, broker: Kind, result: &str) -> Option<f64> {
        self.medians
            .get(case)?
            .get(broker.name())?
            .results
            .get(result)
            .copied()
            .filter(|value| value.is_finite())
    }
}

/// A page of Markdown.
pub(super) fn markdown(
    figures: &Figures<'_>,
    date: &str,
    machine: &Machine,
    versions: &BTreeMap<&'static str, String>,
    plan: &Plan,
    failures: &[String],
) -> String {
    let mut text = format!("# {date}\n\nMade by `signet-bench compare`; METHOD.md says how to read it. ");
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name}: {version}")).collect();
    let _ = writeln!(
        text,
        "{}, {} processors, {} MiB, {}, Linux {}. {}. Medians of at most {} rounds.\n",
        machine.processor,
        machine.processors,
        machine.memory_mib,
        machine.system,
        machine.kernel,
        versions.join("; "),
        plan.rounds
    );
    text.push_str(&table(figures));
    if !failures.is_empty() {
        text.push_str("\nRuns that failed:\n\n");
        for failure in failures {
            let _ = writeln!(text, "- {}", failure.replace('\n', " "));
        }
    }
    let _ = write!(
        text,
        "\n![Work per second of CPU time]({date}-throughput.svg)\n\n![Memory of idle connections]({date}-memory.svg)\n\n\
         ![Latency]({date}-latency.svg)\n"
    );
    text
}

/// Medians, each peer's figure as a multiple of Signet's, and Signet's as a multiple of the floor.
fn table(figures: &Figures<'_>) -> String {
    let peers: Vec<Kind> = figures.brokers.iter().copied().filter(|kind| *kind != Kind::Signet).collect();
    let mut head = vec!["median".to_owned(), "unit".to_owned()];
    head.extend(figures.brokers.iter().map(|kind| kind.name().to_owned()));
    head.extend(peers.iter().map(|kind| format!("{} / signet", kind.name())));
    head.extend(["floor".to_owned(), "signet / floor".to_owned()]);
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), figure);
    let ratio = |over: Option<f64>, under: Option<f64>| match (over, under) {
        (Some(over), Some(under)) if under > 0.0 => format!("{} x", figure(over / under)),
        _ => "-".to_owned(),
    };
    for case in figures.cases {
        for row in &case.rows {
            let of = |kind: Kind| figures.median(&case.id, kind, row.result);
            let floor =
                row.floor.zip(figures.floor).map(|(of, floor)| of(&floor)).filter(|floor| *floor > 0.0);
            let mut cells = vec![row.title.clone(), row.unit.to_owned()];
            cells.extend(figures.brokers.iter().map(|kind| shown(of(*kind))));
            cells.extend(peers.iter().map(|kind| ratio(of(*kind), of(Kind::Signet))));
            cells.extend([shown(floor), ratio(of(Kind::Signet), floor)]);
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Tls;
    use crate::compare::cases::{Load, Row};
    use crate::idle;

    #[test]
    fn the_table_has_medians_and_the_ratio_of_the_peer_to_signet() {
        let row =
            Row { title: "idle".to_owned(), unit: "KiB RSS", result: "rss_per_connection_kib", floor: None };
        let cases = [Case {
            id: "idle".to_owned(),
            load: Load::Idle(idle::Load { connections: 1 }),
            tls: Tls::V13,
            peers: true,
            rounds_max: 1,
            rows: vec![row],
        }];
        let of = |value| Medians { rounds: 1, results: [("rss_per_connection_kib", value)].into() };
        let medians = [("idle".to_owned(), [("signet", of(11.0)), ("mosquitto", of(22.0))].into())].into();
        let brokers = [Kind::Signet, Kind::Mosquitto];
        let figures = Figures { cases: &cases, brokers: &brokers, medians: &medians, floor: None };
        assert_eq!(
            table(&figures),
            "| median | unit | signet | mosquitto | mosquitto / signet | floor | signet / floor |\n\
             |---|---|---|---|---|---|---|\n\
             | idle | KiB RSS | 11.0 | 22.0 | 2.00 x | - | - |\n"
        );
    }
}
