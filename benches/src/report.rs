//! Results: a JSON line per run on standard output, and a table for people on standard error.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::broker::{Kind, Running};
use crate::latency::Latencies;
use crate::pki::Pki;

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// What was done.
    pub(crate) scenario: &'static str,
    /// To whom; absent for the floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker: Option<Kind>,
    /// The TLS version; absent for the floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<&'static str>,
    /// The load's parameters.
    pub(crate) load: Value,
    /// What came out; the unit is the end of the name.
    pub(crate) results: Results,
    /// Latencies by name: percentile and milliseconds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) distributions: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

/// Figures by name.
pub(crate) type Results = BTreeMap<&'static str, f64>;

impl Record {
    /// A run on a broker.
    pub(crate) fn on(
        broker: &Running,
        pki: &Pki,
        scenario: &'static str,
        load: &impl Serialize,
        results: Results,
    ) -> Result<Self> {
        let load = serde_json::to_value(load)?;
        Ok(Self {
            scenario,
            broker: Some(broker.kind),
            tls: Some(pki.tls.name()),
            load,
            results,
            distributions: BTreeMap::new(),
        })
    }

    /// Something that was measured in this process, without a broker.
    pub(crate) fn alone(scenario: &'static str, load: &impl Serialize, results: Results) -> Result<Self> {
        let load = serde_json::to_value(load)?;
        Ok(Self { scenario, broker: None, tls: None, load, results, distributions: BTreeMap::new() })
    }

    /// The same with a distribution of latencies.
    pub(crate) fn with(mut self, name: &'static str, latencies: &Latencies) -> Self {
        self.distributions.insert(name, latencies.distribution());
        self
    }
}

/// Writes a record as one line of JSON.
pub(crate) fn line(record: &Record) -> Result<()> {
    json(record)
}

/// Writes anything as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Shows a record to people.
pub(crate) fn summary(record: &Record) {
    for (name, value) in &record.results {
        say(&format!("{:>40}  {}", name.replace('_', " "), figure(*value)));
    }
}

/// A line for people. That nobody may be there to read it is no error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Three significant digits, or all digits before the point.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The median: the mean of the two middle values of an even number. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn figures_have_no_more_digits_than_they_are_worth() {
        assert_eq!([1.234, 12.34, 1234.5].map(figure), ["1.23", "12.3", "1234"]);
    }
}
