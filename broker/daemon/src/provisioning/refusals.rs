//! What follows a refusal: a count, a line in the log, a row in the audit trail, and when there are too many, an alarm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use signet_core::Mono;
use signet_identity::{PrincipalKey, Role, ThingName};
use signet_registry::{Actor, Attempt, Command, Line, Topic};

use super::asker::Asker;
use super::refused::{Alarm, Refused};
use crate::logging::{Admit, RateLimit};
use crate::server::Broker;

/// Rows in the audit trail, and lines in the log, of one principal and minute. More are counted in the next.
const RECORDED_PER_MINUTE: u32 = 10;
/// Alarms of one claim and kind are said once in so long.
const ALARM_PAUSE: Duration = Duration::from_secs(600);
/// The window in which refusals suspend a claim.
const SUSPEND_WINDOW: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);
/// Claims whose refusals are counted at once.
const CLAIMS_MAX: usize = 16_384;

/// What is remembered of refusals.
#[derive(Debug)]
pub(super) struct Refusals {
    recorded: RateLimit<PrincipalKey>,
    alarmed: RateLimit<(PrincipalKey, Alarm)>,
    counts: Mutex<HashMap<ThingName, Counts, RandomState>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            recorded: RateLimit::new(RECORDED_PER_MINUTE, MINUTE),
            alarmed: RateLimit::new(1, ALARM_PAUSE),
            counts: Mutex::default(),
        }
    }
}

/// The refusals of one claim, in the minute and in the ten minutes that run.
#[derive(Debug, Clone, Copy)]
struct Counts {
    minute: (Mono, u32),
    long: (Mono, u32),
}

impl Counts {
    fn add(&mut self, now: Mono) {
        for (window, (began, count)) in [(MINUTE, &mut self.minute), (SUSPEND_WINDOW, &mut self.long)] {
            if now.since(*began) >= window {
                (*began, *count) = (now, 0);
            }
            *count = count.saturating_add(1);
        }
    }
}

impl Refusals {
    /// One more refusal of a claim that was its own doing: how many there were in this minute, and in these ten.
    fn count(&self, claim: &ThingName, now: Mono) -> (u32, u32) {
        let mut counts = self.counts.lock();
        if counts.len() >= CLAIMS_MAX && !counts.contains_key(claim) {
            counts.retain(|_, counts| now.since(counts.long.0) < SUSPEND_WINDOW);
            if counts.len() >= CLAIMS_MAX {
                return (0, 0);
            }
        }
        let entry = counts.entry(claim.clone()).or_insert(Counts { minute: (now, 0), long: (now, 0) });
        entry.add(now);
        (entry.minute.1, entry.long.1)
    }
}

/// Takes note of a refusal.
pub(super) fn note(
    broker: &Arc<Broker>,
    asker: &Asker,
    operation: &'static str,
    attempt: Attempt,
    refused: &Refused,
) {
    let metrics = &broker.metrics.provisioning;
    metrics.refusals.with_label_values(&[refused.label]).inc();
    let (now, book) = (broker.clock.mono(), &broker.provisioning.refusals);
    let name = asker.principal.name();
    match book.recorded.admit(asker.principal.key().clone(), now) {
        Admit::Suppress => broker.metrics.log_suppressed.inc(),
        Admit::Log { suppressed } => {
            tracing::warn!(
                role = %asker.principal.role(), %name, client_id = &*asker.client_id, address = %asker.address, operation,
                reason = refused.label, suppressed, "a request for a certificate was refused: {}", refused.why
            );
            if let Some(registry) = broker.registry() {
                let why = format_args!("{operation} from {}: {}", asker.address, refused.why);
                registry.record_refusal(attempt, &why, suppressed.into(), asker.actor());
            }
        }
    }
    if let Some(alarm) = refused.alarm {
        raise(broker, asker, alarm, &refused.why);
    }
    if refused.own_doing && asker.principal.role() == Role::Claim {
        let (in_minute, in_long) = book.count(name, now);
        let config = broker.config.load();
        if in_minute == config.provisioning.alarm_refusals.get() {
            raise(
                broker,
                asker,
                Alarm::Refusals,
                &format!("{in_minute} requests were refused within a minute"),
            );
        }
        if config.provisioning.suspend_claim_refusals.is_some_and(|max| in_long == max.get()) {
            suspend(broker, name, in_long);
        }
    }
}

/// Says that a claim, or a device, does what honest ones do not.
fn raise(broker: &Broker, asker: &Asker, alarm: Alarm, why: &str) {
    broker.metrics.provisioning.alarms.with_label_values(&[alarm.metric_label()]).inc();
    let key = (asker.principal.key().clone(), alarm);
    let Admit::Log { suppressed } = broker.provisioning.refusals.alarmed.admit(key, broker.clock.mono())
    else {
        return;
    };
    let (name, role) = (asker.principal.name(), asker.principal.role());
    tracing::warn!(
        alarm = alarm.metric_label(), %role, %name, address = %asker.address, suppressed,
        "odd use of provisioning: {why}; `signet claim suspend {name}` stops a claim"
    );
    if let Some(registry) = broker.registry() {
        let label = alarm.metric_label();
        let text = Line::new(&format!("{label}: {role} {name} from {}: {why}", asker.address));
        // Nobody waits for it; a full queue leaves it to the log.
        drop(registry.submit(Command::Note { topic: Topic::Alarm, text }, Actor::Broker));
    }
}

fn suspend(broker: &Broker, claim: &ThingName, refusals: u32) {
    let Some(registry) = broker.registry() else { return };
    tracing::error!(
        %claim, refusals,
        "the claim is suspended: too many of its requests were refused; `signet claim resume {claim}` lets it work again"
    );
    let command = Command::SuspendClaim { claim: claim.clone(), suspended: true };
    drop(registry.submit(command, Actor::Broker));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_claim_and_window() {
        let book = Refusals::default();
        let [a, b] = ["a", "b"].map(|name| ThingName::try_from(name).unwrap());
        let at = |secs| Mono::new(Duration::from_secs(secs));
        assert_eq!(book.count(&a, at(0)), (1, 1));
        assert_eq!(book.count(&a, at(59)), (2, 2));
        assert_eq!(book.count(&b, at(59)), (1, 1));
        assert_eq!(book.count(&a, at(60)), (1, 3));
        assert_eq!(book.count(&a, at(600)), (1, 1));
    }
}
