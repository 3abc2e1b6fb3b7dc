//! Plots of a comparison, as SVG.

use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange as _;
use plotters::prelude::*;

use super::Run;
use super::table::Figures;
use crate::broker::Kind;

const WIDTH: u32 = 1000;
/// Room for the names of rows, and for axis and legend.
const NAMES: u32 = 430;
const HEAD: u32 = 60;
const FOOT: u32 = 45;
/// Of one row.
const ROW: u32 = 30;
const TEXT: (&str, u32) = ("sans-serif", 13);
const TITLE: (&str, u32) = ("sans-serif", 18);
/// Percentiles at the labels of the axis; the last one stands for all that is above.
const TICKS: [f64; 5] = [0.0, 90.0, 99.0, 99.9, 100.0];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Signet => RGBColor(31, 119, 180),
        Kind::Mosquitto => RGBColor(230, 125, 30),
        Kind::Rumqttd => RGBColor(100, 100, 100),
    }
}

/// A row of a bar chart: its name, and the value of each broker.
type Bars = (String, Vec<(Kind, f64)>);

/// Units of work per second of the broker's CPU time: what one core can do.
pub(super) fn throughput(figures: &Figures<'_>, path: &Path) -> Result<()> {
    let rows = figures.cases.iter().flat_map(|case| case.rows.iter().map(move |row| (case, row)));
    let bars = rows.filter(|(_, row)| row.unit == "us CPU").map(|(case, row)| {
        let value = |kind: Kind| {
            // A run that is too short for the kernel's clock gives 0.
            let us = figures.median(&case.id, kind, row.result).filter(|us| *us > 0.0)?;
            Some((kind, 1e6 / us))
        };
        (row.title.clone(), figures.brokers.iter().filter_map(|kind| value(*kind)).collect())
    });
    horizontal(
        "Work per second of the broker's CPU time (logarithmic)",
        "per second",
        bars.collect(),
        true,
        path,
    )
}

/// Resident memory of an idle connection.
pub(super) fn memory(figures: &Figures<'_>, path: &Path) -> Result<()> {
    let rows = figures.cases.iter().flat_map(|case| case.rows.iter().map(move |row| (case, row)));
    let bars = rows.filter(|(_, row)| row.unit.starts_with("KiB")).map(|(case, row)| {
        let value = |kind: Kind| Some((kind, figures.median(&case.id, kind, row.result)?));
        let values = figures.brokers.iter().filter_map(|kind| value(*kind)).collect();
        (format!("{} ({})", row.title, row.unit), values)
    });
    horizontal("Memory of an idle connection", "KiB", bars.collect(), false, path)
}

fn horizontal(title: &str, unit: &str, mut bars: Vec<Bars>, logarithmic: bool, path: &Path) -> Result<()> {
    bars.retain(|(_, values)| !values.is_empty());
    if bars.is_empty() {
        return Ok(());
    }
    let rows = u32::try_from(bars.len())?;
    let root = SVGBackend::new(path, (WIDTH, HEAD + rows * ROW + FOOT)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (10, 10), TITLE))?;
    legend(&root, bars.iter().flat_map(|(_, values)| values.iter().map(|(kind, _)| *kind)))?;
    let all = bars.iter().flat_map(|(_, values)| values.iter().map(|(_, value)| *value));
    let most = all.clone().fold(f64::MIN_POSITIVE, f64::max) * 1.3;
    let least = if logarithmic { all.fold(f64::MAX, f64::min) / 2.0 } else { 0.0 };
    // Both axes are positions; only the labels know of logarithms.
    let place = |value: f64| if logarithmic { value.log10() } else { value };
    let mut chart = ChartBuilder::on(&root)
        .margin_top(HEAD)
        .margin_left(NAMES)
        .margin_right(20)
        .x_label_area_size(FOOT)
        .build_cartesian_2d(place(least)..place(most), f64::from(rows)..0.0)?;
    let label = |value: &f64| short(if logarithmic { 10_f64.powf(*value) } else { *value });
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_labels(8)
        .x_label_formatter(&label)
        .x_desc(unit)
        .label_style(TEXT)
        .draw()?;
    for (row, (name, values)) in (0_u32..).zip(&bars) {
        let thick = 0.8 / values.len() as f64;
        for (nth, (kind, value)) in values.iter().enumerate() {
            let top = f64::from(row) + 0.1 + thick * nth as f64;
            let corners = [(place(least), top), (place(*value), top + thick)];
            chart.draw_series([Rectangle::new(corners, colour(*kind).filled())])?;
            let (x, y) = chart.backend_coord(&(place(*value), top));
            let small = ("sans-serif", if values.len() > 2 { 9 } else { 11 });
            root.draw(&Text::new(short(*value), (x + 4, y), small))?;
        }
        let (_, y) = chart.backend_coord(&(place(least), f64::from(row) + 0.3));
        root.draw(&Text::new(name.clone(), (10, y), TEXT))?;
    }
    Ok(root.present()?)
}

