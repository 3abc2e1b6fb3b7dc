//! What `/metrics` shows of the registry's store and of the tokens with the authorities' keys.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::Authorities;
use crate::store::Stats;

/// Counters and levels. A label names a token of the configuration, or a kind of event out of a closed set.
#[derive(Debug)]
pub(crate) struct AuthorityMetrics {
    store: IntCounterVec,
    overdue: IntCounterVec,
    refused: IntCounterVec,
    late: IntGaugeVec,
}

impl AuthorityMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let late = IntGaugeVec::new(
            Opts::new(
                "authority_token_late",
                "1: a call of the authority's token is overdue, and nothing is issued.",
            ),
            &["token"],
        )?;
        registry.register(Box::new(late.clone()))?;
        Ok(Self {
            store: counters(
                "registry_store_total",
                "What the registry's store did. deaf: what follows from a change failed, a defect.",
                "event",
            )?,
            overdue: counters(
                "authority_token_overdue_total",
                "Calls of the authority's token that did not end in time.",
                "token",
            )?,
            refused: counters(
                "authority_token_refused_total",
                "Calls of the authority's token that were not made, because another was overdue or too many waited.",
                "token",
            )?,
            late,
        })
    }

    /// Takes over what is counted elsewhere.
    pub(crate) fn show(&self, authorities: &Authorities, stats: Option<Stats>) {
        let raise = |counters: &IntCounterVec, label: &str, to: u64| {
            let counter = counters.with_label_values(&[label]);
            counter.inc_by(to.saturating_sub(counter.get()));
        };
        if let Some(stats) = stats {
            for (event, count) in [
                ("commands", stats.commands),
                ("refused", stats.refused),
                ("failed", stats.failed),
                ("events", stats.events),
                ("transactions", stats.transactions),
                ("seen", stats.seen),
                ("unrecorded", stats.unrecorded),
                ("deaf", stats.deaf),
            ] {
                raise(&self.store, event, count);
            }
        }
        // A token that is no longer one of an authority's is not late for it.
        self.late.reset();
        for token in authorities.iter().filter_map(|authority| authority.token()) {
            raise(&self.overdue, token.token(), token.overdue());
            raise(&self.refused, token.token(), token.refused());
            self.late.with_label_values(&[token.token()]).set(token.stuck_for().is_some().into());
        }
    }
}
