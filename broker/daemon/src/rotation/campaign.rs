//! One commanded rotation: which devices are told to renew their certificates, when, and how far each has come.
//!
//! Nothing here touches a clock, a disk or a connection. A device's progress is what the registry says of the certificate that
//! it is to replace, so it is found again after a restart.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signet_identity::{CertificateId, ThingName};
use signet_registry::{Line, Registry, RevocationReason, Standing, Status, Wall};

/// How often a device that hears the command and does nothing is told again.
pub(crate) const ASKED_MAX: u32 = 3;
/// After a device has come back it is given this long to subscribe before it is told.
const SETTLES_IN: Duration = Duration::from_secs(1);
/// How long it is until a device is looked for again after that, as long as it does not hear, and how often.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_secs(5);
const LOOKS_MAX: u32 = 6;

/// How a rotation is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Plan {
    /// What tells it from others; the devices are told it too.
    pub(crate) id: String,
    /// When it was commanded.
    pub(crate) created: Wall,
    /// Who commanded it.
    pub(crate) by: Line,
    /// Over how long the commands are spread.
    pub(crate) spread: Duration,
    /// When those that are not through have failed.
    pub(crate) deadline: Wall,
    /// How long a device has to begin before it is told again.
    pub(crate) ask_again: Duration,
    /// The template that the devices are told to ask for.
    pub(crate) template: Option<String>,
}

/// How far a device has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub(crate) enum State {
    /// Its turn has not come.
    Waiting,
    /// Its turn has come, and it does not hear.
    Offline,
    /// It was told.
    Asked {
        /// When it was told last.
        at: Wall,
    },
    /// It has a new certificate that has not connected yet.
    Rotating {
        /// The new certificate.
        new: CertificateId,
    },
    /// It has connected with the new certificate.
    Done {
        /// The new certificate, when the registry knows it.
        new: Option<CertificateId>,
    },
    /// It will not be told again.
    Failed {
        /// Why.
        why: Line,
    },
}

impl State {
    /// Its word, out of a closed set.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offline => "offline",
            Self::Asked { .. } => "asked",
            Self::Rotating { .. } => "rotating",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
        }
    }

    const fn is_final(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

/// A device of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Member {
    /// The certificate that it is to replace.
    pub(crate) old: CertificateId,
    /// Whether it is one of the first.
    pub(crate) canary: bool,
    /// When its turn comes, after its phase has begun.
    pub(crate) after: Duration,
    /// How far it has come.
    pub(crate) state: State,
    /// How often it was told.
    pub(crate) asked: u32,
    /// How often it was looked for since it came back.
    #[serde(skip)]
    looked: u32,
    /// When it is looked at next, when that is planned.
    #[serde(skip)]
    next: Option<Wall>,
}

/// Where a rotation stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase", deny_unknown_fields)]
pub(crate) enum Phase {
    /// The first devices go.
    Canary {
        /// Since when.
        since: Wall,
    },
    /// All devices go.
    All {
        /// Since when.
        since: Wall,
    },
    /// One of the first devices has failed, and nobody else is told until an operator decides.
    Held {
        /// What happened.
        why: Line,
    },
    /// An operator has ended it.
    Cancelled,
    /// Every device is through or has failed.
    Finished,
}

impl Phase {
    /// Its word, out of a closed set.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Canary { .. } => "canary",
            Self::All { .. } => "all",
            Self::Held { .. } => "held",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        }
    }
}

/// What came of telling a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It hears, and the command is on its way.
    Heard,
    /// It does not hear now.
    Unheard,
    /// The access policy keeps the command from it.
    Refused,
}

/// A commanded rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Campaign {
    pub(crate) plan: Plan,
    pub(crate) phase: Phase,
    pub(crate) members: BTreeMap<ThingName, Member>,
    /// Whom to look at, and when.
    #[serde(skip)]
    agenda: BTreeSet<(Wall, ThingName)>,
    /// Those of the first that are not through.
    #[serde(skip)]
    canaries_left: usize,
    /// Those that are neither through nor failed.
    #[serde(skip)]
    left: usize,
}