fn legend(root: &Area<'_>, kinds: impl Iterator<Item = Kind>) -> Result<()> {
    let mut seen: Vec<Kind> = Vec::new();
    for kind in kinds {
        if !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    for (nth, kind) in (0_i32..).zip(seen) {
        let x = 10 + nth * 110;
        root.draw(&Rectangle::new([(x, 36), (x + 14, 50)], colour(kind).filled()))?;
        root.draw(&Text::new(kind.name(), (x + 20, 37), TEXT))?;
    }
    Ok(())
}

/// Three digits and a unit of thousands.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.3} M", value / 1e6).replace(".000", ""),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

/// A distribution of latencies: percentiles and milliseconds.
struct Curve {
    kind: Kind,
    name: String,
    points: Vec<(f64, f64)>,
}

/// The latencies of each scenario and broker, of the last round: how many messages were faster than what.
pub(super) fn latency(runs: &[Run], brokers: &[Kind], path: &Path) -> Result<()> {
    let mut curves: Vec<Curve> = Vec::new();
    for run in runs.iter().rev() {
        for (name, points) in &run.record.distributions {
            let name = format!("{}: {name}", run.case);
            let kind = run.record.broker.unwrap_or(Kind::Signet);
            let known = curves.iter().any(|curve| curve.kind == kind && curve.name == name);
            let points: Vec<_> = points.iter().copied().filter(|(_, ms)| ms.is_finite()).collect();
            if !known && points.len() > 1 {
                curves.push(Curve { kind, name, points });
            }
        }
    }
    curves.sort_by(|one, other| one.name.cmp(&other.name));
    let mut names: Vec<String> = curves.iter().map(|curve| curve.name.clone()).collect();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let (columns, height) = (2, 280);
    let lines = names.len().div_ceil(columns);
    let size = (WIDTH, HEAD + u32::try_from(lines)? * height);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new("Latency by percentile (milliseconds, logarithmic)", (10, 10), TITLE))?;
    legend(&root, brokers.iter().copied())?;
    let (_, charts) = root.split_vertically(HEAD);
    for (area, name) in charts.split_evenly((lines, columns)).iter().zip(&names) {
        let of_this: Vec<&Curve> = curves.iter().filter(|curve| curve.name == *name).collect();
        one_latency(area, name, &of_this)?;
    }
    Ok(root.present()?)
}

fn one_latency(area: &Area<'_>, name: &str, curves: &[&Curve]) -> Result<()> {
    let all = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, ms)| ms.max(1e-3)));
    let (least, most) = all.fold((f64::MAX, f64::MIN), |(least, most), ms| (least.min(ms), most.max(ms)));
    let last = TICKS.len() - 1;
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 14))
        .margin(10)
        .x_label_area_size(25)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..last as f64, (least * 0.8..most * 1.2).log_scale())?;
    let tick = |place: &f64| {
        let label = TICKS.iter().enumerate().find(|(nth, _)| (*nth as f64 - place).abs() < 0.01);
        label.map_or(String::new(), |(_, percentile)| format!("{percentile}"))
    };
    chart
        .configure_mesh()
        .x_labels(TICKS.len())
        .x_label_formatter(&tick)
        .y_label_formatter(&|ms| short_ms(*ms))
        .label_style(TEXT)
        .draw()?;
    for curve in curves {
        let points = curve.points.iter().map(|(percentile, ms)| (nines(*percentile), ms.max(1e-3)));
        chart.draw_series(LineSeries::new(points, colour(curve.kind).stroke_width(2)))?;
    }
    Ok(())
}

fn short_ms(ms: f64) -> String {
    if ms >= 10.0 {
        format!("{ms:.0}")
    } else if ms >= 0.1 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.3}")
    }
}

/// How many nines a percentile has: 0, 90, 99, 99.9 are 0, 1, 2, 3, and 100 is 4.
fn nines(percentile: f64) -> f64 {
    let last = (TICKS.len() - 1) as f64;
    (-(1.0 - percentile / 100.0).log10()).clamp(0.0, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// plotters looks for the labels of an axis that is infinite for ever.
    #[test]
    fn a_chart_is_drawn_with_every_value_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chart.svg");
        let row = |name: &str, signet, peer| {
            (name.to_owned(), vec![(Kind::Signet, signet), (Kind::Mosquitto, peer)])
        };
        let bars = vec![row("connect", 2400.0, 700.0), row("message", 300_000.0, 110_000.0)];
        for logarithmic in [false, true] {
            horizontal("A title", "per second", bars.clone(), logarithmic, &path).unwrap();
            let drawn = std::fs::read_to_string(&path).unwrap();
            for text in ["A title", "connect", "message", "2.4 k", "110 k", "mosquitto"] {
                assert!(drawn.contains(text), "{text} is missing");
            }
        }
    }

    #[test]
    fn each_nine_is_one_step_of_the_axis() {
        assert!((nines(0.0)).abs() < 1e-9);
        assert!((nines(90.0) - 1.0).abs() < 1e-9);
        assert!((nines(99.9) - 3.0).abs() < 1e-6);
        assert!((nines(100.0) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_shortened_with_their_unit() {
        assert_eq!(
            [1_250_000.0, 25_000.0, 3_400.0, 250.0, 7.25].map(short),
            ["1.250 M", "25 k", "3.4 k", "250", "7.2"]
        );
    }
}
