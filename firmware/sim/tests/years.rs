//! Virtual time: the verdict, and that it can fail.

use indicatif::ProgressBar;
use signet_sim::faults::Level;
use signet_sim::years::{Years, run};

fn years(years: u32, devices: usize, level: Level) -> signet_sim::outcome::Outcome {
    seeded(years, devices, level, 3)
}

fn seeded(years: u32, devices: usize, level: Level, seed: u64) -> signet_sim::outcome::Outcome {
    let plan = Years { years, devices, validity_days: 90, level, seed };
    run(&plan, &ProgressBar::hidden()).expect("the model of the broker is made")
}

#[test]
fn a_year_without_faults_is_five_or_six_rotations_and_no_alarm() {
    let outcome = years(1, 6, Level::None);
    assert!(outcome.ok, "{outcome}");
    // About every 59 days; the last devices come a month after the first.
    assert!((30..=36).contains(&outcome.happened.rotations), "{outcome}");
    assert_eq!((outcome.happened.alarms, outcome.happened.boots), (0, 6), "{outcome}");
    assert_eq!((outcome.happened.refused, outcome.happened.rejected), (0, 0), "{outcome}");
}

#[test]
fn a_year_of_faults_loses_nobody() {
    let outcome = years(1, 12, Level::Many);
    assert!(outcome.ok, "{outcome}");
    let happened = &outcome.happened;
    assert!(happened.power_cuts >= 10, "{outcome}");
    assert!(happened.broker_restarts >= 5 && happened.wrong_clocks >= 5, "{outcome}");
    assert!(happened.rotations >= 40, "{outcome}");
}

#[test]
fn three_years_of_some_faults_heal_what_lapsed_and_what_was_revoked() {
    let outcome = years(3, 10, Level::Some);
    assert!(outcome.ok, "{outcome}");
    assert!(outcome.happened.lapsed > 0 && outcome.happened.revoked > 0, "{outcome}");
}

/// With this seed an operator revokes a device that has not come back since it was revoked before.
#[test]
fn three_years_of_many_faults_lose_nobody() {
    let outcome = seeded(3, 12, Level::Many, 11);
    assert!(outcome.ok, "{outcome}");
    assert!(outcome.happened.power_cuts >= 60 && outcome.happened.revoked > 0, "{outcome}");
}