impl Campaign {
    /// A rotation of `devices`, each with the certificate that it is to replace. The first `canaries` of `preferred` and then of
    /// the others go first, when that is not 0.
    pub(crate) fn new(
        plan: Plan,
        devices: &BTreeMap<ThingName, CertificateId>,
        canaries: usize,
        preferred: &BTreeSet<ThingName>,
    ) -> Self {
        // An order that has nothing to do with the names, which often follow places and models, and is another each time.
        let hasher = foldhash::quality::FixedState::with_seed(plan.created.0);
        let mut order: Vec<ThingName> = devices.keys().cloned().collect();
        order.sort_by_cached_key(|name| (!preferred.contains(name), hasher.hash_one(name.as_str())));
        let canaries = canaries.min(order.len());
        let rest = u32::try_from(order.len() - canaries).unwrap_or(u32::MAX).max(1);
        let mut members = BTreeMap::new();
        for (place, name) in order.into_iter().enumerate() {
            let Some(old) = devices.get(&name).copied() else { continue };
            let canary = place < canaries;
            let place = u32::try_from(place.saturating_sub(canaries)).unwrap_or(u32::MAX);
            let after =
                if canary { Duration::ZERO } else { plan.spread.mul_f64(f64::from(place) / f64::from(rest)) };
            let state = State::Waiting;
            members.insert(name, Member { old, canary, after, state, asked: 0, looked: 0, next: None });
        }
        let since = plan.created;
        let phase = if canaries > 0 { Phase::Canary { since } } else { Phase::All { since } };
        let mut campaign = Self { plan, phase, members, agenda: BTreeSet::new(), canaries_left: 0, left: 0 };
        campaign.count();
        campaign.schedule();
        campaign
    }

    /// Goes on after a restart: whoever was told and has not begun is told again.
    pub(crate) fn resume(&mut self) {
        for member in self.members.values_mut() {
            if matches!(member.state, State::Asked { .. } | State::Offline) {
                member.state = State::Waiting;
            }
        }
        self.count();
        self.schedule();
    }

    fn count(&mut self) {
        self.left = self.members.values().filter(|member| !member.state.is_final()).count();
        let through = |member: &Member| matches!(member.state, State::Done { .. });
        self.canaries_left = self.members.values().filter(|member| member.canary && !through(member)).count();
    }

    /// Whether it goes on by itself.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Canary { .. } | Phase::All { .. })
    }

    /// Whether it is over.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Cancelled | Phase::Finished)
    }

    /// When the turn of `member` comes or came, in the phase that goes on.
    pub(crate) fn turn(&self, member: &Member) -> Option<Wall> {
        match self.phase {
            Phase::Canary { since } if member.canary => Some(since.after(member.after)),
            Phase::All { since } => Some(if member.canary { since } else { since.after(member.after) }),
            _ => None,
        }
    }

    /// Plans the turns of those who wait in the phase that has begun.
    fn schedule(&mut self) {
        let turns: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.state == State::Waiting)
            .filter_map(|(name, member)| Some((name.clone(), self.turn(member)?)))
            .collect();
        for (name, at) in turns {
            self.plan_look(&name, Some(at));
        }
    }

    fn plan_look(&mut self, name: &ThingName, at: Option<Wall>) {
        let Some(member) = self.members.get_mut(name) else { return };
        if let Some(planned) = member.next.take() {
            self.agenda.remove(&(planned, name.clone()));
        }
        member.next = at;
        if let Some(at) = at {
            self.agenda.insert((at, name.clone()));
        }
    }

    /// Devices to tell now, at most `at_most`. Each is to be answered with [`Self::told`].
    pub(crate) fn due(&mut self, now: Wall, at_most: usize) -> Vec<ThingName> {
        let mut due = Vec::new();
        while self.is_running() && due.len() < at_most {
            let Some((at, name)) = self.agenda.first().cloned().filter(|(at, _)| *at <= now) else { break };
            self.agenda.remove(&(at, name.clone()));
            let Some(member) = self.members.get_mut(&name) else { continue };
            member.next = None;
            match member.state {
                State::Asked { .. } if member.asked >= ASKED_MAX => {
                    let why = format!("it was told {ASKED_MAX} times and did nothing");
                    self.set(&name, State::Failed { why: Line::new(&why) }, now);
                }
                State::Waiting | State::Offline | State::Asked { .. } => due.push(name),
                State::Rotating { .. } | State::Done { .. } | State::Failed { .. } => {}
            }
        }
        due
    }

    /// What came of telling `name`.
    pub(crate) fn told(&mut self, name: &ThingName, told: Told, now: Wall) {
        let ask_again = now.after(self.plan.ask_again);
        let Some(member) = self.members.get_mut(name) else { return };
        match told {
            Told::Heard => {
                member.asked += 1;
                member.looked = 0;
                member.state = State::Asked { at: now };
                self.plan_look(name, Some(ask_again));
            }
            Told::Unheard => {
                member.state = State::Offline;
                member.looked += 1;
                let again = (member.looked < LOOKS_MAX).then(|| now.after(LOOKS_AGAIN_AFTER));
                self.plan_look(name, again);
            }
            Told::Refused => {
                let why = "the access policy does not let it read the command";
                self.set(name, State::Failed { why: Line::new(why) }, now);
            }
        }
    }

    /// `name` has connected: if its turn was while it was away, it is looked for again.
    pub(crate) fn arrived(&mut self, name: &ThingName, now: Wall) {
        let Some(member) = self.members.get_mut(name) else { return };
        if member.state == State::Offline {
            member.looked = 0;
            self.plan_look(name, Some(now.after(SETTLES_IN)));
        }
    }

    /// Takes what the registry says of `name`.
    pub(crate) fn observe(&mut self, name: &ThingName, registry: &Registry, now: Wall) {
        let Some(member) = self.members.get(name) else { return };
        if member.state.is_final() || self.is_over() {
            return;
        }
        match (observed(registry, name, &member.old, now), &member.state) {
            (Some(state), before) if state != *before => self.set(name, state, now),
            // What it had begun came to nothing.
            (None, State::Rotating { .. }) => {
                self.set(name, State::Offline, now);
                self.plan_look(name, Some(now));
            }
            _ => {}
        }
    }

    fn set(&mut self, name: &ThingName, state: State, now: Wall) {
        let Some(member) = self.members.get_mut(name) else { return };
        let (canary, done) = (member.canary, matches!(state, State::Done { .. }));
        let failed = match &state {
            State::Failed { why } => Some(why.clone()),
            _ => None,
        };
        if state.is_final() && !member.state.is_final() {
            self.left -= 1;
            self.canaries_left -= usize::from(canary && done);
        }
        member.state = state;
        self.plan_look(name, None);
        match (failed, &self.phase) {
            (Some(why), Phase::Canary { .. }) if canary => {
                self.phase = Phase::Held { why: Line::new(&format!("{name}: {why}")) };
            }
            (None, Phase::Canary { .. }) if done && self.canaries_left == 0 => {
                self.go_on(now);
            }
            _ => {}
        }
        if self.left == 0 && !self.is_over() {
            self.phase = Phase::Finished;
        }
    }

    /// All devices go, whatever became of the first. False: it is not the time for that.
    pub(crate) fn go_on(&mut self, now: Wall) -> bool {
        if !matches!(self.phase, Phase::Canary { .. } | Phase::Held { .. }) {
            return false;
        }
        self.phase = if self.left == 0 { Phase::Finished } else { Phase::All { since: now } };
        self.schedule();
        true
    }

    /// Nobody is told any more. False: it is over already.
    pub(crate) fn cancel(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        self.phase = Phase::Cancelled;
        self.agenda.clear();
        true
    }

    /// Past the deadline those that are not through have failed.
    pub(crate) fn expire(&mut self, now: Wall) {
        if now < self.plan.deadline || self.is_over() {
            return;
        }
        for member in self.members.values_mut() {
            let why = match member.state {
                State::Waiting => "its turn had not come by the deadline",
                State::Offline => "it was not there by the deadline",
                State::Asked { .. } => "it had not begun by the deadline",
                State::Rotating { .. } => "it had not connected with its new certificate by the deadline",
                State::Done { .. } | State::Failed { .. } => continue,
            };
            member.state = State::Failed { why: Line::new(why) };
        }
        self.left = 0;
        self.phase = Phase::Finished;
        self.agenda.clear();
    }
}

