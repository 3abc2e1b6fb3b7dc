//! Sight of the registry: how many certificates there are, of whom, how long they last, and who connects with them.
//!
//! Counting them takes a look at every certificate, so it is done beside the traffic, from a snapshot, every now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use signet_registry::{CaId, KeyHash, Registry, Status, Wall};

use crate::server::Broker;

/// Between two counts of all certificates.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);
/// The digits of an authority's id that a label has: the number of authorities is bounded, and so few are unambiguous.
const CA_DIGITS: usize = 16;
/// Certificates in force by what is left of them: a label, and the days that it goes up to.
const DAYS_LEFT: [(&str, i64); 7] =
    [("expired", 0), ("1d", 1), ("7d", 7), ("30d", 30), ("90d", 90), ("365d", 365), ("more", i64::MAX)];

/// What the registry holds, as it was a moment ago.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    by_status: [(&'static str, usize); 4],
    by_ca: BTreeMap<String, usize>,
    by_days_left: [usize; DAYS_LEFT.len()],
    quarantined: usize,
}

impl Census {
    pub(crate) fn of(registry: &Registry, now: Wall) -> Self {
        let counts = registry.counts();
        let mut census = Self {
            by_status: [
                ("pending-activation", counts.pending),
                ("active", counts.active),
                ("inactive", counts.inactive),
                ("revoked", counts.revoked),
            ],
            ..Self::default()
        };
        let mut by_key: BTreeMap<KeyHash, usize> = BTreeMap::new();
        for certificate in registry.certificates() {
            *by_key.entry(certificate.facts.issuer).or_insert(0) += 1;
            if matches!(certificate.status, Status::Active) {
                let left = certificate.facts.not_after.saturating_sub(now.unix_secs());
                let bucket = DAYS_LEFT.iter().position(|(_, days)| left < days.saturating_mul(86_400));
                if let Some(count) = bucket.and_then(|bucket| census.by_days_left.get_mut(bucket)) {
                    *count += 1;
                }
            }
        }
        for ca in registry.cas() {
            census.by_ca.insert(ca_label(&ca.id), 0);
        }
        for (key, count) in by_key {
            *census.by_ca.entry(label_of_key(registry, &key)).or_insert(0) += count;
        }
        census.quarantined = registry.things(None).filter(|thing| thing.quarantine.is_some()).count();
        census
    }
}

fn ca_label(id: &CaId) -> String {
    let mut digits = id.to_string();
    digits.truncate(CA_DIGITS);
    digits
}

/// The label of the authority that has this key; one for all that are not registered.
pub(crate) fn label_of_key(registry: &Registry, key: &KeyHash) -> String {
    registry.ca_by_key(key).map_or_else(|| "unregistered".to_owned(), |ca| ca_label(&ca.id))
}

/// Counters and levels about the standing of certificates.
#[derive(Debug)]
pub(crate) struct StandingMetrics {
    /// Certificates that seemed to be in two hands.
    pub(crate) clone_alarms: IntCounter,
    /// The wall clock was set, by direction.
    pub(crate) clock_jumps: IntCounterVec,
    /// Peers with a good certificate that the registry refused, by where it stands.
    pub(crate) refused: IntCounterVec,
    /// Peers whose certificate is in force, by its authority.
    pub(crate) connects: IntCounterVec,
    status: IntGaugeVec,
    issuers: IntGaugeVec,
    days_left: IntGaugeVec,
    quarantined: IntGauge,
}

impl StandingMetrics {
    pub(crate) fn new(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let levels = |name: &str, help: &str, label: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let made = IntGaugeVec::new(Opts::new(name, help), label)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let clone_alarms =
            IntCounter::new("clone_alarms_total", "Certificates that seemed to be in two hands.")?;
        registry.register(Box::new(clone_alarms.clone()))?;
        let clock_jumps =
            counters("clock_jumps_total", "The wall clock was set, or stood still.", "direction")?;
        for direction in ["forward", "backward"] {
            clock_jumps.with_label_values(&[direction]).reset();
        }
        let quarantined = IntGauge::new("things_quarantined", "Things in quarantine.")?;
        registry.register(Box::new(quarantined.clone()))?;
        Ok(Self {
            clone_alarms,
            clock_jumps,
            refused: counters(
                "registry_refused_total",
                "Peers with a good certificate that the registry refused, by its standing.",
                "standing",
            )?,
            connects: counters(
                "registry_connects_total",
                "Handshakes with a certificate in force, by its authority.",
                "ca",
            )?,
            status: levels("certificates", "Certificates in the registry.", &["status"])?,
            issuers: levels(
                "certificates_by_issuer",
                "Certificates in the registry, by authority.",
                &["ca"],
            )?,
            days_left: levels(
                "certificates_ending",
                "Certificates in force by the days that they have left, each in the first class that fits.",
                &["within"],
            )?,
            quarantined,
        })
    }

    fn show(&self, census: &Census) {
        let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (status, count) in census.by_status {
            self.status.with_label_values(&[status]).set(level(count));
        }
        for (ca, count) in &census.by_ca {
            self.issuers.with_label_values(&[ca.as_str()]).set(level(*count));
        }
        // An authority that was removed is shown no more. The others are, at every moment.
        for family in self.issuers.collect() {
            for label in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
                if !census.by_ca.contains_key(label.value()) {
                    // It is there: nobody else takes any out.
                    drop(self.issuers.remove_label_values(&[label.value()]));
                }
            }
        }
        for ((within, _), count) in DAYS_LEFT.iter().zip(census.by_days_left) {
            self.days_left.with_label_values(&[within]).set(level(count));
        }
        self.quarantined.set(level(census.quarantined));
    }
}

/// Counts the certificates again and again.
pub(crate) async fn count(broker: Arc<Broker>) {
    let Some(registry) = broker.registry().cloned() else { return };
    loop {
        let (counting, known) = (Arc::clone(&broker), registry.snapshot());
        let now = registry.now();
        let counted = tokio::task::spawn_blocking(move || {
            counting.metrics.standing.show(&Census::of(&known, now));
        });
        if let Err(error) = counted.await {
            tracing::error!(%error, "the certificates could not be counted");
        }
        tokio::time::sleep(COUNT_INTERVAL).await;
    }
}

impl Broker {
    /// Counts the certificates for the metrics now.
    pub fn count_certificates(&self) {
        if let Some(registry) = self.registry() {
            self.metrics.standing.show(&Census::of(&registry.registry(), registry.now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(authorities: &[(&str, usize)]) -> Census {
        let by_ca = authorities.iter().map(|(ca, count)| ((*ca).to_owned(), *count)).collect();
        Census { by_ca, ..Census::default() }
    }

    #[test]
    fn an_authority_that_stays_is_shown_all_the_time_and_one_that_was_removed_no_more() {
        let metrics = StandingMetrics::new(&prometheus::Registry::new()).expect("names are unique");
        metrics.show(&of(&[("a", 1), ("b", 2)]));
        // What is collected while a count is shown sees this one: it must never be taken out.
        let stays = metrics.issuers.with_label_values(&["a"]);
        metrics.show(&of(&[("a", 3)]));
        assert_eq!(stays.get(), 3);
        let shown = metrics.issuers.collect();
        assert_eq!(shown.iter().map(|family| family.get_metric().len()).sum::<usize>(), 1);
    }
}
