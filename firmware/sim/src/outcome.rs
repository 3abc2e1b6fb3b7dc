//! How it went, for people and for programs.

use std::fmt::{self, Write as _};
use std::ops::AddAssign;

use serde::Serialize;

/// The verdict and its grounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Whether every device is online under its own name, none twice, none lost.
    pub ok: bool,
    /// What is wrong, one line each; at most a few dozen.
    pub problems: Vec<String>,
    /// Devices in the fleet.
    pub devices: usize,
    /// Devices that are online under their own name and whose message the broker has acknowledged since the faults ended.
    pub online: usize,
    /// Devices without their own name, or that cannot be reached.
    pub lost: usize,
    /// Names or certificates that two devices have.
    pub twice: usize,
    /// Devices that have another certificate than before the rotation that was asked for.
    pub rotated: Option<usize>,
    /// Devices that run the firmware that the operator gave them.
    pub updated: Option<usize>,
    /// The seed of keys and faults: with it, a run on virtual time is the same again.
    pub seed: u64,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// Seconds from a device's start until it was online as itself: median, 99th percentile, worst.
    pub enrolled_after: [f64; 3],
    /// Devices enrolled per second while they came.
    pub enrolled_per_second: f64,
    /// What happened.
    pub happened: Happened,
}

/// What happened to one sensor, or in the whole fleet.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Happened {
    /// Starts.
    pub boots: u64,
    /// Connections that the broker accepted.
    pub connections: u64,
    /// Messages of enrolled devices that it acknowledged.
    pub messages: u64,
    /// Rotations that were completed.
    pub rotations: u64,
    /// Candidates that were given up.
    pub fallbacks: u64,
    /// Power cuts in the middle of a write or an erase of the flash.
    pub power_cuts: u64,
    /// Resets.
    pub resets: u64,
    /// Connections that broke.
    pub breaks: u64,
    /// Parts that were lost on the way and sent again.
    pub losses: u64,
    /// Connections that were slow.
    pub slow: u64,
    /// Answers of the time server that were years off.
    pub wrong_clocks: u64,
    /// Devices that came with a claim which the broker did not take.
    pub bad_claims: u64,
    /// Connections that the broker refused.
    pub refused: u64,
    /// Requests that it rejected.
    pub rejected: u64,
    /// Updates that reached the broker and stayed.
    pub updates: u64,
    /// Updates that were taken back.
    pub reverts: u64,
    /// Images that devices refused.
    pub images_refused: u64,
    /// Alarms of devices.
    pub alarms: u64,
    /// Restarts of the broker.
    pub broker_restarts: u64,
    /// Devices whose certificate was revoked, and that came back after an operator had agreed.
    pub revoked: u64,
    /// Certificates that lapsed while their device was off.
    pub lapsed: u64,
}

impl AddAssign<&Self> for Happened {
    fn add_assign(&mut self, other: &Self) {
        // All of them by name, so that none can be forgotten.
        let Self {
            boots,
            connections,
            messages,
            rotations,
            fallbacks,
            power_cuts,
            resets,
            breaks,
            losses,
            slow,
            wrong_clocks,
            bad_claims,
            refused,
            rejected,
            updates,
            reverts,
            images_refused,
            alarms,
            broker_restarts,
            revoked,
            lapsed,
        } = other;
        self.boots += boots;
        self.connections += connections;
        self.messages += messages;
        self.rotations += rotations;
        self.fallbacks += fallbacks;
        self.power_cuts += power_cuts;
        self.resets += resets;
        self.breaks += breaks;
        self.losses += losses;
        self.slow += slow;
        self.wrong_clocks += wrong_clocks;
        self.bad_claims += bad_claims;
        self.refused += refused;
        self.rejected += rejected;
        self.updates += updates;
        self.reverts += reverts;
        self.images_refused += images_refused;
        self.alarms += alarms;
        self.broker_restarts += broker_restarts;
        self.revoked += revoked;
        self.lapsed += lapsed;
    }
}

impl Outcome {
    /// Adds a problem; beyond a few dozen only the count goes on.
    pub(crate) fn problem(&mut self, problem: String) {
        if self.problems.len() < 40 {
            self.problems.push(problem);
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = &self.happened;
        let [median, p99, worst] = self.enrolled_after;
        let mut text = String::new();
        writeln!(text, "{} devices, {:.1} s, seed {}", self.devices, self.seconds, self.seed)?;
        // Virtual time says nothing about how long an enrolment takes.
        if worst > 0.0 {
            writeln!(
                text,
                "  enrolled after {median:.1} s (median), {p99:.1} s (99 %), {worst:.1} s (last); {:.0} a second",
                self.enrolled_per_second
            )?;
        }
        writeln!(
            text,
            "  {} boots, {} connections, {} messages, {} rotations, {} fall-backs",
            h.boots, h.connections, h.messages, h.rotations, h.fallbacks
        )?;
        writeln!(
            text,
            "  faults: {} power cuts during writes, {} resets, {} broken and {} slow connections, {} lost segments, {} wrong clocks, {} bad \
             claims, {} restarts of the broker, {} revoked, {} lapsed",
            h.power_cuts,
            h.resets,
            h.breaks,
            h.slow,
            h.losses,
            h.wrong_clocks,
            h.bad_claims,
            h.broker_restarts,
            h.revoked,
            h.lapsed
        )?;
        writeln!(
            text,
            "  the broker refused {} connections and rejected {} requests; {} alarms",
            h.refused, h.rejected, h.alarms
        )?;
        if h.updates + h.reverts + h.images_refused > 0 {
            writeln!(
                text,
                "  {} updates confirmed, {} taken back, {} images refused",
                h.updates, h.reverts, h.images_refused
            )?;
        }
        for problem in &self.problems {
            writeln!(text, "  problem: {problem}")?;
        }
        let rotated = self.rotated.map_or_else(String::new, |n| format!(", {n} rotated"));
        let updated = self.updated.map_or_else(String::new, |n| format!(", {n} updated"));
        let verdict = if self.ok { "PASSED" } else { "FAILED" };
        writeln!(
            text,
            "{verdict}: {} of {} online under their own name{rotated}{updated}, {} twice, {} lost",
            self.online, self.devices, self.twice, self.lost
        )?;
        f.write_str(&text)
    }
}