/// How far a device has come with replacing the certificate `old`; `None` when it has not begun.
fn observed(registry: &Registry, name: &ThingName, old: &CertificateId, now: Wall) -> Option<State> {
    let failed = |why: &str| Some(State::Failed { why: Line::new(why) });
    let Some(thing) = registry.thing(name.as_str()) else {
        return failed("it was deleted from the registry");
    };
    let in_force = |id: &CertificateId| {
        registry
            .certificate(id)
            .is_some_and(|found| matches!(registry.standing_of(found, now), Standing::Active(_)))
    };
    let other = || thing.certificates().iter().find(|id| *id != old && in_force(id)).copied();
    let Some(certificate) = registry.certificate(old) else {
        return other().map_or_else(
            || failed("its certificate was deleted"),
            |new| Some(State::Done { new: Some(new) }),
        );
    };
    let successor = certificate.successor.as_deref();
    match (&certificate.status, successor) {
        (Status::Active, None) => None,
        (Status::Active, Some(successor)) if successor.retire_at.is_some() => {
            Some(State::Done { new: Some(successor.by) })
        }
        (Status::Active, Some(successor)) => Some(State::Rotating { new: successor.by }),
        (Status::Revoked { reason: RevocationReason::Superseded, .. }, _) => {
            Some(State::Done { new: successor.map(|successor| successor.by).or_else(other) })
        }
        (Status::Revoked { .. }, _) => failed("its certificate was revoked"),
        // An expired certificate is suspended when its place is needed for the next one.
        (Status::Inactive { .. }, _) => other().map_or_else(
            || failed("its certificate was suspended"),
            |new| Some(State::Done { new: Some(new) }),
        ),
        (Status::Pending(_), _) => failed("its certificate is not in force"),
    }
}
